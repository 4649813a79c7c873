//! The gradient of mixing.

use super::{MiaMix, check_like, check_plan_shape};
use crate::cpu::BackwardJob;
use crate::error::{Error, Result};
use crate::plan::{BatchShape, Plan};
use crate::tensor::{Dtype, Images, ImagesMut, check_apart, check_injective};

impl MiaMix {
    /// The gradient of [`MiaMix::apply`]: from that of the mixed images to those of the images.
    ///
    /// ```text
    /// grad_images[i]  = mask[i]·grad_mixed[i]
    /// grad_partner[t] = Σ_i (1 − mask[i])·grad_mixed[i],  over the i with partner_index[i] = t, ascending
    /// ```
    ///
    /// All `[N, C, H, W]` of f32, f16 or bf16; sums are in f32, rounded once. A share of 0 passes on nothing, an
    /// infinity neither. Views send a gradient back to where the pixel was read; what came from outside the image is
    /// lost. Without `grad_partner` the images served twice, and `grad_images` gets the sum of both.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Dtype`], [`Error::Overlap`] as [`MiaMix::apply`]; nothing is written then.
    ///
    /// # Source
    /// The derivative of MiAMix (Liang et al., 2023), Algorithm 1, line 13.
    pub fn backward(
        &self,
        plan: &Plan,
        grad_mixed: Images<'_>,
        grad_images: ImagesMut<'_>,
        grad_partner: Option<ImagesMut<'_>>,
    ) -> Result<()> {
        check_gradients(plan.shape(), &grad_mixed, &grad_images, grad_partner.as_ref())?;
        let dtype = grad_mixed.dtype();
        let partner = grad_partner.map(|images| images.raw);
        BackwardJob { plan, dtype, grad: grad_mixed.raw, primary: grad_images.raw, partner }.run(&self.threads)
    }
}

pub(crate) fn check_gradients(
    plan: BatchShape,
    grad_mixed: &Images<'_>,
    grad_images: &ImagesMut<'_>,
    grad_partner: Option<&ImagesMut<'_>>,
) -> Result<()> {
    check_plan_shape("grad_mixed", plan, grad_mixed.shape())?;
    let dtype = grad_mixed.dtype();
    if dtype == Dtype::U8 {
        return Err(Error::dtype("grad_mixed", "must be float32, float16 or bfloat16", dtype.name()));
    }
    let like = ("grad_mixed", grad_mixed.shape(), dtype);
    let partner = grad_partner.map(|images| ("grad_partner_images", images));
    for (name, images) in [("grad_images", grad_images)].into_iter().chain(partner) {
        check_like(like, name, images.shape(), images.dtype())?;
        check_injective(name, &images.raw)?;
        check_apart((name, images.raw.bytes()), (like.0, grad_mixed.raw.bytes()))?;
    }
    if let Some((name, images)) = partner {
        check_apart((name, images.raw.bytes()), ("grad_images", grad_images.raw.bytes()))?;
    }
    Ok(())
}
