//! What only a GPU can show: packed here into one folder, and run there in one call, without Rust.

use crate::command;
use crate::cuda;
use crate::partial::Partial;
use crate::python::{PIP_HELP, Python, Venv};
use crate::wheel;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Packs all that a machine with a GPU needs into target/gpu: there, `python3 run.py --out DIR` runs it.
    Pack {
        #[command(flatten)]
        pack: PackOptions,
        /// The Python of that machine, for the wheels of packages that may be missing there.
        #[arg(long, value_name = "VERSION", default_value = USUAL_PYTHON)]
        python_version: String,
    },
    /// Packs, and runs it on this machine; the report goes to docs/gpu.
    Run(RunOptions),
}

#[derive(Args)]
struct PackOptions {
    /// The library for every Linux with glibc 2.17 or later: builds through zig.
    #[arg(long)]
    portable: bool,
}

/// The Python of the machines that most images with torch have.
const USUAL_PYTHON: &str = "3.12";

#[derive(Args)]
struct RunOptions {
    /// A Python with NumPy and torch.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    #[command(flatten)]
    pack: PackOptions,
}

/// Models for ONNX Runtime: type of images, order of axes, labels.
const MODELS: [[&str; 3]; 3] = [["f32", "nchw", "ids"], ["f16", "nhwc", "soft"], ["u8", "nhwc", "ids"]];
/// What may be sent to a machine elsewhere, with the working tree beside it.
const MOST_BYTES: u64 = 60 << 20;
const REPORTS: &str = "docs/gpu";

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let folder = workspace.target.join("gpu");
    let (pack_options, version) = match &options.task {
        Task::Pack { pack, python_version } => (pack, python_version.clone()),
        Task::Run(run) => (&run.pack, version_of(&run.python)?),
    };
    command::run(&mut workspace.release_build())?;
    let library = if pack_options.portable { wheel::portable_library(workspace)? } else { workspace.library() };
    let bytes = pack(workspace, &library, &folder, Some(&version))?;
    match &options.task {
        Task::Pack { .. } => {
            println!("{}: {:.1} MiB; there: python3 run.py --out DIR", folder.display(), bytes as f64 / 1_048_576.0);
            Ok(())
        }
        Task::Run(run) => {
            let mut python = Command::new(&run.python);
            python.arg(folder.join("run.py")).arg("--out").arg(workspace.root.join(REPORTS));
            command::run(&mut python)
        }
    }
}

/// Major and minor version of a Python, as pip takes them.
fn version_of(python: &Path) -> Result<String> {
    let mut command = Command::new(python);
    command.args(["-c", "import sys; print('{}.{}'.format(*sys.version_info))"]);
    let version = command::capture(&mut command)?;
    Ok(version.trim().to_owned())
}

/// Packs everything into a folder, which then holds nothing else; its size in bytes.
///
/// `wheels_for`: the Python for which to bring packages that may be missing there.
fn pack(workspace: &Workspace, library: &Path, folder: &Path, wheels_for: Option<&str>) -> Result<u64> {
    let partial = Partial::of(folder)?;
    let package = partial.path().join("miamix");
    copy_scripts(&workspace.existing("tests/gpu")?, partial.path())?;
    copy_scripts(&workspace.existing("bindings/python/miamix")?, &package)?;
    fs::copy(library, package.join("libmiamix.so")).with_context(|| format!("cannot copy {}", library.display()))?;
    let models = partial.path().join("models");
    fs::create_dir_all(&models)?;
    for [dtype, layout, labels] in MODELS {
        let mut model = Command::new(workspace.program());
        model.args(["model", "--dtype", dtype, "--layout", layout, "--channels", "3", "--label-smoothing", "0.1"]);
        model.args(if labels == "soft" { &["--soft-labels"][..] } else { &["--num-classes", "10"] });
        command::capture(model.arg("--out").arg(models.join(format!("{dtype}-{layout}-{labels}.onnx"))))?;
    }
    if let Some(version) = wheels_for {
        // Nothing but a line of the report depends on them.
        let wheels = partial.path().join("wheels");
        if let Err(error) = download(workspace, version, &wheels) {
            if command::interrupted() {
                return Err(error);
            }
            eprintln!("warning: without kornia, where that machine has none: {error:#}");
            if wheels.exists() {
                fs::remove_dir_all(&wheels)?; // half of them would be installed
            }
        }
    }
    let about = serde_json::json!({ "commit": commit(workspace) });
    fs::write(partial.path().join("about.json"), about.to_string())?;
    let bytes = size(partial.path())?;
    if bytes > MOST_BYTES {
        bail!("{} would have {bytes} bytes, and {MOST_BYTES} are the most that is sent", folder.display());
    }
    partial.replace()?;
    Ok(bytes)
}

