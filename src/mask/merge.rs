//! Merging layers, and the weight of the merged mask.
//!
//! # Source
//! MiAMix (Liang et al., 2023), Eq. 10 to 12.

use crate::config::Merge;
use crate::simd::{Kernel, Level, dispatch};

/// mask[i] = mask[i]·layer[i], or mask[i] + layer[i].
pub(super) fn merge(merge: Merge, mask: &mut [f32], layer: &[f32]) {
    dispatch(MergeInto { merge, mask, layer });
}

/// One value merged into what is there of those before it.
pub(super) fn merge_values(merge: Merge, merged: Option<f32>, value: f32) -> f32 {
    match (merged, merge) {
        (None, _) => value,
        (Some(merged), Merge::Product) => merged * value,
        (Some(merged), Merge::Sum) => merged + value,
    }
}

/// mask[i] = mask[i]·value, or mask[i] + value.
pub(super) fn merge_constant(merge: Merge, mask: &mut [f32], value: f32) {
    dispatch(MergeConstant { merge, mask, value });
}

struct MergeConstant<'a> {
    merge: Merge,
    mask: &'a mut [f32],
    value: f32,
}

impl Kernel for MergeConstant<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let MergeConstant { merge, mask, value } = self;
        match merge {
            Merge::Product => mask.iter_mut().for_each(|mask| *mask *= value),
            Merge::Sum => mask.iter_mut().for_each(|mask| *mask += value),
        }
    }
}

struct MergeInto<'a> {
    merge: Merge,
    mask: &'a mut [f32],
    layer: &'a [f32],
}

impl Kernel for MergeInto<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let pairs = self.mask.iter_mut().zip(self.layer);
        match self.merge {
            Merge::Product => pairs.for_each(|(mask, layer)| *mask *= layer),
            Merge::Sum => pairs.for_each(|(mask, layer)| *mask += layer),
        }
    }
}

/// A merged value, which is never negative, clipped to [0, 1].
#[inline(always)]
pub(super) fn clip(value: f32) -> f32 {
    if value > 1.0 { 1.0 } else { value }
}

pub(super) fn clip_all(mask: &mut [f32]) {
    dispatch(ClipAll(mask));
}

struct ClipAll<'a>(&'a mut [f32]);

impl Kernel for ClipAll<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        for value in self.0 {
            *value = clip(*value);
        }
    }
}

/// Σ round(mask·2²⁴), half to even: an integer, so no order of summation changes it.
///
/// `mask`: any length up to 2³⁹, values in [0, 1].
pub(super) fn weight_sum(mask: &[f32]) -> u64 {
    dispatch(WeightSum(mask))
}

struct WeightSum<'a>(&'a [f32]);

impl Kernel for WeightSum<'_> {
    type Output = u64;
    #[inline(always)]
    fn run<L: Level>(self) -> u64 {
        // 128 values of at most 2²⁴ fit 31 bits: the inner sums run in half the width.
        self.0.chunks(128).map(|chunk| u64::from(chunk.iter().map(|&m| rounded(m)).sum::<u32>())).sum()
    }
}

#[inline(always)]
fn rounded(mask: f32) -> u32 {
    const WHOLE: f32 = 8_388_608.0; // 2²³: from here on an f32 is an integer, and adding it rounds what is below
    let scaled = mask * 16_777_216.0;
    let whole = if scaled < WHOLE { (scaled + WHOLE) - WHOLE } else { scaled };
    // SAFETY: mask is in [0, 1], so the value is an integer in [0, 2²⁴].
    unsafe { whole.to_int_unchecked::<i32>() as u32 }
}

/// sum / (2²⁴·pixels), rounded once to f32.
pub(crate) fn mean_weight(sum: u64, pixels: u64) -> f32 {
    if sum == 0 {
        return 0.0;
    }
    // A quotient of 51 or 52 bits; a remainder makes its last bit odd, so that the rounding to f32
    // sees on which side of a tie the true value lies.
    let shift = 51 + pixels.ilog2() as i32 - sum.ilog2() as i32;
    let (numerator, denominator) = if shift >= 0 {
        (u128::from(sum) << shift, u128::from(pixels))
    } else {
        (u128::from(sum), u128::from(pixels) << -shift)
    };
    let quotient = (numerator / denominator) as u64 | u64::from(numerator % denominator != 0);
    libm::ldexp(quotient as f64, -(shift + 24)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u64 = 1 << 24;

    #[test]
    fn the_weight_rounds_half_to_even() {
        let ulp = 1.0 / (1 << 24) as f32;
        assert_eq!(weight_sum(&[0.5 * ulp, 1.5 * ulp, 2.5 * ulp, 0.25, 1.0, 0.0]), 2 + 2 + (1 << 22) + (1 << 24));
        assert_eq!(weight_sum(&[1.0; 1000]), 1000 << 24);
    }

    #[test]
    fn the_mean_is_rounded_once() {
        assert_eq!(mean_weight(ONE * 9, 9), 1.0);
        assert_eq!(mean_weight(0, 9), 0.0);
        assert_eq!(mean_weight(ONE, 3), 1.0 / 3.0);
        assert_eq!(mean_weight(1, 1 << 30), libm::ldexpf(1.0, -54));
        // (2²⁴ + 1)/2²⁴ · 2⁻²⁴ lies on a tie of f32; one part in the pixels less or more breaks it.
        let (tie, pixels) = ((1u64 << 24) + 1, 1u64 << 24);
        assert_eq!(mean_weight(tie, pixels), libm::ldexpf(1.0, -24));
        assert_eq!(mean_weight(tie * 1000 + 1, pixels * 1000), libm::ldexpf(1.0 + f32::EPSILON, -24));
        assert_eq!(mean_weight(tie * 1000 - 1, pixels * 1000), libm::ldexpf(1.0, -24));
        // One part in 2⁵⁴ above a tie, at a size that images have: only the remainder shows it.
        assert_eq!(mean_weight(635_622_801, 32_749 * 32_719), libm::ldexpf(9_952_251.0, -48));
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        label_weight: f32,
    }

    #[test]
    fn weights_meet_the_reference_exactly() {
        let mut vectors = crate::vectors::Vectors::<Case>::read("weights");
        for Case { name, label_weight } in std::mem::take(&mut vectors.cases) {
            let mask: ndarray::Array2<f32> = vectors.array(&name, "mask");
            let mask: Vec<f32> = mask.iter().copied().collect();
            for (level_name, level) in crate::simd::available() {
                let got = mean_weight(crate::simd::dispatch_at(level, WeightSum(&mask)), mask.len() as u64);
                assert_eq!(got, label_weight, "{name}, {level_name}");
            }
        }
    }
}
