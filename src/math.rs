//! The f32 functions that masks need, the same bits at every SIMD level and on CUDA.
//!
//! Polynomials after Cephes (Moshier), reductions exact, every fused multiply-add written out.

use crate::simd::Level;

/// ln(u) for a normal u in (0, 1]; absolute error below 1.2e-7 near 1, relative below 1e-7 elsewhere.
#[inline(always)]
pub(crate) fn ln<L: Level>(u: f32) -> f32 {
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let bits = u.to_bits().wrapping_add(0x3f80_0000 - ROOT_HALF);
    let exponent = (bits >> 23) as i32 - 127;
    // The mantissa, in [√½, √2).
    let x = f32::from_bits((bits & 0x007f_ffff) + ROOT_HALF) - 1.0;
    let e = exponent as f32;
    let z = x * x;
    let mut y = 7.037_683_6e-2;
    y = L::fma(y, x, -1.151_461e-1);
    y = L::fma(y, x, 1.167_699_9e-1);
    y = L::fma(y, x, -1.242_014_1e-1);
    y = L::fma(y, x, 1.424_932_3e-1);
    y = L::fma(y, x, -1.666_805_8e-1);
    y = L::fma(y, x, 2.000_071_5e-1);
    y = L::fma(y, x, -2.499_999_4e-1);
    y = L::fma(y, x, 3.333_333e-1);
    y = y * x * z;
    y = L::fma(e, -2.121_944_4e-4, y);
    y = L::fma(z, -0.5, y);
    L::fma(e, 0.693_359_4, x + y)
}

/// (cos, sin) of 2π·turn / 2³²; absolute error below 1.3e-7.
#[inline(always)]
pub(crate) fn cos_sin<L: Level>(turn: u32) -> (f32, f32) {
    // The nearest quarter turn, and what is left, in ± an eighth of a turn: exact.
    let quarter = turn.wrapping_add(0x2000_0000) >> 30;
    let rest = turn.wrapping_sub(quarter << 30) as i32;
    let a = rest as f32 * 1.462_918_1e-9; // 2π / 2³²
    let z = a * a;
    let mut s = L::fma(-1.951_529_6e-4, z, 8.332_161e-3);
    s = L::fma(s, z, -1.666_665_5e-1);
    s = L::fma(s * z, a, a);
    let mut c = L::fma(2.443_315_7e-5, z, -1.388_731_6e-3);
    c = L::fma(c, z, 4.166_664_6e-2);
    c = L::fma(c * z, z, L::fma(z, -0.5, 1.0));
    let (cos, sin) = if quarter & 1 == 1 { (s, c) } else { (c, s) };
    (if quarter == 1 || quarter == 2 { -cos } else { cos }, if quarter >= 2 { -sin } else { sin })
}

/// 2^−z for z ≥ 0 (infinity included); absolute error below 1e-7, and below 2⁻²⁵ from z = 32 on.
#[inline(always)]
pub(crate) fn exp2_neg<L: Level>(z: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it leaves the integer in the low bits
    let z = if z < 32.0 { z } else { 32.0 };
    let shifted = z + ROUND;
    let n = shifted - ROUND;
    let f = n - z; // exact, in [−½, ½]
    let mut y = 1.535_336_2e-4;
    y = L::fma(y, f, 1.339_887_4e-3);
    y = L::fma(y, f, 9.618_437e-3);
    y = L::fma(y, f, 5.550_332_5e-2);
    y = L::fma(y, f, 2.402_264_8e-1);
    y = L::fma(y, f, 6.931_472e-1);
    y = L::fma(y, f, 1.0);
    // 2^−n, from the integer in the low bits of `shifted`.
    let scale = f32::from_bits((127u32 << 23).wrapping_sub(shifted.to_bits() << 23));
    y * scale
}

/// Two independent standard normals from 64 random bits (Box and Muller).
#[inline(always)]
pub(crate) fn normals<L: Level>(a: u32, b: u32) -> (f32, f32) {
    let u = ((a >> 8) + 1) as f32 * (1.0 / (1 << 24) as f32); // (0, 1], exact
    let radius = (-2.0 * ln::<L>(u)).sqrt();
    let (cos, sin) = cos_sin::<L>(b);
    (radius * cos, radius * sin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Fused, Portable};

    #[test]
    fn ln_is_close_to_the_logarithm() {
        for i in (1..=1u32 << 24).step_by(101).chain([1, 1 << 24]) {
            let u = i as f32 / (1 << 24) as f32;
            let (got, exact) = (ln::<Fused>(u), f64::from(u).ln());
            let bound = 1.2e-7 * exact.abs().max(1.0);
            assert!((f64::from(got) - exact).abs() <= bound, "ln({u}) = {got}, not {exact}");
            assert_eq!(got.to_bits(), ln::<Portable>(u).to_bits());
        }
    }

    #[test]
    fn cos_and_sin_are_close() {
        for turn in (0..u32::MAX - 65_537).step_by(65_537) {
            let angle = f64::from(turn) / 4_294_967_296.0 * std::f64::consts::TAU;
            let (cos, sin) = cos_sin::<Fused>(turn);
            assert!((f64::from(cos) - angle.cos()).abs() < 1.3e-7, "cos of turn {turn:#x}");
            assert!((f64::from(sin) - angle.sin()).abs() < 1.3e-7, "sin of turn {turn:#x}");
            assert_eq!((cos, sin), cos_sin::<Portable>(turn));
        }
    }

    #[test]
    fn exp2_is_close_and_ends() {
        for i in 0..100_000 {
            let z = i as f32 * 3.3e-4;
            let (got, exact) = (exp2_neg::<Fused>(z), (-f64::from(z)).exp2());
            // Beyond 32 it stays at 2⁻³², which 1 − x rounds away.
            assert!((f64::from(got) - exact).abs() < 1e-7, "2^-{z} = {got}, not {exact}");
            assert_eq!(got.to_bits(), exp2_neg::<Portable>(z).to_bits());
        }
        assert_eq!(exp2_neg::<Fused>(0.0), 1.0);
        assert_eq!(1.0 - exp2_neg::<Fused>(f32::INFINITY), 1.0);
        assert_eq!(1.0 - exp2_neg::<Fused>(32.0), 1.0);
    }
}
