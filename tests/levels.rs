//! Every SIMD level, on any number of threads, gives the bits of the portable one on one thread.

use half::{bf16, f16};
use miamix::simd::{force_level, level_name, levels};
use miamix::{
    Batch, BatchShape, Config, CutmixBox, Element, GaussianSigma, LabelWeight, Labels, LambdaReading, Merge, MiaMix,
    Output, Pairing, Plan,
};
use ndarray::{Array1, Array2, Array3, Array4, ArrayBase, Dimension, Ix4, RawData, s};
use num_traits::Zero;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::{Mutex, PoisonError};

/// Where the elements of a batch lie.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// NCHW.
    Planar,
    /// NHWC.
    Interleaved,
    /// NWHC from the bottom, every other column, after a channel that is not the batch's.
    Strided,
}

impl Layout {
    fn memory_shape(self, [n, c, h, w]: [usize; 4]) -> [usize; 4] {
        match self {
            Layout::Planar => [n, c, h, w],
            Layout::Interleaved => [n, h, w, c],
            Layout::Strided => [n, 2 * w, h, c + 1],
        }
    }

    /// The batch `[N, C, H, W]` in an array of that shape.
    fn batch<S: RawData>(self, memory: ArrayBase<S, Ix4>) -> ArrayBase<S, Ix4> {
        match self {
            Layout::Planar => memory,
            Layout::Interleaved => memory.permuted_axes([0, 3, 1, 2]),
            Layout::Strided => memory.slice_move(s![.., ..;2, ..;-1, 1..]).permuted_axes([0, 3, 2, 1]),
        }
    }
}

/// What is mixed under a plan.
#[derive(Clone, Copy, Debug)]
struct Inputs {
    channels: usize,
    dtype: &'static str,
    primary: Layout,
    partner: Layout,
    out: Layout,
    labels: &'static str,
}

/// Every bit that comes out; what lies between the elements of a strided output is among it.
#[derive(Debug, PartialEq)]
struct Bits {
    masks: Vec<u32>,
    images: Vec<u32>,
    labels: Vec<u32>,
    label_weight: Vec<u32>,
    partner_index: Vec<i64>,
    maps: Vec<i32>,
}

impl Bits {
    /// The name of the first part that differs.
    fn difference(&self, other: &Bits) -> Option<&'static str> {
        let parts = [
            ("masks", self.masks == other.masks),
            ("label_weight", self.label_weight == other.label_weight),
            ("mixed_images", self.images == other.images),
            ("mixed_labels", self.labels == other.labels),
            ("partner_index", self.partner_index == other.partner_index),
            ("mixed_maps", self.maps == other.maps),
        ];
        parts.into_iter().find(|(_, equal)| !equal).map(|(name, _)| name)
    }
}

/// A number in [0, 1) that tells its place.
fn noise(index: usize) -> f32 {
    ((index as u32).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8) as f32 / 16_777_216.0
}

fn f32_bits<D: Dimension>(array: &ndarray::Array<f32, D>) -> Vec<u32> {
    array.iter().map(|v| v.to_bits()).collect()
}

fn mix<T: Element + Zero>(op: &MiaMix, plan: &Plan, inputs: Inputs, element: fn(f32) -> T, bits: fn(T) -> u32) -> Bits {
    let BatchShape { samples: n, height: h, width: w } = plan.shape();
    let Inputs { channels, primary, partner, out, labels, .. } = inputs;
    let shape = [n, channels, h, w];
    let images = |layout: Layout, salt: usize| {
        let mut place = salt;
        Array4::from_shape_simple_fn(layout.memory_shape(shape), || {
            place += 1;
            element(noise(place))
        })
    };
    let (a, b) = (images(primary, 0), images(partner, 1 << 20));
    let mut mixed = images(out, 1 << 21);
    let n_classes = 5;
    let ids = Array1::from_iter((0..n as i64).map(|i| i * 3 % 7 - 2).map(|id| id.min(4)));
    let ids32 = ids.mapv(|id| id as i32);
    let soft = Array2::from_shape_fn((n, n_classes), |(i, k)| noise(i * 5 + k));
    let labels = match labels {
        "ids" => Labels::ids(ids.view(), n_classes),
        "ids32" => Labels::ids32(ids32.view(), n_classes),
        _ => Labels::soft(soft.view()),
    };
    let mut mixed_labels = Array2::zeros((n, n_classes));
    let (mut label_weight, mut partner_index) = (vec![0.0f32; n], vec![0; n]);
    op.apply(
        plan,
        Batch { images: primary.batch(a.view()).into(), partner_images: partner.batch(b.view()).into(), labels },
        Output {
            images: out.batch(mixed.view_mut()).into(),
            labels: Some(mixed_labels.view_mut()),
            label_weight: Some(&mut label_weight),
            partner_index: Some(&mut partner_index),
        },
    )
    .unwrap();
    let maps = Array3::from_shape_fn((n, h, w), |(i, y, x)| ((i * h + y) * w + x) as i32);
    let mut mixed_maps = Array3::zeros(maps.dim());
    op.apply_maps(plan, maps.view(), maps.mapv(|v| -v - 1).view(), mixed_maps.view_mut()).unwrap();
    let mut masks = Array3::zeros((n, h, w));
    op.masks(plan, Some(masks.view_mut()), None).unwrap();
    Bits {
        masks: f32_bits(&masks),
        images: mixed.iter().map(|&v| bits(v)).collect(),
        labels: f32_bits(&mixed_labels),
        label_weight: label_weight.iter().map(|v| v.to_bits()).collect(),
        partner_index,
        maps: mixed_maps.iter().copied().collect(),
    }
}

