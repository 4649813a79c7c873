//! `miamix masks`: a gallery of every method, from plans written by hand.

use crate::canvas::{Canvas, GAP_PX, MARGIN_PX, Style, caption_px, grey, scale_of};
use crate::output::write_file;
use crate::params::parse_seed;
use crate::work::ThreadArgs;
use anyhow::{Context, Result};
use image::RgbImage;
use miamix::{Config, Method, MiaMix, Plan};
use ndarray::{Array3, Axis};
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::PathBuf;

/// Draw a gallery of every method's masks.
///
/// White keeps the primary pixel, black takes the partner's. Each method is shown at several shares given to the
/// partner; those with hard edges also rotated and sheared, smoothed, and both, as the operator does at random.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The PNG to write
    #[arg(long, value_name = "FILE", value_parser = parse_png)]
    out: PathBuf,
    /// Height and width of a mask, pixels
    #[arg(long, value_name = "PX", default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=1024))]
    size: u32,
    /// Other seeds show other boxes, cells, centres and noise
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_seed)]
    seed: u64,
    #[command(flatten)]
    threads: ThreadArgs,
}

const EXAMPLES: &str = "\
Examples:
  miamix masks --out masks.png
  miamix masks --out small.png --size 32 --seed 5";

/// Reads the path of a PNG.
fn parse_png(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("png") => Ok(path),
        _ => Err("must end in .png".into()),
    }
}

/// Shares given to the partner.
const GIVEN: [f32; 4] = [0.1, 0.25, 0.5, 0.75];
/// Strong enough to be seen, and inside what the default parameters draw.
const WARP_ANGLE_RAD: f32 = 0.5;
const WARP_SHEAR: f32 = 0.25;
const SMOOTH_PX: u32 = 7;
const GRID_CELLS: u32 = 6;
const DECAY_POWER: f32 = 3.0;
/// From the title's line to the methods, and from a method's name to its tiles, pixels.
const HEAD_PX: u32 = 48;
const NAME_PX: u32 = 46;
/// Between methods that lie side by side, besides the usual gap, pixels.
const PANEL_GAP_PX: u32 = 28;

/// A row of a panel: the method as it is, warped, smoothed, or both.
#[derive(Clone, Copy)]
struct Treatment {
    name: &'static str,
    warped: bool,
    smoothed: bool,
}

const TREATMENTS: [Treatment; 4] = [
    Treatment { name: "plain", warped: false, smoothed: false },
    Treatment { name: "warped", warped: true, smoothed: false },
    Treatment { name: "smoothed", warped: false, smoothed: true },
    Treatment { name: "warped, smoothed", warped: true, smoothed: true },
];

/// One method's masks: a column for each share, a row for each treatment.
struct Panel {
    method: Method,
    treatments: &'static [Treatment],
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    // Three panels side by side: the soft masks, which have one row each, above those with hard edges.
    let panels = |augmented: bool| -> Vec<Panel> {
        let treatments = if augmented { &TREATMENTS[..] } else { &TREATMENTS[..1] };
        let methods = Method::ALL.into_iter().filter(|method| method.is_augmented() == augmented);
        methods.map(|method| Panel { method, treatments }).collect()
    };
    let bands = [panels(false), panels(true)];
    let op = MiaMix::new(Config::default())?.with_threads(args.threads.threads)?;
    let size = args.size as usize;
    let layers: Vec<Value> =
        bands.iter().flatten().flat_map(|panel| panel_layers(panel, args.size, args.seed)).collect();
    let plan = plan(&layers, args.size)?;
    let mut masks = Array3::zeros((layers.len(), size, size));
    let mut kept = vec![0.0; layers.len()];
    op.masks(&plan, Some(masks.view_mut()), Some(&mut kept))?;

    let tiles: Vec<Tile> = masks.axis_iter(Axis(0)).map(grey).zip(kept).collect();
    let sheet = draw(&bands, &tiles, args.size)?;
    let mut png = Vec::new();
    sheet.write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).context("cannot encode the gallery")?;
    write_file(&args.out, &png)?;
    println!("{}: {} masks", args.out.display(), layers.len());
    Ok(())
}

/// A mask and the share of the primary that it keeps.
type Tile = (RgbImage, f32);

