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

/// Pixels added at a time. Rows are read and written in whole blocks: what lies behind a row's end is never used,
/// or written over by the next row, and planes are padded by a block.
pub(super) const BLOCK: usize = 32;
/// Room for the border beside a row of column counts.
const MARGIN: usize = 16;
/// Rows summed down before they are summed along: what has just been stored in pieces is slow to load at once.
const GROUP: usize = 8;

/// Counts the ones in the `window`×`window` square around each pixel.
///
/// `source`: 0 or 1, and `counts`: both `[height, width]` and [`BLOCK`] more; `columns`: scratch.
pub(super) fn count(
    source: &[u8],
    counts: &mut [u8],
    height: usize,
    width: usize,
    window: usize,
    columns: &mut Vec<u8>,
) -> Result<()> {
    let stride = MARGIN + width.next_multiple_of(BLOCK) + MARGIN + BLOCK;
    resize(columns, GROUP * stride, 0)?;
    dispatch(Count { source, counts, columns, stride, height, width, window });
    Ok(())
}

struct Count<'a> {
    source: &'a [u8],
    counts: &'a mut [u8],
    /// The sums of `window` rows at each column, the borders repeated on either side: `[GROUP, stride]`.
    columns: &'a mut [u8],
    stride: usize,
    height: usize,
    width: usize,
    window: usize,
}

impl Kernel for Count<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Count { source, counts, columns, stride, height, width, window } = self;
        let radius = window / 2;
        assert!(radius <= MARGIN);
        let row = |y: isize| &source[y.clamp(0, height as isize - 1) as usize * width..];
        for group in (0..height).step_by(GROUP) {
            let rows = GROUP.min(height - group);
            for y in group..group + rows {
                let at = (y - group) * stride + MARGIN;
                if y == 0 {
                    columns[..stride].fill(0);
                    for dy in -(radius as isize)..=radius as isize {
                        for x in (0..width).step_by(BLOCK) {
                            let entering = block(row(dy), x);
                            let sums = block_mut(columns, at + x);
                            (0..BLOCK).for_each(|i| sums[i] = sums[i].wrapping_add(entering[i]));
                        }
                    }
                } else {
                    let before = (y - 1) % GROUP * stride + MARGIN;
                    let (entering, leaving) = (row((y + radius) as isize), row(y as isize - 1 - radius as isize));
                    for x in (0..width).step_by(BLOCK) {
                        let (mut sums, entering, leaving) =
                            (*block(columns, before + x), block(entering, x), block(leaving, x));
                        (0..BLOCK).for_each(|i| sums[i] = sums[i].wrapping_add(entering[i]).wrapping_sub(leaving[i]));
                        *block_mut(columns, at + x) = sums;
                    }
                }
                let (first, last) = (columns[at], columns[at + width - 1]);
                columns[at - MARGIN..at].fill(first);
                columns[at + width..][..MARGIN].fill(last);
            }
            for y in group..group + rows {
                let at = (y - group) * stride + MARGIN - radius;
                for x in (0..width).step_by(BLOCK) {
                    let mut sums = [0u8; BLOCK];
                    for dx in 0..window {
                        let columns = block(columns, at + x + dx);
                        (0..BLOCK).for_each(|i| sums[i] = sums[i].wrapping_add(columns[i]));
                    }
                    *block_mut(counts, y * width + x) = sums;
                }
            }
        }
    }
}

#[inline(always)]
fn block(values: &[u8], at: usize) -> &[u8; BLOCK] {
    values[at..].first_chunk().expect("padded")
}

#[inline(always)]
fn block_mut(values: &mut [u8], at: usize) -> &mut [u8; BLOCK] {
    values[at..].first_chunk_mut().expect("padded")
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
