//! Stage 4: pixels.

use super::convert::Pixel;
use crate::simd::{Kernel, Level, dispatch};

/// Blends a run of primary elements with the same run of their partners.
///
/// ```text
/// out[i] = m·primary[i] + (1 − m)·partner[i],  m = mask[i];  m = 1 and m = 0 copy bits
/// ```
///
/// All four slices have one length; `mask` in [0, 1], 1 keeps the primary.
///
/// # Source
/// MiAMix (Liang et al., 2023), Eq. 7 and Algorithm 1.
pub(super) struct Mix<'a, T> {
    pub primary: &'a [T],
    pub partner: &'a [T],
    pub mask: &'a [f32],
    pub out: &'a mut [T],
}

pub(super) fn mix<T: Pixel>(mix: Mix<'_, T>) {
    dispatch(mix);
}

impl<T: Pixel> Kernel for Mix<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Mix { primary, partner, mask, out } = self;
        for (((out, &primary), &partner), &m) in out.iter_mut().zip(primary).zip(partner).zip(mask) {
            *out = blend_one::<T, L>(primary, partner, m);
        }
    }
}

#[inline(always)]
fn blend_one<T: Pixel, L: Level>(primary: T, partner: T, m: f32) -> T {
    let mixed = T::from_f32(L::fma(m, primary.to_f32(), (1.0 - m) * partner.to_f32()));
    let other = if m == 0.0 { partner } else { mixed };
    if m == 1.0 { primary } else { other }
}

/// The same for two numbers, as labels need it.
pub(super) fn blend_f32(primary: f32, partner: f32, weight: f32) -> f32 {
    blend_one::<f32, crate::simd::Portable>(primary, partner, weight)
}

/// Chooses a run of labels: the primary's where mask ≥ ½.
pub(super) struct Choose<'a, T> {
    pub primary: &'a [T],
    pub partner: &'a [T],
    pub mask: &'a [f32],
    pub out: &'a mut [T],
}

pub(super) fn choose<T: Copy>(choose: Choose<'_, T>) {
    dispatch(choose);
}

impl<T: Copy> Kernel for Choose<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Choose { primary, partner, mask, out } = self;
        for (((out, &primary), &partner), &m) in out.iter_mut().zip(primary).zip(partner).zip(mask) {
            *out = if m >= 0.5 { primary } else { partner };
        }
    }
}

/// Repeats each value `times` times; `out`: `[values · times]`.
pub(super) fn spread(values: &[f32], times: usize, out: &mut [f32]) {
    debug_assert_eq!(out.len(), values.len() * times);
    if times == 3 {
        // A fixed count lets the compiler shuffle whole vectors.
        for (out, &value) in out.as_chunks_mut::<3>().0.iter_mut().zip(values) {
            *out = [value; 3];
        }
    } else {
        for (out, &value) in out.chunks_exact_mut(times).zip(values) {
            out.fill(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{available, dispatch_at};
    use crate::vectors::Vectors;
    use half::{bf16, f16};
    use ndarray::{Array2, Array3};
    use ndarray_npy::ReadableElement;
    use std::fmt::Debug;

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        dtype: String,
    }

    /// Mixes a case, whose arrays hold `Stored` values, at every level and compares bits.
    fn check<T: Pixel, Stored: ReadableElement + Copy, Bits: PartialEq + Debug>(
        vectors: &mut Vectors<Case>,
        name: &str,
        element: fn(Stored) -> T,
        bits: fn(T) -> Bits,
    ) {
        let mask: Array2<f32> = vectors.array(name, "mask");
        let mask = mask.as_standard_layout();
        let mut read = |array: &str| -> Array3<Stored> { vectors.array(name, array) };
        let [primary, partner, expected] = ["primary", "partner", "out"].map(&mut read);
        for c in 0..primary.dim().0 {
            let plane = |array: &Array3<Stored>| -> Vec<T> {
                array.index_axis(ndarray::Axis(0), c).iter().map(|&b| element(b)).collect()
            };
            let (primary, partner, expected) = (plane(&primary), plane(&partner), plane(&expected));
            for (name_of_level, level) in available() {
                let mut out = vec![T::default(); primary.len()];
                let mask = mask.as_slice().unwrap();
                dispatch_at(level, Mix { primary: &primary, partner: &partner, mask, out: &mut out });
                for (i, (got, expected)) in out.iter().zip(&expected).enumerate() {
                    assert_eq!(bits(*got), bits(*expected), "{name}, {name_of_level}, channel {c}, pixel {i}");
                }
            }
        }
    }

    #[test]
    fn blends_meet_the_reference_bit_for_bit() {
        let mut vectors = Vectors::<Case>::read("mix");
        for Case { name, dtype } in std::mem::take(&mut vectors.cases) {
            match dtype.as_str() {
                "f32" => check::<f32, f32, u32>(&mut vectors, &name, |x| x, f32::to_bits),
                "f16" => check(&mut vectors, &name, f16::from_bits, f16::to_bits),
                "bf16" => check(&mut vectors, &name, bf16::from_bits, bf16::to_bits),
                "u8" => check::<u8, u8, u8>(&mut vectors, &name, |x| x, |x| x),
                other => panic!("{name}: dtype {other}"),
            }
        }
    }
}
