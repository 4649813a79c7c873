//! Stages 1 and 2, and the random parts of stage 3: every random decision of a batch, as plain data.

mod derive;
mod draw;
mod json;
mod real;
mod validate;

use crate::config::{Config, LabelWeight, LambdaReading, MAX_SIDE_PX, Merge, Method};
use crate::error::{Error, Result};
use crate::float_mode::DefaultFloatMode;

/// Batch size, height and width: what a plan is drawn for. Channels and element type do not matter to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// N, the number of samples, at most 268,435,455; 0 is an empty batch.
    pub samples: usize,
    /// H, pixels, 1 to 32768.
    pub height: usize,
    /// W, pixels, 1 to 32768.
    pub width: usize,
}

impl BatchShape {
    /// N, H, W.
    pub fn new(samples: usize, height: usize, width: usize) -> Self {
        BatchShape { samples, height, width }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let side = |name: &str, px: usize| {
            if (1..=MAX_SIDE_PX).contains(&px) { Ok(()) } else { Err(Error::invalid(name, "must be in 1..=32768", px)) }
        };
        side("height", self.height)?;
        side("width", self.width)?;
        // Partner indices and layer offsets are 32-bit on every device.
        if self.samples > i32::MAX as usize / crate::config::MAX_LAYERS {
            return Err(Error::invalid("batch size", "must be at most 268435455", self.samples));
        }
        Ok(())
    }
}

/// How a source image is read: out(x, y) = src(f(x + dx), y + dy), f mirrors when flipped, 0 outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Mirrored left to right.
    pub flip: bool,
    /// Shift to the left, pixels.
    pub dx: i32,
    /// Shift upwards, pixels.
    pub dy: i32,
}

impl View {
    /// The image as it is.
    pub const IDENTITY: View = View { flip: false, dx: 0, dy: 0 };
}

/// Rotation and shear of a mask on the unit square, about the image centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// Rotation, radians, x to the right and y down.
    pub angle_rad: f32,
    /// Horizontal shear, in [−1000, 1000].
    pub shear: f32,
}

/// What is done to a hard-edged mask after it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Rotation and shear.
    pub warp: Option<Warp>,
    /// Side of the box average, pixels, odd, 1 to 15.
    pub smooth_px: Option<u32>,
}

/// A set of cells of an n×n grid, n ≤ 16; cell (row, col) has index row·n + col.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Cells([u64; 4]);

impl Cells {
    /// Adds a cell; false if it was there already.
    ///
    /// # Panics
    /// If `cell` is 256 or more.
    pub fn insert(&mut self, cell: u32) -> bool {
        let bit = 1 << (cell % 64);
        let word = &mut self.0[(cell / 64) as usize];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Whether a cell below 256 is in the set.
    #[inline(always)]
    pub fn contains(&self, cell: u32) -> bool {
        self.0[(cell / 64) as usize] >> (cell % 64) & 1 == 1
    }

    /// Cell c is bit c mod 64 of word c / 64.
    pub(crate) fn words(&self) -> [u64; 4] {
        self.0
    }

    /// The cells, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..256).filter(|&cell| self.contains(cell))
    }
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// How one layer's mask is made, with everything that was drawn for it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Shape {
    /// M = 1 − given.
    MixUp,
    /// M = 0 in the box x0 ≤ x < x1, y0 ≤ y < y1, pixels; it may reach outside the image.
    CutMix { x0: i32, y0: i32, x1: i32, y1: i32, augment: Augment },
    /// M = 0 on the round(given·H·W) pixels of largest noise.
    FMix { noise_key: u64, decay_power: f32, augment: Augment },
    /// M = 0 in the given cells of an n×n grid.
    GridMix { n: u32, cells: Cells, augment: Augment },
    /// M = 1 − exp(−½ dᵀΣ⁻¹d / σ²), Σ = R(θ) [[1, q], [q, 1]] R(θ)ᵀ.
    AgMix { cx: f32, cy: f32, sigma_px: f32, q: f32, angle_rad: f32 },
    /// The same with Σ = I.
    GMix { cx: f32, cy: f32, sigma_px: f32 },
}

impl Shape {
    /// The method it belongs to.
    pub fn method(&self) -> Method {
        match self {
            Shape::MixUp => Method::MixUp,
            Shape::CutMix { .. } => Method::CutMix,
            Shape::FMix { .. } => Method::FMix,
            Shape::GridMix { .. } => Method::GridMix,
            Shape::AgMix { .. } => Method::AgMix,
            Shape::GMix { .. } => Method::GMix,
        }
    }

    /// Warp and smoothing; none for the soft masks.
    pub fn augment(&self) -> Augment {
        match *self {
            Shape::CutMix { augment, .. } | Shape::FMix { augment, .. } | Shape::GridMix { augment, .. } => augment,
            Shape::MixUp | Shape::AgMix { .. } | Shape::GMix { .. } => Augment::default(),
        }
    }
}

