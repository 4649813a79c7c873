//! The contact sheet: one row a sample, from its two photographs through its masks to the mix.

use super::{Args, Batched, channels_first, channels_first_mut, class_weights, rgb};
use crate::canvas::{Canvas, GAP_PX, MARGIN_PX, Style, caption_px, grey, scale_of};
use crate::photos::Photos;
use crate::work::zeros;
use anyhow::Result;
use image::RgbImage;
use miamix::{Batch, Labels, Layer, Output, Plan, View};
use ndarray::{Array3, Array4, Axis};
use serde_json::{Value, json};

/// Its name.
pub const FILE: &str = "contact-sheet.png";

/// From the title's line to the tiles, pixels: the title, then the columns' names.
const HEAD_PX: u32 = 66;
const CAPTION_LINES: u32 = 2;

/// Draws the first rows of a batch.
pub fn draw(batch: &Batched, found: &Photos, args: &Args) -> Result<RgbImage> {
    let n_rows = batch.photo.len().min(args.rows as usize);
    let n_layers = (0..n_rows).map(|i| batch.plan.sample(i).layers.len()).max().unwrap_or(0);
    let sources = sources(batch, n_rows)?;
    let layer_masks = layer_masks(batch, n_rows)?;

    let scale = scale_of(args.size);
    let tile = args.size * scale;
    let (column_px, row_px) = (tile + GAP_PX, tile + caption_px(CAPTION_LINES));
    let n_columns = n_layers as u32 + 4;
    let width = 2 * MARGIN_PX + n_columns * column_px - GAP_PX;
    let height = 2 * MARGIN_PX + HEAD_PX + n_rows as u32 * row_px - GAP_PX;
    let mut canvas = Canvas::new(width, height)?;
    let x = |column: usize| MARGIN_PX + column as u32 * column_px;

    canvas.text(MARGIN_PX, MARGIN_PX, width - 2 * MARGIN_PX, &title(batch, args, n_rows), Style::Title);
    let layer_names = (1..=n_layers).map(|j| if n_layers == 1 { "layer".into() } else { format!("layer {j}") });
    let names = ["primary".to_owned(), "partner".into()]
        .into_iter()
        .chain(layer_names)
        .chain(["mask".to_owned(), "mixed".into()]);
    for (column, name) in names.enumerate() {
        canvas.text(x(column), MARGIN_PX + HEAD_PX - 24, tile, &name, Style::Heading);
    }

    let class = |sample: usize| found.classes[found.photos[batch.photo[sample]].class].clone();
    let mut layer_masks = layer_masks.axis_iter(Axis(0));
    for (i, sample) in batch.plan.samples().take(n_rows).enumerate() {
        let y = MARGIN_PX + HEAD_PX + i as u32 * row_px;
        let mut put = |column: usize, image: &RgbImage, caption: &[String]| {
            canvas.tile(x(column), y, image, scale, caption);
        };
        let source = |role: usize| rgb(sources.index_axis(Axis(0), 2 * i + role));
        let partner =
            if sample.partner_index == i { format!("itself: {}", class(i)) } else { class(sample.partner_index) };
        put(0, &source(0), &[class(i), view_text(sample.primary_view)]);
        put(1, &source(1), &[partner, view_text(sample.partner_view)]);
        for (j, (layer, mask)) in sample.layers.iter().zip(layer_masks.by_ref()).enumerate() {
            put(2 + j, &grey(mask), &layer_text(layer));
        }
        let merged = match sample.layers.len() {
            0 => "not mixed".into(),
            1 => String::new(),
            n => format!("{} of {n} layers", batch.plan.merge()),
        };
        let weight = format!("label weight {:.3}", batch.label_weight[i]);
        put(2 + n_layers, &grey(batch.masks.index_axis(Axis(0), i)), &[weight, merged]);
        let mut parts: Vec<_> = class_weights(batch, found, i).collect();
        parts.sort_by(|a, b| b.1.total_cmp(&a.1));
        let label: Vec<String> = parts.iter().take(2).map(|(class, weight)| format!("{weight:.3} {class}")).collect();
        put(3 + n_layers, &rgb(batch.mixed.index_axis(Axis(0), i)), &label);
    }
    Ok(canvas.into_image())
}

