//! MiAMixMasks: renders the masks that MiAMix mixes under.

use super::draw::{BatchLayout, DimRule, Drawer, check_dims, scalar};
use super::host::{Dim, Element, NodeInfo, Operator, Result, RunContext, ShapeContext};
use super::schema::{LabelKind, Layout, MIAMIX_MASKS, SINCE_VERSION, Settings};
use miamix_core::Dtype;
use ndarray::ArrayViewMut3;
use std::ffi::CStr;

// Places in the schema.
const LIKE: usize = 0;
const SEED: usize = 1;
const FIRST_SAMPLE: usize = 2;
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
        // Its elements are not read.
        let like = run.input(LIKE, MIAMIX_MASKS.inputs[LIKE].name, 1)?;
        let BatchLayout { samples, height, width, .. } =
            BatchLayout::new(MIAMIX_MASKS.inputs[LIKE].name, &like.shape, drawer.layout)?;
        // SAFETY: the types of the schema, which the host has matched.
        let (seed, first_sample) =
            unsafe { (scalar(run, &MIAMIX_MASKS, SEED)?, scalar(run, &MIAMIX_MASKS, FIRST_SAMPLE)?) };
        let shape = [samples, height, width];
        let mut masks = run.output(MASKS, MIAMIX_MASKS.outputs[MASKS].name, &shape)?;
        // SAFETY: the host made it for this run, of this type.
        let masks = ArrayViewMut3::from_shape(shape, unsafe { masks.as_mut_slice::<f32>() })
            .expect("the host made it of this shape");
        let batch = miamix_core::BatchShape::new(samples, height, width);
        drawer.with_plan(batch, seed, first_sample, |plan| drawer.op.masks_on(&run.threads(), plan, Some(masks), None))
    }
}
