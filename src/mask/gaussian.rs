//! GMix and AGMix: M = 1 − exp(−½ dᵀΣ⁻¹d / σ²) = 1 − 2^−|A·d|², d from the centre to the pixel.
//!
//! A holds the principal axes, scaled on the host: near |q| = 1 they keep two more digits than Σ⁻¹.
//!
//! # Source
//! MiAMix (Liang et al., 2023), Eq. 4 to 6.

use crate::math::exp2_neg;
use crate::simd::{Kernel, Level, dispatch};

#[derive(Clone, Copy, Debug)]
pub(super) struct Gaussian {
    centre: [f32; 2],
    axes: [f32; 4],
}

impl Gaussian {
    pub fn new(cx: f32, cy: f32, axes: [f32; 4]) -> Self {
        Gaussian { centre: [cx, cy], axes }
    }

    /// Rows `first_row..`; `out`: `[rows, width]`.
    pub fn render(self, first_row: usize, width: usize, out: &mut [f32]) {
        dispatch(Render { gaussian: self, first_row, width, out });
    }
}

struct Render<'a> {
    gaussian: Gaussian,
    first_row: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Render<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Gaussian { centre: [cx, cy], axes: [ax, ay, bx, by] } = self.gaussian;
        for (y, row) in (self.first_row..).zip(self.out.chunks_exact_mut(self.width)) {
            let dy = y as f32 + 0.5 - cy;
            let (along, across) = (ay * dy, by * dy);
            for (x, out) in (0i32..).zip(row) {
                let dx = x as f32 + 0.5 - cx;
                let e = L::fma(ax, dx, along);
                let f = L::fma(bx, dx, across);
                *out = 1.0 - exp2_neg::<L>(L::fma(e, e, f * f));
            }
        }
    }
}
