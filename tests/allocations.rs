//! Once warm, drawing and mixing allocate nothing.

use miamix::{Batch, BatchShape, Config, Labels, MiaMix, Output};
use ndarray::{Array1, Array2, Array4};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The only test of its program: other threads would be counted too.
#[test]
fn drawing_and_mixing_allocate_nothing_once_warm() {
    let (n, c, h, w) = (16, 3, 40, 40);
    let op =
        MiaMix::new(Config { k_max: 8, p_aug: 0.5, pad_px: 2, ..Config::default() }).unwrap().with_threads(1).unwrap();
    let (a, b) = (Array4::<f32>::ones((n, c, h, w)), Array4::<f32>::zeros((n, c, h, w)));
    let ids = Array1::from_elem(n, 3i64);
    let (mut out, mut labels) = (Array4::<f32>::zeros((n, c, h, w)), Array2::zeros((n, 10)));
    let (mut weight, mut partner) = (vec![0.0; n], vec![0; n]);
    let mut plan = op.draw(BatchShape::new(n, h, w), 0, 0).unwrap();
    let mut run = |seeds: std::ops::Range<u64>| {
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for seed in seeds {
            op.draw_into(BatchShape::new(n, h, w), seed, 0, &mut plan).unwrap();
            op.apply(
                &plan,
                Batch { images: a.view().into(), partner_images: b.view().into(), labels: Labels::ids(ids.view(), 10) },
                Output {
                    images: out.view_mut().into(),
                    labels: Some(labels.view_mut()),
                    label_weight: Some(&mut weight),
                    partner_index: Some(&mut partner),
                },
            )
            .unwrap();
        }
        ALLOCATIONS.load(Ordering::SeqCst) - before
    };
    // Warm: every layer of eight has needed a plane.
    assert!(run(0..40) > 0);
    assert_eq!(run(40..80), 0);
}
