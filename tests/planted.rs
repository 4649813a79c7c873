//! Faults of a caller, which the sanitizers have to find: a sanitizer that sees nothing finds these neither.
//!
//! `cargo xtask test --only Sanitizer` runs each alone, and expects the report.

use miamix::{Batch, BatchShape, Config, Executor, ImagesMut, Labels, MiaMix, Output, Result, Threads};
use ndarray::Array4;
use std::sync::Barrier;

const SHAPE: (usize, usize, usize, usize) = (4, 3, 64, 64);

/// Mixes on an executor, into memory that is said to have `n_rows` rows an image.
fn mix(executor: &dyn Executor, out: &mut [f32], n_rows: usize) {
    let (n, c, _, width) = SHAPE;
    let images = Array4::<f32>::from_elem((n, c, n_rows, width), 1.0);
    let op = MiaMix::new(Config::default()).unwrap();
    let plan = op.draw(BatchShape::new(n, n_rows, width), 1, 0).unwrap();
    let strides = [c * n_rows * width, n_rows * width, width, 1].map(|stride| stride as isize);
    let shape = [n, c, n_rows, width];
    // SAFETY: none, where there are fewer rows.
    let out = unsafe { ImagesMut::from_raw("out", out.as_mut_ptr().cast(), miamix::Dtype::F32, shape, strides) };
    let batch = Batch { images: images.view().into(), partner_images: images.view().into(), labels: Labels::NONE };
    let output = Output { images: out.unwrap(), labels: None, label_weight: None, partner_index: None };
    op.apply_on(executor, &plan, batch, output).unwrap();
}

fn memory() -> Vec<f32> {
    vec![0.0; SHAPE.0 * SHAPE.1 * SHAPE.2 * SHAPE.3]
}

/// Every task on two threads at once.
struct Twice(Threads);

// SAFETY: none, which is the fault.
unsafe impl Executor for Twice {
    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<()> {
        let both = Barrier::new(2);
        self.0.run(2, &|_| {
            both.wait();
            (0..n_tasks).for_each(task);
        })
    }
}

#[test]
#[ignore = "a fault, for ThreadSanitizer to find"]
fn a_race() {
    let twice = Twice(Threads::new(2).unwrap());
    // One of twenty goes unseen, where the threads do not meet.
    for _ in 0..16 {
        mix(&twice, &mut memory(), SHAPE.2);
    }
}

#[test]
#[ignore = "a fault, for AddressSanitizer to find"]
fn a_write_beyond_the_end() {
    mix(&Threads::new(2).unwrap(), &mut memory(), SHAPE.2 + 1);
}
