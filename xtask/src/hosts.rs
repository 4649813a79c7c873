//! ONNX Runtime as a trainer, and in every version that can be installed: docs/hosts.md.

use crate::command::{self, heading};
use crate::photos::photos;
use crate::python::{Python, Venv};
use crate::test::{self, HOSTS, Skip};
use crate::wheel;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Options {
    /// Only hosts whose versions begin so, as 1.20; the page is printed and not written.
    #[arg(long, value_name = "VERSION")]
    only: Option<String>,
}

const PAGE: &str = "docs/hosts.md";
/// The oldest minor version of ONNX Runtime that serves.
const OLDEST: u32 = 17;
const TRAINING: &str = "onnxruntime-training";
/// The minor versions of Python 3 that the wheel of the package and one of onnxruntime-training are for.
const TRAINING_PYTHONS: RangeInclusive<u32> = 10..=11;

/// Trains inside ONNX Runtime, with the wheel of the release build.
pub fn training_tests(workspace: &Workspace) -> Result<()> {
    let venv = training_venv(workspace)?;
    venv.install_wheel(workspace, &wheel::of_release(workspace)?)?;
    let mut pytest = venv.python();
    pytest.current_dir(workspace.existing("tests/onnxruntime_training")?).env_remove("MIAMIX_LIBRARY");
    pytest.env("MIAMIX_PHOTOS", photos(workspace, &venv)?);
    command::run(pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "."]))
}

fn training_venv(workspace: &Workspace) -> Result<Venv> {
    let requirements = workspace.existing("tests/onnxruntime_training/requirements.txt")?;
    let reason = "onnxruntime-training has wheels for CPython 3.8 to 3.11, and neither 3.10 nor 3.11 is here";
    let python = TRAINING_PYTHONS.rev().find_map(Python::at_hand).ok_or_else(|| Skip(reason.into()))?;
    Venv::of(workspace, TRAINING, &requirements, &python)
}

/// The folder of what every host must do, as [`write_cases`] leaves it.
pub fn cases(workspace: &Workspace) -> PathBuf {
    workspace.target.join("host-cases")
}

/// Has the Rust API write what every host must do.
pub fn write_cases(workspace: &Workspace) -> Result<()> {
    let folder = crate::partial::Partial::of(&cases(workspace))?;
    let mut write = workspace.cargo();
    write.args(["run", "--quiet", "--locked", "-p", "miamix-onnx-model", "--example", "host_cases", "--"]);
    command::run(write.arg(folder.path()))?;
    folder.replace()
}

/// What one host did.
struct Row {
    name: String,
    python: String,
    /// How each case went, by its name; nothing where all was as in Rust.
    cases: BTreeMap<String, String>,
    /// Tests of tests/onnxruntime that passed; none where they were not run.
    n_tests: Option<Result<String>>,
    /// The same of the Rust host; none where the wheel has no library that Rust could load.
    rust: Option<Result<String>>,
}

/// Whether every host did what it must.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    command::run_quietly("Building the library", &mut workspace.release_build(), &workspace.log("release-build"))?;
    write_cases(workspace)?;
    let wanted = |version: &str| options.only.as_ref().is_none_or(|only| version.starts_with(only.as_str()));
    let mut rows = Vec::new();
    for (version, base, python) in installable()? {
        if !wanted(&version) {
            continue;
        }
        heading(&format!("ONNX Runtime {version}, {python}"));
        let venv = Venv::of(workspace, &format!("host-{version}"), &requirements(workspace, &version, base)?, &python)?;
        rows.push(try_host(workspace, &version, &venv, true)?);
    }
    if wanted(TRAINING) || options.only.is_none() {
        heading(TRAINING);
        rows.push(try_host(workspace, TRAINING, &training_venv(workspace)?, false)?);
    }
    if rows.is_empty() {
        bail!("--only: no version of ONNX Runtime that can be installed begins so");
    }
    let date = command::capture(std::process::Command::new("date").args(["-u", "+%F"]))?;
    let page = page(&rows, date.trim());
    if options.only.is_some() {
        println!("{page}");
    } else {
        fs::write(workspace.root.join(PAGE), page)?;
        println!("\n{}", workspace.root.join(PAGE).display());
    }
    Ok(rows.iter().all(Row::is_good))
}

/// The newest patch of each minor version that PyPI has for a Python at hand, oldest first, with the pinned host whose
/// other packages fit it.
fn installable() -> Result<Vec<(String, usize, Python)>> {
    let mut newest: BTreeMap<u32, (u32, Python)> = BTreeMap::new();
    let mut n_asked = 0;
    for python in (10..=14).rev().filter_map(Python::at_hand) {
        n_asked += 1;
        let mut pip = std::process::Command::new(&python.program);
        pip.args(["-m", "pip", "--disable-pip-version-check", "index", "versions", "onnxruntime"]);
        let printed = command::capture(pip.args(["--only-binary", ":all:"])).context(crate::python::PIP_HELP)?;
        for [minor, patch] in versions(&printed) {
            let fits = HOSTS[base_of(minor, patch)].1.contains(&python.version[1]);
            if fits && newest.get(&minor).is_none_or(|(other, _)| *other < patch) {
                newest.insert(minor, (patch, python.clone()));
            }
        }
    }
    if n_asked == 0 {
        bail!("no CPython 3.10 or later is here");
    }
    let all = newest.into_iter();
    Ok(all.map(|(minor, (patch, python))| (format!("1.{minor}.{patch}"), base_of(minor, patch), python)).collect())
}