fn draw(bands: &[Vec<Panel>; 2], tiles: &[Tile], size: u32) -> Result<RgbImage> {
    let scale = scale_of(size);
    let tile_px = size * scale;
    let (column_px, row_px) = (tile_px + GAP_PX, tile_px + caption_px(2));
    let panel_px = GIVEN.len() as u32 * column_px + PANEL_GAP_PX;
    let band_px = |band: &[Panel]| {
        let rows = band.iter().map(|panel| panel.treatments.len()).max().unwrap_or(0);
        NAME_PX + rows as u32 * row_px
    };
    let n_panels = bands.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let width = 2 * MARGIN_PX + n_panels * panel_px - PANEL_GAP_PX - GAP_PX;
    let height = 2 * MARGIN_PX + HEAD_PX + bands.iter().map(|band| band_px(band)).sum::<u32>() - GAP_PX;
    let mut canvas = Canvas::new(width, height)?;
    let title = "MiAMix masks: white keeps the primary pixel, black takes the partner's";
    canvas.text(MARGIN_PX, MARGIN_PX, width - 2 * MARGIN_PX, title, Style::Title);

    let mut tiles = tiles.iter();
    let mut top = MARGIN_PX + HEAD_PX;
    for band in bands {
        for (p, panel) in band.iter().enumerate() {
            let left = MARGIN_PX + p as u32 * panel_px;
            canvas.text(left, top + 4, panel_px, panel.method.name(), Style::Heading);
            canvas.text(left, top + 22, panel_px, about(panel.method), Style::Muted);
            for (row, treatment) in panel.treatments.iter().enumerate() {
                for (column, given) in GIVEN.into_iter().enumerate() {
                    let (mask, kept) = tiles.next().expect("a mask for each place");
                    let (x, y) = (left + column as u32 * column_px, top + NAME_PX + row as u32 * row_px);
                    let caption = [format!("given {given}, kept {kept:.3}"), treatment.name.to_owned()];
                    // Where there is one treatment only, nothing is to be told apart.
                    let lines = panel.treatments.len().min(2);
                    canvas.tile(x, y, mask, scale, &caption[..lines]);
                }
            }
        }
        top += band_px(band);
    }
    Ok(canvas.into_image())
}

fn about(method: Method) -> &'static str {
    match method {
        Method::MixUp => "a constant",
        Method::CutMix => "a box",
        Method::FMix => "a level set of low-frequency noise",
        Method::GridMix => "cells of a grid",
        Method::AgMix => "a rotated, stretched Gaussian",
        Method::GMix => "a round Gaussian",
    }
}

/// The layers of a panel, row by row. Where and how a mask lies follows the seed and the column alone,
/// so that a column shows what each treatment does to one mask.
fn panel_layers(panel: &Panel, size: u32, seed: u64) -> Vec<Value> {
    let rows = panel.treatments.iter();
    rows.flat_map(|&treatment| {
        GIVEN.into_iter().enumerate().map(move |(column, given)| {
            let key = hash(hash(seed, panel.method as u64), column as u64);
            layer(panel.method, given, treatment, size, key)
        })
    })
    .collect()
}

fn layer(method: Method, given: f32, treatment: Treatment, size: u32, key: u64) -> Value {
    let share = f64::from(given);
    let side = f64::from(size);
    let uniform = |purpose: u64| hash(key, purpose) as f64 / 2f64.powi(64);
    // Centres in the middle half: a gallery is to show the shape.
    let centre = |purpose: u64| ((0.25 + 0.5 * uniform(purpose)) * side).floor() + 0.5;
    let mut fields = match method {
        Method::MixUp => json!({}),
        Method::CutMix => {
            let edge = (side * share.sqrt()).floor();
            let start = |purpose: u64| (uniform(purpose) * (side - edge + 1.0)).floor() as i64;
            let (x0, y0) = (start(0), start(1));
            json!({"x0": x0, "y0": y0, "x1": x0 + edge as i64, "y1": y0 + edge as i64})
        }
        Method::FMix => json!({"noise_key": format!("{:#018x}", hash(key, 0)), "decay_power": DECAY_POWER}),
        Method::GridMix => {
            let n = GRID_CELLS;
            let mut cells: Vec<u32> = (0..n * n).collect();
            cells.sort_by_key(|&cell| hash(key, cell.into()));
            cells.truncate((share * f64::from(n * n)).round() as usize);
            cells.sort_unstable();
            json!({"n": n, "cells": cells})
        }
        Method::AgMix => {
            let q = if uniform(3) < 0.5 { -0.8 } else { 0.8 };
            let angle_rad = uniform(2) * std::f64::consts::PI;
            json!({"cx": centre(0), "cy": centre(1), "sigma_px": share.sqrt() * side, "q": q, "angle_rad": angle_rad})
        }
        Method::GMix => json!({"cx": centre(0), "cy": centre(1), "sigma_px": share.sqrt() * side}),
    };
    fields["method"] = json!(method.name());
    fields["lambda"] = json!(given);
    fields["given"] = json!(given);
    if method.is_augmented() {
        let warp = json!({"angle_rad": WARP_ANGLE_RAD, "shear": WARP_SHEAR});
        fields["warp"] = if treatment.warped { warp } else { Value::Null };
        fields["smooth_px"] = if treatment.smoothed { json!(SMOOTH_PX) } else { Value::Null };
    }
    fields
}

/// A plan of samples with one layer each.
fn plan(layers: &[Value], size: u32) -> Result<Plan> {
    let identity = json!({"flip": false, "dx": 0, "dy": 0});
    let samples: Vec<Value> = layers
        .iter()
        .map(|layer| json!({"partner_index": 0, "primary_view": identity, "partner_view": identity, "layers": [layer]}))
        .collect();
    let plan = json!({
        "version": 1,
        "height": size,
        "width": size,
        "merge": "product",
        "label_weight": "merged",
        "lambda_reading": "complement",
        "samples": samples,
    });
    Ok(Plan::from_json(&plan.to_string())?)
}

/// SplitMix64's finalizer: a gallery needs variety, not the operator's own draw.
fn hash(key: u64, purpose: u64) -> u64 {
    let mut z = key.wrapping_add((purpose + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
