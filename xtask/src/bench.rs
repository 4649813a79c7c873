//! What this machine does, beside what others do on it: docs/bench.

use crate::command;
use crate::partial::Partial;
use crate::python::{Python, Venv};
use crate::test;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;

#[derive(Args)]
pub struct Options {
    /// One short turn each: a first look, whose numbers say little.
    #[arg(long)]
    quick: bool,
    /// Measure nothing, write the pages of the last results again.
    #[arg(long, conflicts_with = "quick")]
    redraw: bool,
    /// What a node of ONNX Runtime costs beside its work, and nothing else: docs/bench/node.md.
    #[arg(long, conflicts_with_all = ["quick", "redraw"])]
    node: bool,
}

const PAGES: &str = "docs/bench";
const NODE_PAGE: &str = "docs/bench/node.md";

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.node {
        return node(workspace);
    }
    let script = workspace.existing("benches/bench.py")?;
    let requirements = workspace.existing("xtask/bench-requirements.txt")?;
    let results = workspace.target.join("bench").join("cpu.json");
    if options.redraw && !results.is_file() {
        bail!("--redraw: nothing was measured yet: there is no {}", results.display());
    }
    let venv = Venv::of(workspace, "bench", &requirements, &Python::find()?)?;
    if !options.redraw {
        command::run_quietly(
            "Building the operator library and the miamix program",
            &mut workspace.release_build(),
            &workspace.log("release-build"),
        )?;
    }
    let pages = workspace.root.join(PAGES);
    let partial = Partial::of(&pages)?;
    let mut bench = venv.python();
    bench.arg(script).arg("--program").arg(workspace.program()).arg("--library").arg(workspace.library());
    bench.arg("--results").arg(&results).arg("--out").arg(partial.path());
    bench.args(options.quick.then_some("--quick")).args(options.redraw.then_some("--redraw"));
    command::run(&mut bench).context("the benchmarks")?;
    partial.merge()?;
    println!("\n{}", pages.join("cpu.md").display());
    Ok(())
}

fn node(workspace: &Workspace) -> Result<()> {
    command::run_quietly(
        "Building the operator library",
        &mut workspace.release_build(),
        &workspace.log("release-build"),
    )?;
    let bench = ["bench", "--locked", "-p", "miamix-c", "--bench", "node"];
    command::run_quietly(
        "Building the benchmark",
        workspace.cargo().args(bench).arg("--no-run"),
        &workspace.log("node-bench-build"),
    )?;
    let mut measure = workspace.cargo();
    measure.args(bench).env("ORT_DYLIB_PATH", test::newest_runtime(workspace)?);
    let page = command::capture(measure.env("MIAMIX_LIBRARY", workspace.library()))?;
    print!("{page}");
    fs::write(workspace.root.join(NODE_PAGE), page)?;
    println!("\n{}", workspace.root.join(NODE_PAGE).display());
    Ok(())
}
