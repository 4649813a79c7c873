//! Writes what a host of the operators must do, for programs in any language to try: models, inputs, and what the Rust
//! API makes of them, or the end of the error's message.
//!
//! ```text
//! host_cases FOLDER
//! ```
//!
//! Each case is a folder with a `case.txt`, a word and what belongs to it on each line:
//!
//! ```text
//! model model.onnx
//! run                                                       one run of the model; none where making a session fails
//! input images float16 12,3,33,31 0-images.bin              elements in order, as in memory; scalars have no extents: -
//! output mixed_images float16 12,3,33,31 0-mixed_images.bin
//! error MiAMix 'miamix': labels[2]: must be below ...       in the place of outputs
//! ```

use half::{bf16, f16};
use miamix::{Batch, BatchShape, Config, Dtype, Element, Images, Inline, Labels, Merge, MiaMix, Output};
use miamix_onnx_model::proto::{AttributeProto, AttributeType, ModelProto, TypeValue, ValueInfoProto};
use miamix_onnx_model::{LabelKind, Layout, ModelSpec, message};
use ndarray::{Array1, Array2, Array3, Array4, ArrayView4, ArrayViewMut4};
use prost::Message;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CLASSES: usize = 10;
const SEED: i64 = -7;
const SEED_OFFSET: i64 = 100;
const FIRST_SAMPLE: i64 = 1 << 40;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("host_cases FOLDER")?;
    equal_cases::<f32>(&folder)?;
    equal_cases::<f16>(&folder)?;
    equal_cases::<bf16>(&folder)?;
    equal_cases::<u8>(&folder)?;
    error_cases(&folder)
}

/// A case that is being written.
struct Case {
    folder: PathBuf,
    text: String,
    n_runs: usize,
}

impl Case {
    fn new(folder: &Path, name: &str, model: &ModelProto) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("model.onnx"), model.encode_to_vec())?;
        Ok(Case { folder, text: "model model.onnx\n".into(), n_runs: 0 })
    }

    fn run(&mut self) {
        self.text += "run\n";
        self.n_runs += 1;
    }

    fn tensor(&mut self, word: &str, name: &str, tensor: &Tensor) -> Result<()> {
        let file = format!("{}-{name}.bin", self.n_runs - 1);
        let extents: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let extents = if extents.is_empty() { "-".into() } else { extents.join(",") };
        writeln!(self.text, "{word} {name} {} {extents} {file}", tensor.element)?;
        Ok(fs::write(self.folder.join(file), &tensor.bytes)?)
    }

    fn inputs(&mut self, inputs: &[(&str, Tensor)]) -> Result<()> {
        inputs.iter().try_for_each(|(name, tensor)| self.tensor("input", name, tensor))
    }

    fn error(&mut self, message: &str) -> Result<()> {
        Ok(writeln!(self.text, "error {message}")?)
    }

    fn finish(self) -> Result<()> {
        Ok(fs::write(self.folder.join("case.txt"), self.text)?)
    }
}

/// Elements as they lie in memory, of a type as ONNX names it.
#[derive(Clone)]
struct Tensor {
    element: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn new<T: Number>(shape: &[usize], elements: impl IntoIterator<Item = T>) -> Self {
        let bytes = elements.into_iter().flat_map(T::bytes).collect();
        Tensor { element: T::ONNX, shape: shape.into(), bytes }
    }
}

trait Number {
    const ONNX: &'static str;
    fn bytes(self) -> Vec<u8>;
}

macro_rules! number {
    ($($type:ty, $name:literal;)*) => {
        $(impl Number for $type {
            const ONNX: &'static str = $name;
            fn bytes(self) -> Vec<u8> {
                self.to_ne_bytes().into()
            }
        })*
    };
}

number! { f32, "float"; f16, "float16"; bf16, "bfloat16"; u8, "uint8"; i64, "int64"; }

impl Number for bool {
    const ONNX: &'static str = "bool";
    fn bytes(self) -> Vec<u8> {
        vec![self.into()]
    }
}

