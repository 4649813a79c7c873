//! One body, compiled for each instruction set, chosen at run time.
//!
//! Every level gives the same bits: bodies use only +, −, ×, ÷, √, comparisons, integer operations
//! and `Level::fma`, each correctly rounded, in an order that does not depend on the vector width.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set's arithmetic.
pub(crate) trait Level {
    /// As many f32 as its registers hold.
    type Lanes: Lanes;

    /// a·b + c, rounded once.
    fn fma(a: f32, b: f32, c: f32) -> f32;

    /// Writes a cache line past the caches, where the machine can. Nobody reads it before [`fence`], not even this thread.
    ///
    /// # Safety
    /// `to` can be written.
    #[inline(always)]
    unsafe fn stream(to: *mut Line, line: &Line) {
        // SAFETY: the caller's promise.
        unsafe { to.write(*line) };
    }
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

impl Default for Line {
    #[inline(always)]
    fn default() -> Self {
        Line([0; 64])
    }
}

/// Makes [`Level::stream`]'s writes visible before those that follow.
pub(crate) fn fence() {
    // SAFETY: every x86-64 processor has it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// A register of f32, for the loops that the compiler does not keep in registers by itself.
pub(crate) trait Lanes: Copy {
    const N: usize;
    fn splat(value: f32) -> Self;
    /// `N` values.
    ///
    /// # Safety
    /// They can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `N` values can be written.
    unsafe fn store(self, to: *mut f32);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    /// self·b + c, rounded once.
    fn fma(self, b: Self, c: Self) -> Self;
    /// The last value first.
    fn reversed(self) -> Self;
}

/// Lanes without a register type of their own: `L`'s arithmetic, value by value.
pub(crate) struct Array<L, const N: usize>([f32; N], PhantomData<L>);

impl<L, const N: usize> Clone for Array<L, N> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, const N: usize> Copy for Array<L, N> {}

impl<L: Level, const N: usize> Array<L, N> {
    #[inline(always)]
    fn from_fn(value: impl FnMut(usize) -> f32) -> Self {
        Array(std::array::from_fn(value), PhantomData)
    }
}

impl<L: Level, const N: usize> Lanes for Array<L, N> {
    const N: usize = N;
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self::from_fn(|_| value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Array(unsafe { from.cast::<[f32; N]>().read_unaligned() }, PhantomData)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; N]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::from_fn(|i| self.0[i] + other.0[i])
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::from_fn(|i| self.0[i] - other.0[i])
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self::from_fn(|i| L::fma(self.0[i], b.0[i], c.0[i]))
    }
    #[inline(always)]
    fn reversed(self) -> Self {
        Self::from_fn(|i| self.0[N - 1 - i])
    }
}

/// The register types of x86-64.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, Level, Line};
    use std::arch::x86_64::*;

    macro_rules! lanes {
        ($level:ident, $lanes:ident, $register:ty, $n:literal, $set1:ident, $loadu:ident, $storeu:ident, $add:ident, $sub:ident, $fmadd:ident, $permute:expr, $stream:expr) => {
            /// Only called from code compiled for it.
            pub(crate) struct $level;

            impl Level for $level {
                type Lanes = $lanes;
                #[inline(always)]
                fn fma(a: f32, b: f32, c: f32) -> f32 {
                    a.mul_add(b, c)
                }
                #[inline(always)]
                unsafe fn stream(to: *mut Line, line: &Line) {
                    // SAFETY: `available` has seen the instructions; the caller's promise; lines are aligned.
                    unsafe { $stream(to.cast(), std::ptr::from_ref(line).cast()) }
                }
            }

            #[derive(Clone, Copy)]
            pub(crate) struct $lanes($register);

            impl Lanes for $lanes {
                const N: usize = $n;
                #[inline(always)]
                fn splat(value: f32) -> Self {
                    // SAFETY: `available` has seen the instructions.
                    $lanes(unsafe { $set1(value) })
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: as above, and the caller's promise.
                    $lanes(unsafe { $loadu(from) })
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above.
                    unsafe { $storeu(to, self.0) }
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: `available` has seen the instructions.
                    $lanes(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    // SAFETY: as above.
                    $lanes(unsafe { $sub(self.0, other.0) })
                }
                #[inline(always)]
                fn fma(self, b: Self, c: Self) -> Self {
                    // SAFETY: as above.
                    $lanes(unsafe { $fmadd(self.0, b.0, c.0) })
                }
                #[inline(always)]
                fn reversed(self) -> Self {
                    // SAFETY: as above.
                    $lanes(unsafe { $permute(self.0) })
                }
            }
        };
    }
    lanes!(
        Avx2,
        Lanes8,
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_fmadd_ps,
        |v| _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0)),
        |to: *mut __m256i, line: *const __m256i| {
            _mm256_stream_si256(to, _mm256_load_si256(line));
            _mm256_stream_si256(to.add(1), _mm256_load_si256(line.add(1)));
        }
    );
    lanes!(
        Avx512,
        Lanes16,
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_fmadd_ps,
        |v| _mm512_permutexvar_ps(_mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), v),
        |to: *mut __m512i, line: *const __m512i| _mm512_stream_si512(to, _mm512_load_si512(line))
    );
}

