//! One seed, one result: for any number of threads, layout, batch split and floating-point mode.

use half::{bf16, f16};
use miamix::{Batch, BatchShape, Config, Labels, Method, MiaMix, Output, Pairing, Plan};
use ndarray::{Array1, Array2, Array3, Array4, s};

/// A batch whose every element tells its place.
fn images<T>(n: usize, c: usize, h: usize, w: usize, salt: usize, element: impl Fn(f32) -> T) -> Array4<T> {
    Array4::from_shape_fn((n, c, h, w), |(n, c, y, x)| {
        let index = ((n * 5 + c) * 131 + y) * 257 + x + salt * 7919;
        element((index * 2_654_435_761 % 65_521) as f32 / 257.0)
    })
}

/// Every bit of a result.
#[derive(Debug, PartialEq)]
struct Bits {
    images: Vec<u64>,
    labels: Vec<u32>,
    weights: Vec<u32>,
    partners: Vec<i64>,
}

trait ToBits: miamix::Element + num_traits::Zero {
    fn to_bits64(self) -> u64;
}
impl ToBits for f32 {
    fn to_bits64(self) -> u64 {
        self.to_bits().into()
    }
}
impl ToBits for f16 {
    fn to_bits64(self) -> u64 {
        self.to_bits().into()
    }
}
impl ToBits for bf16 {
    fn to_bits64(self) -> u64 {
        self.to_bits().into()
    }
}
impl ToBits for u8 {
    fn to_bits64(self) -> u64 {
        self.into()
    }
}

/// Mixes; `interleaved`: inputs and output are NHWC in memory.
fn mix<T: ToBits>(op: &MiaMix, plan: &Plan, images: &Array4<T>, partners: &Array4<T>, interleaved: bool) -> Bits {
    let (n, c, h, w) = images.dim();
    let ids = Array1::from_iter((0..n as i64).map(|i| i % 7 - 1));
    let nhwc = |a: &Array4<T>| a.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned();
    let (a, b) = if interleaved { (nhwc(images), nhwc(partners)) } else { (images.clone(), partners.clone()) };
    let mut out: Array4<T> = Array4::zeros(a.dim());
    let (mut labels, mut weights, mut partner_index) = (Array2::zeros((n, 6)), vec![0.0f32; n], vec![0i64; n]);
    let view = |a: &'_ Array4<T>| if interleaved { a.view().permuted_axes([0, 3, 1, 2]).to_owned() } else { a.clone() };
    let axes = if interleaved { [0, 3, 1, 2] } else { [0, 1, 2, 3] };
    op.apply(
        plan,
        Batch {
            images: a.view().permuted_axes(axes).into(),
            partner_images: b.view().permuted_axes(axes).into(),
            labels: Labels::ids(ids.view(), 6),
        },
        Output {
            images: out.view_mut().permuted_axes(axes).into(),
            labels: Some(labels.view_mut()),
            label_weight: Some(&mut weights),
            partner_index: Some(&mut partner_index),
        },
    )
    .unwrap();
    let out = view(&out);
    assert_eq!(out.dim(), (n, c, h, w));
    Bits {
        images: out.iter().map(|v| v.to_bits64()).collect(),
        labels: labels.iter().map(|v: &f32| v.to_bits()).collect(),
        weights: weights.iter().map(|v| v.to_bits()).collect(),
        partners: partner_index,
    }
}

/// Everything at once: all methods, warps, smoothing, views.
fn busy() -> Config {
    Config { k_max: 4, p_aug: 0.5, pad_px: 2, p_flip: 0.5, label_smoothing: 0.1, ..Config::default() }
}

#[test]
fn threads_and_layouts_change_no_bit() {
    // Large enough to be spread over threads.
    let (n, c, h, w) = (37, 3, 33, 31);
    fn check<T: ToBits>(images: Array4<T>, partners: Array4<T>) {
        let (n, _, h, w) = images.dim();
        let one = MiaMix::new(busy()).unwrap().with_threads(1).unwrap();
        let plan = one.draw(BatchShape::new(n, h, w), 11, 5).unwrap();
        let expected = mix(&one, &plan, &images, &partners, false);
        for threads in [1, 2, 7] {
            for interleaved in [false, true] {
                let op = one.clone().with_threads(threads).unwrap();
                assert_eq!(
                    mix(&op, &plan, &images, &partners, interleaved),
                    expected,
                    "{threads} threads, NHWC {interleaved}"
                );
            }
        }
    }
    check(images(n, c, h, w, 0, |v| v), images(n, c, h, w, 1, |v| v));
    check(images(n, c, h, w, 0, f16::from_f32), images(n, c, h, w, 1, f16::from_f32));
    check(images(n, c, h, w, 0, bf16::from_f32), images(n, c, h, w, 1, bf16::from_f32));
    check(images(n, c, h, w, 0, |v| v as u8), images(n, c, h, w, 1, |v| v as u8));
}

