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
pub(crate) use merge::{mean_weight, weight_sum};

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
    hard_row: Vec<u8>,
    layer: Vec<f32>,
    fmix: FMix,
    smooth: smooth::Scratch,
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
            let plane = |scratch: &mut MaskScratch, fill: &dyn Fn(&mut MaskScratch, &mut [u8]) -> Result<()>| {
                let mut plane = std::mem::take(&mut scratch.planes[j]);
                resize(&mut plane, height * width, 0)?;
                fill(scratch, &mut plane)?;
                let window = layer.shape.augment().smooth_px.unwrap_or(1);
                if window > 1 {
                    smooth::count(&mut plane, height, width, window as usize, &mut scratch.smooth)?;
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

    /// The mask's one value, where it has only one.
    pub fn constant(&self) -> Option<f32> {
        let mut merged = None;
        for source in &self.sources[..self.n_layers] {
            let Source::Constant(value) = *source else { return None };
            merged = Some(match (merged, self.merge) {
                (None, _) => value,
                (Some(merged), Merge::Product) => merged * value,
                (Some(merged), Merge::Sum) => merged + value,
            });
        }
        Some(merged.map_or(1.0, merge::clip))
    }

    /// Renders rows `first_row..` of the merged mask; `mask`: `[rows, W]`, 1 keeps the primary pixel.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] where there is no room for a layer.
    ///
    /// # Source
    /// MiAMix (Liang et al., 2023), Eq. 10 and 11.
    pub fn render(&mut self, first_row: usize, mask: &mut [f32]) -> Result<()> {
        debug_assert!(mask.len().is_multiple_of(self.width) && first_row + mask.len() / self.width <= self.height);
        if self.n_layers == 0 {
            mask.fill(1.0);
        }
        if self.scratch.layer.len() < mask.len() {
            resize(&mut self.scratch.layer, mask.len(), 0.0)?;
        }
        let mut layer = std::mem::take(&mut self.scratch.layer);
        for j in 0..self.n_layers {
            if j == 0 {
                self.render_layer(j, first_row, mask)?;
            } else {
                let layer = &mut layer[..mask.len()];
                self.render_layer(j, first_row, layer)?;
                merge::merge(self.merge, mask, layer);
            }
        }
        if self.merge == Merge::Sum {
            merge::clip_all(mask);
        }
        self.scratch.layer = layer;
        Ok(())
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
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            hard.row::<L>(y, row);
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
            self.hard.row::<L>(y, self.row);
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
