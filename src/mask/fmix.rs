//! FMix: M = 0 on the given number of pixels where low-frequency noise is largest.
//!
//! ```text
//! F(x, y) = Re Σ_k c(k)·exp 2πi(k_x x/W + k_y y/H)      over one of ±k, |k_x|, |k_y| ≤ 32
//! ```
//!
//! The sum is separable. With c± = c(±k_x, k_y), φ = 2πk_y y/H, θ = 2πk_x x/W, and over k_x ≥ 0:
//!
//! ```text
//! P(k_x, y) = Σ_ky Re(c₊ + c₋) cos φ − Im(c₊ + c₋) sin φ
//! Q(k_x, y) = Σ_ky Im(c₊ − c₋) cos φ + Re(c₊ − c₋) sin φ
//! F(x, y)   = Σ_kx P cos θ − Q sin θ
//! ```
//!
//! Each sum is the sum of two chains of fused multiply-adds in ascending k, one over even and one over odd k,
//! the same on every engine. So rows y, H − y, H/2 − y, H/2 + y and columns x, W − x, W/2 − x, W/2 + x share
//! their chains: only signs differ. (Where a side is odd, y, H − y or x, W − x do.) At 33 waves a side that is
//! less work than a fast transform of the rows.
//!
//! # Source
//! FMix (Harris et al., 2020), with the spectrum of its paper; `docs/draw.md` gives c(k).

use super::select::{self, Threshold};
use super::warp::InverseWarp;
use crate::error::Result;
use crate::math::normals;
use crate::memory::{reserve, resize};
use crate::rng::{halves, philox};
use crate::simd::{Kernel, Lanes, Level, dispatch};

/// Highest frequency kept, in waves a side.
const MAX_WAVES: usize = 32;
/// Tables are padded to whole vectors of this many values.
const PAD: usize = 16;
/// Most values a register holds.
const MAX_LANES: usize = 16;
const _: () = assert!(MAX_LANES <= PAD);
/// The last counter word of the spectrum's random bits: "FMix".
const SPECTRUM_TAG: u32 = 0x464d_6978;

/// The parts of the spectrum: Re and Im of c₊ + c₋, then of c₊ − c₋.
const SUM_RE: usize = 0;
const SUM_IM: usize = 1;
const DIFFERENCE_RE: usize = 2;
const DIFFERENCE_IM: usize = 3;

/// Renders fmix masks; keeps its tables from one mask to the next of the same size.
#[derive(Default)]
pub(super) struct FMix {
    tables: Option<Tables>,
    /// `[4, waves_y, padded_x]`.
    spectrum: Vec<f32>,
    /// P and Q: `[H, 2, padded_x]`.
    columns: Vec<f32>,
    field: Vec<f32>,
    warped: Vec<f32>,
    candidates: Vec<f32>,
}

impl FMix {
    /// Writes 1 where the primary is kept, 0 on `given_px` pixels; `plane`: `[height, width]`.
    #[allow(clippy::too_many_arguments)]
    pub fn render(
        &mut self,
        noise_key: u64,
        decay_power: f32,
        given_px: u32,
        warp: Option<InverseWarp>,
        height: usize,
        width: usize,
        plane: &mut [u8],
    ) -> Result<()> {
        if self.tables.as_ref().is_none_or(|t| (t.height, t.width) != (height, width)) {
            self.tables = Some(Tables::new(height, width)?);
        }
        let Some(tables) = &mut self.tables else { unreachable!("made above") };
        tables.set_decay(decay_power)?;
        let tables = &*tables;
        resize(&mut self.spectrum, 4 * tables.waves_y * tables.padded_x, 0.0)?;
        resize(&mut self.columns, 2 * height * tables.padded_x, 0.0)?;
        // A warped field is read between pixels: one more row and column spare it the wrapping.
        let stride = width + usize::from(warp.is_some());
        resize(&mut self.field, height * stride + stride.max(PAD), 0.0)?;
        dispatch(Spectrum { noise_key, tables, spectrum: &mut self.spectrum });
        dispatch(Columns { tables, spectrum: &self.spectrum, columns: &mut self.columns });
        dispatch(Rows { tables, columns: &self.columns, stride, field: &mut self.field });
        let field = match warp {
            None => &self.field[..height * width],
            Some(warp) => {
                let (first, last) = self.field.split_at_mut(height * stride);
                for row in first.chunks_exact_mut(stride) {
                    row[width] = row[0];
                }
                last[..stride].copy_from_slice(&first[..stride]);
                resize(&mut self.warped, height * width, 0.0)?;
                dispatch(Resample { field: &self.field, warp, height, width, out: &mut self.warped });
                &self.warped
            }
        };
        let threshold = select::threshold(field, given_px as usize, &mut self.candidates)?;
        dispatch(Cut { field, threshold, plane });
        Ok(())
    }
}

