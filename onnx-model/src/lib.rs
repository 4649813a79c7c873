//! ONNX files that hold the MiAMix operator.
//!
//! ```text
//! images, partner_images, labels, seed, first_sample, training_mode
//!     ──> MiAMix ──> mixed_images, mixed_labels, label_weight, partner_index
//! images, seed, first_sample
//!     ──> MiAMixMasks ──> masks                                   (where asked for)
//! ```

#![warn(missing_docs)]

pub mod proto;

use miamix::{Config, Dtype, Error};
use prost::Message;
use proto::*;

/// Domain of the operators.
pub const DOMAIN: &str = "ai.miamix";
/// Version of the domain's operators.
pub const DOMAIN_VERSION: i64 = 1;
/// Version of the file format: the one that opset 17 came with.
pub const IR_VERSION: i64 = 8;
/// Version of ONNX's own operators.
pub const OPSET: i64 = 17;

/// Most classes: the operator reads no larger number.
pub const MAX_CLASSES: u32 = i32::MAX as u32;

/// Order of the axes of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels before rows.
    Nchw,
    /// Channels last.
    Nhwc,
}

impl Layout {
    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "NCHW",
            Layout::Nhwc => "NHWC",
        }
    }
}

/// What labels come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// Class ids: int64 `[N]`, made one-hot of `num_classes` columns; 0: no labels come out.
    Ids {
        /// K.
        num_classes: u32,
    },
    /// Rows of numbers: float `[N, K]`.
    Soft {
        /// K, where it is known.
        num_classes: Option<u32>,
    },
}

/// What a model is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The operator's parameters.
    pub config: Config,
    /// Element type of images.
    pub dtype: Dtype,
    /// Order of the axes of images.
    pub layout: Layout,
    /// Channels, where they are known; else any number.
    pub channels: Option<u32>,
    /// Height, pixels; as above.
    pub height: Option<u32>,
    /// Width, pixels; as above.
    pub width: Option<u32>,
    /// What labels come in.
    pub labels: LabelKind,
    /// Added to the seed: keeps two nodes of one graph apart.
    pub seed_offset: i64,
    /// A constant seed in the file instead of an input.
    pub seed: Option<i64>,
    /// A node that gives the masks too.
    pub masks: bool,
}

impl Default for ModelSpec {
    /// The paper's parameters, f32 images of any size, class ids without mixed labels, seed as an input.
    fn default() -> Self {
        ModelSpec {
            config: Config::default(),
            dtype: Dtype::F32,
            layout: Layout::Nchw,
            channels: None,
            height: None,
            width: None,
            labels: LabelKind::Ids { num_classes: 0 },
            seed_offset: 0,
            seed: None,
            masks: false,
        }
    }
}

/// The bytes of an ONNX file with the operator.
///
/// # Errors
/// [`miamix::Error::InvalidArgument`] for the first parameter outside its range.
pub fn model(spec: &ModelSpec) -> miamix::Result<Vec<u8>> {
    Ok(message(spec)?.encode_to_vec())
}

/// The same file, not yet encoded.
///
/// # Errors
/// As [`model`].
pub fn message(spec: &ModelSpec) -> miamix::Result<ModelProto> {
    spec.config.validate()?;
    if let Some(k) = num_classes(spec.labels).filter(|&k| k > MAX_CLASSES) {
        return Err(Error::invalid("num_classes", format!("must be at most {MAX_CLASSES}"), k));
    }
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("miamix".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        doc_string: Some(
            "Mixes each image of a training batch with a partner, and their labels by the share of pixels each keeps."
                .into(),
        ),
        graph: Some(graph(spec)),
        opset_import: vec![opset("", OPSET), opset(DOMAIN, DOMAIN_VERSION)],
    })
}