fn copy_scripts(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            fs::copy(&path, to.join(path.file_name().context("a file")?))?;
        }
    }
    Ok(())
}

/// Peers whose packages machines with torch may lack.
fn download(workspace: &Workspace, version: &str, to: &Path) -> Result<()> {
    let venv = Venv::of(workspace, "wheel", &workspace.existing("xtask/wheel-requirements.txt")?, &Python::find()?)?;
    let mut pip = venv.pip();
    pip.args(["download", "--no-deps", "--only-binary", ":all:", "--implementation", "cp"]);
    pip.args(["--python-version", version, "--platform", "manylinux2014_x86_64", "--dest"]).arg(to);
    pip.arg("--requirement").arg(workspace.existing("xtask/gpu-requirements.txt")?);
    let log = workspace.log("gpu-wheels");
    command::run_quietly("Downloading kornia, to measure it beside ours", &mut pip, &log).context(PIP_HELP)
}

/// The commit that is packed, and whether files differ from it.
fn commit(workspace: &Workspace) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(&workspace.root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "HEAD"]), git(&["status", "--porcelain", "--untracked-files=no"])) {
        (Some(commit), Some(changes)) if changes.is_empty() => commit,
        (Some(commit), _) => format!("{commit}, with changes"),
        (None, _) => "unknown".to_owned(),
    }
}

fn size(folder: &Path) -> Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        Ok(sum + if metadata.is_dir() { size(&entry.path())? } else { metadata.len() })
    })
}

/// The file of a report with that extension.
fn report_file(report: &Path, extension: &str) -> Result<PathBuf> {
    let mut files = fs::read_dir(report)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files.find(|path| path.extension().is_some_and(|found| found == extension));
    file.with_context(|| format!("{} has no .{extension}", report.display()))
}