/// What depends on the image size alone, and the amplitudes for one decay.
struct Tables {
    height: usize,
    width: usize,
    /// Number of k_y: 0 to the highest.
    waves_y: usize,
    /// Number of k_x.
    waves_x: usize,
    padded_x: usize,
    /// cos and sin of 2πk_y y/H: `[reach(H), waves_y, 2]`.
    turns_y: Vec<f32>,
    /// cos and sin of 2πk_x x/W: `[waves_x, 2, reach_x]`.
    turns_x: Vec<f32>,
    /// reach(W), padded.
    reach_x: usize,
    decay_power: f32,
    /// |c| for a unit normal: `[waves_y, padded_x]`, 0 where there is no wave.
    amplitudes: Vec<f32>,
}

impl Tables {
    fn new(height: usize, width: usize) -> Result<Self> {
        let (waves_y, waves_x) = (n_waves(height), n_waves(width));
        let reach_x = reach(width).next_multiple_of(PAD);
        let mut turns_y = Vec::new();
        reserve(&mut turns_y, reach(height) * waves_y * 2)?;
        let circle = circle(height)?;
        for y in 0..reach(height) {
            for k in 0..waves_y {
                turns_y.extend(circle[k * y % height]);
            }
        }
        let mut turns_x = Vec::new();
        reserve(&mut turns_x, waves_x * 2 * reach_x)?;
        let circle = self::circle(width)?;
        for k in 0..waves_x {
            let turns = || (0..reach_x).map(|x| circle[k * x % width]);
            turns_x.extend(turns().map(|[cos, _]| cos));
            turns_x.extend(turns().map(|[_, sin]| sin));
        }
        Ok(Tables {
            height,
            width,
            waves_y,
            waves_x,
            padded_x: waves_x.next_multiple_of(PAD),
            turns_y,
            turns_x,
            reach_x,
            decay_power: f32::NAN,
            amplitudes: Vec::new(),
        })
    }

    fn set_decay(&mut self, decay_power: f32) -> Result<()> {
        if self.decay_power == decay_power {
            return Ok(());
        }
        resize(&mut self.amplitudes, self.waves_y * self.padded_x, 0.0)?;
        for ky in 0..self.waves_y {
            for kx in usize::from(ky == 0)..self.waves_x {
                self.amplitudes[ky * self.padded_x + kx] = amplitude(ky, kx, self.height, self.width, decay_power);
            }
        }
        self.decay_power = decay_power;
        Ok(())
    }
}

/// Number of places on an axis whose sums give those of all others.
fn reach(side: usize) -> usize {
    if side.is_multiple_of(2) { side / 4 + 1 } else { side / 2 + 1 }
}

/// How many frequencies an axis has, 0 among them.
pub(crate) fn n_waves(side: usize) -> usize {
    MAX_WAVES.min((side - 1) / 2) + 1
}

/// 1 / max(|f|·max(H, W), 1)^decay_power, of a wave that is not constant.
pub(crate) fn amplitude(ky: usize, kx: usize, height: usize, width: usize, decay_power: f32) -> f32 {
    let (height, width) = (height as f64, width as f64);
    let unit = 1.0 / height.max(width);
    let (fx, fy) = (kx as f64 / width, ky as f64 / height);
    let frequency = libm::sqrt(fx * fx + fy * fy) / unit;
    (1.0 / libm::pow(frequency.max(1.0), f64::from(decay_power))) as f32
}

