//! The operator: checks what it is given, and has the CPU engine do it. What the CUDA engine shares of it are the checks.

mod backward;

#[cfg(feature = "cuda")]
pub(crate) use backward::check_gradients;

use crate::config::Config;
use crate::cpu::{Executor, LabelRows, LabelSource, MapJob, MaskJob, MixJob, Parts, Threads};
use crate::error::{Error, Result};
use crate::memory::resize;
use crate::plan::{BatchShape, Plan};
use crate::tensor::{
    Dtype, Element, Images, ImagesMut, Maps, MapsMut, Raw, bytes_of, check_apart, check_injective, span_of,
};
use ndarray::{
    Array, Array1, Array2, Array4, ArrayView1, ArrayView2, ArrayView4, ArrayViewMut2, ArrayViewMut3, Dimension,
    IntoDimension,
};
use std::ops::Range;

/// An array of zeros, where there is room for it.
fn zeros<A: Clone + num_traits::Zero, D: Dimension>(shape: impl IntoDimension<Dim = D>) -> Result<Array<A, D>> {
    let shape = shape.into_dimension();
    let len =
        shape.size_checked().ok_or_else(|| Error::OutOfMemory(format!("an array of shape {:?}", shape.slice())))?;
    let mut values = Vec::new();
    resize(&mut values, len, A::zero())?;
    Array::from_shape_vec(shape, values)
        .map_err(|error| Error::OutOfMemory(format!("an array of {len} elements: {error}")))
}

/// The operator: a configuration that has been checked, and the threads it works on.
///
/// It keeps no random state: what it draws follows from the arguments of [`MiaMix::draw`] alone.
/// Threads: one operator may be used by any number of them at once.
#[derive(Clone, Debug)]
pub struct MiaMix {
    config: Config,
    threads: Threads,
}

/// Labels of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(Option<(LabelSource<'a>, Option<usize>)>);

impl<'a> Labels<'a> {
    /// No labels: pixels only. `partner_index` and `label_weight` let a caller pair labels itself.
    pub const NONE: Labels<'static> = Labels(None);

    /// Class ids `[N]`, below `n_classes`; a negative id is an ignored label and gives a row of zeros.
    pub fn ids(ids: ArrayView1<'a, i64>, n_classes: usize) -> Self {
        Labels(Some((LabelSource::Ids(ids.into()), Some(n_classes))))
    }

    /// Class ids of 32 bits.
    pub fn ids32(ids: ArrayView1<'a, i32>, n_classes: usize) -> Self {
        Labels(Some((LabelSource::Ids32(ids.into()), Some(n_classes))))
    }

    /// Rows `[N, K]` of numbers.
    pub fn soft(rows: ArrayView2<'a, f32>) -> Self {
        Labels(Some((LabelSource::Soft(rows.into()), None)))
    }

    /// N and K; K = 0 without labels.
    fn shape(&self, n_samples: usize) -> (usize, usize) {
        match &self.0 {
            None => (n_samples, 0),
            Some((LabelSource::Ids(ids), k)) => (ids.shape[0], k.unwrap_or(0)),
            Some((LabelSource::Ids32(ids), k)) => (ids.shape[0], k.unwrap_or(0)),
            Some((LabelSource::Soft(rows), _)) => (rows.shape[0], rows.shape[1]),
        }
    }

    /// The address range that the labels span.
    fn bytes(&self) -> Range<usize> {
        match &self.0 {
            None => 0..0,
            Some((LabelSource::Ids(ids), _)) => ids.bytes(),
            Some((LabelSource::Ids32(ids), _)) => ids.bytes(),
            Some((LabelSource::Soft(rows), _)) => rows.bytes(),
        }
    }
}

/// What goes in: images `[N, C, H, W]`, a second view of the same batch, and labels.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Where primaries are read.
    pub images: Images<'a>,
    /// Where partners are read: the same batch under another augmentation, or the same images again.
    pub partner_images: Images<'a>,
    /// The labels.
    pub labels: Labels<'a>,
}

