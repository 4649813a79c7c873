//! The CPU engine: one pass a sample renders its mask by tiles, weighs it, and mixes pixels and labels.

mod backward;
mod blend;
mod convert;
mod executor;
mod labels;
mod rows;

pub(crate) use backward::BackwardJob;
pub use executor::{Executor, Inline, MAX_THREADS, Threads};
pub(crate) use labels::{LabelRows, LabelSource};

use crate::config::LabelWeight;
use crate::error::Result;
use crate::float_mode::DefaultFloatMode;
use crate::mask::{MaskScratch, SampleMask, mean_weight};
use crate::memory::resize;
use crate::plan::{Plan, Shape};
use crate::simd::fence;
use crate::tensor::{Dtype, Raw};
use blend::{Choose, Mask, Mix, Stores};
use convert::Pixel;
use half::{bf16, f16};
use rows::{Layout, RowReader, RowWriter};
use std::cell::RefCell;
use std::sync::OnceLock;

/// Pixels of a tile: its mask, 16 KB, stays in the first-level cache between rendering and mixing.
const TILE_PX: usize = 4096;
/// Elements of interleaved channels mixed at a time: each pixel's mask value is written once for each of them.
const SPREAD: usize = 1024;
/// Below this many elements a batch is done sooner than other threads wake up.
const INLINE_ELEMENTS: usize = 1 << 15;

/// What a thread keeps from one sample to the next.
#[derive(Default)]
struct Scratch {
    mask: MaskScratch,
    tile: Vec<f32>,
    /// Some of the tile's values once for each channel, for interleaved images.
    spread: Vec<f32>,
    staging: [Vec<u64>; 3],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A pointer into a caller's buffer, of which each task writes a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Parts<T>(*mut T);

// SAFETY: tasks write disjoint elements, and the buffer is borrowed for the whole run.
unsafe impl<T: Send> Send for Parts<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    pub fn of(buffer: &mut [T]) -> Self {
        Parts::at(buffer.as_mut_ptr())
    }

    pub fn at(start: *mut T) -> Self {
        Parts(start)
    }

    /// Writes element `index`.
    ///
    /// # Safety
    /// `index` is inside the buffer, and no other task writes it.
    unsafe fn set(self, index: usize, value: T) {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(index).write(value) }
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// As [`Parts::set`], for each of them, as long as the slice lives.
    unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// What to mix, checked by [`crate::op`].
pub(crate) struct MixJob<'a> {
    pub plan: &'a Plan,
    pub dtype: Dtype,
    pub primary: Raw,
    pub partner: Raw,
    pub out: Raw,
    pub labels: Option<LabelRows<'a>>,
    pub label_weight: Option<Parts<f32>>,
}