#[test]
fn strides_of_every_kind_are_read_and_written_alike() {
    let op = MiaMix::new(busy()).unwrap();
    let (n, c, h, w) = (3, 4, 9, 11);
    let (a, b) = (images(n, c, h, w, 0, |v| v), images(n, c, h, w, 1, |v| v));
    let plan = op.draw(BatchShape::new(n, h, w), 3, 0).unwrap();
    let expected = mix(&op, &plan, &a, &b, false).images;
    // A window of a larger array, every other column, rows from the bottom, another order of axes.
    let mut large = Array4::zeros((n + 1, 2 * w, c + 2, h + 3));
    let hole = || s![1.., ..;2, 1..c + 1, 2..h + 2;-1];
    large.slice_mut(hole()).assign(&a.view().permuted_axes([0, 3, 1, 2]));
    let strided = large.slice(hole()).permuted_axes([0, 2, 3, 1]);
    assert_eq!(strided, a);
    let still = Array4::from_elem(large.dim(), -1.0f32);
    let mut target = still.clone();
    op.apply(
        &plan,
        Batch { images: strided.into(), partner_images: b.view().into(), labels: Labels::NONE },
        Output {
            images: target.slice_mut(hole()).permuted_axes([0, 2, 3, 1]).into(),
            labels: None,
            label_weight: None,
            partner_index: None,
        },
    )
    .unwrap();
    let got: Vec<u64> = target.slice(hole()).permuted_axes([0, 2, 3, 1]).iter().map(|v| v.to_bits64()).collect();
    assert_eq!(got, expected);
    // Nothing around the window is touched.
    target.slice_mut(hole()).fill(-1.0);
    assert_eq!(target, still);
}

#[test]
fn a_sample_depends_on_its_global_index_not_on_its_batch() {
    let op = MiaMix::new(busy()).unwrap();
    let whole = op.draw(BatchShape::new(64, 20, 24), 99, 1000).unwrap();
    for (start, n) in [(0, 64), (0, 10), (10, 1), (11, 53)] {
        let part = op.draw(BatchShape::new(n, 20, 24), 99, 1000 + start as u64).unwrap();
        for i in 0..n {
            let (a, b) = (part.sample(i), whole.sample(start + i));
            assert_eq!(a.layers, b.layers);
            assert_eq!((a.primary_view, a.partner_view), (b.primary_view, b.partner_view));
        }
    }
    let other = op.draw(BatchShape::new(64, 20, 24), 100, 1000).unwrap();
    assert!((0..64).filter(|&i| other.sample(i).layers == whole.sample(i).layers).count() == 0);
}

#[test]
fn self_mixing_depends_on_the_global_index_alone() {
    let op = MiaMix::new(Config { p_self: 0.5, pairing: Pairing::Uniform, ..Config::default() }).unwrap();
    let (n, first) = (2000, 77);
    let own = |n: usize, first_sample: u64| -> Vec<bool> {
        let plan = op.draw(BatchShape::new(n, 4, 4), 5, first_sample).unwrap();
        plan.samples().enumerate().map(|(i, sample)| sample.partner_index == i).collect()
    };
    let whole = own(n, first);
    let split: Vec<bool> = (0..n).step_by(500).flat_map(|start| own(500, first + start as u64)).collect();
    // Where the override does not strike, a sample is its own partner by chance: once in 2000, once in 500.
    let differ = whole.iter().zip(&split).filter(|(a, b)| a != b).count();
    assert!(differ <= 12, "{differ} of {n} samples"); // 1000·(1/2000 + 1/500) = 2.5 expected; 12 is six deviations up
    assert!(whole.iter().filter(|&&own| own).count() > 900);
}

#[test]
fn a_plan_drawn_into_used_memory_is_the_same() {
    let op = MiaMix::new(busy()).unwrap();
    let mut plan = op.draw(BatchShape::new(50, 64, 64), 1, 0).unwrap();
    for (n, side, seed) in [(7, 16, 2), (64, 8, 3), (0, 8, 4)] {
        op.draw_into(BatchShape::new(n, side, side), seed, 9, &mut plan).unwrap();
        assert_eq!(plan, op.draw(BatchShape::new(n, side, side), seed, 9).unwrap());
    }
}