/// (cos, sin) of 2πm/n for m = 0 … n − 1, from f64, exactly symmetric: m, n − m and, for an even n, n/2 − m
/// differ in signs only.
pub(crate) fn circle(n: usize) -> Result<Vec<[f32; 2]>> {
    let mut circle = Vec::new();
    reserve(&mut circle, n)?;
    circle.extend((0..n).map(|m| {
        let (m, below) = if 2 * m > n { (n - m, true) } else { (m, false) };
        let (m, left) = if n.is_multiple_of(2) && 4 * m > n { (n / 2 - m, true) } else { (m, false) };
        let angle = std::f64::consts::TAU * m as f64 / n as f64;
        let cos = if 4 * m == n { 0.0 } else { libm::cos(angle) as f32 };
        let sin = libm::sin(angle) as f32;
        [if left { -cos } else { cos }, if below { -sin } else { sin }]
    }));
    Ok(circle)
}

/// The random spectrum.
struct Spectrum<'a> {
    noise_key: u64,
    tables: &'a Tables,
    spectrum: &'a mut [f32],
}

impl Kernel for Spectrum<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Spectrum { noise_key, tables, spectrum } = self;
        let key = halves(noise_key);
        let plane = tables.waves_y * tables.padded_x;
        let (sums, differences) = spectrum.split_at_mut(2 * plane);
        let (sum_re, sum_im) = sums.split_at_mut(plane);
        let (diff_re, diff_im) = differences.split_at_mut(plane);
        for ky in 0..tables.waves_y {
            let row = ky * tables.padded_x..(ky + 1) * tables.padded_x;
            let amplitudes = &tables.amplitudes[row.clone()];
            let (sum_re, sum_im) = (&mut sum_re[row.clone()], &mut sum_im[row.clone()]);
            let (diff_re, diff_im) = (&mut diff_re[row.clone()], &mut diff_im[row]);
            for kx in 0..tables.padded_x {
                let [r0, r1, r2, r3] = philox([kx as u32, ky as u32, 0, SPECTRUM_TAG], key);
                let plus = normals::<L>(r0, r1);
                let minus = normals::<L>(r2, r3);
                // On the axes −k_x is k itself or its mirror image, and is not summed.
                let alone = (kx == 0) | (ky == 0);
                let minus = if alone { (0.0, 0.0) } else { minus };
                let amplitude = amplitudes[kx];
                sum_re[kx] = amplitude * (plus.0 + minus.0);
                sum_im[kx] = amplitude * (plus.1 + minus.1);
                diff_re[kx] = amplitude * (plus.0 - minus.0);
                diff_im[kx] = amplitude * (plus.1 - minus.1);
            }
        }
    }
}

/// P and Q of every row.
struct Columns<'a> {
    tables: &'a Tables,
    spectrum: &'a [f32],
    columns: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        const { assert!(L::Lanes::N <= MAX_LANES) };
        let Columns { tables, spectrum, columns } = self;
        let plane = tables.waves_y * tables.padded_x;
        assert!(
            spectrum.len() == 4 * plane
                && columns.len() == 2 * tables.height * tables.padded_x
                && tables.padded_x.is_multiple_of(MAX_LANES)
                && tables.turns_y.len() == reach(tables.height) * tables.waves_y * 2
        );
        // Two rows share each load of the spectrum.
        let shared = reach(tables.height) / 2 * 2;
        for y in (0..shared).step_by(2) {
            column_block::<L, 2>(tables, spectrum, y, columns);
        }
        for y in shared..reach(tables.height) {
            column_block::<L, 1>(tables, spectrum, y, columns);
        }
    }
}

/// P and Q of rows `y..y + ROWS`, and of those that share their chains.
#[inline(always)]
fn column_block<L: Level, const ROWS: usize>(tables: &Tables, spectrum: &[f32], y: usize, columns: &mut [f32]) {
    let (height, padded) = (tables.height, tables.padded_x);
    for x in (0..padded).step_by(L::Lanes::N) {
        let even = column_chains::<L, ROWS>(tables, spectrum, y, x, 0);
        let odd = column_chains::<L, ROWS>(tables, spectrum, y, x, 1);
        for (y, (even, odd)) in (y..).zip(even.iter().zip(&odd)) {
            let there = std::array::from_fn(|i| even[i].add(odd[i]));
            // Half a side on, cos changes its sign at odd k, and sin at even k.
            let turned = [even[0].sub(odd[0]), odd[1].sub(even[1]), even[2].sub(odd[2]), odd[3].sub(even[3])];
            let turned_y = if height.is_multiple_of(2) && 4 * y != height { height / 2 - y } else { y };
            for (y, [re_cos, im_sin, im_cos, re_sin]) in [(turned_y, turned), (y, there)] {
                let mirror_y = if y == 0 { 0 } else { height - y };
                let mirrored = [re_cos.add(im_sin), im_cos.sub(re_sin)];
                for (y, [p, q]) in [(mirror_y, mirrored), (y, [re_cos.sub(im_sin), im_cos.add(re_sin)])] {
                    // SAFETY: y < H; a register's values from x end within the padded row.
                    unsafe {
                        p.store(columns.as_mut_ptr().add(2 * y * padded + x));
                        q.store(columns.as_mut_ptr().add((2 * y + 1) * padded + x));
                    }
                }
            }
        }
    }
}

