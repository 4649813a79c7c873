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
//! and rows y, H − y and columns x, W − x share their sums.
//! Each sum is one chain of fused multiply-adds in ascending k, the same on every engine.
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
    mirror: Vec<f32>,
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
        tables.set_decay(decay_power);
        let tables = &*tables;
        resize(&mut self.spectrum, 4 * tables.waves_y * tables.padded_x, 0.0)?;
        resize(&mut self.columns, 2 * height * tables.padded_x, 0.0)?;
        resize(&mut self.mirror, 4 * tables.half_x, 0.0)?;
        // A warped field is read between pixels: one more row and column spare it the wrapping.
        let stride = width + usize::from(warp.is_some());
        resize(&mut self.field, (height + usize::from(warp.is_some())) * stride, 0.0)?;
        dispatch(Spectrum { noise_key, tables, spectrum: &mut self.spectrum });
        dispatch(Columns { tables, spectrum: &self.spectrum, columns: &mut self.columns });
        dispatch(Rows { tables, columns: &self.columns, stride, mirror: &mut self.mirror, field: &mut self.field });
        let field = match warp {
            None => &self.field,
            Some(warp) => {
                let (first, last) = self.field.split_at_mut(height * stride);
                last.copy_from_slice(&first[..stride]);
                for row in self.field.chunks_exact_mut(stride) {
                    row[width] = row[0];
                }
                resize(&mut self.warped, height * width, 0.0)?;
                dispatch(Resample { field: &self.field, warp, height, width, out: &mut self.warped });
                &self.warped
            }
        };
        // A flat field leaves them all to choose from.
        self.candidates.clear();
        reserve(&mut self.candidates, height * width)?;
        let threshold = select::threshold(field, given_px as usize, &mut self.candidates);
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
    /// cos then sin of 2πk_y y/H: `[H/2 + 1, waves_y, 2]`.
    turns_y: Vec<f32>,
    /// cos and sin of 2πk_x x/W: `[waves_x, 2, half_x]`.
    turns_x: Vec<f32>,
    /// W/2 + 1, padded.
    half_x: usize,
    decay_power: f32,
    /// |c| for a unit normal: `[waves_y, padded_x]`, 0 where there is no wave.
    amplitudes: Vec<f32>,
}

impl Tables {
    fn new(height: usize, width: usize) -> Result<Self> {
        let (waves_y, waves_x) = (n_waves(height), n_waves(width));
        let half_x = (width / 2 + 1).next_multiple_of(PAD);
        let mut turns_y = Vec::new();
        reserve(&mut turns_y, (height / 2 + 1) * waves_y * 2)?;
        let circle = circle(height)?;
        for y in 0..=height / 2 {
            for k in 0..waves_y {
                turns_y.extend(circle[k * y % height]);
            }
        }
        let mut turns_x = Vec::new();
        resize(&mut turns_x, waves_x * 2 * half_x, 0.0)?;
        let circle = self::circle(width)?;
        for k in 0..waves_x {
            for x in 0..=width / 2 {
                let [cos, sin] = circle[k * x % width];
                turns_x[2 * k * half_x + x] = cos;
                turns_x[(2 * k + 1) * half_x + x] = sin;
            }
        }
        Ok(Tables {
            height,
            width,
            waves_y,
            waves_x,
            padded_x: waves_x.next_multiple_of(PAD),
            turns_y,
            turns_x,
            half_x,
            decay_power: f32::NAN,
            amplitudes: Vec::new(),
        })
    }

