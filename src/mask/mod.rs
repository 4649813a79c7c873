//! Stage 3: masks, as pure functions of a plan's layers.
//!
//! A hard-edged layer (cutmix, gridmix, fmix) is a count of kept pixels in a window, one byte a pixel:
//! 0 or 1 where it is not smoothed. A soft layer is evaluated where it is used.
//! Masks are rendered by tiles of rows, to be read while they are in cache.

mod cutmix;
mod fmix;
mod gaussian;
mod gridmix;
mod merge;
mod select;
mod smooth;
mod warp;

#[cfg(feature = "cuda")]
pub(crate) use fmix::{amplitude, circle, n_waves};
pub(crate) use merge::mean_weight;
use merge::weight_sum;

use crate::config::{MAX_LAYERS, Merge};
use crate::error::Result;
use crate::memory::resize;
use crate::plan::{Layer, Shape};
use crate::simd::{Kernel, Level, dispatch};
use cutmix::CutMix;
use fmix::FMix;
use gaussian::Gaussian;
use gridmix::GridMix;

/// A hard-edged mask whose rows can be had one at a time: 1 keeps the primary pixel, 0 gives it.
trait HardRow {
    /// Writes row `y`; `row`: `[W]`.
    fn row<L: Level>(&self, y: usize, row: &mut [u8]);

    /// Whether row `y`, not the first, is the one before it again.
    fn repeats(&self, y: usize) -> bool;
}

/// A layer, ready for rendering.
#[derive(Clone, Copy, Debug)]
enum Source {
    Constant(f32),
    Gaussian(Gaussian),
    CutMix(CutMix),
    GridMix(GridMix),
    /// Counts in plane `index`, to be divided by the window's area.
    Plane {
        index: usize,
        area: u32,
    },
}

/// Memory that a thread uses again for each sample.
#[derive(Default)]
pub(crate) struct MaskScratch {
    /// One plane of counts for each smoothed or fmix layer.
    planes: [Vec<u8>; MAX_LAYERS],
    /// A plane of 0 and 1 that is to be smoothed.
    hard: Vec<u8>,
    /// Rows of column counts.
    columns: Vec<u8>,
    hard_row: Vec<u8>,
    layer: Vec<f32>,
    fmix: FMix,
}

/// One sample's mask, ready for rendering by tiles of rows.
pub(crate) struct SampleMask<'a> {
    height: usize,
    width: usize,
    merge: Merge,
    sources: [Source; MAX_LAYERS],
    n_layers: usize,
    scratch: &'a mut MaskScratch,
}

impl<'a> SampleMask<'a> {
    /// Prepares the layers: renders the planes of those that need their neighbours.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] where there is no room for a plane.
    pub fn new(
        layers: &[Layer],
        merge: Merge,
        height: usize,
        width: usize,
        scratch: &'a mut MaskScratch,
    ) -> Result<Self> {
        let mut sources = [Source::Constant(1.0); MAX_LAYERS];
        for (j, (source, layer)) in sources.iter_mut().zip(layers).enumerate() {
            // A plane of counts: `fill` writes 0 or 1.
            let plane = |scratch: &mut MaskScratch, fill: &dyn Fn(&mut MaskScratch, &mut [u8]) -> Result<()>| {
                let padded = height * width + smooth::BLOCK;
                let mut plane = std::mem::take(&mut scratch.planes[j]);
                resize(&mut plane, padded, 0)?;
                let window = layer.shape.augment().smooth_px.unwrap_or(1);
                if window > 1 {
                    let mut hard = std::mem::take(&mut scratch.hard);
                    resize(&mut hard, padded, 0)?;
                    fill(scratch, &mut hard[..height * width])?;
                    smooth::count(&hard, &mut plane, height, width, window as usize, &mut scratch.columns)?;
                    scratch.hard = hard;
                } else {
                    fill(scratch, &mut plane[..height * width])?;
                }
                scratch.planes[j] = plane;
                Ok(Source::Plane { index: j, area: window * window })
            };
            let smoothed = layer.shape.augment().smooth_px.is_some_and(|window| window > 1);
            *source = match layer.shape {
                Shape::MixUp => Source::Constant(1.0 - layer.given),
                Shape::AgMix { cx, cy, sigma_px, .. } | Shape::GMix { cx, cy, sigma_px } => {
                    if sigma_px == 0.0 {
                        Source::Constant(1.0)
                    } else {
                        Source::Gaussian(Gaussian::new(cx, cy, layer.derived.matrix))
                    }
                }
                Shape::CutMix { x0, y0, x1, y1, augment } => {
                    let warp = augment.warp.map(|_| warp::InverseWarp::new(layer.derived.matrix, height, width));
                    let cutmix = CutMix::new([x0, y0, x1, y1], warp);
                    if smoothed {
                        plane(scratch, &|_, plane| {
                            fill_plane(cutmix, width, plane);
                            Ok(())
                        })?
                    } else {
                        Source::CutMix(cutmix)
                    }
                }
                Shape::GridMix { n, cells, augment } => {
                    let warp = augment.warp.map(|_| warp::InverseWarp::new(layer.derived.matrix, height, width));
                    let gridmix = GridMix::new(n, cells, height, width, warp);
                    if smoothed {
                        plane(scratch, &|_, plane| {
                            fill_plane(gridmix, width, plane);
                            Ok(())
                        })?
                    } else {
                        Source::GridMix(gridmix)
                    }
                }
                Shape::FMix { noise_key, decay_power, augment } => {
                    let warp = augment.warp.map(|_| warp::InverseWarp::new(layer.derived.matrix, height, width));
                    plane(scratch, &|scratch, plane| {
                        scratch.fmix.render(noise_key, decay_power, layer.derived.given_px, warp, height, width, plane)
                    })?
                }
            };
        }
        Ok(SampleMask { height, width, merge, sources, n_layers: layers.len(), scratch })
    }

