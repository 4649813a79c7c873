//! Where things are, and how they are built.

use crate::command;
use anyhow::{Context, Result, bail};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX, EXE_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    /// Of the library.
    pub version: String,
}

impl Workspace {
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?.to_owned();
        let metadata = command::capture(cargo(&root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata")?;
        let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?.into();
        let mut packages = metadata["packages"].as_array().into_iter().flatten();
        let library = packages.find(|package| package["name"] == "miamix-c").context("no package miamix-c")?;
        let version = library["version"].as_str().context("miamix-c has no version")?.into();
        Ok(Workspace { root, target, version })
    }

    /// A path in the tree, which must be there.
    pub fn existing(&self, path: &str) -> Result<PathBuf> {
        let full = self.root.join(path);
        if !full.exists() {
            bail!("{path} is not in the tree");
        }
        Ok(full)
    }

    pub fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    /// The compiler that [`Workspace::cargo`] uses.
    pub fn rustc(&self) -> Command {
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.current_dir(&self.root);
        rustc
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.target.join("log").join(format!("{name}.log"))
    }

    /// The release build of the C library, which is the operator library, and of the program.
    pub fn release_build(&self) -> Command {
        let mut build = self.cargo();
        build.args(["build", "--release", "--locked", "-p", "miamix-c", "-p", "miamix-cli"]);
        build
    }

    /// The operator library after [`Workspace::release_build`].
    pub fn library(&self) -> PathBuf {
        self.target.join("release").join(format!("{DLL_PREFIX}miamix{DLL_SUFFIX}"))
    }

    /// The `miamix` program after [`Workspace::release_build`].
    pub fn program(&self) -> PathBuf {
        self.target.join("release").join(format!("miamix{EXE_SUFFIX}"))
    }
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}
