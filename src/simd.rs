//! One body, compiled for each instruction set, chosen at run time.
//!
//! Every level gives the same bits: bodies use only +, −, ×, ÷, √, comparisons, integer operations
//! and [`Level::fma`], each correctly rounded, in an order that does not depend on the vector width.

use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set's arithmetic.
pub(crate) trait Level {
    /// a·b + c, rounded once.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// A fused multiply-add in hardware. Only called from code compiled with it.
pub(crate) struct Fused;

impl Level for Fused {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// No fused multiply-add.
pub(crate) struct Portable;

impl Level for Portable {
    /// The product of two f32 is exact in f64; the sum is rounded there to odd, so that the rounding
    /// to f32 is the only one that counts (Boldo and Melquiond, 2008). Branch-free, so it vectorises.
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
        let sum = product + c;
        let carried = sum - product;
        let error = (product - (sum - carried)) + (c - carried);
        // An infinity or NaN has no neighbour to round to; a zero error leaves the sum as it is.
        let inexact = error != 0.0 && sum.abs() < f64::INFINITY;
        let bits = sum.to_bits();
        let towards_error = (error > 0.0) == (sum > 0.0);
        let down = if towards_error { bits } else { bits.wrapping_sub(1) };
        let odd = if bits & 1 == 1 { bits } else { down | 1 };
        f64::from_bits(if inexact { odd } else { bits }) as f32
    }
}

/// A loop over slices, to be compiled for each level.
///
/// `run` and everything it calls are `#[inline(always)]`, or they would keep the baseline's instructions.
/// `LANES` is a hint of the vector width; results do not depend on it.
pub(crate) trait Kernel {
    type Output;
    fn run<L: Level, const LANES: usize>(self) -> Self::Output;
}

const UNKNOWN: u8 = 0;
const PORTABLE: u8 = 1;
#[cfg(target_arch = "x86_64")]
const AVX2: u8 = 2;
#[cfg(target_arch = "x86_64")]
const AVX512: u8 = 3;
#[cfg(target_arch = "aarch64")]
const NEON: u8 = 4;

static LEVEL: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Every level this machine has, by name, the portable one first.
pub fn levels() -> Vec<&'static str> {
    available().map(|(name, _)| name).collect()
}

/// Uses one level from now on, in the whole process: for tests and measurements.
///
/// # Panics
/// If the machine does not have it.
pub fn force_level(name: &str) {
    let (_, level) = available().find(|&(n, _)| n == name).unwrap_or_else(|| panic!("no SIMD level {name:?} here"));
    LEVEL.store(level, Ordering::Relaxed);
}

/// The level in use.
pub fn level_name() -> &'static str {
    let current = level();
    available().find(|&(_, level)| level == current).map_or("portable", |(name, _)| name)
}

/// Name and number of each level this machine has, the best last.
pub(crate) fn available() -> impl Iterator<Item = (&'static str, u8)> {
    [
        Some(("portable", PORTABLE)),
        #[cfg(target_arch = "x86_64")]
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(("avx2", AVX2)),
        #[cfg(target_arch = "x86_64")]
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma"))
        .then_some(("avx512", AVX512)),
        #[cfg(target_arch = "aarch64")]
        Some(("neon", NEON)),
    ]
    .into_iter()
    .flatten()
}

#[inline]
fn level() -> u8 {
    match LEVEL.load(Ordering::Relaxed) {
        UNKNOWN => {
            let best = available().last().map_or(PORTABLE, |(_, level)| level);
            LEVEL.store(best, Ordering::Relaxed);
            best
        }
        known => known,
    }
}

/// Runs a kernel at the level in use.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_at(level(), kernel)
}

/// Runs a kernel at one of the [`available`] levels.
#[inline]
pub(crate) fn dispatch_at<K: Kernel>(level: u8, kernel: K) -> K::Output {
    match level {
        // SAFETY: `available` has seen the features.
        #[cfg(target_arch = "x86_64")]
        AVX512 => unsafe { run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        AVX2 => unsafe { run_avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        NEON => kernel.run::<Fused, 8>(),
        _ => kernel.run::<Portable, 8>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Fused, 16>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Fused, 8>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]
        #[test]
        fn the_portable_fma_is_the_fused_one(a: u32, b: u32, c: u32) {
            let [a, b, c] = [a, b, c].map(f32::from_bits);
            let (got, expected) = (Portable::fma(a, b, c), a.mul_add(b, c));
            prop_assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{a:e} {b:e} {c:e}: {got:e} {expected:e}");
        }

        #[test]
        fn the_portable_fma_rounds_once_near_ties(a in 0.5f32..2.0, b in 0.5f32..2.0, scale in -60i32..4, sign: bool) {
            // c close to a half of the product's last place, where two roundings go wrong.
            let c = libm::ldexpf(if sign { 1.0 } else { -1.0 }, scale) * (1.0 + f32::EPSILON);
            prop_assert_eq!(Portable::fma(a, b, c).to_bits(), a.mul_add(b, c).to_bits());
        }
    }

    #[test]
    fn exact_cancellations_and_zeros_keep_their_sign() {
        for [a, b, c] in [
            [1.0, -1.0, 1.0],
            [0.0, -1.0, 0.0],
            [-0.0, 1.0, -0.0],
            [3.0, 0.1, -0.3],
            [1e-30, 1e-30, -1e-45],
            [-1e-30, 1e-30, 1e-45],
        ] {
            assert_eq!(Portable::fma(a, b, c).to_bits(), f32::mul_add(a, b, c).to_bits(), "{a:e} {b:e} {c:e}");
        }
    }
}
