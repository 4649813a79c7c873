//! What this machine does: docs/bench/cpu.md.

use crate::command::{self, Spinner};
use crate::python::{Python, Venv};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;
use std::fs;
use std::process::Command;

#[derive(Args)]
pub struct Options {
    /// Seconds for each workload and number of threads.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds beside NumPy and SciPy.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

const PAGE: &str = "docs/bench/cpu.md";

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let script = workspace.existing("benches/numpy_peer.py")?;
    let requirements = workspace.existing("xtask/bench-requirements.txt")?;
    let venv = Venv::of(workspace, "bench", &requirements, &Python::find()?)?;
    command::run_quietly(
        "Building the operator library and the miamix program",
        &mut workspace.release_build(),
        &workspace.log("release-build"),
    )?;
    let spinner = Spinner::start("Measuring the operator and the memory floor");
    let seconds = options.seconds.to_string();
    let bench = command::capture(Command::new(workspace.program()).args(["bench", "--json", "--seconds", &seconds]))?;
    spinner.finish();
    let spinner = Spinner::start("Measuring NumPy and SciPy beside the operator in ONNX Runtime");
    let mut peer = venv.python();
    peer.arg(script).arg("--library").arg(workspace.library()).arg("--program").arg(workspace.program());
    let peer = command::capture(peer.args(["--rounds", &options.rounds.to_string()]))?;
    spinner.finish();
    let page = page(&serde_json::from_str(&bench).context("miamix bench --json")?, &peer)?;
    print!("\n{page}");
    let path = workspace.root.join(PAGE);
    fs::create_dir_all(path.parent().context("the page lies in a folder")?)?;
    fs::write(&path, page).with_context(|| format!("cannot write {PAGE}"))?;
    println!("\n{}", path.display());
    Ok(())
}

/// The page, from what `miamix bench --json` and the peer print.
fn page(bench: &Value, peer: &str) -> Result<String> {
    let machine = &bench["machine"];
    let text = |name: &str| machine[name].as_str().with_context(|| format!("machine.{name}"));
    let cache = machine["cache"].as_str().map(|cache| format!(", last-level cache {cache}")).unwrap_or_default();
    let mut page = format!(
        "# Speed on the CPU\n\n\
         Written by `cargo xtask bench`; run it for your machine's numbers.\n\n\
         ## The operator and the memory floor\n\n\
         {}, {} cores{cache}, SIMD {}, {}  \n\
         miamix {}, {}  \n\
         ms a batch, medians; floor: a blend of the same batch under masks that lie ready in memory\n\n\
         | workload | threads | operator | images/s | floor | operator / floor |\n\
         |---|--:|--:|--:|--:|--:|\n",
        text("cpu")?,
        machine["cores"],
        text("simd")?,
        text("system")?,
        text("miamix")?,
        text("rustc")?,
    );
    for result in bench["results"].as_array().context("results")? {
        let shape: Vec<String> = result["shape"].as_array().context("shape")?.iter().map(Value::to_string).collect();
        let number = |value: &Value| value.as_f64().context("a number is missing");
        page += &format!(
            "| {} {} {} {} | {} | {:.3} | {:.0} | {:.3} | {:.2} |\n",
            result["workload"].as_str().context("workload")?,
            shape.join("x"),
            result["dtype"].as_str().context("dtype")?,
            result["layout"].as_str().context("layout")?,
            result["threads"],
            number(&result["operator"]["median_ms"])?,
            number(&result["operator"]["images_per_s"])?,
            number(&result["floor"]["median_ms"])?,
            number(&result["ratio_to_floor"])?,
        );
    }
    page += "\n## The operator and NumPy\n\n\
             The peer is MiAMix as it is written from the paper with NumPy and SciPy: `benches/numpy_peer.py`.\n\n";
    Ok(page + peer.trim_end() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_holds_the_machine_above_both_tables() {
        let bench = json!({
            "machine": {"cpu": "CPU X", "cores": 2, "cache": null, "simd": "AVX2", "system": "linux x86_64",
                        "miamix": "0.1.0", "rustc": "rustc 1.92"},
            "results": [{"workload": "A", "shape": [128, 3, 32, 32], "dtype": "f32", "layout": "NCHW", "threads": 1,
                         "operator": {"median_ms": 0.5, "images_per_s": 256000.0}, "floor": {"median_ms": 0.25},
                         "ratio_to_floor": 2.0}],
        });
        let page = page(&bench, "CPU X\n\n| workload |\n").unwrap();
        assert!(page.contains("CPU X, 2 cores, SIMD AVX2, linux x86_64  \nmiamix 0.1.0, rustc 1.92  \n"), "{page}");
        assert!(page.contains("| A 128x3x32x32 f32 NCHW | 1 | 0.500 | 256000 | 0.250 | 2.00 |\n"), "{page}");
        assert!(page.ends_with("| workload |\n"), "{page}");
        assert!(super::page(&json!({}), "").is_err());
    }
}
