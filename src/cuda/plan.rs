//! A plan as the device reads it: one block of plain data, its size fixed by shape, `k_max` and the number of decays.

use super::layout::{
    CONSTANT, CUTMIX, FMIX, GAUSSIAN, GRIDMIX, Header, Layer, MAX_LAYERS, MERGE_SUM, PLAN_VERSION, Sample, View,
    WEIGHT_DRAWN,
};
use crate::config::{LabelWeight, Merge};
use crate::error::{Error, Result};
use crate::mask::{amplitude, circle, n_waves};
use crate::memory::resize;
use crate::plan::{self, BatchShape, Plan, Shape};

/// Where the parts of a device plan are, bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlanLayout {
    pub shape: BatchShape,
    /// Layers that each sample has room for.
    pub k_max: usize,
    /// Decay powers that there is room for.
    pub n_decays: usize,
    pub waves_y: usize,
    pub waves_x: usize,
    pub samples_at: usize,
    pub layers_at: usize,
    pub fmix_at: usize,
    pub readers_at: usize,
    pub circle_y_at: usize,
    pub circle_x_at: usize,
    pub amplitudes_at: usize,
    pub bytes: usize,
}

/// Alignment of each part.
const ALIGN: usize = 16;

impl PlanLayout {
    pub fn new(shape: BatchShape, k_max: usize, n_decays: usize) -> Self {
        let BatchShape { samples, height, width } = shape;
        let (waves_y, waves_x) = (n_waves(height), n_waves(width));
        let mut end = 0;
        let mut part = |bytes: usize| {
            let at = end;
            end = (end + bytes).next_multiple_of(ALIGN);
            at
        };
        part(size_of::<Header>());
        PlanLayout {
            shape,
            k_max,
            n_decays,
            waves_y,
            waves_x,
            samples_at: part(samples * size_of::<Sample>()),
            layers_at: part(samples * k_max * size_of::<Layer>()),
            fmix_at: part(samples * k_max * size_of::<u32>()),
            readers_at: part(samples * size_of::<u32>()),
            circle_y_at: part(height * size_of::<[f32; 2]>()),
            circle_x_at: part(width * size_of::<[f32; 2]>()),
            amplitudes_at: part(n_decays * waves_y * waves_x * size_of::<f32>()),
            bytes: end,
        }
    }

    /// The layout that a plan fits exactly.
    pub fn of(plan: &Plan) -> Self {
        let k_max = plan.samples().map(|sample| sample.layers.len()).max().unwrap_or(0);
        let mut decays = Vec::new();
        plan.layers.iter().for_each(|layer| {
            decay_index(&mut decays, layer);
        });
        PlanLayout::new(plan.shape(), k_max.max(1), decays.len())
    }
}

/// Which of the decay powers an fmix layer has; a new one is added.
fn decay_index(decays: &mut Vec<f32>, layer: &plan::Layer) -> usize {
    let Shape::FMix { decay_power, .. } = layer.shape else { return 0 };
    decays.iter().position(|&known| known == decay_power).unwrap_or_else(|| {
        decays.push(decay_power);
        decays.len() - 1
    })
}

/// The tables of fmix, kept from one plan to the next of the same size, and room for counting.
#[derive(Default)]
pub(crate) struct Tables {
    /// Where the readers of each sample begin, and at last their number.
    readers: Vec<u32>,
    size: (usize, usize),
    circle_y: Vec<[f32; 2]>,
    circle_x: Vec<[f32; 2]>,
    /// Decay powers in the order of `amplitudes`.
    decays: Vec<f32>,
    /// `[decays, waves_y, waves_x]`.
    amplitudes: Vec<f32>,
}

impl Tables {
    fn set_size(&mut self, height: usize, width: usize) -> Result<()> {
        if self.size != (height, width) {
            (self.circle_y, self.circle_x) = (circle(height)?, circle(width)?);
            self.decays.clear();
            self.amplitudes.clear();
            self.size = (height, width);
        }
        Ok(())
    }

    /// Counts the samples that have each one as their partner.
    fn set_readers(&mut self, plan: &Plan) -> Result<()> {
        self.readers.clear();
        resize(&mut self.readers, plan.shape().samples + 1, 0)?;
        for sample in plan.samples() {
            self.readers[sample.partner_index + 1] += 1;
        }
        let mut end = 0;
        for start in &mut self.readers {
            end += *start;
            *start = end;
        }
        Ok(())
    }