/// An element type of images.
trait Pixel: Element + Number + Copy {
    fn from_byte(byte: u8) -> Self;
}

impl Pixel for f32 {
    fn from_byte(byte: u8) -> Self {
        f32::from(byte) * 0.37 - 11.0
    }
}

impl Pixel for f16 {
    fn from_byte(byte: u8) -> Self {
        f16::from_f32(f32::from_byte(byte))
    }
}

impl Pixel for bf16 {
    fn from_byte(byte: u8) -> Self {
        bf16::from_f32(f32::from_byte(byte))
    }
}

impl Pixel for u8 {
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

fn ids(n: usize) -> Array1<i64> {
    Array1::from_shape_fn(n, |i| if i % 5 == 4 { -1 } else { (i * 7 % CLASSES) as i64 })
}

fn rows(n: usize) -> Array2<f32> {
    Array2::from_shape_fn((n, CLASSES), |(i, k)| (i * 13 + k * 3) as f32 / 97.0)
}

fn config() -> Config {
    Config {
        k_max: 4,
        method_weights: [1.0, 1.0, 1.0, 1.0, 1.0, 0.5].into(),
        p_self: 0.25,
        p_aug: 0.5,
        p_flip: 0.5,
        pad_px: 2,
        label_smoothing: 0.1,
        grid_range: [3, 9],
        ..Config::default()
    }
}

/// Images of a layout as [N, C, H, W].
fn nchw<T>(images: &Array4<T>, layout: Layout) -> ArrayView4<'_, T> {
    match layout {
        Layout::Nchw => images.view(),
        Layout::Nhwc => images.view().permuted_axes([0, 3, 1, 2]),
    }
}

fn nchw_mut<T>(images: &mut Array4<T>, layout: Layout) -> ArrayViewMut4<'_, T> {
    match layout {
        Layout::Nchw => images.view_mut(),
        Layout::Nhwc => images.view_mut().permuted_axes([0, 3, 1, 2]),
    }
}

/// Results of one element type: every kind of labels and every layout, batches of several sizes in one session, in
/// training and out of it.
fn equal_cases<T: Pixel>(folder: &Path) -> Result<()> {
    for soft in [false, true] {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let merge = if soft { Merge::Sum } else { Merge::Product };
            let config = Config { merge, ..config() };
            let labels = if soft {
                LabelKind::Soft { num_classes: None }
            } else {
                LabelKind::Ids { num_classes: CLASSES as u32 }
            };
            let spec = ModelSpec {
                config: config.clone(),
                dtype: T::DTYPE,
                layout,
                labels,
                seed_offset: SEED_OFFSET,
                masks: true,
                ..Default::default()
            };
            let kind = if soft { "soft" } else { "ids" };
            let name = format!("{}-{kind}-{}", T::ONNX, layout.name().to_lowercase());
            let mut case = Case::new(folder, &name, &message(&spec)?)?;
            let op = MiaMix::new(config)?;
            // The first is more than is done inline, so that it is done by the threads of the session.
            for ([n, c, h, w], training_mode) in
                [([12, 3, 33, 31], true), ([0, 3, 8, 9], true), ([1, 1, 1, 1], true), ([5, 3, 17, 8], true)]
                    .into_iter()
                    .chain([([12, 3, 33, 31], false), ([0, 3, 8, 9], false)])
            {
                let shape = match layout {
                    Layout::Nchw => [n, c, h, w],
                    Layout::Nhwc => [n, h, w, c],
                };
                let (primaries, partners) = (images::<T>(shape, 0), images::<T>(shape, 99));
                let (ids, rows) = (ids(n), rows(n));
                let labels = if soft { Labels::soft(rows.view()) } else { Labels::ids(ids.view(), CLASSES) };
                let plan =
                    op.draw(BatchShape::new(n, h, w), SEED.wrapping_add(SEED_OFFSET) as u64, FIRST_SAMPLE as u64)?;
                let mut masks = Array3::zeros((n, h, w));
                op.masks(&plan, Some(masks.view_mut()), None)?;
                let mut mixed = Array4::from_elem(shape, T::from_byte(0));
                let mut mixed_labels = Array2::zeros((n, CLASSES));
                let mut label_weight = Array1::zeros(n);
                let mut partner_index = Array1::zeros(n);
                let batch = Batch {
                    images: Images::from(nchw(&primaries, layout)),
                    partner_images: nchw(&partners, layout).into(),
                    labels,
                };
                let output = Output {
                    images: nchw_mut(&mut mixed, layout).into(),
                    labels: Some(mixed_labels.view_mut()),
                    label_weight: label_weight.as_slice_mut(),
                    partner_index: partner_index.as_slice_mut(),
                };
                if training_mode {
                    op.apply(&plan, batch, output)?;
                } else {
                    op.pass_through_on(&Inline, batch, output)?;
                }
                case.run();
                case.inputs(&inputs(&primaries, &partners, soft.then_some(&rows), &ids, training_mode))?;
                for (name, tensor) in [
                    ("mixed_images", Tensor::new(&shape, mixed)),
                    ("mixed_labels", Tensor::new(&[n, CLASSES], mixed_labels)),
                    ("label_weight", Tensor::new(&[n], label_weight)),
                    ("partner_index", Tensor::new::<i64>(&[n], partner_index)),
                    ("masks", Tensor::new(&[n, h, w], masks)),
                ] {
                    case.tensor("output", name, &tensor)?;
                }
            }
            case.finish()?;
        }
    }
    Ok(())
}

