//! Photographs mixed by the operator inside ONNX Runtime.

use crate::command;
use crate::partial::Partial;
use crate::photos::photos;
use crate::python::{Python, Venv};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use console::style;
use std::path::{self, PathBuf};
use std::process::Command;

#[derive(Args)]
pub struct Options {
    /// Your own pictures: a folder for each class, or pictures that are each a class.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Where the contact sheet, the model and the labels go [default: target/demo]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Equal seeds give equal pictures.
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u32,
    /// Pictures in the batch.
    #[arg(long, default_value_t = Options::default().count, value_parser = clap::value_parser!(u32).range(1..=1024))]
    count: u32,
    /// Side of the pictures, pixels.
    #[arg(long, default_value_t = Options::default().size, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { images: None, out: None, seed: 1, count: 12, size: 224 }
    }
}

const SHEET: &str = "contact-sheet.png";

/// The environment of the demonstration.
pub fn venv(workspace: &Workspace) -> Result<Venv> {
    let requirements = workspace.existing("xtask/demo-requirements.txt")?;
    Venv::of(workspace, "demo", &requirements, &Python::find()?)
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let script = workspace.existing("examples/onnxruntime/demo.py")?;
    if let Some(images) = &options.images
        && !images.is_dir()
    {
        bail!("--images: {} is no folder", images.display());
    }
    let out = path::absolute(options.out.clone().unwrap_or_else(|| workspace.target.join("demo")))?;
    let venv = venv(workspace)?;
    let images = match &options.images {
        Some(images) => path::absolute(images)?,
        None => photos(workspace, &venv)?,
    };
    command::run_quietly(
        "Building the operator library and the miamix program",
        &mut workspace.release_build(),
        &workspace.log("release-build"),
    )?;
    let partial = Partial::of(&out)?;
    let model = partial.path().join("model.onnx");
    command::run_quietly(
        "Writing an ONNX model with the operator",
        Command::new(workspace.program())
            .args(["model", "--preset", "imagenet", "--dtype", "f32", "--num-classes", "1000", "--masks", "--out"])
            .arg(&model),
        &workspace.log("demo-model"),
    )?;
    command::run(
        venv.python()
            .arg(script)
            .arg("--library")
            .arg(workspace.library())
            .arg("--model")
            .arg(&model)
            .arg("--images")
            .arg(&images)
            .arg("--out")
            .arg(partial.path())
            .args(["--seed", &options.seed.to_string(), "--count", &options.count.to_string()])
            .args(["--size", &options.size.to_string()]),
    )
    .context("the demonstration")?;
    for file in [SHEET, "model.onnx", "labels.json"] {
        if !partial.path().join(file).is_file() {
            bail!("the demonstration left no {file}");
        }
    }
    partial.merge()?;
    println!("\n{}", style(out.join(SHEET).display()).bold());
    Ok(())
}
