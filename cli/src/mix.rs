//! `miamix mix`: photographs in, mixed photographs and everything about them out.

mod sheet;

use crate::canvas::to_u8;
use crate::output::{MANIFEST, OutputDir};
use crate::params::{ConfigArgs, parse_seed};
use crate::photos::{self, Photos};
use crate::work::{self, ThreadArgs, for_all, zeros};
use anyhow::{Context, Result};
use image::{GrayImage, RgbImage};
use miamix::{Batch, BatchShape, Config, Labels, MiaMix, Output, Plan, Threads};
use ndarray::{Array1, Array2, Array3, Array4, ArrayView3, ArrayView4, ArrayViewMut4, Axis};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Mix photographs and look at the result.
///
/// Each photograph is cropped to its middle square and resized.
/// A folder's photographs are one class, and so are those of each folder in it;
/// a file named by itself is a class of its own. Results of earlier runs are left out.
///
/// Written to DIR:
///   mixed/0000.png ...   the mixed images
///   masks/0000.png ...   their masks; white keeps the primary pixel
///   labels.json          for each image its files, label weight, classes and layers
///   plan.json            every random decision, as the library reads it
///   contact-sheet.png    primary, partner, each layer's mask, the merged mask, and the mix
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_long_help = EXAMPLES)]
pub struct Args {
    /// Photographs (PNG, JPEG, WebP), and folders with photographs
    #[arg(required = true)]
    photos: Vec<PathBuf>,
    /// Folder for the results. What an earlier run left there is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write into a folder that holds other files; files of the same name are replaced, others stay
    #[arg(long)]
    force: bool,
    /// Height and width of the images, pixels
    #[arg(long, value_name = "PX", default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
    /// Equal seeds give equal results
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_seed)]
    seed: u64,
    /// Images to make: fewer than there are photographs takes some of them, evenly spaced; more takes them again
    /// [default: one for each photograph]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// Rows of the contact sheet, at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    rows: u32,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

const EXAMPLES: &str = "\
Examples:
  miamix mix photos/ --out mixed
  miamix mix cat.jpg dog.jpg --out mixed --count 8 --seed 7
  miamix mix train/ --out mixed --methods cutmix,fmix --k-max 3 --merge sum
  miamix mix train/ --out mixed --size 32 --p-flip 0.5 --pad-px 4";

/// `labels.json`.
#[derive(Serialize)]
struct Manifest<'a> {
    producer: String,
    /// Every file of the folder, by which a later run knows that it may replace them.
    files: Vec<String>,
    seed: u64,
    size_px: u32,
    config: &'a Config,
    classes: &'a [String],
    outputs: Vec<OutputEntry<'a>>,
}

#[derive(Serialize)]
struct OutputEntry<'a> {
    mixed: String,
    mask: String,
    primary: Source<'a>,
    partner: Source<'a>,
    /// What the primary's own label weighs.
    label_weight: f32,
    /// The mixed label: each class that has a part in it.
    class_weights: BTreeMap<&'a str, f32>,
    /// As in plan.json.
    layers: &'a serde_json::Value,
}

#[derive(Serialize)]
struct Source<'a> {
    file: String,
    class: &'a str,
}

/// A batch that has been mixed.
struct Batched {
    op: MiaMix,
    plan: Plan,
    /// `[N, H, W, C]`.
    images: Array4<u8>,
    mixed: Array4<u8>,
    /// `[N, H, W]`.
    masks: Array3<f32>,
    /// `[N, K]`.
    labels: Array2<f32>,
    label_weight: Array1<f32>,
    /// The photograph of each sample.
    photo: Vec<usize>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let config = args.config.read()?;
    let threads = Threads::new(args.threads.threads)?;
    let op = MiaMix::new(config)?.with_threads(args.threads.threads)?;
    let found = Photos::find(&args.photos)?;
    let n_samples = args.count.map_or(found.photos.len(), |n| n as usize);
    let dir = OutputDir::new(&args.out, args.force)?;

    let photo = photos::choose(found.photos.len(), n_samples);
    let images = read(&threads, &found, &photo, args.size)?;
    let batch = mix(op, images, &found, photo, args.seed)?;
    let files = write(&threads, &dir.path(), &batch, &found, &args)?;
    work::check_interrupt()?;
    dir.publish()?;
    println!("{}: {files} files; look at {}", args.out.display(), args.out.join(sheet::FILE).display());
    Ok(())
}

/// The samples' pixels, `[N, H, W, C]`; each photograph is read once.
fn read(threads: &Threads, found: &Photos, photo: &[usize], size: u32) -> Result<Array4<u8>> {
    let side = size as usize;
    let mut images = zeros((photo.len(), side, side, 3), "images")?;
    let mut first_of = BTreeMap::new();
    for (sample, &photo) in photo.iter().enumerate() {
        first_of.entry(photo).or_insert(sample);
    }
    let used: Vec<_> = first_of.iter().collect();
    let places: Vec<_> = images.axis_iter_mut(Axis(0)).map(Mutex::new).collect();
    for_all(threads, "reading", used.len(), |i| {
        let (&photo, &sample) = used[i];
        let image = photos::load(&found.photos[photo].path, size)?;
        places[sample].lock().expect("no other thread has this place").assign(&view(&image));
        Ok(())
    })?;
    drop(places);
    for (sample, photo) in photo.iter().enumerate() {
        let (before, mut rest) = images.view_mut().split_at(Axis(0), sample);
        if first_of[photo] < sample {
            rest.index_axis_mut(Axis(0), 0).assign(&before.index_axis(Axis(0), first_of[photo]));
        }
    }
    Ok(images)
}