fn graph(spec: &ModelSpec) -> GraphProto {
    let named = |size: Option<u32>, name: &str| size.map_or_else(|| Axis::Named(name.into()), |n| Axis::Long(n.into()));
    let batch = Axis::Named("batch".into());
    let [channels, height, width] =
        [named(spec.channels, "channels"), named(spec.height, "height"), named(spec.width, "width")];
    let images = match spec.layout {
        Layout::Nchw => [&batch, &channels, &height, &width],
        Layout::Nhwc => [&batch, &height, &width, &channels],
    };
    let classes = match spec.labels {
        LabelKind::Ids { num_classes } => Axis::Long(num_classes.into()),
        LabelKind::Soft { num_classes } => named(num_classes, "classes"),
    };
    let (label_type, label_axes) = match spec.labels {
        LabelKind::Ids { .. } => (DataType::Int64, vec![&batch]),
        LabelKind::Soft { .. } => (DataType::Float, vec![&batch, &classes]),
    };
    let dtype = data_type(spec.dtype);

    let mut inputs = vec![
        value("images", dtype, &images, "Where primaries are read."),
        value(
            "partner_images",
            dtype,
            &images,
            "Where partners are read: the same batch under a second augmentation, or the same images again.",
        ),
        value("labels", label_type, &label_axes, "Class ids, a negative one is ignored; or rows of numbers."),
        value("first_sample", DataType::Int64, &[], "Global index of the batch's first sample."),
        value("training_mode", DataType::Bool, &[], "False passes images and labels through."),
    ];
    let mut initializers = Vec::new();
    match spec.seed {
        None => inputs.insert(3, value("seed", DataType::Int64, &[], "Equal seeds give equal pixels.")),
        Some(seed) => initializers.push(TensorProto {
            data_type: Some(DataType::Int64 as i32),
            int64_data: vec![seed],
            name: Some("seed".into()),
            ..Default::default()
        }),
    }
    let mut outputs = vec![
        value("mixed_images", dtype, &images, "The mixed images."),
        value("mixed_labels", DataType::Float, &[&batch, &classes], "The mixed labels."),
        value("label_weight", DataType::Float, &[&batch], "What the primary's own label weighs."),
        value("partner_index", DataType::Int64, &[&batch], "The sample of the batch that was mixed in."),
    ];
    let common = attributes(spec);
    let mut nodes = vec![node(
        "MiAMix",
        &["images", "partner_images", "labels", "seed", "first_sample", "training_mode"],
        &["mixed_images", "mixed_labels", "label_weight", "partner_index"],
        common.iter().cloned().chain(num_classes(spec.labels).map(|n| int("num_classes", n.into()))).collect(),
    )];
    if spec.masks {
        outputs.push(value(
            "masks",
            DataType::Float,
            &[&batch, &height, &width],
            "The masks, 1 keeps the primary pixel.",
        ));
        nodes.push(node("MiAMixMasks", &["images", "seed", "first_sample"], &["masks"], common));
    }
    GraphProto { node: nodes, name: Some("miamix".into()), initializer: initializers, input: inputs, output: outputs }
}

/// K, as the attribute has it.
fn num_classes(labels: LabelKind) -> Option<u32> {
    match labels {
        LabelKind::Ids { num_classes } => Some(num_classes),
        // Rows bring their own K, which is checked where one is given.
        LabelKind::Soft { num_classes } => num_classes,
    }
}

/// The attributes that both operators have, every one written out.
fn attributes(spec: &ModelSpec) -> Vec<AttributeProto> {
    // Without `..`, so that a new parameter cannot be forgotten.
    let &Config {
        alpha,
        k_min,
        k_max,
        method_weights,
        p_apply,
        p_self,
        p_aug,
        p_smooth,
        merge,
        label_weight,
        lambda_reading,
        gaussian_sigma,
        pairing,
        cutmix_box,
        grid_range,
        decay_power,
        rotate_max_rad,
        shear_max,
        smooth_range_px,
        p_flip,
        pad_px,
        label_smoothing,
    } = &spec.config;
    vec![
        float("alpha", alpha),
        int("k_min", k_min.into()),
        int("k_max", k_max.into()),
        floats("method_weights", &method_weights.to_array()),
        float("p_apply", p_apply),
        float("p_self", p_self),
        float("p_aug", p_aug),
        float("p_smooth", p_smooth),
        string("merge", merge.name()),
        string("label_weight", label_weight.name()),
        string("lambda_reading", lambda_reading.name()),
        string("gaussian_sigma", gaussian_sigma.name()),
        string("pairing", pairing.name()),
        string("cutmix_box", cutmix_box.name()),
        ints("grid_range", grid_range),
        float("decay_power", decay_power),
        float("rotate_max_rad", rotate_max_rad),
        float("shear_max", shear_max),
        ints("smooth_range_px", smooth_range_px),
        float("p_flip", p_flip),
        int("pad_px", pad_px.into()),
        float("label_smoothing", label_smoothing),
        string("layout", spec.layout.name()),
        int("seed_offset", spec.seed_offset),
    ]
}

