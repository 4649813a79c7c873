//! Small faults, put into a copy of the core one at a time: the tests have to notice each.

mod list;

use crate::command::{self, seconds};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use list::MUTANTS;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Only the faults whose file or description contains this text.
    only: Option<String>,
}

/// One fault: the text that stands exactly once in the file, what it becomes, and what is then wrong.
struct Mutant {
    file: &'static str,
    find: &'static str,
    replace: &'static str,
    fault: &'static str,
}

/// What of the core package is copied.
const PARTS: [&str; 7] = ["Cargo.lock", "README.md", "build.rs", "src", "tests", "benches", "kernels"];
/// Compiles in two seconds; the tests of conversions and draws spend their time in `half` and `libm`.
const PROFILE: &str = r#"
[profile.mutants]
inherits = "test"
opt-level = 0
debug = false
incremental = true
[profile.mutants.package.miamix]
opt-level = 1
[profile.mutants.package.half]
opt-level = 2
[profile.mutants.package.libm]
opt-level = 2
"#;
/// 200 000 cases each of a function for which the list has no fault.
const SKIPPED: &str = "the_portable_fma";
/// A fault may make a loop endless, which is noticed too.
const LIMIT: Duration = Duration::from_secs(120);

/// How the tests took a fault.
enum Verdict {
    CaughtBy(String),
    Survived,
    /// The entry of the list is wrong: it does not fit the source, or does not compile.
    Invalid(String),
}

/// Whether every chosen fault was noticed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let only = options.only.as_deref().unwrap_or("");
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(|m| m.file.contains(only) || m.fault.contains(only)).collect();
    if chosen.is_empty() {
        bail!("no fault has {only:?} in its file or description");
    }
    let start = Instant::now();
    let mut copy = Copy::make(workspace)?;
    eprintln!("  Building and running the tests without a fault ...");
    match copy.measure()? {
        Verdict::Survived => {}
        Verdict::CaughtBy(test) => bail!("{test} fails without any fault"),
        Verdict::Invalid(reason) => bail!("the copy of the core does not compile:\n{reason}"),
    }
    let bar = ProgressBar::new(chosen.len() as u64);
    bar.set_style(ProgressStyle::with_template("  {bar:24} {pos}/{len} {msg}")?);
    let mut missed = 0;
    for mutant in &chosen {
        bar.set_message(mutant.fault);
        let began = Instant::now();
        let verdict = copy.test_with(mutant)?;
        let word = match &verdict {
            Verdict::CaughtBy(_) => style("caught").green(),
            Verdict::Survived => style("SURVIVED").red().bold(),
            Verdict::Invalid(_) => style("INVALID").red().bold(),
        };
        let by = match &verdict {
            Verdict::CaughtBy(test) => format!("by {test}"),
            Verdict::Survived => "no test fails".into(),
            Verdict::Invalid(reason) => reason.clone(),
        };
        missed += usize::from(!matches!(verdict, Verdict::CaughtBy(_)));
        let took = seconds(began.elapsed());
        bar.suspend(|| println!("  {word:8} {}: {} ({by}, {took})", mutant.file, mutant.fault));
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("  {} of {} faults were noticed ({})", chosen.len() - missed, chosen.len(), seconds(start.elapsed()));
    Ok(missed == 0)
}

/// The step of `cargo xtask test`.
pub fn all_are_caught(workspace: &Workspace) -> Result<()> {
    if !run(workspace, &Options { only: None })? {
        bail!("a fault in the core went unnoticed, or the list of faults does not fit the core any more");
    }
    Ok(())
}

/// The core package apart from its workspace.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    /// What each test program takes, seconds.
    times: BTreeMap<String, f64>,
}

impl Copy {
    fn make(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target.join("mutants");
        let copy = Copy { tree: folder.join("tree"), target: folder.join("target"), times: BTreeMap::new() };
        if copy.tree.exists() {
            fs::remove_dir_all(&copy.tree)?;
        }
        fs::create_dir_all(&copy.tree)?;
        let manifest = fs::read_to_string(workspace.root.join("Cargo.toml"))?;
        let manifest = alone(&manifest).context("Cargo.toml")?;
        fs::write(copy.tree.join("Cargo.toml"), manifest + PROFILE)?;
        for part in PARTS {
            copy_all(&workspace.root.join(part), &copy.tree.join(part))?;
        }
        Ok(copy)
    }

    fn test_with(&self, mutant: &Mutant) -> Result<Verdict> {
        let file = self.tree.join(mutant.file);
        let sound = fs::read_to_string(&file).with_context(|| format!("cannot read {}", mutant.file))?;
        let faulty = match replace_once(&sound, mutant.find, mutant.replace) {
            Ok(faulty) => faulty,
            Err(error) => return Ok(Verdict::Invalid(format!("{error:#}"))),
        };
        fs::write(&file, faulty)?;
        let verdict = self.test();
        fs::write(&file, sound)?;
        verdict
    }