/// Minor and patch of the versions that pip prints, from [`OLDEST`] on.
fn versions(printed: &str) -> Vec<[u32; 2]> {
    let line = printed.lines().find_map(|line| line.strip_prefix("Available versions: ")).unwrap_or_default();
    let numbers = line.split(", ").map(|version| version.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>());
    let numbers = numbers.filter_map(|numbers| match numbers.ok()?[..] {
        [1, minor, patch] if minor >= OLDEST => Some([minor, patch]),
        _ => None,
    });
    numbers.collect()
}

/// The newest pinned host that is no newer.
fn base_of(minor: u32, patch: u32) -> usize {
    let numbers = |host: &str| host.split('.').filter_map(|number| number.parse().ok()).collect::<Vec<u32>>();
    let older = |host: &str| numbers(host).get(1..).is_some_and(|numbers| numbers <= &[minor, patch][..]);
    HOSTS.iter().rposition(|(host, _)| older(host)).unwrap_or(0)
}

/// A file with the packages of a pinned host, and this version of ONNX Runtime.
fn requirements(workspace: &Workspace, version: &str, base: usize) -> Result<PathBuf> {
    let pinned = workspace.existing(&format!("tests/onnxruntime/requirements-{}.txt", HOSTS[base].0))?;
    let pinned = fs::read_to_string(pinned)?;
    let others = pinned.lines().filter(|line| !line.starts_with("onnxruntime=="));
    let text = others.fold(format!("onnxruntime=={version}\n"), |text, line| text + line + "\n");
    let path = workspace.target.join("hosts").join(format!("requirements-{version}.txt"));
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    fs::write(&path, text)?;
    Ok(path)
}

fn try_host(workspace: &Workspace, name: &str, venv: &Venv, whole: bool) -> Result<Row> {
    let mut cases_run = venv.python();
    cases_run.env("MIAMIX_LIBRARY", workspace.library()).arg(workspace.existing("tests/onnxruntime/cases.py")?);
    let printed = command::capture(cases_run.arg(cases(workspace)))?;
    let printed: serde_json::Value = serde_json::from_str(&printed).context("cases.py")?;
    let text = |name: &str| printed[name].as_str().unwrap_or_default().to_owned();
    let results = printed["cases"].as_object().context("cases.py printed no cases")?;
    let cases = results.iter().map(|(case, how)| (case.clone(), how.as_str().unwrap_or("?").to_owned())).collect();
    let mut row = Row { name: text("onnxruntime"), python: text("python"), cases, n_tests: None, rust: None };
    if !whole {
        row.name = format!("{name} {}", row.name);
        return Ok(row);
    }
    row.n_tests = Some(passed(
        "The tests of the operator in Python",
        test::host_pytest(workspace, venv)?.arg("tests/onnxruntime"),
        &workspace.log(&format!("host-{name}")),
        "passed",
    ));
    if let Ok(runtime) = test::runtime_library(&venv.site_packages()?.join("onnxruntime/capi")) {
        let mut rust = workspace.cargo();
        rust.env("ORT_DYLIB_PATH", runtime).env("MIAMIX_REQUIRE_ORT", "1").env("MIAMIX_LIBRARY", workspace.library());
        rust.args(["test", "--workspace", "--locked", "--test", "ort"]);
        let log = workspace.log(&format!("host-{name}-rust"));
        row.rust = Some(passed("The tests of the operator in Rust", &mut rust, &log, "passed;"));
    }
    Ok(row)
}

/// Runs tests; the number that the log has before a word.
fn passed(what: &str, command: &mut std::process::Command, log: &Path, word: &str) -> Result<String> {
    command::run_quietly(what, command, log)?;
    let text = fs::read_to_string(log)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let place = words.iter().rposition(|other| *other == word).filter(|place| *place > 0);
    Ok(words[place.context("no test was counted")? - 1].to_owned())
}

const DTYPES: [&str; 4] = ["float", "float16", "bfloat16", "uint8"];
/// As cases are named, and as the page has them.
const LABELS: [(&str, &str); 2] = [("ids", "ids"), ("soft", "rows")];

impl Row {
    fn is_good(&self) -> bool {
        let passed = |tests: &Option<Result<String>>| tests.as_ref().is_none_or(Result::is_ok);
        self.cases.values().all(String::is_empty) && passed(&self.n_tests) && passed(&self.rust)
    }

