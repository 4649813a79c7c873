//! The gradient of a mixed batch: what each mixed pixel passes on goes back to the two pixels it was made from.

use super::convert::Pixel;
use super::{Executor, INLINE_ELEMENTS, Inline, MaskJob, Parts};
use crate::error::Result;
use crate::float_mode::DefaultFloatMode;
use crate::memory::resize;
use crate::plan::{Plan, View};
use crate::tensor::{Dtype, Raw};
use half::{bf16, f16};
use std::cell::RefCell;
use std::sync::OnceLock;

thread_local! {
    /// One row of sums.
    static SUMS: RefCell<Vec<f32>> = RefCell::default();
}

/// Gradients to compute, checked by [`crate::op`].
pub(crate) struct BackwardJob<'a> {
    pub plan: &'a Plan,
    pub dtype: Dtype,
    /// Of the mixed images.
    pub grad: Raw,
    /// Of the images that primaries were read from.
    pub primary: Raw,
    /// Of those that partners were read from; none where they are the same images, whose sum then goes to `primary`.
    pub partner: Option<Raw>,
}

/// Samples by their partner, each partner's in ascending order.
struct ByPartner {
    samples: Vec<usize>,
    /// Where the samples of each partner begin in `samples`, and at last their number.
    starts: Vec<usize>,
}

impl ByPartner {
    fn of(plan: &Plan) -> Result<Self> {
        let n = plan.shape().samples;
        let (mut samples, mut starts) = (Vec::new(), Vec::new());
        resize(&mut samples, n, 0)?;
        resize(&mut starts, n + 1, 0)?;
        for sample in plan.samples() {
            starts[sample.partner_index + 1] += 1;
        }
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut next = Vec::new();
        resize(&mut next, n, 0)?;
        next.copy_from_slice(&starts[..n]);
        for (i, sample) in plan.samples().enumerate() {
            let place = &mut next[sample.partner_index];
            samples[*place] = i;
            *place += 1;
        }
        Ok(ByPartner { samples, starts })
    }

    fn samples(&self, partner: usize) -> &[usize] {
        &self.samples[self.starts[partner]..self.starts[partner + 1]]
    }
}

impl BackwardJob<'_> {
    pub fn run(&self, executor: &dyn Executor) -> Result<()> {
        match self.dtype {
            Dtype::F32 => self.run_as::<f32>(executor),
            Dtype::F16 => self.run_as::<f16>(executor),
            Dtype::Bf16 => self.run_as::<bf16>(executor),
            Dtype::U8 => unreachable!("refused by crate::op"),
        }
    }

    fn run_as<T: Pixel>(&self, executor: &dyn Executor) -> Result<()> {
        let [n, channels, height, width] = self.grad.shape;
        let mut masks = Vec::new();
        resize(&mut masks, n * height * width, 0.0)?;
        MaskJob { plan: self.plan, masks: Some(Parts::of(&mut masks)), label_weight: None }.run(executor)?;
        let by_partner = ByPartner::of(self.plan)?;
        let executor = if self.grad.shape.iter().product::<usize>() < INLINE_ELEMENTS { &Inline } else { executor };
        let failure = OnceLock::new();
        executor.run(n, &|target| {
            let _mode = DefaultFloatMode::enter();
            let done = SUMS.with_borrow_mut(|sums| {
                resize(sums, width, 0.0)?;
                let sums = &mut sums[..width];
                for (channel, y) in (0..channels).flat_map(|channel| (0..height).map(move |y| (channel, y))) {
                    sums.fill(0.0);
                    self.add::<T>(Role::Primary, &masks, target, channel, y, sums);
                    if let Some(partner) = self.partner {
                        write::<T>(self.primary, target, channel, y, sums);
                        sums.fill(0.0);
                        self.add_partners::<T>(&by_partner, &masks, target, channel, y, sums);
                        write::<T>(partner, target, channel, y, sums);
                    } else {
                        self.add_partners::<T>(&by_partner, &masks, target, channel, y, sums);
                        write::<T>(self.primary, target, channel, y, sums);
                    }
                }
                Ok(())
            });
            if let Err(error) = done {
                // Which of several errors is told does not matter: they are all of one kind.
                let _ = failure.set(error);
            }
        })?;
        failure.into_inner().map_or(Ok(()), Err)
    }

    /// Adds what the samples whose partner is `target` pass on to its row `y`, in the order of their indices.
    fn add_partners<T: Pixel>(
        &self,
        by_partner: &ByPartner,
        masks: &[f32],
        target: usize,
        channel: usize,
        y: usize,
        sums: &mut [f32],
    ) {
        for &i in by_partner.samples(target) {
            self.add::<T>(Role::Partner, masks, i, channel, y, sums);
        }
    }

    /// Adds what sample `i` passes on to row `y` of the image that it was read from in this role:
    ///
    /// ```text
    /// sums[f(x + dx)] += share(x)·grad[i](x, y − dy),  share = mask or 1 − mask;  a share of 0 passes on nothing
    /// ```
    fn add<T: Pixel>(&self, role: Role, masks: &[f32], i: usize, channel: usize, y: usize, sums: &mut [f32]) {
        let [_, _, height, width] = self.grad.shape;
        let sample = self.plan.sample(i);
        let View { flip, dx, dy } = match role {
            Role::Primary => sample.primary_view,
            Role::Partner => sample.partner_view,
        };
        let y = y as isize - dy as isize;
        if !(0..height as isize).contains(&y) {
            return;
        }
        let y = y as usize;
        let mask = &masks[(i * height + y) * width..][..width];
        let (row, stride) = (self.grad.at::<T>(i, channel, y, 0), self.grad.strides[3]);
        let first = (-(dx as isize)).clamp(0, width as isize) as usize;
        let end = (width as isize - dx as isize).clamp(0, width as isize) as usize;
        // A shift beyond the width leaves none.
        for (x, mask) in (first..end).zip(&mask[first.min(end)..end]) {
            let share = match role {
                Role::Primary => *mask,
                Role::Partner => 1.0 - mask,
            };
            if share != 0.0 {
                let shifted = (x as isize + dx as isize) as usize;
                let source = if flip { width - 1 - shifted } else { shifted };
                // SAFETY: pixel (x, y) of the tensor.
                sums[source] += share * unsafe { row.wrapping_offset(x as isize * stride).read() }.to_f32();
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Role {
    Primary,
    Partner,
}

fn write<T: Pixel>(out: Raw, sample: usize, channel: usize, y: usize, sums: &[f32]) {
    let (row, stride) = (out.at::<T>(sample, channel, y, 0), out.strides[3]);
    for (x, &sum) in sums.iter().enumerate() {
        // SAFETY: pixel (x, y) of the tensor, of a sample that is this task's.
        unsafe { row.wrapping_offset(x as isize * stride).write(T::from_f32(sum)) };
    }
}
