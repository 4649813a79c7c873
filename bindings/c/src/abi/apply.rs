//! Mixing

use super::boundary::{Result, borrow, boundary};
use super::device;
use super::op::miamix_op;
use super::plan::{Held, miamix_plan};
use super::tensor::{
    FLOAT32, IMAGES, INT32, INT64, MAPS, REAL_IMAGES, Tensor, check_apart, common_device, miamix_tensor,
};
use miamix_core::{Batch, BatchShape, Error, Labels, MiaMix, Output, Status};
use std::ffi::c_void;

/// Mixes a batch under a plan.
///
///     mixed_images[i] = mask[i] * images[i] + (1 - mask[i]) * partner_images[partner_index[i]]
///     mixed_labels[i] = label_weight[i] * labels[i] + (1 - label_weight[i]) * labels[partner_index[i]]
///
/// @param[in]  op, plan       Borrowed. The plan may come from another operator: op gives the threads and the
///                            label smoothing.
/// @param[in]  images         [N, C, H, W] of float32, float16, bfloat16 or uint8.
/// @param[in]  partner_images The same batch under a second augmentation; NULL to use images twice.
/// @param[in]  labels         Class ids, [N] of int64 or int32, below num_classes, where a negative id is ignored
///                            and gives a row of zeros; or [N, K] of float32; NULL for pixels only.
/// @param[in]  num_classes    K for class ids. For [N, K] labels K or 0; for no labels 0.
/// @param[out] mixed_images   As images.
/// @param[out] mixed_labels   [N, K] of float32; NULL where K is 0.
/// @param[out] label_weight   [N] of float32, what the primary's own label weighs; may be NULL.
/// @param[out] partner_index  [N] of int64, the sample that was mixed in; may be NULL.
/// @param[in]  stream         Of the device where the tensors are, a CUstream or cudaStream_t, or NULL for the default
///                            stream of the current context, and of the device's primary context on a thread that
///                            has none; ignored for tensors in CPU memory.
/// @return MIAMIX_STATUS_OK, or an error; outputs are complete only on success. The address range of an output
///         must overlap no input's and no other output's.
///
/// Threads: op and plan may be shared; the tensors are the call's alone as far as it writes them.
///
/// On a CUDA device: all tensors are on it. The call returns before the work is done, which is complete in the
/// stream's order; tensors must live as long, while the plan may be freed at once. Memory that the work needs comes
/// from a pool of the library's, one for each context, which keeps it for the next call; or it is that of
/// miamix_plan_on_device(). A class id of num_classes or more gives a row of zeros, of which miamix_check_labels()
/// tells. A stream that is being captured into a graph takes only a plan from miamix_plan_on_device(), and is an error
/// with any other: MIAMIX_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_apply(
    op: *const miamix_op,
    plan: *const miamix_plan,
    images: *const miamix_tensor,
    partner_images: *const miamix_tensor,
    labels: *const miamix_tensor,
    num_classes: usize,
    mixed_images: *mut miamix_tensor,
    mixed_labels: *mut miamix_tensor,
    label_weight: *mut miamix_tensor,
    partner_index: *mut miamix_tensor,
    stream: *mut c_void,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let plan = unsafe { borrow(plan, "plan") }?;
        let inputs = unsafe { Inputs::read(images, partner_images, labels, num_classes) }?;
        let outputs = unsafe { Outputs::read(mixed_images, mixed_labels, label_weight, partner_index) }?;
        unsafe { apply(&op.0, plan, &inputs, &outputs, stream) }
    })
}

