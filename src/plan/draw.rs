//! How a plan is drawn: `docs/draw.md`, line by line.

use super::real::{Real, Words};
use super::{Augment, BatchShape, Cells, Layer, Plan, SampleHead, Shape, View, Warp};
use crate::config::{Config, CutmixBox, GaussianSigma, LambdaReading, MAX_LAYERS, Merge, Method, Pairing};
use crate::error::Result;
use crate::memory::reserve;
use crate::rng::{Purpose, Slot};
use rand_distr::{Distribution, Gamma};

/// A drawn λ lies in [LEAST_LAMBDA, 1 − LEAST_LAMBDA].
const LEAST_LAMBDA: f32 = 1.0 / (1 << 24) as f32;
/// Largest |q| that is drawn: the Gaussian stays 22 times as long as wide at most.
const MOST_CORRELATION: f32 = 0.999;

/// Draws into `plan`, whose memory is used again.
pub(crate) fn draw(config: &Config, shape: BatchShape, seed: u64, first_sample: u64, plan: &mut Plan) -> Result<()> {
    shape.validate()?;
    reserve(&mut plan.heads, shape.samples)?;
    reserve(&mut plan.layers, shape.samples * config.k_max as usize)?;
    plan.height = shape.height;
    plan.width = shape.width;
    plan.merge = config.merge;
    plan.label_weight = config.label_weight;
    plan.lambda_reading = config.lambda_reading;
    plan.heads.clear();
    plan.layers.clear();
    pair(config, shape.samples, seed, first_sample, &mut plan.heads);
    for (i, head) in plan.heads.iter_mut().enumerate() {
        let sample = Drawer { config, shape, seed, sample: first_sample.wrapping_add(i as u64) };
        head.layers_start = plan.layers.len() as u32;
        head.primary_view = sample.view(0);
        head.partner_view = sample.view(1);
        if sample.slot(Purpose::Apply, 0).word(0).chance(config.p_apply) {
            if sample.slot(Purpose::SelfMix, 0).word(0).chance(config.p_self) {
                head.partner_index = i as u32;
            }
            sample.layers(&mut plan.layers);
        } else {
            head.partner_index = i as u32;
        }
        head.layers_end = plan.layers.len() as u32;
    }
    Ok(())
}

/// t(i) before the overrides.
fn pair(config: &Config, n_samples: usize, seed: u64, first_sample: u64, heads: &mut Vec<SampleHead>) {
    heads.extend((0..n_samples as u32).map(|i| SampleHead {
        partner_index: i,
        primary_view: View::IDENTITY,
        partner_view: View::IDENTITY,
        layers_start: 0,
        layers_end: 0,
    }));
    match config.pairing {
        Pairing::Permutation => {
            let slot = Slot::new(seed, first_sample, Purpose::Permutation, 0);
            for i in (1..n_samples).rev() {
                let j = slot.word(i as u32).below(i as u64 + 1) as usize;
                let other = heads[j].partner_index;
                heads[j].partner_index = std::mem::replace(&mut heads[i].partner_index, other);
            }
        }
        Pairing::Uniform => {
            for (i, head) in heads.iter_mut().enumerate() {
                let slot = Slot::new(seed, first_sample.wrapping_add(i as u64), Purpose::Partner, 0);
                head.partner_index = slot.word(0).below(n_samples as u64) as u32;
            }
        }
    }
}

/// Draws what one sample needs.
struct Drawer<'a> {
    config: &'a Config,
    shape: BatchShape,
    seed: u64,
    sample: u64,
}

