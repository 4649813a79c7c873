//! The operators as their users see them: attributes, inputs, outputs, types.
//!
//! Registration, the reading of attributes and `docs/op.md` all come from these tables.

use super::host::{Element, Error, NodeInfo, Result};
use miamix_core::{Config, CutmixBox, Dtype, GaussianSigma, LabelWeight, LambdaReading, Merge, MethodWeights, Pairing};
use std::ffi::CStr;

/// The domain of the operators.
pub const DOMAIN: &CStr = c"ai.miamix";
/// The version of the domain's operator set that they have been in since.
pub const SINCE_VERSION: i32 = 1;

/// Order of the axes of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    #[default]
    Nchw,
    Nhwc,
}

impl Layout {
    pub const ALL: &'static [Layout] = &[Layout::Nchw, Layout::Nhwc];

    pub fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "NCHW",
            Layout::Nhwc => "NHWC",
        }
    }

    /// The same, as the shape that messages ask for.
    pub fn axes(self) -> &'static str {
        match self {
            Layout::Nchw => "[N, C, H, W]",
            Layout::Nhwc => "[N, H, W, C]",
        }
    }

    fn from_name(argument: &str, name: &str) -> miamix_core::Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|layout| layout.name() == name)
            .ok_or_else(|| miamix_core::Error::invalid(argument, "must be one of NCHW NHWC", format_args!("{name:?}")))
    }
}

/// How labels come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// Class ids, int64 [N].
    Ids,
    /// Rows of numbers, float [N, K].
    Soft,
}

/// What the attributes of a node say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub config: Config,
    pub num_classes: Option<usize>,
    pub layout: Layout,
    pub seed_offset: i64,
}

/// An attribute.
pub struct Attribute {
    pub name: &'static CStr,
    #[cfg_attr(not(test), expect(dead_code, reason = "prose of docs/op.md, which a test writes"))]
    pub doc: &'static str,
    pub field: Field,
}

/// Where an attribute is kept, and with it its type and its default.
pub enum Field {
    Float(fn(&mut Settings) -> &mut f32),
    /// A number that is not negative.
    Count(fn(&mut Settings) -> &mut u32),
    Int(fn(&mut Settings) -> &mut i64),
    OptionalCount(fn(&mut Settings) -> &mut Option<usize>),
    /// Two ints, the ends of a range.
    Range(fn(&mut Settings) -> &mut [u32; 2]),
    /// Floats, one for each method.
    Weights(fn(&mut Settings) -> &mut MethodWeights),
    /// A string, one of several names.
    Switch(Switch),
}

pub struct Switch {
    #[cfg_attr(not(test), expect(dead_code, reason = "prose of docs/op.md, which a test writes"))]
    pub names: fn() -> Vec<&'static str>,
    #[cfg_attr(not(test), expect(dead_code, reason = "prose of docs/op.md, which a test writes"))]
    pub get: fn(&Settings) -> &'static str,
    set: fn(&mut Settings, &str) -> miamix_core::Result<()>,
}

impl Attribute {
    const fn new(name: &'static CStr, doc: &'static str, field: Field) -> Self {
        Attribute { name, doc, field }
    }
}

/// The switch of a type that has `ALL`, `name` and `from_name`, kept in a field of the settings.
macro_rules! switch {
    ($type:ty, $name:literal, $($field:ident).+) => {
        Field::Switch(Switch {
            names: || <$type>::ALL.iter().map(|value| value.name()).collect(),
            get: |settings| settings.$($field).+.name(),
            set: |settings, name| {
                settings.$($field).+ = <$type>::from_name($name, name)?;
                Ok(())
            },
        })
    };
}

