//! Plans as JSON: plain structs of the text's form, and the way from and to them.

use super::{Augment, Cells, Layer, Plan, SampleHead, Shape, View, Warp};
use crate::config::{LabelWeight, LambdaReading, MAX_GRID, Merge};
use crate::error::{Error, Result};
use crate::json::parse;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanText {
    version: u32,
    height: usize,
    width: usize,
    merge: Merge,
    label_weight: LabelWeight,
    lambda_reading: LambdaReading,
    samples: Vec<SampleText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleText {
    partner_index: u32,
    primary_view: ViewText,
    partner_view: ViewText,
    layers: Vec<LayerText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewText {
    flip: bool,
    dx: i32,
    dy: i32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WarpText {
    angle_rad: f32,
    shear: f32,
}

/// A field that must be there, though it may be null.
fn nullable<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(d)
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
enum LayerText {
    MixUp {
        lambda: f32,
        given: f32,
    },
    CutMix {
        lambda: f32,
        given: f32,
        x0: i32,
        y0: i32,
        x1: i32,
        y1: i32,
        #[serde(deserialize_with = "nullable")]
        warp: Option<WarpText>,
        #[serde(deserialize_with = "nullable")]
        smooth_px: Option<u32>,
    },
    FMix {
        lambda: f32,
        given: f32,
        noise_key: NoiseKey,
        decay_power: f32,
        #[serde(deserialize_with = "nullable")]
        warp: Option<WarpText>,
        #[serde(deserialize_with = "nullable")]
        smooth_px: Option<u32>,
    },
    GridMix {
        lambda: f32,
        given: f32,
        n: u32,
        cells: Vec<u32>,
        #[serde(deserialize_with = "nullable")]
        warp: Option<WarpText>,
        #[serde(deserialize_with = "nullable")]
        smooth_px: Option<u32>,
    },
    AgMix {
        lambda: f32,
        given: f32,
        cx: f32,
        cy: f32,
        sigma_px: f32,
        q: f32,
        angle_rad: f32,
    },
    GMix {
        lambda: f32,
        given: f32,
        cx: f32,
        cy: f32,
        sigma_px: f32,
    },
}

/// `0x` and 16 lower-case digits: JSON numbers do not carry 64 bits.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct NoiseKey(u64);

impl TryFrom<String> for NoiseKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.strip_prefix("0x")
            .filter(|digits| digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(NoiseKey)
            .ok_or_else(|| format!("noise_key must be 0x and 16 lower-case hexadecimal digits, got {text:?}"))
    }
}

impl From<NoiseKey> for String {
    fn from(key: NoiseKey) -> String {
        format!("{:#018x}", key.0)
    }
}

/// The number of a plan that may hold anything else.
#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

fn of_another_version(version: u32) -> Error {
    Error::plan("version", format!("must be {VERSION}"), version)
}

pub(super) fn read(json: &str) -> Result<Plan> {
    let text: PlanText = parse("plan", json).map_err(|error| match parse("plan", json) {
        // What else another version has is no fault.
        Ok(AnyVersion { version }) if version != VERSION => of_another_version(version),
        _ => error,
    })?;
    if text.version != VERSION {
        return Err(of_another_version(text.version));
    }
    // Before anything is derived from the size.
    super::validate::check_batch_shape(super::BatchShape::new(text.samples.len(), text.height, text.width))?;
    let mut plan = Plan {
        height: text.height,
        width: text.width,
        merge: text.merge,
        label_weight: text.label_weight,
        lambda_reading: text.lambda_reading,
        heads: Vec::with_capacity(text.samples.len()),
        layers: Vec::new(),
    };
    for (i, sample) in text.samples.into_iter().enumerate() {
        let layers_start = plan.layers.len() as u32;
        for (j, layer) in sample.layers.into_iter().enumerate() {
            let (lambda, given, shape) = layer
                .into_shape()
                .map_err(|(field, rule, got)| Error::plan(format!("samples[{i}].layers[{j}].{field}"), rule, got))?;
            plan.layers.push(Layer::new(lambda, given, shape, plan.height, plan.width));
        }
        plan.heads.push(SampleHead {
            partner_index: sample.partner_index,
            primary_view: sample.primary_view.into(),
            partner_view: sample.partner_view.into(),
            layers_start,
            layers_end: plan.layers.len() as u32,
        });
    }
    plan.validate()?;
    Ok(plan)
}

pub(super) fn write(plan: &Plan) -> String {
    let text = PlanText {
        version: VERSION,
        height: plan.height,
        width: plan.width,
        merge: plan.merge,
        label_weight: plan.label_weight,
        lambda_reading: plan.lambda_reading,
        samples: plan
            .samples()
            .map(|sample| SampleText {
                partner_index: sample.partner_index as u32,
                primary_view: sample.primary_view.into(),
                partner_view: sample.partner_view.into(),
                layers: sample.layers.iter().map(LayerText::from).collect(),
            })
            .collect(),
    };
    serde_json::to_string(&text).expect("a plan's numbers are finite")
}

impl From<ViewText> for View {
    fn from(ViewText { flip, dx, dy }: ViewText) -> Self {
        View { flip, dx, dy }
    }
}

impl From<View> for ViewText {
    fn from(View { flip, dx, dy }: View) -> Self {
        ViewText { flip, dx, dy }
    }
}

fn augment(warp: Option<WarpText>, smooth_px: Option<u32>) -> Augment {
    Augment { warp: warp.map(|WarpText { angle_rad, shear }| Warp { angle_rad, shear }), smooth_px }
}

fn augment_text(augment: Augment) -> (Option<WarpText>, Option<u32>) {
    (augment.warp.map(|Warp { angle_rad, shear }| WarpText { angle_rad, shear }), augment.smooth_px)
}

impl LayerText {
    /// λ, g and the shape; or the field at fault, its rule and what it was.
    fn into_shape(self) -> Result<(f32, f32, Shape), (&'static str, String, String)> {
        Ok(match self {
            LayerText::MixUp { lambda, given } => (lambda, given, Shape::MixUp),
            LayerText::CutMix { lambda, given, x0, y0, x1, y1, warp, smooth_px } => {
                (lambda, given, Shape::CutMix { x0, y0, x1, y1, augment: augment(warp, smooth_px) })
            }
            LayerText::FMix { lambda, given, noise_key, decay_power, warp, smooth_px } => {
                let augment = augment(warp, smooth_px);
                (lambda, given, Shape::FMix { noise_key: noise_key.0, decay_power, augment })
            }
            LayerText::GridMix { lambda, given, n, cells, warp, smooth_px } => {
                if !(1..=MAX_GRID).contains(&n) {
                    return Err(("n", format!("must be in 1..={MAX_GRID}"), n.to_string()));
                }
                let limit = n * n;
                if let Some(cell) = cells.iter().find(|&&cell| cell >= limit) {
                    return Err(("cells", format!("must be below n·n = {limit}"), cell.to_string()));
                }
                if !cells.is_sorted_by(|a, b| a < b) {
                    return Err(("cells", "must ascend, each cell once".into(), format!("{cells:?}")));
                }
                let mut set = Cells::default();
                for cell in cells {
                    set.insert(cell);
                }
                (lambda, given, Shape::GridMix { n, cells: set, augment: augment(warp, smooth_px) })
            }
            LayerText::AgMix { lambda, given, cx, cy, sigma_px, q, angle_rad } => {
                (lambda, given, Shape::AgMix { cx, cy, sigma_px, q, angle_rad })
            }
            LayerText::GMix { lambda, given, cx, cy, sigma_px } => (lambda, given, Shape::GMix { cx, cy, sigma_px }),
        })
    }
}

impl From<&Layer> for LayerText {
    fn from(&Layer { lambda, given, shape, .. }: &Layer) -> Self {
        match shape {
            Shape::MixUp => LayerText::MixUp { lambda, given },
            Shape::CutMix { x0, y0, x1, y1, augment } => {
                let (warp, smooth_px) = augment_text(augment);
                LayerText::CutMix { lambda, given, x0, y0, x1, y1, warp, smooth_px }
            }
            Shape::FMix { noise_key, decay_power, augment } => {
                let (warp, smooth_px) = augment_text(augment);
                LayerText::FMix { lambda, given, noise_key: NoiseKey(noise_key), decay_power, warp, smooth_px }
            }
            Shape::GridMix { n, cells, augment } => {
                let (warp, smooth_px) = augment_text(augment);
                LayerText::GridMix { lambda, given, n, cells: cells.iter().collect(), warp, smooth_px }
            }
            Shape::AgMix { cx, cy, sigma_px, q, angle_rad } => {
                LayerText::AgMix { lambda, given, cx, cy, sigma_px, q, angle_rad }
            }
            Shape::GMix { cx, cy, sigma_px } => LayerText::GMix { lambda, given, cx, cy, sigma_px },
        }
    }
}
