//! The rules a plan keeps, wherever it comes from.

use super::{BatchShape, Plan, Shape, View};
use crate::config::{MAX_GRID, MAX_LAYERS, MAX_SHEAR, MAX_SIDE_PX, MAX_SMOOTH_PX, check_drawn};
use crate::error::{Error, Result};
use std::fmt::Display;

/// Farthest a Gaussian's centre may lie from the image's corner, pixels.
const MAX_CENTRE_PX: f32 = 1_048_576.0;

impl Plan {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Plan`] for the first one outside its range; it names the sample and the layer.
    pub(crate) fn validate(&self) -> Result<()> {
        check_batch_shape(self.shape())?;
        check_drawn(self.merge, self.label_weight, self.lambda_reading).map_err(of_the_plan)?;
        let n_samples = self.heads.len();
        for (i, sample) in self.samples().enumerate() {
            let at = |field: &str| format!("samples[{i}].{field}");
            check(
                sample.partner_index < n_samples,
                || at("partner_index"),
                format!("must be below the batch size {n_samples}"),
                sample.partner_index,
            )?;
            check_view(sample.primary_view, || at("primary_view"))?;
            check_view(sample.partner_view, || at("partner_view"))?;
            check(sample.layers.len() <= MAX_LAYERS, || at("layers"), "must be at most 8 layers", sample.layers.len())?;
            for (j, layer) in sample.layers.iter().enumerate() {
                let at = |field: &str| format!("samples[{i}].layers[{j}].{field}");
                check((0.0..=1.0).contains(&layer.lambda), || at("lambda"), "must be in [0, 1]", layer.lambda)?;
                check((0.0..=1.0).contains(&layer.given), || at("given"), "must be in [0, 1]", layer.given)?;
                check_shape(&layer.shape, at)?;
            }
        }
        Ok(())
    }
}

fn check_view(view: View, at: impl Fn() -> String) -> Result<()> {
    for (name, shift) in [("dx", view.dx), ("dy", view.dy)] {
        check(
            shift.unsigned_abs() as usize <= MAX_SIDE_PX,
            || format!("{}.{name}", at()),
            "must be in [-32768, 32768]",
            shift,
        )?;
    }
    Ok(())
}

fn check_shape(shape: &Shape, at: impl Fn(&str) -> String) -> Result<()> {
    let real = |name: &str, value: f32| check(value.is_finite(), || at(name), "must be finite", value);
    let gaussian = |cx: f32, cy: f32, sigma_px: f32| {
        for (name, centre) in [("cx", cx), ("cy", cy)] {
            check(centre.abs() <= MAX_CENTRE_PX, || at(name), "must be in [-1048576, 1048576]", centre)?;
        }
        check(sigma_px >= 0.0 && sigma_px.is_finite(), || at("sigma_px"), "must be finite and at least 0", sigma_px)
    };
    match *shape {
        Shape::MixUp => {}
        Shape::CutMix { x0, y0, x1, y1, .. } => {
            for (name, edge) in [("x0", x0), ("y0", y0), ("x1", x1), ("y1", y1)] {
                // Edges are compared in f32, where integers up to 2²⁴ are exact.
                check(edge.unsigned_abs() <= 1 << 24, || at(name), "must be in [-16777216, 16777216]", edge)?;
            }
        }
        Shape::FMix { decay_power, .. } => check(
            decay_power.is_finite() && decay_power >= 2.0,
            || at("decay_power"),
            "must be finite and at least 2",
            decay_power,
        )?,
        Shape::GridMix { n, ref cells, .. } => {
            check((1..=MAX_GRID).contains(&n), || at("n"), "must be in 1..=16", n)?;
            if let Some(cell) = cells.iter().find(|&cell| cell >= n * n) {
                return Err(Error::plan(at("cells"), format!("must be below n·n = {}", n * n), cell));
            }
        }
        Shape::AgMix { cx, cy, sigma_px, q, angle_rad } => {
            gaussian(cx, cy, sigma_px)?;
            check(q.abs() < 1.0, || at("q"), "must be in (-1, 1)", q)?;
            real("angle_rad", angle_rad)?;
        }
        Shape::GMix { cx, cy, sigma_px } => gaussian(cx, cy, sigma_px)?,
    }
    let augment = shape.augment();
    if let Some(warp) = augment.warp {
        real("warp.angle_rad", warp.angle_rad)?;
        check(warp.shear.abs() <= MAX_SHEAR, || at("warp.shear"), "must be in [-1000, 1000]", warp.shear)?;
    }
    if let Some(window) = augment.smooth_px {
        check(
            window % 2 == 1 && window <= MAX_SMOOTH_PX,
            || at("smooth_px"),
            "must be an odd number in 1..=15",
            window,
        )?;
    }
    Ok(())
}

fn check(ok: bool, at: impl FnOnce() -> String, rule: impl Into<String>, got: impl Display) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::plan(at(), rule, got)) }
}

/// The batch size, height and width of a plan.
pub(super) fn check_batch_shape(shape: BatchShape) -> Result<()> {
    shape.validate().map_err(of_the_plan)
}

/// An error of a parameter, as one of the plan that carries it.
fn of_the_plan(error: Error) -> Error {
    match error {
        Error::InvalidArgument { name, rule, got } => Error::Plan { at: name, rule, got },
        other => other,
    }
}
