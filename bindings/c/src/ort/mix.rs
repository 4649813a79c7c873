//! MiAMix: mixes a batch.

use super::draw::{BatchLayout, DimRule, Drawer, check_dims, scalar};
use super::host::{Dim, Element, Error, NodeInfo, Operator, Result, RunContext, ShapeContext, Tensor};
use super::schema::{LabelKind, MIAMIX, SINCE_VERSION, Settings};
use miamix_core::{Batch, Dtype, Images, ImagesMut, Labels, Output};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};
use std::ffi::CStr;
use std::slice;

// Places in the schema.
const IMAGES: usize = 0;
const PARTNER_IMAGES: usize = 1;
const LABELS: usize = 2;
pub(super) const SEED: usize = 3;
pub(super) const FIRST_SAMPLE: usize = 4;
pub(super) const TRAINING_MODE: usize = 5;
const MIXED_IMAGES: usize = 0;
const MIXED_LABELS: usize = 1;
const LABEL_WEIGHT: usize = 2;
const PARTNER_INDEX: usize = 3;

/// MiAMix for one type of images and one of labels.
pub struct Mix {
    images: Dtype,
    labels: LabelKind,
    inputs: Vec<Element>,
    outputs: Vec<Element>,
}

impl Mix {
    pub fn new(images: Dtype, labels: LabelKind) -> Self {
        let [inputs, outputs] = MIAMIX.elements(images, labels);
        Mix { images, labels, inputs, outputs }
    }
}

pub struct MixKernel {
    pub drawer: Drawer,
    pub images: Dtype,
    pub labels: LabelKind,
    num_classes: Option<usize>,
}

/// The inputs and outputs of a run, their shapes checked; tensors lie where the node's provider has them.
pub struct Bound<'a> {
    pub layout: BatchLayout,
    pub seed: i64,
    pub first_sample: i64,
    pub training_mode: bool,
    /// K.
    pub n_classes: usize,
    pub labels: Tensor<'a>,
    pub mixed_labels: Tensor<'a>,
    pub label_weight: Tensor<'a>,
    pub partner_index: Tensor<'a>,
    images: Tensor<'a>,
    partner_images: Tensor<'a>,
    mixed_images: Tensor<'a>,
}

impl Operator for Mix {
    type Kernel = MixKernel;

    fn name(&self) -> &'static CStr {
        MIAMIX.name
    }

    fn since_version(&self) -> i32 {
        SINCE_VERSION
    }

    fn inputs(&self) -> &[Element] {
        &self.inputs
    }

    fn outputs(&self) -> &[Element] {
        &self.outputs
    }

    fn infer_shapes(&self, shapes: &ShapeContext) -> Result<()> {
        let (element, images) = shapes.input(IMAGES)?;
        let (_, partner_images) = shapes.input(PARTNER_IMAGES)?;
        let (label_element, labels) = shapes.input(LABELS)?;
        let [images, partner_images] = [images, partner_images].map(|dims| match dims.len() {
            0 => Some(vec![Dim::Unknown; 4]),
            4 => Some(dims),
            _ => None, // an error that `create` reports better than the host would
        });
        let (Some(element), Some(images), Some(partner_images)) = (element, images, partner_images) else {
            return Ok(());
        };
        let mut mixed: Vec<Dim> = images.iter().zip(&partner_images).map(|(a, b)| a.or(b)).collect();
        let label_dim = |axis: usize| labels.get(axis).cloned().unwrap_or(Dim::Unknown);
        mixed[0] = mixed[0].or(&label_dim(0)).or_fresh();
        let n_samples = mixed[0].clone();
        let num_classes = shapes.int_attribute(c"num_classes").map_or(Dim::Unknown, Dim::Fixed);
        let n_classes = match label_element {
            Some(Element::Float) => label_dim(1).or(&num_classes),
            _ => num_classes,
        };
        shapes.set_output(MIXED_IMAGES, element, &mixed)?;
        shapes.set_output(MIXED_LABELS, Element::Float, &[n_samples.clone(), n_classes])?;
        shapes.set_output(LABEL_WEIGHT, Element::Float, slice::from_ref(&n_samples))?;
        shapes.set_output(PARTNER_INDEX, Element::Int64, slice::from_ref(&n_samples))
    }

    fn create(&self, node: &NodeInfo) -> Result<MixKernel> {
        let settings = Settings::read(node)?;
        if self.labels == LabelKind::Ids && settings.num_classes.is_none() {
            let rule = "must be given where labels are class ids (int64)";
            return Err(Error::invalid(format!("attribute num_classes: {rule}, got none")));
        }
        let kernel = MixKernel {
            drawer: Drawer::new(&settings)?,
            images: self.images,
            labels: self.labels,
            num_classes: settings.num_classes,
        };
        let images = DimRule::Images(settings.layout);
        let scalar = DimRule::Scalar;
        check_dims(node, &MIAMIX, &[images, images, kernel.label_rule(), scalar, scalar, scalar])?;
        Ok(kernel)
    }

    fn compute(kernel: &MixKernel, run: &RunContext) -> Result<()> {
        let mut bound = kernel.bind(run)?;
        let (images, partner_images, mixed_images) = bound.images(kernel.images)?;
        let rows = (bound.layout.samples, bound.n_classes);
        // SAFETY: of the types of the schema, in CPU memory; nobody writes an input, nobody else the outputs.
        let (labels, mixed_labels) = unsafe {
            let labels = match kernel.labels {
                LabelKind::Ids => Labels::ids(ArrayView1::from(bound.labels.as_slice()), bound.n_classes),
                LabelKind::Soft => {
                    let rows = ArrayView2::from_shape(rows, bound.labels.as_slice());
                    Labels::soft(rows.map_err(|_| kernel.bad_labels(&bound.labels))?)
                }
            };
            let mixed_labels = ArrayViewMut2::from_shape(rows, bound.mixed_labels.as_mut_slice());
            (labels, mixed_labels.expect("the host made it of this shape"))
        };
        let batch = Batch { images, partner_images, labels };
        let output = Output {
            images: mixed_images,
            labels: Some(mixed_labels),
            // SAFETY: as above.
            label_weight: Some(unsafe { bound.label_weight.as_mut_slice() }),
            // SAFETY: as above.
            partner_index: Some(unsafe { bound.partner_index.as_mut_slice() }),
        };
        let op = &kernel.drawer.op;
        if bound.training_mode {
            kernel.drawer.with_plan(bound.layout.batch(), bound.seed, bound.first_sample, |plan| {
                op.apply_on(&run.threads(), plan, batch, output)
            })
        } else {
            Ok(op.pass_through_on(&run.threads(), batch, output)?)
        }
    }
}

