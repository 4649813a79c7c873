//! Elements to f32 and back, by integer rules: the same bits in every floating-point mode and on every machine.

use crate::tensor::Element;
use half::{bf16, f16};

/// An element that can be blended.
pub(crate) trait Pixel: Element + PartialEq + Default {
    fn to_f32(self) -> f32;
    /// To nearest, ties to even; u8 saturates.
    fn from_f32(value: f32) -> Self;
}

impl Pixel for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Pixel for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet_nan = bits >> 16 | 0x40;
        let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
        bf16::from_bits(if is_nan { quiet_nan } else { rounded } as u16)
    }
}

impl Pixel for f16 {
    /// The exponent is moved by a multiplication, which is exact: f16 has no more than 11 bits.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let (sign, magnitude) = ((bits & 0x8000) << 16, bits & 0x7fff);
        let scale = f32::from_bits((254 - 15) << 23); // 2¹¹²
        let finite = (f32::from_bits(magnitude << 13) * scale).to_bits();
        let special = magnitude << 13 | 0x7f80_0000;
        f32::from_bits(sign | if magnitude >= 0x7c00 { special } else { finite })
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let (sign, magnitude) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
        // Normal numbers: move the exponent, then round the 13 bits that go.
        let moved = magnitude.wrapping_sub((127 - 15) << 23);
        let normal = moved.wrapping_add(0xfff + (moved >> 13 & 1)) >> 13;
        // Below 2⁻¹⁴ the last place is 2⁻²⁴: adding ½, whose last place is that, rounds there.
        let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        // From 65520 = 2¹⁶ − 2⁴ on, rounding gives infinity.
        let large = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
        let small = if magnitude < (127 - 14) << 23 { denormal } else { normal };
        f16::from_bits((sign | if magnitude >= 0x477f_f000 { large } else { small }) as u16)
    }
}

impl Pixel for u8 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
    /// A blend of bytes lies in [0, 256): one addition rounds it half to even.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it leaves the integer in the low bits
        let rounded = (value + ROUND).to_bits() & 0x1ff;
        if rounded > 255 { 255 } else { rounded as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_conversions_are_those_of_ieee_754() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let (got, expected) = (Pixel::to_f32(half), half.to_f32_const());
            assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{bits:#x}");
        }
        // Every f16, its neighbours in f32, and the ties between two f16.
        for bits in (0..=u16::MAX)
            .flat_map(|high| [0u32, 1, 0xfff, 0x1000, 0x1001, 0x1fff].map(|low| u32::from(high) << 16 | low << 3))
        {
            for bits in [bits, bits ^ 0x1000, bits | 0x2000, bits.wrapping_sub(1)] {
                let value = f32::from_bits(bits);
                let (got, expected) = (<f16 as Pixel>::from_f32(value), f16::from_f32_const(value));
                assert!(
                    got == expected && got.to_bits() >> 15 == expected.to_bits() >> 15
                        || got.is_nan() && expected.is_nan(),
                    "{value:e}: {got:?} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn bf16_conversions_are_those_of_ieee_754() {
        for bits in (0..=u16::MAX)
            .flat_map(|high| [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| u32::from(high) << 16 | low))
        {
            let value = f32::from_bits(bits);
            let (got, expected) = (<bf16 as Pixel>::from_f32(value), bf16::from_f32_const(value));
            assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{value:e}");
        }
    }

    #[test]
    fn bytes_round_half_to_even_and_saturate() {
        for (value, byte) in
            [(0.0, 0), (0.5, 0), (0.501, 1), (1.5, 2), (2.5, 2), (254.5, 254), (255.0, 255), (255.4, 255), (255.9, 255)]
        {
            assert_eq!(<u8 as Pixel>::from_f32(value), byte, "{value}");
        }
    }
}
