//! Versions and errors

use miamix_core::Status;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

/// The version of the interface that this header describes.
pub const MIAMIX_ABI_VERSION: u32 = 1;

thread_local! {
    /// The message of this thread's last call, if that failed.
    static MESSAGE: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// The version of the interface that the loaded library provides.
///
/// A program compiled with this header works with every library that answers MIAMIX_ABI_VERSION. One that
/// loads the library by hand (dlopen) compares the two before it calls anything else.
///
/// @return The number.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn miamix_abi_version() -> u32 {
    MIAMIX_ABI_VERSION
}

/// The version of the loaded library, as "0.1.0".
///
/// @return A static string.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn miamix_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };
    VERSION.as_ptr()
}

/// What a status means, in a few words.
///
/// @param[in] status What a call returned.
/// @return A static string; "unknown status" for a number that is none.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn miamix_status_name(status: i32) -> *const c_char {
    let name = usize::try_from(status).ok().and_then(|status| STATUSES.get(status));
    name.map_or(c"unknown status", |(_, name)| name).as_ptr()
}

/// Why the last call of this thread failed, as "name: rule, got value".
///
/// @return Never NULL; empty if that call succeeded, or if there was none. Valid until the next call on this
///         thread that returns a status: functions that return none, miamix_plan_free() for instance,
///         leave the message as it is.
///
/// Threads: each has a message of its own, so ask on the thread whose call failed.
#[unsafe(no_mangle)]
pub extern "C" fn miamix_last_error_message() -> *const c_char {
    let stored = MESSAGE.try_with(|message| message.borrow().as_ref().map(|message| message.as_ptr()));
    // A thread that is ending has no message left.
    stored.ok().flatten().unwrap_or(c"".as_ptr())
}

/// Stores the message of a call that failed, or forgets the one before.
pub(super) fn remember(message: Option<String>) {
    let message = message.map(|text| CString::new(text.replace('\0', "\\0")).expect("no NUL is left in it"));
    // Without a place to store it, in a thread that is ending, the status still tells.
    let _ = MESSAGE.try_with(|stored| stored.replace(message));
}

/// Every status at its number.
const STATUSES: [(Status, &CStr); Status::ALL.len()] = [
    (Status::Ok, c"ok"),
    (Status::InvalidArgument, c"invalid argument"),
    (Status::Shape, c"shape"),
    (Status::Dtype, c"dtype or layout"),
    (Status::Plan, c"plan"),
    (Status::Unsupported, c"unsupported"),
    (Status::OutOfMemory, c"out of memory"),
    (Status::CudaUnavailable, c"CUDA unavailable"),
    (Status::Cuda, c"CUDA error"),
    (Status::Internal, c"internal error"),
];

const _: () = {
    let mut i = 0;
    while i < STATUSES.len() {
        assert!(STATUSES[i].0 as usize == i);
        i += 1;
    }
};
