//! Every test, one step after the other.

use crate::command::{self, heading, seconds};
use crate::instructions;
use crate::java;
use crate::mutants;
use crate::neon;
use crate::photos::photos;
use crate::python::{Python, Venv};
use crate::workspace::Workspace;
use crate::{cpp, cpp_host, cuda, demo, gpu, hosts, partial, sanitize, wheel};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use console::style;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// core: what needs no ONNX Runtime; all: that and ONNX Runtime, Python, Java, the program, the demonstration,
    /// the pages; neon: the core alone, for 64-bit ARM, in an emulator (a download of 220 MB).
    #[arg(value_enum, default_value_t = Scope::All)]
    scope: Scope,
    /// A step that cannot run is a failure, as it is where CI=true is set.
    #[arg(long)]
    require_all: bool,
    /// Only the steps whose names hold this text; what they need of earlier steps must be there.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Scope {
    Core,
    All,
    Neon,
}

/// The hosts of the operator, oldest first: the end of the requirements file's name, and the minor versions of
/// Python 3 for which there are wheels.
pub const HOSTS: [(&str, RangeInclusive<u32>); 4] =
    [("1.17.3", 10..=12), ("1.19.2", 10..=12), ("1.23.2", 10..=13), ("newest", 11..=u32::MAX)];

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// A step could not run, and that is no fault of the project.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

type Step<'a> = (String, Box<dyn Fn() -> Result<()> + 'a>);

fn step<'a>(name: impl Into<String>, run: impl Fn() -> Result<()> + 'a) -> Step<'a> {
    (name.into(), Box::new(run))
}

fn steps(workspace: &Workspace, scope: Scope) -> Vec<Step<'_>> {
    let cargo = |arguments: &'static [&'static str]| move || command::run(workspace.cargo().args(arguments));
    if scope == Scope::Neon {
        return vec![step("Core on 64-bit ARM, emulated", || neon::test(workspace))];
    }
    let mut steps = vec![
        step("Rust: format", cargo(&["fmt", "--all", "--check"])),
        step("Rust: lints", cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])),
        // Everything but the examples in the documentation, which Cargo runs apart; the C tests are among them.
        step(
            "Rust and C: tests",
            cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"]),
        ),
        step(
            "Rust: examples in the documentation",
            cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--doc"]),
        ),
        step("Reference and benches: tests and golden vectors", || reference(workspace)),
        step("Core: small faults are noticed", || mutants::all_are_caught(workspace)),
        step("C and C++: headers under Clang", || cpp::clang(workspace)),
        step("CUDA: the PTX is what the sources give", || cuda::ptx(workspace, &cuda::PtxOptions { check: true })),
        step("CUDA: kernels and host code, on the CPU", || cuda::on_cpu(workspace)),
        step("Core and C: AddressSanitizer", || sanitize::address(workspace)),
        step("Core and C: ThreadSanitizer", || sanitize::thread(workspace)),
    ];
    if scope == Scope::Core {
        return steps;
    }
    steps.push(step("Release build", || command::run(&mut workspace.release_build())));
    steps.push(step("C: the release library, under Valgrind too", || release_library(workspace)));
    steps.push(step("CPU engine: no part takes more instructions", || instructions::none_takes_more(workspace)));
    steps.push(step("ONNX Runtime: what every host must do", || hosts::write_cases(workspace)));
    for (host, pythons) in HOSTS {
        steps.push(step(format!("ONNX Runtime {host}"), move || host_tests(workspace, host, &pythons)));
    }
    steps.extend([
        step("ONNX Runtime from Rust", || rust_host_tests(workspace)),
        step("ONNX Runtime from C++", || cpp_host_tests(workspace)),
        step("ONNX Runtime training", || hosts::training_tests(workspace)),
        step("Python: the wheel on every CPython that is here", || wheel::on_every_python(workspace)),
        step("Python: NumPy, torch, ONNX", || python_tests(workspace)),
        step("Python: examples", || python_examples(workspace)),
        step("C: tensors are DLPack's", || dlpack(workspace)),
        step("CUDA: what a GPU is to run, rehearsed", || gpu::rehearse(workspace, &python_venv(workspace)?)),
        step("C++: the CMake package, every way", || cpp::cmake(workspace)),
        step("C++: a trainer on LibTorch", || cpp::trainer(workspace)),
        step("Java: the jar and its tests", || java::package(workspace)),
        step("Java: examples", || java::examples(workspace)),
        step("Program: models, masks, mixing", || program(workspace)),
        step("Demonstration", || demo::run(workspace, &demo::Options::default())),
        step("Rust: documentation", || {
            let mut doc = workspace.cargo();
            // The C library has the core's name and pages of its own: include/miamix.h.
            doc.args(["doc", "--workspace", "--exclude", "miamix-c", "--lib", "--no-deps", "--locked"]);
            command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        }),
    ]);
    steps
}

