//! Python: which one, and virtual environments under `target/venv`.

use crate::command;
use crate::partial::Partial;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tried in this order; `MIAMIX_PYTHON` stands in for all of them.
const CANDIDATES: [&str; 5] = ["python3.13", "python3.12", "python3.11", "python3.10", "python3"];
const OLDEST_MINOR: u32 = 10;
/// Prints the version, then the modules that are missing.
const PROBE: &str = "import importlib.util, sys
print(*sys.version_info[:3], *(m for m in ('venv', 'ensurepip') if importlib.util.find_spec(m) is None))";

/// A Python that can make virtual environments.
#[derive(Clone, Debug, PartialEq)]
pub struct Python {
    pub program: String,
    /// Major, minor, micro.
    pub version: [u32; 3],
}

impl Python {
    /// The first that serves.
    pub fn find() -> Result<Python> {
        Python::find_among(OLDEST_MINOR..=u32::MAX)
    }

    /// Python 3 of this minor version, on the path or where pyenv keeps it.
    pub fn at_hand(minor: u32) -> Option<Python> {
        let on_path = format!("python3.{minor}");
        let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
        let pyenv = pyenv.or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
        let versions = pyenv.and_then(|pyenv| fs::read_dir(pyenv.join("versions")).ok()).into_iter().flatten();
        let mut kept: Vec<_> = versions
            .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(&on_path)))
            .filter_map(|program| Some(program.to_str()?.to_owned()))
            .collect();
        kept.sort();
        let found = [on_path, "python3".into()].into_iter().chain(kept);
        let found: Vec<_> = found.filter_map(|program| Some((probe(&program)?, program))).collect();
        let found = found.iter().map(|(printed, program)| (program.as_str(), printed.clone()));
        choose(found, &(minor..=minor)).ok()
    }

    /// The first that serves and is Python 3 of one of these minor versions.
    pub fn find_among(minors: RangeInclusive<u32>) -> Result<Python> {
        let chosen = std::env::var("MIAMIX_PYTHON").ok();
        let candidates = chosen.as_ref().map_or(CANDIDATES.to_vec(), |chosen| vec![chosen.as_str()]);
        let found = candidates.iter().filter_map(|program| Some((*program, probe(program)?)));
        choose(found, &minors).map_err(|reasons| match (&chosen, reasons.is_empty()) {
            (Some(chosen), true) => anyhow::anyhow!("MIAMIX_PYTHON: {chosen} does not start as a Python"),
            (Some(_), false) => anyhow::anyhow!("MIAMIX_PYTHON: {}", reasons.join("; ")),
            (None, true) => anyhow::anyhow!(
                "Python 3.10 or later is needed and none was found; install python3 and python3-venv, \
                 or set MIAMIX_PYTHON to one"
            ),
            (None, false) => anyhow::anyhow!("no Python serves: {}", reasons.join("; ")),
        })
    }
}

impl std::fmt::Display for Python {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, micro] = self.version;
        write!(f, "{} ({major}.{minor}.{micro})", self.program)
    }
}