/// Re cos, Im sin, Im cos, Re sin of each row, over the k_y of one parity.
#[inline(always)]
fn column_chains<L: Level, const ROWS: usize>(
    tables: &Tables,
    spectrum: &[f32],
    y: usize,
    x: usize,
    parity: usize,
) -> [[L::Lanes; 4]; ROWS] {
    let (padded, waves) = (tables.padded_x, tables.waves_y);
    let mut chains = [[L::Lanes::splat(0.0); 4]; ROWS];
    let mut ky = parity;
    while ky < waves {
        let [sum_re, sum_im, diff_im, diff_re] = [SUM_RE, SUM_IM, DIFFERENCE_IM, DIFFERENCE_RE].map(|part| {
            // SAFETY: a register's values from x end within the padded row.
            unsafe { L::Lanes::load(spectrum.as_ptr().add((part * waves + ky) * padded + x)) }
        });
        for (row, sums) in chains.iter_mut().enumerate() {
            // SAFETY: y + row is within reach, and k_y one of the waves.
            let [cos, sin] = unsafe {
                let turn = tables.turns_y.as_ptr().add(((y + row) * waves + ky) * 2);
                [L::Lanes::splat(*turn), L::Lanes::splat(*turn.add(1))]
            };
            sums[0] = sum_re.fma(cos, sums[0]);
            sums[1] = sum_im.fma(sin, sums[1]);
            sums[2] = diff_im.fma(cos, sums[2]);
            sums[3] = diff_re.fma(sin, sums[3]);
        }
        ky += 2;
    }
    chains
}

/// F, row by row; `field`: `[height, stride]`, of which the first W of a row are written, and [`PAD`] more at its end.
struct Rows<'a> {
    tables: &'a Tables,
    columns: &'a [f32],
    stride: usize,
    field: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        const { assert!(L::Lanes::N <= MAX_LANES) };
        let Rows { tables, columns, stride, field } = self;
        assert!(
            tables.reach_x >= reach(tables.width)
                && tables.turns_x.len() == 2 * tables.waves_x * tables.reach_x
                && tables.reach_x.is_multiple_of(MAX_LANES)
                && stride >= tables.width
                && field.len() >= tables.height * stride + PAD
        );
        // Four rows share each load of the tables.
        let shared = tables.height / 4 * 4;
        for y in (0..shared).step_by(4) {
            row_block::<L, 4>(tables, columns, y, stride, field);
        }
        for y in shared..tables.height {
            row_block::<L, 1>(tables, columns, y, stride, field);
        }
    }
}

/// Rows `y..y + ROWS`, after those before them.
#[inline(always)]
fn row_block<L: Level, const ROWS: usize>(
    tables: &Tables,
    columns: &[f32],
    y: usize,
    stride: usize,
    field: &mut [f32],
) {
    let (width, padded) = (tables.width, tables.padded_x);
    let waves: [&[f32]; ROWS] = std::array::from_fn(|row| &columns[2 * (y + row) * padded..][..2 * padded]);
    for x in (0..reach(width)).step_by(L::Lanes::N) {
        let even = row_chains::<L, ROWS>(tables, &waves, x, 0);
        let odd = row_chains::<L, ROWS>(tables, &waves, x, 1);
        for (row, (even, odd)) in even.iter().zip(&odd).enumerate() {
            let row = &mut field[(y + row) * stride..];
            let (cos, sin) = (even[0].add(odd[0]), even[1].add(odd[1]));
            // Before column 0 is the row's end.
            store_back(row, width - x, cos.add(sin));
            store(row, x, cos.sub(sin));
            if width.is_multiple_of(2) {
                // Half a side on, cos changes its sign at odd k, and sin at even k.
                let (cos, sin) = (even[0].sub(odd[0]), odd[1].sub(even[1]));
                store_back(row, width / 2 - x, cos.sub(sin));
                store(row, width / 2 + x, cos.add(sin));
            }
        }
    }
}

