//! Bad input: one message with name, rule and value; outputs untouched.

use half::f16;
use miamix::{Batch, BatchShape, Config, Labels, MiaMix, Output, Plan, Status};
use ndarray::{Array1, Array2, Array3, Array4, s};
use serde_json::{Value, json};

fn op() -> MiaMix {
    MiaMix::new(Config::default()).unwrap()
}

/// Two samples of 3×4×5, every buffer filled so that a write is seen.
struct Buffers {
    images: Array4<f32>,
    partners: Array4<f32>,
    ids: Array1<i64>,
    out: Array4<f32>,
    labels: Array2<f32>,
    weight: Vec<f32>,
    partner: Vec<i64>,
}

impl Buffers {
    fn new() -> Self {
        Buffers {
            images: Array4::ones((2, 3, 4, 5)),
            partners: Array4::ones((2, 3, 4, 5)),
            ids: Array1::from_vec(vec![1, 0]),
            out: Array4::from_elem((2, 3, 4, 5), -7.0),
            labels: Array2::from_elem((2, 4), -7.0),
            weight: vec![-7.0; 2],
            partner: vec![-7; 2],
        }
    }

    /// Applies a plan of this shape; the error's message and status. Nothing may have been written.
    fn fails(mut self, shape: BatchShape) -> (String, Status) {
        let plan = op().draw(shape, 0, 0).unwrap();
        let error = op()
            .apply(
                &plan,
                Batch {
                    images: self.images.view().into(),
                    partner_images: self.partners.view().into(),
                    labels: Labels::ids(self.ids.view(), 4),
                },
                Output {
                    images: self.out.view_mut().into(),
                    labels: Some(self.labels.view_mut()),
                    label_weight: Some(&mut self.weight),
                    partner_index: Some(&mut self.partner),
                },
            )
            .unwrap_err();
        assert!(
            self.out.iter().chain(&self.labels).chain(&self.weight).all(|&v| v == -7.0),
            "{error}: written all the same"
        );
        assert!(self.partner.iter().all(|&v| v == -7), "{error}: written all the same");
        (error.to_string(), error.status())
    }
}

#[test]
fn shapes_that_disagree_are_named() {
    let shape = BatchShape::new(2, 4, 5);
    let base = Buffers::new;
    let cases = [
        (base().fails(BatchShape::new(3, 4, 5)), "images: expected shape [3, C, 4, 5], as the plan, got [2, 3, 4, 5]"),
        (base().fails(BatchShape::new(2, 5, 4)), "images: expected shape [2, C, 5, 4], as the plan, got [2, 3, 4, 5]"),
        (
            Buffers { partners: Array4::ones((2, 3, 4, 6)), ..base() }.fails(shape),
            "partner_images: expected shape [2, 3, 4, 5], got [2, 3, 4, 6]",
        ),
        (
            Buffers { out: Array4::from_elem((2, 2, 4, 5), -7.0), ..base() }.fails(shape),
            "mixed_images: expected shape [2, 3, 4, 5], got [2, 2, 4, 5]",
        ),
        (Buffers { ids: Array1::zeros(3), ..base() }.fails(shape), "labels: expected shape [2], got [3]"),
        (
            Buffers { labels: Array2::from_elem((2, 5), -7.0), ..base() }.fails(shape),
            "mixed_labels: expected shape [2, 4], got [2, 5]",
        ),
        (Buffers { weight: vec![-7.0; 1], ..base() }.fails(shape), "label_weight: expected shape [2], got [1]"),
        (Buffers { partner: vec![-7; 4], ..base() }.fails(shape), "partner_index: expected shape [2], got [4]"),
    ];
    for ((message, status), expected) in cases {
        assert_eq!((message.as_str(), status), (expected, Status::Shape));
    }
}