/// What the probe prints; none if the program does not run.
fn probe(program: &str) -> Option<String> {
    let output = clean(Command::new(program).args(["-c", PROBE])).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first of (program, what its probe printed) that serves; or why each does not.
fn choose<'a>(
    found: impl Iterator<Item = (&'a str, String)>,
    minors: &RangeInclusive<u32>,
) -> Result<Python, Vec<String>> {
    let mut reasons = Vec::new();
    for (program, printed) in found {
        match judge(program, &printed, minors) {
            Ok(python) => return Ok(python),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons)
}

fn judge(program: &str, printed: &str, minors: &RangeInclusive<u32>) -> Result<Python, String> {
    let mut words = printed.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
    let (Some(major), Some(minor), Some(micro)) = (number(), number(), number()) else {
        return Err(format!("{program} is no Python"));
    };
    if (major, minor) < (3, *minors.start()) {
        return Err(format!("{program} is {major}.{minor}, and 3.{} is the oldest that serves", minors.start()));
    }
    if (major, minor) > (3, *minors.end()) {
        return Err(format!("{program} is {major}.{minor}, and 3.{} is the newest that serves", minors.end()));
    }
    let missing: Vec<&str> = words.collect();
    if !missing.is_empty() {
        return Err(format!(
            "{program} has no {}: install python3-venv (Debian, Ubuntu: apt install python{major}.{minor}-venv)",
            missing.join(", ")
        ));
    }
    Ok(Python { program: program.into(), version: [major, minor, micro] })
}

/// A virtual environment with the packages of a requirements file.
pub struct Venv {
    python: PathBuf,
    pub root: PathBuf,
}

impl Venv {
    /// Makes `target/venv/<name>`, or takes the one that is there and was made from the same requirements.
    pub fn of(workspace: &Workspace, name: &str, requirements: &Path, python: &Python) -> Result<Venv> {
        Venv::make(workspace, name, requirements, python, &[])
    }

    /// The same, with no package that the file does not name.
    pub fn of_no_other(workspace: &Workspace, name: &str, requirements: &Path, python: &Python) -> Result<Venv> {
        Venv::make(workspace, name, requirements, python, &["--no-deps"])
    }

    fn make(workspace: &Workspace, name: &str, requirements: &Path, python: &Python, options: &[&str]) -> Result<Venv> {
        let root = workspace.target.join("venv").join(name);
        let wanted = format!("{python}\n{}", read_requirements(requirements)?);
        let venv = Venv { python: root.join(BIN), root };
        let stamp = venv.root.join("requirements.stamp");
        if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) && venv.python.exists() {
            return Ok(venv);
        }
        let partial = bare(workspace, name, python, &[])?;
        command::run_quietly(
            &format!("Installing {}", packages(requirements)?),
            pip(&partial.path().join(BIN)).arg("install").args(options).arg("--requirement").arg(requirements),
            &workspace.log(&format!("pip-{name}")),
        )
        .context(PIP_HELP)?;
        fs::write(partial.path().join("requirements.stamp"), &wanted)?;
        partial.replace()?;
        Ok(venv)
    }

    /// Makes `target/venv/<name>` anew, with a wheel and what it requires, by the pip of this environment.
    pub fn fresh_with_wheel(&self, workspace: &Workspace, name: &str, wheel: &Path, python: &Python) -> Result<Venv> {
        let partial = bare(workspace, name, python, &["--without-pip"])?;
        command::run_quietly(
            &format!("Installing {}", wheel.file_name().unwrap_or_default().to_string_lossy()),
            self.pip().arg("--python").arg(partial.path().join(BIN)).arg("install").arg(wheel),
            &workspace.log(&format!("pip-{name}")),
        )
        .context(PIP_HELP)?;
        partial.replace()?;
        let root = workspace.target.join("venv").join(name);
        Ok(Venv { python: root.join(BIN), root })
    }

    /// Puts a wheel into it in the place of an older one; what it requires is there.
    pub fn install_wheel(&self, workspace: &Workspace, wheel: &Path) -> Result<()> {
        let mut pip = self.pip();
        pip.args(["install", "--no-deps", "--no-index", "--force-reinstall"]).arg(wheel);
        command::run_quietly("Installing the wheel", &mut pip, &workspace.log("pip-wheel"))
    }

    /// Its Python.
    pub fn python(&self) -> Command {
        let mut command = Command::new(&self.python);
        clean(&mut command);
        command
    }

    pub fn pip(&self) -> Command {
        pip(&self.python)
    }

    /// Where its packages are.
    pub fn site_packages(&self) -> Result<PathBuf> {
        let print = "import sysconfig; print(sysconfig.get_path('platlib'), end='')";
        Ok(command::capture(self.python().args(["-c", print]))?.into())
    }
}

/// An environment without packages, not yet in its place.
fn bare(workspace: &Workspace, name: &str, python: &Python, options: &[&str]) -> Result<Partial> {
    let partial = Partial::of(&workspace.target.join("venv").join(name))?;
    command::run_quietly(
        &format!("Making the Python environment {name} with {python}"),
        clean(Command::new(&python.program).args(["-m", "venv", "--clear"])).args(options).arg(partial.path()),
        &workspace.log(&format!("venv-{name}")),
    )?;
    Ok(partial)
}

const BIN: &str = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };

