//! Stage 4: pixels.

use super::convert::Pixel;
use crate::simd::{Kernel, Level, Line, dispatch};

/// Blends a run of primary elements with the same run of their partners.
///
/// ```text
/// out[i] = m·primary[i] + (1 − m)·partner[i],  m = mask[i];  m = 1 and m = 0 copy bits
/// ```
///
/// All slices have one length; the mask in [0, 1], 1 keeps the primary.
///
/// # Source
/// MiAMix (Liang et al., 2023), Eq. 7 and Algorithm 1.
pub(super) struct Mix<'a, T> {
    pub primary: &'a [T],
    pub partner: &'a [T],
    pub mask: Mask<'a>,
    pub out: &'a mut [T],
    pub stores: Stores,
}

/// A value for each element of a run.
#[derive(Clone, Copy)]
pub(super) enum Mask<'a> {
    Constant(f32),
    Values(&'a [f32]),
}

impl Mask<'_> {
    /// That of elements `start..start + len`.
    pub fn part(self, start: usize, len: usize) -> Self {
        match self {
            Mask::Constant(_) => self,
            Mask::Values(values) => Mask::Values(&values[start..start + len]),
        }
    }
}

/// How an output is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stores {
    /// Into the caches, where whoever reads it next finds it.
    Plain,
    /// Past the caches, which could not hold it: its memory is then not read before it is written.
    /// To be followed by [`crate::simd::fence`].
    Streaming,
}

impl Stores {
    /// The right ones for an output of `bytes` bytes.
    pub fn of(bytes: usize) -> Self {
        // As much as the last-level cache of a server holds for a few cores, which the input needs too.
        const LARGE: usize = 32 << 20;
        if bytes >= LARGE { Stores::Streaming } else { Stores::Plain }
    }
}

pub(super) fn mix<T: Pixel>(mix: Mix<'_, T>) {
    dispatch(mix);
}

/// Elements blended together: whole cache lines of every element type.
pub(super) const BLOCK: usize = 64;

impl<T: Pixel> Kernel for Mix<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Mix { primary, partner, mask, out, stores } = self;
        assert!(primary.len() == out.len() && partner.len() == out.len());
        let constant;
        // Where in the mask a block's values are: a constant's are everywhere.
        let (mask, step) = match mask {
            Mask::Values(values) => {
                assert!(values.len() == out.len());
                (values, 1)
            }
            Mask::Constant(value) => {
                constant = [value; BLOCK];
                (&constant[..], 0)
            }
        };
        // Streaming stores write whole lines.
        let head =
            if stores == Stores::Streaming { out.as_ptr().align_offset(size_of::<Line>()).min(out.len()) } else { 0 };
        let n_blocks = (out.len() - head) / BLOCK;
        let tail = head + n_blocks * BLOCK;
        for range in [0..head, tail..out.len()] {
            let mask = &mask[range.start * step..][..range.len()];
            let pairs = primary[range.clone()].iter().zip(&partner[range.clone()]).zip(mask);
            for (out, ((&primary, &partner), &m)) in out[range].iter_mut().zip(pairs) {
                *out = blend_one::<T, L>(primary, partner, m);
            }
        }
        let blocks = primary[head..].as_chunks::<BLOCK>().0.iter().zip(partner[head..].as_chunks::<BLOCK>().0);
        for (i, (out, (primary, partner))) in out[head..].as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks).enumerate()
        {
            // SAFETY: `mask` is a block, or as long as the others.
            let mask = unsafe { &*mask.as_ptr().add((head + i * BLOCK) * step).cast::<[f32; BLOCK]>() };
            match stores {
                Stores::Plain => blend_block::<T, L>(primary, partner, mask, out),
                Stores::Streaming => {
                    let mut lines = [Line::default(); 4];
                    const {
                        assert!(
                            size_of::<[T; BLOCK]>() <= size_of::<[Line; 4]>() && align_of::<T>() <= align_of::<Line>()
                        )
                    };
                    // SAFETY: room for the block, all of it initialised, aligned for it; any bits are an element.
                    blend_block::<T, L>(primary, partner, mask, unsafe {
                        &mut *lines.as_mut_ptr().cast::<[T; BLOCK]>()
                    });
                    for (i, line) in lines[..size_of::<[T; BLOCK]>() / size_of::<Line>()].iter().enumerate() {
                        // SAFETY: a line of `out`, which begins at one.
                        unsafe { L::stream(std::ptr::from_mut(out).cast::<Line>().add(i), line) };
                    }
                }
            }
        }
    }
}

