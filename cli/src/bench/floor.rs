//! What memory allows: a blend under masks that lie ready, and a copy.

use super::workload::Layout;
use anyhow::Result;
use half::{bf16, f16};
use miamix::{Element, Executor, Threads};
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// How a floor writes its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// Through the caches.
    Plain,
    /// Past the caches, which saves reading what is overwritten.
    Streaming,
}

/// Elements that begin at a cache line.
pub struct Aligned<T> {
    elements: Vec<T>,
    start: usize,
    len: usize,
}

const CACHE_LINE: usize = 64;

impl<T: Copy + Default> Aligned<T> {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let elements = vec![T::default(); len + CACHE_LINE / size_of::<T>()];
        let start = elements.as_ptr().align_offset(CACHE_LINE);
        Aligned { elements, start, len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.elements[self.start..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.elements[self.start..][..self.len]
    }
}

/// Pixels of a tile: its masks, spread over the channels, and its output stay in the first-level cache.
const TILE: usize = 1024;
/// Channels of interleaved images: a fixed count lets the compiler spread masks by whole vectors.
pub const NHWC_CHANNELS: usize = 3;

/// An element that the floor can blend.
pub trait Blend: Element + Default {
    /// Some value that changes with `i`; positive, finite, and a normal number or an integer.
    fn pixel(i: usize) -> Self;

    /// m·primary + (1 − m)·partner, of values as [`Blend::pixel`] gives them.
    fn blend(primary: Self, partner: Self, m: f32) -> Self;

    /// Blends slices of one length.
    #[inline(always)]
    fn blend_all(primary: &[Self], partner: &[Self], mask: &[f32], out: &mut [Self]) {
        for (((out, &primary), &partner), &m) in out.iter_mut().zip(primary).zip(partner).zip(mask) {
            *out = Self::blend(primary, partner, m);
        }
    }

    /// [`Blend::blend_all`] with instructions that the compiler does not find by itself.
    ///
    /// # Safety
    /// The machine has AVX2, FMA and F16C, and the caller is compiled for them.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn blend_all_avx2(primary: &[Self], partner: &[Self], mask: &[f32], out: &mut [Self]) {
        Self::blend_all(primary, partner, mask, out);
    }
}

#[inline(always)]
fn blend_f32(primary: f32, partner: f32, m: f32) -> f32 {
    partner + m * (primary - partner)
}

/// 1/256 to 255/256.
fn unit_pixel(i: usize) -> f32 {
    (i % 255 + 1) as f32 / 256.0
}

impl Blend for f32 {
    fn pixel(i: usize) -> f32 {
        unit_pixel(i)
    }

    #[inline(always)]
    fn blend(primary: f32, partner: f32, m: f32) -> f32 {
        blend_f32(primary, partner, m)
    }
}

impl Blend for bf16 {
    fn pixel(i: usize) -> bf16 {
        bf16::from_f32_const(unit_pixel(i))
    }

    #[inline(always)]
    fn blend(primary: bf16, partner: bf16, m: f32) -> bf16 {
        let widen = |x: bf16| f32::from_bits(u32::from(x.to_bits()) << 16);
        let bits = blend_f32(widen(primary), widen(partner), m).to_bits();
        bf16::from_bits(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }
}

impl Blend for f16 {
    fn pixel(i: usize) -> f16 {
        f16::from_f32_const(unit_pixel(i))
    }

    /// The exponents differ by 112.
    #[inline(always)]
    fn blend(primary: f16, partner: f16, m: f32) -> f16 {
        let widen = |x: f16| f32::from_bits((u32::from(x.to_bits()) << 13) + (112 << 23));
        let bits = blend_f32(widen(primary), widen(partner), m).to_bits() - (112 << 23);
        f16::from_bits(((bits + 0xfff + (bits >> 13 & 1)) >> 13) as u16)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn blend_all_avx2(primary: &[f16], partner: &[f16], mask: &[f32], out: &mut [f16]) {
        use std::arch::x86_64::*;
        let (outs, rest) = out.as_chunks_mut::<8>();
        let vectors = primary.as_chunks::<8>().0.iter().zip(partner.as_chunks::<8>().0).zip(mask.as_chunks::<8>().0);
        for (((primary, partner), mask), out) in vectors.zip(&mut *outs) {
            // SAFETY: the caller's promise; each chunk has as many bytes as are read or written.
            unsafe {
                let [primary, partner] =
                    [primary, partner].map(|x: &[f16; 8]| _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())));
                let difference = _mm256_mul_ps(_mm256_loadu_ps(mask.as_ptr()), _mm256_sub_ps(primary, partner));
                let mixed = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_add_ps(partner, difference));
                _mm_storeu_si128(out.as_mut_ptr().cast(), mixed);
            }
        }
        let done = 8 * outs.len();
        Self::blend_all(&primary[done..], &partner[done..], &mask[done..], rest);
    }
}

