//! Long work: on several threads, with a progress bar, ended by Ctrl-C; and memory for it.

use anyhow::{Context, Result, anyhow};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use miamix::{Executor, Threads};
use ndarray::{Array, Dimension, IntoDimension};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C, or a request to terminate.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From now on Ctrl-C only makes [`check_interrupt`] fail, so that temporary files are removed on the way out.
pub fn watch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Relaxed)).context("cannot listen for Ctrl-C")
}

/// Fails once Ctrl-C was pressed.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
}

/// Computes `item(0)` … `item(n − 1)` under a progress bar.
///
/// # Errors
/// [`Interrupted`], or the first by index of the errors that came up: after one no other item is begun, but those
/// that were go on, and more than one may fail.
pub fn for_all<T: Send + Sync>(
    threads: &Threads,
    verb: &'static str,
    n: usize,
    item: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let progress = bar(verb, n as u64);
    let failed = AtomicBool::new(false);
    let slots: Vec<OnceLock<Result<T>>> = (0..n).map(|_| OnceLock::new()).collect();
    threads.run(n, &|i| {
        if failed.load(Relaxed) {
            return;
        }
        let result = check_interrupt().and_then(|()| item(i));
        failed.fetch_or(result.is_err(), Relaxed);
        // Each index comes once, so the slot is empty.
        let _ = slots[i].set(result);
        progress.inc(1);
    })?;
    progress.finish_and_clear();
    // Empty slots are of items that were not begun: with several threads they may lie before the failure, too.
    slots.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// A progress bar on standard error, if that is a terminal.
pub fn bar(verb: &'static str, n: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>10} {bar:32} {pos}/{len} {eta}").expect("a valid template");
    ProgressBar::new(n).with_style(style).with_message(verb)
}

/// `what`, all zero.
///
/// # Errors
/// Where there is not as much memory: `--size`, `--count` and `--rows` may ask for any amount.
pub fn zeros<T: Clone + Default, I: IntoDimension>(shape: I, what: &str) -> Result<Array<T, I::Dim>> {
    let shape = shape.into_dimension();
    let memory = filled(shape.slice(), T::default(), what)?;
    Ok(Array::from_shape_vec(shape, memory).expect("as many elements as the shape has"))
}

/// As many elements as the shape has, in the memory for `what`, or an error as [`zeros`] has it.
pub fn filled<T: Clone>(shape: &[usize], value: T, what: &str) -> Result<Vec<T>> {
    let len = shape.iter().fold(1usize, |len, &extent| len.saturating_mul(extent));
    let mut memory = Vec::new();
    memory.try_reserve_exact(len).map_err(|_| {
        let bytes = HumanBytes(len.saturating_mul(size_of::<T>()) as u64);
        anyhow!("out of memory: {bytes} for {what}; a smaller --size, --count or --rows takes less")
    })?;
    memory.resize(len, value);
    Ok(memory)
}

/// How many threads work.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ThreadArgs {
    /// Threads; 0: one for each core. The number changes no result
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_than_there_can_be_is_an_error() {
        assert_eq!(zeros::<u32, _>((2, 3), "images").unwrap(), ndarray::Array2::<u32>::zeros((2, 3)));
        for shape in [(usize::MAX, 1), (usize::MAX, usize::MAX)] {
            let message = zeros::<u8, _>(shape, "images").unwrap_err().to_string();
            assert!(message.starts_with("out of memory: 16.00 EiB for images; "), "{message}");
        }
    }
}
