//! The operators on the CUDA execution provider: tensors in device memory, work on the host's stream.
//!
//! ```text
//! images, partner_images, labels, outputs   on the device
//! seed, first_sample, training_mode         in CPU memory, as a plan is drawn there
//! ```
//!
//! Not yet confirmed on hardware: tested against a stand-in table of ONNX Runtime's functions and a stand-in driver.

use super::host::{Element, NodeInfo, Operator, Result, RunContext, ShapeContext};
use super::masks::{self, Masks};
use super::mix::{self, Mix, MixKernel};
use super::schema::LabelKind;
use miamix_core::{CudaStream, DeviceBatch, DeviceLabels, DeviceOutput, PlanSource, check_cuda_labels, cuda_available};
use std::ffi::CStr;
use std::ptr::null_mut;

/// An operator that runs on a CUDA device, too.
pub trait OnDevice: Operator {
    /// Inputs that are read in CPU memory.
    const CPU_INPUTS: &'static [usize];

    /// Puts the work of a node on a stream.
    fn launch(kernel: &Self::Kernel, run: &RunContext, stream: CudaStream) -> Result<()>;
}

/// The variant of an operator for CUDA.
pub struct Cuda<O>(pub O);

impl<O: OnDevice> Operator for Cuda<O> {
    type Kernel = O::Kernel;

    fn name(&self) -> &'static CStr {
        self.0.name()
    }

    fn since_version(&self) -> i32 {
        self.0.since_version()
    }

    fn inputs(&self) -> &[Element] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[Element] {
        self.0.outputs()
    }

    fn provider(&self) -> Option<&'static CStr> {
        Some(c"CUDAExecutionProvider")
    }

    fn cpu_inputs(&self) -> &'static [usize] {
        O::CPU_INPUTS
    }

    fn infer_shapes(&self, shapes: &ShapeContext) -> Result<()> {
        self.0.infer_shapes(shapes)
    }

    fn create(&self, node: &NodeInfo) -> Result<O::Kernel> {
        cuda_available()?; // where it is not, the session says so, not its first run
        self.0.create(node)
    }

    fn compute(kernel: &O::Kernel, run: &RunContext) -> Result<()> {
        O::launch(kernel, run, CudaStream(run.gpu_stream()?))
    }
}

impl OnDevice for Mix {
    const CPU_INPUTS: &'static [usize] = &[mix::SEED, mix::FIRST_SAMPLE, mix::TRAINING_MODE];

    fn launch(kernel: &MixKernel, run: &RunContext, stream: CudaStream) -> Result<()> {
        if kernel.labels == LabelKind::Ids {
            // SAFETY: the host's stream. What an earlier run met: ids on the device are not looked at before.
            unsafe { check_cuda_labels(stream) }?;
        }
        let bound = kernel.bind(run)?;
        let (images, partner_images, mixed_images) = bound.images(kernel.images)?;
        let n_classes = bound.n_classes;
        let labels = match kernel.labels {
            LabelKind::Ids => DeviceLabels::Ids { data: bound.labels.data.cast(), stride: 1, n_classes },
            LabelKind::Soft => {
                let strides = [n_classes as isize, 1];
                DeviceLabels::Soft { data: bound.labels.data.cast(), strides, n_classes }
            }
        };
        let batch = DeviceBatch { images, partner_images, labels };
        let output = DeviceOutput {
            images: mixed_images,
            labels: bound.mixed_labels.data.cast(),
            label_strides: [n_classes as isize, 1],
            label_weight: bound.label_weight.data.cast(),
            partner_index: bound.partner_index.data.cast(),
            bad_label: null_mut(), // where the next run looks
        };
        let op = &kernel.drawer.op;
        if bound.training_mode {
            kernel.drawer.with_plan(bound.layout.batch(), bound.seed, bound.first_sample, |plan| {
                // SAFETY: the host's stream, and tensors of the shapes checked, which the host keeps in its order.
                unsafe { op.apply_cuda(PlanSource::Host(plan), batch, output, None, stream) }
            })
        } else {
            // SAFETY: as above.
            Ok(unsafe { op.pass_through_cuda(batch, output, None, stream) }?)
        }
    }
}

impl OnDevice for Masks {
    const CPU_INPUTS: &'static [usize] = &[masks::SEED, masks::FIRST_SAMPLE];

    fn launch(drawer: &Self::Kernel, run: &RunContext, stream: CudaStream) -> Result<()> {
        let bound = masks::bind(drawer, run)?;
        drawer.with_plan(bound.batch, bound.seed, bound.first_sample, |plan| {
            let masks = bound.masks.data.cast();
            // SAFETY: the host's stream, and memory of the plan's shape, which the host keeps in its order.
            unsafe { drawer.op.masks_cuda(PlanSource::Host(plan), masks, null_mut(), None, stream) }
        })
    }
}

#[cfg(test)]
mod tests;
