//! What follows from the drawn numbers, in f64 by `libm`, rounded once to f32.

use super::{Derived, Layer, Shape, Warp};

impl Layer {
    /// A layer for images of `height` × `width` pixels.
    pub(crate) fn new(lambda: f32, given: f32, shape: Shape, height: usize, width: usize) -> Self {
        let mut derived = Derived::default();
        match shape {
            Shape::MixUp => {}
            Shape::CutMix { .. } | Shape::GridMix { .. } => {}
            Shape::FMix { .. } => derived.given_px = given_px(given, height, width),
            Shape::AgMix { sigma_px, q, angle_rad, .. } => derived.matrix = principal_axes(sigma_px, q, angle_rad),
            Shape::GMix { sigma_px, .. } => {
                let scale = axis_scale(sigma_px, 1.0);
                derived.matrix = [scale as f32, 0.0, 0.0, scale as f32];
            }
        }
        if let Some(warp) = shape.augment().warp {
            derived.matrix = inverse_warp(warp, height, width);
        }
        Layer { lambda, given, shape, derived }
    }
}

/// round(g·H·W), half away from zero.
fn given_px(given: f32, height: usize, width: usize) -> u32 {
    libm::round(f64::from(given) * (height * width) as f64) as u32
}

/// S·A⁻¹·S⁻¹ row by row; S = diag(W, H), A = R(angle)·[[1, shear], [0, 1]].
fn inverse_warp(warp: Warp, height: usize, width: usize) -> [f32; 4] {
    let (angle, shear) = (f64::from(warp.angle_rad), f64::from(warp.shear));
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let ratio = width as f64 / height as f64;
    [cos + shear * sin, (sin - shear * cos) * ratio, -sin / ratio, cos].map(|m| m as f32)
}

/// The factor that turns a distance along an axis into the square root of a power of two's exponent:
/// ½·(e / (σ·√v))² / ln 2 = (e · factor)².
///
/// σ = 0 gives the largest factor: every distance but 0 is then far outside. The renderer treats it apart.
fn axis_scale(sigma_px: f32, variance: f64) -> f64 {
    // Beyond 1e18 a half pixel is already past the end of the Gaussian, and products stay finite in f32.
    libm::sqrt(0.5 * std::f64::consts::LOG2_E / variance) / f64::from(sigma_px).max(1e-18)
}

/// e = R(θ + π/4)ᵀ d along the axes of Σ, whose variances are 1 + q and 1 − q.
fn principal_axes(sigma_px: f32, q: f32, angle_rad: f32) -> [f32; 4] {
    let axis_rad = f64::from(angle_rad) + std::f64::consts::FRAC_PI_4;
    let (sin, cos) = (libm::sin(axis_rad), libm::cos(axis_rad));
    let (along, across) = (axis_scale(sigma_px, 1.0 + f64::from(q)), axis_scale(sigma_px, 1.0 - f64::from(q)));
    [along * cos, along * sin, -across * sin, across * cos].map(|m| m as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_of_a_square_swaps_the_axes() {
        // A = R(90°) takes (1, 0) to (0, 1); its inverse takes (0, 1) to (1, 0).
        let warp = Warp { angle_rad: std::f32::consts::FRAC_PI_2, shear: 0.0 };
        let m = inverse_warp(warp, 10, 10);
        for (got, expected) in m.into_iter().zip([0.0, 1.0, -1.0, 0.0]) {
            // The f32 nearest to π/2 is 4.4e-8 away from it.
            assert!((got - expected).abs() < 1e-7, "{m:?}");
        }
    }

    #[test]
    fn the_inverse_warp_undoes_the_warp() {
        let (angle, shear, width, height) = (0.7f64, -0.25f64, 50.0f64, 20.0f64);
        let m = inverse_warp(Warp { angle_rad: 0.7, shear: -0.25 }, 20, 50).map(f64::from);
        // S·A·S⁻¹ with A = [[cos, shear·cos − sin], [sin, shear·sin + cos]], written out.
        let (sin, cos) = angle.sin_cos();
        let a = [cos, (shear * cos - sin) * width / height, sin * height / width, shear * sin + cos];
        let product = [
            m[0] * a[0] + m[1] * a[2],
            m[0] * a[1] + m[1] * a[3],
            m[2] * a[0] + m[3] * a[2],
            m[2] * a[1] + m[3] * a[3],
        ];
        for (got, expected) in product.into_iter().zip([1.0, 0.0, 0.0, 1.0]) {
            // Entries are at most 3, each rounded to 2⁻²⁴ relative: 4·3·3·2⁻²⁴ = 2.1e-6.
            assert!((got - expected).abs() < 2.2e-6, "{product:?}");
        }
    }

    #[test]
    fn a_half_pixel_count_rounds_away_from_zero() {
        assert_eq!(given_px(0.5, 1, 1), 1);
        assert_eq!(given_px(0.5, 3, 3), 5);
        assert_eq!(given_px(0.0, 3, 3), 0);
        assert_eq!(given_px(1.0, 3, 3), 9);
    }
}