/// How long an axis is: a number, or a name for what is known when the model runs.
enum Axis {
    Long(i64),
    Named(String),
}

fn data_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::F32 => DataType::Float,
        Dtype::F16 => DataType::Float16,
        Dtype::Bf16 => DataType::Bfloat16,
        Dtype::U8 => DataType::Uint8,
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

fn node(op_type: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: Some(op_type.to_lowercase()),
        op_type: Some(op_type.into()),
        attribute,
        domain: Some(DOMAIN.into()),
    }
}

fn value(name: &str, elem_type: DataType, axes: &[&Axis], doc: &str) -> ValueInfoProto {
    let dim = axes
        .iter()
        .map(|axis| Dimension {
            value: Some(match axis {
                Axis::Long(n) => DimensionValue::DimValue(*n),
                Axis::Named(name) => DimensionValue::DimParam(name.clone()),
            }),
        })
        .collect();
    let tensor = TensorType { elem_type: Some(elem_type as i32), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(TypeValue::TensorType(tensor)) }),
        doc_string: Some(doc.into()),
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind as i32), ..Default::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.into()), ..attribute(name, AttributeType::String) }
}

fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

fn ints(name: &str, values: [u32; 2]) -> AttributeProto {
    AttributeProto { ints: values.map(i64::from).to_vec(), ..attribute(name, AttributeType::Ints) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field numbers and values of a message, read without its declaration: varints as they are,
    /// 32-bit fields as their bits, everything else as bytes.
    #[derive(Debug, PartialEq)]
    enum Field<'a> {
        Number(u64),
        Bits(u32),
        Bytes(&'a [u8]),
    }

    fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (&byte, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Field::Bytes(bytes.split_off(..length).unwrap())
                }
                5 => Field::Bits(u32::from_le_bytes(bytes.split_off(..4).unwrap().try_into().unwrap())),
                wire_type => panic!("wire type {wire_type}"),
            };
            fields.push((key >> 3, field));
        }
        fields
    }

    fn bytes<'a>(message: &[(u64, Field<'a>)], number: u64) -> Vec<&'a [u8]> {
        message
            .iter()
            .filter(|(n, _)| *n == number)
            .map(|(_, field)| match field {
                Field::Bytes(bytes) => *bytes,
                other => panic!("field {number}: {other:?}"),
            })
            .collect()
    }

    /// The numbers are those of onnx.proto, not only consistent with themselves.
    #[test]
    fn the_bytes_are_those_of_onnx() {
        let spec = ModelSpec {
            labels: LabelKind::Ids { num_classes: 10 },
            channels: Some(3),
            dtype: Dtype::Bf16,
            seed: Some(-1),
            ..Default::default()
        };
        let file = model(&spec).unwrap();
        let file = fields(&file);
        assert_eq!(file[0], (1, Field::Number(8)));
        assert_eq!(bytes(&file, 2), [b"miamix"]);
        let opsets: Vec<_> = bytes(&file, 8).into_iter().map(fields).collect();
        assert_eq!(opsets[0], [(1, Field::Bytes(b"")), (2, Field::Number(17))]);
        assert_eq!(opsets[1], [(1, Field::Bytes(b"ai.miamix")), (2, Field::Number(1))]);

        let graph = fields(bytes(&file, 7)[0]);
        let node = fields(bytes(&graph, 1)[0]);
        let inputs: [&[u8]; 6] = [b"images", b"partner_images", b"labels", b"seed", b"first_sample", b"training_mode"];
        assert_eq!(bytes(&node, 1), inputs);
        assert_eq!(bytes(&node, 4), [b"MiAMix"]);
        assert_eq!(bytes(&node, 7), [b"ai.miamix"]);
        let attributes: Vec<_> = bytes(&node, 5).into_iter().map(fields).collect();
        let attribute = |name: &[u8]| attributes.iter().find(|a| a[0] == (1, Field::Bytes(name))).unwrap();
        assert_eq!(attribute(b"alpha")[1..], [(2, Field::Bits(1f32.to_bits())), (20, Field::Number(1))]);
        assert_eq!(attribute(b"pad_px")[1..], [(3, Field::Number(0)), (20, Field::Number(2))]);
        assert_eq!(attribute(b"merge")[1..], [(4, Field::Bytes(b"product")), (20, Field::Number(3))]);
        let weights = [2f32, 1.0, 1.0, 1.0, 1.0, 0.0].map(|w| (7, Field::Bits(w.to_bits())));
        assert_eq!(attribute(b"method_weights")[1..7], weights);
        assert_eq!(attribute(b"method_weights")[7], (20, Field::Number(6)));
        let range = [(8, Field::Number(2)), (8, Field::Number(8)), (20, Field::Number(7))];
        assert_eq!(attribute(b"grid_range")[1..], range);

        let constant = fields(bytes(&graph, 5)[0]);
        assert_eq!(constant[0], (2, Field::Number(7)));
        assert_eq!(bytes(&constant, 7), [[0xff; 9].iter().copied().chain([1]).collect::<Vec<u8>>()]);
        assert_eq!(bytes(&constant, 8), [b"seed"]);

        let images = fields(bytes(&graph, 11)[0]);
        let tensor_type = fields(bytes(&fields(bytes(&images, 2)[0]), 1)[0]);
        assert_eq!(tensor_type[0], (1, Field::Number(16)));
        let axes: Vec<_> = bytes(&fields(bytes(&tensor_type, 2)[0]), 1).into_iter().map(fields).collect();
        assert_eq!(axes[0], [(2, Field::Bytes(b"batch"))]);
        assert_eq!(axes[1], [(1, Field::Number(3))]);
        assert_eq!(axes[2], [(2, Field::Bytes(b"height"))]);
        assert_eq!(bytes(&graph, 12).len(), 4);
    }

    #[test]
    fn every_parameter_is_an_attribute() {
        let spec = ModelSpec { masks: true, ..Default::default() };
        let graph = message(&spec).unwrap().graph.unwrap();
        let names = |node: &NodeProto| node.attribute.iter().map(|a| a.name.clone().unwrap()).collect::<Vec<_>>();
        let [mix, masks] = &graph.node[..] else { panic!("{} nodes", graph.node.len()) };
        let config = spec.config.to_json();
        for name in names(masks) {
            assert!(config.contains(&format!("\"{name}\":")) || ["layout", "seed_offset"].contains(&&*name), "{name}");
        }
        assert_eq!(names(masks).len(), 24);
        assert_eq!(names(mix)[..24], names(masks));
        assert_eq!(names(mix)[24..], ["num_classes"]);
        let soft = ModelSpec { labels: LabelKind::Soft { num_classes: None }, ..Default::default() };
        let graph = message(&soft).unwrap().graph.unwrap();
        assert_eq!(names(&graph.node[0]).len(), 24);
    }

    #[test]
    fn a_bad_parameter_is_an_error() {
        let spec = ModelSpec { config: Config { alpha: 0.0, ..Default::default() }, ..Default::default() };
        assert_eq!(model(&spec).unwrap_err().to_string(), "alpha: must be finite and greater than 0, got 0");
        let too_many = MAX_CLASSES + 1;
        for labels in [LabelKind::Ids { num_classes: too_many }, LabelKind::Soft { num_classes: Some(too_many) }] {
            let error = model(&ModelSpec { labels, ..Default::default() }).unwrap_err();
            assert_eq!(error.to_string(), "num_classes: must be at most 2147483647, got 2147483648");
        }
        let labels = LabelKind::Ids { num_classes: MAX_CLASSES };
        assert!(model(&ModelSpec { labels, ..Default::default() }).is_ok());
    }
}