/// Whether everything passed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let start = Instant::now();
    let required = required(options.require_all, std::env::var("CI").ok().as_deref());
    let mut results = Vec::new();
    let mut steps = steps(workspace, options.scope);
    if let Some(text) = &options.only {
        steps.retain(|(name, _)| name.contains(text.as_str()));
        if steps.is_empty() {
            bail!("--only: no step's name holds {text:?}");
        }
    }
    for (name, step) in steps {
        heading(&name);
        let start = Instant::now();
        let ended = step();
        if command::interrupted() {
            bail!("interrupted");
        }
        let outcome = outcome(ended, required);
        println!("{} ({})", describe(&outcome), seconds(start.elapsed()));
        results.push((name, outcome, start.elapsed()));
    }
    print!("{}", table(&results, start.elapsed()));
    Ok(results.iter().all(|(_, outcome, _)| !matches!(outcome, Outcome::Failed(_))))
}

/// Why no step may be left out, if so.
fn required(require_all: bool, ci: Option<&str>) -> Option<&'static str> {
    match (require_all, ci) {
        (true, _) => Some("--require-all"),
        (false, Some("true")) => Some("CI=true"),
        _ => None,
    }
}

fn outcome(ended: Result<()>, required: Option<&str>) -> Outcome {
    let Err(error) = ended else { return Outcome::Passed };
    match (error.downcast::<Skip>(), required) {
        (Ok(Skip(reason)), None) => Outcome::Skipped(reason),
        (Ok(Skip(reason)), Some(cause)) => {
            Outcome::Failed(format!("cannot run, and with {cause} every step must: {reason}"))
        }
        (Err(error), _) => Outcome::Failed(format!("{error:#}")),
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => style("passed").green().to_string(),
        Outcome::Failed(reason) => format!("{}: {reason}", style("failed").red().bold()),
        Outcome::Skipped(reason) => format!("{}: {reason}", style("skipped").yellow()),
    }
}

/// A line a step, then the totals.
fn table(results: &[(String, Outcome, Duration)], total: Duration) -> String {
    let width = results.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for (name, outcome, time) in results {
        text += &format!("{name:width$}  {:>12}  {}\n", seconds(*time), describe(outcome));
    }
    let count = |is: fn(&Outcome) -> bool| results.iter().filter(|(_, outcome, _)| is(outcome)).count();
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    text += &format!("{:width$}  {:>12}\n\n", "", seconds(total));
    text += &format!(
        "{} passed, {} failed",
        count(|outcome| matches!(outcome, Outcome::Passed)),
        count(|outcome| matches!(outcome, Outcome::Failed(_)))
    );
    if skipped > 0 {
        text += &format!(", {skipped} skipped");
    }
    text + "\n"
}

fn reference(workspace: &Workspace) -> Result<()> {
    let requirements = workspace.existing("xtask/reference-requirements.txt")?;
    let folder = workspace.existing("tests/reference")?;
    let venv = Venv::of(workspace, "reference", &requirements, &Python::find()?)?;
    for folder in [&folder, &workspace.existing("benches")?] {
        command::run(venv.python().current_dir(folder).args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]))?;
    }
    command::run(venv.python().current_dir(&folder).args(["make_vectors.py", "--check"]))
}