impl MixKernel {
    /// Reads the scalars, checks every shape, and has the host make room for the results.
    pub fn bind<'a>(&self, run: &'a RunContext) -> Result<Bound<'a>> {
        let dtype = self.images;
        let [images_name, partner_name, labels_name] =
            [IMAGES, PARTNER_IMAGES, LABELS].map(|index| MIAMIX.inputs[index].name);
        let images = run.input(IMAGES, images_name, dtype.size())?;
        let partner_images = run.input(PARTNER_IMAGES, partner_name, dtype.size())?;
        let label_size = match self.labels {
            LabelKind::Ids => size_of::<i64>(),
            LabelKind::Soft => size_of::<f32>(),
        };
        let labels = run.input(LABELS, labels_name, label_size)?;
        // SAFETY: the types of the schema, which the host has matched, in CPU memory.
        let (seed, first_sample, training_mode) = unsafe {
            let training_mode: u8 = scalar(run, &MIAMIX, TRAINING_MODE)?;
            (scalar(run, &MIAMIX, SEED)?, scalar(run, &MIAMIX, FIRST_SAMPLE)?, training_mode != 0)
        };

        let layout = BatchLayout::new(images_name, &images.shape, self.drawer.layout)?;
        if partner_images.shape != images.shape {
            // Here, as the core would name the axes in its own order.
            let expected = format!("{:?}", layout.compact);
            return Err(miamix_core::Error::shape(partner_name, expected, &partner_images.shape).into());
        }
        let n_samples = layout.samples;
        let n_classes = match (self.labels, &*labels.shape) {
            (LabelKind::Ids, [_]) => self.num_classes.expect("checked when the kernel was made"),
            (LabelKind::Soft, &[_, k]) if self.num_classes.is_none_or(|num_classes| num_classes == k) => k,
            _ => return Err(self.bad_labels(&labels)),
        };
        if labels.shape[0] != n_samples {
            let expected = match self.labels {
                LabelKind::Ids => format!("[{n_samples}]"),
                LabelKind::Soft => format!("[{n_samples}, K]"),
            };
            return Err(miamix_core::Error::shape(labels_name, expected, &labels.shape).into());
        }

        let [mixed_images_name, mixed_labels_name, label_weight_name, partner_index_name] =
            [MIXED_IMAGES, MIXED_LABELS, LABEL_WEIGHT, PARTNER_INDEX].map(|index| MIAMIX.outputs[index].name);
        Ok(Bound {
            seed,
            first_sample,
            training_mode,
            n_classes,
            images,
            partner_images,
            labels,
            mixed_images: run.output(MIXED_IMAGES, mixed_images_name, layout.compact)?,
            mixed_labels: run.output(MIXED_LABELS, mixed_labels_name, [n_samples, n_classes])?,
            label_weight: run.output(LABEL_WEIGHT, label_weight_name, [n_samples])?,
            partner_index: run.output(PARTNER_INDEX, partner_index_name, [n_samples])?,
            layout,
        })
    }

    fn bad_labels(&self, labels: &Tensor<'_>) -> Error {
        miamix_core::Error::shape(MIAMIX.inputs[LABELS].name, self.label_rule().text(), &labels.shape).into()
    }

    fn label_rule(&self) -> DimRule {
        match self.labels {
            LabelKind::Ids => DimRule::Ids,
            LabelKind::Soft => DimRule::Rows(self.num_classes),
        }
    }
}

impl<'a> Bound<'a> {
    /// Primaries, partners, and where mixed images go.
    pub fn images(&self, dtype: Dtype) -> Result<(Images<'a>, Images<'a>, ImagesMut<'a>)> {
        let (shape, strides) = (self.layout.shape(), self.layout.strides());
        let [images, partner_images] = [IMAGES, PARTNER_IMAGES].map(|index| MIAMIX.inputs[index].name);
        // SAFETY: tensors of this type, shape and strides, aligned, alive for the run; nobody else writes the output
        // or any input.
        unsafe {
            Ok((
                Images::from_raw(images, self.images.data, dtype, shape, strides)?,
                Images::from_raw(partner_images, self.partner_images.data, dtype, shape, strides)?,
                ImagesMut::from_raw(MIAMIX.outputs[MIXED_IMAGES].name, self.mixed_images.data, dtype, shape, strides)?,
            ))
        }
    }
}
