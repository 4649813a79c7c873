//! What memory allows: a blend under masks that lie ready, and a copy.

use anyhow::Result;
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

/// An element that the floor can blend.
pub trait Blend: Element + Default {
    /// Some value that changes with `i`.
    fn pixel(i: usize) -> Self;
    /// m·primary + (1 − m)·partner.
    fn blend(primary: Self, partner: Self, m: f32) -> Self;
}

impl Blend for f32 {
    fn pixel(i: usize) -> f32 {
        (i % 255) as f32 / 255.0
    }

    #[inline(always)]
    fn blend(primary: f32, partner: f32, m: f32) -> f32 {
        partner + m * (primary - partner)
    }
}

impl Blend for u8 {
    fn pixel(i: usize) -> u8 {
        (i % 255) as u8
    }

    #[inline(always)]
    fn blend(primary: u8, partner: u8, m: f32) -> u8 {
        let (primary, partner) = (f32::from(primary), f32::from(partner));
        // Adding 2²³ rounds to an integer and leaves it in the low bits: no conversion that saturates.
        (partner + m * (primary - partner) + 8_388_608.0).to_bits() as u8
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
    pub channels_last: bool,
}

impl<T: Blend> Floor<'_, T> {
    /// Blends the batch, one sample a task.
    pub fn blend(&mut self, stores: Stores) -> Result<()> {
        let n = self.partner_index.len();
        let (sample, plane) = (self.primary.len() / n, self.masks.len() / n);
        let (primary, partner, masks, channels_last) = (self.primary, self.partner, self.masks, self.channels_last);
        let partner_index = self.partner_index;
        each(self.threads, self.out, sample, |i, out| {
            run(BlendSample {
                primary: &primary[i * sample..][..sample],
                partner: &partner[partner_index[i] * sample..][..sample],
                mask: &masks[i * plane..][..plane],
                out,
                channels_last,
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
    channels_last: bool,
    stores: Stores,
}

/// Blends a sample with the instructions that the operator uses too.
fn run<T: Blend>(sample: BlendSample<'_, T>) {
    match miamix::simd::level_name() {
        // SAFETY: the library has seen these features.
        #[cfg(target_arch = "x86_64")]
        "avx512" => unsafe { run_avx512(sample) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        "avx2" => unsafe { run_avx2(sample) },
        _ => body(sample, <[T]>::copy_from_slice),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<T: Blend>(sample: BlendSample<'_, T>) {
    body(sample, |out, tile| stream(out, tile));
    std::arch::x86_64::_mm_sfence();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<T: Blend>(sample: BlendSample<'_, T>) {
    body(sample, |out, tile| stream(out, tile));
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
fn body<T: Blend>(sample: BlendSample<'_, T>, stream: impl Fn(&mut [T], &[T])) {
    let BlendSample { primary, partner, mask, out, channels_last, stores } = sample;
    let channels = primary.len() / mask.len();
    let mut spread = [0.0; 3 * TILE];
    let mut scratch = [T::default(); 3 * TILE];
    // One channel's plane at a time, or all channels of a pixel together.
    let together = if channels_last { channels } else { 1 };
    let plane = together * mask.len();
    let planes = primary.chunks_exact(plane).zip(partner.chunks_exact(plane)).zip(out.chunks_exact_mut(plane));
    for ((primary, partner), out) in planes {
        let step = together * TILE;
        let tiles = primary.chunks(step).zip(partner.chunks(step)).zip(out.chunks_mut(step)).zip(mask.chunks(TILE));
        for (((primary, partner), out), mask) in tiles {
            let mask = if together == 3 {
                for (spread, &m) in spread.as_chunks_mut::<3>().0.iter_mut().zip(mask) {
                    *spread = [m; 3];
                }
                &spread[..out.len()]
            } else {
                mask
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

#[inline(always)]
fn blend<T: Blend>(primary: &[T], partner: &[T], mask: &[f32], out: &mut [T]) {
    for (((out, &primary), &partner), &m) in out.iter_mut().zip(primary).zip(partner).zip(mask) {
        *out = T::blend(primary, partner, m);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd sizes, so that tiles and vectors have ends; values from which a wrong index is seen.
    fn check<T: Blend + PartialEq + std::fmt::Debug>(channels_last: bool) {
        let (n, channels, plane) = (3, 3, 37 * 41);
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
                channels_last,
            }
            .blend(stores)
            .unwrap();
            for (i, &got) in out.iter().enumerate() {
                let (s, within) = (i / sample, i % sample);
                let pixel = if channels_last { within / channels } else { within % plane };
                let (a, b) = (primary[i], partner[partner_index[s] * sample + within]);
                assert_eq!(got, T::blend(a, b, masks[s * plane + pixel]), "{stores:?}, element {i}");
            }
        }
    }

    #[test]
    fn the_floor_blends_what_the_operator_blends() {
        check::<f32>(false);
        check::<u8>(true);
    }
}