fn host_venv(workspace: &Workspace, host: &str, pythons: &RangeInclusive<u32>) -> Result<Venv> {
    let requirements = workspace.existing(&format!("tests/onnxruntime/requirements-{host}.txt"))?;
    // No Python at all is an error; none that this host knows is a reason to go on.
    Python::find()?;
    let python = Python::find_among(pythons.clone()).map_err(|error| Skip(format!("{error:#}")))?;
    Venv::of(workspace, &format!("onnxruntime-{host}"), &requirements, &python)
}

fn built_library(workspace: &Workspace) -> Result<PathBuf> {
    let library = workspace.library();
    if !library.is_file() {
        bail!("the release build left no {}", library.display());
    }
    Ok(library)
}

fn built_program(workspace: &Workspace) -> Result<PathBuf> {
    let program = workspace.program();
    if !program.is_file() {
        bail!("the release build left no {}", program.display());
    }
    Ok(program)
}

/// What the release library exports and needs, how large it is, and what Valgrind says of it.
fn release_library(workspace: &Workspace) -> Result<()> {
    /// What a trainer is willing to ship.
    const MOST_BYTES: u64 = 3_000_000;
    let library = built_library(workspace)?;
    let mut test = workspace.cargo();
    test.env("MIAMIX_LIBRARY", &library);
    command::run(test.args(["test", "--workspace", "--locked", "--test", "c_programs", "the_library_"]))?;
    let stripped = workspace.target.join("libmiamix-stripped");
    command::run(Command::new("strip").arg(&library).arg("-o").arg(&stripped))?;
    let bytes = fs::metadata(&stripped)?.len();
    println!("stripped: {:.2} MB", bytes as f64 / 1e6);
    if bytes >= MOST_BYTES {
        bail!("the stripped library has {bytes} bytes, and at most {MOST_BYTES} are meant");
    }
    sanitize::valgrind(workspace, &library)
}

fn host_tests(workspace: &Workspace, host: &str, pythons: &RangeInclusive<u32>) -> Result<()> {
    let venv = host_venv(workspace, host, pythons)?;
    command::run(host_pytest(workspace, &venv)?.arg("tests/onnxruntime"))
}

/// pytest for tests in a host, which find what was built.
pub fn host_pytest(workspace: &Workspace, venv: &Venv) -> Result<Command> {
    let mut pytest = venv.python();
    pytest.current_dir(&workspace.root).env("MIAMIX_LIBRARY", built_library(workspace)?);
    pytest.env("MIAMIX_PROGRAM", built_program(workspace)?).env("MIAMIX_CASES", hosts::cases(workspace));
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    Ok(pytest)
}

/// The newest ONNX Runtime library that there is a Python for.
pub fn newest_runtime(workspace: &Workspace) -> Result<PathBuf> {
    let mut venvs = HOSTS.iter().rev().map(|(host, pythons)| host_venv(workspace, host, pythons));
    let venv = venvs.find(|venv| !venv.as_ref().is_err_and(|error| error.is::<Skip>()));
    let venv = venv.context("no Python serves any ONNX Runtime")??;
    runtime_library(&venv.site_packages()?.join("onnxruntime/capi"))
}

/// The Rust tests that load ONNX Runtime.
fn rust_host_tests(workspace: &Workspace) -> Result<()> {
    workspace.existing("bindings/c/tests")?;
    let mut test = workspace.cargo();
    test.env("ORT_DYLIB_PATH", newest_runtime(workspace)?).env("MIAMIX_REQUIRE_ORT", "1");
    // Within the whole workspace, whose features are those of the earlier build.
    command::run(test.args(["test", "--workspace", "--locked", "--test", "ort"]))
}