/// Runs all of it on the stand-in driver, where only the numbers are missing.
///
/// `venv`: with torch, NumPy and ONNX Runtime.
pub fn rehearse(workspace: &Workspace, venv: &Venv) -> Result<()> {
    // An older library beside newer kernels and scripts would be rehearsed.
    command::run(&mut workspace.release_build())?;
    let folder = workspace.target.join("gpu-rehearsal");
    pack(workspace, &workspace.library(), &folder, None)?;
    let before = |name: &str, first: PathBuf| {
        let inherited = std::env::var_os(name);
        std::env::join_paths([first].into_iter().chain(inherited.iter().flat_map(std::env::split_paths)))
    };
    let (driver, tools) = (cuda::stand_in(workspace)?, workspace.existing("tests/gpu/stand-in")?);
    let (libraries, programs) = (before("LD_LIBRARY_PATH", driver)?, before("PATH", tools)?);
    let rehearsal = |report: &str| {
        let mut python = venv.python();
        python.env("LD_LIBRARY_PATH", &libraries).env("PATH", &programs);
        python.arg(folder.join("run.py")).arg("--without-hardware").arg("--out").arg(folder.join(report));
        python
    };
    let report = folder.join("report");
    command::run(&mut rehearsal("report"))?;
    let page = |report: &Path| -> Result<String> { Ok(fs::read_to_string(report_file(report, "md")?)?) };
    let status_of = |mut python: Command| -> Result<Option<i32>> {
        let status = command::status_within(&mut python, Duration::from_secs(120))?;
        Ok(status.and_then(|status| status.code()))
    };
    // A part for which there is no time is not run, and what was found before stays.
    let whole = page(&report)?;
    let mut hurried = rehearsal("report");
    hurried.args(["--only", "load", "--seconds", "0"]);
    let status = status_of(hurried)?;
    if status != Some(2) || page(&report)? != whole || whole.contains("--only") {
        bail!("a part without time changes the page, or is not told of: {status:?}");
    }
    let mut alone = rehearsal("report");
    alone.args(["--only", "load"]);
    let status = status_of(alone)?;
    if status != Some(0) || page(&report)?.contains("--only") {
        bail!("a part that is run alone loses the others: {status:?}");
    }
    // A compute-sanitizer that says nothing, one that finds nothing, and one that finds something everywhere.
    for (fault, check) in
        [("silent", "nothing is reported"), ("blind", "a planted fault is found"), ("keen", "nothing is reported")]
    {
        let mut python = rehearsal(fault);
        python.env("STAND_IN_SANITIZER", fault).args(["--only", "racecheck"]);
        let status = status_of(python)?;
        let page = page(&folder.join(fault))?;
        if status != Some(1) || !page.contains(&format!("| {check} | **failed** |")) {
            bail!("a {fault} compute-sanitizer passes: {status:?}");
        }
        if fault == "keen" && !page.contains("Invalid __shared__ write of size 4 bytes / at racecheck+0x10 / by thread")
        {
            bail!("what compute-sanitizer found is not told");
        }
    }
    // A device that is lost on the way, and one that hangs: what was compared before stays, a new process goes on with
    // what comes after, and the log says how it ended.
    let ends = [("LOSE", "cuMemcpyDtoHAsync_v2 failed with 700"), ("HANG", "no end after 5 s")];
    for (fault, words) in ends {
        let (report, mut python) = (folder.join(fault), rehearsal(fault));
        python.env(format!("STAND_IN_{fault}"), "60").env("MIAMIX_GPU_PATIENCE", "5").args(["--only", "equality"]);
        let status = status_of(python)?;
        let (page, log) = (page(&report)?, fs::read_to_string(report_file(&report, "log")?)?);
        let told = [
            "| float32, NCHW |",
            "| uploaded plans |",
            "| equal |",
            words,
            "every byte is the CPU engine's | **failed**",
        ];
        let untold: Vec<_> = told.into_iter().filter(|words| !page.contains(words)).collect();
        if status != Some(2) || !untold.is_empty() || !log.contains("most recent call") {
            bail!("{}: {status:?}, without {untold:?}", report.display());
        }
    }
    // Where all of it is killed, what the part under way has found is on the disk.
    let (report, mut python) = (folder.join("killed"), rehearsal("killed"));
    python.env("STAND_IN_HANG", "60").args(["--only", "equality"]);
    let status = command::status_within(&mut python, Duration::from_secs(12))?;
    let left = fs::read_dir(&report)?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.is_dir());
    let left = left.with_context(|| format!("{} has no findings of the part under way", report.display()))?;
    let found = fs::read_to_string(report_file(&left, "json")?)?;
    let log = fs::read_to_string(report_file(&left, "log")?)?;
    if status.is_some() || !found.contains("\"equal\"") || !log.contains("float32, NCHW: ") {
        bail!("{}: not what the part under way has found", left.display());
    }
    // A compiler that refuses the kernels: what it says.
    let mut python = rehearsal("refused");
    python.env("STAND_IN_PTX", "refused").args(["--only", "load"]);
    let status = status_of(python)?;
    if status != Some(2)
        || !page(&folder.join("refused"))?.contains("cuModuleLoadDataEx failed with 218: ptxas application")
    {
        bail!("what the driver's compiler says is not told: {status:?}");
    }
    // A bit that is wrong in what comes from the device: no part that compares may pass.
    for part in ["equality", "graphs", "streams", "python"] {
        let mut python = rehearsal("flipped");
        python.env("STAND_IN_FLIP", "1").args(["--only", part]);
        let status = status_of(python)?;
        if status != Some(1) {
            bail!("{part} does not notice a bit that is wrong: {status:?}");
        }
    }
    Ok(())
}
