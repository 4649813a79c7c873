//! `miamix model`: an ONNX file with the operator.

use crate::output::write_file;
use crate::params::{ConfigArgs, parse_seed};
use anyhow::Result;
use clap::ValueEnum;
use miamix::Dtype;
use miamix_onnx_model::{DOMAIN, DOMAIN_VERSION, LabelKind, Layout, MAX_CLASSES, ModelSpec, model};
use std::path::PathBuf;

/// Write an ONNX file with the operator.
///
/// Inputs: images, partner_images, labels, seed, first_sample, training_mode.
/// Outputs: mixed_images, mixed_labels, label_weight, partner_index, and masks with --masks.
///
/// Any number of samples fits. The parameters are attributes of the node, all of them written out. The file runs in
/// ONNX Runtime once the library is registered there (RegisterCustomOps).
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Size and number of classes of a data set
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Element type of images
    #[arg(long, value_enum, default_value_t = Element::F32)]
    dtype: Element,
    /// Order of the axes of images
    #[arg(long, value_enum, default_value_t = Axes::Nchw)]
    layout: Axes,
    /// Labels are class ids of so many classes; 0: only pixels are mixed
    #[arg(
        long,
        value_name = "K",
        required_unless_present_any = ["preset", "soft_labels"],
        value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_CLASSES))
    )]
    num_classes: Option<u32>,
    /// Labels are rows [N, K] of numbers instead of class ids
    #[arg(long)]
    soft_labels: bool,
    /// Height and width, as 224 or 480x640 (height first) [default: any, or the preset's]
    #[arg(long, value_name = "PX", value_parser = parse_size)]
    size: Option<Size>,
    /// Channels [default: any, or the preset's]
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..))]
    channels: Option<u32>,
    /// Write the seed into the file instead of making it an input
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: Option<u64>,
    /// Added to the seed; keeps two nodes of one graph apart
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed_offset: i64,
    /// Add a MiAMixMasks node and an output with the masks
    #[arg(long)]
    masks: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

const EXAMPLES: &str = "\
Examples:
  miamix model --preset cifar10 --out mix.onnx
  miamix model --preset imagenet --dtype u8 --layout nhwc --out mix.onnx
  miamix model --num-classes 37 --size 480x640 --masks --alpha 0.5 --k-max 3 --out mix.onnx
  miamix model --soft-labels --config mix.json --out mix.onnx";

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// 3x32x32, 10 classes
    Cifar10,
    /// 3x32x32, 100 classes
    Cifar100,
    /// 3x64x64, 200 classes
    TinyImagenet,
    /// 3x224x224, 1000 classes
    Imagenet,
}

impl Preset {
    /// Side in pixels, and classes.
    fn facts(self) -> (u32, u32) {
        match self {
            Preset::Cifar10 => (32, 10),
            Preset::Cifar100 => (32, 100),
            Preset::TinyImagenet => (64, 200),
            Preset::Imagenet => (224, 1000),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Element {
    /// float32
    F32,
    /// float16
    F16,
    /// bfloat16
    Bf16,
    /// uint8
    U8,
}

#[derive(Clone, Copy, ValueEnum)]
enum Axes {
    /// Channels before rows
    #[value(alias = "NCHW")]
    Nchw,
    /// Channels last
    #[value(alias = "NHWC")]
    Nhwc,
}

#[derive(Clone, Copy)]
struct Size {
    height: u32,
    width: u32,
}

fn parse_size(text: &str) -> Result<Size, String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| text.parse().ok().filter(|side| (1..=miamix::MAX_SIDE_PX as u32).contains(side));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok(Size { height, width }),
        _ => Err(format!("must be PX or HEIGHTxWIDTH, each 1 to {}", miamix::MAX_SIDE_PX)),
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let out = args.out.clone();
    let spec = spec(args)?;
    let bytes = model(&spec)?;
    write_file(&out, &bytes)?;
    let nodes = if spec.masks { "MiAMix and MiAMixMasks" } else { "MiAMix" };
    println!("{}: {nodes}, domain {DOMAIN} version {DOMAIN_VERSION}, {} bytes", out.display(), bytes.len());
    Ok(())
}

fn spec(args: Args) -> Result<ModelSpec> {
    let preset = args.preset.map(Preset::facts);
    let size = args.size.or(preset.map(|(side, _)| Size { height: side, width: side }));
    let num_classes = args.num_classes.or(preset.map(|(_, classes)| classes));
    Ok(ModelSpec {
        config: args.config.read()?,
        dtype: match args.dtype {
            Element::F32 => Dtype::F32,
            Element::F16 => Dtype::F16,
            Element::Bf16 => Dtype::Bf16,
            Element::U8 => Dtype::U8,
        },
        layout: match args.layout {
            Axes::Nchw => Layout::Nchw,
            Axes::Nhwc => Layout::Nhwc,
        },
        channels: args.channels.or(preset.map(|_| 3)),
        height: size.map(|size| size.height),
        width: size.map(|size| size.width),
        labels: if args.soft_labels {
            LabelKind::Soft { num_classes }
        } else {
            // clap asks for one of the three, so there is a number here.
            LabelKind::Ids { num_classes: num_classes.unwrap_or(0) }
        },
        seed_offset: args.seed_offset,
        seed: args.seed.map(|seed| seed as i64),
        masks: args.masks,
    })
}