fn title(batch: &Batched, args: &Args, n_rows: usize) -> String {
    let n = batch.photo.len();
    let rows = if n_rows < n { format!("first {n_rows} of {n} images") } else { format!("{n} images") };
    format!("MiAMix  seed {}  {rows}", args.seed)
}

fn view_text(view: View) -> String {
    let flipped = view.flip.then(|| "flipped".to_owned());
    let shifted = ((view.dx, view.dy) != (0, 0)).then(|| format!("shifted {:+} {:+} px", view.dx, view.dy));
    flipped.into_iter().chain(shifted).collect::<Vec<_>>().join(", ")
}

fn layer_text(layer: &Layer) -> [String; 2] {
    let augment = layer.shape.augment();
    let warped = augment.warp.map(|_| "warped".to_owned());
    let smoothed = augment.smooth_px.map(|window| format!("smoothed {window} px"));
    let done: Vec<String> = warped.into_iter().chain(smoothed).collect();
    [format!("{}, gives {:.3}", layer.shape.method().name(), layer.given), done.join(", ")]
}

/// What each row's primary and partner look like under their views: `[2·rows, H, W, C]`, in turn.
fn sources(batch: &Batched, n_rows: usize) -> Result<Array4<u8>> {
    let views = |i: usize| {
        let sample = batch.plan.sample(i);
        [(i, sample.primary_view), (sample.partner_index, sample.partner_view)]
    };
    let (picked, views): (Vec<usize>, Vec<View>) = (0..n_rows).flat_map(views).unzip();
    let (_, height, width, channels) = batch.images.dim();
    let mut images = zeros((picked.len(), height, width, channels), "the sheet's images")?;
    for (mut image, &sample) in images.axis_iter_mut(Axis(0)).zip(&picked) {
        image.assign(&batch.images.index_axis(Axis(0), sample));
    }
    let plan = plan_like(
        batch,
        views.iter().map(|view| {
            let primary_view = json!({"flip": view.flip, "dx": view.dx, "dy": view.dy});
            json!({"partner_index": 0, "primary_view": primary_view, "partner_view": identity(), "layers": []})
        }),
    )?;
    let mut out = zeros(images.dim(), "the sheet's images")?;
    let input = channels_first(images.view());
    let output = Output {
        images: channels_first_mut(out.view_mut()).into(),
        labels: None,
        label_weight: None,
        partner_index: None,
    };
    let labels = Labels::NONE;
    batch.op.apply(&plan, Batch { images: input.into(), partner_images: input.into(), labels }, output)?;
    Ok(out)
}

/// Every layer's own mask, rows and their layers in order: `[layers, H, W]`.
fn layer_masks(batch: &Batched, n_rows: usize) -> Result<Array3<f32>> {
    let plan: Value = serde_json::from_str(&batch.plan.to_json())?;
    let layers: Vec<&Value> = (0..n_rows).filter_map(|i| plan["samples"][i]["layers"].as_array()).flatten().collect();
    let alone = plan_like(
        batch,
        layers.iter().map(|layer| {
            json!({"partner_index": 0, "primary_view": identity(), "partner_view": identity(), "layers": [layer]})
        }),
    )?;
    let shape = batch.plan.shape();
    let mut masks = zeros((layers.len(), shape.height, shape.width), "the sheet's masks")?;
    batch.op.masks(&alone, Some(masks.view_mut()), None)?;
    Ok(masks)
}

fn identity() -> Value {
    json!({"flip": false, "dx": 0, "dy": 0})
}

/// A plan for images of the batch's size.
fn plan_like(batch: &Batched, samples: impl Iterator<Item = Value>) -> Result<Plan> {
    let shape = batch.plan.shape();
    let plan = json!({
        "version": 1,
        "height": shape.height,
        "width": shape.width,
        "merge": "product",
        "label_weight": "merged",
        "lambda_reading": "complement",
        "samples": samples.collect::<Vec<_>>(),
    });
    Ok(Plan::from_json(&plan.to_string())?)
}
