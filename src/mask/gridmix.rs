//! GridMix: M = 0 where cell (⌊(u_y·n)/H⌋ mod n, ⌊(u_x·n)/W⌋ mod n) is one of the given cells, else 1.
//!
//! # Source
//! GridMix (Baek et al., 2021).

use super::{HardRow, warp::InverseWarp};
use crate::plan::Cells;
use crate::simd::{Level, Portable};

#[derive(Clone, Copy, Debug)]
pub(super) struct GridMix {
    n: u32,
    cells: Cells,
    height: usize,
    width: usize,
    warp: Option<Warped>,
}

#[derive(Clone, Copy, Debug)]
struct Warped {
    inverse: InverseWarp,
    /// Every pixel falls into the grid or its next repetition on either side.
    near: bool,
}

impl GridMix {
    pub fn new(n: u32, cells: Cells, height: usize, width: usize, warp: Option<InverseWarp>) -> Self {
        let warp = warp.map(|inverse| {
            // All levels give the same bits, so the slow one decides for all.
            let (least, most) = inverse.bounds::<Portable>();
            let sides = [width as f32, height as f32];
            let near = (0..2).all(|axis| {
                let index = |u: f32| cell_index(u, n as f32, sides[axis]);
                index(least[axis]) >= -(n as f32) && index(most[axis]) < 2.0 * n as f32
            });
            Warped { inverse, near }
        });
        GridMix { n, cells, height, width, warp }
    }

    /// First pixel of column or row `cell` on an axis of `side` pixels: the least x with (2x + 1)·n ≥ 2·side·cell.
    #[inline(always)]
    fn start(&self, cell: u32, side: usize) -> usize {
        let n = u64::from(self.n);
        ((2 * side as u64 * u64::from(cell) + n - u64::from(cell > 0)) / (2 * n)) as usize * usize::from(cell > 0)
    }

    /// Row of the grid, unwarped: ⌊(2y + 1)·n / (2H)⌋.
    #[inline(always)]
    fn line(&self, y: usize) -> u32 {
        ((2 * y as u64 + 1) * u64::from(self.n) / (2 * self.height as u64)) as u32
    }

    #[inline(always)]
    fn warped_row<L: Level, const NEAR: bool>(&self, inverse: &InverseWarp, y: usize, row: &mut [u8]) {
        let n = self.n as i32;
        let (side, height, width) = (self.n as f32, self.height as f32, self.width as f32);
        let wrap = |index: f32| {
            if NEAR {
                let index = if index < 0.0 { index + side } else { index };
                let index = if index >= side { index - side } else { index };
                // SAFETY: the corners of the image bound it: 0 to n − 1.
                unsafe { index.to_int_unchecked::<i32>() }
            } else {
                (index as i32).rem_euclid(n)
            }
        };
        let warp = inverse.row::<L>(y);
        // Cells first, many at a time; then what they are. There are at most 256 of them.
        for (x, keep) in (0..).zip(row.iter_mut()) {
            let (ux, uy) = warp.at::<L>(x);
            let cell = wrap(cell_index(uy, side, height)) * n + wrap(cell_index(ux, side, width));
            *keep = cell as u8;
        }
        // As shifts, which are done many at a time too.
        let given = self.cells.words();
        if n <= 8 {
            for keep in row {
                *keep = !(given[0] >> (*keep & 63)) as u8 & 1;
            }
        } else {
            for keep in row {
                let [low, high] = if *keep & 64 == 0 { [given[0], given[2]] } else { [given[1], given[3]] };
                let word = if *keep & 128 == 0 { low } else { high };
                *keep = !(word >> (*keep & 63)) as u8 & 1;
            }
        }
    }
}

/// ⌊(u·n)/side⌋, multiplied first. Plans keep |u| below 2³¹/n.
#[inline(always)]
fn cell_index(u: f32, n: f32, side: f32) -> f32 {
    (u * n / side).floor()
}

impl HardRow for GridMix {
    fn repeats(&self, y: usize) -> bool {
        self.warp.is_none() && self.line(y) == self.line(y - 1)
    }

    #[inline(always)]
    fn row<L: Level>(&self, y: usize, row: &mut [u8]) {
        match &self.warp {
            None => {
                let n = self.n;
                let line = self.line(y);
                for col in 0..n {
                    let (start, end) = (self.start(col, self.width), self.start(col + 1, self.width).min(self.width));
                    row[start..end].fill(u8::from(!self.cells.contains(line * n + col)));
                }
            }
            Some(Warped { inverse, near: true }) => self.warped_row::<L, true>(inverse, y, row),
            Some(Warped { inverse, near: false }) => self.warped_row::<L, false>(inverse, y, row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_start_where_their_formula_says() {
        for n in 1..=16u32 {
            for side in [1usize, 2, 3, 7, 16, 31, 32, 33, 224, 225] {
                let grid = GridMix::new(n, Cells::default(), side, side, None);
                for x in 0..side {
                    let col = ((2 * x as u32 + 1) * n / (2 * side as u32)) as usize;
                    let found = (0..n).rev().find(|&c| grid.start(c, side) <= x).unwrap() as usize;
                    assert_eq!(found, col, "n = {n}, side = {side}, x = {x}");
                }
                assert!(grid.start(n, side) >= side);
            }
        }
    }
}
