//! The operator

use super::boundary::{boundary, free, into_handle, out};
use super::config::{self, miamix_config};
use miamix_core::{MiaMix, Status};

/// An operator: parameters that have been checked, and the threads it works on. It keeps no random state.
pub struct miamix_op(pub(super) MiaMix);

/// Makes an operator.
///
/// @param[in]  config Borrowed; NULL for the defaults. Its struct_size may be that of another version of this
///                    header: what an older one lacks has its default, and what a newer one has beyond this
///                    library must be 0, else the status is MIAMIX_STATUS_UNSUPPORTED.
/// @param[out] out_op Owned by the caller; release with miamix_op_free().
/// @return MIAMIX_STATUS_OK, or an error that names the first parameter outside its range; out_op is written
///         only on success.
///
/// Threads: an operator may be shared by any number of threads. Its own are started with the first work for
/// them, and operators of the same n_threads share theirs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_op_create(config: *const miamix_config, out_op: *mut *mut miamix_op) -> Status {
    boundary(|| {
        let (config, n_threads) = unsafe { config::read(config) }?;
        let out_op = unsafe { out(out_op, "out_op") }?;
        let op = MiaMix::new(config)?.with_threads(n_threads)?;
        out_op.write(into_handle(miamix_op(op)));
        Ok(())
    })
}

/// Releases an operator. Plans that it drew live on.
///
/// @param[in] op Not used again; NULL is fine.
///
/// Threads: no call with the operator may still be at work.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn miamix_op_free(op: *mut miamix_op) {
    unsafe { free(op) }
}