#[test]
fn a_label_that_is_no_class_is_named() {
    let buffers = Buffers { ids: Array1::from_vec(vec![3, 4]), ..Buffers::new() };
    let (message, status) = buffers.fails(BatchShape::new(2, 4, 5));
    assert_eq!(
        (message.as_str(), status),
        ("labels[1]: must be below num_classes = 4, got 4", Status::InvalidArgument)
    );
}

#[test]
fn element_types_that_differ_are_named() {
    let plan = op().draw(BatchShape::new(1, 2, 2), 0, 0).unwrap();
    let images = Array4::<f32>::zeros((1, 1, 2, 2));
    let halves = Array4::<f16>::zeros((1, 1, 2, 2));
    let mut out = Array4::<u8>::zeros((1, 1, 2, 2));
    let mut out_f32 = images.clone();
    let message = |images: miamix::Images<'_>, partners, out| {
        let batch = Batch { images, partner_images: partners, labels: Labels::NONE };
        let output = Output { images: out, labels: None, label_weight: None, partner_index: None };
        let error = op().apply(&plan, batch, output).unwrap_err();
        assert_eq!(error.status(), Status::Dtype);
        error.to_string()
    };
    assert_eq!(
        message(images.view().into(), halves.view().into(), out_f32.view_mut().into()),
        "partner_images: must be float32 as images are, got float16"
    );
    assert_eq!(
        message(halves.view().into(), halves.view().into(), out.view_mut().into()),
        "mixed_images: must be float16 as images are, got uint8"
    );
}

#[test]
fn outputs_may_not_overlap_inputs_or_themselves() {
    let plan = op().draw(BatchShape::new(2, 4, 4), 0, 0).unwrap();
    let mut memory = vec![1.0f32; 400];
    let start = memory.as_mut_ptr();
    let images = |at: usize| {
        // SAFETY: inside `memory`; the call is expected to refuse before it reads or writes.
        unsafe {
            miamix::Images::from_raw("images", start.add(at).cast(), miamix::Dtype::F32, [2, 1, 4, 4], [16, 16, 4, 1])
                .unwrap()
        }
    };
    let out = |at: usize, strides: [isize; 4]| {
        // SAFETY: as above.
        unsafe {
            miamix::ImagesMut::from_raw("out", start.add(at).cast(), miamix::Dtype::F32, [2, 1, 4, 4], strides).unwrap()
        }
    };
    let compact = [16, 16, 4, 1];
    let run = |a, b, out, weight: Option<&mut [f32]>| {
        let batch = Batch { images: a, partner_images: b, labels: Labels::NONE };
        op().apply(&plan, batch, Output { images: out, labels: None, label_weight: weight, partner_index: None })
    };
    let overlap =
        |name: &str, bytes: usize| format!("mixed_images: must not overlap {name}, got {bytes} bytes in common");
    assert_eq!(run(images(0), images(100), out(31, compact), None).unwrap_err().to_string(), overlap("images", 4));
    assert_eq!(
        run(images(0), images(100), out(69, compact), None).unwrap_err().to_string(),
        overlap("partner_images", 4)
    );
    // SAFETY: as above.
    let weight = unsafe { std::slice::from_raw_parts_mut(start.add(231), 2) };
    assert_eq!(
        run(images(0), images(100), out(200, compact), Some(weight)).unwrap_err().to_string(),
        "label_weight: must not overlap mixed_images, got 4 bytes in common"
    );
    let error = run(images(0), images(100), out(200, [0, 16, 4, 1]), None).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.status()),
        ("mixed_images: must have strides under which no element is met twice, got [0, 16, 4, 1]", Status::Dtype)
    );
    // Side by side is fine, and inputs may be one.
    run(images(0), images(0), out(32, compact), None).unwrap();
    assert!(memory.iter().all(|&v| v == 1.0));
}