/// The calling thread's floating-point mode.
#[cfg(target_arch = "x86_64")]
mod float_mode {
    use std::arch::asm;
    /// Flush to zero; towards zero; downwards.
    pub const ODD: [u32; 3] = [0x1f80 | 0x8040, 0x1f80 | 0x6000, 0x1f80 | 0x2000];
    pub fn get() -> u32 {
        let mut mode = 0u32;
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode) };
        mode & !0x3f // without the sticky flags
    }
    pub fn set(mode: u32) {
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode) };
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_host_that_runs_tasks_keeps_its_floating_point_mode() {
    /// Does what a host does between tasks.
    struct Host(std::sync::Mutex<Vec<u32>>);
    // SAFETY: a loop.
    unsafe impl miamix::Executor for Host {
        fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> miamix::Result<()> {
            for i in 0..n_tasks {
                self.0.lock().unwrap().push(float_mode::get());
                task(i);
            }
            self.0.lock().unwrap().push(float_mode::get());
            Ok(())
        }
    }
    let op = MiaMix::new(busy()).unwrap();
    // Enough elements for the host's threads to be asked.
    let images = images(4, 3, 64, 64, 0, |v| v);
    let plan = op.draw(BatchShape::new(4, 64, 64), 1, 0).unwrap();
    let default = float_mode::get();
    for odd in float_mode::ODD {
        let host = Host(std::sync::Mutex::default());
        let mut out = images.clone();
        float_mode::set(odd);
        let done = op.apply_on(
            &host,
            &plan,
            Batch { images: images.view().into(), partner_images: images.view().into(), labels: Labels::NONE },
            Output { images: out.view_mut().into(), labels: None, label_weight: None, partner_index: None },
        );
        float_mode::set(default);
        done.unwrap();
        let seen = host.0.into_inner().unwrap();
        assert!(seen.len() > 4 && seen.iter().all(|&mode| mode == odd), "mode {odd:#x}: {seen:x?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_callers_floating_point_mode_changes_nothing_and_stays() {
    use float_mode::{get as mode, set};
    let op = MiaMix::new(busy()).unwrap().with_threads(1).unwrap();
    // Denormals, which flushing would lose.
    let (a, b) = (images(4, 1, 9, 9, 0, |v| v * 1e-42), images(4, 1, 9, 9, 1, |v| v * 1e-42));
    let plan = op.draw(BatchShape::new(4, 9, 9), 1, 0).unwrap();
    let expected = mix(&op, &plan, &a, &b, false);
    let default = mode();
    for odd in float_mode::ODD {
        set(odd);
        let drawn = op.draw(BatchShape::new(4, 9, 9), 1, 0).unwrap();
        let read = Plan::from_json(&plan.to_json());
        let config = Config::from_json(&busy().to_json());
        let got = mix(&op, &plan, &a, &b, false);
        let after = mode();
        set(default);
        assert_eq!(after, odd);
        assert_eq!((&drawn, &read.unwrap()), (&plan, &plan));
        assert_eq!(config.unwrap(), busy());
        assert!(got == expected, "mode {odd:#x}");
    }
}

#[test]
fn every_method_is_the_same_in_tiles_of_any_size() {
    // Wide images make one-row tiles, narrow ones many rows; a transposed pair of sizes meets both.
    for method in Method::ALL {
        let config = Config { method_weights: miamix::MethodWeights::only(method), k_max: 2, ..Config::default() };
        let op = MiaMix::new(config).unwrap();
        for (h, w) in [(3, 5000), (5000, 3), (70, 70)] {
            let plan = op.draw(BatchShape::new(2, h, w), 5, 0).unwrap();
            let mut masks = Array3::zeros((2, h, w));
            let mut weights = [0.0; 2];
            op.masks(&plan, Some(masks.view_mut()), Some(&mut weights)).unwrap();
            for (mask, weight) in masks.outer_iter().zip(weights) {
                // The mean, summed in f64 from values rounded to 2⁻²⁴: off by at most that.
                let mean = mask.iter().map(|&m| f64::from(m)).sum::<f64>() / (h * w) as f64;
                assert!((mean - f64::from(weight)).abs() < 1.3e-7, "{method:?} {h}×{w}: {mean} {weight}");
            }
        }
    }
}
