//! The Python wheel.

use crate::command::{self, heading};
use crate::partial::Partial;
use crate::python::{Python, Venv};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The minor versions of Python 3 that the wheel is tried on.
const MINORS: [u32; 4] = [10, 11, 12, 13];
/// The Rust target, and with it the oldest glibc, of the wheel for every Linux.
const PORTABLE_TARGET: &str = "x86_64-unknown-linux-gnu";
const PORTABLE_GLIBC: &str = "2.17";

#[derive(Args)]
pub struct Options {
    /// For every Linux with glibc 2.17 or later (manylinux_2_17): builds through zig.
    #[arg(long)]
    portable: bool,
    /// Where the wheel goes, beside what else is there [default: target/wheel]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let library = if options.portable {
        portable_library(workspace)?
    } else {
        command::run(&mut workspace.release_build())?;
        workspace.library()
    };
    let out = options.out.clone().map_or_else(|| Ok(workspace.target.join("wheel")), std::path::absolute)?;
    println!("{}", build(workspace, &library, &out)?.display());
    Ok(())
}

/// Packs a library into a wheel in the folder `out`; what else is there stays.
pub fn build(workspace: &Workspace, library: &Path, out: &Path) -> Result<PathBuf> {
    let package = workspace.existing("bindings/python")?;
    let venv = builder(workspace)?;
    let folder = Partial::of(out)?;
    command::run_quietly(
        "Packing the wheel",
        venv.pip()
            .env("MIAMIX_LIBRARY", library)
            .args(["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"])
            .arg(folder.path())
            .arg(package),
        &workspace.log("wheel"),
    )?;
    publish(folder, out)
}

/// Moves the wheel, which is alone in its folder, to where others' files may be.
fn publish(folder: Partial, out: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder.path())?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    let (Some(wheel), true) = (files.pop(), files.is_empty()) else {
        bail!("{} does not hold one wheel", folder.path().display());
    };
    folder.merge()?;
    Ok(out.join(wheel))
}

/// The environment that packs the wheel.
fn builder(workspace: &Workspace) -> Result<Venv> {
    Venv::of(workspace, "wheel", &workspace.existing("xtask/wheel-requirements.txt")?, &Python::find()?)
}

/// The wheel of the release build.
pub fn of_release(workspace: &Workspace) -> Result<PathBuf> {
    let library = workspace.library();
    if !library.is_file() {
        bail!("the release build left no {}", library.display());
    }
    build(workspace, &library, &workspace.target.join("wheel"))
}

/// Installs the wheel into a fresh environment of each Python that is here, and tries it there.
pub fn on_every_python(workspace: &Workspace) -> Result<()> {
    let (wheel, builder) = (of_release(workspace)?, builder(workspace)?);
    let smoke = workspace.existing("bindings/python/tests/smoke.py")?;
    let mut n_tried = 0;
    for minor in MINORS {
        let Some(python) = Python::at_hand(minor) else {
            heading(&format!("CPython 3.{minor}: not here, so not tried"));
            continue;
        };
        let venv = builder.fresh_with_wheel(workspace, &format!("wheel-3.{minor}"), &wheel, &python)?;
        command::run(venv.python().current_dir(&workspace.target).arg(&smoke))?;
        n_tried += 1;
    }
    if n_tried == 0 {
        bail!("none of CPython 3.10 to 3.13 is here");
    }
    Ok(())
}

pub fn portable_library(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.existing("xtask/zig-requirements.txt")?;
    let venv = Venv::of(workspace, "zig", &requirements, &Python::find()?)?;
    // cargo-zigbuild looks for its programs, and for a Python with ziglang, where programs are.
    let mut path = OsString::from(venv.root.join("bin"));
    if let Some(inherited) = std::env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }
    let mut build = workspace.cargo();
    build.env("PATH", path).args(["zigbuild", "--release", "--locked", "-p", "miamix-c", "--target"]);
    command::run(build.arg(format!("{PORTABLE_TARGET}.{PORTABLE_GLIBC}")))?;
    let library = workspace.target.join(PORTABLE_TARGET).join("release/libmiamix.so");
    fs::metadata(&library).with_context(|| format!("zig left no {}", library.display()))?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_callers_keeps_what_it_holds() {
        let out = std::env::temp_dir().join(format!("miamix-xtask-{}-wheel", std::process::id()));
        fs::create_dir_all(out.join("thesis")).unwrap();
        fs::write(out.join("thesis/chapter"), "mine").unwrap();
        assert!(publish(Partial::of(&out).unwrap(), &out).is_err(), "there is no wheel");
        let folder = Partial::of(&out).unwrap();
        fs::write(folder.path().join("miamix.whl"), "new").unwrap();
        let wheel = publish(folder, &out).unwrap();
        assert_eq!(fs::read_to_string(wheel).unwrap(), "new");
        assert_eq!(fs::read_to_string(out.join("thesis/chapter")).unwrap(), "mine");
        fs::remove_dir_all(out).unwrap();
    }
}
