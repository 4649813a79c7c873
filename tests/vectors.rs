//! The core against the golden vectors of the reference, through the public interface.

use miamix::simd::{force_level, level_name, levels};
use miamix::{BatchShape, Config, LabelWeight, MiaMix, Plan};
use ndarray::{Array2, Array3, Array4};
use ndarray_npy::NpzReader;
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn cases<T: for<'de> Deserialize<'de>>(stage: &str) -> Vec<T> {
    let text = std::fs::read_to_string(folder().join(format!("{stage}.json"))).unwrap();
    let cases: Vec<T> = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty());
    cases
}

fn arrays(stage: &str) -> NpzReader<File> {
    NpzReader::new(File::open(folder().join(format!("{stage}.npz"))).unwrap()).unwrap()
}

/// Runs a test at each SIMD level in turn. The level is the process's: one such test at a time.
fn at_every_level(test: impl Fn(&str)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let best = level_name();
    for level in levels() {
        force_level(level);
        test(level);
    }
    force_level(best);
}

#[derive(Deserialize)]
struct Draw {
    name: String,
    config: Value,
    shape: [usize; 3],
    seed: String,
    first_sample: String,
    plan: Value,
}

#[test]
fn draws_are_those_of_the_reference_to_the_bit() {
    for case in cases::<Draw>("draws") {
        let op = MiaMix::new(Config::from_json(&case.config.to_string()).unwrap()).unwrap();
        let [n, height, width] = case.shape;
        let (seed, first_sample) = (case.seed.parse().unwrap(), case.first_sample.parse().unwrap());
        let plan = op.draw(BatchShape::new(n, height, width), seed, first_sample).unwrap();
        let expected = Plan::from_json(&case.plan.to_string()).unwrap();
        for (i, (got, expected)) in plan.samples().zip(expected.samples()).enumerate() {
            assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{}: sample {i}", case.name);
        }
        assert_eq!(plan, expected, "{}", case.name);
        assert_eq!(Plan::from_json(&plan.to_json()).unwrap(), plan, "{}", case.name);
    }
}

#[derive(Deserialize)]
struct Mask {
    name: String,
    plan: Value,
    label_weight: Vec<f32>,
}

#[test]
fn masks_and_their_weights_meet_the_reference() {
    at_every_level(masks_meet_the_reference);
}

fn masks_meet_the_reference(level: &str) {
    let op = MiaMix::new(Config::default()).unwrap();
    let mut arrays = arrays("masks");
    let (mut n_sure, mut n_pixels) = (0, 0);
    for case in cases::<Mask>("masks") {
        let expected: Array3<f32> = arrays.by_name(&format!("{}/mask", case.name)).unwrap();
        let sure: Array3<u8> = arrays.by_name(&format!("{}/sure", case.name)).unwrap();
        let plan = Plan::from_json(&case.plan.to_string()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let mut masks = Array3::from_elem(expected.dim(), f32::NAN);
        let mut weights = vec![f32::NAN; expected.dim().0];
        op.masks(&plan, Some(masks.view_mut()), Some(&mut weights)).unwrap();
        for ((at, got), expected) in masks.indexed_iter().zip(&expected) {
            // The bound of the definition.
            let close = (got - expected).abs() <= 2e-5;
            assert!(close || sure[at] == 0, "{}, {level}: pixel {at:?} is {got}, not {expected}", case.name);
            assert!((0.0..=1.0).contains(got), "{}, {level}: pixel {at:?} is {got}", case.name);
        }
        for (i, (got, expected)) in weights.iter().zip(&case.label_weight).enumerate() {
            // As far as the mask may be off: its bound, and all of a pixel that is not sure.
            let sure = sure.index_axis(ndarray::Axis(0), i);
            let unsure = sure.iter().filter(|&&s| s == 0).count() as f32 / sure.len() as f32;
            let bound = if plan.label_weight() == LabelWeight::Drawn { 0.0 } else { 2e-5 + unsure };
            assert!((got - expected).abs() <= bound, "{}, {level}: weight {i} is {got}, not {expected}", case.name);
        }
        n_sure += sure.iter().filter(|&&s| s == 1).count();
        n_pixels += sure.len();
    }
    // The exceptions of the bound stay exceptions.
    assert!(n_sure as f64 > 0.999 * n_pixels as f64, "{n_sure} of {n_pixels} pixels are sure");
}

#[derive(Deserialize)]
struct ViewCase {
    name: String,
    view: Value,
}

#[test]
fn views_are_read_as_the_reference_reads_them() {
    at_every_level(views_meet_the_reference);
}

fn views_meet_the_reference(level: &str) {
    let op = MiaMix::new(Config::default()).unwrap();
    let mut arrays = arrays("views");
    for case in cases::<ViewCase>("views") {
        let source: Array3<f32> = arrays.by_name(&format!("{}/source", case.name)).unwrap();
        let expected: Array3<f32> = arrays.by_name(&format!("{}/out", case.name)).unwrap();
        let (c, h, w) = source.dim();
        let still = serde_json::json!({"flip": false, "dx": 0, "dy": 0});
        // The view as the primary's, under no mask; then as the partner's, under a mask of 0.
        for (primary, partner, layers) in [
            (&case.view, &still, serde_json::json!([])),
            (&still, &case.view, serde_json::json!([{"method": "mixup", "lambda": 1, "given": 1}])),
        ] {
            let plan = serde_json::json!({
                "version": 1, "height": h, "width": w, "merge": "product", "label_weight": "merged",
                "lambda_reading": "complement",
                "samples": [{"partner_index": 0, "primary_view": primary, "partner_view": partner, "layers": layers}],
            });
            let plan = Plan::from_json(&plan.to_string()).unwrap();
            let images = source.clone().insert_axis(ndarray::Axis(0));
            // Planar, interleaved, and strided in both: every reader.
            let interleaved = |a: &Array4<f32>| a.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned();
            let nhwc = interleaved(&images);
            for planar in [true, false] {
                let view = if planar { images.view() } else { nhwc.view().permuted_axes([0, 3, 1, 2]) };
                for planar_out in [true, false] {
                    let mut out = Array4::<f32>::zeros(if planar_out { (1, c, h, w) } else { (1, h, w, c) });
                    let out_view = if planar_out { out.view_mut() } else { out.view_mut().permuted_axes([0, 3, 1, 2]) };
                    let batch = miamix::Batch {
                        images: view.into(),
                        partner_images: view.into(),
                        labels: miamix::Labels::NONE,
                    };
                    let output = miamix::Output {
                        images: out_view.into(),
                        labels: None,
                        label_weight: None,
                        partner_index: None,
                    };
                    op.apply(&plan, batch, output).unwrap();
                    let got = if planar_out { out.clone() } else { out.view().permuted_axes([0, 3, 1, 2]).to_owned() };
                    assert_eq!(
                        got.index_axis(ndarray::Axis(0), 0),
                        expected,
                        "{}, {level} {planar} {planar_out}",
                        case.name
                    );
                }
            }
        }
    }
}

#[test]
fn the_vectors_are_read() {
    // A reader that gave zeros would pass everything above that expects zeros.
    let mask: Array2<f32> =
        arrays("weights").by_name(&format!("{}/mask", cases::<Value>("weights")[0]["name"].as_str().unwrap())).unwrap();
    assert!(mask.iter().any(|&m| m > 0.0));
}
