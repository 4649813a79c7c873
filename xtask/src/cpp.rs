//! C++ as its users have it: both headers under Clang, the CMake package from outside, a trainer on LibTorch.

use crate::command::{self, Spinner};
use crate::photos::photos;
use crate::python::{Python, Venv};
use crate::test::{Skip, torch_venv};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Both headers, and all that the C++ one instantiates, under the Clang that PyPI's zig is.
pub fn clang(workspace: &Workspace) -> Result<()> {
    let requirements = workspace.existing("xtask/zig-requirements.txt")?;
    let venv = Venv::of(workspace, "zig", &requirements, &Python::find()?)?;
    let mut test = workspace.cargo();
    test.env("PATH", first_on_path(&venv)?).env("ZIG_GLOBAL_CACHE_DIR", workspace.target.join("zig-cache"));
    test.env("CC", "python -m ziglang cc").env("CXX", "python -m ziglang c++");
    // Within the whole workspace, whose features are those of the earlier build.
    command::run(test.args(["test", "--workspace", "--locked", "--test", "c_programs", "the_headers_are_clean"]))
}

/// Every way from the installed package to a program that runs, and what the package refuses.
pub fn cmake(workspace: &Workspace) -> Result<()> {
    let tools = Tools::find(workspace)?;
    let prefix = tools.install(workspace)?;
    let consumer = Consumer::of(workspace, &tools, &prefix)?;
    let version = consumer.version;
    for generator in ["Ninja", "Unix Makefiles"] {
        for link in [Link::Shared, Link::Static] {
            let link_option = define("LINK", link.name());
            for from in ["find_package", "pkg-config"] {
                let options = [define("FROM", from), link_option.clone()];
                consumer.runs(&format!("{from}, {}, {generator}", link.name()), generator, &options, link)?;
            }
            let mut options = vec![define("FROM", "add_subdirectory"), link_option];
            options.push(define("MIAMIX_SOURCE", &workspace.root));
            options.extend(cargo_options(workspace));
            consumer.runs(&format!("add_subdirectory, {}, {generator}", link.name()), generator, &options, link)?;
        }
    }

    let minor = version.rsplit_once('.').context("a version has dots")?.0;
    let component = |name: &str| define("COMPONENTS", format!("COMPONENTS;{name}"));
    consumer.runs("its version", "Ninja", &[define("VERSION", minor)], Link::Shared)?;
    consumer.runs("its static component", "Ninja", &[component("static")], Link::Static)?;
    consumer.runs("both components", "Ninja", &[component("shared;static")], Link::Shared)?;
    consumer.refuses("another version", &[define("VERSION", "9.0")], "compatible with requested version \"9.0\"")?;
    consumer.refuses("an unknown component", &[component("cuda")], "component cuda is not installed in")?;
    let pkg_config = [define("FROM", "pkg-config"), define("VERSION", ">=9")];
    consumer.refuses("another version, pkg-config", &pkg_config, "miamix>=9")?;

    // Where the archive alone is installed, it is what there is.
    for file in ["libmiamix.so", "libmiamix.so.0", &format!("libmiamix.so.{version}")] {
        fs::remove_file(prefix.join("lib").join(file)).with_context(|| format!("{file} was installed"))?;
    }
    consumer.runs("the archive alone", "Ninja", &[], Link::Static)?;
    consumer.refuses("a component that is missing", &[component("shared")], "component shared is not installed in")
}

/// The trainer learns, and says what mixing takes.
pub fn trainer(workspace: &Workspace) -> Result<()> {
    let tools = Tools::find(workspace)?;
    let prefix = tools.install(workspace)?;
    let venv = torch_venv(workspace)?;
    let source = workspace.existing("examples/cpp/libtorch_trainer")?;
    let work = workspace.target.join("libtorch_trainer");
    let (build, data) = (work.join("build"), work.join("data"));

    let mut configure = tools.cmake();
    configure.args(["-G", "Ninja", "-S"]).arg(&source).arg("-B").arg(&build);
    configure.arg(define("TORCH_ROOT", venv.site_packages()?.join("torch"))).arg(define("CMAKE_PREFIX_PATH", &prefix));
    let log = workspace.log("libtorch_trainer");
    command::run_quietly("Configuring the trainer", &mut configure, &log)?;
    command::run_quietly("Compiling the trainer", tools.cmake().arg("--build").arg(&build), &log)?;

    let mut pack = venv.python();
    pack.arg(source.join("pack_pictures.py")).arg("--images").arg(photos(workspace, &venv)?).arg("--out").arg(&data);
    command::run(pack.args(["--crops", "512"]))?;
    let mut train = Command::new(build.join("trainer"));
    let printed = command::capture(train.arg(&data).args(["--epochs", "4", "--batch-size", "64"]))?;
    print!("{printed}");
    check_training(&printed)
}

