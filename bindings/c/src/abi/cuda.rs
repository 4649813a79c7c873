//! CUDA
//!
//! Not yet confirmed on hardware. Tensors in CUDA memory are mixed by the functions above, on a stream; what is here
//! is for plans in device memory, which a captured graph needs, and for class ids that are out of range.
//!
//! A graph is captured once and replayed with other plans:
//!
//!     miamix_cuda_sizes(op, &shape, &plan_bytes, &workspace_bytes, NULL);
//!     miamix_plan_on_device(op, &shape, buffer, plan_bytes, workspace, workspace_bytes, &device_plan);
//!     miamix_plan_upload(plan, device_plan, stream);     before the capture: it also loads the kernels
//!     miamix_apply(op, device_plan, ..., stream);        while the stream is being captured
//!
//!     miamix_plan_redraw(op, &shape, seed, first_sample, plan);    and before each replay
//!     miamix_plan_upload(plan, device_plan, stream);
//!
//! What is captured follows from shapes and parameters alone, and never from what was drawn.

use super::boundary::{borrow, boundary, into_handle, out};
use super::device;
use super::op::miamix_op;
use super::plan::{miamix_plan, miamix_shape};
use miamix_core::Status;
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// How much device memory plans and calls take, for any plan that the operator draws for a shape.
///
/// @param[in]  op, shape                    Borrowed.
/// @param[out] out_plan_bytes               Of a plan in device memory; may be NULL.
/// @param[out] out_workspace_bytes          Of the workspace of every call but miamix_backward(); may be NULL.
/// @param[out] out_backward_workspace_bytes Of the workspace of every call; may be NULL.
/// @return MIAMIX_STATUS_OK, or an error.
///
/// Threads: any; op may be shared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_cuda_sizes(
    op: *const miamix_op,
    shape: *const miamix_shape,
    out_plan_bytes: *mut usize,
    out_workspace_bytes: *mut usize,
    out_backward_workspace_bytes: *mut usize,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let shape = unsafe { borrow(shape, "shape") }?;
        let names = ["out_plan_bytes", "out_workspace_bytes", "out_backward_workspace_bytes"];
        let mut outs: [Option<&mut MaybeUninit<usize>>; 3] = [None, None, None];
        let pointers = [out_plan_bytes, out_workspace_bytes, out_backward_workspace_bytes];
        for ((place, pointer), name) in outs.iter_mut().zip(pointers).zip(names) {
            if !pointer.is_null() {
                *place = Some(unsafe { out(pointer, name) }?);
            }
        }
        for (place, bytes) in outs.into_iter().zip(device::sizes(&op.0, shape.into())?) {
            place.map(|place| place.write(bytes));
        }
        Ok(())
    })
}

/// Makes a plan in device memory, for one batch shape: miamix_plan_upload() writes it, calls on tensors on the same
/// device take it as any other plan from then on (before, and on another device, they are an error:
/// MIAMIX_STATUS_INVALID_ARGUMENT), and nothing else reads it but miamix_plan_shape().
///
/// @param[in]  op, shape       Borrowed. The plan has room for whatever the operator draws for the shape.
/// @param[in]  buffer          Device memory of the caller's, aligned to 16 bytes, there as long as the plan is used.
/// @param[in]  buffer_bytes    Its size, that of miamix_cuda_sizes() at least.
/// @param[in]  workspace       Device memory that calls under this plan work in, aligned to 256 bytes, for one stream
///                             at a time; NULL: each call takes its memory from the library's pool.
/// @param[in]  workspace_bytes Its size, that of miamix_cuda_sizes() at least; 0 where there is none.
/// @param[out] out_plan        Owned by the caller; release with miamix_plan_free(), which leaves the memory alone.
/// @return MIAMIX_STATUS_OK, or an error; out_plan is written only on success.
///
/// Threads: any; op may be shared. Calls that the plan is given to may come from several threads, but with a
/// workspace only one at a time, as they share it in the order of the stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_on_device(
    op: *const miamix_op,
    shape: *const miamix_shape,
    buffer: *mut c_void,
    buffer_bytes: usize,
    workspace: *mut c_void,
    workspace_bytes: usize,
    out_plan: *mut *mut miamix_plan,
) -> Status {
    boundary(|| {
        let op = unsafe { borrow(op, "op") }?;
        let shape = unsafe { borrow(shape, "shape") }?;
        let out_plan = unsafe { out(out_plan, "out_plan") }?;
        let memory = [(buffer, buffer_bytes), (workspace, workspace_bytes)];
        out_plan.write(into_handle(unsafe { device::plan_at(&op.0, shape.into(), memory) }?));
        Ok(())
    })
}

/// Writes a plan to device memory, in one asynchronous copy in the stream's order: what was put on the stream before
/// sees the earlier one.
///
/// @param[in] plan        Borrowed; it may be freed, or drawn again, as soon as the call returns.
/// @param[in] device_plan Borrowed; from miamix_plan_on_device(), for the shape of plan.
/// @param[in] stream      As for miamix_apply(), the device being that of the memory of device_plan. It must not be
///                        being captured: MIAMIX_STATUS_UNSUPPORTED.
/// @return MIAMIX_STATUS_OK, or an error, MIAMIX_STATUS_UNSUPPORTED too for a plan with more layers than there is room
///         for.
///
/// Threads: any; both plans may be shared, as the stream orders what is done with their memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_plan_upload(
    plan: *const miamix_plan,
    device_plan: *const miamix_plan,
    stream: *mut c_void,
) -> Status {
    boundary(|| {
        let plan = unsafe { borrow(plan, "plan") }?;
        let device_plan = unsafe { borrow(device_plan, "device_plan") }?;
        unsafe { device::upload(plan, device_plan, stream) }
    })
}

/// Tells whether a class id of num_classes or more was met on a device, where it gives a row of zeros instead of an
/// error: since the last check, in any call on the context of the stream, as far as the device has come. Does not
/// wait for it, so that a training loop can ask at each step.
///
/// @param[in] stream As for miamix_apply(), the device being 0, as in the CUDA runtime.
/// @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_INVALID_ARGUMENT with a message that names the last such sample of its
///         batch, and OK again from then on, unless more was met meanwhile; or another error.
///
/// Threads: any; one that asks takes the answer away from the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_check_labels(stream: *mut c_void) -> Status {
    boundary(|| unsafe { device::check_labels(stream) })
}

/// Tells which CUDA device an address is on, for descriptions that lack it.
///
/// @param[in]  address    Of CUDA memory; not read.
/// @param[out] out_device A miamix_device.device_id.
/// @return MIAMIX_STATUS_OK, or MIAMIX_STATUS_CUDA where it is no memory that CUDA knows, or another error.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_cuda_device_of(address: *const c_void, out_device: *mut i32) -> Status {
    boundary(|| {
        let out_device = unsafe { out(out_device, "out_device") }?;
        out_device.write(device::device_of(address)?);
        Ok(())
    })
}
