//! The CUDA driver, found at run time: nothing of CUDA is linked, and a machine without it gets an error.
//!
//! Types and numbers are those of `cudarc`'s bindings. Its functions are not called: they panic where the driver lacks
//! one, and take a code that a newer driver may know as an enumeration that does not. Codes are plain numbers here.

use crate::error::{Error, Result};
use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUjit_option, CUmemAllocationHandleType,
    CUmemAllocationType, CUmemLocation, CUmemLocationType, CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUmodule,
    CUpointer_attribute, CUresult, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};
use libloading::Library;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const OUT_OF_MEMORY: c_int = CUresult::CUDA_ERROR_OUT_OF_MEMORY as c_int;
const INVALID_CONTEXT: c_int = CUresult::CUDA_ERROR_INVALID_CONTEXT as c_int;
const NOT_SUPPORTED: c_int = CUresult::CUDA_ERROR_NOT_SUPPORTED as c_int;
const EVENT_NOT_READY: c_int = CUresult::CUDA_ERROR_NOT_READY as c_int;
const EVENT_WITHOUT_TIME: c_uint = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as c_uint;
/// Pinned for every context, at one address on host and device.
const HOST_MAPPED: c_uint = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
const CAPTURING: c_uint = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE as c_uint;

/// Least size of a block of pinned memory, so that plans of different sizes share one.
const PINNED_BYTES: usize = 1 << 16;

macro_rules! driver {
    ($($field:ident: $symbol:ident($($t:ty),*);)+) => {
        /// The functions that the library uses.
        #[allow(non_snake_case)]
        #[derive(Debug)]
        pub(super) struct Driver {
            $($field: unsafe extern "C" fn($($t),*) -> c_int,)+
        }

        impl Driver {
            /// # Safety
            /// The library is CUDA's driver.
            unsafe fn of(library: &Library) -> Result<Self> {
                $(
                    // SAFETY: the signature is the driver's.
                    let $field = *unsafe { library.get(stringify!($symbol)) }.map_err(|_| {
                        Error::CudaUnavailable(format!("the driver has no {}: it is too old", stringify!($symbol)))
                    })?;
                )+
                Ok(Driver { $($field),+ })
            }
        }

        $(
            #[allow(non_upper_case_globals, dead_code)]
            impl Names { const $field: &'static str = stringify!($symbol); }
            // The arguments are those of CUDA's own headers.
            const _: unsafe fn($($t),*) -> CUresult = sys::$symbol;
        )+
    };
}

/// The functions' names.
struct Names;

driver! {
    init: cuInit(c_uint);
    device_count: cuDeviceGetCount(*mut c_int);
    device: cuDeviceGet(*mut CUdevice, c_int);
    retain_primary: cuDevicePrimaryCtxRetain(*mut CUcontext, CUdevice);
    context_of_stream: cuStreamGetCtx(CUstream, *mut CUcontext);
    is_capturing: cuStreamIsCapturing(CUstream, *mut CUstreamCaptureStatus);
    exchange_capture_mode: cuThreadExchangeStreamCaptureMode(*mut CUstreamCaptureMode);
    current: cuCtxGetCurrent(*mut CUcontext);
    push: cuCtxPushCurrent_v2(CUcontext);
    pop: cuCtxPopCurrent_v2(*mut CUcontext);
    current_device: cuCtxGetDevice(*mut CUdevice);
    pointer_attribute: cuPointerGetAttribute(*mut c_void, CUpointer_attribute, CUdeviceptr);
    load_module: cuModuleLoadDataEx(*mut CUmodule, *const c_void, c_uint, *mut CUjit_option, *mut *mut c_void);
    function: cuModuleGetFunction(*mut CUfunction, CUmodule, *const c_char);
    launch: cuLaunchKernel(CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void);
    copy_to_device: cuMemcpyHtoDAsync_v2(CUdeviceptr, *const c_void, usize, CUstream);
    clear: cuMemsetD8Async(CUdeviceptr, u8, usize, CUstream);
    new_pool: cuMemPoolCreate(*mut CUmemoryPool, *const CUmemPoolProps);
    set_of_pool: cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute, *mut c_void);
    allocate: cuMemAllocFromPoolAsync(*mut CUdeviceptr, usize, CUmemoryPool, CUstream);
    free: cuMemFreeAsync(CUdeviceptr, CUstream);
    allocate_host: cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    free_host: cuMemFreeHost(*mut c_void);
    new_event: cuEventCreate(*mut CUevent, c_uint);
    record: cuEventRecord(CUevent, CUstream);
    query: cuEventQuery(CUevent);
}

