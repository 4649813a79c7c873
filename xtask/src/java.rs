//! The Java package: its jar, its tests and its examples, by Maven, with everything that it downloads under `target/`.

use crate::command::{self, heading};
use crate::demo;
use crate::partial::Partial;
use crate::photos::photos;
use crate::test::Skip;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The Java version of the package's bytecode.
const JAVA: u32 = 17;

/// Builds the jar with the library of the release build, tests it, and puts it where the examples find it.
pub fn package(workspace: &Workspace) -> Result<()> {
    let project = workspace.existing("bindings/java/pom.xml")?;
    let library = workspace.library();
    let program = workspace.program();
    for built in [&library, &program] {
        if !built.is_file() {
            bail!("the release build left no {}", built.display());
        }
    }
    let reports = workspace.target.join("java/surefire-reports");
    if reports.exists() {
        fs::remove_dir_all(&reports)?;
    }
    let mut maven = maven(workspace, &project)?;
    maven.arg(property("miamix.library", &library)).arg(property("miamix.program", &program));
    // The reports are read from there.
    maven.arg(property("cargo.target", &workspace.target)).arg("install");
    command::run_quietly("Packing and testing the jar", &mut maven, &workspace.log("java")).context(MAVEN_HELP)?;
    let counts = counts(&reports)?;
    heading(&format!("{} tests of the Java package passed, {} did not run", counts.passed, counts.skipped));
    if counts.passed == 0 {
        bail!("no test of the Java package ran");
    }
    Ok(())
}

/// Photographs mixed in ONNX Runtime, and a little training.
pub fn examples(workspace: &Workspace) -> Result<()> {
    let photos = photos(workspace, &demo::venv(workspace)?)?;
    let out = Partial::of(&workspace.target.join("java-examples"))?;
    let model = out.path().join("model.onnx");
    let mut write = Command::new(workspace.program());
    write.args(["model", "--dtype", "u8", "--layout", "nhwc", "--num-classes", "10", "--out"]);
    command::run(write.arg(&model))?;
    let picture = out.path().join("mixed.png");
    run(workspace, "examples/java/onnxruntime/pom.xml", &[text(&model)?, text(&photos)?, text(&picture)?])?;
    if !picture.is_file() {
        bail!("the ONNX Runtime example left no {}", picture.display());
    }
    let little = ["--epochs", "2", "--plain-epochs", "1", "--samples", "64"];
    run(workspace, "examples/java/train/pom.xml", &[&["--images", text(&photos)?], &little[..]].concat())?;
    out.replace()
}

/// Compiles and runs one of the examples, which depend on the installed jar.
fn run(workspace: &Workspace, project: &str, arguments: &[&str]) -> Result<()> {
    let name = project.rsplit('/').nth(1).unwrap_or(project);
    let project = workspace.existing(project)?;
    let mut compile = maven(workspace, &project)?;
    let log = workspace.log(&format!("java-{name}"));
    command::run_quietly(&format!("Building examples/java/{name}"), compile.arg("compile"), &log)
        .context(MAVEN_HELP)?;
    let mut run = maven(workspace, &project)?;
    if let Some(spaced) = arguments.iter().find(|argument| argument.contains(char::is_whitespace)) {
        return Err(Skip(format!("Maven takes no argument with a space in it, and here is one: {spaced}")).into());
    }
    // What DJL unpacks, and nothing else: it is not to download at run time.
    run.args(["--quiet", "-Dai.djl.offline=true"]).arg(property("DJL_CACHE_DIR", &workspace.target.join("djl")));
    command::run(run.arg("exec:java").arg(format!("-Dexec.args={}", arguments.join(" "))))
}

const MAVEN_HELP: &str = "Maven needs Maven Central, or what it had from there before (target/maven)";

/// Maven on a project, with its repository, and what Java programs unpack, under `target/`.
fn maven(workspace: &Workspace, project: &Path) -> Result<Command> {
    let version = Command::new("mvn").arg("-version").output();
    let Ok(version) = version else {
        return Err(Skip("mvn: no such program; Maven 3.8 or later is needed (Debian: maven)".into()).into());
    };
    let Some(java) = java_of(&String::from_utf8_lossy(&version.stdout)) else {
        let cause = String::from_utf8_lossy(&version.stderr).trim().to_owned();
        let reason =
            format!("Maven finds no Java; a JDK {JAVA} or later is needed (Debian: openjdk-17-jdk-headless): {cause}");
        return Err(Skip(reason).into());
    };
    if java < JAVA {
        let reason = format!(
            "Maven uses Java {java}; a JDK {JAVA} or later is needed (Debian: openjdk-17-jdk-headless, or set JAVA_HOME)"
        );
        return Err(Skip(reason).into());
    }
    let compiler = match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/javac"),
        None => "javac".into(),
    };
    if Command::new(&compiler).arg("-version").output().is_err() {
        let reason = format!(
            "{}: no such program; a JDK {JAVA} or later is needed, not a JRE (Debian: openjdk-17-jdk-headless)",
            compiler.display()
        );
        return Err(Skip(reason).into());
    }
    let mut maven = Command::new("mvn");
    maven
        .current_dir(&workspace.root)
        .args(["--batch-mode", "--no-transfer-progress", "-Dstyle.color=never", "--file"])
        .arg(project);
    maven.arg(property("maven.repo.local", &workspace.target.join("maven")));
    let unpacked = workspace.target.join("java-unpacked");
    fs::create_dir_all(&unpacked)?;
    maven.arg(property("jna.tmpdir", &unpacked)).arg(property("ai.miamix.cache", &unpacked.join("miamix")));
    // The library in the jar is what is meant.
    maven.env_remove("MIAMIX_LIBRARY");
    Ok(maven)
}

fn property(name: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(format!("-D{name}="));
    argument.push(path);
    argument
}

/// The major version in what `mvn -version` prints.
fn java_of(text: &str) -> Option<u32> {
    let version = text.split("Java version: ").nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: usize,
    skipped: usize,
}

/// What the reports of the test runner say; a failure has ended Maven before.
fn counts(reports: &Path) -> Result<Counts> {
    let mut counts = Counts::default();
    for entry in fs::read_dir(reports).with_context(|| format!("cannot read {}", reports.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "txt") {
            let (run, skipped) =
                counts_of(&fs::read_to_string(&path)?).with_context(|| format!("{} has no counts", path.display()))?;
            counts.passed += run - skipped;
            counts.skipped += skipped;
        }
    }
    Ok(counts)
}

/// Tests run and tests skipped, from `Tests run: 11, Failures: 0, Errors: 0, Skipped: 1, …`.
fn counts_of(report: &str) -> Option<(usize, usize)> {
    let number = |name: &str| report.split(name).nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    Some((number("Tests run: ")?, number("Skipped: ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_java_is_found() {
        assert_eq!(java_of("Apache Maven 3.8.7\nJava version: 17.0.15, vendor: Debian"), Some(17));
        assert_eq!(java_of("Apache Maven 4.0.0\nJava version: 25, vendor: Eclipse"), Some(25));
        assert_eq!(java_of("no such thing"), None);
    }

    #[test]
    fn tests_are_counted() {
        let report = "Test set: A\nTests run: 11, Failures: 0, Errors: 0, Skipped: 1, Time elapsed: 8.9 s -- in A\n";
        assert_eq!(counts_of(report), Some((11, 1)));
        assert_eq!(counts_of("Test set: A"), None);
    }
}