#[cfg(target_arch = "x86_64")]
use x86::{Avx2, Avx512};

/// The register type of 64-bit ARM, where NEON is part of the baseline.
#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Lanes, Level};
    use std::arch::aarch64::*;

    pub(crate) struct Neon;

    impl Level for Neon {
        type Lanes = Lanes4;
        #[inline(always)]
        fn fma(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes4(float32x4_t);

    impl Lanes for Lanes4 {
        const N: usize = 4;
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: every processor of this architecture has the instructions.
            Lanes4(unsafe { vdupq_n_f32(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above, and the caller's promise.
            Lanes4(unsafe { vld1q_f32(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above.
            unsafe { vst1q_f32(to, self.0) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: every processor of this architecture has the instructions.
            Lanes4(unsafe { vaddq_f32(self.0, other.0) })
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: as above.
            Lanes4(unsafe { vsubq_f32(self.0, other.0) })
        }
        #[inline(always)]
        fn fma(self, b: Self, c: Self) -> Self {
            // SAFETY: as above.
            Lanes4(unsafe { vfmaq_f32(c.0, self.0, b.0) })
        }
        #[inline(always)]
        fn reversed(self) -> Self {
            // SAFETY: as above.
            Lanes4(unsafe {
                let swapped = vrev64q_f32(self.0);
                vextq_f32::<2>(swapped, swapped)
            })
        }
    }
}

#[cfg(target_arch = "aarch64")]
use arm::Neon;

/// A fused multiply-add in hardware, whatever the vectors are: what others are compared with.
#[cfg(test)]
pub(crate) struct Fused;

#[cfg(test)]
impl Level for Fused {
    type Lanes = Array<Fused, 8>;
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// No fused multiply-add.
pub(crate) struct Portable;

impl Level for Portable {
    type Lanes = Array<Portable, 8>;

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
pub(crate) trait Kernel {
    type Output;
    fn run<L: Level>(self) -> Self::Output;
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
        NEON => kernel.run::<Neon>(),
        _ => kernel.run::<Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
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

    /// What a register does to `N` values, value by value.
    struct EachLane;

    impl Kernel for EachLane {
        type Output = ();
        #[inline(always)]
        fn run<L: Level>(self) {
            let n = L::Lanes::N;
            // One value more than is read or written, so that nothing is aligned.
            let input = |salt: usize| -> Vec<f32> { (0..=n).map(|i| ((i * 7 + salt) as f32).sin()).collect() };
            let [a, b, c] = [1, 2, 3].map(input);
            // SAFETY: N values follow the first.
            let [va, vb, vc] = [&a, &b, &c].map(|values| unsafe { L::Lanes::load(values.as_ptr().add(1)) });
            let check = |got: L::Lanes, expected: &dyn Fn(usize) -> f32| {
                let mut out = vec![f32::NAN; n + 2];
                // SAFETY: as above, and one value more is left as it is.
                unsafe { got.store(out.as_mut_ptr().add(1)) };
                assert!(out[0].is_nan() && out[n + 1].is_nan());
                for (i, got) in out.iter().enumerate().skip(1).take(n) {
                    assert_eq!(got.to_bits(), expected(i).to_bits(), "value {i} of {n}");
                }
            };
            check(va, &|i| a[i]);
            check(L::Lanes::splat(0.1), &|_| 0.1);
            check(va.add(vb), &|i| a[i] + b[i]);
            check(va.sub(vb), &|i| a[i] - b[i]);
            check(va.fma(vb, vc), &|i| a[i].mul_add(b[i], c[i]));
            check(va.reversed(), &|i| a[n + 1 - i]);
        }
    }

    #[test]
    fn registers_do_what_their_values_would() {
        for (_, level) in available() {
            dispatch_at(level, EachLane);
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