/// Calls a function of the driver; its failure becomes an error that names it.
macro_rules! call {
    ($driver:expr, $field:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: the arguments are what the driver documents; each caller says why they are valid.
        checked(Names::$field, unsafe { ($driver.$field)($($argument),*) })
    };
}

fn checked(call: &'static str, code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        OUT_OF_MEMORY => Err(Error::OutOfMemory(format!("{call}: the device has no room"))),
        code => Err(Error::Cuda { call, code }),
    }
}

/// The driver, if this machine has one with a device.
///
/// # Errors
/// [`Error::CudaUnavailable`], with the reason; the same at every call.
pub(super) fn driver() -> Result<&'static Driver> {
    static DRIVER: OnceLock<Result<Driver>> = OnceLock::new();
    DRIVER.get_or_init(find).as_ref().map_err(Clone::clone)
}

fn find() -> Result<Driver> {
    let names: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };
    // SAFETY: the driver's initialisers are what every CUDA program runs.
    let library = names.iter().find_map(|name| unsafe { Library::new(*name) }.ok());
    let library = library.ok_or_else(|| Error::CudaUnavailable(format!("no driver library ({})", names[0])))?;
    // SAFETY: a library of the driver's name.
    let driver = unsafe { Driver::of(&library) }?;
    // It stays for the life of the process, as the functions do.
    std::mem::forget(library);
    let mut devices = 0;
    call!(driver, init(0))
        .and_then(|()| call!(driver, device_count(&raw mut devices)))
        .map_err(|error| Error::CudaUnavailable(error.to_string()))?;
    if devices == 0 {
        return Err(Error::CudaUnavailable("the driver knows no device".into()));
    }
    Ok(driver)
}

/// The CUDA device whose memory an address is in.
///
/// # Errors
/// [`Error::CudaUnavailable`]; [`Error::Cuda`] where it is no memory that CUDA knows.
pub(super) fn device_of_address(address: u64) -> Result<i32> {
    let mut device: c_int = 0;
    let attribute = CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
    call!(driver()?, pointer_attribute((&raw mut device).cast(), attribute, address))?;
    Ok(device)
}

/// A kernel, by its place in [`Loaded::kernels`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    Small,
    Large,
    Backward,
}

const KERNELS: [&CStr; 3] = [c"miamix_small", c"miamix_large", c"miamix_backward"];
/// The kernels, for the driver to compile, and the NUL that it wants.
const PTX: &str = concat!(include_str!("../../kernels/ptx/miamix.ptx"), "\0");

/// What the library keeps of a context, whose owner it is not: the loaded kernels, and pinned memory.
#[derive(Clone)]
struct Context {
    loaded: Loaded,
    /// The driver's number for the memory of `bad_label`, which no other memory of the process ever has.
    number: u64,
    pinned: PinnedMemory,
}

/// That of one context, with a lock of its own, as the driver is asked under it.
type PinnedMemory = Arc<Mutex<PinnedLists>>;

#[derive(Default)]
struct PinnedLists {
    /// What was in use last, and is in a cache, at the end.
    free: Vec<Pinned>,
    /// What copies may still be reading, in the order of their beginning.
    busy: VecDeque<Pinned>,
    /// What a copy may be reading whose end nobody will see: never used again.
    lost: Vec<Pinned>,
}

impl PinnedLists {
    /// A block of so many bytes at least that is free, or is by now. The driver is asked about two copies, and about one
    /// more for each stream that is behind the others while nothing is free.
    fn take(&mut self, bytes: usize, driver: &Driver) -> Option<Pinned> {
        let fitting = |free: &[Pinned]| free.iter().rposition(|block| block.bytes >= bytes);
        // Where the oldest copy of a stream is not done, later ones are not either.
        let mut behind: Vec<CUstream> = Vec::new();
        let (mut at, mut n_done) = (0, 0);
        // Two for the one that is taken: what a burst has left goes out of use, and out of the cache's way.
        while n_done < 2 && (behind.is_empty() || fitting(&self.free).is_none()) {
            let Some(Pinned { event, stream, .. }) = self.busy.get(at) else { break };
            if behind.contains(stream) {
                at += 1;
            // SAFETY: an event of this context.
            } else if unsafe { (driver.query)(*event) } == EVENT_NOT_READY {
                behind.push(*stream);
                at += 1;
            } else {
                n_done += 1;
                self.free.extend(self.busy.remove(at));
            }
        }
        fitting(&self.free).map(|at| self.free.remove(at))
    }
}

