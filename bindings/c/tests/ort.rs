//! The operators inside ONNX Runtime against the Rust API, byte for byte.

#[path = "support/onnx.rs"]
mod onnx;

use half::{bf16, f16};
use miamix_core::{Batch, BatchShape, Config, Element, Images, Labels, Merge, MiaMix, Output};
use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayView4, Dimension};
use onnx::{Node, model, value};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{PrimitiveTensorElementType, Tensor};
use std::fmt::Debug;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// ONNX Runtime and the path of the operator library; nothing where there is no ONNX Runtime.
fn host() -> Option<&'static (Environment, PathBuf)> {
    static HOST: OnceLock<Option<(Environment, PathBuf)>> = OnceLock::new();
    HOST.get_or_init(|| {
        if std::env::var_os("ORT_DYLIB_PATH").is_none() {
            assert!(
                std::env::var_os("MIAMIX_REQUIRE_ORT").is_none_or(|value| value != "1"),
                "MIAMIX_REQUIRE_ORT=1, but ORT_DYLIB_PATH is not set"
            );
            // Not by `eprintln!`, which the test harness keeps to itself.
            let note = "NOT RUN: the tests of the ONNX Runtime operator. ORT_DYLIB_PATH must be the path of \
                        libonnxruntime; `cargo xtask test` sets it.";
            writeln!(std::io::stderr(), "\n{note}\n").unwrap();
            return None;
        }
        Some((ort::init().build().unwrap(), library()))
    })
    .as_ref()
}

/// The operator library: the one that is being tested, or one built now, as cargo builds none for a test.
fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("MIAMIX_LIBRARY") {
        return path.into();
    }
    let arguments = ["build", "--quiet", "--package", "miamix-c", "--lib", "--message-format", "json"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo build failed");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|message| message["target"]["name"] == "miamix" && message["target"]["kind"][0] == "cdylib")
        .flat_map(|message| message["filenames"].as_array().unwrap().clone())
        .map(|name| PathBuf::from(name.as_str().unwrap()))
        .find(|path| path.extension().is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION))
        .expect("cargo names the library")
}

fn session(model: &[u8], n_threads: usize) -> ort::Result<Option<Session>> {
    let Some((environment, library)) = host() else { return Ok(None) };
    let builder = Session::builder(environment)?.with_operator_library(library)?;
    builder.with_intra_threads(n_threads)?.commit_from_memory(model).map(Some)
}

/// An element type that ONNX Runtime and the library both have.
trait Pixel: Element + PrimitiveTensorElementType + num_traits::Zero + Debug {
    const ONNX: i32;
    fn from_byte(byte: u8) -> Self;
}

impl Pixel for f32 {
    const ONNX: i32 = onnx::FLOAT;
    fn from_byte(byte: u8) -> Self {
        f32::from(byte) * 0.37 - 11.0
    }
}

impl Pixel for f16 {
    const ONNX: i32 = onnx::FLOAT16;
    fn from_byte(byte: u8) -> Self {
        f16::from_f32(f32::from_byte(byte))
    }
}

impl Pixel for bf16 {
    const ONNX: i32 = onnx::BFLOAT16;
    fn from_byte(byte: u8) -> Self {
        bf16::from_f32(f32::from_byte(byte))
    }
}

impl Pixel for u8 {
    const ONNX: i32 = onnx::UINT8;
    fn from_byte(byte: u8) -> Self {
        byte
    }
}

/// Pixels in which neighbours along every axis differ.
fn images<T: Pixel>(shape: [usize; 4], salt: usize) -> Array4<T> {
    Array4::from_shape_fn(shape, |(n, a, b, c)| {
        T::from_byte((salt + 101 * n + 57 * a + 31 * b + 7 * c + a * b * c) as u8)
    })
}

const CLASSES: usize = 10;

enum LabelArray {
    Ids(Array1<i64>),
    Soft(Array2<f32>),
}

impl LabelArray {
    fn ids(n: usize) -> Self {
        LabelArray::Ids(Array1::from_shape_fn(n, |i| if i % 5 == 4 { -1 } else { (i * 7 % CLASSES) as i64 }))
    }

    fn soft(n: usize) -> Self {
        LabelArray::Soft(Array2::from_shape_fn((n, CLASSES), |(i, k)| (i * 13 + k * 3) as f32 / 97.0))
    }

    fn onnx(&self) -> i32 {
        match self {
            LabelArray::Ids(_) => onnx::INT64,
            LabelArray::Soft(_) => onnx::FLOAT,
        }
    }