/// Draws a plan for a batch, and mixes the batch under it: miamix_plan_draw(), then miamix_apply().
///
/// @param[in] op           Borrowed.
/// @param[in] seed         As for miamix_plan_draw().
/// @param[in] first_sample As for miamix_plan_draw().
///
/// All other arguments, the result, and what is said of threads and devices are those of miamix_apply().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_mix(
    op: *const miamix_op,
    seed: u64,
    first_sample: u64,
    images: *const miamix_tensor,
    partner_images: *const miamix_tensor,
    labels: *const miamix_tensor,
    num_classes: usize,
    mixed_images: *mut miamix_tensor,
    mixed_labels: *mut miamix_tensor,
    label_weight: *mut miamix_tensor,
    partner_index: *mut miamix_tensor,
    stream: *mut c_void,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let inputs = unsafe { Inputs::read(images, partner_images, labels, num_classes) }?;
        let outputs = unsafe { Outputs::read(mixed_images, mixed_labels, label_weight, partner_index) }?;
        let ([n, _, height, width], _) = inputs.images.image_axes()?;
        let plan = op.0.draw(BatchShape::new(n, height, width), seed, first_sample)?;
        unsafe { apply(&op.0, &miamix_plan(Held::Host(plan)), &inputs, &outputs, stream) }
    })
}

/// Mixes label maps (segmentation) under a plan: the primary's label where the mask is at least 1/2, else the
/// partner's.
///
/// @param[in]  op, plan     Borrowed.
/// @param[in]  maps         [N, H, W] of integers of 8 to 64 bits, or of 8-bit truth values.
/// @param[in]  partner_maps The maps of partner_images; NULL to use maps twice.
/// @param[out] mixed_maps   As maps; must overlap neither.
/// @param[in]  stream       As for miamix_apply().
/// @return MIAMIX_STATUS_OK, or an error; mixed_maps is complete only on success.
///
/// Threads: as for miamix_apply().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_apply_maps(
    op: *const miamix_op,
    plan: *const miamix_plan,
    maps: *const miamix_tensor,
    partner_maps: *const miamix_tensor,
    mixed_maps: *mut miamix_tensor,
    stream: *mut c_void,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let plan = unsafe { borrow(plan, "plan") }?;
        let maps = unsafe { Tensor::required(maps, "maps", MAPS) }?;
        let partner_maps = unsafe { Tensor::optional(partner_maps, "partner_maps", MAPS) }?.unwrap_or(maps);
        let mixed_maps = unsafe { Tensor::required(mixed_maps, "mixed_maps", MAPS) }?;
        partner_maps.check_same_dtype(&maps)?;
        mixed_maps.check_same_dtype(&maps)?;
        check_apart([Some(&mixed_maps)], [Some(&maps), Some(&partner_maps)])?;
        if let Some(device) = common_device([Some(&maps), Some(&partner_maps), Some(&mixed_maps)])? {
            let stream = unsafe { device::Stream::of(device, stream) }?;
            return unsafe { device::apply_maps(&op.0, plan, &maps, &partner_maps, &mixed_maps, stream) };
        }
        Ok(op.0.apply_maps(plan.host()?, maps.maps()?, partner_maps.maps()?, unsafe { mixed_maps.maps_mut() }?)?)
    })
}

/// Renders the masks of a plan, and what its labels weigh.
///
/// @param[in]  op, plan     Borrowed.
/// @param[out] masks        [N, H, W] of float32, 1 keeps the primary pixel; may be NULL.
/// @param[out] label_weight [N] of float32; may be NULL.
/// @param[in]  stream       As for miamix_apply().
/// @return MIAMIX_STATUS_OK, or an error; outputs are complete only on success, and must not overlap.
///
/// Threads: as for miamix_apply().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_masks(
    op: *const miamix_op,
    plan: *const miamix_plan,
    masks: *mut miamix_tensor,
    label_weight: *mut miamix_tensor,
    stream: *mut c_void,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let plan = unsafe { borrow(plan, "plan") }?;
        let masks = unsafe { Tensor::optional(masks, "masks", &[FLOAT32]) }?;
        let label_weight = unsafe { Tensor::optional(label_weight, "label_weight", &[FLOAT32]) }?;
        check_apart([masks.as_ref(), label_weight.as_ref()], [])?;
        if let Some(device) = common_device([masks.as_ref(), label_weight.as_ref()])? {
            let stream = unsafe { device::Stream::of(device, stream) }?;
            return unsafe { device::masks(&op.0, plan, masks.as_ref(), label_weight.as_ref(), stream) };
        }
        let masks = masks.map(|masks| unsafe { masks.volume_mut() }).transpose()?;
        let label_weight = label_weight.map(|weight| unsafe { weight.vector_mut() }).transpose()?;
        Ok(op.0.masks(plan.host()?, masks, label_weight)?)
    })
}