pub const PIP_HELP: &str = "pip could not get the packages: it needs the network, or PIP_INDEX_URL or PIP_FIND_LINKS \
                            naming a place that has them";

/// pip as a module: scripts of a moved environment would name its old place.
fn pip(python: &Path) -> Command {
    let mut pip = Command::new(python);
    clean(&mut pip).args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    pip.env("PIP_ONLY_BINARY", ":all:");
    pip
}

/// Without the caller's settings, which would bring in other packages than ours.
fn clean(command: &mut Command) -> &mut Command {
    for name in ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"] {
        command.env_remove(name);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1")
}

/// The lines of a requirements file and of those that it includes, without comments.
fn read_requirements(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines = String::new();
    for line in text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim()) {
        if let Some(other) = line.strip_prefix("-r ").or_else(|| line.strip_prefix("--requirement ")) {
            lines += &read_requirements(&file.with_file_name(other.trim()))?;
        } else if !line.is_empty() && !line.starts_with('#') {
            lines = lines + line + "\n";
        }
    }
    if lines.is_empty() {
        bail!("{} names no package", file.display());
    }
    Ok(lines)
}

/// The names of the packages, for people.
fn packages(requirements: &Path) -> Result<String> {
    let lines = read_requirements(requirements)?;
    let mut names: Vec<&str> =
        lines.lines().filter_map(|line| line.split(&[' ', '=', '<', '>', '~', ';']).next()).collect();
    names.dedup();
    Ok(names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(found: &[(&'static str, &str)], newest_minor: u32) -> Result<String, String> {
        choose(found.iter().map(|(program, printed)| (*program, printed.to_string())), &(10..=newest_minor))
            .map(|python| python.to_string())
            .map_err(|reasons| reasons.join("; "))
    }

    #[test]
    fn the_first_python_that_serves_is_chosen() {
        let found = [("python3.13", "3 13 1 ensurepip"), ("python3.11", "3 11 7\n"), ("python3", "3 9 2")];
        assert_eq!(chosen(&found, 99).unwrap(), "python3.11 (3.11.7)");
        assert_eq!(chosen(&found[..1], 99).unwrap_err().matches("python3-venv").count(), 1);
        assert!(chosen(&found[2..], 99).unwrap_err().contains("3.10 is the oldest"));
        assert!(chosen(&found, 10).unwrap_err().contains("python3.11 is 3.11, and 3.10 is the newest"));
        assert_eq!(chosen(&[("x", "hello")], 99).unwrap_err(), "x is no Python");
        assert_eq!(chosen(&[], 99).unwrap_err(), "");
    }

    #[test]
    fn included_requirements_count() {
        let folder = std::env::temp_dir().join(format!("miamix-xtask-requirements-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.txt"), "# the tests\n-r b.txt\nnumpy==2.2.6 # pinned\n").unwrap();
        fs::write(folder.join("b.txt"), "pytest==8.4.2; python_version > \"3\"\n\n").unwrap();
        let file = folder.join("a.txt");
        assert_eq!(read_requirements(&file).unwrap(), "pytest==8.4.2; python_version > \"3\"\nnumpy==2.2.6\n");
        assert_eq!(packages(&file).unwrap(), "pytest, numpy");
        fs::remove_dir_all(folder).unwrap();
    }
}