    fn to_input(&self) -> SessionInputValue<'static> {
        match self {
            LabelArray::Ids(ids) => input(ids),
            LabelArray::Soft(rows) => input(rows),
        }
    }

    fn view(&self) -> Labels<'_> {
        match self {
            LabelArray::Ids(ids) => Labels::ids(ids.view(), CLASSES),
            LabelArray::Soft(rows) => Labels::soft(rows.view()),
        }
    }
}

fn input<T: PrimitiveTensorElementType + Debug + Clone + 'static, D: Dimension>(
    array: &Array<T, D>,
) -> SessionInputValue<'static> {
    let shape: Vec<i64> = array.shape().iter().map(|&extent| extent as i64).collect();
    Tensor::from_array((shape, array.iter().cloned().collect::<Vec<_>>())).unwrap().into()
}

fn scalar<T: PrimitiveTensorElementType + Debug + Clone + 'static>(value: T) -> SessionInputValue<'static> {
    Tensor::from_array((Vec::<i64>::new(), vec![value])).unwrap().into()
}

const INPUTS: [&str; 6] = ["images", "partner_images", "labels", "seed", "first_sample", "training_mode"];
const OUTPUTS: [&str; 4] = ["mixed_images", "mixed_labels", "label_weight", "partner_index"];

/// A model in which both operators stand side by side, with the attributes that `set` gives them.
fn both_operators(images: i32, labels: i32, set: impl Fn(Node) -> Node) -> Vec<u8> {
    let mix = Node::new("MiAMix", "mix1", &INPUTS, &OUTPUTS).int("num_classes", CLASSES as i64);
    let masks = Node::new("MiAMixMasks", "masks1", &["images", "seed", "first_sample"], &["masks"]);
    let elements = [images, images, labels, onnx::INT64, onnx::INT64, onnx::BOOL];
    let inputs = INPUTS.into_iter().zip(elements).map(|(name, element)| value(name, element)).collect();
    let mut outputs: Vec<_> = OUTPUTS
        .into_iter()
        .zip([images, onnx::FLOAT, onnx::FLOAT, onnx::INT64])
        .map(|(name, element)| value(name, element))
        .collect();
    outputs.push(value("masks", onnx::FLOAT));
    model(vec![set(mix), set(masks)], inputs, outputs)
}

fn config() -> Config {
    Config {
        k_max: 4,
        method_weights: [1.0, 1.0, 1.0, 1.0, 1.0, 0.5].into(),
        p_self: 0.25,
        p_flip: 0.5,
        pad_px: 2,
        merge: Merge::Sum,
        label_smoothing: 0.1,
        grid_range: [3, 9],
        ..Config::default()
    }
}

fn with_config(node: Node) -> Node {
    node.int("k_max", 4)
        .floats("method_weights", &[1.0, 1.0, 1.0, 1.0, 1.0, 0.5])
        .float("p_self", 0.25)
        .float("p_flip", 0.5)
        .int("pad_px", 2)
        .string("merge", "sum")
        .float("label_smoothing", 0.1)
        .ints("grid_range", &[3, 9])
}

fn assert_bytes<T: PrimitiveTensorElementType, D: Dimension>(
    outputs: &SessionOutputs,
    name: &str,
    expected: &Array<T, D>,
    case: &str,
) {
    let (shape, got) = outputs[name].try_extract_tensor::<T>().unwrap();
    let expected_shape: Vec<i64> = expected.shape().iter().map(|&extent| extent as i64).collect();
    assert_eq!(**shape, *expected_shape, "{case}: {name}");
    // SAFETY: plain numbers.
    let bytes = |elements: &[T]| unsafe {
        std::slice::from_raw_parts(elements.as_ptr().cast::<u8>(), size_of_val(elements)).to_vec()
    };
    assert!(bytes(got) == bytes(expected.as_slice().unwrap()), "{case}: {name} differs");
}

/// Images of a layout as [N, C, H, W].
fn nchw<T>(images: &Array4<T>, is_nhwc: bool) -> ArrayView4<'_, T> {
    if is_nhwc { images.view().permuted_axes([0, 3, 1, 2]) } else { images.view() }
}