/// The gradient of miamix_apply(): from that of the mixed images to those of the images.
///
///     grad_images[i]         = mask[i] * grad_mixed[i]
///     grad_partner_images[t] = sum of (1 - mask[i]) * grad_mixed[i] over the i with partner_index[i] = t
///
/// Sums go over ascending i in float32 and are rounded once. A share of 0 passes on nothing.
///
/// @param[in]  op, plan            Borrowed.
/// @param[in]  grad_mixed          [N, C, H, W] of float32, float16 or bfloat16.
/// @param[out] grad_images         As grad_mixed.
/// @param[out] grad_partner_images As grad_mixed; NULL where images served twice: grad_images gets the sum of both.
/// @param[in]  stream              As for miamix_apply().
/// @return MIAMIX_STATUS_OK, or an error; outputs are complete only on success, and must overlap neither grad_mixed
///         nor each other.
///
/// Threads: as for miamix_apply().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_backward(
    op: *const miamix_op,
    plan: *const miamix_plan,
    grad_mixed: *const miamix_tensor,
    grad_images: *mut miamix_tensor,
    grad_partner_images: *mut miamix_tensor,
    stream: *mut c_void,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let plan = unsafe { borrow(plan, "plan") }?;
        let grad_mixed = unsafe { Tensor::required(grad_mixed, "grad_mixed", REAL_IMAGES) }?;
        let grad_images = unsafe { Tensor::required(grad_images, "grad_images", REAL_IMAGES) }?;
        let grad_partner = unsafe { Tensor::optional(grad_partner_images, "grad_partner_images", REAL_IMAGES) }?;
        check_apart([Some(&grad_images), grad_partner.as_ref()], [Some(&grad_mixed)])?;
        if let Some(device) = common_device([Some(&grad_mixed), Some(&grad_images), grad_partner.as_ref()])? {
            let stream = unsafe { device::Stream::of(device, stream) }?;
            return unsafe { device::backward(&op.0, plan, &grad_mixed, &grad_images, grad_partner.as_ref(), stream) };
        }
        let images = unsafe { grad_images.images_mut() }?;
        let partner = grad_partner.map(|partner| unsafe { partner.images_mut() }).transpose()?;
        Ok(op.0.backward(plan.host()?, grad_mixed.images()?, images, partner)?)
    })
}

/// What a batch is read from.
pub(super) struct Inputs<'a> {
    pub images: Tensor<'a>,
    pub partner_images: Option<Tensor<'a>>,
    pub labels: Option<Tensor<'a>>,
    pub num_classes: usize,
}