impl Blend for u8 {
    fn pixel(i: usize) -> u8 {
        (i % 255) as u8
    }

    #[inline(always)]
    fn blend(primary: u8, partner: u8, m: f32) -> u8 {
        // Adding 2²³ rounds to an integer and leaves it in the low bits: no conversion that saturates.
        (blend_f32(primary.into(), partner.into(), m) + 8_388_608.0).to_bits() as u8
    }
}

/// The batch of a floor.
pub struct Floor<'a, T> {
    /// The operator's own threads.
    pub threads: &'a Threads,
    /// `[N, C, H, W]` or `[N, H, W, C]`, as the two below.
    pub primary: &'a [T],
    pub partner: &'a [T],
    /// `[N]`.
    pub partner_index: &'a [usize],
    /// `[N, H, W]`.
    pub masks: &'a [f32],
    pub out: &'a mut [T],
    pub layout: Layout,
}

impl<T: Blend> Floor<'_, T> {
    /// Blends the batch, one sample a task.
    pub fn blend(&mut self, stores: Stores) -> Result<()> {
        let n = self.partner_index.len();
        let (sample, plane) = (self.primary.len() / n, self.masks.len() / n);
        let (primary, partner, masks, layout) = (self.primary, self.partner, self.masks, self.layout);
        let partner_index = self.partner_index;
        each(self.threads, self.out, sample, |i, out| {
            run(BlendSample {
                primary: &primary[i * sample..][..sample],
                partner: &partner[partner_index[i] * sample..][..sample],
                mask: &masks[i * plane..][..plane],
                out,
                layout,
                stores,
            });
        })
    }

    /// Copies the primaries, one sample a task.
    pub fn copy(&mut self) -> Result<()> {
        let sample = self.primary.len() / self.partner_index.len();
        let primary = self.primary;
        each(self.threads, self.out, sample, |i, out| out.copy_from_slice(&primary[i * sample..][..sample]))
    }
}

/// Runs a task for each sample of the output.
fn each<T: Send>(threads: &Threads, out: &mut [T], sample: usize, task: impl Fn(usize, &mut [T]) + Sync) -> Result<()> {
    // Each task takes its own slice once; the locks are free when they are asked for.
    let parts: Vec<Mutex<&mut [T]>> = out.chunks_exact_mut(sample).map(Mutex::new).collect();
    threads.run(parts.len(), &|i| task(i, &mut parts[i].lock().expect("no task panics")))?;
    Ok(())
}

struct BlendSample<'a, T> {
    primary: &'a [T],
    partner: &'a [T],
    mask: &'a [f32],
    out: &'a mut [T],
    layout: Layout,
    stores: Stores,
}

/// Blends a sample with the instructions that the operator uses too.
fn run<T: Blend>(sample: BlendSample<'_, T>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        match miamix::simd::level_name() {
            // SAFETY: the library has seen the other features.
            "avx512" => return unsafe { run_avx512(sample) },
            // SAFETY: as above.
            "avx2" => return unsafe { run_avx2(sample) },
            _ => {}
        }
    }
    body(sample, T::blend_all, <[T]>::copy_from_slice);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn run_avx512<T: Blend>(sample: BlendSample<'_, T>) {
    // SAFETY: this function is compiled for the instructions.
    body(sample, |a, b, m, out| unsafe { T::blend_all_avx2(a, b, m, out) }, |out, tile| stream(out, tile));
    std::arch::x86_64::_mm_sfence();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<T: Blend>(sample: BlendSample<'_, T>) {
    // SAFETY: as above.
    body(sample, |a, b, m, out| unsafe { T::blend_all_avx2(a, b, m, out) }, |out, tile| stream(out, tile));
    std::arch::x86_64::_mm_sfence();
}

/// Copies a tile with streaming stores, whole vectors of the output only.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn stream<T: Element>(out: &mut [T], tile: &[T]) {
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_stream_si256};
    assert_eq!(out.len(), tile.len());
    // SAFETY: pixels and vectors are plain bits.
    let (head, vectors, tail) = unsafe { out.align_to_mut::<__m256i>() };
    let middle = head.len()..tile.len() - tail.len();
    head.copy_from_slice(&tile[..middle.start]);
    tail.copy_from_slice(&tile[middle.end..]);
    let source = tile[middle].as_ptr().cast::<__m256i>();
    for (i, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: `middle` and `vectors` have one length, and `align_to_mut` has aligned the latter.
        unsafe { _mm256_stream_si256(vector, _mm256_loadu_si256(source.add(i))) };
    }
}