fn mix(op: MiaMix, images: Array4<u8>, found: &Photos, photo: Vec<usize>, seed: u64) -> Result<Batched> {
    let (n, height, width, _) = images.dim();
    let plan = op.draw(BatchShape::new(n, height, width), seed, 0)?;
    let ids = Array1::from_iter(photo.iter().map(|&photo| found.photos[photo].class as i64));
    let n_classes = found.classes.len();
    let mut mixed = zeros(images.dim(), "mixed images")?;
    let mut masks = zeros((n, height, width), "masks")?;
    let mut labels = zeros((n, n_classes), "labels")?;
    let mut label_weight = Array1::zeros(n);
    let primary = channels_first(images.view());
    op.apply(
        &plan,
        Batch { images: primary.into(), partner_images: primary.into(), labels: Labels::ids(ids.view(), n_classes) },
        Output {
            images: channels_first_mut(mixed.view_mut()).into(),
            labels: Some(labels.view_mut()),
            label_weight: label_weight.as_slice_mut(),
            partner_index: None,
        },
    )?;
    op.masks(&plan, Some(masks.view_mut()), None)?;
    Ok(Batched { op, plan, images, mixed, masks, labels, label_weight, photo })
}

/// Writes every file, and says how many.
fn write(threads: &Threads, dir: &Path, batch: &Batched, found: &Photos, args: &Args) -> Result<usize> {
    let n = batch.photo.len();
    let digits = (n - 1).to_string().len().max(4);
    let file = |folder: &str, i: usize| format!("{folder}/{i:0digits$}.png");
    for folder in ["mixed", "masks"] {
        std::fs::create_dir(dir.join(folder)).with_context(|| format!("{folder}: cannot make"))?;
    }
    for_all(threads, "writing", n, |i| {
        save_rgb(&dir.join(file("mixed", i)), &rgb(batch.mixed.index_axis(Axis(0), i)))?;
        let mask = batch.masks.index_axis(Axis(0), i);
        let grey = GrayImage::from_raw(args.size, args.size, mask.iter().map(|&m| to_u8(m)).collect());
        let path = dir.join(file("masks", i));
        grey.expect("a mask of this size").save(&path).with_context(|| cannot_write(&path))
    })?;
    save_rgb(&dir.join(sheet::FILE), &sheet::draw(batch, found, args)?)?;

    let plan_json = batch.plan.to_json();
    let plan: serde_json::Value = serde_json::from_str(&plan_json).context("plan.json")?;
    let source = |sample: usize| {
        let photo = &found.photos[batch.photo[sample]];
        Source { file: photo.path.display().to_string(), class: &found.classes[photo.class] }
    };
    let outputs: Vec<OutputEntry> = batch
        .plan
        .samples()
        .enumerate()
        .map(|(i, sample)| OutputEntry {
            mixed: file("mixed", i),
            mask: file("masks", i),
            primary: source(i),
            partner: source(sample.partner_index),
            label_weight: batch.label_weight[i],
            class_weights: class_weights(batch, found, i).collect(),
            layers: &plan["samples"][i]["layers"],
        })
        .collect();
    let mut files: Vec<String> = [MANIFEST, "plan.json", sheet::FILE].map(String::from).into();
    files.extend(outputs.iter().flat_map(|entry| [entry.mixed.clone(), entry.mask.clone()]));
    let n_files = files.len();
    let manifest = Manifest {
        producer: format!("miamix {}", env!("CARGO_PKG_VERSION")),
        files,
        seed: args.seed,
        size_px: args.size,
        config: batch.op.config(),
        classes: &found.classes,
        outputs,
    };
    let text = serde_json::to_string_pretty(&manifest).context(MANIFEST)?;
    for (name, text) in [(MANIFEST, text), ("plan.json", plan_json)] {
        let path = dir.join(name);
        std::fs::write(&path, text + "\n").with_context(|| cannot_write(&path))?;
    }
    Ok(n_files)
}

/// The classes that have a part in sample `i`'s label, and their weights.
fn class_weights<'a>(batch: &Batched, found: &'a Photos, i: usize) -> impl Iterator<Item = (&'a str, f32)> {
    let row = batch.labels.row(i).to_owned();
    found.classes.iter().map(String::as_str).zip(row).filter(|&(_, weight)| weight > 0.0)
}

fn save_rgb(path: &Path, image: &RgbImage) -> Result<()> {
    image.save(path).with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot write", path.display())
}

/// `[H, W, C]`.
fn view(image: &RgbImage) -> ArrayView3<'_, u8> {
    let shape = (image.height() as usize, image.width() as usize, 3);
    ArrayView3::from_shape(shape, image.as_raw()).expect("an image's pixels fill its shape")
}

/// From `[H, W, C]`.
fn rgb(pixels: ArrayView3<'_, u8>) -> RgbImage {
    let (height, width, _) = pixels.dim();
    RgbImage::from_raw(width as u32, height as u32, pixels.iter().copied().collect()).expect("three channels")
}

/// NHWC as NCHW: the same memory.
fn channels_first(images: ArrayView4<'_, u8>) -> ArrayView4<'_, u8> {
    images.permuted_axes([0, 3, 1, 2])
}

fn channels_first_mut(images: ArrayViewMut4<'_, u8>) -> ArrayViewMut4<'_, u8> {
    images.permuted_axes([0, 3, 1, 2])
}
