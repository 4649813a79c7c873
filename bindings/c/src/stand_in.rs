//! The stand-in driver of `tests/cuda`, for tests of what is called on CUDA devices.

use libloading::Library;
use std::ffi::{c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The driver, one test at a time. `cargo xtask test --only CUDA` makes it be found.
pub struct StandIn {
    library: Library,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl StandIn {
    /// Nothing where it is not found, which is a failure where it is required.
    pub fn get() -> Option<Self> {
        static ONE: Mutex<()> = Mutex::new(());
        // SAFETY: the stand-in's initialisers are those of the C++ library.
        let library = unsafe { Library::new("libcuda.so.1") }.ok();
        // SAFETY: only looked up.
        let is_stand_in = |library: &Library| unsafe { library.get::<fn()>("stand_in_run") }.is_ok();
        let Some(library) = library.filter(is_stand_in) else {
            assert!(std::env::var_os("MIAMIX_REQUIRE_CUDA").is_none(), "the stand-in driver is not found");
            eprintln!("skipped: no stand-in driver; run cargo xtask test --only CUDA");
            return None;
        };
        Some(StandIn { library, _one_at_a_time: ONE.lock().unwrap_or_else(PoisonError::into_inner) })
    }

    /// Streams 0, 1 and 3 are of device 0, stream 2 of device 1; 4 and 5 are the default streams of the two.
    pub fn stream(&self, i: i32) -> *mut c_void {
        // SAFETY: the function's type.
        unsafe { self.library.get::<unsafe extern "C" fn(i32) -> *mut c_void>("stand_in_stream").unwrap()(i) }
    }

    pub fn on(&self, function: &str, stream: *mut c_void) {
        // SAFETY: the functions' type.
        unsafe { self.library.get::<unsafe extern "C" fn(*mut c_void)>(function).unwrap()(stream) }
    }

    /// On which device all addresses are from now on.
    pub fn set_device_of_addresses(&self, device: i32) {
        // SAFETY: the function's type.
        unsafe { self.library.get::<unsafe extern "C" fn(i32)>("stand_in_device_of_addresses").unwrap()(device) }
    }

    /// Copies to devices that were done.
    pub fn copied(&self) -> u64 {
        // SAFETY: eight numbers of the stand-in's.
        unsafe { (*self.library.get::<unsafe extern "C" fn() -> *const [u64; 8]>("stand_in_counts").unwrap()())[6] }
    }

    /// Does what is on a stream.
    pub fn run(&self, stream: *mut c_void) {
        type Run = unsafe extern "C" fn(*mut c_void) -> *const c_char;
        // SAFETY: the function's type.
        assert!(unsafe { self.library.get::<Run>("stand_in_run").unwrap()(stream) }.is_null());
    }
}
