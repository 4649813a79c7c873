//! Plans
//!
//! Everything random in a batch, as plain data: drawn, stored, read, and applied any number of times.

use super::boundary::{Result, borrow, borrow_mut, borrow_slice, boundary, free, into_handle, out, out_slice};
use super::op::miamix_op;
use miamix_core::{BatchShape, Error, Plan, Status};
use std::ffi::c_char;

/// A plan: for each sample its partner, its views, and the layers of its mask. Its JSON form shows all of it.
pub struct miamix_plan(pub(super) Held);

/// Where a plan is.
pub(super) enum Held {
    Host(Plan),
    /// In a buffer of the caller's, with a workspace if that was given, too.
    #[cfg(feature = "cuda")]
    Device(miamix_core::DevicePlan, Option<miamix_core::Workspace>),
}

impl miamix_plan {
    /// The plan, where it can be read.
    pub fn host(&self) -> Result<&Plan> {
        match &self.0 {
            Held::Host(plan) => Ok(plan),
            #[cfg(feature = "cuda")]
            Held::Device(..) => Err(on_device()),
        }
    }

    fn host_mut(&mut self) -> Result<&mut Plan> {
        match &mut self.0 {
            Held::Host(plan) => Ok(plan),
            #[cfg(feature = "cuda")]
            Held::Device(..) => Err(on_device()),
        }
    }

    pub fn shape(&self) -> BatchShape {
        match &self.0 {
            Held::Host(plan) => plan.shape(),
            #[cfg(feature = "cuda")]
            Held::Device(plan, _) => plan.shape(),
        }
    }
}

#[cfg(feature = "cuda")]
fn on_device() -> super::boundary::Failure {
    Error::Unsupported("plan: must not be one in device memory, which only calls on CUDA tensors read".into()).into()
}

/// What a plan is drawn for. Channels and element type do not matter to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct miamix_shape {
    /// N, the number of samples, at most 268435455; 0 is an empty batch.
    pub samples: u64,
    /// H, pixels, 1 to 32768.
    pub height: u64,
    /// W, pixels, 1 to 32768.
    pub width: u64,
}

impl From<BatchShape> for miamix_shape {
    fn from(shape: BatchShape) -> Self {
        let BatchShape { samples, height, width } = shape;
        miamix_shape { samples: samples as u64, height: height as u64, width: width as u64 }
    }
}

impl From<&miamix_shape> for BatchShape {
    fn from(shape: &miamix_shape) -> Self {
        // A number beyond usize is beyond every limit, too.
        let [samples, height, width] =
            [shape.samples, shape.height, shape.width].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        BatchShape { samples, height, width }
    }
}

/// Draws every random decision for one batch.
///
/// @param[in]  op, shape    Borrowed.
/// @param[in]  seed         Equal seeds give equal plans on every device and in every language.
/// @param[in]  first_sample Global index of the batch's first sample: a running counter lets one seed serve a
///                          whole training run, and data-parallel ranks differ by it.
/// @param[out] out_plan     Owned by the caller; release with miamix_plan_free().
/// @return MIAMIX_STATUS_OK, or an error; out_plan is written only on success.
///
/// Threads: a plan may be shared by any number of threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_draw(
    op: *const miamix_op,
    shape: *const miamix_shape,
    seed: u64,
    first_sample: u64,
    out_plan: *mut *mut miamix_plan,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let shape = unsafe { borrow(shape, "shape") }?;
        let out_plan = unsafe { out(out_plan, "out_plan") }?;
        let plan = op.0.draw(shape.into(), seed, first_sample)?;
        out_plan.write(into_handle(miamix_plan(Held::Host(plan))));
        Ok(())
    })
}

/// Draws again into a plan, whose memory is used again: a training loop allocates nothing.
///
/// @param[in]     op, shape, seed, first_sample As for miamix_plan_draw().
/// @param[in,out] plan Wherever it came from. It is unchanged if the call fails.
/// @return MIAMIX_STATUS_OK, or an error.
///
/// Threads: no other thread may use the plan meanwhile; op may be shared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_redraw(
    op: *const miamix_op,
    shape: *const miamix_shape,
    seed: u64,
    first_sample: u64,
    plan: *mut miamix_plan,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let shape = unsafe { borrow(shape, "shape") }?;
        let plan = unsafe { borrow_mut(plan, "plan") }?;
        Ok(op.0.draw_into(shape.into(), seed, first_sample, plan.host_mut()?)?)
    })
}