/// Where a whole block keeps the primary or gives it, the other image is not read.
#[inline(always)]
fn blend_block<T: Pixel, L: Level>(
    primary: &[T; BLOCK],
    partner: &[T; BLOCK],
    mask: &[f32; BLOCK],
    out: &mut [T; BLOCK],
) {
    let first = mask[0];
    if ((first == 1.0) | (first == 0.0)) && mask.iter().fold(true, |all, &m| all & (m == first)) {
        *out = if first == 1.0 { *primary } else { *partner };
        return;
    }
    for i in 0..BLOCK {
        out[i] = blend_one::<T, L>(primary[i], partner[i], mask[i]);
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
    pub mask: Mask<'a>,
    pub out: &'a mut [T],
}

#[inline(always)]
fn chosen<V>(m: f32, primary: V, partner: V) -> V {
    if m >= 0.5 { primary } else { partner }
}

pub(super) fn choose<T: Copy>(choose: Choose<'_, T>) {
    match choose.mask {
        Mask::Constant(m) => choose.out.copy_from_slice(chosen(m, choose.primary, choose.partner)),
        Mask::Values(_) => dispatch(choose),
    }
}

impl<T: Copy> Kernel for Choose<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Choose { primary, partner, mask: Mask::Values(mask), out } = self else { return };
        for (((out, &primary), &partner), &m) in out.iter_mut().zip(primary).zip(partner).zip(mask) {
            *out = chosen(m, primary, partner);
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
                for stores in [Stores::Plain, Stores::Streaming] {
                    out.fill(T::default());
                    let mask = Mask::Values(mask);
                    dispatch_at(level, Mix { primary: &primary, partner: &partner, mask, out: &mut out, stores });
                    for (i, (got, expected)) in out.iter().zip(&expected).enumerate() {
                        assert_eq!(
                            bits(*got),
                            bits(*expected),
                            "{name}, {name_of_level}, {stores:?}, channel {c}, pixel {i}"
                        );
                    }
                }
            }
        }
    }

    /// Every place of a run in a cache line, with every way of writing it and every kind of mask.
    fn check_runs<T: Pixel + Debug>(element: fn(u8) -> T) {
        const LEN: usize = 400;
        let images = |salt: usize| (0..2 * LEN).map(|i| element((i * 7 + salt) as u8)).collect::<Vec<T>>();
        let (primary, partner) = (images(1), images(90));
        // Blocks that are kept, that are given, and that are mixed.
        let values: Vec<f32> = (0..LEN).map(|i| [1.0, 0.0, (i % 5) as f32 * 0.25][i / 67 % 3]).collect();
        for (name, level) in available() {
            for start in 0..2 * BLOCK {
                for len in [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 17, LEN - 2 * BLOCK] {
                    for constant in [None, Some(1.0), Some(0.0), Some(0.375)] {
                        for stores in [Stores::Plain, Stores::Streaming] {
                            let run = start..start + len;
                            let mask = constant.map_or(Mask::Values(&values[..len]), Mask::Constant);
                            let mut out = [element(3); 2 * LEN];
                            let (primary, partner) = (&primary[run.clone()], &partner[run.clone()]);
                            dispatch_at(level, Mix { primary, partner, mask, out: &mut out[run.clone()], stores });
                            crate::simd::fence();
                            for (i, &got) in out.iter().enumerate() {
                                let expected = if run.contains(&i) {
                                    let i = i - start;
                                    let m = constant.unwrap_or(values[i]);
                                    blend_one::<T, crate::simd::Portable>(primary[i], partner[i], m)
                                } else {
                                    element(3)
                                };
                                assert_eq!(got, expected, "{name}, {stores:?}, {constant:?}, {run:?}, element {i}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn runs_of_any_length_begin_anywhere() {
        check_runs::<f32>(f32::from);
        check_runs::<f16>(f16::from);
        check_runs::<bf16>(bf16::from);
        check_runs::<u8>(|byte| byte);
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