#[test]
fn sizes_without_end_are_refused() {
    let draw = |h, w| op().draw(BatchShape::new(1, h, w), 0, 0).unwrap_err().to_string();
    assert_eq!(draw(0, 4), "height: must be in 1..=32768, got 0");
    assert_eq!(draw(4, 0), "width: must be in 1..=32768, got 0");
    assert_eq!(draw(4, 40_000), "width: must be in 1..=32768, got 40000");
    let error = op().draw(BatchShape::new(usize::MAX, 4, 4), 0, 0).unwrap_err();
    assert_eq!(error.to_string(), "batch size: must be at most 268435455, got 18446744073709551615");
    // SAFETY: refused before any read.
    let huge = unsafe {
        miamix::Images::from_raw(
            "images",
            std::ptr::dangling(),
            miamix::Dtype::F32,
            [usize::MAX / 2, 1, 4, 4],
            [16, 16, 4, 1],
        )
    };
    assert_eq!(huge.unwrap_err().status(), Status::Shape);
}

#[test]
fn classes_without_end_are_an_error_of_memory() {
    let images = Array4::<f32>::zeros((2, 1, 2, 2));
    let ids = Array1::from_vec(vec![0i64, 1]);
    for classes in [usize::MAX, 1 << 60, 1 << 57] {
        let error = op().mix(images.view(), images.view(), Labels::ids(ids.view(), classes), 1, 0).unwrap_err();
        assert_eq!(error.status(), Status::OutOfMemory, "{classes} classes: {error}");
    }
}

#[test]
fn masks_go_into_compact_planes_of_the_right_shape() {
    let plan = op().draw(BatchShape::new(2, 4, 5), 0, 0).unwrap();
    let mut wrong = Array3::zeros((2, 5, 4));
    let error = op().masks(&plan, Some(wrong.view_mut()), None).unwrap_err();
    assert_eq!(error.to_string(), "masks: expected shape [2, 4, 5], got [2, 5, 4]");
    let mut sparse = Array3::zeros((2, 4, 10));
    let error = op().masks(&plan, Some(sparse.slice_mut(s![.., .., ..;2])), None).unwrap_err();
    assert_eq!(error.to_string(), "masks: must be compact, in the order [N, H, W], got strides [40, 10, 2]");
    assert_eq!(error.status(), Status::Dtype);
}

#[test]
fn maps_are_checked_like_images() {
    let plan = op().draw(BatchShape::new(1, 4, 5), 0, 0).unwrap();
    let (maps, mut out) = (Array3::<i32>::zeros((1, 4, 5)), Array3::<i32>::zeros((1, 4, 5)));
    let mut narrow = Array3::<u8>::zeros((1, 4, 5));
    let error = op().apply_maps(&plan, maps.view(), maps.view(), narrow.view_mut()).unwrap_err();
    assert_eq!(error.to_string(), "mixed_maps: must have 32 bits as maps do, got 8 bits");
    let error = op().apply_maps(&plan, maps.view(), maps.slice(s![.., 1.., ..]), out.view_mut()).unwrap_err();
    assert_eq!(error.to_string(), "partner_maps: expected shape [1, 4, 5], got [1, 3, 5]");
}

fn plan() -> Value {
    json!({
        "version": 1, "height": 32, "width": 32, "merge": "product", "label_weight": "merged", "lambda_reading": "complement",
        "samples": [{
            "partner_index": 0,
            "primary_view": {"flip": false, "dx": 0, "dy": 0}, "partner_view": {"flip": true, "dx": 1, "dy": -2},
            "layers": [
                {"method": "cutmix", "lambda": 0.25, "given": 0.25, "x0": 3, "y0": -2, "x1": 19, "y1": 14,
                 "warp": {"angle_rad": 0.2, "shear": -0.1}, "smooth_px": 5},
                {"method": "gridmix", "lambda": 0.1875, "given": 0.1875, "n": 4, "cells": [0, 5, 9], "warp": null, "smooth_px": null},
                {"method": "agmix", "lambda": 0.125, "given": 0.125, "cx": 4.5, "cy": 9.5, "sigma_px": 11.313708, "q": 0.4, "angle_rad": 1.1},
                {"method": "gmix", "lambda": 0.0625, "given": 0.0625, "cx": 20.5, "cy": 7.5, "sigma_px": 8.0},
                {"method": "fmix", "lambda": 0.125, "given": 0.125, "noise_key": "0x1234abcd5678ef90", "decay_power": 3.0,
                 "warp": null, "smooth_px": null},
                {"method": "mixup", "lambda": 0.1, "given": 0.1}]}]})
}

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let read = Plan::from_json(&plan().to_string()).unwrap();
    // Numbers are the shortest decimals of the f32, so the text's values are compared as f32.
    let written: Value = serde_json::from_str(&read.to_json()).unwrap();
    assert_eq!(written, plan());
}

