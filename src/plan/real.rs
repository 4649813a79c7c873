//! An f64 whose functions are those of the `libm` crate.
//!
//! `rand_distr` is generic over its float. On plain `f64` it would call whatever `ln` the platform
//! or another crate's feature selects; on [`Real`] it draws the same numbers everywhere.

use crate::rng::{Slot, Word};
use num_traits::{Float, Num, NumCast, One, ToPrimitive, Zero};
use rand_core::{Rng, TryRng};
use rand_distr::{Distribution, Exp1, Open01, StandardNormal};
use std::convert::Infallible;
use std::num::FpCategory;
use std::ops::{Add, Div, Mul, Neg, Rem, Sub};

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Real(pub f64);

/// The words of a slot, one after the other, as the random source of a rejection sampler.
pub(crate) struct Words {
    pub slot: Slot,
    pub next: u32,
}

impl Words {
    pub fn next_word(&mut self) -> Word {
        let word = self.slot.word(self.next);
        self.next += 1;
        word
    }
}

impl TryRng for Words {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next_word().0 as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next_word().0)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_word().0.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl Distribution<Real> for Open01 {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> Real {
        Real(Word(rng.next_u64()).open())
    }
}

impl Distribution<Real> for Exp1 {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> Real {
        Real(-libm::log(Word(rng.next_u64()).open()))
    }
}

impl Distribution<Real> for StandardNormal {
    /// Box and Muller's method, which takes a fixed number of words.
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> Real {
        let radius = libm::sqrt(-2.0 * libm::log(Word(rng.next_u64()).open()));
        Real(radius * libm::cos(std::f64::consts::TAU * Word(rng.next_u64()).unit()))
    }
}

macro_rules! operators {
    ($($Op:ident $op:ident),+) => { $(
        impl $Op for Real {
            type Output = Real;
            fn $op(self, other: Real) -> Real { Real(self.0.$op(other.0)) }
        }
    )+ };
}
operators!(Add add, Sub sub, Mul mul, Div div, Rem rem);

impl Neg for Real {
    type Output = Real;
    fn neg(self) -> Real {
        Real(-self.0)
    }
}

impl Zero for Real {
    fn zero() -> Self {
        Real(0.0)
    }
    fn is_zero(&self) -> bool {
        self.0 == 0.0
    }
}

impl One for Real {
    fn one() -> Self {
        Real(1.0)
    }
}

impl Num for Real {
    type FromStrRadixErr = <f64 as Num>::FromStrRadixErr;
    fn from_str_radix(text: &str, radix: u32) -> Result<Self, Self::FromStrRadixErr> {
        f64::from_str_radix(text, radix).map(Real)
    }
}

impl ToPrimitive for Real {
    fn to_i64(&self) -> Option<i64> {
        self.0.to_i64()
    }
    fn to_u64(&self) -> Option<u64> {
        self.0.to_u64()
    }
    fn to_f64(&self) -> Option<f64> {
        Some(self.0)
    }
}

impl NumCast for Real {
    fn from<T: ToPrimitive>(n: T) -> Option<Self> {
        n.to_f64().map(Real)
    }
}

/// Forwards constants, tests and functions of `Float`; the functions go to `libm` by name.
macro_rules! float {
    (constants $($constant:ident = $value:expr),+; tests $($test:ident),+; exact $($exact:ident),+;
     libm $($name:ident = $function:ident),+; libm2 $($name2:ident = $function2:ident),+;) => {
        impl Float for Real {
            $(fn $constant() -> Self { Real($value) })+
            $(fn $test(self) -> bool { self.0.$test() })+
            $(fn $exact(self) -> Self { Real(self.0.$exact()) })+
            $(fn $name(self) -> Self { Real(libm::$function(self.0)) })+
            $(fn $name2(self, other: Self) -> Self { Real(libm::$function2(self.0, other.0)) })+

            fn fract(self) -> Self { Real(self.0 - libm::trunc(self.0)) }
            fn classify(self) -> FpCategory { self.0.classify() }
            fn recip(self) -> Self { Real(1.0 / self.0) }
            fn powi(self, n: i32) -> Self { Real(libm::pow(self.0, n as f64)) }
            fn log(self, base: Self) -> Self { Real(libm::log(self.0) / libm::log(base.0)) }
            fn mul_add(self, a: Self, b: Self) -> Self { Real(libm::fma(self.0, a.0, b.0)) }
            fn abs_sub(self, other: Self) -> Self { Real(libm::fdim(self.0, other.0)) }
            fn sin_cos(self) -> (Self, Self) { (self.sin(), self.cos()) }
            fn integer_decode(self) -> (u64, i16, i8) { Float::integer_decode(self.0) }
        }
    };
}
float! {
    constants nan = f64::NAN, infinity = f64::INFINITY, neg_infinity = f64::NEG_INFINITY, neg_zero = -0.0,
        min_value = f64::MIN, min_positive_value = f64::MIN_POSITIVE, max_value = f64::MAX;
    tests is_nan, is_infinite, is_finite, is_normal, is_sign_positive, is_sign_negative;
    exact abs, signum;
    libm floor = floor, ceil = ceil, round = round, trunc = trunc, sqrt = sqrt, cbrt = cbrt, exp = exp, exp2 = exp2,
        exp_m1 = expm1, ln = log, ln_1p = log1p, log2 = log2, log10 = log10, sin = sin, cos = cos, tan = tan,
        asin = asin, acos = acos, atan = atan, sinh = sinh, cosh = cosh, tanh = tanh, asinh = asinh, acosh = acosh,
        atanh = atanh;
    libm2 powf = pow, hypot = hypot, atan2 = atan2, max = fmax, min = fmin;
}