/// Where results go: buffers of the caller, overlapping neither the inputs nor each other.
#[derive(Debug)]
pub struct Output<'a> {
    /// `[N, C, H, W]`, of the images' type.
    pub images: ImagesMut<'a>,
    /// `[N, K]`; not needed without labels.
    pub labels: Option<ArrayViewMut2<'a, f32>>,
    /// `[N]`: what the primary's own label weighs in the mixed one.
    pub label_weight: Option<&'a mut [f32]>,
    /// `[N]`: the sample that was mixed in.
    pub partner_index: Option<&'a mut [i64]>,
}

/// The results of [`MiaMix::mix`].
#[derive(Clone, Debug)]
pub struct Mixed<T> {
    /// `[N, C, H, W]`.
    pub images: Array4<T>,
    /// `[N, K]`.
    pub labels: Array2<f32>,
    /// `[N]`.
    pub label_weight: Array1<f32>,
    /// `[N]`.
    pub partner_index: Array1<i64>,
    /// What was drawn.
    pub plan: Plan,
}

impl MiaMix {
    /// An operator with one thread for each core.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for the first parameter outside its range.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        Ok(MiaMix { config, threads: Threads::new(0)? })
    }

    /// The same operator on `n` threads; 0: one for each core. The number changes no result.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above 256.
    pub fn with_threads(mut self, n: usize) -> Result<Self> {
        self.threads = Threads::new(n)?;
        Ok(self)
    }

    /// The parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Draws every random decision for one batch.
    ///
    /// `first_sample` is the global index of the batch's first sample: a running counter lets one seed serve a
    /// whole training run, and data-parallel ranks differ by it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a shape outside the limits of [`BatchShape`], [`Error::OutOfMemory`].
    pub fn draw(&self, shape: BatchShape, seed: u64, first_sample: u64) -> Result<Plan> {
        let mut plan = Plan::empty();
        self.draw_into(shape, seed, first_sample, &mut plan)?;
        Ok(plan)
    }

    /// Draws into a plan, whose memory is used again.
    ///
    /// # Errors
    /// As [`MiaMix::draw`]; the plan is then as it was.
    pub fn draw_into(&self, shape: BatchShape, seed: u64, first_sample: u64, plan: &mut Plan) -> Result<()> {
        plan.redraw(&self.config, shape, seed, first_sample)
    }

    /// Mixes a batch under a plan.
    ///
    /// # Errors
    /// [`Error::Shape`] where shapes disagree with the plan or each other, [`Error::Dtype`] where element types
    /// differ, [`Error::InvalidArgument`] for a label that is no class, [`Error::Overlap`] where an output
    /// shares memory with an input or another output. Nothing is written then.
    pub fn apply(&self, plan: &Plan, batch: Batch<'_>, output: Output<'_>) -> Result<()> {
        self.apply_on(&self.threads, plan, batch, output)
    }

    /// [`MiaMix::apply`] on another executor, a host's own threads for instance.
    ///
    /// # Errors
    /// As [`MiaMix::apply`], and what the executor reports.
    pub fn apply_on(&self, executor: &dyn Executor, plan: &Plan, batch: Batch<'_>, output: Output<'_>) -> Result<()> {
        let n_samples = plan.shape().samples;
        let Output { images: out, labels: mut label_out, label_weight, partner_index } = output;
        let ImagesMut { raw: out_raw, .. } = out;
        check_images(plan.shape(), &batch.images, &batch.partner_images, &out)?;
        let (_, n_classes) = check_labels(&batch.labels, n_samples, label_out.as_ref())?;
        check_len("label_weight", n_samples, label_weight.as_deref().map(<[f32]>::len))?;
        check_len("partner_index", n_samples, partner_index.as_deref().map(<[i64]>::len))?;

        let outputs = [
            ("mixed_images", out_raw.bytes()),
            ("mixed_labels", label_out.as_ref().map_or(0..0, bytes_of_view)),
            ("label_weight", label_weight.as_deref().map_or(0..0, bytes_of)),
            ("partner_index", partner_index.as_deref().map_or(0..0, bytes_of)),
        ];
        let inputs = [
            ("images", batch.images.raw.bytes()),
            ("partner_images", batch.partner_images.raw.bytes()),
            ("labels", batch.labels.bytes()),
        ];
        for (i, output) in outputs.iter().enumerate() {
            for other in inputs.iter().chain(&outputs[..i]) {
                check_apart(output.clone(), other.clone())?;
            }
        }

        let labels =
            batch.labels.0.zip(label_out.as_mut()).filter(|_| n_classes > 0).map(|((source, _), out)| LabelRows {
                source,
                hot: self.config.one_hot(n_classes),
                n_classes,
                out: Parts::at(out.as_mut_ptr()),
                strides: [out.strides()[0], out.strides()[1]],
            });
        let job = MixJob {
            plan,
            dtype: batch.images.dtype(),
            primary: batch.images.raw,
            partner: batch.partner_images.raw,
            out: out_raw,
            labels,
            label_weight: label_weight.map(Parts::of),
        };
        job.run(executor)?;
        for (index, sample) in partner_index.into_iter().flatten().zip(plan.samples()) {
            *index = sample.partner_index as i64;
        }
        Ok(())
    }

    /// Mixes label maps (segmentation) under a plan: the primary's label where mask ≥ ½, else the partner's.
    ///
    /// `primary`, `partner`, `out`: `[N, H, W]` integers of one size; views apply to them as to images.
    ///
    /// # Errors
    /// As [`MiaMix::apply`].
    pub fn apply_maps<'a>(
        &self,
        plan: &Plan,
        primary: impl Into<Maps<'a>>,
        partner: impl Into<Maps<'a>>,
        out: impl Into<MapsMut<'a>>,
    ) -> Result<()> {
        let (primary, partner, out) = (primary.into().raw, partner.into().raw, out.into().raw);
        check_maps(plan.shape(), &primary, &partner, &out)?;
        MapJob { plan, primary, partner, out }.run(&self.threads)
    }

    /// Renders the masks of a plan, and what its labels weigh: `masks`: `[N, H, W]`, 1 keeps the primary pixel,
    /// each sample's plane compact; `label_weight`: `[N]`. Either may be left out.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Dtype`] for a plane that is not compact.
    pub fn masks(
        &self,
        plan: &Plan,
        masks: Option<ArrayViewMut3<'_, f32>>,
        label_weight: Option<&mut [f32]>,
    ) -> Result<()> {
        self.masks_on(&self.threads, plan, masks, label_weight)
    }

    /// [`MiaMix::masks`] on another executor.
    ///
    /// # Errors
    /// As [`MiaMix::masks`], and what the executor reports.
    pub fn masks_on(
        &self,
        executor: &dyn Executor,
        plan: &Plan,
        mut masks: Option<ArrayViewMut3<'_, f32>>,
        label_weight: Option<&mut [f32]>,
    ) -> Result<()> {
        let BatchShape { samples, height, width } = plan.shape();
        check_len("label_weight", samples, label_weight.as_deref().map(<[f32]>::len))?;
        let masks = match &mut masks {
            None => None,
            Some(masks) => {
                if masks.dim() != (samples, height, width) {
                    return Err(Error::shape("masks", format!("{:?}", [samples, height, width]), masks.shape()));
                }
                if !masks.is_standard_layout() {
                    let strides = format!("strides {:?}", masks.strides());
                    return Err(Error::dtype("masks", "must be compact, in the order [N, H, W]", strides));
                }
                let compact = masks.as_slice_mut().expect("compact, as checked just above");
                if let Some(label_weight) = &label_weight {
                    check_apart(("label_weight", bytes_of(label_weight)), ("masks", bytes_of(compact)))?;
                }
                Some(Parts::of(compact))
            }
        };
        MaskJob { plan, masks, label_weight: label_weight.map(Parts::of) }.run(executor)
    }

    /// Draws a plan and mixes a batch into new arrays.
    ///
    /// `images`, `partner_images`: `[N, C, H, W]`; the same view twice where there is only one.
    ///
    /// # Errors
    /// As [`MiaMix::draw`] and [`MiaMix::apply`].
    pub fn mix<T: Element + num_traits::Zero>(
        &self,
        images: ArrayView4<'_, T>,
        partner_images: ArrayView4<'_, T>,
        labels: Labels<'_>,
        seed: u64,
        first_sample: u64,
    ) -> Result<Mixed<T>> {
        let (n, _, height, width) = images.dim();
        let plan = self.draw(BatchShape::new(n, height, width), seed, first_sample)?;
        let mut mixed = Mixed {
            images: zeros(images.dim())?,
            labels: zeros(labels.shape(n))?,
            label_weight: zeros(n)?,
            partner_index: zeros(n)?,
            plan,
        };
        let batch = Batch { images: images.into(), partner_images: partner_images.into(), labels };
        let output = Output {
            images: mixed.images.view_mut().into(),
            labels: labels.0.is_some().then(|| mixed.labels.view_mut()),
            label_weight: mixed.label_weight.as_slice_mut(),
            partner_index: mixed.partner_index.as_slice_mut(),
        };
        self.apply(&mixed.plan, batch, output)?;
        Ok(mixed)
    }

    /// [`MiaMix::pass_through_on`] the operator's own threads.
    ///
    /// # Errors
    /// As [`MiaMix::apply`].
    pub fn pass_through(&self, batch: Batch<'_>, output: Output<'_>) -> Result<()> {
        self.pass_through_on(&self.threads, batch, output)
    }

    /// What evaluation wants, as dropout does: images as they are, labels one-hot without smoothing, weight 1,
    /// every sample its own partner.
    ///
    /// # Errors
    /// As [`MiaMix::apply`].
    pub fn pass_through_on(&self, executor: &dyn Executor, batch: Batch<'_>, output: Output<'_>) -> Result<()> {
        let (op, plan) = self.still(&batch.images)?;
        op.apply_on(executor, &plan, batch, output)
    }

    /// An operator that mixes nothing and smooths no label, and its plan for a batch.
    pub(crate) fn still(&self, images: &Images<'_>) -> Result<(MiaMix, Plan)> {
        let [n, _, height, width] = images.shape();
        let config = Config { p_apply: 0.0, ..Config::default() };
        let op = MiaMix { config, threads: self.threads };
        let plan = op.draw(BatchShape::new(n, height, width), 0, 0)?;
        Ok((op, plan))
    }
}