/// A C++ program loads ONNX Runtime, and the operator into it: every host whose wheel has the library apart.
fn cpp_host_tests(workspace: &Workspace) -> Result<()> {
    let (library, program) = (built_library(workspace)?, built_program(workspace)?);
    let mut runtimes = Vec::new();
    for (host, pythons) in &HOSTS[1..] {
        match host_venv(workspace, host, pythons) {
            Ok(venv) => runtimes.push(runtime_library(&venv.site_packages()?.join("onnxruntime/capi"))?),
            Err(error) if error.is::<Skip>() => {}
            Err(error) => return Err(error),
        }
    }
    cpp_host::test(workspace, &library, &program, &runtimes)
}

/// ONNX Runtime's own library in a wheel.
pub fn runtime_library(capi: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(capi).with_context(|| format!("cannot read {}", capi.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let wanted = ["libonnxruntime.so.", "libonnxruntime.", "onnxruntime.dll"];
        if wanted.iter().any(|start| name.starts_with(start)) {
            return Ok(path.clone());
        }
    }
    bail!("{} holds no ONNX Runtime library", capi.display())
}

/// The minor versions of Python 3 for which there are wheels of everything that the tests of the Python package meet.
const TORCH_PYTHONS: RangeInclusive<u32> = 11..=13;

/// The environment of the Python package's tests.
pub fn torch_venv(workspace: &Workspace) -> Result<Venv> {
    let requirements = workspace.existing("bindings/python/tests/requirements.txt")?;
    let python = TORCH_PYTHONS.into_iter().find_map(Python::at_hand);
    let python = python.ok_or_else(|| Skip("torch has wheels for CPython 3.11 to 3.13, and none is here".into()))?;
    Venv::of_no_other(workspace, "python", &requirements, &python)
}

/// The same, with the wheel of the release build.
fn python_venv(workspace: &Workspace) -> Result<Venv> {
    let venv = torch_venv(workspace)?;
    venv.install_wheel(workspace, &wheel::of_release(workspace)?)?;
    Ok(venv)
}

/// What `miamix.h` says of DLPack, against DLPack's own header, which ships with torch.
fn dlpack(workspace: &Workspace) -> Result<()> {
    let header = torch_venv(workspace)?.site_packages()?.join("torch/include/ATen/dlpack.h");
    let source = workspace.existing("bindings/c/tests/c/dlpack.c")?;
    for [variable, default, language, standard] in [["CC", "cc", "c", "c11"], ["CXX", "g++", "c++", "c++17"]] {
        let mut compile = Command::new(std::env::var_os(variable).unwrap_or_else(|| default.into()));
        compile.args(["-x", language, &format!("-std={standard}"), "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]);
        compile.arg("-I").arg(workspace.existing("include")?).arg("-isystem").arg(header.parent().context("a folder")?);
        command::run(compile.arg(&source))?;
    }
    Ok(())
}

/// The tests of the Python package, as the wheel installs it.
fn python_tests(workspace: &Workspace) -> Result<()> {
    let venv = python_venv(workspace)?;
    let pytest = || -> Result<Command> {
        let mut pytest = venv.python();
        pytest.current_dir(workspace.existing("bindings/python/tests")?).env_remove("MIAMIX_LIBRARY");
        pytest.env("MIAMIX_PROGRAM", built_program(workspace)?);
        pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
        Ok(pytest)
    };
    command::run(pytest()?.args([".", "--ignore", "test_cuda.py"]))?;
    // In a process of its own: whether there is a driver is asked once.
    let mut on_stand_in = pytest()?;
    cuda::find_stand_in(workspace, &mut on_stand_in)?;
    command::run(on_stand_in.arg("test_cuda.py"))
}

/// The examples run: a little training, every figure.
fn python_examples(workspace: &Workspace) -> Result<()> {
    let venv = python_venv(workspace)?;
    let photos = photos(workspace, &venv)?;
    let out = partial::Partial::of(&workspace.target.join("figures"))?;
    let run = |script: &str, arguments: &[&str]| {
        let mut python = venv.python();
        python.arg(workspace.existing(script)?).arg("--images").arg(&photos).args(arguments);
        command::run(python.env_remove("MIAMIX_LIBRARY"))
    };
    let figures = out.path().to_str().context("a path that is text")?;
    run("examples/python/figures.py", &["--out", figures])?;
    let little = ["--epochs", "2", "--plain-epochs", "1", "--samples", "64"];
    run("examples/python/train.py", &little)?;
    run("examples/python/lightning_callback.py", &little)?;
    let little = ["--epochs", "2", "--mixup-off-epoch", "1", "--samples", "65"];
    run("examples/python/timm_style.py", &little)?;
    out.replace()
}

/// The program from outside: every preset becomes a model, masks and photographs become pictures.
fn program(workspace: &Workspace) -> Result<()> {
    let program = built_program(workspace)?;
    let photos = photos(workspace, &demo::venv(workspace)?)?;
    let out = partial::Partial::of(&workspace.target.join("program"))?;
    let run = |arguments: &[&str], out_name: &str| -> Result<()> {
        let path = out.path().join(out_name);
        command::run(Command::new(&program).args(arguments).arg("--out").arg(&path))?;
        if !path.exists() {
            bail!("miamix {} left no {out_name}", arguments.join(" "));
        }
        Ok(())
    };
    for preset in ["cifar10", "tiny-imagenet", "imagenet"] {
        for dtype in ["f32", "f16", "bf16", "u8"] {
            let arguments = ["model", "--preset", preset, "--dtype", dtype, "--num-classes", "10", "--masks"];
            run(&arguments, &format!("{preset}-{dtype}.onnx"))?;
        }
    }
    run(&["masks"], "masks.png")?;
    let mixed = out.path().join("mix");
    let mut mix = Command::new(&program);
    command::run(mix.arg("mix").arg(&photos).args(["--count", "5", "--size", "64", "--out"]).arg(&mixed))?;
    let numbered = |folder| (0..5).map(move |i| format!("{folder}/{i:04}.png"));
    let whole = ["labels.json", "plan.json", "contact-sheet.png"].map(String::from);
    for file in numbered("mixed").chain(numbered("masks")).chain(whole) {
        if !mixed.join(&file).is_file() {
            bail!("miamix mix left no {file}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_cannot_run_is_a_failure_where_all_are_required() {
        assert_eq!(required(false, None), None);
        assert_eq!(required(false, Some("false")), None);
        assert_eq!(required(false, Some("true")), Some("CI=true"));
        assert_eq!(required(true, None), Some("--require-all"));
        let skip = || Err(Skip("no Python 3.12".into()).into());
        assert!(matches!(outcome(skip(), None), Outcome::Skipped(reason) if reason == "no Python 3.12"));
        let Outcome::Failed(reason) = outcome(skip(), Some("CI=true")) else { panic!("it is no failure") };
        assert_eq!(reason, "cannot run, and with CI=true every step must: no Python 3.12");
        assert!(matches!(outcome(Ok(()), Some("CI=true")), Outcome::Passed));
        let broken = Err(anyhow::anyhow!("it broke"));
        assert!(matches!(outcome(broken, None), Outcome::Failed(reason) if reason == "it broke"));
    }

    #[test]
    fn the_table_ends_with_the_totals() {
        let second = Duration::from_secs(1);
        let step = |name: &str, outcome| (name.to_owned(), outcome, second);
        let mut results = vec![step("one", Outcome::Passed), step("other", Outcome::Failed("it broke".into()))];
        let text = table(&results, second);
        assert!(text.ends_with("\n1 passed, 1 failed\n"), "{text}");
        assert!(text.contains("it broke"), "{text}");
        results.push(step("third", Outcome::Skipped("no host".into())));
        assert!(table(&results, second).ends_with("\n1 passed, 1 failed, 1 skipped\n"));
    }
}
