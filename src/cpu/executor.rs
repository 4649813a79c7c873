//! Where the samples of a batch are worked on: inline, on the library's own threads, or on the host's.

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::*};

use crate::error::{Error, Result};

/// Runs independent tasks. Which thread runs which, and in what order, changes no result.
///
/// # Safety
/// `run` calls the task with each index below `n_tasks` at most once and with no other, and does not return
/// before every call has: tasks write parts of the caller's buffers that are theirs alone.
pub unsafe trait Executor: Sync {
    /// Calls `task(0)` … `task(n_tasks − 1)`, each once, and returns when all have returned.
    ///
    /// # Errors
    /// If the tasks could not be run; then some may have been.
    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<()>;
}

/// On the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

// SAFETY: a loop.
unsafe impl Executor for Inline {
    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<()> {
        (0..n_tasks).for_each(task);
        Ok(())
    }
}

/// Most threads a pool has.
pub const MAX_THREADS: usize = 256;

/// On the library's own threads, which are started at the first use and shared by the whole process.
///
/// A child of `fork` never meets its parent's threads, which do not exist there.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    n: usize,
    /// Not asked for by number: a forked child works alone.
    by_default: bool,
}

impl Threads {
    /// `n` threads; 0: one for each core, or the calling thread alone in a forked child,
    /// which is usually one worker of many.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above 256.
    pub fn new(n: usize) -> Result<Self> {
        if n > MAX_THREADS {
            return Err(Error::invalid("n_threads", "must be at most 256", n));
        }
        // From now on, if not before, forks are counted.
        epoch();
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
        Ok(Threads { n: if n == 0 { cores() } else { n }, by_default: n == 0 })
    }

    fn count(self) -> usize {
        if self.by_default && epoch().generation != 0 { 1 } else { self.n }
    }
}

// SAFETY: each index is taken from the counter once, and `install` waits for all.
unsafe impl Executor for Threads {
    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<()> {
        let n_threads = self.count();
        if n_threads == 1 || n_tasks <= 1 {
            return Inline.run(n_tasks, task);
        }
        // Each thread takes the next task when it is done with one: in order, so that long ones can be put first.
        let next = AtomicUsize::new(0);
        let work = |_| {
            loop {
                match next.fetch_add(1, Relaxed) {
                    i if i < n_tasks => task(i),
                    _ => break,
                }
            }
        };
        pool(n_threads)?.install(|| (0..n_threads.min(n_tasks)).into_par_iter().with_max_len(1).for_each(work));
        Ok(())
    }
}

/// A process image: the number of forks it is away from the first one that loaded the library, and its
/// number, for forks that bypass `pthread_atfork`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Epoch {
    generation: u32,
    process: u32,
}

static GENERATION: AtomicU32 = AtomicU32::new(0);

#[cfg(unix)]
fn epoch() -> Epoch {
    use std::sync::atomic::AtomicBool;
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, SeqCst);
    }
    // Two threads that register at once, or a fork in between, only make the child count further.
    if !REGISTERED.load(Acquire) {
        // SAFETY: the handler is one atomic addition, which is safe in a forked child.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        REGISTERED.store(true, Release);
    }
    Epoch { generation: GENERATION.load(Acquire), process: std::process::id() }
}

/// Counts forks from the moment the library is loaded: a process may make its first operator in a child.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static COUNT_FORKS: extern "C" fn() = {
    extern "C" fn count_forks() {
        epoch();
    }
    count_forks
};

#[cfg(not(unix))]
fn epoch() -> Epoch {
    Epoch { generation: GENERATION.load(Acquire), process: 0 }
}

struct Pool {
    epoch: Epoch,
    threads: ThreadPool,
}

/// One pool for each number of threads. No lock: one held at a fork would be held for ever in the child.
static POOLS: [AtomicPtr<Pool>; MAX_THREADS + 1] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_THREADS + 1];

fn pool(n_threads: usize) -> Result<&'static ThreadPool> {
    let epoch = epoch();
    let slot = &POOLS[n_threads];
    loop {
        let current = slot.load(Acquire);
        // SAFETY: pools are never freed once they are in a slot.
        if let Some(pool) = unsafe { current.as_ref() }
            && pool.epoch == epoch
        {
            return Ok(&pool.threads);
        }
        let threads = ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .thread_name(|i| format!("miamix-{i}"))
            .build()
            .map_err(|error| Error::OutOfMemory(format!("cannot start {n_threads} threads: {error}")))?;
        let new = Box::into_raw(Box::new(Pool { epoch, threads }));
        match slot.compare_exchange(current, new, AcqRel, Acquire) {
            // A parent's pool is left as it is: its threads cannot be joined here.
            // SAFETY: just made, and never freed from now on.
            Ok(_) => return Ok(unsafe { &(*new).threads }),
            // SAFETY: another thread of this process was first; ours was never shared.
            Err(_) => drop(unsafe { Box::from_raw(new) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_task_runs_once() {
        for n_threads in [1, 2, 7] {
            let seen: Vec<AtomicU64> = (0..100).map(|_| AtomicU64::new(0)).collect();
            Threads::new(n_threads)
                .unwrap()
                .run(100, &|i| {
                    seen[i].fetch_add(1, SeqCst);
                })
                .unwrap();
            assert!(seen.iter().all(|n| n.load(SeqCst) == 1));
        }
        assert_eq!(Threads::new(257).unwrap_err().to_string(), "n_threads: must be at most 256, got 257");
    }

    #[cfg(unix)]
    #[test]
    fn a_forked_child_has_threads_of_its_own() {
        let two = Threads::new(2).unwrap();
        let sum = || {
            let sum = AtomicU64::new(0);
            two.run(50, &|i| {
                sum.fetch_add(i as u64, SeqCst);
            })
            .unwrap();
            sum.load(SeqCst)
        };
        assert_eq!(sum(), 1225); // the parent's threads run
        // SAFETY: the child calls only the library and leaves by `_exit`; an alarm ends it should it hang.
        let child = unsafe { libc::fork() };
        if child == 0 {
            unsafe { libc::alarm(20) };
            let right = sum() == 1225;
            unsafe { libc::_exit(if right { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: waits for the child just made.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0, "the child hung or failed");
        assert_eq!(sum(), 1225);
    }

    /// A trainer makes the operator, forks its workers, and each of them mixes for the first time.
    #[cfg(unix)]
    #[test]
    fn a_child_forked_before_the_first_use_works_alone_by_default() {
        let by_default = Threads::new(0).unwrap();
        let by_number = Threads::new(3).unwrap();
        // SAFETY: the child calls only the library and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let right = by_default.count() == 1 && Threads::new(0).unwrap().count() == 1 && by_number.count() == 3;
            unsafe { libc::_exit(if right { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: waits for the child just made.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
    }
}