impl Drawer<'_> {
    fn slot(&self, purpose: Purpose, layer: usize) -> Slot {
        Slot::new(self.seed, self.sample, purpose, layer as u32)
    }

    fn view(&self, role: usize) -> View {
        let Config { p_flip, pad_px, .. } = *self.config;
        if p_flip == 0.0 && pad_px == 0 {
            return View::IDENTITY;
        }
        let slot = self.slot(Purpose::View, role);
        let shift = |word: u32| slot.word(word).below(2 * u64::from(pad_px) + 1) as i32 - pad_px as i32;
        View { flip: slot.word(0).chance(p_flip), dx: shift(1), dy: shift(2) }
    }

    fn layers(&self, layers: &mut Vec<Layer>) {
        let Config { k_min, k_max, merge, lambda_reading, .. } = *self.config;
        let choices = u64::from(k_max - k_min + 1);
        let k = k_min as usize + self.slot(Purpose::LayerCount, 0).word(0).below(choices) as usize;
        let mut lambdas = [0.0; MAX_LAYERS];
        self.lambdas(&mut lambdas[..k]);
        for (j, &lambda) in lambdas[..k].iter().enumerate() {
            let keeps = merge == Merge::Sum || lambda_reading == LambdaReading::Keep;
            let given = if keeps { 1.0 - lambda } else { lambda };
            let shape = self.layer_shape(j, given);
            layers.push(Layer::new(lambda, given, shape, self.shape.height, self.shape.width));
        }
    }

    /// (λ_1 … λ_k, rest) ~ Dir(α, …, α, k·α).
    ///
    /// # Source
    /// MiAMix (Liang et al., 2023), Sec. 3.2.2.
    fn lambdas(&self, lambdas: &mut [f32]) {
        let k = lambdas.len();
        let alpha = f64::from(self.config.alpha);
        let mut gammas = [0.0; MAX_LAYERS + 1];
        let mut boosts = [0.0; MAX_LAYERS + 1];
        for j in 0..=k {
            let shape = if j < k { alpha } else { k as f64 * alpha };
            let mut words = Words { slot: self.slot(Purpose::Gamma, j), next: 0 };
            // rand_distr multiplies by open^(1/shape), which underflows for small shapes; its logarithm does not.
            let large = if shape < 1.0 {
                boosts[j] = libm::log(words.next_word().open()) / shape;
                shape + 1.0
            } else {
                shape
            };
            let gamma = Gamma::new(Real(large), Real(1.0)).expect("the shape is finite and positive");
            gammas[j] = gamma.sample(&mut words).0;
        }
        let most = boosts[..=k].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for (gamma, &boost) in gammas[..=k].iter_mut().zip(&boosts) {
            if boost != most {
                *gamma *= libm::exp(boost - most);
            }
            sum += *gamma;
        }
        for (lambda, gamma) in lambdas.iter_mut().zip(gammas) {
            *lambda = ((gamma / sum) as f32).clamp(LEAST_LAMBDA, 1.0 - LEAST_LAMBDA);
        }
    }

    fn method(&self, j: usize) -> Method {
        let weights = self.config.method_weights.to_array().map(f64::from);
        let total = weights.iter().fold(0.0, |sum, weight| sum + weight);
        let at = self.slot(Purpose::Method, j).word(0).unit() * total;
        let mut below = 0.0;
        let mut last = Method::MixUp;
        for (method, weight) in Method::ALL.into_iter().zip(weights) {
            below += weight;
            if weight > 0.0 {
                last = method;
                if at < below {
                    break;
                }
            }
        }
        last
    }

    fn layer_shape(&self, j: usize, given: f32) -> Shape {
        match self.method(j) {
            Method::MixUp => Shape::MixUp,
            Method::CutMix => self.cutmix(j, given),
            Method::FMix => Shape::FMix {
                noise_key: self.slot(Purpose::Noise, j).word(0).0,
                decay_power: self.config.decay_power,
                augment: self.augment(j),
            },
            Method::GridMix => self.gridmix(j, given),
            Method::AgMix => {
                let [q, angle] = self.slot(Purpose::Covariance, j).block(0);
                let (cx, cy, sigma_px) = self.gaussian(j, given);
                Shape::AgMix {
                    cx,
                    cy,
                    sigma_px,
                    q: q.symmetric(1.0).clamp(-MOST_CORRELATION, MOST_CORRELATION),
                    angle_rad: (angle.unit() * std::f64::consts::PI) as f32,
                }
            }
            Method::GMix => {
                let (cx, cy, sigma_px) = self.gaussian(j, given);
                Shape::GMix { cx, cy, sigma_px }
            }
        }
    }

    /// A box of the image's proportions and the area g·H·W.
    ///
    /// # Source
    /// CutMix (Yun et al., 2019); MiAMix (Liang et al., 2023), Sec. 3.2.2.
    fn cutmix(&self, j: usize, given: f32) -> Shape {
        let root = libm::sqrt(f64::from(given));
        let position = self.slot(Purpose::Position, j).block(0);
        let [(x0, x1), (y0, y1)] =
            [(self.shape.width, position[0]), (self.shape.height, position[1])].map(|(side, word)| {
                let half = libm::floor(side as f64 * root) as u64 / 2;
                let centre = match self.config.cutmix_box {
                    CutmixBox::Clipped => word.below(side as u64),
                    CutmixBox::Inside => half + word.below(side as u64 - 2 * half + 1),
                };
                (centre as i32 - half as i32, centre as i32 + half as i32)
            });
        Shape::CutMix { x0, y0, x1, y1, augment: self.augment(j) }
    }

    /// g·n² cells on average, without replacement.
    ///
    /// # Source
    /// GridMix (Baek et al., 2021); the sampling is Floyd's (Bentley and Floyd, 1987).
    fn gridmix(&self, j: usize, given: f32) -> Shape {
        let [lo, hi] = self.config.grid_range;
        let [size, rounding] = self.slot(Purpose::Grid, j).block(0);
        let n = lo + size.below(u64::from(hi - lo + 1)) as u32;
        let share = f64::from(given) * f64::from(n) * f64::from(n);
        let whole = libm::floor(share);
        let count = whole as u32 + u32::from(rounding.unit() < share - whole);
        let slot = self.slot(Purpose::Cells, j);
        let mut cells = Cells::default();
        for t in 0..count {
            let newest = n * n - count + t;
            let cell = slot.word(t).below(u64::from(newest) + 1) as u32;
            if !cells.insert(cell) {
                cells.insert(newest);
            }
        }
        Shape::GridMix { n, cells, augment: self.augment(j) }
    }

    /// Centre and σ.
    ///
    /// # Source
    /// MiAMix (Liang et al., 2023), Eq. 4 and 5.
    fn gaussian(&self, j: usize, given: f32) -> (f32, f32, f32) {
        let BatchShape { height, width, .. } = self.shape;
        let [x, y] = self.slot(Purpose::Position, j).block(0);
        let area = f64::from(given) * height as f64 * width as f64;
        let variance = match self.config.gaussian_sigma {
            GaussianSigma::Paper => area,
            GaussianSigma::Area => area / std::f64::consts::TAU,
        };
        (x.below(width as u64) as f32 + 0.5, y.below(height as u64) as f32 + 0.5, libm::sqrt(variance) as f32)
    }

    /// # Source
    /// MiAMix (Liang et al., 2023), Sec. 3.2.3.
    fn augment(&self, j: usize) -> Augment {
        let Config { p_aug, p_smooth, rotate_max_rad, shear_max, smooth_range_px: [lo, hi], .. } = *self.config;
        let warp = self.slot(Purpose::Warp, j);
        let [whether, angle] = warp.block(0);
        let [whether_smooth, window] = self.slot(Purpose::Smooth, j).block(0);
        let first_odd = lo | 1;
        let windows = u64::from((hi - first_odd) / 2 + 1);
        Augment {
            warp: whether
                .chance(p_aug)
                .then(|| Warp { angle_rad: angle.symmetric(rotate_max_rad), shear: warp.word(2).symmetric(shear_max) }),
            smooth_px: whether_smooth.chance(p_smooth).then(|| first_odd + 2 * window.below(windows) as u32),
        }
    }
}