/// The attributes of both operators: the parameters of [`Config`], then what only a graph has.
pub static ATTRIBUTES: &[Attribute] = &[
    Attribute::new(c"alpha", "Dirichlet parameter, > 0", Field::Float(|s| &mut s.config.alpha)),
    Attribute::new(c"k_min", "fewest layers, 1 to `k_max`", Field::Count(|s| &mut s.config.k_min)),
    Attribute::new(c"k_max", "most layers, `k_min` to 8; uniform in between", Field::Count(|s| &mut s.config.k_max)),
    Attribute::new(
        c"method_weights",
        "relative odds of a layer's method: mixup, cutmix, fmix, gridmix, agmix, gmix; at least 0, not all 0",
        Field::Weights(|s| &mut s.config.method_weights),
    ),
    Attribute::new(c"p_apply", "probability that a sample is mixed at all", Field::Float(|s| &mut s.config.p_apply)),
    Attribute::new(
        c"p_self",
        "probability that a sample is mixed with itself (its other view)",
        Field::Float(|s| &mut s.config.p_self),
    ),
    Attribute::new(
        c"p_aug",
        "probability, per layer, of rotation and shear of its mask",
        Field::Float(|s| &mut s.config.p_aug),
    ),
    Attribute::new(
        c"p_smooth",
        "probability, per layer, of smoothing its mask",
        Field::Float(|s| &mut s.config.p_smooth),
    ),
    Attribute::new(
        c"merge",
        "how the masks of a sample's layers become one; `sum` is clipped to [0, 1]",
        switch!(Merge, "merge", config.merge),
    ),
    Attribute::new(
        c"label_weight",
        "`merged`: the mean of the merged mask; `drawn`: from the drawn ratios alone, Σλ under `sum`, 1 − Σλ under `product` (not with `keep`)",
        switch!(LabelWeight, "label_weight", config.label_weight),
    ),
    Attribute::new(
        c"lambda_reading",
        "`complement`: a layer gives the share λ to the partner; `keep`: it keeps λ",
        switch!(LambdaReading, "lambda_reading", config.lambda_reading),
    ),
    Attribute::new(
        c"gaussian_sigma",
        "width of the Gaussian of a share g: `paper`: σ² = g·H·W; `area`: σ² = g·H·W / 2π",
        switch!(GaussianSigma, "gaussian_sigma", config.gaussian_sigma),
    ),
    Attribute::new(
        c"pairing",
        "`permutation` of the batch, or `uniform` over it; `p_self` overrides",
        switch!(Pairing, "pairing", config.pairing),
    ),
    Attribute::new(
        c"cutmix_box",
        "`clipped`: centre anywhere, cut at the border; `inside`: the whole box inside the image",
        switch!(CutmixBox, "cutmix_box", config.cutmix_box),
    ),
    Attribute::new(
        c"grid_range",
        "gridmix: fewest and most cells a side, 1 to 16",
        Field::Range(|s| &mut s.config.grid_range),
    ),
    Attribute::new(c"decay_power", "fmix: decay of the spectrum, ≥ 2", Field::Float(|s| &mut s.config.decay_power)),
    Attribute::new(
        c"rotate_max_rad",
        "rotation of a mask, uniform in ± this, radians",
        Field::Float(|s| &mut s.config.rotate_max_rad),
    ),
    Attribute::new(
        c"shear_max",
        "horizontal shear of a mask, uniform in ± this, at most 1000",
        Field::Float(|s| &mut s.config.shear_max),
    ),
    Attribute::new(
        c"smooth_range_px",
        "smoothing window, uniform over the odd numbers in this range, pixels, 1 to 15",
        Field::Range(|s| &mut s.config.smooth_range_px),
    ),
    Attribute::new(
        c"p_flip",
        "built-in views: probability of a horizontal flip, drawn for primary and partner",
        Field::Float(|s| &mut s.config.p_flip),
    ),
    Attribute::new(
        c"pad_px",
        "built-in views: shift uniform in ± this after zero padding, pixels",
        Field::Count(|s| &mut s.config.pad_px),
    ),
    Attribute::new(
        c"label_smoothing",
        "ε of int64 labels: (1 − ε)·one-hot + ε/K",
        Field::Float(|s| &mut s.config.label_smoothing),
    ),
    Attribute::new(
        c"num_classes",
        "K; required for int64 labels; float labels are checked against it. MiAMixMasks has no use for it",
        Field::OptionalCount(|s| &mut s.num_classes),
    ),
    Attribute::new(c"layout", "order of the axes of images", switch!(Layout, "layout", layout)),
    Attribute::new(
        c"seed_offset",
        "added to `seed`, modulo 2⁶⁴: keeps two nodes that have the same seed apart",
        Field::Int(|s| &mut s.seed_offset),
    ),
];

/// The type of an input or an output.
#[derive(Clone, Copy)]
pub enum PortType {
    /// That of the images.
    T,
    /// That of the labels.
    L,
    Is(Element),
}

impl PortType {
    fn element(self, images: Dtype, labels: LabelKind) -> Element {
        match self {
            PortType::T => images.into(),
            PortType::L => match labels {
                LabelKind::Ids => Element::Int64,
                LabelKind::Soft => Element::Float,
            },
            PortType::Is(element) => element,
        }
    }
}

/// An input or an output.
pub struct Port {
    pub name: &'static str,
    pub element: PortType,
    #[cfg_attr(not(test), expect(dead_code, reason = "prose of docs/op.md, which a test writes"))]
    pub doc: &'static str,
}

/// An operator.
pub struct Schema {
    pub name: &'static CStr,
    #[cfg_attr(not(test), expect(dead_code, reason = "prose of docs/op.md, which a test writes"))]
    pub prose: Prose,
    pub inputs: &'static [Port],
    pub outputs: &'static [Port],
}

