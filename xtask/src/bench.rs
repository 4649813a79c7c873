//! What this machine does, beside what others do on it: docs/bench.

use crate::command;
use crate::partial::Partial;
use crate::python::{Python, Venv};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;

#[derive(Args)]
pub struct Options {
    /// One short turn each: a first look, whose numbers say little.
    #[arg(long)]
    quick: bool,
    /// Measure nothing, write the pages of the last results again.
    #[arg(long, conflicts_with = "quick")]
    redraw: bool,
}

const PAGES: &str = "docs/bench";

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
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