fn check<T: Pixel + Clone>(labels: &LabelArray, is_nhwc: bool) {
    let (n, c, h, w) = (12, 3, 33, 31); // more than is done inline
    let shape = if is_nhwc { [n, h, w, c] } else { [n, c, h, w] };
    let (primaries, partners) = (images::<T>(shape, 0), images::<T>(shape, 99));
    let (seed, first_sample, seed_offset) = (-7i64, 1i64 << 40, 100i64);
    let set = |node| {
        with_config(node).string("layout", if is_nhwc { "NHWC" } else { "NCHW" }).int("seed_offset", seed_offset)
    };
    let model = both_operators(T::ONNX, labels.onnx(), set);

    let op = MiaMix::new(config()).unwrap();
    let plan = op.draw(BatchShape::new(n, h, w), (seed + seed_offset) as u64, first_sample as u64).unwrap();
    let mut masks = Array3::zeros((n, h, w));
    op.masks(&plan, Some(masks.view_mut()), None).unwrap();

    for n_threads in [1, 2, 7] {
        let Some(mut session) = session(&model, n_threads).unwrap() else { return };
        for training_mode in [true, false] {
            let mut mixed = Array4::<T>::zeros(shape);
            let mut mixed_labels = Array2::zeros((n, CLASSES));
            let mut label_weight = Array1::zeros(n);
            let mut partner_index = Array1::zeros(n);
            let batch = Batch {
                images: Images::from(nchw(&primaries, is_nhwc)),
                partner_images: nchw(&partners, is_nhwc).into(),
                labels: labels.view(),
            };
            let mixed_view = mixed.view_mut();
            let output = Output {
                images: if is_nhwc { mixed_view.permuted_axes([0, 3, 1, 2]) } else { mixed_view }.into(),
                labels: Some(mixed_labels.view_mut()),
                label_weight: label_weight.as_slice_mut(),
                partner_index: partner_index.as_slice_mut(),
            };
            if training_mode {
                op.apply(&plan, batch, output).unwrap();
            } else {
                op.pass_through_on(&miamix_core::Inline, batch, output).unwrap();
            }

            let outputs = session
                .run(ort::inputs![
                    "images" => input(&primaries),
                    "partner_images" => input(&partners),
                    "labels" => labels.to_input(),
                    "seed" => scalar(seed),
                    "first_sample" => scalar(first_sample),
                    "training_mode" => scalar(training_mode),
                ])
                .unwrap();
            let case = format!(
                "{:?}, labels {}, NHWC {is_nhwc}, {n_threads} threads, training {training_mode}",
                T::DTYPE,
                labels.onnx()
            );
            assert_bytes(&outputs, "mixed_images", &mixed, &case);
            assert_bytes(&outputs, "mixed_labels", &mixed_labels, &case);
            assert_bytes(&outputs, "label_weight", &label_weight, &case);
            assert_bytes(&outputs, "partner_index", &partner_index, &case);
            assert_bytes(&outputs, "masks", &masks, &case);
        }
    }
}

fn check_type<T: Pixel + Clone>() {
    for labels in [LabelArray::ids(12), LabelArray::soft(12)] {
        for is_nhwc in [false, true] {
            check::<T>(&labels, is_nhwc);
        }
    }
}

#[test]
fn float_is_mixed_as_in_rust() {
    check_type::<f32>();
}

#[test]
fn float16_is_mixed_as_in_rust() {
    check_type::<f16>();
}

#[test]
fn bfloat16_is_mixed_as_in_rust() {
    check_type::<bf16>();
}

#[test]
fn uint8_is_mixed_as_in_rust() {
    check_type::<u8>();
}

#[test]
fn errors_name_the_node() {
    let model = both_operators(onnx::FLOAT, onnx::INT64, |node| node.float("alpha", -1.0));
    let message = match session(&model, 1) {
        Ok(None) => return,
        Ok(Some(_)) => panic!("alpha = -1 was accepted"),
        Err(error) => error.to_string(),
    };
    let expected = "MiAMix 'mix1': attribute alpha: must be finite and greater than 0, got -1";
    assert!(message.contains(expected), "{message}");

    let model = both_operators(onnx::FLOAT, onnx::INT64, |node| node);
    let mut session = session(&model, 1).unwrap().unwrap();
    let images = images::<f32>([3, 1, 4, 4], 0);
    let result = session.run(ort::inputs![
        "images" => input(&images),
        "partner_images" => input(&images),
        "labels" => input(&Array1::from(vec![0i64, 1, 12])),
        "seed" => scalar(0i64),
        "first_sample" => scalar(0i64),
        "training_mode" => scalar(true),
    ]);
    let message = result.err().unwrap().to_string();
    assert!(message.contains("MiAMix 'mix1': labels[2]: must be below num_classes = 10, got 12"), "{message}");
}