pub(crate) fn check_images(
    plan: BatchShape,
    images: &Images<'_>,
    partner: &Images<'_>,
    out: &ImagesMut<'_>,
) -> Result<()> {
    check_plan_shape("images", plan, images.shape())?;
    let images = ("images", images.shape(), images.dtype());
    check_like(images, "partner_images", partner.shape(), partner.dtype())?;
    check_like(images, "mixed_images", out.shape(), out.dtype())?;
    check_injective("mixed_images", &out.raw)
}

/// Checks that images have the plan's samples, height and width.
fn check_plan_shape(name: &str, plan: BatchShape, shape: [usize; 4]) -> Result<()> {
    let BatchShape { samples, height, width } = plan;
    let [n, _, h, w] = shape;
    if [n, h, w] != [samples, height, width] {
        return Err(Error::shape(name, format!("[{samples}, C, {height}, {width}], as the plan"), &shape));
    }
    Ok(())
}

/// Checks that images have the shape and type of others.
fn check_like(others: (&str, [usize; 4], Dtype), name: &str, shape: [usize; 4], dtype: Dtype) -> Result<()> {
    let (other_name, other_shape, other_dtype) = others;
    if shape != other_shape {
        return Err(Error::shape(name, format!("{other_shape:?}"), &shape));
    }
    if dtype != other_dtype {
        let verb = if other_name.ends_with('s') { "are" } else { "is" };
        let rule = format!("must be {} as {other_name} {verb}", other_dtype.name());
        return Err(Error::dtype(name, rule, dtype.name()));
    }
    Ok(())
}