    /// Makes the amplitudes of every decay power of a plan.
    fn set_decays(&mut self, plan: &Plan, room: usize) -> Result<()> {
        if self.decays.len() <= room && self.add_decays(plan, room) {
            return Ok(());
        }
        // The room is taken by powers of earlier plans.
        self.decays.clear();
        self.amplitudes.clear();
        if self.add_decays(plan, room) {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "plan: its fmix layers have more than {room} different decay_power, and the device buffer room for no more"
        )))
    }

    /// Whether there was room for all.
    fn add_decays(&mut self, plan: &Plan, room: usize) -> bool {
        let (height, width) = self.size;
        plan.layers.iter().all(|layer| {
            let known = self.decays.len();
            if decay_index(&mut self.decays, layer) == room {
                self.decays.truncate(room);
                return !is_fmix(layer);
            }
            if self.decays.len() > known {
                let decay_power = self.decays[known];
                for ky in 0..n_waves(height) {
                    for kx in 0..n_waves(width) {
                        let wave = (ky, kx) != (0, 0);
                        let amplitude = if wave { amplitude(ky, kx, height, width, decay_power) } else { 0.0 };
                        self.amplitudes.push(amplitude);
                    }
                }
            }
            true
        })
    }
}

/// Writes a plan as the device reads it; the number of its fmix layers. `to`: `layout.bytes` bytes.
///
/// # Errors
/// [`Error::Shape`] where the plan is of another shape, [`Error::Unsupported`] where it has more layers or decay
/// powers than there is room for.
///
/// # Panics
/// If `to` is of another length or not aligned to 8 bytes: a bug here.
pub(crate) fn write(plan: &Plan, layout: &PlanLayout, tables: &mut Tables, to: &mut [u8]) -> Result<u32> {
    let BatchShape { samples, height, width } = plan.shape();
    if plan.shape() != layout.shape {
        let expected = [layout.shape.samples, layout.shape.height, layout.shape.width];
        return Err(Error::shape("plan", format!("{expected:?} (N, H, W)"), &[samples, height, width]));
    }
    tables.set_size(height, width)?;
    tables.set_decays(plan, layout.n_decays)?;
    assert!(to.len() == layout.bytes && to.as_ptr().cast::<u64>().is_aligned());
    let merge = if plan.merge == Merge::Sum { MERGE_SUM } else { 0 };
    let label_weight = if plan.label_weight == LabelWeight::Drawn { WEIGHT_DRAWN } else { 0 };
    let mut n_fmix = 0;
    tables.set_readers(plan)?;
    for (i, sample) in plan.samples().enumerate() {
        if sample.layers.len() > layout.k_max {
            return Err(Error::Unsupported(format!(
                "plan: sample {i} has {} layers, and the device buffer room for {}",
                sample.layers.len(),
                layout.k_max
            )));
        }
        let before = n_fmix;
        for (j, layer) in sample.layers.iter().enumerate() {
            let device = device_layer(layer, decay_index(&mut tables.decays, layer));
            put(to, layout.layers_at, i * layout.k_max + j, device);
            if is_fmix(layer) {
                put(to, layout.fmix_at, n_fmix as usize, (i * MAX_LAYERS as usize + j) as u32);
                n_fmix += 1;
            }
        }
        let device = Sample {
            partner_index: sample.partner_index as u32,
            n_layers: sample.layers.len() as u32,
            n_fmix: n_fmix - before,
            drawn_weight: match plan.label_weight {
                LabelWeight::Drawn => plan.drawn_weight(i),
                LabelWeight::Merged => 0.0,
            },
            primary: view(sample.primary_view),
            partner: view(sample.partner_view),
            readers: tables.readers[i],
            n_readers: tables.readers[i + 1] - tables.readers[i],
        };
        put(to, layout.samples_at, i, device);
    }
    for (i, sample) in plan.samples().enumerate() {
        let place = &mut tables.readers[sample.partner_index];
        put(to, layout.readers_at, *place as usize, i as u32);
        *place += 1;
    }
    put(to, 0, 0, Header { version: PLAN_VERSION, merge, label_weight, n_fmix });
    put_all(to, layout.circle_y_at, &tables.circle_y);
    put_all(to, layout.circle_x_at, &tables.circle_x);
    put_all(to, layout.amplitudes_at, &tables.amplitudes);
    Ok(n_fmix)
}