fn inputs<T: Pixel>(
    images: &Array4<T>,
    partner_images: &Array4<T>,
    rows: Option<&Array2<f32>>,
    ids: &Array1<i64>,
    training_mode: bool,
) -> Vec<(&'static str, Tensor)> {
    let labels = match rows {
        Some(rows) => Tensor::new(rows.shape(), rows.iter().copied()),
        None => Tensor::new(ids.shape(), ids.iter().copied()),
    };
    vec![
        ("images", Tensor::new(images.shape(), images.iter().copied())),
        ("partner_images", Tensor::new(partner_images.shape(), partner_images.iter().copied())),
        ("labels", labels),
        ("seed", Tensor::new(&[], [SEED])),
        ("first_sample", Tensor::new(&[], [FIRST_SAMPLE])),
        ("training_mode", Tensor::new(&[], [training_mode])),
    ]
}

/// Every kind of error, by name: of the attributes and the declared shapes when a session is made, of the inputs when
/// it is run.
fn error_cases(folder: &Path) -> Result<()> {
    let model = || -> Result<ModelProto> {
        let labels = LabelKind::Ids { num_classes: CLASSES as u32 };
        let mut model = message(&ModelSpec { dtype: Dtype::F32, labels, ..Default::default() })?;
        // What is not declared is not checked before a run.
        let graph = model.graph.as_mut().ok_or("no graph")?;
        graph.input.iter_mut().chain(&mut graph.output).for_each(|value| set_shape(value, None));
        Ok(model)
    };
    let with = |attribute: AttributeProto| -> Result<ModelProto> {
        let mut model = model()?;
        let attributes = &mut model.graph.as_mut().ok_or("no graph")?.node[0].attribute;
        attributes.retain(|other| other.name() != attribute.name());
        attributes.push(attribute);
        Ok(model)
    };
    let attribute = |name: &str, kind: AttributeType| AttributeProto {
        name: Some(name.into()),
        r#type: Some(kind as i32),
        ..Default::default()
    };
    let float = |name, value| AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) };
    let string = |name, value: &str| AttributeProto { s: Some(value.into()), ..attribute(name, AttributeType::String) };
    let without_classes = || -> Result<ModelProto> {
        let mut model = model()?;
        model.graph.as_mut().ok_or("no graph")?.node[0].attribute.retain(|a| a.name() != "num_classes");
        Ok(model)
    };
    let declared = |input: usize, rank: usize| -> Result<ModelProto> {
        let full = message(&ModelSpec { labels: LabelKind::Ids { num_classes: 10 }, ..Default::default() })?;
        let mut model = model()?;
        let graph = model.graph.as_mut().ok_or("no graph")?;
        set_shape(&mut graph.input[input], Some((&full.graph.as_ref().ok_or("no graph")?.input[0], rank)));
        Ok(model)
    };
    for (name, model, message) in [
        ("attribute-value", with(float("alpha", -1.0))?, "attribute alpha: must be finite and greater than 0, got -1"),
        ("attribute-type", with(float("k_max", 2.0))?, "attribute k_max: must be an int, got the float 2"),
        (
            "attribute-name-of-a-value",
            with(string("merge", "max"))?,
            "attribute merge: must be one of product sum, got \"max\"",
        ),
        (
            "attributes-that-contradict",
            {
                let mut model = with(string("label_weight", "drawn"))?;
                let attributes = &mut model.graph.as_mut().ok_or("no graph")?.node[0].attribute;
                attributes.retain(|other| other.name() != "lambda_reading");
                attributes.push(string("lambda_reading", "keep"));
                model
            },
            "attribute label_weight: must be merged where merge is product and lambda_reading is keep (the ratios give \
             no weight), got drawn",
        ),
        (
            "missing-num-classes",
            without_classes()?,
            "attribute num_classes: must be given where labels are class ids (int64), got none",
        ),
        ("declared-rank", declared(0, 3)?, "images: expected shape [N, C, H, W], got [batch, channels, height]"),
    ] {
        let mut case = Case::new(folder, &format!("error-{name}"), &model)?;
        case.error(&format!("MiAMix 'miamix': {message}"))?;
        case.finish()?;
    }

    let shape = [4, 3, 8, 6];
    let good = inputs(&images::<f32>(shape, 0), &images::<f32>(shape, 99), None, &ids(4), true);
    let zeros = |shape: &[usize]| Tensor::new(shape, vec![0f32; shape.iter().product()]);
    for (name, input, tensor, message) in [
        ("wrong-rank", "images", zeros(&[3, 8, 6]), "images: expected shape [N, C, H, W], got [3, 8, 6]"),
        (
            "other-partner-shape",
            "partner_images",
            zeros(&[4, 3, 8, 5]),
            "partner_images: expected shape [4, 3, 8, 6], got [4, 3, 8, 5]",
        ),
        ("wrong-n", "labels", Tensor::new(&[3], [0i64, 1, 2]), "labels: expected shape [4], got [3]"),
        ("wrong-rank-of-labels", "labels", Tensor::new(&[2, 2], [0i64; 4]), "labels: expected shape [N], got [2, 2]"),
        (
            "label-out-of-range",
            "labels",
            Tensor::new(&[4], [0i64, 9, 12, 3]),
            "labels[2]: must be below num_classes = 10, got 12",
        ),
        ("two-seeds", "seed", Tensor::new(&[2], [1i64, 2]), "seed: expected shape [] or [1], got [2]"),
    ] {
        let mut case = Case::new(folder, &format!("error-{name}"), &model()?)?;
        case.run();
        let changed = |(other, given): &(&'static str, Tensor)| {
            (*other, if *other == input { tensor.clone() } else { given.clone() })
        };
        case.inputs(&good.iter().map(changed).collect::<Vec<_>>())?;
        case.error(&format!("MiAMix 'miamix': {message}"))?;
        case.finish()?;
    }
    Ok(())
}

/// Declares the first axes of another value, or nothing.
fn set_shape(value: &mut ValueInfoProto, like: Option<(&ValueInfoProto, usize)>) {
    let shape = like.map(|(like, rank)| {
        let Some(TypeValue::TensorType(tensor)) = like.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
            unreachable!("every value is a tensor")
        };
        let mut shape = tensor.shape.clone().expect("the writer declares shapes");
        shape.dim.truncate(rank);
        shape
    });
    if let Some(TypeValue::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
        tensor.shape = shape;
    }
}
