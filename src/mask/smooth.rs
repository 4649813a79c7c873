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
const GROUP: usize = 16;

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
        assert!(window % 2 == 1 && (3..=15).contains(&window));
        let row = |y: isize| y.clamp(0, height as isize - 1) as usize * width;
        for group in (0..height).step_by(GROUP) {
            let rows = GROUP.min(height - group);
            for x in (0..width).step_by(BLOCK) {
                // The sums of the row above, of which there is one above the image too: its borders are repeated.
                let mut sums = [0u8; BLOCK];
                if group == 0 {
                    for dy in 0..window as isize {
                        let entering = block(source, row(dy - 1 - radius as isize) + x);
                        (0..BLOCK).for_each(|i| sums[i] = sums[i].wrapping_add(entering[i]));
                    }
                } else {
                    sums = *block(columns, (GROUP - 1) * stride + MARGIN + x);
                }
                for y in 0..rows {
                    let y_image = (group + y) as isize;
                    let entering = block(source, row(y_image + radius as isize) + x);
                    let leaving = block(source, row(y_image - 1 - radius as isize) + x);
                    (0..BLOCK).for_each(|i| sums[i] = sums[i].wrapping_add(entering[i]).wrapping_sub(leaving[i]));
                    *block_mut(columns, y * stride + MARGIN + x) = sums;
                }
            }
            for y in 0..rows {
                let at = y * stride + MARGIN;
                let (first, last) = (columns[at], columns[at + width - 1]);
                columns[at - MARGIN..at].fill(first);
                columns[at + width..][..MARGIN].fill(last);
            }
            for y in 0..rows {
                let columns = &columns[y * stride + MARGIN - radius..];
                let counts = &mut counts[(group + y) * width..];
                for x in (0..width).step_by(BLOCK) {
                    let columns: &[u8; BLOCK + MARGIN] = columns[x..].first_chunk().expect("padded");
                    let mut sums = [0u8; BLOCK];
                    for dx in 0..window {
                        let entering = block(columns, dx);
                        (0..BLOCK).for_each(|i| sums[i] = sums[i].wrapping_add(entering[i]));
                    }
                    *block_mut(counts, x) = sums;
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