    /// The golden vectors, which notice most and compile soonest; then the core's own tests; then every test.
    /// The quick ones go first.
    fn test(&self) -> Result<Verdict> {
        let mut done = Vec::new();
        for which in [&["--test", "vectors"][..], &["--lib"], &["--tests"]] {
            let mut programs = match self.build(which)? {
                Ok(programs) => programs,
                Err(message) => return Ok(Verdict::Invalid(message)),
            };
            programs.retain(|(name, _)| !done.contains(name));
            let time = |name: &str| self.times.get(name).copied().unwrap_or(0.0);
            programs.sort_by(|(a, _), (b, _)| time(a).total_cmp(&time(b)));
            for (name, program) in programs {
                match self.run_test(&program)? {
                    Some(true) => done.push(name),
                    Some(false) => return Ok(Verdict::CaughtBy(name)),
                    None => return Ok(Verdict::CaughtBy(format!("{name}, which never ended"))),
                }
            }
        }
        Ok(Verdict::Survived)
    }

    /// As [`Copy::test`], noting what each program takes.
    fn measure(&mut self) -> Result<Verdict> {
        let programs = match self.build(&["--tests"])? {
            Ok(programs) => programs,
            Err(message) => return Ok(Verdict::Invalid(message)),
        };
        for (name, program) in programs {
            let start = Instant::now();
            if self.run_test(&program)? != Some(true) {
                return Ok(Verdict::CaughtBy(name));
            }
            self.times.insert(name, start.elapsed().as_secs_f64());
        }
        Ok(Verdict::Survived)
    }

    /// Whether the tests of a program pass; none if they do not end.
    fn run_test(&self, program: &Path) -> Result<Option<bool>> {
        let mut test = Command::new(program);
        test.current_dir(&self.tree).args(["--quiet", "--skip", SKIPPED]);
        Ok(command::status_within(&mut test, LIMIT)?.map(|status| status.success()))
    }

    /// Builds tests: their names and programs, or the compiler's first words.
    fn build(&self, which: &[&str]) -> Result<Result<Vec<(String, PathBuf)>, String>> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).stdin(Stdio::null());
        // A fault may leave a variable unused.
        cargo.env("RUSTFLAGS", "--cap-lints warn");
        cargo.args(["test", "--no-run", "--quiet", "--profile", "mutants", "--message-format", "json"]).args(which);
        let output = cargo.output().context("cannot start cargo")?;
        if command::interrupted() {
            bail!("interrupted");
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        let messages = || printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        if !output.status.success() {
            let error = messages().find(|m| m["message"]["level"] == "error");
            let rendered = error.and_then(|m| m["message"]["rendered"].as_str().map(str::to_owned));
            let rendered = rendered.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned());
            return Ok(Err(format!("does not compile: {}", rendered.trim())));
        }
        let programs: Vec<(String, PathBuf)> = messages()
            .filter(|m| m["reason"] == "compiler-artifact" && m["profile"]["test"] == true)
            .filter_map(|m| Some((m["target"]["name"].as_str()?.to_owned(), m["executable"].as_str()?.into())))
            .collect();
        if programs.is_empty() {
            bail!("cargo built no tests");
        }
        Ok(Ok(programs))
    }
}

/// The root manifest with the core as its workspace's only member.
fn alone(manifest: &str) -> Result<String> {
    let start = manifest.find("\nmembers = [").context("no members")? + 1;
    let end = start + manifest[start..].find(']').context("no end of members")? + 1;
    Ok(format!("{}members = [\".\"]{}", &manifest[..start], &manifest[end..]))
}

/// Copies a file or a folder, if it is there.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if from.is_file() {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// `text` with the one occurrence of `find` replaced.
fn replace_once(text: &str, find: &str, replacement: &str) -> Result<String> {
    match text.matches(find).count() {
        1 => Ok(text.replacen(find, replacement, 1)),
        n => bail!("the text to replace is there {n} times, not once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_occurrence_is_replaced() {
        assert_eq!(replace_once("a + b", "+", "-").unwrap(), "a - b");
        assert!(replace_once("a + b + c", "+", "-").unwrap_err().to_string().contains("2 times"));
        assert!(replace_once("a", "+", "-").unwrap_err().to_string().contains("0 times"));
    }

    #[test]
    fn every_fault_fits_the_source() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for Mutant { file, find, replace, fault } in MUTANTS {
            let text = fs::read_to_string(root.join(file)).unwrap();
            let faulty = replace_once(&text, find, replace).unwrap_or_else(|error| panic!("{file}: {fault}: {error}"));
            assert_ne!(text, faulty, "{file}: {fault}");
        }
    }

    #[test]
    fn the_core_stands_alone() {
        let manifest = "[workspace]\nresolver = \"3\"\nmembers = [\n  \".\",\n  \"cli\",\n]\n\n[package]\n";
        assert_eq!(alone(manifest).unwrap(), "[workspace]\nresolver = \"3\"\nmembers = [\".\"]\n\n[package]\n");
    }
}
