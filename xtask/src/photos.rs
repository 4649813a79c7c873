//! Real photographs: the colour pictures inside the scikit-image wheel.

use crate::command;
use crate::partial::Partial;
use crate::python::{PIP_HELP, Venv};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// The folder of the photographs, `target/photos`; downloads them where they are not there.
///
/// `venv`: any environment, for its pip.
pub fn photos(workspace: &Workspace, venv: &Venv) -> Result<PathBuf> {
    let goal = workspace.target.join("photos");
    let requirements = workspace.existing("xtask/photos-requirements.txt")?;
    let script = workspace.existing("xtask/unpack_photos.py")?;
    let wanted = fs::read_to_string(&requirements)? + &fs::read_to_string(&script)?;
    let stamp = "photos.stamp";
    if fs::read_to_string(goal.join(stamp)).is_ok_and(|made_from| made_from == wanted) {
        return Ok(goal);
    }
    // A wheel for one Python and one platform: nothing in it is run.
    let wheel = Partial::of(&workspace.target.join("photos-wheel"))?;
    command::run_quietly(
        "Downloading photographs (the scikit-image wheel, 15 MB)",
        venv.pip()
            .args(["download", "--no-deps", "--require-hashes", "--only-binary", ":all:"])
            .args(["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"])
            .args(["--platform", "manylinux2014_x86_64", "--dest"])
            .arg(wheel.path())
            .arg("--requirement")
            .arg(&requirements),
        &workspace.log("photos"),
    )
    .context(PIP_HELP)?;
    let photos = Partial::of(&goal)?;
    command::run(venv.python().arg(&script).arg(wheel.path()).arg(photos.path()))?;
    fs::write(photos.path().join(stamp), wanted)?;
    photos.replace()?;
    Ok(goal)
}