pub(crate) fn check_maps(plan: BatchShape, primary: &Raw, partner: &Raw, out: &Raw) -> Result<()> {
    let BatchShape { samples, height, width } = plan;
    for (name, raw) in [("maps", primary), ("partner_maps", partner), ("mixed_maps", out)] {
        let [n, _, h, w] = raw.shape;
        if [n, h, w] != [samples, height, width] {
            return Err(Error::shape(name, format!("{:?}", [samples, height, width]), &[n, h, w]));
        }
        if raw.size != primary.size {
            let bits = |size: usize| format!("{} bits", 8 * size);
            return Err(Error::dtype(name, format!("must have {} as maps do", bits(primary.size)), bits(raw.size)));
        }
    }
    check_injective("mixed_maps", out)?;
    check_apart(("mixed_maps", out.bytes()), ("maps", primary.bytes()))?;
    check_apart(("mixed_maps", out.bytes()), ("partner_maps", partner.bytes()))?;
    Ok(())
}

fn check_labels(labels: &Labels<'_>, n_samples: usize, out: Option<&ArrayViewMut2<'_, f32>>) -> Result<(usize, usize)> {
    let (n, k) = labels.shape(n_samples);
    match (&labels.0, out) {
        (Some((LabelSource::Soft(rows), _)), _) if n != n_samples => {
            return Err(Error::shape("labels", format!("[{n_samples}, K]"), &rows.shape));
        }
        (Some(_), _) if n != n_samples => return Err(Error::shape("labels", format!("[{n_samples}]"), &[n])),
        (Some(_), None) if k > 0 => {
            return Err(Error::invalid("mixed_labels", "must be given where labels are", "none"));
        }
        (None, Some(out)) if !out.is_empty() => {
            return Err(Error::invalid(
                "mixed_labels",
                "must be left out without labels",
                format!("{:?}", out.shape()),
            ));
        }
        (_, Some(out)) if out.dim() != (n_samples, k) => {
            return Err(Error::shape("mixed_labels", format!("{:?}", [n_samples, k]), out.shape()));
        }
        _ => {}
    }
    let check_id = |i: usize, id: i64| {
        if id < 0 || (id as u64) < k as u64 {
            Ok(())
        } else {
            Err(Error::invalid(format!("labels[{i}]"), format!("must be below num_classes = {k}"), id))
        }
    };
    // Without classes there is nothing that ids could be out of.
    match &labels.0 {
        Some((LabelSource::Ids(ids), _)) if k > 0 => {
            (0..n).try_for_each(|i| check_id(i, ids.at(i, 0)))?;
        }
        Some((LabelSource::Ids32(ids), _)) if k > 0 => {
            (0..n).try_for_each(|i| check_id(i, ids.at(i, 0).into()))?;
        }
        _ => {}
    }
    Ok((n, k))
}

fn check_len(name: &str, expected: usize, got: Option<usize>) -> Result<()> {
    match got {
        Some(got) if got != expected => Err(Error::shape(name, format!("[{expected}]"), &[got])),
        _ => Ok(()),
    }
}

/// The bytes that an array view touches.
fn bytes_of_view<T, S: ndarray::Data<Elem = T>, D: ndarray::Dimension>(
    view: &ndarray::ArrayBase<S, D>,
) -> Range<usize> {
    span_of(view.as_ptr().cast(), size_of::<T>(), view.shape(), view.strides())
}