/// What the trainer prints: falling loss while it mixes, the share of mixing, accuracies beside chance.
fn check_training(printed: &str) -> Result<()> {
    let number = |start: &str, end: &str| -> Option<f64> {
        printed.lines().find_map(|line| line.trim().strip_prefix(start)?.split_once(end)?.0.trim().parse().ok())
    };
    let found = |what: &str, value: Option<f64>| value.with_context(|| format!("the trainer printed no {what}"));
    let epochs = printed.split("without").next().unwrap_or_default().lines();
    let losses: Vec<f64> = epochs
        .filter(|line| !line.ends_with("not mixed"))
        .filter_map(|line| line.split_once(": loss ")?.1.parse().ok())
        .collect();
    ensure!(losses.len() >= 2, "the trainer printed the loss of {} mixed epochs", losses.len());
    ensure!(losses[losses.len() - 1] < losses[0], "the loss did not fall: {losses:?}");
    let share = found("share of mixing", number("mixing takes ", " % of the CPU time"))?;
    ensure!(share > 0.0, "mixing cannot take {share} % of a step");
    // CPU times of two threads in one run: other work on the machine moves both.
    ensure!(share < 5.0, "mixing takes {share} % of a step, and may take 5");
    let chance = found("chance", number("chance ", " %"))?;
    for name in ["with MiAMix", "without"] {
        let accuracy = found("accuracy", number(&format!("{name} "), " %"))?;
        // Guesses at 128 crops of seven pictures scatter by 3.1 %: five times that.
        ensure!(accuracy > chance + 15.5, "{name}: {accuracy} % may be chance");
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Link {
    Shared,
    Static,
}

impl Link {
    fn name(self) -> &'static str {
        match self {
            Link::Shared => "shared",
            Link::Static => "static",
        }
    }
}

/// CMake, and what it calls.
struct Tools {
    path: OsString,
    pkg_config: Option<PathBuf>,
}

impl Tools {
    /// Ninja and pkg-config come from PyPI where they are missing.
    fn find(workspace: &Workspace) -> Result<Tools> {
        let starts = |program: &str| {
            let mut version = Command::new(program);
            version.arg("--version").stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
        };
        if !starts("cmake") {
            return Err(Skip("there is no cmake; CMake 3.21 or later is needed".into()).into());
        }
        if starts("ninja") && starts("pkg-config") {
            return Ok(Tools { path: std::env::var_os("PATH").unwrap_or_default(), pkg_config: None });
        }
        let requirements = workspace.existing("xtask/cmake-requirements.txt")?;
        let venv = Venv::of(workspace, "cmake", &requirements, &Python::find()?)?;
        // The program itself: the script of that name holds the path where the environment was made.
        let pkg_config = venv.site_packages()?.join("pkgconf/.bin/pkgconf");
        ensure!(pkg_config.is_file(), "the package pkgconf holds no {}", pkg_config.display());
        Ok(Tools { path: first_on_path(&venv)?, pkg_config: Some(pkg_config) })
    }

    /// CMake without the caller's settings, which would bring in another miamix.
    fn cmake(&self) -> Command {
        let mut cmake = Command::new("cmake");
        for name in ["CMAKE_PREFIX_PATH", "CMAKE_GENERATOR", "CMAKE_INSTALL_PREFIX", "DESTDIR", "miamix_DIR"] {
            cmake.env_remove(name);
        }
        if let Some(pkg_config) = &self.pkg_config {
            cmake.env("PKG_CONFIG", pkg_config);
        }
        cmake.env("PATH", &self.path).stdin(Stdio::null());
        cmake
    }

    /// Builds and installs the package, then moves it, to a folder whose name has a space.
    fn install(&self, workspace: &Workspace) -> Result<PathBuf> {
        let work = workspace.target.join("cmake");
        let (build, first, moved) = (work.join("build"), work.join("installed"), work.join("moved here"));
        for folder in [&first, &moved] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        let mut configure = self.cmake();
        configure.args(["-G", "Ninja", "-S"]).arg(&workspace.root).arg("-B").arg(&build);
        // Some systems have lib64 by themselves, and the checks look into one place.
        configure.arg("-DCMAKE_INSTALL_LIBDIR=lib");
        let log = workspace.log("cmake");
        command::run_quietly("Configuring the package", configure.args(cargo_options(workspace)), &log)?;
        command::run_quietly("Building the package", self.cmake().arg("--build").arg(&build), &log)?;
        let mut install = self.cmake();
        install.arg("--install").arg(&build).arg("--prefix").arg(&first);
        command::run_quietly("Installing it", &mut install, &log)?;
        fs::rename(&first, &moved).context("the installed tree is there")?;
        Ok(moved)
    }
}

/// The project of `tests/cmake/consumer`, built in a fresh folder each time.
struct Consumer<'a> {
    tools: &'a Tools,
    source: PathBuf,
    build: PathBuf,
    prefix: &'a Path,
    version: &'a str,
}

