//! The warp of a hard-edged mask: u = c + S·A⁻¹·S⁻¹(p − c), about the image centre c.

use crate::simd::Level;

/// Where each pixel of a warped mask comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InverseWarp {
    matrix: [f32; 4],
    centre: [f32; 2],
    height: usize,
    width: usize,
}

/// One row of it: u is linear in x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WarpRow {
    step: [f32; 2],
    start: [f32; 2],
    centre_x: f32,
}

impl InverseWarp {
    pub fn new(matrix: [f32; 4], height: usize, width: usize) -> Self {
        InverseWarp { matrix, centre: [width as f32 * 0.5, height as f32 * 0.5], height, width }
    }

    /// Row `y`.
    #[inline(always)]
    pub fn row<L: Level>(&self, y: usize) -> WarpRow {
        let [xx, xy, yx, yy] = self.matrix;
        let [centre_x, centre_y] = self.centre;
        let dy = y as f32 + 0.5 - centre_y;
        WarpRow { step: [xx, yx], start: [L::fma(xy, dy, centre_x), L::fma(yy, dy, centre_y)], centre_x }
    }

    /// Least and greatest u, as (x, y) pairs. Rounding is monotone, so the corners bound every pixel.
    #[inline(always)]
    pub fn bounds<L: Level>(&self) -> ([f32; 2], [f32; 2]) {
        let corners = [0, self.height - 1].map(|y| {
            let row = self.row::<L>(y);
            [row.at::<L>(0), row.at::<L>(self.width as i32 - 1)]
        });
        let all = || corners.into_iter().flatten();
        let least = all().fold([f32::INFINITY; 2], |m, (x, y)| [m[0].min(x), m[1].min(y)]);
        let most = all().fold([f32::NEG_INFINITY; 2], |m, (x, y)| [m[0].max(x), m[1].max(y)]);
        (least, most)
    }
}

impl WarpRow {
    /// u at pixel `x`: of 32 bits, which become an f32 many at a time.
    #[inline(always)]
    pub fn at<L: Level>(&self, x: i32) -> (f32, f32) {
        let dx = x as f32 + 0.5 - self.centre_x;
        (L::fma(self.step[0], dx, self.start[0]), L::fma(self.step[1], dx, self.start[1]))
    }
}
