//! CutMix: M = 0 where x0 ≤ u_x < x1 and y0 ≤ u_y < y1, else 1.
//!
//! # Source
//! CutMix (Yun et al., 2019).

use super::{HardRow, warp::InverseWarp};
use crate::simd::Level;

#[derive(Clone, Copy, Debug)]
pub(super) struct CutMix {
    /// x0, y0, x1, y1, pixels.
    edges: [i32; 4],
    warp: Option<InverseWarp>,
}

impl CutMix {
    pub fn new(edges: [i32; 4], warp: Option<InverseWarp>) -> Self {
        CutMix { edges, warp }
    }
}

impl HardRow for CutMix {
    fn repeats(&self, y: usize) -> bool {
        let [_, y0, _, y1] = self.edges;
        self.warp.is_none() && y as i32 != y0 && y as i32 != y1
    }

    #[inline(always)]
    fn row<L: Level>(&self, y: usize, row: &mut [u8]) {
        let [x0, y0, x1, y1] = self.edges;
        match self.warp {
            // A pixel centre x + ½ lies in [x0, x1) exactly where the integer x does.
            None => {
                row.fill(1);
                let clip = |edge: i32| edge.clamp(0, row.len() as i32) as usize;
                let (start, end) = (clip(x0), clip(x1));
                if start < end && (y0..y1).contains(&(y as i32)) {
                    row[start..end].fill(0);
                }
            }
            Some(warp) => {
                let [x0, y0, x1, y1] = [x0, y0, x1, y1].map(|edge| edge as f32);
                let warp = warp.row::<L>(y);
                for (x, keep) in (0..).zip(row) {
                    let (ux, uy) = warp.at::<L>(x);
                    let inside = (x0 <= ux) & (ux < x1) & (y0 <= uy) & (uy < y1);
                    *keep = u8::from(!inside);
                }
            }
        }
    }
}