    fn set_decay(&mut self, decay_power: f32) {
        if self.decay_power == decay_power {
            return;
        }
        self.decay_power = decay_power;
        self.amplitudes.clear();
        self.amplitudes.resize(self.waves_y * self.padded_x, 0.0);
        for ky in 0..self.waves_y {
            for kx in usize::from(ky == 0)..self.waves_x {
                self.amplitudes[ky * self.padded_x + kx] = amplitude(ky, kx, self.height, self.width, decay_power);
            }
        }
    }
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

/// (cos, sin) of 2πm/n for m = 0 … n − 1, from f64.
pub(crate) fn circle(n: usize) -> Result<Vec<[f32; 2]>> {
    let mut circle = Vec::new();
    reserve(&mut circle, n)?;
    circle.extend((0..n).map(|m| {
        let angle = std::f64::consts::TAU * m as f64 / n as f64;
        [libm::cos(angle) as f32, libm::sin(angle) as f32]
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
        let Columns { tables, spectrum, columns } = self;
        let (height, padded, waves) = (tables.height, tables.padded_x, tables.waves_y);
        let plane = waves * padded;
        assert!(
            spectrum.len() == 4 * plane && columns.len() == 2 * height * padded && padded.is_multiple_of(MAX_LANES)
        );
        for y in 0..=height / 2 {
            let turns = &tables.turns_y[y * waves * 2..][..waves * 2];
            for x in (0..padded).step_by(L::Lanes::N) {
                let zero = L::Lanes::splat(0.0);
                let (mut re_cos, mut im_sin, mut im_cos, mut re_sin) = (zero, zero, zero, zero);
                for (ky, turn) in turns.as_chunks::<2>().0.iter().enumerate() {
                    let (cos, sin) = (L::Lanes::splat(turn[0]), L::Lanes::splat(turn[1]));
                    // SAFETY: `part` < 4 and ky < waves; a register's values from x end within the padded row.
                    let load =
                        |part: usize| unsafe { L::Lanes::load(spectrum.as_ptr().add(part * plane + ky * padded + x)) };
                    re_cos = load(SUM_RE).fma(cos, re_cos);
                    im_sin = load(SUM_IM).fma(sin, im_sin);
                    im_cos = load(DIFFERENCE_IM).fma(cos, im_cos);
                    re_sin = load(DIFFERENCE_RE).fma(sin, re_sin);
                }
                let mut store = |y: usize, p: L::Lanes, q: L::Lanes| {
                    // SAFETY: y < H, and as above.
                    unsafe {
                        p.store(columns.as_mut_ptr().add(2 * y * padded + x));
                        q.store(columns.as_mut_ptr().add((2 * y + 1) * padded + x));
                    }
                };
                if y != 0 && 2 * y != height {
                    store(height - y, re_cos.add(im_sin), im_cos.sub(re_sin));
                }
                store(y, re_cos.sub(im_sin), im_cos.add(re_sin));
            }
        }
    }
}

/// F, row by row; `field`: `[height, stride]`, of which the first W of a row are written.
struct Rows<'a> {
    tables: &'a Tables,
    columns: &'a [f32],
    stride: usize,
    /// Values of the mirrored columns: `[4, half_x]`.
    mirror: &'a mut [f32],
    field: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let Rows { tables, columns, stride, mirror, field } = self;
        // Four rows share each load of the tables.
        let shared = tables.height / 4 * 4;
        for y in (0..shared).step_by(4) {
            row_block::<L, 4>(tables, columns, y, stride, mirror, &mut field[y * stride..]);
        }
        for y in shared..tables.height {
            row_block::<L, 1>(tables, columns, y, stride, mirror, &mut field[y * stride..]);
        }
    }
}

/// `mirror`: scratch, `[4, half_x]`; `out`: `[ROWS, stride]`.
#[inline(always)]
fn row_block<L: Level, const ROWS: usize>(
    tables: &Tables,
    columns: &[f32],
    y: usize,
    stride: usize,
    mirror: &mut [f32],
    out: &mut [f32],
) {
    let (width, padded, half) = (tables.width, tables.padded_x, tables.half_x);
    // P and Q of all rows for one k_x side by side, as the inner loop takes them.
    let mut waves = [[[0.0f32; 2]; ROWS]; MAX_WAVES + 1];
    let waves = &mut waves[..tables.waves_x];
    for (row, columns) in columns[2 * y * padded..][..2 * ROWS * padded].chunks_exact(2 * padded).enumerate() {
        let (p, q) = columns.split_at(padded);
        for ((wave, &p), &q) in waves.iter_mut().zip(p).zip(q) {
            wave[row] = [p, q];
        }
    }
    assert!(tables.turns_x.len() == 2 * tables.waves_x * half && half.is_multiple_of(MAX_LANES));
    assert!(mirror.len() >= ROWS * half);
    for x in (0..width / 2 + 1).step_by(L::Lanes::N) {
        let mut even = [L::Lanes::splat(0.0); ROWS];
        let mut odd = [L::Lanes::splat(0.0); ROWS];
        for (k, wave) in waves.iter().enumerate() {
            // SAFETY: a register's values from x end within the padded half row.
            let (cos, sin) = unsafe {
                let turns = tables.turns_x.as_ptr().add(2 * k * half + x);
                (L::Lanes::load(turns), L::Lanes::load(turns.add(half)))
            };
            for row in 0..ROWS {
                even[row] = L::Lanes::splat(wave[row][0]).fma(cos, even[row]);
                odd[row] = L::Lanes::splat(wave[row][1]).fma(sin, odd[row]);
            }
        }
        for row in 0..ROWS {
            // Adding 0 makes a −0 a 0: equal values have equal bits.
            let zero = L::Lanes::splat(0.0);
            let left = even[row].sub(odd[row]).add(zero);
            // SAFETY: `mirror` holds ROWS padded half rows.
            unsafe { even[row].add(odd[row]).add(zero).store(mirror.as_mut_ptr().add(row * half + x)) };
            let out = &mut out[row * stride..][..width];
            if x + L::Lanes::N <= width {
                // What lies beyond the middle is written again below.
                // SAFETY: the register ends within the row.
                unsafe { left.store(out.as_mut_ptr().add(x)) };
            } else {
                let mut values = [0.0; MAX_LANES];
                // SAFETY: no register holds more.
                unsafe { left.store(values.as_mut_ptr()) };
                let rest = width - x;
                out[x..].copy_from_slice(&values[..rest]);
            }
        }
    }
    for row in 0..ROWS {
        // Column W − x, but for the columns that are their own mirror image: 0 and W/2.
        let mirrored = &mirror[row * half..][1..width.div_ceil(2)];
        let out = &mut out[row * stride..][width / 2 + 1..width];
        for (out, &value) in out.iter_mut().rev().zip(mirrored) {
            *out = value;
        }
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
        const RUN: usize = 64;
        let Resample { field, warp, height, width, out } = self;
        let stride = width + 1;
        assert!(field.len() == (height + 1) * stride && out.len() == height * width);
        for (y, row) in out.chunks_exact_mut(width).enumerate() {
            let warp = warp.row::<L>(y);
            for (run, out) in row.chunks_mut(RUN).enumerate() {
                // Addresses, then reads, then weights: the first and the last are done many at a time.
                let (mut at, mut right, mut down) = ([0u32; RUN], [0.0f32; RUN], [0.0f32; RUN]);
                let n = out.len().min(RUN);
                for i in 0..n {
                    let (ux, uy) = warp.at::<L>(run * RUN + i);
                    let (x, fraction_x) = neighbour::<NEAR>(ux, width);
                    let (y, fraction_y) = neighbour::<NEAR>(uy, height);
                    at[i] = y * stride as u32 + x;
                    (right[i], down[i]) = (fraction_x, fraction_y);
                }
                let mut corners = [[0.0f32; RUN]; 4];
                for i in 0..n {
                    let at = at[i] as usize;
                    // SAFETY: `neighbour` gives x < W and y < H, and the field has a row and a column more.
                    let value = |offset: usize| unsafe { *field.get_unchecked(at + offset) };
                    [corners[0][i], corners[1][i], corners[2][i], corners[3][i]] =
                        [value(0), value(1), value(stride), value(stride + 1)];
                }
                for i in 0..n {
                    let top = L::fma(right[i], corners[1][i] - corners[0][i], corners[0][i]);
                    let bottom = L::fma(right[i], corners[3][i] - corners[2][i], corners[2][i]);
                    out[i] = L::fma(down[i], bottom - top, top) + 0.0;
                }
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
        let (to_last, after) = plane.split_at_mut((threshold.last + 1).min(field.len()));
        for (keep, &value) in to_last.iter_mut().zip(field) {
            *keep = u8::from(!threshold.gives(value, 0));
        }
        for (keep, &value) in after.iter_mut().zip(&field[to_last.len()..]) {
            *keep = u8::from(value <= threshold.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn without_waves_the_first_pixels_are_given() {
        let mut plane = [9; 4];
        FMix::default().render(7, 3.0, 3, None, 2, 2, &mut plane).unwrap();
        assert_eq!(plane, [0, 0, 0, 1]);
    }
}