/// Σ P cos and Σ Q sin of each row, over the k_x of one parity; `waves`: P and Q, `[2, padded_x]` a row.
#[inline(always)]
fn row_chains<L: Level, const ROWS: usize>(
    tables: &Tables,
    waves: &[&[f32]; ROWS],
    x: usize,
    parity: usize,
) -> [[L::Lanes; 2]; ROWS] {
    let padded = tables.padded_x;
    assert!(waves.iter().all(|row| row.len() == 2 * padded) && tables.waves_x <= padded);
    let mut chains = [[L::Lanes::splat(0.0); 2]; ROWS];
    let mut k = parity;
    while k < tables.waves_x {
        // SAFETY: a register's values from x end within the padded table.
        let (cos, sin) = unsafe {
            let turns = tables.turns_x.as_ptr().add(2 * k * tables.reach_x + x);
            (L::Lanes::load(turns), L::Lanes::load(turns.add(tables.reach_x)))
        };
        for (sums, row) in chains.iter_mut().zip(waves) {
            // SAFETY: k < waves_x, as asserted above.
            let [p, q] = unsafe { [*row.get_unchecked(k), *row.get_unchecked(padded + k)] };
            sums[0] = L::Lanes::splat(p).fma(cos, sums[0]);
            sums[1] = L::Lanes::splat(q).fma(sin, sums[1]);
        }
        k += 2;
    }
    chains
}

/// Writes a register's values from `x` on.
///
/// The tables are periodic: lanes beyond the reach hold what belongs where they are written, and those beyond the
/// row's end what the next row writes over, or what pads the field.
#[inline(always)]
fn store<V: Lanes>(row: &mut [f32], x: usize, values: V) {
    debug_assert!(x + V::N <= row.len());
    // SAFETY: x < W, and the field is padded. Adding 0 makes a −0 a 0: equal values have equal bits.
    unsafe { values.add(V::splat(0.0)).store(row.as_mut_ptr().add(x)) };
}

/// Writes a register's values from `x` back, as far as the row's start.
#[inline(always)]
fn store_back<V: Lanes>(row: &mut [f32], x: usize, values: V) {
    let values = values.add(V::splat(0.0)).reversed();
    if x + 1 >= V::N {
        debug_assert!(x < row.len());
        // SAFETY: x is W at most, and the field is padded.
        unsafe { values.store(row.as_mut_ptr().add(x + 1 - V::N)) };
    } else {
        let mut room = [0.0; MAX_LANES];
        // SAFETY: no register holds more.
        unsafe { values.store(room.as_mut_ptr()) };
        row[..=x].copy_from_slice(&room[V::N - 1 - x..V::N]);
    }
}

/// F at u, bilinear and periodic; `field`: `[height + 1, width + 1]`, its last row and column those it begins with.
struct Resample<'a> {
    field: &'a [f32],
    warp: InverseWarp,
    height: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Resample<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let (least, most) = self.warp.bounds::<L>();
        let sides = [self.width as f32, self.height as f32];
        let near = (0..2).all(|axis| least[axis] - 0.5 >= -sides[axis] && most[axis] < 2.0 * sides[axis]);
        if near { self.rows::<L, true>() } else { self.rows::<L, false>() }
    }
}