#[cfg_attr(not(test), expect(dead_code, reason = "prose of docs/op.md, which a test writes"))]
pub struct Prose {
    pub sentence: &'static str,
    pub formula: &'static str,
    /// Python that runs when the variable MIAMIX_LIBRARY is the path of the library.
    pub example: &'static str,
}

impl Schema {
    /// Element types of inputs and of outputs of one variant.
    pub fn elements(&self, images: Dtype, labels: LabelKind) -> [Vec<Element>; 2] {
        [self.inputs, self.outputs].map(|ports| ports.iter().map(|port| port.element.element(images, labels)).collect())
    }
}

/// The types of images, T.
pub const IMAGE_TYPES: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::U8];
/// The types of labels, L.
pub const LABEL_KINDS: [LabelKind; 2] = [LabelKind::Ids, LabelKind::Soft];

const SEED: Port = Port {
    name: "seed",
    element: PortType::Is(Element::Int64),
    doc: "scalar, [] or [1]; its 64 bits. Equal seeds draw equal plans on every machine and in every language",
};
const FIRST_SAMPLE: Port = Port {
    name: "first_sample",
    element: PortType::Is(Element::Int64),
    doc: "scalar; the global index of the batch's first sample. A running counter lets one seed serve a whole run",
};

pub static MIAMIX: Schema = Schema {
    name: c"MiAMix",
    prose: Prose {
        sentence: "Mixes each image of a batch with a partner under a mask that is drawn in several random stages, and \
                   the labels by the share of pixels that each image keeps.",
        formula: "\
mixed_images[i] = mask[i]·images[i] + (1 − mask[i])·partner_images[partner_index[i]]
mixed_labels[i] = w[i]·label[i] + (1 − w[i])·label[partner_index[i]],   w = label_weight
mask[i] = Π_j layer_mask[i, j], or clip(Σ_j layer_mask[i, j], 0, 1)",
        example: r#"import os

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

node = helper.make_node(
    "MiAMix",
    ["images", "images", "labels", "seed", "first_sample", "training_mode"],  # one view, given twice
    ["mixed_images", "mixed_labels", "label_weight", "partner_index"],
    name="mix",
    domain="ai.miamix",
    num_classes=10,
    k_max=3,
    p_flip=0.5,
)
inputs = [
    helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, "H", "W"]),
    helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]),
    helper.make_tensor_value_info("first_sample", TensorProto.INT64, []),
]
outputs = [
    helper.make_tensor_value_info("mixed_images", TensorProto.FLOAT, ["N", 3, "H", "W"]),
    helper.make_tensor_value_info("mixed_labels", TensorProto.FLOAT, ["N", 10]),
]
constants = [
    numpy_helper.from_array(np.array(42, np.int64), "seed"),
    numpy_helper.from_array(np.array(True), "training_mode"),
]
graph = helper.make_graph([node], "mixing", inputs, outputs, constants)
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.miamix", 1)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=8)

options = ort.SessionOptions()
options.register_custom_ops_library(os.environ["MIAMIX_LIBRARY"])
session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

images = np.random.default_rng(0).random((8, 3, 32, 32), np.float32)
labels = np.arange(8)
for step in range(3):
    feeds = {"images": images, "labels": labels, "first_sample": np.array(8 * step)}
    mixed_images, mixed_labels = session.run(None, feeds)
    assert mixed_images.shape == (8, 3, 32, 32)
    assert np.allclose(mixed_labels.sum(axis=1), 1)"#,
    },
    inputs: &[
        Port {
            name: "images",
            element: PortType::T,
            doc: "[N, C, H, W], or [N, H, W, C] with layout NHWC; primaries are read here",
        },
        Port {
            name: "partner_images",
            element: PortType::T,
            doc: "the same shape; partners are read here: the same batch under a second, independent augmentation, \
                  or `images` again",
        },
        Port {
            name: "labels",
            element: PortType::L,
            doc: "class ids [N] below `num_classes`, of which a negative one is ignored (a row of zeros), or rows \
                  [N, K]",
        },
        SEED,
        FIRST_SAMPLE,
        Port {
            name: "training_mode",
            element: PortType::Is(Element::Bool),
            doc: "scalar; false passes images through, labels one-hot without smoothing, weight 1, partner i",
        },
    ],
    outputs: &[
        Port { name: "mixed_images", element: PortType::T, doc: "the shape of `images`" },
        Port { name: "mixed_labels", element: PortType::Is(Element::Float), doc: "[N, K]" },
        Port {
            name: "label_weight",
            element: PortType::Is(Element::Float),
            doc: "[N]; what the primary's own label weighs in the mixed one",
        },
        Port {
            name: "partner_index",
            element: PortType::Is(Element::Int64),
            doc: "[N]; the sample of the batch that was mixed in",
        },
    ],
};