impl Inputs<'_> {
    /// # Safety
    /// As [`Tensor::optional`], for each.
    unsafe fn read(
        images: *const miamix_tensor,
        partner_images: *const miamix_tensor,
        labels: *const miamix_tensor,
        num_classes: usize,
    ) -> Result<Self> {
        Ok(Inputs {
            images: unsafe { Tensor::required(images, "images", IMAGES) }?,
            partner_images: unsafe { Tensor::optional(partner_images, "partner_images", IMAGES) }?,
            labels: unsafe { Tensor::optional(labels, "labels", &[INT64, INT32, FLOAT32]) }?,
            num_classes,
        })
    }

    /// # Safety
    /// The labels are there, as [`Inputs::read`] was promised.
    unsafe fn labels(&self) -> Result<Labels<'_>> {
        let Some(labels) = &self.labels else {
            if self.num_classes != 0 {
                let error = Error::invalid("num_classes", "must be 0 where there are no labels", self.num_classes);
                return Err(error.into());
            }
            return Ok(Labels::NONE);
        };
        match labels.dtype() {
            INT64 => Ok(Labels::ids(unsafe { labels.vector() }?, self.num_classes)),
            INT32 => Ok(Labels::ids32(unsafe { labels.vector() }?, self.num_classes)),
            _ => {
                let rows = unsafe { labels.matrix() }?;
                if self.num_classes != 0 && self.num_classes != rows.ncols() {
                    let rule = format!("must be 0 or {}, the columns of labels", rows.ncols());
                    return Err(Error::invalid("num_classes", rule, self.num_classes).into());
                }
                Ok(Labels::soft(rows))
            }
        }
    }
}

/// Where results go.
pub(super) struct Outputs<'a> {
    pub mixed_images: Tensor<'a>,
    pub mixed_labels: Option<Tensor<'a>>,
    pub label_weight: Option<Tensor<'a>>,
    pub partner_index: Option<Tensor<'a>>,
}

impl Outputs<'_> {
    /// # Safety
    /// As [`Tensor::optional`], for each.
    unsafe fn read(
        mixed_images: *const miamix_tensor,
        mixed_labels: *const miamix_tensor,
        label_weight: *const miamix_tensor,
        partner_index: *const miamix_tensor,
    ) -> Result<Self> {
        Ok(Outputs {
            mixed_images: unsafe { Tensor::required(mixed_images, "mixed_images", IMAGES) }?,
            mixed_labels: unsafe { Tensor::optional(mixed_labels, "mixed_labels", &[FLOAT32]) }?,
            label_weight: unsafe { Tensor::optional(label_weight, "label_weight", &[FLOAT32]) }?,
            partner_index: unsafe { Tensor::optional(partner_index, "partner_index", &[INT64]) }?,
        })
    }
}

/// Mixes a batch under a plan.
///
/// # Safety
/// The memory is there, as [`Inputs::read`] and [`Outputs::read`] were promised, and the outputs can be written.
unsafe fn apply(
    op: &MiaMix,
    plan: &miamix_plan,
    inputs: &Inputs<'_>,
    outputs: &Outputs<'_>,
    stream: *mut c_void,
) -> Result<()> {
    let Outputs { mixed_images, mixed_labels, label_weight, partner_index } = outputs;
    check_apart(
        [Some(mixed_images), mixed_labels.as_ref(), label_weight.as_ref(), partner_index.as_ref()],
        [Some(&inputs.images), inputs.partner_images.as_ref(), inputs.labels.as_ref()],
    )?;
    let device = common_device([
        Some(&inputs.images),
        inputs.partner_images.as_ref(),
        inputs.labels.as_ref(),
        Some(mixed_images),
        mixed_labels.as_ref(),
        label_weight.as_ref(),
        partner_index.as_ref(),
    ])?;
    if let Some(device) = device {
        let stream = unsafe { device::Stream::of(device, stream) }?;
        return unsafe { device::apply(op, plan, inputs, outputs, stream) };
    }
    let batch = Batch {
        images: inputs.images.images()?,
        partner_images: inputs.partner_images.as_ref().unwrap_or(&inputs.images).images()?,
        labels: unsafe { inputs.labels() }?,
    };
    let output = Output {
        images: unsafe { mixed_images.images_mut() }?,
        labels: mixed_labels.map(|labels| unsafe { labels.matrix_mut() }).transpose()?,
        label_weight: label_weight.map(|weight| unsafe { weight.vector_mut() }).transpose()?,
        partner_index: partner_index.map(|index| unsafe { index.vector_mut() }).transpose()?,
    };
    Ok(op.apply(plan.host()?, batch, output)?)
}
