//! Cases that one wrong comparison would turn over.

use miamix::{Config, MiaMix, Plan};
use ndarray::Array3;
use serde_json::{Value, json};

/// A plan for one sample of `width` pixels in a row.
fn plan(width: usize, layer: Value) -> Result<Plan, miamix::Error> {
    let view = json!({"flip": false, "dx": 0, "dy": 0});
    let plan = json!({
        "version": 1, "height": 1, "width": width, "merge": "product", "label_weight": "merged",
        "lambda_reading": "complement",
        "samples": [{"partner_index": 0, "primary_view": view, "partner_view": view, "layers": [layer]}],
    });
    Plan::from_json(&plan.to_string())
}

#[test]
fn a_cell_given_twice_is_an_error() {
    let grid = |cells: Value| {
        json!({"method": "gridmix", "lambda": 0.5, "given": 0.5, "n": 2, "cells": cells, "warp": null,
               "smooth_px": null})
    };
    assert!(plan(4, grid(json!([0, 1]))).is_ok());
    assert_eq!(
        plan(4, grid(json!([1, 1]))).unwrap_err().to_string(),
        "plan: samples[0].layers[0].cells: must ascend, each cell once, got [1, 1]"
    );
}

#[test]
fn label_maps_keep_the_primary_at_exactly_one_half() {
    let op = MiaMix::new(Config::default()).unwrap();
    let (primary, partner) = (Array3::from_elem((1, 1, 2), 1u8), Array3::from_elem((1, 1, 2), 2u8));
    for (given, label) in [(0.5f32, 1), (0.5f32.next_up(), 2)] {
        let plan = plan(2, json!({"method": "mixup", "lambda": given, "given": given})).unwrap();
        let mut out = Array3::<u8>::zeros((1, 1, 2));
        op.apply_maps(&plan, primary.view(), partner.view(), out.view_mut()).unwrap();
        assert_eq!(out, Array3::from_elem((1, 1, 2), label), "given = {given}");
    }
}

/// Many frameworks make denormals 0 on the threads that they call us from, or lend us.
#[cfg(target_arch = "x86_64")]
#[test]
fn pixels_do_not_follow_the_floating_point_mode_of_a_thread() {
    use miamix::{Batch, Executor, Inline, Labels, Output};
    use ndarray::Array4;
    use std::arch::asm;

    /// The calling thread in another floating-point mode: flush results, take denormals for zero.
    struct Flushing;

    // SAFETY: a loop on the calling thread.
    unsafe impl Executor for Flushing {
        fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> miamix::Result<()> {
            let (mut callers, flushing) = (0u32, 0x1f80u32 | 0x8040);
            // SAFETY: the mode is put back before anything but the library runs.
            unsafe {
                asm!("stmxcsr [{}]", in(reg) &raw mut callers, options(nostack));
                asm!("ldmxcsr [{}]", in(reg) &raw const flushing, options(nostack));
                (0..n_tasks).for_each(task);
                asm!("ldmxcsr [{}]", in(reg) &raw const callers, options(nostack));
            }
            Ok(())
        }
    }

    // A batch that is large enough to leave the calling thread.
    const WIDTH: usize = 32_768;
    let op = MiaMix::new(Config::default()).unwrap();
    let plan = plan(WIDTH, json!({"method": "mixup", "lambda": 0.25, "given": 0.25})).unwrap();
    // Images whose pixels, and whose blends, are denormal: below 1.2e-38.
    let image =
        |step: u32| Array4::from_shape_fn((1, 1, 1, WIDTH), |(.., x)| f32::from_bits(1 + step * (x as u32 + 1)));
    let (primary, partner) = (image(200), image(71));
    let mix = |executor: &dyn Executor| {
        let mut out = Array4::zeros((1, 1, 1, WIDTH));
        let batch =
            Batch { images: primary.view().into(), partner_images: partner.view().into(), labels: Labels::NONE };
        let output = Output { images: out.view_mut().into(), labels: None, label_weight: None, partner_index: None };
        op.apply_on(executor, &plan, batch, output).unwrap();
        out.mapv(f32::to_bits)
    };
    let expected = mix(&Inline);
    assert!(expected.iter().all(|&bits| bits != 0 && bits < f32::MIN_POSITIVE.to_bits()));
    assert_eq!(mix(&Flushing), expected);
}