pub static MIAMIX_MASKS: Schema = Schema {
    name: c"MiAMixMasks",
    prose: Prose {
        sentence: "Renders the masks under which MiAMix mixes a batch of the same size, with the same seed, first \
                   sample and attributes.",
        formula: "masks[i, y, x] = mask[i] at pixel (x, y)",
        example: r#"import os

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

inputs = [
    helper.make_tensor_value_info("like", TensorProto.UINT8, ["N", "H", "W", 3]),
    helper.make_tensor_value_info("seed", TensorProto.INT64, []),
    helper.make_tensor_value_info("first_sample", TensorProto.INT64, []),
]
masks = helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["N", "H", "W"])
names = [tensor.name for tensor in inputs]
node = helper.make_node("MiAMixMasks", names, ["masks"], domain="ai.miamix", layout="NHWC")
graph = helper.make_graph([node], "masks", inputs, [masks])
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.miamix", 1)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=8)

options = ort.SessionOptions()
options.register_custom_ops_library(os.environ["MIAMIX_LIBRARY"])
session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

like = np.zeros((8, 24, 32, 3), np.uint8)
(masks,) = session.run(None, {"like": like, "seed": np.array(42), "first_sample": np.array(0)})
assert masks.shape == (8, 24, 32)
assert masks.min() >= 0 and masks.max() <= 1"#,
    },
    inputs: &[
        Port {
            name: "like",
            element: PortType::T,
            doc: "[N, C, H, W], or [N, H, W, C] with layout NHWC; only its shape is read",
        },
        SEED,
        FIRST_SAMPLE,
    ],
    outputs: &[Port {
        name: "masks",
        element: PortType::Is(Element::Float),
        doc: "[N, H, W]; 1 keeps the primary pixel",
    }],
};

impl Settings {
    /// Reads and checks the attributes of a node.
    pub fn read(node: &NodeInfo) -> Result<Self> {
        let mut settings = Settings::default();
        for attribute in ATTRIBUTES {
            attribute.read(node, &mut settings)?;
        }
        settings.config.validate().map_err(|error| Error::from(error).at("attribute "))?;
        Ok(settings)
    }
}

impl Attribute {
    fn read(&self, node: &NodeInfo, settings: &mut Settings) -> Result<()> {
        let name = self.name;
        match &self.field {
            Field::Float(field) => {
                if let Some(value) = node.float(name)? {
                    *field(settings) = value;
                }
            }
            Field::Count(field) => {
                if let Some(value) = node.int(name)? {
                    *field(settings) = self.count(value)?;
                }
            }
            Field::Int(field) => {
                if let Some(value) = node.int(name)? {
                    *field(settings) = value;
                }
            }
            Field::OptionalCount(field) => {
                if let Some(value) = node.int(name)? {
                    *field(settings) = Some(self.count(value)? as usize);
                }
            }
            Field::Range(field) => {
                if let Some(values) = node.ints(name)? {
                    let [lo, hi] = self.list(values, "2 ints, [lo, hi]")?;
                    *field(settings) = [self.count(lo)?, self.count(hi)?];
                }
            }
            Field::Weights(field) => {
                if let Some(values) = node.floats(name)? {
                    let rule = "6 floats, of mixup, cutmix, fmix, gridmix, agmix, gmix";
                    *field(settings) = self.list::<f32, 6>(values, rule)?.into();
                }
            }
            Field::Switch(switch) => {
                if let Some(value) = node.string(name)? {
                    (switch.set)(settings, &value).map_err(|error| Error::from(error).at("attribute "))?;
                }
            }
        }
        Ok(())
    }

    fn invalid(&self, rule: &str, got: impl std::fmt::Display) -> Error {
        Error::invalid(format!("attribute {}: must be {rule}, got {got}", self.name.to_string_lossy()))
    }

    fn count(&self, value: i64) -> Result<u32> {
        // Below 2³¹, as sizes in ONNX Runtime's own operators are.
        u32::try_from(value)
            .ok()
            .filter(|&count| count <= i32::MAX as u32)
            .ok_or_else(|| self.invalid("in 0..=2147483647", value))
    }

    fn list<T: std::fmt::Debug, const N: usize>(&self, values: Vec<T>, rule: &str) -> Result<[T; N]> {
        values.try_into().map_err(|values: Vec<T>| self.invalid(rule, format_args!("{values:?}")))
    }
}