fn mix_any(op: &MiaMix, plan: &Plan, inputs: Inputs) -> Bits {
    // Of both signs, and, once in a while, so small that they are denormal.
    let real = |v: f32| if v < 0.05 { v * 1e-38 } else { (v - 0.4) * 300.0 };
    match inputs.dtype {
        "f32" => mix::<f32>(op, plan, inputs, real, f32::to_bits),
        "f16" => mix::<f16>(op, plan, inputs, |v| f16::from_f32((v - 0.4) * 1e-3), |v| v.to_bits().into()),
        "bf16" => mix::<bf16>(op, plan, inputs, |v| bf16::from_f32((v - 0.4) * 300.0), |v| v.to_bits().into()),
        _ => mix::<u8>(op, plan, inputs, |v| (v * 256.0) as u8, u32::from),
    }
}

/// The first level that gives other bits than the portable one on one thread, and which; none if all agree.
/// Level by level on another number of threads, 1 to 3, of which `turn` says the first.
fn disagreement(op: &MiaMix, plan: &Plan, inputs: Inputs, turn: usize) -> Option<String> {
    // The level is the process's: one test at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let best = level_name();
    let mix = |level, n_threads| {
        force_level(level);
        mix_any(&op.clone().with_threads(n_threads).unwrap(), plan, inputs)
    };
    let expected = mix("portable", 1);
    assert!(expected.masks.iter().all(|&m| (0.0..=1.0).contains(&f32::from_bits(m))));
    let difference = (turn..).zip(levels()).find_map(|(turn, level)| {
        let n_threads = turn % 3 + 1;
        let part = mix(level, n_threads).difference(&expected)?;
        Some(format!("{part}: {level} on {n_threads} threads, {inputs:?}, plan:\n{}\n", plan.to_json()))
    });
    force_level(best);
    difference
}

fn any_config() -> impl Strategy<Value = Config> {
    let probability = || prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..1.0];
    let switches = (0..2usize, 0..2usize, 0..2usize, 0..2usize, 0..2usize, 0..2usize);
    let ranges = ((1u32..=8, 0u32..8), (1u32..=16, 0u32..16), (0u32..8, 0u32..8), 0u32..9);
    let reals = (0.05f32..3.0, 2.0f32..6.0, 0.0f32..3.2, prop_oneof![0.0f32..2.0, Just(1000.0f32)], 0.0f32..1.0);
    let odds = prop::array::uniform6(prop_oneof![Just(0.0f32), 0.1f32..3.0]);
    let probabilities =
        (prop_oneof![Just(1.0f32), 0.5f32..1.0], probability(), probability(), probability(), probability());
    (switches, ranges, reals, odds, probabilities).prop_map(
        |(
            (merge, reading, weight, sigma, pairing, place),
            ((k_max, fewer), (grid, narrower), (window, wider), pad_px),
            (alpha, decay_power, rotate_max_rad, shear_max, label_smoothing),
            mut odds,
            (p_apply, p_self, p_aug, p_smooth, p_flip),
        )| {
            if odds == [0.0; 6] {
                odds[2] = 1.0; // the hardest one
            }
            let (merge, lambda_reading) = (Merge::ALL[merge], LambdaReading::ALL[reading]);
            let label_weight = match (merge, lambda_reading) {
                (Merge::Product, LambdaReading::Keep) => LabelWeight::Merged,
                _ => LabelWeight::ALL[weight],
            };
            Config {
                alpha,
                k_min: k_max.saturating_sub(fewer).max(1),
                k_max,
                method_weights: odds.into(),
                p_apply,
                p_self,
                p_aug,
                p_smooth,
                merge,
                label_weight,
                lambda_reading,
                gaussian_sigma: GaussianSigma::ALL[sigma],
                pairing: Pairing::ALL[pairing],
                cutmix_box: CutmixBox::ALL[place],
                grid_range: [grid.saturating_sub(narrower).max(1), grid],
                decay_power,
                rotate_max_rad,
                shear_max,
                smooth_range_px: [2 * window + 1, (2 * (window + wider) + 1).min(15)],
                p_flip,
                pad_px,
                label_smoothing,
            }
        },
    )
}