/// What every call needs of its context.
#[derive(Clone, Copy)]
struct Loaded {
    kernels: [CUfunction; KERNELS.len()],
    device: CUdevice,
    /// In pinned memory, where kernels write to it: 1 + a sample whose class id is too large, or 0.
    bad_label: *mut u32,
    /// Null on a device that has no pools.
    pool: CUmemoryPool,
}

/// Pinned memory, free again once its event has passed.
struct Pinned {
    memory: *mut c_void,
    bytes: usize,
    /// Recorded after the copy out of it.
    event: CUevent,
    /// That it was recorded on; only compared.
    stream: CUstream,
}

// SAFETY: addresses and handles, which the driver lets any thread use.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Send for Pinned {}

/// By the context's address. Where that of a context that was destroyed, or reset with its device, comes again,
/// [`load`] finds that the memory of the entry is gone. What else the entry held went with the context.
fn contexts() -> MutexGuard<'static, BTreeMap<usize, Context>> {
    static CONTEXTS: Mutex<BTreeMap<usize, Context>> = Mutex::new(BTreeMap::new());
    CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream of the caller's, its context current as long as this lives.
pub(super) struct Stream {
    driver: &'static Driver,
    stream: CUstream,
    loaded: Loaded,
    pinned: PinnedMemory,
    _context: CurrentContext,
    _mode: CaptureMode,
    pub capturing: bool,
}