fn is_fmix(layer: &plan::Layer) -> bool {
    matches!(layer.shape, Shape::FMix { .. })
}

fn view(view: plan::View) -> View {
    View { flip: view.flip.into(), dx: view.dx, dy: view.dy }
}

fn device_layer(layer: &plan::Layer, amplitudes: usize) -> Layer {
    let augment = layer.shape.augment();
    let window = augment.smooth_px.unwrap_or(1);
    let mut device = Layer {
        window,
        value: 1.0 / (window * window) as f32,
        warped: augment.warp.is_some().into(),
        matrix: layer.derived.matrix,
        ..Layer::default()
    };
    match layer.shape {
        Shape::MixUp => (device.kind, device.value) = (CONSTANT, 1.0 - layer.given),
        // σ = 0: every pixel is far outside.
        Shape::AgMix { sigma_px: 0.0, .. } | Shape::GMix { sigma_px: 0.0, .. } => {
            (device.kind, device.value) = (CONSTANT, 1.0);
        }
        Shape::AgMix { cx, cy, .. } | Shape::GMix { cx, cy, .. } => {
            (device.kind, device.cx, device.cy) = (GAUSSIAN, cx, cy);
        }
        Shape::CutMix { x0, y0, x1, y1, .. } => {
            device.kind = CUTMIX;
            device.payload[..4].copy_from_slice(&[x0, y0, x1, y1].map(|edge| edge as u32));
        }
        Shape::GridMix { n, cells, .. } => {
            (device.kind, device.n) = (GRIDMIX, n);
            for (pair, word) in device.payload.chunks_exact_mut(2).zip(cells.words()) {
                pair.copy_from_slice(&crate::rng::halves(word));
            }
        }
        Shape::FMix { noise_key, .. } => {
            (device.kind, device.n, device.amplitudes) = (FMIX, layer.derived.given_px, amplitudes as u32);
            device.payload[..2].copy_from_slice(&crate::rng::halves(noise_key));
        }
    }
    device
}

fn put<T: Copy>(to: &mut [u8], at: usize, index: usize, value: T) {
    put_all(to, at + index * size_of::<T>(), &[value]);
}

fn put_all<T: Copy>(to: &mut [u8], at: usize, values: &[T]) {
    let place = &mut to[at..at + size_of_val(values)];
    // SAFETY: numbers without padding, copied as bytes into a place of their size.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast(), place.as_mut_ptr(), place.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, MiaMix};

    /// As kernels/masks.cuh divides, for every count there can be.
    #[test]
    fn a_count_is_divided_by_an_area_through_its_inverse() {
        for window in (3..=crate::config::MAX_SMOOTH_PX).step_by(2) {
            let area = (window * window) as f32;
            let inverse = 1.0 / area;
            for count in 0..=window * window {
                let near = count as f32 * inverse;
                let quotient = (-near).mul_add(area, count as f32).mul_add(inverse, near);
                assert_eq!(quotient, count as f32 / area, "{count} / {area}");
            }
        }
    }

    #[test]
    fn the_size_follows_from_shape_and_k_max_alone() {
        let op = MiaMix::new(Config { k_max: 3, ..Config::default() }).unwrap();
        let shape = BatchShape::new(5, 20, 30);
        let layout = PlanLayout::new(shape, 3, 1);
        let (mut tables, mut memory) = (Tables::default(), vec![0u64; layout.bytes.div_ceil(8)]);
        // SAFETY: the bytes of the numbers.
        let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), layout.bytes) };
        for seed in 0..50 {
            let plan = op.draw(shape, seed, 0).unwrap();
            let n_fmix = plan.layers.iter().filter(|layer| is_fmix(layer)).count();
            assert_eq!(write(&plan, &layout, &mut tables, bytes).unwrap() as usize, n_fmix);
        }
        let plan = op.draw(BatchShape::new(5, 20, 31), 0, 0).unwrap();
        let error = write(&plan, &layout, &mut tables, bytes).unwrap_err();
        assert_eq!(error.to_string(), "plan: expected shape [5, 20, 30] (N, H, W), got [5, 20, 31]");
        let plan = MiaMix::new(Config { k_min: 4, k_max: 4, ..Config::default() }).unwrap().draw(shape, 0, 0).unwrap();
        let error = write(&plan, &layout, &mut tables, bytes).unwrap_err();
        assert_eq!(error.to_string(), "plan: sample 0 has 4 layers, and the device buffer room for 3");
    }
}