/// Batches: many small ones, some that are spread over threads, a few of the sizes that trainers have.
fn any_shape() -> impl Strategy<Value = BatchShape> {
    let side = || prop_oneof![Just(1usize), 2usize..20, 20usize..70, Just(31usize), Just(32), Just(33)];
    let sides = prop_oneof![
        12 => (1usize..8, side(), side()),
        5 => (7usize..11, 60usize..72, 60usize..72),
        2 => (1usize..3, 91usize..111, 91usize..111),
        1 => (Just(1usize), 224usize..226, 224usize..226),
    ];
    sides.prop_map(|(n, height, width)| BatchShape::new(n, height, width))
}

fn any_inputs() -> impl Strategy<Value = Inputs> {
    let layout = || prop::sample::select(&[Layout::Planar, Layout::Interleaved, Layout::Strided][..]);
    let dtype = prop::sample::select(&["f32", "f16", "bf16", "u8"][..]);
    let labels = prop::sample::select(&["ids", "ids32", "soft"][..]);
    (1usize..5, dtype, layout(), layout(), layout(), labels).prop_map(
        |(channels, dtype, primary, partner, out, labels)| Inputs { channels, dtype, primary, partner, out, labels },
    )
}

#[test]
fn any_batch_is_mixed_to_the_same_bits() {
    let mut runner = TestRunner::new(ProptestConfig {
        max_shrink_iters: 200,
        failure_persistence: None,
        // PROPTEST_CASES asks for fewer, where an emulator runs them.
        cases: ProptestConfig::default().cases.min(80),
        ..ProptestConfig::default()
    });
    let strategy = (any_config(), any_shape(), any_inputs(), any::<u64>(), 0..3usize);
    runner
        .run(&strategy, |(config, shape, inputs, seed, turn)| {
            let op = MiaMix::new(config).unwrap();
            let plan = op.draw(shape, seed, 0).unwrap();
            prop_assert_eq!(&Plan::from_json(&plan.to_json()).unwrap(), &plan);
            match disagreement(&op, &plan, inputs, turn) {
                None => Ok(()),
                Some(difference) => Err(TestCaseError::fail(difference)),
            }
        })
        .unwrap();
}

#[test]
fn the_golden_plans_are_mixed_to_the_same_bits() {
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        plan: serde_json::Value,
    }
    let op = MiaMix::new(Config { label_smoothing: 0.1, ..Config::default() }).unwrap();
    let layouts = [Layout::Planar, Layout::Interleaved, Layout::Strided];
    for stage in ["masks", "draws"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{stage}.json"));
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(!cases.is_empty());
        for (i, Case { name, plan }) in cases.iter().enumerate() {
            let plan = Plan::from_json(&plan.to_string()).unwrap();
            // In turn, so that each plan meets one of them, and each of them many plans.
            let BatchShape { samples, height, width } = plan.shape();
            if samples * height * width > 1 << 20 {
                continue; // one, three photographs, would take longer than all others together
            }
            let inputs = Inputs {
                channels: 3,
                dtype: ["f32", "f16", "bf16", "u8"][i % 4],
                primary: layouts[i % 3],
                partner: layouts[i / 2 % 3],
                out: layouts[i / 3 % 3],
                labels: ["ids", "ids32", "soft"][i % 3],
            };
            if let Some(difference) = disagreement(&op, &plan, inputs, i % 3) {
                panic!("{stage}, {name}: {difference}");
            }
        }
    }
}