impl Stream {
    /// Enters the stream's context and loads the kernels if it is the first time.
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`]; [`Error::InvalidArgument`] for a null stream on a thread without a current context;
    /// [`Error::Unsupported`] where kernels would have to be loaded during a capture;
    /// [`Error::Cuda`].
    ///
    /// # Safety
    /// `stream` is a live stream, or null for the default stream of the current context.
    pub unsafe fn enter(stream: *mut c_void) -> Result<Self> {
        let (driver, stream): (_, CUstream) = (driver()?, stream.cast());
        let mode = CaptureMode::relaxed(driver)?;
        let (mut context, mut capturing): (_, c_uint) = (null_mut(), 0);
        match call!(driver, context_of_stream(stream, &raw mut context)) {
            Err(Error::Cuda { code: INVALID_CONTEXT, .. }) if stream.is_null() => {}
            other => other?,
        }
        if context.is_null() {
            let rule = "must not be NULL on a thread without a current CUDA context (make the device current first)";
            return Err(Error::invalid("stream", rule, "NULL"));
        }
        call!(driver, is_capturing(stream, (&raw mut capturing).cast()))?;
        let current = CurrentContext::enter(driver, context)?;
        let capturing = capturing == CAPTURING;
        let Context { loaded, pinned, .. } = load(driver, context as usize, capturing)?;
        Ok(Stream { driver, stream, loaded, pinned, _context: current, _mode: mode, capturing })
    }

    /// The number of the device.
    pub fn device(&self) -> i32 {
        self.loaded.device
    }

    /// Where kernels tell of a class id that is too large, if the caller has no place for it.
    pub fn bad_label(&self) -> u64 {
        self.loaded.bad_label as u64
    }

    /// Takes what kernels told there.
    pub fn take_bad_label(&self) -> u32 {
        // SAFETY: pinned memory that is never given back; the device writes whole words to it.
        unsafe { AtomicU32::from_ptr(self.loaded.bad_label) }.swap(0, Ordering::AcqRel)
    }

    /// Launches blocks of [`super::layout::BLOCK`] threads in a row.
    ///
    /// # Safety
    /// `parameter` is the kernel's parameter, and all that it points to is valid on the stream.
    pub unsafe fn launch<T>(&self, kernel: Kernel, blocks: u32, shared_bytes: u32, parameter: &T) -> Result<()> {
        let mut parameters = [(&raw const *parameter).cast_mut().cast::<c_void>()];
        let threads = super::layout::BLOCK;
        let function = self.loaded.kernels[kernel as usize];
        call!(
            self.driver,
            launch(
                function,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                shared_bytes,
                self.stream,
                parameters.as_mut_ptr(),
                null_mut()
            )
        )
    }

    /// Zeroes device memory.
    pub fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        call!(self.driver, clear(address, 0, bytes, self.stream))
    }

    /// Memory of the context's pool, given back in the stream's order when dropped.
    pub fn allocate(&self, bytes: usize) -> Result<Pooled<'_>> {
        if self.loaded.pool.is_null() {
            let device = self.loaded.device;
            let rule = format!("workspace: must be given, as CUDA device {device} has no memory pools");
            return Err(Error::Unsupported(rule));
        }
        let mut address = 0;
        call!(self.driver, allocate(&raw mut address, bytes.max(1), self.loaded.pool, self.stream))?;
        Ok(Pooled { stream: self, address })
    }

    /// Copies to the device what `write` writes to pinned memory; the copy is asynchronous, and the memory used again
    /// once it is done.
    pub fn upload<R>(&self, address: u64, bytes: usize, write: impl FnOnce(&mut [u8]) -> Result<R>) -> Result<R> {
        let block = self.take_pinned(bytes)?;
        // SAFETY: pinned memory of at least as many bytes, which is ours until it is given back.
        let result = write(unsafe { std::slice::from_raw_parts_mut(block.memory.cast(), bytes) });
        let copied = result.and_then(|result| {
            call!(self.driver, copy_to_device(address, block.memory, bytes, self.stream))?;
            Ok(result)
        });
        let recorded = if copied.is_ok() { call!(self.driver, record(block.event, self.stream)) } else { Ok(()) };
        let mut pinned = self.pinned();
        match (&copied, &recorded) {
            (Err(_), _) => pinned.free.push(block),
            (Ok(_), Err(_)) => pinned.lost.push(block),
            (Ok(_), Ok(())) => pinned.busy.push_back(Pinned { stream: self.stream, ..block }),
        }
        recorded.and(copied)
    }

    fn pinned(&self) -> MutexGuard<'_, PinnedLists> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_pinned(&self, bytes: usize) -> Result<Pinned> {
        if let Some(block) = self.pinned().take(bytes, self.driver) {
            return Ok(block);
        }
        let (mut memory, mut event) = (null_mut(), null_mut());
        let room = bytes.next_power_of_two().max(PINNED_BYTES);
        call!(self.driver, allocate_host(&raw mut memory, room, HOST_MAPPED))?;
        if let Err(error) = call!(self.driver, new_event(&raw mut event, EVENT_WITHOUT_TIME)) {
            let _ = call!(self.driver, free_host(memory));
            return Err(error);
        }
        if memory.is_null() {
            return Err(Error::OutOfMemory(format!("{room} bytes of pinned memory")));
        }
        Ok(Pinned { memory, bytes: room, event, stream: self.stream })
    }
}

/// What this library needs of a context: from the table, or loaded the first time.
fn load(driver: &Driver, context: usize, capturing: bool) -> Result<Context> {
    let known = contexts().get(&context).cloned();
    // The driver is asked without the lock, which all threads share.
    let stale = match known {
        Some(held) if number_of(driver, held.loaded.bad_label).is_ok_and(|number| number == held.number) => {
            return Ok(held);
        }
        other => other,
    };
    let mut contexts = contexts();
    if let Some(held) = contexts.get(&context) {
        if stale.is_none_or(|stale| stale.number != held.number) {
            return Ok(held.clone()); // another thread was here first
        }
        // Another context at the same address: nothing of the entry may be touched, not even to free it.
        contexts.remove(&context);
    }
    if capturing {
        return Err(Error::Unsupported(
            "stream: is capturing, and the kernels are not loaded yet: upload a plan before the capture".into(),
        ));
    }
    let (mut device, mut bad_label) = (0, null_mut());
    call!(driver, current_device(&raw mut device))?;
    let module = load_module(driver)?;
    let mut kernels = [null_mut(); KERNELS.len()];
    for (kernel, name) in kernels.iter_mut().zip(KERNELS) {
        call!(driver, function(&raw mut *kernel, module, name.as_ptr()))?;
    }
    let pool = new_pool(driver, device)?;
    call!(driver, allocate_host(&raw mut bad_label, size_of::<u32>(), HOST_MAPPED))?;
    let bad_label: *mut u32 = bad_label.cast();
    let number = number_of(driver, bad_label)?;
    // SAFETY: pinned memory of that size, which no kernel knows yet.
    unsafe { bad_label.write(0) };
    let loaded = Loaded { kernels, device, bad_label, pool };
    let made = Context { loaded, number, pinned: PinnedMemory::default() };
    contexts.insert(context, made.clone());
    Ok(made)
}

/// Has the driver compile the kernels.
fn load_module(driver: &Driver) -> Result<CUmodule> {
    let mut module = null_mut();
    let mut log = [0u8; 4096];
    let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // A number takes the place of an address; the driver writes into it how much it wrote.
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(log.len())];
    let count = options.len() as c_uint;
    let arguments = (options.as_mut_ptr(), values.as_mut_ptr());
    match call!(driver, load_module(&raw mut module, PTX.as_ptr().cast(), count, arguments.0, arguments.1)) {
        Ok(()) => Ok(module),
        Err(Error::Cuda { call, code }) => {
            let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
            let log = String::from_utf8_lossy(said).trim().to_owned();
            Err(if log.is_empty() { Error::Cuda { call, code } } else { Error::CudaKernels { call, code, log } })
        }
        Err(other) => Err(other),
    }
}

/// A pool that keeps what it has. The device's own gives all of it back whenever somebody waits for the device, and
/// maps it anew at the next call.
fn new_pool(driver: &Driver, device: CUdevice) -> Result<CUmemoryPool> {
    let place = CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: device };
    let properties = CUmemPoolProps {
        allocType: CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        handleTypes: CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
        location: place,
        win32SecurityAttributes: null_mut(),
        reserved: [0; 64],
    };
    let mut pool = null_mut();
    match call!(driver, new_pool(&raw mut pool, &raw const properties)) {
        // Calls with a workspace need none.
        Err(Error::Cuda { code: NOT_SUPPORTED, .. }) => return Ok(null_mut()),
        other => other?,
    }
    let mut kept = u64::MAX;
    let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    call!(driver, set_of_pool(pool, threshold, (&raw mut kept).cast()))?;
    Ok(pool)
}

/// The driver's number for an allocation; an error where there is none.
fn number_of(driver: &Driver, memory: *mut u32) -> Result<u64> {
    let mut number = 0u64;
    let attribute = CUpointer_attribute::CU_POINTER_ATTRIBUTE_BUFFER_ID;
    call!(driver, pointer_attribute((&raw mut number).cast(), attribute, memory as u64))?;
    Ok(number)
}

/// Makes a device's primary context, that of the CUDA runtime, current on a thread that has none; nothing on another.
///
/// # Errors
/// [`Error::CudaUnavailable`], [`Error::Cuda`].
pub(super) fn enter_device(device: i32) -> Result<Option<CurrentContext>> {
    let driver = driver()?;
    let mut current = null_mut();
    call!(driver, current(&raw mut current))?;
    if !current.is_null() {
        return Ok(None);
    }
    CurrentContext::enter(driver, primary_context(driver, device)?).map(Some)
}

/// Retained once for each device, and kept: it would end where nobody else holds it.
fn primary_context(driver: &Driver, ordinal: i32) -> Result<CUcontext> {
    static RETAINED: Mutex<Vec<(i32, usize)>> = Mutex::new(Vec::new());
    let mut retained = RETAINED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&(_, context)) = retained.iter().find(|(device, _)| *device == ordinal) {
        return Ok(context as CUcontext);
    }
    let (mut device, mut context) = (0, null_mut());
    call!(driver, device(&raw mut device, ordinal))?;
    call!(driver, retain_primary(&raw mut context, device))?;
    retained.push((ordinal, context as usize));
    Ok(context)
}

/// A context that is current on this thread as long as this lives.
#[derive(Debug)]
pub(super) struct CurrentContext {
    driver: &'static Driver,
    pushed: bool,
    /// What is current is a matter of the thread.
    _of_thread: PhantomData<*const ()>,
}

impl CurrentContext {
    fn enter(driver: &'static Driver, context: CUcontext) -> Result<Self> {
        let mut current = null_mut();
        call!(driver, current(&raw mut current))?;
        let pushed = current != context;
        if pushed {
            call!(driver, push(context))?;
        }
        Ok(CurrentContext { driver, pushed, _of_thread: PhantomData })
    }
}

impl Drop for CurrentContext {
    fn drop(&mut self) {
        if self.pushed {
            let mut popped = null_mut();
            let _ = call!(self.driver, pop(&raw mut popped));
        }
    }
}

/// How this thread's calls meet captures of other threads; the caller's mode is back when this is dropped.
struct CaptureMode {
    driver: &'static Driver,
    /// A `CUstreamCaptureMode`.
    before: c_uint,
}

impl CaptureMode {
    /// Asking whether a copy is done, and pinned memory, would break a capture that the caller has begun elsewhere.
    fn relaxed(driver: &'static Driver) -> Result<Self> {
        let mut mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED as c_uint;
        call!(driver, exchange_capture_mode((&raw mut mode).cast()))?;
        Ok(CaptureMode { driver, before: mode })
    }
}

impl Drop for CaptureMode {
    fn drop(&mut self) {
        let _ = call!(self.driver, exchange_capture_mode((&raw mut self.before).cast()));
    }
}

/// Device memory from the pool of a context.
pub(super) struct Pooled<'a> {
    stream: &'a Stream,
    pub address: u64,
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        let _ = call!(self.stream.driver, free(self.address, self.stream.stream));
    }
}
