//! ONNX Runtime as a trainer, and every version of it that can be installed: docs/hosts.md.

use crate::command;
use crate::photos::photos;
use crate::python::{Python, Venv};
use crate::test::Skip;
use crate::wheel;
use crate::workspace::Workspace;
use anyhow::Result;
use std::ops::RangeInclusive;

/// The minor versions of Python 3 that the wheel of the package and one of onnxruntime-training are for.
const TRAINING_PYTHONS: RangeInclusive<u32> = 10..=11;

/// Trains inside ONNX Runtime, with the wheel of the release build.
pub fn training_tests(workspace: &Workspace) -> Result<()> {
    let tests = workspace.existing("tests/onnxruntime_training")?;
    let python = TRAINING_PYTHONS.rev().find_map(Python::at_hand);
    let python = python.ok_or_else(|| {
        Skip("onnxruntime-training has wheels for CPython 3.8 to 3.11, and no 3.10 or 3.11 is here".into())
    })?;
    let venv = Venv::of(workspace, "onnxruntime-training", &tests.join("requirements.txt"), &python)?;
    venv.install_wheel(workspace, &wheel::of_release(workspace)?)?;
    let mut pytest = venv.python();
    pytest.current_dir(&tests).env_remove("MIAMIX_LIBRARY").env("MIAMIX_PHOTOS", photos(workspace, &venv)?);
    command::run(pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "."]))
}