impl MixJob<'_> {
    pub fn run(&self, executor: &dyn Executor) -> Result<()> {
        match self.dtype {
            Dtype::F32 => self.run_as::<f32>(executor),
            Dtype::F16 => self.run_as::<f16>(executor),
            Dtype::Bf16 => self.run_as::<bf16>(executor),
            Dtype::U8 => self.run_as::<u8>(executor),
        }
    }

    fn run_as<T: Pixel>(&self, executor: &dyn Executor) -> Result<()> {
        for_each_sample(executor, self.plan, self.out.shape.iter().product(), &|i, scratch| {
            let weight = self.mix_sample::<T>(i, scratch)?;
            if let Some(label_weight) = self.label_weight {
                // SAFETY: one element a sample.
                unsafe { label_weight.set(i, weight) };
            }
            if let Some(labels) = &self.labels {
                labels.mix_row(i, self.plan.sample(i).partner_index, weight);
            }
            Ok(())
        })
    }

    /// Mixes the pixels of sample `i`; its label weight.
    fn mix_sample<T: Pixel>(&self, i: usize, scratch: &mut Scratch) -> Result<f32> {
        let sample = self.plan.sample(i);
        let [_, channels, _, width] = self.out.shape;
        let Scratch { mask, tile, spread, staging: [primary_row, partner_row, out_row] } = scratch;
        let layout = Layout::of(&self.out);
        let (planes, per_pixel) = layout.split(channels);
        let mut primary = RowReader::<T>::new(self.primary, i, sample.primary_view, layout, primary_row)?;
        let mut partner =
            RowReader::<T>::new(self.partner, sample.partner_index, sample.partner_view, layout, partner_row)?;
        let mut out = RowWriter::<T>::new(self.out, i, layout, out_row)?;
        // A staging row is read at once.
        let stores = if out.is_direct() {
            Stores::of(self.out.shape.iter().product::<usize>() * size_of::<T>())
        } else {
            Stores::Plain
        };
        // Whole blocks, where they are not longer than that.
        let spread_px = match SPREAD / per_pixel {
            px @ ..blend::BLOCK => px.max(1),
            px => px / blend::BLOCK * blend::BLOCK,
        };
        if per_pixel > 1 {
            resize(spread, spread_px * per_pixel, 0.0)?;
        }
        let mut mix = |primary: &[T], partner: &[T], out: &mut [T], mask: Mask<'_>| match mask {
            Mask::Values(values) if per_pixel > 1 => {
                // Blocks of pixels, with the mask once for each channel.
                let step = spread_px * per_pixel;
                let pairs = primary.chunks(step).zip(partner.chunks(step));
                for ((out, (primary, partner)), values) in out.chunks_mut(step).zip(pairs).zip(values.chunks(spread_px))
                {
                    let spread = &mut spread[..out.len()];
                    blend::spread(values, per_pixel, spread);
                    blend::mix(Mix { primary, partner, mask: Mask::Values(spread), out, stores });
                }
            }
            _ => blend::mix(Mix { primary, partner, mask, out, stores }),
        };
        let weight = for_each_tile(self.plan, i, mask, tile, |y, n_rows, mask| {
            for plane in 0..planes {
                if let (Some(primary), Some(partner), Some(out)) =
                    (primary.block(plane, y, n_rows), partner.block(plane, y, n_rows), out.block(plane, y, n_rows))
                {
                    mix(primary, partner, out, mask);
                    continue;
                }
                for row in 0..n_rows {
                    let (y, mask) = (y + row, mask.part(row * width, width));
                    out.row(plane, y, |out| mix(primary.row(plane, y), partner.row(plane, y), out, mask));
                }
            }
        })?;
        if stores == Stores::Streaming {
            fence();
        }
        Ok(label_weight(self.plan, i, weight))
    }
}

/// Label maps to mix, checked by [`crate::op`]; elements of 1, 2, 4 or 8 bytes.
pub(crate) struct MapJob<'a> {
    pub plan: &'a Plan,
    pub primary: Raw,
    pub partner: Raw,
    pub out: Raw,
}

impl MapJob<'_> {
    pub fn run(&self, executor: &dyn Executor) -> Result<()> {
        match self.out.size {
            1 => self.run_as::<u8>(executor),
            2 => self.run_as::<u16>(executor),
            4 => self.run_as::<u32>(executor),
            _ => self.run_as::<u64>(executor),
        }
    }

    fn run_as<T: Copy + Default>(&self, executor: &dyn Executor) -> Result<()> {
        for_each_sample(executor, self.plan, self.out.shape.iter().product(), &|i, scratch| {
            let sample = self.plan.sample(i);
            let Scratch { mask, tile, staging: [primary_row, partner_row, out_row], .. } = scratch;
            let layout = Layout::Planar;
            let mut primary = RowReader::<T>::new(self.primary, i, sample.primary_view, layout, primary_row)?;
            let mut partner =
                RowReader::<T>::new(self.partner, sample.partner_index, sample.partner_view, layout, partner_row)?;
            let mut out = RowWriter::<T>::new(self.out, i, layout, out_row)?;
            let width = self.plan.width;
            for_each_tile(self.plan, i, mask, tile, |y, n_rows, mask| {
                for row in 0..n_rows {
                    let (y, mask) = (y + row, mask.part(row * width, width));
                    out.row(0, y, |out| {
                        blend::choose(Choose { primary: primary.row(0, y), partner: partner.row(0, y), mask, out });
                    });
                }
            })?;
            Ok(())
        })
    }
}

/// Masks to render: `masks`: `[N, H, W]` or nothing; `label_weight`: `[N]` or nothing.
pub(crate) struct MaskJob<'a> {
    pub plan: &'a Plan,
    pub masks: Option<Parts<f32>>,
    pub label_weight: Option<Parts<f32>>,
}

