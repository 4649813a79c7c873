//! The core's tests on 64-bit ARM, in an emulator: what its NEON level computes.
//!
//! Compiler, linker and emulator are Debian's, unpacked under `target/neon`: nothing is installed.

use crate::command;
use crate::partial::Partial;
use crate::test::Skip;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Checksums and file names of the packages, as `sha256sum` has them.
const PACKAGES: &str = "xtask/neon-packages.sha256";
/// The tests of what an instruction set may change.
const TESTS: [&str; 9] =
    ["backward", "distributions", "edges", "levels", "misuse", "mixing", "out_of_memory", "reproducible", "vectors"];
/// 200 000 cases each of a function that is the same everywhere: they take an emulator minutes.
const SKIPPED: &str = "the_portable_fma";

pub fn test(workspace: &Workspace) -> Result<()> {
    let root = tools(workspace)?;
    let usr = root.join("usr");
    let program = |name: &str| usr.join("bin").join(name);
    let sysroot = format!("--sysroot={}", root.display());
    let emulator =
        format!("{} -L {}", program("qemu-aarch64-static").display(), usr.join("aarch64-linux-gnu").display());
    let mut test = workspace.cargo();
    test.env("RUSTC", program("rustc"))
        .env("LD_LIBRARY_PATH", usr.join("lib/x86_64-linux-gnu"))
        .env("CARGO_TARGET_DIR", workspace.target.join("neon/target"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", program("aarch64-linux-gnu-gcc-12"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", format!("-Clink-arg={sysroot}"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", emulator)
        .env("CC_aarch64_unknown_linux_gnu", program("aarch64-linux-gnu-gcc-12"))
        .env("AR_aarch64_unknown_linux_gnu", program("aarch64-linux-gnu-ar"))
        .env("CFLAGS_aarch64_unknown_linux_gnu", sysroot);
    test.args(["test", "--locked", "--no-fail-fast", "--target", TARGET, "-p", "miamix", "--lib"]);
    test.args(TESTS.iter().flat_map(|name| ["--test", name]));
    // Any batch takes an emulator ten times as long; compiling is done sooner with less optimisation.
    test.env("PROPTEST_CASES", "10");
    test.args(["--config", "profile.test.opt-level=1", "--config", "profile.test.debug=false"]);
    command::run(test.args(["--", "--skip", SKIPPED]))
}

/// The packages, unpacked.
fn tools(workspace: &Workspace) -> Result<PathBuf> {
    let list = fs::read_to_string(workspace.existing(PACKAGES)?)?;
    let root = workspace.target.join("neon/root");
    let stamp = root.join("packages");
    if fs::read_to_string(&stamp).is_ok_and(|unpacked| unpacked == list) {
        return Ok(root);
    }
    let partial = Partial::of(&root)?;
    unpack(&list, partial.path(), &workspace.target.join("neon/apt"), &workspace.log("neon-packages"))
        .map_err(|error| Skip(format!("Debian's packages of {PACKAGES} are not to be had here: {error:#}")))?;
    fs::write(partial.path().join("packages"), &list)?;
    partial.replace()?;
    Ok(root)
}

fn unpack(list: &str, root: &Path, apt: &Path, log: &Path) -> Result<()> {
    let packages: Vec<String> = list.lines().map(package).collect::<Option<_>>().context("a line names no package")?;
    // Lists and packages of both architectures, apart from the system's.
    let (lists, cache, debs) = (apt.join("lists"), apt.join("cache"), apt.join("debs"));
    for folder in [lists.join("partial"), cache.join("archives/partial"), debs.clone()] {
        fs::create_dir_all(folder)?;
    }
    let config = format!(
        "Dir::State::lists \"{}\";\nDir::Cache \"{}\";\nAPT::Architectures {{\"amd64\"; \"arm64\";}};\n",
        lists.display(),
        cache.display()
    );
    fs::write(apt.join("config"), config)?;
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", apt.join("config")).current_dir(&debs);
        command
    };
    command::run_quietly("Reading the lists of packages", apt_get().arg("update"), log)?;
    command::run_quietly("Downloading 220 MB of packages", apt_get().arg("download").args(&packages), log)?;
    fs::write(debs.join("sums"), list)?;
    let mut check = Command::new("sha256sum");
    command::run_quietly("Checking them", check.current_dir(&debs).args(["--check", "--strict", "sums"]), log)?;
    for line in list.lines() {
        let deb = line.split_whitespace().nth(1).context("a line names no package")?;
        let mut unpack = Command::new("dpkg-deb");
        command::run(unpack.current_dir(&debs).arg("-x").arg(deb).arg(root))?;
    }
    fs::remove_dir_all(apt)?;
    Ok(())
}

/// What apt calls the package of a line: name, architecture and version.
fn package(line: &str) -> Option<String> {
    let file = line.split_whitespace().nth(1)?.strip_suffix(".deb")?;
    let [name, version, architecture] = file.split('_').collect::<Vec<_>>().try_into().ok()?;
    // apt serves what belongs to every architecture under the machine's own.
    let architecture = if architecture == "all" { "amd64" } else { architecture };
    Some(format!("{name}:{architecture}={}", version.replace("%3a", ":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_as_apt_names_them() {
        assert_eq!(package("0a1b  libllvm22_1%3a22.1.8-1_amd64.deb").unwrap(), "libllvm22:amd64=1:22.1.8-1");
        assert_eq!(package("0a1b  libc6-arm64-cross_2.36_all.deb").unwrap(), "libc6-arm64-cross:amd64=2.36");
        assert!(package("0a1b  README").is_none());
    }

    #[test]
    fn every_package_has_a_checksum() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let list = fs::read_to_string(root.join(PACKAGES)).unwrap();
        for line in list.lines() {
            assert!(package(line).is_some() && line.find(' ') == Some(64), "{line}");
        }
    }
}