/// Inlined into functions with wider instructions, which it then uses.
#[inline(always)]
fn body<T: Blend>(
    sample: BlendSample<'_, T>,
    blend: impl Fn(&[T], &[T], &[f32], &mut [T]),
    stream: impl Fn(&mut [T], &[T]),
) {
    let BlendSample { primary, partner, mask, out, layout, stores } = sample;
    // One channel's plane at a time, or all channels of a pixel together.
    let together = match layout {
        Layout::Nchw => 1,
        Layout::Nhwc => NHWC_CHANNELS,
    };
    let mut spread = [0.0; NHWC_CHANNELS * TILE];
    let mut scratch = [T::default(); NHWC_CHANNELS * TILE];
    let plane = together * mask.len();
    let planes = primary.chunks_exact(plane).zip(partner.chunks_exact(plane)).zip(out.chunks_exact_mut(plane));
    for ((primary, partner), out) in planes {
        let step = together * TILE;
        let tiles = primary.chunks(step).zip(partner.chunks(step)).zip(out.chunks_mut(step)).zip(mask.chunks(TILE));
        for (((primary, partner), out), mask) in tiles {
            let mask = match layout {
                Layout::Nchw => mask,
                Layout::Nhwc => {
                    for (spread, &m) in spread.as_chunks_mut().0.iter_mut().zip(mask) {
                        *spread = [m; NHWC_CHANNELS];
                    }
                    &spread[..out.len()]
                }
            };
            match stores {
                Stores::Plain => blend(primary, partner, mask, out),
                Stores::Streaming => {
                    let tile = &mut scratch[..out.len()];
                    blend(primary, partner, mask, tile);
                    stream(out, tile);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd sizes, so that tiles and vectors have ends; values from which a wrong index is seen.
    fn check<T: Blend + PartialEq + std::fmt::Debug>(layout: Layout) {
        let (n, channels, plane) = (3, NHWC_CHANNELS, 37 * 41);
        let sample = channels * plane;
        let images = |salt: usize| (0..n * sample).map(|i| T::pixel(i * 7 + salt)).collect::<Vec<T>>();
        let (primary, partner) = (images(0), images(50));
        let masks: Vec<f32> = (0..n * plane).map(|i| (i % 11) as f32 / 10.0).collect();
        let partner_index = [2, 0, 1];
        for stores in [Stores::Plain, Stores::Streaming] {
            let mut out = vec![T::default(); n * sample];
            let threads = Threads::new(2).unwrap();
            Floor {
                threads: &threads,
                primary: &primary,
                partner: &partner,
                partner_index: &partner_index,
                masks: &masks,
                out: &mut out,
                layout,
            }
            .blend(stores)
            .unwrap();
            for (i, &got) in out.iter().enumerate() {
                let (s, within) = (i / sample, i % sample);
                let pixel = match layout {
                    Layout::Nchw => within % plane,
                    Layout::Nhwc => within / channels,
                };
                let (a, b) = (primary[i], partner[partner_index[s] * sample + within]);
                assert_eq!(got, T::blend(a, b, masks[s * plane + pixel]), "{stores:?}, element {i}");
            }
        }
    }

    #[test]
    fn the_floor_blends_what_the_operator_blends() {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            check::<f32>(layout);
            check::<f16>(layout);
            check::<bf16>(layout);
            check::<u8>(layout);
        }
    }

    #[test]
    fn halves_are_blended_as_their_conversions_say() {
        for i in 0..255 {
            for m in [0.0, 0.1, 0.25, 0.75, 1.0] {
                let blend = |a: f32, b: f32| blend_f32(a, b, m);
                let (a, b) = (f16::pixel(i), f16::pixel(7 * i + 50));
                assert_eq!(f16::blend(a, b, m), f16::from_f32_const(blend(a.to_f32_const(), b.to_f32_const())));
                let (a, b) = (bf16::pixel(i), bf16::pixel(7 * i + 50));
                assert_eq!(bf16::blend(a, b, m), bf16::from_f32_const(blend(a.to_f32_const(), b.to_f32_const())));
            }
        }
    }
}