impl MaskJob<'_> {
    pub fn run(&self, executor: &dyn Executor) -> Result<()> {
        let pixels = self.plan.height * self.plan.width;
        for_each_sample(executor, self.plan, self.plan.heads.len() * pixels, &|i, scratch| {
            let sum = match self.masks {
                // SAFETY: one plane a sample.
                Some(masks) => {
                    render_whole(self.plan, i, &mut scratch.mask, unsafe { masks.slice(i * pixels, pixels) })?
                }
                None => for_each_tile(self.plan, i, &mut scratch.mask, &mut scratch.tile, |_, _, _| ())?,
            };
            if let Some(weights) = self.label_weight {
                // SAFETY: one element a sample.
                unsafe { weights.set(i, label_weight(self.plan, i, sum)) };
            }
            Ok(())
        })
    }
}

/// Runs `task(i, scratch)` for every sample.
fn for_each_sample(
    executor: &dyn Executor,
    plan: &Plan,
    elements: usize,
    task: &(dyn Fn(usize, &mut Scratch) -> Result<()> + Sync),
) -> Result<()> {
    let n = plan.heads.len();
    let executor = if elements < INLINE_ELEMENTS { &Inline } else { executor };
    let failure = OnceLock::new();
    // Twice through the batch: first the samples that take longest, so that no thread is left with one at the end.
    // One sample alone is one task.
    let n_turns = if n == 1 { 1 } else { 2 * n };
    executor.run(n_turns, &|turn| {
        let i = turn % n;
        if n > 1 && is_long(plan, i) != (turn < n) {
            return;
        }
        let _mode = DefaultFloatMode::enter();
        if let Err(error) = SCRATCH.with_borrow_mut(|scratch| task(i, scratch)) {
            // Which of several errors is told does not matter: they are all of one kind.
            let _ = failure.set(error);
        }
    })?;
    failure.into_inner().map_or(Ok(()), Err)
}

/// Whether a sample takes much longer than most: fmix costs several times what any other mask does.
fn is_long(plan: &Plan, i: usize) -> bool {
    plan.sample(i).layers.iter().any(|layer| matches!(layer.shape, Shape::FMix { .. }))
}

/// Rows of a tile.
fn tile_rows(plan: &Plan) -> usize {
    (TILE_PX / plan.width).clamp(1, plan.height)
}

/// Renders the mask of sample `i` by tiles of whole rows and gives each to `use_tile(first_row, n_rows, mask)`,
/// a mask of one value as one; the sum of the mask's weights.
fn for_each_tile(
    plan: &Plan,
    i: usize,
    scratch: &mut MaskScratch,
    tile: &mut Vec<f32>,
    mut use_tile: impl FnMut(usize, usize, Mask<'_>),
) -> Result<u64> {
    let (height, width) = (plan.height, plan.width);
    let mut mask = SampleMask::new(plan.sample(i).layers, plan.merge, height, width, scratch)?;
    if let Some((value, sum)) = mask.constant() {
        use_tile(0, height, Mask::Constant(value));
        return Ok(sum);
    }
    let tile_rows = tile_rows(plan);
    resize(tile, tile_rows * width, 0.0)?;
    let mut sum = 0;
    for y in (0..height).step_by(tile_rows) {
        let n_rows = tile_rows.min(height - y);
        let tile = &mut tile[..n_rows * width];
        sum += mask.render(y, tile)?;
        use_tile(y, n_rows, Mask::Values(tile));
    }
    Ok(sum)
}

/// Renders the mask of sample `i` into `plane`, `[H, W]`; the sum of its weights.
fn render_whole(plan: &Plan, i: usize, scratch: &mut MaskScratch, plane: &mut [f32]) -> Result<u64> {
    let mut mask = SampleMask::new(plan.sample(i).layers, plan.merge, plan.height, plan.width, scratch)?;
    if let Some((value, sum)) = mask.constant() {
        plane.fill(value);
        return Ok(sum);
    }
    let tile_rows = tile_rows(plan);
    let mut sum = 0;
    for (tile, y) in plane.chunks_mut(tile_rows * plan.width).zip((0..).step_by(tile_rows)) {
        sum += mask.render(y, tile)?;
    }
    Ok(sum)
}

/// The weight of the primary's label, from the sum of the mask's weights.
///
/// # Source
/// MiAMix (Liang et al., 2023), Eq. 12, or Table 7's "orig".
fn label_weight(plan: &Plan, i: usize, sum: u64) -> f32 {
    match plan.label_weight {
        LabelWeight::Merged => mean_weight(sum, (plan.height * plan.width) as u64),
        LabelWeight::Drawn => plan.drawn_weight(i),
    }
}