    /// The mask's one value, where it has only one, and the sum of its weights.
    pub fn constant(&self) -> Option<(f32, u64)> {
        let mut merged = None;
        for source in &self.sources[..self.n_layers] {
            let Source::Constant(value) = *source else { return None };
            merged = Some(merge::merge_values(self.merge, merged, value));
        }
        let value = merged.map_or(1.0, merge::clip);
        Some((value, weight_sum(&[value]) * (self.height * self.width) as u64))
    }

    /// Renders rows `first_row..` of the merged mask; `mask`: `[rows, W]`, 1 keeps the primary pixel.
    /// The sum of their weights, Σ round(mask·2²⁴).
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] where there is no room for a layer.
    ///
    /// # Source
    /// MiAMix (Liang et al., 2023), Eq. 10 and 11.
    pub fn render(&mut self, first_row: usize, mask: &mut [f32]) -> Result<u64> {
        debug_assert!(mask.len().is_multiple_of(self.width) && first_row + mask.len() / self.width <= self.height);
        // Leading constants wait for the first layer that has pixels: neither merge minds which factor is first.
        let mut constant = None;
        let mut rendered = false;
        for j in 0..self.n_layers {
            match self.sources[j] {
                Source::Constant(value) if rendered => merge::merge_constant(self.merge, mask, value),
                Source::Constant(value) => constant = Some(merge::merge_values(self.merge, constant, value)),
                _ if rendered => {
                    if self.scratch.layer.len() < mask.len() {
                        resize(&mut self.scratch.layer, mask.len(), 0.0)?;
                    }
                    let mut layer = std::mem::take(&mut self.scratch.layer);
                    self.render_layer(j, first_row, &mut layer[..mask.len()])?;
                    merge::merge(self.merge, mask, &layer[..mask.len()]);
                    self.scratch.layer = layer;
                }
                _ => {
                    self.render_layer(j, first_row, mask)?;
                    rendered = true;
                    if let Some(value) = constant {
                        merge::merge_constant(self.merge, mask, value);
                    }
                }
            }
        }
        if !rendered {
            mask.fill(constant.unwrap_or(1.0));
        }
        if self.merge == Merge::Sum {
            merge::clip_all(mask);
        }
        Ok(weight_sum(mask))
    }

    fn render_layer(&mut self, j: usize, first_row: usize, out: &mut [f32]) -> Result<()> {
        let width = self.width;
        match self.sources[j] {
            Source::Constant(value) => out.fill(value),
            Source::Gaussian(gaussian) => gaussian.render(first_row, width, out),
            Source::CutMix(cutmix) => hard_rows(cutmix, first_row, width, &mut self.scratch.hard_row, out)?,
            Source::GridMix(gridmix) => hard_rows(gridmix, first_row, width, &mut self.scratch.hard_row, out)?,
            Source::Plane { index, area } => {
                let plane = &self.scratch.planes[index][first_row * width..][..out.len()];
                dispatch(smooth::Divide { counts: plane, area, out });
            }
        }
        Ok(())
    }
}

struct FillPlane<'a, H>(H, usize, &'a mut [u8]);

impl<H: HardRow> Kernel for FillPlane<'_, H> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        let FillPlane(hard, width, plane) = self;
        for y in 0..plane.len() / width {
            let (before, row) = plane.split_at_mut(y * width);
            if y > 0 && hard.repeats(y) {
                row[..width].copy_from_slice(&before[(y - 1) * width..]);
            } else {
                hard.row::<L>(y, &mut row[..width]);
            }
        }
    }
}

fn fill_plane(hard: impl HardRow, width: usize, plane: &mut [u8]) {
    dispatch(FillPlane(hard, width, plane));
}

struct HardRows<'a, H> {
    hard: H,
    first_row: usize,
    row: &'a mut [u8],
    out: &'a mut [f32],
}

impl<H: HardRow> Kernel for HardRows<'_, H> {
    type Output = ();
    #[inline(always)]
    fn run<L: Level>(self) {
        for (y, out) in (self.first_row..).zip(self.out.chunks_exact_mut(self.row.len())) {
            if y == self.first_row || !self.hard.repeats(y) {
                self.hard.row::<L>(y, self.row);
            }
            for (out, &keep) in out.iter_mut().zip(&*self.row) {
                *out = f32::from(keep);
            }
        }
    }
}

fn hard_rows(hard: impl HardRow, first_row: usize, width: usize, row: &mut Vec<u8>, out: &mut [f32]) -> Result<()> {
    resize(row, width, 0)?;
    dispatch(HardRows { hard, first_row, row, out });
    Ok(())
}
