//! A batch in memory, and everything that is timed on it.

use super::floor::{Aligned, Blend, Floor, NHWC_CHANNELS, Stores};
use super::workload::{BatchKind, Element, Layout};
use anyhow::{Result, bail};
use half::{bf16, f16};
use miamix::{Batch, Config, Labels, MiaMix, Output, Plan, Threads};
use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut3};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// What can be timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// Drawing a plan, and mixing images and labels.
    Operator,
    /// Drawing a plan.
    Draw,
    /// Mixing images and labels under a plan.
    Apply,
    /// Rendering the masks of a plan into memory, and weighing them.
    Masks,
    /// The same blend under masks that lie ready, with plain stores.
    FloorPlain,
    /// The same, with stores past the caches.
    FloorStreaming,
    /// A copy of the primaries.
    Memcpy,
}

/// A batch of some element type.
pub trait Stage {
    /// How long one call of the contender took. Each call that needs a plan gets one of its own.
    fn time(&mut self, contender: Contender) -> Result<Duration>;
}

/// Makes the batch, the operator and what they need.
///
/// # Errors
/// For an empty batch, and for what the operator refuses.
pub fn stage(kind: BatchKind, config: Config, n_threads: usize) -> Result<Box<dyn Stage>> {
    Ok(match kind.dtype {
        Element::F32 => Box::new(BatchStage::<f32>::new(kind, config, n_threads)?),
        Element::F16 => Box::new(BatchStage::<f16>::new(kind, config, n_threads)?),
        Element::Bf16 => Box::new(BatchStage::<bf16>::new(kind, config, n_threads)?),
        Element::U8 => Box::new(BatchStage::<u8>::new(kind, config, n_threads)?),
    })
}

struct BatchStage<T> {
    kind: BatchKind,
    op: MiaMix,
    threads: Threads,
    seed: u64,
    plan: Plan,
    primary: Aligned<T>,
    partner: Aligned<T>,
    out: Aligned<T>,
    masks: Aligned<f32>,
    /// The partners of the floor.
    partners: Vec<usize>,
    ids: Array1<i64>,
    labels: Array2<f32>,
    label_weight: Vec<f32>,
    partner_index: Vec<i64>,
}

impl<T: Blend> BatchStage<T> {
    fn new(kind: BatchKind, config: Config, n_threads: usize) -> Result<Self> {
        let n = kind.samples;
        if kind.len() == 0 {
            bail!("batch: must not be empty, got {:?}", kind.shape());
        }
        if kind.layout == Layout::Nhwc && kind.channels != NHWC_CHANNELS {
            bail!("batch: NHWC images must have {NHWC_CHANNELS} channels, got {}", kind.channels);
        }
        let op = MiaMix::new(config)?.with_threads(n_threads)?;
        let plan = op.draw(kind.plan_shape(), 0, 0)?;
        let mut stage = BatchStage {
            kind,
            threads: Threads::new(n_threads)?,
            seed: 0,
            primary: Aligned::new(kind.len()),
            partner: Aligned::new(kind.len()),
            out: Aligned::new(kind.len()),
            masks: Aligned::new(n * kind.plane_len()),
            partners: plan.samples().map(|sample| sample.partner_index).collect(),
            ids: Array1::from_iter((0..n).map(|i| (i % kind.num_classes.max(1)) as i64)),
            labels: Array2::zeros((n, kind.num_classes)),
            label_weight: vec![0.0; n],
            partner_index: vec![0; n],
            op,
            plan,
        };
        // Any pixels do, but not zeros, which the system maps to one page.
        for (i, (a, b)) in stage.primary.iter_mut().zip(stage.partner.iter_mut()).enumerate() {
            (*a, *b) = (T::pixel(i), T::pixel(i / 7 + 100));
        }
        stage.masks()?;
        Ok(stage)
    }

    fn draw(&mut self) -> Result<()> {
        self.seed += 1;
        Ok(self.op.draw_into(self.kind.plan_shape(), self.seed, 0, &mut self.plan)?)
    }

    fn apply(&mut self) -> Result<()> {
        let labels = match self.kind.num_classes {
            0 => Labels::NONE,
            n_classes => Labels::ids(ArrayView1::from(&self.ids), n_classes),
        };
        self.op.apply(
            &self.plan,
            Batch {
                images: self.kind.view(&self.primary).into(),
                partner_images: self.kind.view(&self.partner).into(),
                labels,
            },
            Output {
                images: self.kind.view_mut(&mut self.out).into(),
                labels: Some(self.labels.view_mut()),
                label_weight: Some(&mut self.label_weight),
                partner_index: Some(&mut self.partner_index),
            },
        )?;
        Ok(())
    }

    fn masks(&mut self) -> Result<()> {
        let BatchKind { samples, height, width, .. } = self.kind;
        let masks = ArrayViewMut3::from_shape((samples, height, width), &mut self.masks)?;
        Ok(self.op.masks(&self.plan, Some(masks), Some(&mut self.label_weight))?)
    }

    fn floor(&mut self) -> Floor<'_, T> {
        Floor {
            threads: &self.threads,
            primary: &self.primary,
            partner: &self.partner,
            partner_index: &self.partners,
            masks: &self.masks,
            out: &mut self.out,
            layout: self.kind.layout,
        }
    }
}

impl<T: Blend> Stage for BatchStage<T> {
    fn time(&mut self, contender: Contender) -> Result<Duration> {
        if matches!(contender, Contender::Apply | Contender::Masks) {
            self.draw()?;
        }
        let began = Instant::now();
        match contender {
            Contender::Operator => {
                self.draw()?;
                self.apply()?;
            }
            Contender::Draw => self.draw()?,
            Contender::Apply => self.apply()?,
            Contender::Masks => self.masks()?,
            Contender::FloorPlain => self.floor().blend(Stores::Plain)?,
            Contender::FloorStreaming => self.floor().blend(Stores::Streaming)?,
            Contender::Memcpy => self.floor().copy()?,
        }
        Ok(began.elapsed())
    }
}