#[test]
fn malformed_plans_are_named_by_sample_and_layer() {
    let set = |pointer: &str, value: Value| {
        let mut plan = plan();
        *plan.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        let error = Plan::from_json(&plan.to_string()).unwrap_err();
        assert_eq!(error.status(), Status::Plan, "{error}");
        error.to_string()
    };
    let layer = |j: usize, field: &str| format!("/samples/0/layers/{j}/{field}");
    let at = |j: usize, rest: &str| format!("plan: samples[0].layers[{j}].{rest}");
    assert_eq!(set("/version", json!(2)), "plan: version: must be 1, got 2");
    assert_eq!(
        set("/samples/0/partner_index", json!(1)),
        "plan: samples[0].partner_index: must be below the batch size 1, got 1"
    );
    assert_eq!(set(&layer(0, "smooth_px"), json!(4)), at(0, "smooth_px: must be an odd number in 1..=15, got 4"));
    assert_eq!(set(&layer(0, "smooth_px"), json!(17)), at(0, "smooth_px: must be an odd number in 1..=15, got 17"));
    assert_eq!(set(&layer(0, "given"), json!(1.5)), at(0, "given: must be in [0, 1], got 1.5"));
    assert_eq!(set(&layer(0, "lambda"), json!(-0.5)), at(0, "lambda: must be in [0, 1], got -0.5"));
    assert_eq!(set(&layer(0, "x0"), json!(20_000_000)), at(0, "x0: must be in [-16777216, 16777216], got 20000000"));
    assert_eq!(set(&layer(0, "warp/shear"), json!(2000)), at(0, "warp.shear: must be in [-1000, 1000], got 2000"));
    assert_eq!(set(&layer(1, "cells"), json!([0, 16])), at(1, "cells: must be below n·n = 16, got 16"));
    assert_eq!(set(&layer(1, "cells"), json!([5, 0])), at(1, "cells: must ascend, each cell once, got [5, 0]"));
    for n in [0, 17, u32::MAX] {
        assert_eq!(set(&layer(1, "n"), json!(n)), at(1, &format!("n: must be in 1..=16, got {n}")));
    }
    assert_eq!(set(&layer(2, "q"), json!(1)), at(2, "q: must be in (-1, 1), got 1"));
    assert_eq!(set(&layer(2, "cx"), json!(1e9)), at(2, "cx: must be in [-1048576, 1048576], got 1000000000"));
    assert_eq!(set(&layer(3, "sigma_px"), json!(-1)), at(3, "sigma_px: must be finite and at least 0, got -1"));
    assert_eq!(set(&layer(4, "decay_power"), json!(1)), at(4, "decay_power: must be finite and at least 2, got 1"));
    assert_eq!(
        set("/samples/0/primary_view/dx", json!(-40_000)),
        "plan: samples[0].primary_view.dx: must be in [-32768, 32768], got -40000"
    );
    assert_eq!(set("/height", json!(0)), "plan: height: must be in 1..=32768, got 0");
    let mut nine = plan()["samples"][0]["layers"].as_array().unwrap().clone();
    nine.extend(nine[..3].to_vec());
    assert_eq!(set("/samples/0/layers", nine.into()), "plan: samples[0].layers: must be at most 8 layers, got 9");
    let mut drawn = plan();
    drawn["lambda_reading"] = json!("keep");
    drawn["label_weight"] = json!("drawn");
    let error = Plan::from_json(&drawn.to_string()).unwrap_err();
    assert!(error.to_string().starts_with("plan: label_weight: must be merged where merge is product"), "{error}");
}

