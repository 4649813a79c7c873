//! MiAMix: mixes a batch.

use super::draw::{BatchLayout, DimRule, Drawer, check_dims, scalar};
use super::host::{Dim, Element, Error, NodeInfo, Operator, Result, RunContext, ShapeContext};
use super::schema::{LabelKind, MIAMIX, SINCE_VERSION, Settings};
use miamix_core::{Batch, Dtype, Images, ImagesMut, Labels, Output};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};
use std::ffi::CStr;

// Places in the schema.
const IMAGES: usize = 0;
const PARTNER_IMAGES: usize = 1;
const LABELS: usize = 2;
const SEED: usize = 3;
const FIRST_SAMPLE: usize = 4;
const TRAINING_MODE: usize = 5;
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
    drawer: Drawer,
    images: Dtype,
    labels: LabelKind,
    num_classes: Option<usize>,
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
        shapes.set_output(LABEL_WEIGHT, Element::Float, std::slice::from_ref(&n_samples))?;
        shapes.set_output(PARTNER_INDEX, Element::Int64, &[n_samples])
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
        let MixKernel { drawer, images: dtype, labels: label_kind, num_classes } = kernel;
        let [images_name, partner_name, labels_name] =
            [IMAGES, PARTNER_IMAGES, LABELS].map(|index| MIAMIX.inputs[index].name);
        let images = run.input(IMAGES, images_name, dtype.size())?;
        let partner_images = run.input(PARTNER_IMAGES, partner_name, dtype.size())?;
        let label_size = match label_kind {
            LabelKind::Ids => size_of::<i64>(),
            LabelKind::Soft => size_of::<f32>(),
        };
        let labels = run.input(LABELS, labels_name, label_size)?;
        // SAFETY: the types of the schema, which the host has matched.
        let (seed, first_sample, training_mode) = unsafe {
            let training_mode: u8 = scalar(run, &MIAMIX, TRAINING_MODE)?;
            (scalar(run, &MIAMIX, SEED)?, scalar(run, &MIAMIX, FIRST_SAMPLE)?, training_mode != 0)
        };

        let layout = BatchLayout::new(images_name, &images.shape, drawer.layout)?;
        if partner_images.shape != images.shape {
            // Here, as the core would name the axes in its own order.
            let expected = format!("{:?}", images.shape);
            return Err(miamix_core::Error::shape(partner_name, expected, &partner_images.shape).into());
        }
        let n_samples = layout.samples;
        let bad_labels = || miamix_core::Error::shape(labels_name, kernel.label_rule().text(), &labels.shape);
        let (labels, n_classes) = match (label_kind, &*labels.shape) {
            (LabelKind::Ids, &[n]) => {
                // SAFETY: the type of the schema; nobody writes an input.
                let ids = ArrayView1::from(unsafe { labels.as_slice::<i64>() });
                debug_assert_eq!(ids.len(), n);
                let n_classes = num_classes.expect("checked when the kernel was made");
                (Labels::ids(ids, n_classes), n_classes)
            }
            (LabelKind::Soft, &[n, k]) if num_classes.is_none_or(|num_classes| num_classes == k) => {
                // SAFETY: as above.
                let rows = ArrayView2::from_shape((n, k), unsafe { labels.as_slice::<f32>() });
                (Labels::soft(rows.map_err(|_| bad_labels())?), k)
            }
            _ => return Err(bad_labels().into()),
        };

        let [mixed_images_name, mixed_labels_name, label_weight_name, partner_index_name] =
            [MIXED_IMAGES, MIXED_LABELS, LABEL_WEIGHT, PARTNER_INDEX].map(|index| MIAMIX.outputs[index].name);
        let mixed_images = run.output(MIXED_IMAGES, mixed_images_name, &images.shape)?;
        let mut mixed_labels = run.output(MIXED_LABELS, mixed_labels_name, &[n_samples, n_classes])?;
        let mut label_weight = run.output(LABEL_WEIGHT, label_weight_name, &[n_samples])?;
        let mut partner_index = run.output(PARTNER_INDEX, partner_index_name, &[n_samples])?;

        let (shape, strides) = (layout.shape(), layout.strides());
        // SAFETY: tensors of these types, shapes and strides, aligned, alive for the run; nobody else writes the
        // outputs or any input.
        let (batch, output) = unsafe {
            let batch = Batch {
                images: Images::from_raw(images_name, images.data, *dtype, shape, strides)?,
                partner_images: Images::from_raw(partner_name, partner_images.data, *dtype, shape, strides)?,
                labels,
            };
            let mixed_labels = mixed_labels.as_mut_slice();
            let output = Output {
                images: ImagesMut::from_raw(mixed_images_name, mixed_images.data, *dtype, shape, strides)?,
                labels: Some(
                    ArrayViewMut2::from_shape((n_samples, n_classes), mixed_labels)
                        .expect("the host made it of this shape"),
                ),
                label_weight: Some(label_weight.as_mut_slice()),
                partner_index: Some(partner_index.as_mut_slice()),
            };
            (batch, output)
        };
        if training_mode {
            drawer.with_plan(layout.batch(), seed, first_sample, |plan| {
                drawer.op.apply_on(&run.threads(), plan, batch, output)
            })
        } else {
            Ok(drawer.op.pass_through_on(&run.threads(), batch, output)?)
        }
    }
}

impl MixKernel {
    fn label_rule(&self) -> DimRule {
        match self.labels {
            LabelKind::Ids => DimRule::Ids,
            LabelKind::Soft => DimRule::Rows(self.num_classes),
        }
    }
}