/// Reads a plan that was stored as JSON, or written by hand.
///
/// @param[in]  json     Borrowed; UTF-8, a terminator is not needed.
/// @param[in]  length   Bytes of json, without a terminator.
/// @param[out] out_plan Owned by the caller; release with miamix_plan_free().
/// @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_PLAN with a message that names the sample and the layer; out_plan is
///         written only on success. Where memory for the text's numbers cannot be had the process is aborted.
///
/// Threads: a plan may be shared by any number of threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_from_json(
    json: *const c_char,
    length: usize,
    out_plan: *mut *mut miamix_plan,
) -> Status {
    boundary(|| {
        let json = unsafe { borrow_slice(json.cast::<u8>(), length, "json") }?;
        let out_plan = unsafe { out(out_plan, "out_plan") }?;
        let json = std::str::from_utf8(json).map_err(|error| Error::Json {
            what: "plan",
            at: "text".into(),
            message: error.to_string(),
        })?;
        out_plan.write(into_handle(miamix_plan(Held::Host(Plan::from_json(json)?))));
        Ok(())
    })
}

/// Writes a plan as JSON.
///
/// Ask for the length with buffer NULL, then for the text with length + 1 bytes of room.
///
/// @param[in]  plan     Borrowed.
/// @param[out] buffer   Gets the text and a terminating 0, if all of it fits; NULL to ask for the length.
/// @param[in]  capacity Bytes of room in buffer, more than *length.
/// @param[out] length   Bytes of the text without the terminator. Written even where the room is too small.
/// @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_INVALID_ARGUMENT where the room is too small; then nothing is
///         written to buffer. Where memory for the text cannot be had the process is aborted.
///
/// Threads: any; the plan may be shared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_to_json(
    plan: *const miamix_plan,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Status {
    boundary(|| {
        let plan = unsafe { borrow(plan, "plan") }?;
        let length = unsafe { out(length, "length") }?;
        let json = plan.host()?.to_json();
        length.write(json.len());
        if buffer.is_null() {
            return Ok(());
        }
        if capacity <= json.len() {
            let rule = format!("must be at least {}, the text and its terminator", json.len() + 1);
            return Err(Error::invalid("capacity", rule, capacity).into());
        }
        let buffer = unsafe { out_slice(buffer.cast::<u8>(), json.len() + 1, "buffer") }?;
        for (byte, &value) in buffer.iter_mut().zip(json.as_bytes().iter().chain(&[0])) {
            byte.write(value);
        }
        Ok(())
    })
}

/// What a plan was drawn for.
///
/// @param[in]  plan      Borrowed.
/// @param[out] out_shape The caller's; gets samples, height and width.
/// @return MIAMIX_STATUS_OK, or an error.
///
/// Threads: any; the plan may be shared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_shape(plan: *const miamix_plan, out_shape: *mut miamix_shape) -> Status {
    boundary(|| {
        let plan = unsafe { borrow(plan, "plan") }?;
        let out_shape = unsafe { out(out_shape, "out_shape") }?;
        out_shape.write(plan.shape().into());
        Ok(())
    })
}

/// Which sample of the batch each sample is mixed with.
///
/// @param[in]  plan              Borrowed.
/// @param[out] out_partner_index The caller's, room for count numbers; a sample's own index where it is mixed
///                               with itself or not at all.
/// @param[in]  count             The number of samples.
/// @return MIAMIX_STATUS_OK, or an error: MIAMIX_STATUS_SHAPE if count is another number.
///
/// Threads: any; the plan may be shared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_partner_index(
    plan: *const miamix_plan,
    out_partner_index: *mut i64,
    count: usize,
) -> Status {
    boundary(|| {
        let plan = unsafe { borrow(plan, "plan") }?.host()?;
        let n_samples = plan.shape().samples;
        if count != n_samples {
            return Err(Error::shape("out_partner_index", format!("[{n_samples}]"), &[count]).into());
        }
        let out_partner_index = unsafe { out_slice(out_partner_index, count, "out_partner_index") }?;
        for (index, sample) in out_partner_index.iter_mut().zip(plan.samples()) {
            index.write(sample.partner_index as i64);
        }
        Ok(())
    })
}

/// How many layers the mask of one sample has.
///
/// @param[in]  plan         Borrowed.
/// @param[in]  sample       Index in the batch.
/// @param[out] out_n_layers The caller's; 0 to 8, 0 where the sample is not mixed.
/// @return MIAMIX_STATUS_OK, or an error.
///
/// Threads: any; the plan may be shared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_n_layers(
    plan: *const miamix_plan,
    sample: usize,
    out_n_layers: *mut u32,
) -> Status {
    boundary(|| {
        let plan = unsafe { borrow(plan, "plan") }?.host()?;
        let out_n_layers = unsafe { out(out_n_layers, "out_n_layers") }?;
        check_below("sample", sample, plan.shape().samples)?;
        out_n_layers.write(plan.sample(sample).layers.len() as u32);
        Ok(())
    })
}

/// Releases a plan.
///
/// @param[in] plan Not used again; NULL is fine.
///
/// Threads: no call with the plan may still be at work.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_free(plan: *mut miamix_plan) {
    unsafe { free(plan) }
}

fn check_below(name: &str, index: usize, n_samples: usize) -> Result<()> {
    if index >= n_samples {
        return Err(Error::invalid(name, format!("must be below the batch size {n_samples}"), index).into());
    }
    Ok(())
}
