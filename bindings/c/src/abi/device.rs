//! Calls on tensors in CUDA memory, and plans there.

use super::apply::{Inputs, Outputs};
use super::boundary::Result;
use super::plan::{Held, miamix_plan};
use super::tensor::{INT32, INT64, Tensor};
use miamix_core::{
    BatchShape, CudaStream, CurrentCudaDevice, DeviceBatch, DeviceLabels, DeviceOutput, DevicePlan, Error, MiaMix,
    PlanSource, Workspace, check_cuda_labels, cuda_device_of_address, cuda_device_of_stream,
};
use std::ffi::c_void;
use std::ptr::null_mut;

/// A stream of the device that a call's tensors are on.
pub(super) struct Stream(CudaStream, CurrentCudaDevice);

impl Stream {
    /// # Safety
    /// The stream is live.
    pub unsafe fn of(device: i32, stream: *mut c_void) -> Result<Self> {
        let stream = CudaStream(stream);
        let current = CurrentCudaDevice::for_stream(stream, device)?;
        let got = unsafe { cuda_device_of_stream(stream) }?;
        if got != device {
            let rule = format!("must be of CUDA device {device}, where the tensors are");
            return Err(Error::invalid("stream", rule, format_args!("a stream of device {got}")).into());
        }
        Ok(Stream(stream, current))
    }
}

/// The plan as the engine takes it, and the workspace that belongs to it.
fn source(plan: &miamix_plan) -> (PlanSource<'_>, Option<Workspace>) {
    match &plan.0 {
        Held::Host(plan) => (PlanSource::Host(plan), None),
        Held::Device(plan, workspace) => (PlanSource::Device(plan), *workspace),
    }
}

/// [`super::cuda::miamix_cuda_sizes`].
pub(super) fn sizes(op: &MiaMix, shape: BatchShape) -> Result<[usize; 3]> {
    // The shape is checked first.
    let workspaces = [op.cuda_workspace_bytes(shape)?, op.cuda_backward_workspace_bytes(shape)?];
    Ok([DevicePlan::bytes(op.config(), shape), workspaces[0], workspaces[1]])
}

/// [`super::cuda::miamix_plan_on_device`].
///
/// # Safety
/// The memory is there as long as the plan is used.
pub(super) unsafe fn plan_at(
    op: &MiaMix,
    shape: BatchShape,
    [buffer, workspace]: [(*mut c_void, usize); 2],
) -> Result<miamix_plan> {
    let plan = unsafe { DevicePlan::at(op.config(), shape, buffer.0, buffer.1) }?;
    let (data, bytes) = workspace;
    if data.is_null() && bytes > 0 {
        return Err(Error::invalid("workspace", "must not be NULL where it has bytes", "NULL").into());
    }
    // Each call checks it again; here nobody is in the middle of a capture.
    if !data.is_null() {
        let needed = op.cuda_workspace_bytes(shape)?;
        if !data.addr().is_multiple_of(256) {
            let rule = "must be the address of device memory, a multiple of 256";
            return Err(Error::invalid("workspace", rule, format_args!("{data:?}")).into());
        }
        if bytes < needed {
            return Err(Error::invalid("workspace", format!("must have at least {needed} bytes"), bytes).into());
        }
    }
    Ok(miamix_plan(Held::Device(plan, (!data.is_null()).then_some(Workspace { data, bytes }))))
}

/// [`super::cuda::miamix_plan_upload`].
///
/// # Safety
/// The stream is live.
pub(super) unsafe fn upload(plan: &miamix_plan, device_plan: &miamix_plan, stream: *mut c_void) -> Result<()> {
    let Held::Device(device_plan, _) = &device_plan.0 else {
        return Err(Error::Unsupported("device_plan: must be one of miamix_plan_on_device()".into()).into());
    };
    let plan = plan.host()?;
    // Any other stream has a device of its own.
    let device = if stream.is_null() { device_plan.device()? } else { 0 };
    let stream = CudaStream(stream);
    let _current = CurrentCudaDevice::for_stream(stream, device)?;
    Ok(unsafe { device_plan.upload(plan, stream) }?)
}

/// [`super::cuda::miamix_check_labels`].
///
/// # Safety
/// The stream is live.
pub(super) unsafe fn check_labels(stream: *mut c_void) -> Result<()> {
    let stream = CudaStream(stream);
    let _current = CurrentCudaDevice::for_stream(stream, 0)?;
    Ok(unsafe { check_cuda_labels(stream) }?)
}

/// [`super::cuda::miamix_cuda_device_of`].
pub(super) fn device_of(address: *const c_void) -> Result<i32> {
    Ok(cuda_device_of_address(address)?)
}

/// [`super::apply::miamix_apply`].
///
/// # Safety
/// The memory is there, and the stream is live.
pub(super) unsafe fn apply(
    op: &MiaMix,
    plan: &miamix_plan,
    inputs: &Inputs<'_>,
    outputs: &Outputs<'_>,
    Stream(stream, _current): Stream,
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
    let (plan, workspace) = source(plan);
    Ok(unsafe { op.apply_cuda(plan, batch, output, workspace, stream) }?)
}

/// [`super::apply::miamix_apply_maps`].
///
/// # Safety
/// As [`apply`].
pub(super) unsafe fn apply_maps(
    op: &MiaMix,
    plan: &miamix_plan,
    maps: &Tensor<'_>,
    partner_maps: &Tensor<'_>,
    mixed_maps: &Tensor<'_>,
    Stream(stream, _current): Stream,
) -> Result<()> {
    let (maps, partner_maps, mixed_maps) = (maps.maps()?, partner_maps.maps()?, unsafe { mixed_maps.maps_mut() }?);
    let (plan, workspace) = source(plan);
    Ok(unsafe { op.apply_maps_cuda(plan, maps, partner_maps, mixed_maps, workspace, stream) }?)
}

/// [`super::apply::miamix_masks`].
///
/// # Safety
/// As [`apply`].
pub(super) unsafe fn masks(
    op: &MiaMix,
    plan: &miamix_plan,
    masks: Option<&Tensor<'_>>,
    label_weight: Option<&Tensor<'_>>,
    Stream(stream, _current): Stream,
) -> Result<()> {
    let shape = plan.shape();
    if let Some(masks) = masks {
        check_shape(masks, [shape.samples, shape.height, shape.width], masks.axes("[N, H, W]")?.0)?;
        masks.check_compact()?;
    }
    let address = masks.map_or(null_mut(), |masks| masks.address().cast());
    let label_weight = vector(label_weight, shape.samples)?.cast();
    let (plan, workspace) = source(plan);
    Ok(unsafe { op.masks_cuda(plan, address, label_weight, workspace, stream) }?)
}

/// [`super::apply::miamix_backward`].
///
/// # Safety
/// As [`apply`].
pub(super) unsafe fn backward(
    op: &MiaMix,
    plan: &miamix_plan,
    grad_mixed: &Tensor<'_>,
    grad_images: &Tensor<'_>,
    grad_partner: Option<&Tensor<'_>>,
    Stream(stream, _current): Stream,
) -> Result<()> {
    let images = unsafe { grad_images.images_mut() }?;
    let partner = grad_partner.map(|partner| unsafe { partner.images_mut() }).transpose()?;
    let (plan, workspace) = source(plan);
    Ok(unsafe { op.backward_cuda(plan, grad_mixed.images()?, images, partner, workspace, stream) }?)
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