impl<'a> Consumer<'a> {
    fn of(workspace: &'a Workspace, tools: &'a Tools, prefix: &'a Path) -> Result<Consumer<'a>> {
        Ok(Consumer {
            tools,
            source: workspace.existing("tests/cmake/consumer")?,
            build: workspace.target.join("cmake/consumer"),
            prefix,
            version: &workspace.version,
        })
    }

    /// Whether it could be configured, and what CMake said, in one line.
    fn configure(&self, generator: &str, options: &[OsString]) -> Result<(bool, String)> {
        if self.build.exists() {
            fs::remove_dir_all(&self.build)?;
        }
        let mut cmake = self.tools.cmake();
        cmake.args(["-G", generator, "-S"]).arg(&self.source).arg("-B").arg(&self.build);
        let output = cmake.arg(define("CMAKE_PREFIX_PATH", self.prefix)).args(options).output()?;
        Ok((output.status.success(), said(&output)))
    }

    /// The program is built, linked in this way, and runs.
    fn runs(&self, what: &str, generator: &str, options: &[OsString], link: Link) -> Result<()> {
        let spinner = Spinner::start(&format!("Package: {what}"));
        let (configured, text) = self.configure(generator, options)?;
        ensure!(configured, "{what}: {text}");
        let build = self.tools.cmake().arg("--build").arg(&self.build).output()?;
        ensure!(build.status.success(), "{what}: {}", said(&build));
        let program = self.build.join("consumer");
        let printed = command::capture(Command::new(&program).env_remove("LD_LIBRARY_PATH"))?;
        let expected = format!("ok {}\n", self.version);
        ensure!(printed == expected, "{what}: printed {printed:?}, expected {expected:?}");
        // The name by which a dynamic program asks for the library.
        let needed = b"libmiamix.so.0\0";
        let is_shared = fs::read(&program)?.windows(needed.len()).any(|bytes| bytes == needed);
        ensure!(is_shared == (link == Link::Shared), "{what}: is not {}", link.name());
        spinner.finish();
        Ok(())
    }

    /// CMake stops, and says why.
    fn refuses(&self, what: &str, options: &[OsString], reason: &str) -> Result<()> {
        let spinner = Spinner::start(&format!("Package: {what} is refused"));
        let (configured, text) = self.configure("Ninja", options)?;
        if configured || !text.contains(reason) {
            bail!("{what}: expected an error with {reason:?}, got: {text}");
        }
        spinner.finish();
        Ok(())
    }
}

/// So that nothing is compiled twice: the target folder, and the packages that the release build names.
fn cargo_options(workspace: &Workspace) -> [OsString; 2] {
    [
        define("MIAMIX_CARGO_TARGET_DIR", &workspace.target),
        define("MIAMIX_CARGO_FLAGS", "--locked;--package;miamix-cli"),
    ]
}

/// `-DNAME=VALUE`
fn define(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut option = OsString::from(format!("-D{name}="));
    option.push(value);
    option
}

/// What a program printed, with single spaces: CMake breaks lines anywhere.
fn said(output: &std::process::Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The search path, with the programs of an environment before all others.
fn first_on_path(venv: &Venv) -> Result<OsString> {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(venv.root.join("bin")).chain(std::env::split_paths(&inherited));
    std::env::join_paths(folders).context("PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "with MiAMix\n  epoch 1: loss 1.500\n  epoch 2: loss 1.250\n  epoch 3: loss 1.600, not mixed\n  \
                           mixing takes 0.69 % of the CPU time of a step: 0.55 ms beside 79.5 ms of training\n\
                           without\n  epoch 1: loss 0.961, not mixed\n\
                           7 classes, 512 training images; accuracy on 128 test images:\n  \
                           with MiAMix   75.8 %\n  without       71.9 %\n  chance        14.3 %\n";

    #[test]
    fn training_is_read() {
        check_training(PRINTED).unwrap();
        let fails = |from: &str, to: &str, reason: &str| {
            assert!(PRINTED.contains(from));
            let error = check_training(&PRINTED.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        fails("loss 1.250", "loss 1.500", "did not fall");
        fails("loss 1.250", "loss 1.250, not mixed", "1 mixed epochs");
        fails("mixing takes 0.69 %", "mixing takes a %", "no share of mixing");
        fails("mixing takes 0.69 %", "mixing takes 0.00 %", "cannot take");
        fails("mixing takes 0.69 %", "mixing takes 5.00 %", "may take 5");
        fails("  chance        14.3 %\n", "", "no chance");
        fails("with MiAMix   75.8 %", "with MiAMix   29.7 %", "may be chance");
    }
}
