//! Calls on tensors in CUDA memory. No header chapter: their functions are those for CPU memory.

use super::apply::{Inputs, Outputs};
use super::boundary::Result;
use super::tensor::Tensor;
use miamix_core::{MiaMix, Plan};
use std::ffi::c_void;

#[cfg(not(feature = "cuda"))]
mod absent {
    use super::*;

    // Without the engine no tensor on a CUDA device gets past `Tensor::read`.
    pub(in super::super) unsafe fn apply(
        _: &MiaMix,
        _: &Plan,
        _: &Inputs<'_>,
        _: &Outputs<'_>,
        _: *mut c_void,
    ) -> Result<()> {
        unreachable!("refused before")
    }
    pub(in super::super) unsafe fn apply_maps(
        _: &MiaMix,
        _: &Plan,
        _: &Tensor<'_>,
        _: &Tensor<'_>,
        _: &Tensor<'_>,
        _: *mut c_void,
    ) -> Result<()> {
        unreachable!("refused before")
    }
    pub(in super::super) unsafe fn masks(
        _: &MiaMix,
        _: &Plan,
        _: Option<&Tensor<'_>>,
        _: Option<&Tensor<'_>>,
        _: *mut c_void,
    ) -> Result<()> {
        unreachable!("refused before")
    }
}

#[cfg(not(feature = "cuda"))]
pub(super) use absent::{apply, apply_maps, masks};
#[cfg(feature = "cuda")]
pub(super) use present::{apply, apply_maps, masks};

#[cfg(feature = "cuda")]
mod present {
    use super::super::tensor::{INT32, INT64};
    use super::*;
    use miamix_core::{CudaStream, DeviceBatch, DeviceLabels, DeviceOutput, Error, PlanSource};
    use std::ptr::null_mut;

    /// [`super::super::apply::miamix_apply`].
    ///
    /// # Safety
    /// The memory is there, and the stream is live.
    pub(in super::super) unsafe fn apply(
        op: &MiaMix,
        plan: &Plan,
        inputs: &Inputs<'_>,
        outputs: &Outputs<'_>,
        stream: *mut c_void,
    ) -> Result<()> {
        let n = plan.shape().samples;
        let (labels, n_classes) = labels(inputs, n)?;
        let mixed_labels = outputs.mixed_labels.as_ref().map(|mixed| mixed.axes("[N, K]")).transpose()?;
        if let (Some((shape, _)), Some(mixed)) = (mixed_labels, &outputs.mixed_labels) {
            check_shape(mixed, [n, n_classes], shape)?;
        }
        let batch = DeviceBatch {
            images: inputs.images.images()?,
            partner_images: inputs.partner_images.as_ref().unwrap_or(&inputs.images).images()?,
            labels,
        };
        let output = DeviceOutput {
            images: unsafe { outputs.mixed_images.images_mut() }?,
            // An empty table is none.
            labels: outputs.mixed_labels.filter(|_| n_classes > 0).map_or(null_mut(), |mixed| mixed.address().cast()),
            label_strides: mixed_labels.map_or([0; 2], |(_, strides)| strides),
            label_weight: vector(outputs.label_weight.as_ref(), n)?.cast(),
            partner_index: vector(outputs.partner_index.as_ref(), n)?.cast(),
            bad_label: null_mut(),
        };
        Ok(unsafe { op.apply_cuda(PlanSource::Host(plan), batch, output, None, CudaStream(stream)) }?)
    }

    /// [`super::super::apply::miamix_apply_maps`].
    ///
    /// # Safety
    /// As [`apply`].
    pub(in super::super) unsafe fn apply_maps(
        op: &MiaMix,
        plan: &Plan,
        maps: &Tensor<'_>,
        partner_maps: &Tensor<'_>,
        mixed_maps: &Tensor<'_>,
        stream: *mut c_void,
    ) -> Result<()> {
        let (maps, partner_maps, mixed_maps) = (maps.maps()?, partner_maps.maps()?, unsafe { mixed_maps.maps_mut() }?);
        let (plan, stream) = (PlanSource::Host(plan), CudaStream(stream));
        Ok(unsafe { op.apply_maps_cuda(plan, maps, partner_maps, mixed_maps, None, stream) }?)
    }

    /// [`super::super::apply::miamix_masks`].
    ///
    /// # Safety
    /// As [`apply`].
    pub(in super::super) unsafe fn masks(
        op: &MiaMix,
        plan: &Plan,
        masks: Option<&Tensor<'_>>,
        label_weight: Option<&Tensor<'_>>,
        stream: *mut c_void,
    ) -> Result<()> {
        let shape = plan.shape();
        if let Some(masks) = masks {
            check_shape(masks, [shape.samples, shape.height, shape.width], masks.axes("[N, H, W]")?.0)?;
            masks.check_compact()?;
        }
        let address = masks.map_or(null_mut(), |masks| masks.address().cast());
        let label_weight = vector(label_weight, shape.samples)?.cast();
        Ok(unsafe { op.masks_cuda(PlanSource::Host(plan), address, label_weight, None, CudaStream(stream)) }?)
    }

    /// The labels, and K.
    fn labels(inputs: &Inputs<'_>, n: usize) -> Result<(DeviceLabels, usize)> {
        let Some(labels) = &inputs.labels else {
            if inputs.num_classes != 0 {
                let rule = "must be 0 where there are no labels";
                return Err(Error::invalid("num_classes", rule, inputs.num_classes).into());
            }
            return Ok((DeviceLabels::None, 0));
        };
        let n_classes = inputs.num_classes;
        if labels.dtype() == INT64 || labels.dtype() == INT32 {
            let (shape, [stride]) = labels.axes("[N]")?;
            check_shape(labels, [n], shape)?;
            let data = labels.address();
            let labels = if labels.dtype() == INT64 {
                DeviceLabels::Ids { data: data.cast(), stride, n_classes }
            } else {
                DeviceLabels::Ids32 { data: data.cast(), stride, n_classes }
            };
            return Ok((labels, n_classes));
        }
        let ([rows, columns], strides) = labels.axes("[N, K]")?;
        check_shape(labels, [n, columns], [rows, columns])?;
        if n_classes != 0 && n_classes != columns {
            let rule = format!("must be 0 or {columns}, the columns of labels");
            return Err(Error::invalid("num_classes", rule, n_classes).into());
        }
        Ok((DeviceLabels::Soft { data: labels.address().cast(), strides, n_classes: columns }, columns))
    }

    /// The address of a compact `[N]`; null where there is none.
    fn vector(tensor: Option<&Tensor<'_>>, n: usize) -> Result<*mut u8> {
        let Some(tensor) = tensor else { return Ok(null_mut()) };
        check_shape(tensor, [n], tensor.axes("[N]")?.0)?;
        tensor.check_compact()?;
        Ok(tensor.address())
    }

    fn check_shape<const D: usize>(tensor: &Tensor<'_>, expected: [usize; D], got: [usize; D]) -> Result<()> {
        if got == expected {
            return Ok(());
        }
        Err(Error::shape(tensor.name(), format!("{expected:?}"), &got).into())
    }
}
