//! Does each part of the CPU engine's work once by itself, for a profiler that counts instructions in `counted`.
//!
//! Prints a line for each call of `counted`, in order, with tabs in between: the work, the SIMD level, the side of the
//! images in pixels, and how many of what the count is for.

use half::{bf16, f16};
use miamix::{Batch, BatchShape, Config, Element, Labels, Method, MethodWeights, MiaMix, Output, Plan, simd};
use ndarray::{Array1, Array2, Array4};

/// Side of the images, and how many: enough for every kind of box, grid and window to be met.
const SIZES: [(usize, usize); 2] = [(32, 64), (224, 8)];
/// AVX-512 is not among them: Valgrind does not know it.
const LEVELS: [&str; 2] = ["avx2", "portable"];
const CHANNELS: usize = 3;
const SEED: u64 = 1;

/// What is counted.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Something is left to do after it: a jump instead of a call would never come back here.
    std::hint::black_box(());
}

/// Warms up, so that nothing is allocated any more, and counts.
fn count(work: &str, level: &str, side: usize, (n, unit): (usize, &str), run: &mut dyn FnMut()) {
    run();
    counted(run);
    println!("{work}\t{level}\t{side}\t{n}\t{unit}");
}

/// One layer of one method, neither warped nor smoothed.
fn plain(method: Method) -> Config {
    Config { k_max: 1, method_weights: MethodWeights::only(method), p_aug: 0.0, p_smooth: 0.0, ..Config::default() }
}

fn op(config: Config) -> MiaMix {
    MiaMix::new(config).and_then(|op| op.with_threads(1)).expect("the parameters are in their ranges")
}

fn main() {
    for (side, n_samples) in SIZES {
        let shape = BatchShape::new(n_samples, side, side);
        let default = op(Config::default());
        for level in LEVELS {
            simd::force_level(level);
            draw(level, shape, &default);
            masks(level, shape);
            blends(level, shape);
            batches(level, shape, &default);
        }
    }
}

fn draw(level: &str, shape: BatchShape, op: &MiaMix) {
    let mut plan = op.draw(shape, SEED, 0).expect("a shape in range");
    count("draw", level, shape.width, (shape.samples, "sample"), &mut || {
        op.draw_into(shape, SEED, 0, &mut plan).expect("drawn before");
    });
}

/// Masks rendered and weighed, but not stored.
fn masks(level: &str, shape: BatchShape) {
    for method in Method::ALL {
        let plain = plain(method);
        let mut kinds = vec![("", plain.clone())];
        if method.is_augmented() {
            kinds.push((", warped", Config { p_aug: 1.0, ..plain.clone() }));
            kinds.push((", smoothed", Config { p_smooth: 1.0, ..plain }));
        }
        for (kind, config) in kinds {
            let op = op(config);
            let plan = op.draw(shape, SEED, 0).expect("a shape in range");
            let mut label_weight = vec![0.0; shape.samples];
            let pixels = shape.samples * shape.height * shape.width;
            count(&format!("{} mask{kind}", method.name()), level, shape.width, (pixels, "pixel"), &mut || {
                op.masks(&plan, None, Some(&mut label_weight)).expect("masks fit their plan");
            });
        }
    }
}

/// The blend of each element type under masks that are constant, so that nothing else is done.
fn blends(level: &str, shape: BatchShape) {
    let op = op(plain(Method::MixUp));
    let plan = op.draw(shape, SEED, 0).expect("a shape in range");
    let mut blend = Mixing { op: &op, plan: &plan, level, classes: 0 };
    blend.count("f32 blend, NCHW", false, |v| v);
    blend.count("f16 blend, NCHW", false, f16::from_f32);
    blend.count("bf16 blend, NCHW", false, bf16::from_f32);
    blend.count("u8 blend, NCHW", false, |v| v as u8);
    blend.count("u8 blend, NHWC", true, |v| v as u8);
}

/// Everything but the draw: masks, images and labels of the default configuration.
fn batches(level: &str, shape: BatchShape, op: &MiaMix) {
    let plan = op.draw(shape, SEED, 0).expect("a shape in range");
    let mut mix = Mixing { op, plan: &plan, level, classes: 100 };
    mix.count("f32 batch, NCHW", false, |v| v);
    mix.count("u8 batch, NHWC", true, |v| v as u8);
}

struct Mixing<'a> {
    op: &'a MiaMix,
    plan: &'a Plan,
    level: &'a str,
    classes: usize,
}

impl Mixing<'_> {
    fn count<T: Element>(&mut self, work: &str, interleaved: bool, element: impl Fn(f32) -> T) {
        let BatchShape { samples: n, height: h, width: w } = self.plan.shape();
        let (shape, axes) =
            if interleaved { ((n, h, w, CHANNELS), [0, 3, 1, 2]) } else { ((n, CHANNELS, h, w), [0, 1, 2, 3]) };
        let mut place = 0u32;
        let images = Array4::from_shape_simple_fn(shape, || {
            place = place.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            element((place >> 24) as f32)
        });
        let mut out = images.clone();
        let ids = Array1::from_iter((0..n).map(|i| (i % 100) as i64));
        let mut labels = Array2::zeros((n, self.classes));
        let (mut label_weight, mut partner_index) = (vec![0.0; n], vec![0; n]);
        count(work, self.level, w, (images.len(), "element"), &mut || {
            let images = || images.view().permuted_axes(axes).into();
            self.op
                .apply(
                    self.plan,
                    Batch { images: images(), partner_images: images(), labels: Labels::ids(ids.view(), self.classes) },
                    Output {
                        images: out.view_mut().permuted_axes(axes).into(),
                        labels: Some(labels.view_mut()),
                        label_weight: Some(&mut label_weight),
                        partner_index: Some(&mut partner_index),
                    },
                )
                .expect("the batch fits its plan");
        });
    }
}
