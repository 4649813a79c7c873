//! The way between C and Rust: pointers become references or errors, errors and panics become a status.

use super::status::remember;
use crate::panics;
use miamix_core::{Error, Status};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call fails, as C sees it.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: Status,
    pub message: String,
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { status: error.status(), message: error.to_string() }
    }
}

/// Runs the body of a call. No panic leaves it.
pub(super) fn boundary(body: impl FnOnce() -> Result<()>) -> Status {
    #[cfg(feature = "test-panic")]
    let body = || panic_on_demand(body);
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => {
            remember(None);
            return Status::Ok;
        }
        Ok(Err(failure)) => failure,
        Err(payload) => Failure { status: Status::Internal, message: panics::describe(payload) },
    };
    remember(Some(failure.message));
    failure.status
}

/// The body of a call that has a bug, for tests of what C sees of it.
#[cfg(feature = "test-panic")]
fn panic_on_demand(body: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::env::var_os("MIAMIX_TEST_PANIC").is_some() {
        panic!("MIAMIX_TEST_PANIC is set");
    }
    body()
}

/// An argument that is read.
///
/// # Safety
/// `pointer` is NULL, misaligned, or points to a `T` that nobody writes during `'a`.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    check_pointer(pointer, name)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { &*pointer })
}

/// A handle that is changed.
///
/// # Safety
/// As [`borrow`], and nobody else reads it either.
pub(super) unsafe fn borrow_mut<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T> {
    check_pointer(pointer, name)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { &mut *pointer })
}

/// An array that is read.
///
/// # Safety
/// As [`borrow`], for `len` elements.
pub(super) unsafe fn borrow_slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    check_pointer(pointer, name)?;
    check_len::<T>(len, name)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// A place for a result, which may be uninitialised.
///
/// # Safety
/// `pointer` is NULL, misaligned, or points to room for a `T` that nobody else uses during `'a`.
pub(super) unsafe fn out<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut MaybeUninit<T>> {
    check_pointer(pointer, name)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { &mut *pointer.cast() })
}

/// A place for `len` results; NULL is fine where there are none.
///
/// # Safety
/// As [`out`], for `len` elements.
pub(super) unsafe fn out_slice<'a, T>(pointer: *mut T, len: usize, name: &str) -> Result<&'a mut [MaybeUninit<T>]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check_pointer(pointer, name)?;
    check_len::<T>(len, name)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), len) })
}

/// Gives a value to the caller.
pub(super) fn into_handle<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Takes back and drops what [`into_handle`] gave.
///
/// # Safety
/// `handle` is NULL or came from [`into_handle`], and is not used again.
pub(super) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

pub(super) fn check_pointer<T>(pointer: *const T, name: &str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::invalid(name, "must not be NULL", "NULL").into());
    }
    if !pointer.is_aligned() {
        let rule = format!("must be aligned to {} bytes", align_of::<T>());
        return Err(Error::invalid(name, rule, format_args!("{pointer:p}")).into());
    }
    Ok(())
}

fn check_len<T>(len: usize, name: &str) -> Result<()> {
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(Error::invalid(name, "must be of less than 2^63 bytes", format_args!("{len} elements")).into());
    }
    Ok(())
}
