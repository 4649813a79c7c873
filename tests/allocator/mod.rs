//! The system's allocator, watched, and failing on demand.
//!
//! The counts are those of the whole process, so a test program that uses it has one test alone.

#![allow(dead_code)] // each test program uses a part

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::*};

struct Watched;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Allocations that still succeed before one fails; below 0: none fails.
static UNTIL_FAILURE: AtomicIsize = AtomicIsize::new(-1);

#[global_allocator]
static WATCHED: Watched = Watched;

// SAFETY: the system's allocator, counted; a failure is a null pointer, as the trait has it.
// `realloc` and `alloc_zeroed` are the trait's own, which come here: while memory grows, old and new count.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if UNTIL_FAILURE.load(SeqCst) >= 0 && UNTIL_FAILURE.fetch_sub(1, SeqCst) == 0 {
            return std::ptr::null_mut();
        }
        ALLOCATIONS.fetch_add(1, SeqCst);
        LARGEST.fetch_max(layout.size(), SeqCst);
        let live = LIVE_BYTES.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK_BYTES.fetch_max(live, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How often memory is asked for during `work`, on every thread, and the most bytes at a time.
pub fn allocations(work: impl FnOnce()) -> (usize, usize) {
    let before = ALLOCATIONS.load(SeqCst);
    LARGEST.store(0, SeqCst);
    work();
    (ALLOCATIONS.load(SeqCst) - before, LARGEST.load(SeqCst))
}

/// The most bytes that are held at once during `work`, on every thread, above what is held before it.
pub fn peak_bytes(work: impl FnOnce()) -> usize {
    let before = LIVE_BYTES.load(SeqCst);
    PEAK_BYTES.store(before, SeqCst);
    work();
    PEAK_BYTES.load(SeqCst) - before
}

/// Lets the allocation after the next `n` fail, and no other; the result of `work`, and whether one failed.
pub fn failing_after<R>(n: usize, work: impl FnOnce() -> R) -> (R, bool) {
    UNTIL_FAILURE.store(n as isize, SeqCst);
    let result = work();
    (result, UNTIL_FAILURE.swap(-1, SeqCst) < 0)
}
