//! What the operators share: from the inputs of a node to a plan.

use super::host::{Dim, Error, NodeInfo, Result, RunContext, Tensor};
use super::schema::{Layout, Schema, Settings};
use miamix_core::{BatchShape, MiaMix, Plan};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The operator of a node, and a plan whose memory is used again.
pub struct Drawer {
    pub op: MiaMix,
    pub layout: Layout,
    seed_offset: i64,
    /// Runs at the same time find it taken, and draw into plans of their own.
    spare: AtomicPtr<Plan>,
}

impl Drawer {
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Drawer {
            op: MiaMix::new(settings.config.clone())?,
            layout: settings.layout,
            seed_offset: settings.seed_offset,
            spare: AtomicPtr::new(ptr::null_mut()),
        })
    }

    /// Draws a plan and gives it to `body`.
    pub fn with_plan(
        &self,
        shape: BatchShape,
        seed: i64,
        first_sample: i64,
        body: impl FnOnce(&Plan) -> miamix_core::Result<()>,
    ) -> Result<()> {
        // Signed numbers carry the bits of the unsigned ones.
        let (seed, first_sample) = (seed.wrapping_add(self.seed_offset) as u64, first_sample as u64);
        let plan = match self.take_spare() {
            None => Box::new(self.op.draw(shape, seed, first_sample)?),
            Some(mut plan) => {
                self.op.draw_into(shape, seed, first_sample, &mut plan)?;
                plan
            }
        };
        let result = body(&plan);
        self.keep(Some(plan));
        Ok(result?)
    }

    fn take_spare(&self) -> Option<Box<Plan>> {
        let plan = self.spare.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: put there by `keep`, and taken by nobody else.
        (!plan.is_null()).then(|| unsafe { Box::from_raw(plan) })
    }

    fn keep(&self, plan: Option<Box<Plan>>) {
        let old = self.spare.swap(plan.map_or(ptr::null_mut(), Box::into_raw), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(old) });
        }
    }
}

impl Drop for Drawer {
    fn drop(&mut self) {
        self.keep(None);
    }
}

/// Extents of a batch, and the strides of its images, in elements.
pub struct BatchLayout {
    pub samples: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    strides: [usize; 4],
}

impl BatchLayout {
    /// From the shape of a compact tensor, given to the operator as `name`.
    pub fn new(name: &str, shape: &[usize], layout: Layout) -> Result<Self> {
        let &[n, a, b, c] = shape else {
            return Err(miamix_core::Error::shape(name, layout.axes(), shape).into());
        };
        // Where there is no element extents may be of any size.
        let product = usize::saturating_mul;
        Ok(match layout {
            Layout::Nchw => {
                let strides = [product(product(a, b), c), product(b, c), c, 1];
                BatchLayout { samples: n, channels: a, height: b, width: c, strides }
            }
            Layout::Nhwc => {
                let strides = [product(product(a, b), c), 1, product(b, c), c];
                BatchLayout { samples: n, channels: c, height: a, width: b, strides }
            }
        })
    }

    pub fn batch(&self) -> BatchShape {
        BatchShape::new(self.samples, self.height, self.width)
    }

    /// [N, C, H, W].
    pub fn shape(&self) -> [usize; 4] {
        [self.samples, self.channels, self.height, self.width]
    }

    /// In elements, of the same axes.
    pub fn strides(&self) -> [isize; 4] {
        self.strides.map(|stride| isize::try_from(stride).unwrap_or(isize::MAX))
    }
}

/// Reads an input that holds one element, of shape [] or [1].
///
/// # Safety
/// The input is of type T, any bits of which are a value.
pub unsafe fn scalar<T: Copy>(run: &RunContext, schema: &Schema, index: usize) -> Result<T> {
    let name = schema.inputs[index].name;
    let tensor: Tensor = run.input(index, name, align_of::<T>())?;
    match *tensor.shape {
        // SAFETY: the caller's promise; nobody writes an input.
        [] | [1] => Ok(unsafe { tensor.as_slice() }[0]),
        _ => Err(miamix_core::Error::shape(name, "[] or [1]", &tensor.shape).into()),
    }
}

/// Checks the declared shapes of the inputs, as far as the model has them, by the rule for each of them.
pub fn check_dims(node: &NodeInfo, schema: &Schema, rules: &[DimRule]) -> Result<()> {
    for (index, (port, rule)) in schema.inputs.iter().zip(rules).enumerate() {
        let dims = node.input_dims(index)?;
        // An unknown shape looks like that of a scalar.
        if !dims.is_empty() && !rule.allows(&dims) {
            let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
            let message = format!("{}: expected shape {}, got [{}]", port.name, rule.text(), dims.join(", "));
            return Err(Error::invalid(message));
        }
    }
    Ok(())
}

/// The shape that an input must have.
#[derive(Clone, Copy)]
pub enum DimRule {
    Images(Layout),
    Scalar,
    /// [N].
    Ids,
    /// [N, K], of the K given.
    Rows(Option<usize>),
}

impl DimRule {
    fn allows(self, dims: &[Dim]) -> bool {
        match self {
            DimRule::Images(_) => dims.len() == 4,
            DimRule::Scalar => matches!(dims, [Dim::Fixed(1) | Dim::Named(_) | Dim::Unknown]),
            DimRule::Ids => dims.len() == 1,
            DimRule::Rows(num_classes) => match (dims, num_classes) {
                ([_, Dim::Fixed(k)], Some(num_classes)) => *k == num_classes as i64,
                _ => dims.len() == 2,
            },
        }
    }

    /// The rule as messages give it.
    pub fn text(self) -> String {
        match self {
            DimRule::Images(layout) => layout.axes().to_owned(),
            DimRule::Scalar => "[] or [1]".to_owned(),
            DimRule::Ids => "[N]".to_owned(),
            DimRule::Rows(None) => "[N, K]".to_owned(),
            DimRule::Rows(Some(num_classes)) => format!("[N, {num_classes}]"),
        }
    }
}