#[test]
fn text_that_is_no_plan_says_where() {
    let edit = |from: &str, to: &str| {
        let text = plan().to_string();
        assert!(text.contains(from), "{from}");
        let error = Plan::from_json(&text.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.status(), Status::Plan, "{error}");
        error.to_string()
    };
    let starts = |message: String, start: &str| assert!(message.starts_with(start), "{message}");
    starts(edit("\"sigma_px\":8.0", "\"sigma\":8.0"), "plan: samples[0].layers[3]: unknown field `sigma`");
    starts(
        edit("\"method\":\"mixup\"", "\"method\":\"mixdown\""),
        "plan: samples[0].layers[5].method: unknown variant `mixdown`",
    );
    starts(
        edit("0x1234abcd", "0x1234ABCD"),
        "plan: samples[0].layers[4]: noise_key must be 0x and 16 lower-case hexadecimal digits",
    );
    starts(edit("\"smooth_px\":5,", ""), "plan: samples[0].layers[0]: missing field `smooth_px`");
    starts(edit("\"version\":1", "\"version\":1,\"colour\":3"), "plan: colour: unknown field `colour`");
    // What another version has besides is not what is wrong with it.
    assert_eq!(edit("\"version\":1", "\"version\":2,\"colour\":3"), "plan: version: must be 1, got 2");
    starts(
        edit("\"lambda\":0.1,", "\"lambda\":0.1,\"warp\":null,"),
        "plan: samples[0].layers[5]: unknown field `warp`",
    );
    for text in ["", "null", "[]", "{", "{}", "{} x", "\u{0}"] {
        assert_eq!(Plan::from_json(text).unwrap_err().status(), Status::Plan, "{text:?}");
    }
}

#[test]
fn hand_written_plans_may_go_to_the_limits() {
    let at = |value: Value, j: usize| {
        let mut plan = plan();
        let layers = plan.pointer_mut("/samples/0/layers").unwrap().as_array_mut().unwrap();
        let layer = layers[j].as_object_mut().unwrap();
        for (key, value) in value.as_object().unwrap() {
            layer.insert(key.clone(), value.clone());
        }
        let plan = Plan::from_json(&plan.to_string()).unwrap();
        let mut mask = Array3::zeros((1, 32, 32));
        op().masks(&plan, Some(mask.view_mut()), None).unwrap();
        assert!(mask.iter().all(|m| (0.0..=1.0).contains(m)), "{plan:?}");
    };
    for given in [0.0, 1.0, 1e-45] {
        (0..6).for_each(|j| at(json!({"given": given, "lambda": given}), j));
    }
    for (angle, shear) in [(1e30, 0.0), (-100.0, 1000.0), (0.0, -1000.0)] {
        [0, 1, 4].into_iter().for_each(|j| at(json!({"warp": {"angle_rad": angle, "shear": shear}}), j));
    }
    at(json!({"x0": 16_777_216, "x1": -16_777_216}), 0);
    at(json!({"x0": -16_777_216, "x1": 16_777_216}), 0);
    at(json!({"cells": []}), 1);
    at(json!({"n": 1, "cells": [0]}), 1);
    at(json!({"q": 0.9999999, "sigma_px": 1e-38, "cx": 1e6, "angle_rad": -1e20}), 2);
    at(json!({"q": -0.9999999, "sigma_px": 3e38}), 2);
    at(json!({"sigma_px": 0}), 3);
    at(json!({"sigma_px": 1e-45, "cx": 16.5, "cy": 16.5}), 3);
    at(json!({"decay_power": 3e38, "noise_key": "0x0000000000000000"}), 4);
}