/// One layer of a sample's mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// The ratio drawn for the layer, in [0, 1]. Only the `drawn` label weight reads it.
    pub lambda: f32,
    /// The share g that the layer gives to the partner, in [0, 1]. Only mixup and fmix read it.
    pub given: f32,
    /// Method and geometry.
    pub shape: Shape,
    /// What follows from the above and the image size; computed once, read by every engine.
    pub(crate) derived: Derived,
}

/// Numbers that follow from a layer's drawn ones, computed in f64 on the host: engines do no trigonometry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Derived {
    /// Warped layers: the inverse warp about the centre, row by row.
    /// Gaussians: the scaled principal axes, row by row, so that M = 1 − 2^−|matrix·d|².
    pub matrix: [f32; 4],
    /// Pixels that fmix gives to the partner.
    pub given_px: u32,
}

/// One sample's partner, views, and where its layers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SampleHead {
    pub partner_index: u32,
    pub primary_view: View,
    pub partner_view: View,
    /// Its layers are `layers[layers_start..layers_end]`.
    pub layers_start: u32,
    pub layers_end: u32,
}

/// Everything random in a batch: drawn by [`crate::MiaMix::draw`] or read from JSON, then applied any number of times.
///
/// Equal plans give equal pixels on every device and in every language.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) merge: Merge,
    pub(crate) label_weight: LabelWeight,
    pub(crate) lambda_reading: LambdaReading,
    pub(crate) heads: Vec<SampleHead>,
    pub(crate) layers: Vec<Layer>,
}

/// One sample of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The sample of the batch mixed into this one.
    pub partner_index: usize,
    /// How the primary image is read.
    pub primary_view: View,
    /// How the partner image is read.
    pub partner_view: View,
    /// The layers; empty where the sample is not mixed.
    pub layers: &'a [Layer],
}

impl Plan {
    /// A plan without samples, to be drawn into.
    pub(crate) fn empty() -> Self {
        Plan {
            height: 1,
            width: 1,
            merge: Merge::default(),
            label_weight: LabelWeight::default(),
            lambda_reading: LambdaReading::default(),
            heads: Vec::new(),
            layers: Vec::new(),
        }
    }

    pub(crate) fn redraw(&mut self, config: &Config, shape: BatchShape, seed: u64, first_sample: u64) -> Result<()> {
        let _mode = DefaultFloatMode::enter();
        draw::draw(config, shape, seed, first_sample, self)
    }

    /// What it was drawn for.
    pub fn shape(&self) -> BatchShape {
        BatchShape::new(self.heads.len(), self.height, self.width)
    }

    /// How masks are merged.
    pub fn merge(&self) -> Merge {
        self.merge
    }

    /// Which weight the primary's label gets.
    pub fn label_weight(&self) -> LabelWeight {
        self.label_weight
    }

    /// What λ is the share of.
    pub fn lambda_reading(&self) -> LambdaReading {
        self.lambda_reading
    }

    /// Sample `index` of the batch.
    ///
    /// # Panics
    /// If `index` is not below the batch size.
    pub fn sample(&self, index: usize) -> Sample<'_> {
        let head = &self.heads[index];
        Sample {
            partner_index: head.partner_index as usize,
            primary_view: head.primary_view,
            partner_view: head.partner_view,
            layers: &self.layers[head.layers_start as usize..head.layers_end as usize],
        }
    }

    /// Every sample, in order.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample<'_>> {
        (0..self.heads.len()).map(|index| self.sample(index))
    }

    /// Reads a plan from JSON, drawn here or written by hand.
    ///
    /// # Errors
    /// [`Error::Json`] for text that is no plan, [`Error::Plan`] for one with a value outside its range;
    /// both name the sample and the layer.
    pub fn from_json(json: &str) -> Result<Self> {
        let _mode = DefaultFloatMode::enter(); // numbers are derived, too
        json::read(json)
    }

    /// The plan as JSON: numbers are the shortest decimals that read back to the same f32.
    pub fn to_json(&self) -> String {
        let _mode = DefaultFloatMode::enter();
        json::write(self)
    }

    /// The weight of sample `index`'s own label when it follows the drawn ratios
    /// (f64, in layer order, rounded once, clipped to [0, 1]).
    ///
    /// # Source
    /// MiAMix (Liang et al., 2023), Table 7, "orig".
    pub(crate) fn drawn_weight(&self, index: usize) -> f32 {
        let sample = self.sample(index);
        if sample.layers.is_empty() {
            return 1.0;
        }
        let sum = sample.layers.iter().fold(0.0, |sum, layer| sum + f64::from(layer.lambda));
        let weight = match self.merge {
            Merge::Sum => sum,
            Merge::Product => 1.0 - sum,
        };
        weight.clamp(0.0, 1.0) as f32
    }
}
