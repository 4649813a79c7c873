//! Smoothing: the mean of a w×w window, borders replicated.
//!
//! The masks that are smoothed are 0 or 1, so a window's sum is a count that fits a byte (w ≤ 15),
//! and the mean is one correctly rounded division.
//!
//! # Source
//! MiAMix (Liang et al., 2023), Sec. 3.2.3.

use crate::error::Result;
use crate::memory::resize;
use crate::simd::{Kernel, Level, dispatch};

#[derive(Default)]
pub(super) struct Scratch {
    /// The plane as it was.
    source: Vec<u8>,
    /// One row of column counts, with r more on either side.
    columns: Vec<u8>,
}

/// Replaces 0 and 1 by the number of ones in the `window`×`window` square around; `plane`: `[height, width]`.
pub(super) fn count(plane: &mut [u8], height: usize, width: usize, window: usize, scratch: &mut Scratch) -> Result<()> {
    resize(&mut scratch.source, plane.len(), 0)?;
    scratch.source.copy_from_slice(plane);
    scratch.columns.clear();
    resize(&mut scratch.columns, width + window - 1, 0)?;
    dispatch(Count { source: &scratch.source, columns: &mut scratch.columns, plane, height, width, window });
    Ok(())
}

struct Count<'a> {
    source: &'a [u8],
    columns: &'a mut [u8],
    plane: &'a mut [u8],
    height: usize,
    width: usize,
    window: usize,
}

impl Kernel for Count<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Count { source, columns, plane, height, width, window } = self;
        let radius = window / 2;
        let row = |y: isize| &source[y.clamp(0, height as isize - 1) as usize * width..][..width];
        for dy in -(radius as isize)..=radius as isize {
            add(&mut columns[radius..][..width], row(dy));
        }
        for (y, out) in (0isize..).zip(plane.chunks_exact_mut(width)) {
            if y > 0 {
                let inner = &mut columns[radius..][..width];
                let (entering, leaving) = (row(y + radius as isize), row(y - 1 - radius as isize));
                for ((column, &entering), &leaving) in inner.iter_mut().zip(entering).zip(leaving) {
                    *column = *column + entering - leaving;
                }
            }
            let (first, last) = (columns[radius], columns[radius + width - 1]);
            columns[..radius].fill(first);
            columns[radius + width..].fill(last);
            out.fill(0);
            for dx in 0..window {
                add(out, &columns[dx..][..width]);
            }
        }
    }
}

#[inline(always)]
fn add(sums: &mut [u8], more: &[u8]) {
    for (sum, &more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

/// M = count / area, correctly rounded.
pub(super) struct Divide<'a> {
    pub counts: &'a [u8],
    pub area: u32,
    pub out: &'a mut [f32],
}

impl Kernel for Divide<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let area = self.area as f32;
        for (out, &count) in self.out.iter_mut().zip(self.counts) {
            *out = f32::from(count) / area;
        }
    }
}