impl Resample<'_> {
    #[inline(always)]
    fn rows<L: Level, const NEAR: bool>(self) {
        const RUN: usize = 32;
        let Resample { field, warp, height, width, out } = self;
        let stride = width + 1;
        assert!(field.len() >= (height + 1) * stride && out.len() == height * width);
        for (y, row) in out.chunks_exact_mut(width).enumerate() {
            let warp = warp.row::<L>(y);
            for (run, out) in row.chunks_mut(RUN).enumerate() {
                // Addresses, then reads, then weights: the first and the last are done many at a time, and always as
                // many: behind the row's end, its last pixel again.
                let (mut at, mut right, mut down) = ([0u32; RUN], [0.0f32; RUN], [0.0f32; RUN]);
                for i in 0..RUN {
                    let (ux, uy) = warp.at::<L>(((run * RUN) as i32 + i as i32).min(width as i32 - 1));
                    let (x, fraction_x) = neighbour::<NEAR>(ux, width);
                    let (y, fraction_y) = neighbour::<NEAR>(uy, height);
                    at[i] = y * stride as u32 + x;
                    (right[i], down[i]) = (fraction_x, fraction_y);
                }
                let (mut above, mut below) = ([[0.0f32; 2]; RUN], [[0.0f32; 2]; RUN]);
                for i in 0..RUN {
                    // SAFETY: `neighbour` gives x < W and y < H, and the field has a row and a column more.
                    let pair = |at: usize| unsafe { field.as_ptr().add(at).cast::<[f32; 2]>().read_unaligned() };
                    let at = at[i] as usize;
                    (above[i], below[i]) = (pair(at), pair(at + stride));
                }
                let mut values = [0.0f32; RUN];
                for i in 0..RUN {
                    let top = L::fma(right[i], above[i][1] - above[i][0], above[i][0]);
                    let bottom = L::fma(right[i], below[i][1] - below[i][0], below[i][0]);
                    values[i] = L::fma(down[i], bottom - top, top) + 0.0;
                }
                out.copy_from_slice(&values[..out.len()]);
            }
        }
    }
}

/// The pixel at or before u on a periodic axis, and how far u is from its centre to the next one's.
#[inline(always)]
fn neighbour<const NEAR: bool>(u: f32, side: usize) -> (u32, f32) {
    let t = u - 0.5;
    let floor = t.floor();
    let index = if NEAR {
        let side = side as f32;
        let index = if floor < 0.0 { floor + side } else { floor };
        let index = if index >= side { index - side } else { index };
        // SAFETY: 0 to side − 1, as the corners of the image bound u.
        unsafe { index.to_int_unchecked::<i32>() as u32 }
    } else {
        (floor as i32).rem_euclid(side as i32) as u32
    };
    (index, t - floor)
}

/// 1 where the primary is kept.
struct Cut<'a> {
    field: &'a [f32],
    threshold: Threshold,
    plane: &'a mut [u8],
}

