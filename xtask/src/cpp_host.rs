//! The operator inside ONNX Runtime, loaded by a C++ program: `tests/onnxruntime/host.cpp`.

use crate::command;
use crate::debian::Packages;
use crate::hosts;
use crate::test::Skip;
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The headers of ONNX Runtime, which its wheels lack. The release before has no such package.
const HEADERS: Packages<'_> = Packages {
    list: "xtask/onnxruntime-packages.sha256",
    folder: "onnxruntime-headers",
    size: "90 KB",
    release: Some("trixie"),
    architectures: &[],
};
/// The parameters of the model are those of the program.
const MODEL: [&str; 10] =
    ["model", "--num-classes", "10", "--masks", "--k-max", "3", "--p-flip", "0.5", "--label-smoothing", "0.1"];

/// Compiles the program, and runs it with each of some ONNX Runtime libraries, and the cases of [`crate::hosts`].
pub fn test(workspace: &Workspace, library: &Path, program: &Path, runtimes: &[PathBuf]) -> Result<()> {
    if runtimes.is_empty() {
        return Err(Skip("no Python serves any ONNX Runtime whose wheel has its library apart".into()).into());
    }
    let headers = HEADERS.unpacked(workspace)?.join("usr/include");
    let folder = workspace.target.join("onnxruntime-headers");
    let (model, host) = (folder.join("model.onnx"), folder.join("host"));
    command::run(Command::new(program).args(MODEL).arg("--out").arg(&model))?;
    let mut compile = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()));
    compile.args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    compile.arg("-I").arg(workspace.existing("include")?).arg("-isystem").arg(headers);
    compile.arg(workspace.existing("tests/onnxruntime/host.cpp")?).arg("-o").arg(&host).arg("-ldl");
    command::run_quietly("Compiling the program", &mut compile, &workspace.log("cpp-host"))?;
    for runtime in runtimes {
        command::run(Command::new(&host).arg(runtime).arg(library).arg(&model).arg(hosts::cases(workspace)))?;
    }
    Ok(())
}
