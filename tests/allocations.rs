//! Once warm, drawing and mixing allocate nothing: every element type and layout, on one thread and on several.

mod allocator;

use allocator::allocations;
use half::{bf16, f16};
use miamix::{
    Batch, BatchShape, Config, Element, Executor, Labels, Merge, Method, MethodWeights, MiaMix, Output, Plan, Threads,
};
use ndarray::{Array1, Array2, Array3, Array4, s};
use num_traits::Zero;
use std::sync::Barrier;

/// Large enough to be spread over threads, masks alone too; of several tiles, and a field that is not small.
const SHAPE: (usize, usize, usize, usize) = (9, 3, 97, 101);
const N_CLASSES: usize = 10;

/// Every method, every warp and window, eight layers, views.
fn busy() -> Config {
    Config {
        k_max: 8,
        method_weights: [1.0; 6].into(),
        p_aug: 0.5,
        smooth_range_px: [1, 15],
        pad_px: 2,
        p_flip: 0.5,
        label_smoothing: 0.1,
        ..Config::default()
    }
}

/// Eight layers of the method that needs the most memory, each warped and smoothed.
fn heaviest() -> Config {
    Config {
        k_min: 8,
        method_weights: MethodWeights::only(Method::FMix),
        p_aug: 1.0,
        p_smooth: 1.0,
        smooth_range_px: [15, 15],
        ..busy()
    }
}

#[derive(Clone, Copy, Debug)]
enum Layout {
    Planar,
    Interleaved,
    /// Neither: every other column.
    Strided,
}

/// Buffers of a trainer, which it has from step to step.
struct Buffers<T> {
    layout: Layout,
    images: Array4<T>,
    partners: Array4<T>,
    out: Array4<T>,
    ids: Array1<i64>,
    labels: Array2<f32>,
    label_weight: Vec<f32>,
    partner_index: Vec<i64>,
    masks: Array3<f32>,
    maps: Array3<u8>,
    mixed_maps: Array3<u8>,
}

impl<T: Element + Zero> Buffers<T> {
    fn new(layout: Layout, one: T) -> Self {
        let (n, c, h, w) = SHAPE;
        let shape = match layout {
            Layout::Planar => (n, c, h, w),
            Layout::Interleaved => (n, h, w, c),
            Layout::Strided => (n, c, h, 2 * w),
        };
        Buffers {
            layout,
            images: Array4::from_elem(shape, one),
            partners: Array4::zeros(shape),
            out: Array4::zeros(shape),
            ids: Array1::from_elem(n, 3),
            labels: Array2::zeros((n, N_CLASSES)),
            label_weight: vec![0.0; n],
            partner_index: vec![0; n],
            masks: Array3::zeros((n, h, w)),
            maps: Array3::zeros((n, h, w)),
            mixed_maps: Array3::zeros((n, h, w)),
        }
    }

    /// Everything that is done under one plan: `CALLS` calls.
    fn use_plan(&mut self, op: &MiaMix, plan: &Plan) {
        macro_rules! nchw {
            ($view:expr) => {
                match self.layout {
                    Layout::Planar => $view,
                    Layout::Interleaved => $view.permuted_axes([0, 3, 1, 2]),
                    Layout::Strided => $view.slice_move(s![.., .., .., ..;2]),
                }
            };
        }
        op.apply(
            plan,
            Batch {
                images: nchw!(self.images.view()).into(),
                partner_images: nchw!(self.partners.view()).into(),
                labels: Labels::ids(self.ids.view(), N_CLASSES),
            },
            Output {
                images: nchw!(self.out.view_mut()).into(),
                labels: Some(self.labels.view_mut()),
                label_weight: Some(&mut self.label_weight),
                partner_index: Some(&mut self.partner_index),
            },
        )
        .unwrap();
        op.apply_maps(plan, self.maps.view(), self.maps.view(), self.mixed_maps.view_mut()).unwrap();
        op.masks(plan, Some(self.masks.view_mut()), Some(&mut self.label_weight)).unwrap();
    }
}

const CALLS: usize = 3;

/// Allocations of `n_plans` plans drawn and used, and the largest of them, once each thread has met what needs
/// the most memory.
fn allocations_once_warm<T: Element + Zero>(
    n_threads: usize,
    layout: Layout,
    one: T,
    n_plans: usize,
) -> (usize, usize) {
    let (n, _, h, w) = SHAPE;
    let shape = BatchShape::new(n, h, w);
    let op = |config: Config, n_threads| MiaMix::new(config).unwrap().with_threads(n_threads).unwrap();
    let mut plan = op(heaviest(), 1).draw(shape, 0, 0).unwrap();
    let everyone = Barrier::new(n_threads);
    Threads::new(n_threads)
        .unwrap()
        .run(n_threads, &|_| {
            // No thread takes a second task while another has had none.
            everyone.wait();
            Buffers::new(layout, one).use_plan(&op(busy(), 1), &plan);
        })
        .unwrap();
    let operators = [busy(), Config { merge: Merge::Sum, ..busy() }].map(|config| op(config, n_threads));
    let mut buffers = Buffers::new(layout, one);
    let mut step = |seed: usize| {
        let op = &operators[seed % 2];
        op.draw_into(shape, seed as u64, 0, &mut plan).unwrap();
        buffers.use_plan(op, &plan);
    };
    // What the calling thread keeps for handing over its work.
    step(0);
    allocations(|| (1..=n_plans).for_each(step))
}

/// The only test of its program: other threads would be counted too.
#[test]
fn drawing_and_mixing_allocate_nothing_once_warm() {
    let n_plans = 16;
    for n_threads in [1, 2, 3] {
        // The queue in front of the pool, rayon's, comes in blocks for 63 jobs of 1.5 KB, each freed once it is worked
        // off; handing over a batch is one job.
        let (blocks, block_bytes) = if n_threads == 1 { (0, 0) } else { ((CALLS * n_plans).div_ceil(63), 2048) };
        for layout in [Layout::Planar, Layout::Interleaved, Layout::Strided] {
            let by_type = [
                ("f32", allocations_once_warm(n_threads, layout, 1.0f32, n_plans)),
                ("f16", allocations_once_warm(n_threads, layout, f16::ONE, n_plans)),
                ("bf16", allocations_once_warm(n_threads, layout, bf16::ONE, n_plans)),
                ("u8", allocations_once_warm(n_threads, layout, 1u8, n_plans)),
            ];
            for (dtype, (count, largest)) in by_type {
                assert!(
                    count <= blocks && largest <= block_bytes,
                    "{n_threads} threads, {layout:?} {dtype}: {count} allocations of up to {largest} bytes"
                );
            }
        }
    }
}