impl Kernel for Cut<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Cut { field, threshold, plane } = self;
        let (ties, after) = plane.split_at_mut(threshold.ties_end);
        for (keep, &value) in ties.iter_mut().zip(field) {
            *keep = u8::from(!threshold.gives(value, 0));
        }
        for (keep, &value) in after.iter_mut().zip(&field[ties.len()..]) {
            *keep = u8::from(value <= threshold.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustfft::FftPlanner;
    use rustfft::num_complex::Complex64;

    /// The definition, term by term in f64, from the same f32 coefficients.
    fn field_by_definition(fmix: &FMix) -> Vec<f64> {
        let t = fmix.tables.as_ref().unwrap();
        let plane = t.waves_y * t.padded_x;
        let mut field = vec![0.0; t.height * t.width];
        for (i, f) in field.iter_mut().enumerate() {
            let (x, y) = ((i % t.width) as f64, (i / t.width) as f64);
            for ky in 0..t.waves_y {
                for kx in 0..t.waves_x {
                    let c = |part: usize| f64::from(fmix.spectrum[part * plane + ky * t.padded_x + kx]);
                    let plus = [(c(0) + c(2)) / 2.0, (c(1) + c(3)) / 2.0];
                    let minus = [(c(0) - c(2)) / 2.0, (c(1) - c(3)) / 2.0];
                    let angle =
                        |kx: f64| std::f64::consts::TAU * (kx * x / t.width as f64 + ky as f64 * y / t.height as f64);
                    for (c, angle) in [(plus, angle(kx as f64)), (minus, angle(-(kx as f64)))] {
                        *f += c[0] * angle.cos() - c[1] * angle.sin();
                    }
                }
            }
        }
        field
    }

    #[test]
    fn the_separable_field_is_the_sum_over_waves() {
        for (height, width) in [(1, 1), (2, 2), (1, 9), (9, 1), (3, 4), (7, 13), (32, 32), (33, 31), (20, 70)] {
            let mut fmix = FMix::default();
            let mut plane = vec![9; height * width];
            fmix.render(0x1234_abcd_5678_ef90, 3.0, (height * width / 3) as u32, None, height, width, &mut plane)
                .unwrap();
            let expected = field_by_definition(&fmix);
            let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (got, expected) in fmix.field.iter().zip(&expected) {
                // 66 + 66 roundings of partial sums, each below twice the largest value: 132·2·2⁻²⁵·max|F| = 8e-6·max|F|.
                assert!((f64::from(*got) - expected).abs() <= 8e-6 * largest, "{height}×{width}: {got} {expected}");
            }
            assert_eq!(plane.iter().filter(|&&keep| keep == 0).count(), height * width / 3);
        }
    }

    #[test]
    fn every_small_size_is_the_same_at_every_level() {
        for (height, width) in (1..=40).flat_map(|height| (1..=40).map(move |width| (height, width))) {
            for warp in [None, Some(InverseWarp::new([0.9, -0.3, 0.35, 1.05], height, width))] {
                let fields = crate::simd::levels().into_iter().map(|level| {
                    // Other tests may force another meanwhile: they find the same bits.
                    crate::simd::force_level(level);
                    let (mut fmix, mut plane) = (FMix::default(), vec![0; height * width]);
                    fmix.render(11, 3.0, (height * width / 2) as u32, warp, height, width, &mut plane).unwrap();
                    let field = if warp.is_some() { &fmix.warped } else { &fmix.field[..height * width] };
                    (field.iter().map(|f| f.to_bits()).collect::<Vec<_>>(), plane)
                });
                let fields: Vec<_> = fields.collect();
                assert!(fields.iter().all(|field| *field == fields[0]), "{height}×{width}, {warp:?}");
            }
        }
    }

    /// The same sums by a fast transform in f64, at sizes where the definition takes too long.
    fn field_by_fft(fmix: &FMix) -> Vec<f64> {
        let t = fmix.tables.as_ref().unwrap();
        let plane = t.waves_y * t.padded_x;
        let mut planner = FftPlanner::new();
        let (rows, columns) = (planner.plan_fft_inverse(t.width), planner.plan_fft_inverse(t.height));
        // Transposed, [W, H]: columns are transformed in place.
        let mut spectrum = vec![Complex64::ZERO; t.width * t.height];
        for ky in 0..t.waves_y {
            for kx in 0..t.waves_x {
                let c = |part: usize| f64::from(fmix.spectrum[part * plane + ky * t.padded_x + kx]);
                let (sum, difference) = (Complex64::new(c(0), c(1)), Complex64::new(c(2), c(3)));
                spectrum[kx * t.height + ky] += (sum + difference) / 2.0;
                spectrum[(t.width - kx) % t.width * t.height + ky] += (sum - difference) / 2.0;
            }
        }
        columns.process(&mut spectrum);
        let mut field: Vec<Complex64> = (0..t.height)
            .flat_map(|y| (0..t.width).map(move |x| (x, y)))
            .map(|(x, y)| spectrum[x * t.height + y])
            .collect();
        rows.process(&mut field);
        field.iter().map(|f| f.re).collect()
    }

    #[test]
    fn the_field_is_that_of_a_fast_transform() {
        for (height, width) in [(32, 32), (224, 224), (225, 225), (97, 640), (480, 66), (63, 64)] {
            let mut fmix = FMix::default();
            fmix.render(0xfedc_ba98_7654_3210, 2.0, 1, None, height, width, &mut vec![0; height * width]).unwrap();
            let expected = field_by_fft(&fmix);
            let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (i, (got, expected)) in fmix.field.iter().zip(&expected).enumerate() {
                // As above.
                assert!(
                    (f64::from(*got) - expected).abs() <= 8e-6 * largest,
                    "{height}×{width}, pixel {i}: {got} {expected}"
                );
            }
        }
    }

    #[test]
    fn without_waves_the_first_pixels_are_given() {
        let mut plane = [9; 4];
        FMix::default().render(7, 3.0, 3, None, 2, 2, &mut plane).unwrap();
        assert_eq!(plane, [0, 0, 0, 1]);
    }
}
