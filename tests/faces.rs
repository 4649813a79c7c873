//! What the core gives for some batches, as hashes in `tests/vectors/faces.json`: bindings that meet them give the
//! same bits as Rust. `MIAMIX_BLESS=1 cargo test -p miamix --test faces` writes them.
//!
//! Any language can make the batches: element (n, c, y, x) of the images is v = (31 n + 7 c + 13 y + 3 x + salt) mod 251,
//! with the salt 0, or 100 in the second view; floats are v / 256, which all of them hold exactly. Labels are the class
//! ids (7 n mod 11) − 1 of 10 classes. Hashes are 64-bit FNV-1a over little-endian elements, images in the order NCHW.

use half::{bf16, f16};
use miamix::{Config, Element, Labels, MiaMix};
use ndarray::{Array1, Array3, Array4, ArrayRef, Dimension};
use serde_json::{Value, json};
use std::path::PathBuf;

const N_CLASSES: usize = 10;

fn fnv1a(bytes: impl Iterator<Item = u8>) -> String {
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

fn hash<T: Copy, D: Dimension, const SIZE: usize>(array: &ArrayRef<T, D>, bytes: fn(T) -> [u8; SIZE]) -> String {
    fnv1a(array.iter().flat_map(|&element| bytes(element)))
}

fn fraction(v: u8) -> f32 {
    f32::from(v) / 256.0
}

struct Case {
    name: &'static str,
    config: Value,
    shape: [usize; 4],
    two_views: bool,
    seed: u64,
    first_sample: u64,
}

/// Odd sizes done by the calling thread, and a batch for several threads.
fn cases() -> Vec<Case> {
    let views = json!({"alpha": 0.3, "k_max": 4, "p_flip": 0.5, "pad_px": 2, "label_smoothing": 0.1});
    let sum = json!({"merge": "sum", "label_weight": "drawn", "k_min": 3, "k_max": 3, "p_aug": 1.0});
    let case = |name, config, shape, two_views, seed, first_sample| Case {
        name,
        config,
        shape,
        two_views,
        seed,
        first_sample,
    };
    vec![
        case("defaults", json!({}), [5, 3, 13, 17], false, 7, 3),
        case("two_views", views, [7, 3, 19, 23], true, u64::MAX, 1 << 40),
        case("sum_drawn", sum, [4, 1, 31, 33], false, 1 << 63, 0),
        case("threads", json!({"p_smooth": 1.0}), [12, 3, 40, 40], true, 42, 1280),
    ]
}

fn run<T: Element + num_traits::Zero, const SIZE: usize>(
    case: &Case,
    dtype: &str,
    element: fn(u8) -> T,
    bytes: fn(T) -> [u8; SIZE],
) -> Value {
    let [n, c, h, w] = case.shape;
    let view = |salt: usize| {
        Array4::from_shape_fn((n, c, h, w), |(n, c, y, x)| {
            element(((31 * n + 7 * c + 13 * y + 3 * x + salt) % 251) as u8)
        })
    };
    let (images, second) = (view(0), view(100));
    let partner = if case.two_views { &second } else { &images };
    let ids = Array1::from_shape_fn(n, |n| (7 * n % 11) as i64 - 1);
    let op = MiaMix::new(Config::from_json(&case.config.to_string()).unwrap()).unwrap();
    let labels = Labels::ids(ids.view(), N_CLASSES);
    let mixed = op.mix(images.view(), partner.view(), labels, case.seed, case.first_sample).unwrap();
    let mut masks = Array3::zeros((n, h, w));
    op.masks(&mixed.plan, Some(masks.view_mut()), None).unwrap();
    json!({
        "name": format!("{}_{dtype}", case.name), "config": case.config, "shape": case.shape, "dtype": dtype,
        "two_views": case.two_views, "num_classes": N_CLASSES, "seed": case.seed.to_string(),
        "first_sample": case.first_sample.to_string(),
        "images": hash(&mixed.images, bytes), "labels": hash(&mixed.labels, f32::to_le_bytes),
        "label_weight": hash(&mixed.label_weight, f32::to_le_bytes),
        "partner_index": hash(&mixed.partner_index, i64::to_le_bytes), "masks": hash(&masks, f32::to_le_bytes),
        "plan": fnv1a(mixed.plan.to_json().bytes()),
    })
}

#[test]
fn the_hashes_that_bindings_meet_are_those_of_the_core() {
    let mut results = Vec::new();
    for case in cases() {
        results.push(run(&case, "f32", fraction, f32::to_le_bytes));
        results.push(run(&case, "f16", |v| f16::from_f32(fraction(v)), f16::to_le_bytes));
        results.push(run(&case, "bf16", |v| bf16::from_f32(fraction(v)), bf16::to_le_bytes));
        results.push(run(&case, "u8", |v| v, u8::to_le_bytes));
    }
    for v in 0..=250 {
        assert_eq!(
            (f16::from_f32(fraction(v)).to_f32(), bf16::from_f32(fraction(v)).to_f32()),
            (fraction(v), fraction(v))
        );
    }
    let lines: Vec<String> = results.iter().map(Value::to_string).collect();
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/faces.json");
    if std::env::var_os("MIAMIX_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).expect("the vectors are there");
    let committed: Value = serde_json::from_str(&committed).unwrap();
    assert!(
        committed == Value::from(results),
        "tests/vectors/faces.json is stale: MIAMIX_BLESS=1 cargo test -p miamix --test faces"
    );
}
