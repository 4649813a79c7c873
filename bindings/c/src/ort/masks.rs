//! MiAMixMasks: renders the masks that MiAMix mixes under.

use super::draw::{BatchLayout, DimRule, Drawer, check_dims, scalar};
use super::host::{Dim, Element, NodeInfo, Operator, Result, RunContext, ShapeContext, Tensor};
use super::schema::{LabelKind, Layout, MIAMIX_MASKS, SINCE_VERSION, Settings};
use miamix_core::{BatchShape, Dtype};
use ndarray::ArrayViewMut3;
use std::ffi::CStr;

// Places in the schema.
const LIKE: usize = 0;
pub(super) const SEED: usize = 1;
pub(super) const FIRST_SAMPLE: usize = 2;
const MASKS: usize = 0;

/// MiAMixMasks for one type of images.
pub struct Masks {
    inputs: Vec<Element>,
    outputs: Vec<Element>,
}

impl Masks {
    pub fn new(images: Dtype) -> Self {
        let [inputs, outputs] = MIAMIX_MASKS.elements(images, LabelKind::Ids);
        Masks { inputs, outputs }
    }
}

impl Operator for Masks {
    type Kernel = Drawer;

    fn name(&self) -> &'static CStr {
        MIAMIX_MASKS.name
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
        let is_nhwc = shapes.attribute_is(c"layout", Layout::Nhwc.name());
        let dims = match &*shapes.input(LIKE)?.1 {
            [] => vec![Dim::Unknown; 3],
            [n, h, w, _] if is_nhwc => vec![n.clone(), h.clone(), w.clone()],
            [n, _, h, w] => vec![n.clone(), h.clone(), w.clone()],
            _ => return Ok(()), // an error that `create` reports better than the host would
        };
        shapes.set_output(MASKS, Element::Float, &dims)
    }

    fn create(&self, node: &NodeInfo) -> Result<Drawer> {
        let settings = Settings::read(node)?;
        check_dims(node, &MIAMIX_MASKS, &[DimRule::Images(settings.layout), DimRule::Scalar, DimRule::Scalar])?;
        Drawer::new(&settings)
    }

    fn compute(drawer: &Drawer, run: &RunContext) -> Result<()> {
        let mut bound = bind(drawer, run)?;
        let BatchShape { samples, height, width } = bound.batch;
        // SAFETY: the host made it for this run, of this type, in CPU memory.
        let masks = ArrayViewMut3::from_shape((samples, height, width), unsafe { bound.masks.as_mut_slice::<f32>() })
            .expect("the host made it of this shape");
        drawer.with_plan(bound.batch, bound.seed, bound.first_sample, |plan| {
            drawer.op.masks_on(&run.threads(), plan, Some(masks), None)
        })
    }
}

/// What a run draws, and where its masks go.
pub struct Bound<'a> {
    pub batch: BatchShape,
    pub seed: i64,
    pub first_sample: i64,
    pub masks: Tensor<'a>,
}

/// Reads the scalars, checks the shape, and has the host make room for the masks.
pub fn bind<'a>(drawer: &Drawer, run: &'a RunContext) -> Result<Bound<'a>> {
    let [like_name, masks_name] = [MIAMIX_MASKS.inputs[LIKE].name, MIAMIX_MASKS.outputs[MASKS].name];
    // Its elements are not read.
    let like = run.input(LIKE, like_name, 1)?;
    let batch = BatchLayout::new(like_name, &like.shape, drawer.layout)?.batch();
    // SAFETY: the types of the schema, which the host has matched, in CPU memory.
    let (seed, first_sample) =
        unsafe { (scalar(run, &MIAMIX_MASKS, SEED)?, scalar(run, &MIAMIX_MASKS, FIRST_SAMPLE)?) };
    let masks = run.output(MASKS, masks_name, [batch.samples, batch.height, batch.width])?;
    Ok(Bound { batch, seed, first_sample, masks })
}