    /// Whether every case whose name begins so went well, and how many there are.
    fn cell(&self, start: &str) -> String {
        let cases: Vec<_> = self.cases.iter().filter(|(name, _)| name.starts_with(start)).collect();
        match cases.iter().filter(|(_, how)| how.is_empty()).count() {
            good if good == cases.len() && good > 0 => good.to_string(),
            good => format!("**{good} of {}**", cases.len()),
        }
    }
}

fn page(rows: &[Row], date: &str) -> String {
    let mut page = format!(
        "\
# Hosts

<!-- Written by `cargo xtask hosts`. -->

One file, `libmiamix.so`, in the newest patch of every minor version of ONNX Runtime from 1.{OLDEST} on that PyPI had on
{date} for the Pythons of one machine: Linux x86-64, CPU.

A number under a type counts cases whose every byte was that of the Rust API, one for each layout, NCHW and NHWC. A case
is run on 1, 2 and 5 threads, with batches of 12, 0, 1 and 5 samples in one session, and of 12 and 0 out of training;
compared are mixed images and labels, label weights, partners and masks. Types are those of the images and what labels
come in: class `ids`, int64 [N], or `rows`, float [N, K]. Python has no bfloat16: those images come and go through Cast
nodes, which are exact; the Rust host has them as they are.
`errors` counts those of attributes, declared shapes and inputs that came in the words that they must have, the name of
the node among them; `tests` what passed of `tests/onnxruntime`; `Rust` what passed of `bindings/c/tests/ort.rs`, where
the wheel holds a library that another language can load.

| ONNX Runtime | CPython |"
    );
    for dtype in DTYPES {
        for (_, labels) in LABELS {
            write!(page, " {dtype} {labels} |").expect("a text grows");
        }
    }
    page += " errors | tests | Rust |\n|---|---|";
    page += &"--:|".repeat(DTYPES.len() * LABELS.len() + 3);
    page += "\n";
    for row in rows {
        write!(page, "| {} | {} |", row.name, row.python).expect("a text grows");
        for dtype in DTYPES {
            for (labels, _) in LABELS {
                write!(page, " {} |", row.cell(&format!("{dtype}-{labels}-"))).expect("a text grows");
            }
        }
        let tests = |tests: &Option<Result<String>>| match tests {
            None => "–".to_owned(),
            Some(Ok(n)) => n.clone(),
            Some(Err(_)) => "**failed**".to_owned(),
        };
        writeln!(page, " {} | {} | {} |", row.cell("error-"), tests(&row.n_tests), tests(&row.rust))
            .expect("a text grows");
    }
    let wrong = rows.iter().flat_map(|row| row.cases.iter().map(move |(case, how)| (&row.name, case, how)));
    for (host, case, how) in wrong.filter(|(.., how)| !how.is_empty()) {
        write!(page, "\n* {host}, {case}: {how}").expect("a text grows");
    }
    page +=
        "\nTraining is tried with onnxruntime-training 1.19.2, the last that PyPI has: `tests/onnxruntime_training`.\n";
    page += "Node.js and browsers have no operator libraries: onnxruntime-node and onnxruntime-web load none.\n";
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_pip() {
        let printed = "onnxruntime (1.32.0)\nAvailable versions: 1.32.0, 1.24.4, 1.24.1rc1, 1.17.3, 1.16.3\n";
        assert_eq!(versions(printed), [[32, 0], [24, 4], [17, 3]]);
        assert!(versions("").is_empty());
    }

    #[test]
    fn other_packages_are_those_of_the_next_older_host() {
        let base = |minor, patch| HOSTS[base_of(minor, patch)].0;
        assert_eq!([base(17, 0), base(17, 3), base(18, 1)], ["1.17.3"; 3]);
        assert_eq!([base(19, 2), base(22, 1)], ["1.19.2"; 2]);
        assert_eq!([base(23, 2), base(32, 0)], ["1.23.2"; 2]);
    }

    #[test]
    fn a_wrong_case_is_in_the_page_and_is_not_good() {
        let cases = |how: &str| {
            let good = |name: &str| (name.to_owned(), String::new());
            let wrong = ("float-ids-nhwc".to_owned(), how.to_owned());
            BTreeMap::from([good("float-ids-nchw"), wrong, good("error-rank")])
        };
        let row = |how| Row {
            name: "1.99.0".into(),
            python: "3.12.1".into(),
            cases: cases(how),
            n_tests: Some(Ok("7".into())),
            rust: None,
        };
        assert!(row("").is_good() && row("").cell("float-ids-") == "2");
        let bad = row("run 1: masks differs");
        assert!(!bad.is_good());
        let page = page(&[bad], "2026-01-01");
        assert!(page.contains("| 1.99.0 | 3.12.1 | **1 of 2** | **0 of 0** |"), "{page}");
        assert!(page.contains("* 1.99.0, float-ids-nhwc: run 1: masks differs"), "{page}");
    }
}
