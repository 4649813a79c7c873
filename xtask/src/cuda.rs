//! CUDA without a GPU: the kernels' PTX, and the tests that run kernels on the CPU.

use crate::command;
use crate::python::{Python, Venv};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::Args;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::ptr::null_mut;

const SOURCE: &str = "kernels/miamix.cu";
const PTX: &str = "kernels/ptx/miamix.ptx";
/// No fused multiply-add but where one is written; everything else rounds as IEEE 754 says by default.
const OPTIONS: [&str; 3] = ["--gpu-architecture=compute_70", "--fmad=false", "--std=c++17"];
/// What the compiler writes, and the oldest version that has all that the kernels use: that of CUDA 11.0, older than the
/// oldest driver that the host code runs on.
const VERSION: [&str; 2] = [".version 8.8", ".version 7.0"];
/// What the assembler is asked for: Volta to Blackwell.
const ARCHITECTURES: [u32; 8] = [70, 75, 80, 86, 89, 90, 100, 120];

#[derive(Args)]
pub struct PtxOptions {
    /// Write nothing; fail if the committed PTX is not what the sources give.
    #[arg(long)]
    pub check: bool,
}

/// Compiles the kernels to PTX, and proves that it assembles everywhere without spills.
pub fn ptx(workspace: &Workspace, options: &PtxOptions) -> Result<()> {
    let requirements = workspace.existing("xtask/cuda-requirements.txt")?;
    let packages = Venv::of(workspace, "cuda", &requirements, &Python::find()?)?.site_packages()?.join("nvidia");
    let source = workspace.existing(SOURCE)?;
    let new = lowered(&compile(&packages.join("cuda_nvrtc/lib"), &source)?)?;
    let path = workspace.root.join(PTX);
    let old = fs::read_to_string(&path).unwrap_or_default();
    if options.check {
        if old != new {
            bail!("{PTX} is not what {SOURCE} gives: run cargo xtask ptx");
        }
    } else {
        fs::write(&path, &new).with_context(|| format!("cannot write {PTX}"))?;
    }
    println!("{PTX}: {} KB{}", new.len() / 1000, if old == new { ", as it was" } else { ", new" });
    let ptxas = packages.join("cuda_nvcc/bin/ptxas");
    assemble_all(&ptxas, &new)?;
    // Faults for compute-sanitizer, which no machine without a GPU loads.
    let mut planted = Command::new(&Python::find()?.program);
    planted.env("PYTHONDONTWRITEBYTECODE", "1").arg(workspace.existing("tests/gpu/planted.py")?);
    assemble_all(&ptxas, &command::capture(&mut planted)?)
}

/// In the form that old drivers load.
fn lowered(ptx: &str) -> Result<String> {
    let [from, to] = VERSION;
    if ptx.lines().filter(|line| *line == from).count() != 1 {
        bail!("the compiler wrote no PTX of {from}");
    }
    let mut text = String::with_capacity(ptx.len());
    for line in ptx.lines() {
        // A hint of later versions, which parts of a vector are used; without it all are loaded.
        if line.trim_start().starts_with(".pragma \"used_bytes_mask") {
            continue;
        }
        text += if line == from { to } else { line };
        text.push('\n');
    }
    Ok(text)
}

/// NVRTC: CUDA C++ to PTX.
fn compile(folder: &Path, source: &Path) -> Result<String> {
    type Handle = *mut c_void;
    // The compiler looks for its built-in headers by name alone; loaded first, they are found.
    // SAFETY: NVIDIA's libraries, whose initialisers do nothing else.
    let _builtins = unsafe { Library::new(folder.join("libnvrtc-builtins.so.12.9")) }.context("NVRTC's headers")?;
    // SAFETY: as above.
    let nvrtc = unsafe { Library::new(folder.join("libnvrtc.so.12")) }.context("NVRTC")?;
    macro_rules! nvrtc {
        ($name:literal ($($argument:expr => $type:ty),*)) => {{
            // SAFETY: the function's type is NVRTC's, the arguments are valid for it.
            unsafe {
                let function = nvrtc.get::<unsafe extern "C" fn($($type),*) -> c_int>($name).context($name)?;
                function($($argument),*)
            }
        }};
    }
    let text = CString::new(fs::read(source)?)?;
    let name = CString::new(source.file_name().context("a file")?.as_encoded_bytes())?;
    let include = format!("--include-path={}", source.parent().context("a folder")?.display());
    let options: Vec<CString> =
        OPTIONS.into_iter().chain([include.as_str()]).map(CString::new).collect::<Result<_, _>>()?;
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let mut program: Handle = null_mut();
    let made = nvrtc!("nvrtcCreateProgram"(&raw mut program => *mut Handle, text.as_ptr() => *const c_char,
        name.as_ptr() => *const c_char, 0 => c_int, null_mut() => Handle, null_mut() => Handle));
    if made != 0 {
        bail!("NVRTC failed with {made}");
    }
    let compiled = nvrtc!("nvrtcCompileProgram"(program => Handle, options.len() as c_int => c_int,
        options.as_ptr() => *const *const c_char));
    let mut size = 0usize;
    if compiled != 0 {
        nvrtc!("nvrtcGetProgramLogSize"(program => Handle, &raw mut size => *mut usize));
        let mut log = vec![0u8; size];
        nvrtc!("nvrtcGetProgramLog"(program => Handle, log.as_mut_ptr().cast() => *mut c_char));
        bail!("{SOURCE}: {}", CStr::from_bytes_until_nul(&log)?.to_string_lossy());
    }
    nvrtc!("nvrtcGetPTXSize"(program => Handle, &raw mut size => *mut usize));
    let mut ptx = vec![0u8; size];
    nvrtc!("nvrtcGetPTX"(program => Handle, ptx.as_mut_ptr().cast() => *mut c_char));
    nvrtc!("nvrtcDestroyProgram"(&raw mut program => *mut Handle));
    Ok(CStr::from_bytes_until_nul(&ptx)?.to_str()?.to_owned())
}

/// Assembles the PTX for every architecture, prints what it takes, and fails on the first spilled register.
fn assemble_all(ptxas: &Path, ptx: &str) -> Result<()> {
    println!("{:>7}  {:<14} {:>9} {:>12}", "", "kernel", "registers", "spilled");
    for architecture in ARCHITECTURES {
        let mut ptxas = Command::new(ptxas);
        ptxas.args(["-v", "-warn-spills", "-Werror", &format!("-arch=sm_{architecture}"), "-o", "/dev/null", "-"]);
        let mut child =
            ptxas.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("ptxas")?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        stdin.write_all(ptx.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("ptxas for sm_{architecture}: {log}");
        }
        let kernels = usage(&log);
        if kernels.is_empty() {
            bail!("ptxas for sm_{architecture} told of no kernel: {log}");
        }
        for (kernel, registers, spilled) in kernels {
            println!("sm_{architecture:<4}  {kernel:<14} {registers:>9} {spilled:>10} B");
            if spilled > 0 {
                bail!("sm_{architecture}: {kernel} spills registers");
            }
        }
    }
    Ok(())
}

/// Each kernel's name, registers and bytes spilled, of what the assembler tells.
fn usage(log: &str) -> Vec<(String, u32, u32)> {
    let number_before =
        |line: &str, what: &str| -> Option<u32> { line[..line.find(what)?].split_whitespace().last()?.parse().ok() };
    let (mut kernels, mut name, mut spilled) = (Vec::new(), String::new(), 0);
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            name = rest.split('\'').next().unwrap_or_default().to_owned();
        }
        if let Some(bytes) = number_before(line, " bytes spill stores") {
            spilled = bytes;
        }
        if let Some(registers) = number_before(line, " registers") {
            kernels.push((std::mem::take(&mut name), registers, spilled));
        }
    }
    kernels
}

/// Runs the CUDA engine against a driver that runs kernels on the CPU: the sources, and the committed PTX.
pub fn on_cpu(workspace: &Workspace) -> Result<()> {
    stand_in(workspace)?;
    // The engine; then the C calls on device memory, and their statuses, within the whole workspace, whose features are
    // those of the earlier build.
    for tests in [&["--test", "cuda"][..], &["--lib", "cuda"], &["--test", "c_programs", "cuda"]] {
        let mut test = workspace.cargo();
        find_stand_in(workspace, &mut test)?;
        command::run(test.args(["test", "--workspace", "--locked"]).args(tests))?;
    }
    Ok(())
}

/// Where the stand-in driver is.
fn folder_of_stand_in(workspace: &Workspace) -> PathBuf {
    workspace.target.join("cuda/stand-in")
}

/// Lets a program find the stand-in driver, which an earlier step has built, as the machine's.
pub fn find_stand_in(workspace: &Workspace, program: &mut Command) -> Result<()> {
    let folder = folder_of_stand_in(workspace);
    if !folder.join("libcuda.so.1").is_file() {
        stand_in(workspace)?;
    }
    find_driver(folder, program)
}

fn find_driver(folder: PathBuf, program: &mut Command) -> Result<()> {
    let mut paths = vec![folder];
    paths.extend(std::env::var_os("LD_LIBRARY_PATH").iter().flat_map(std::env::split_paths));
    program.env("LD_LIBRARY_PATH", std::env::join_paths(paths)?).env("MIAMIX_REQUIRE_CUDA", "1");
    Ok(())
}

/// Prints what the kernels execute, by a stand-in driver that counts.
pub fn count(workspace: &Workspace) -> Result<()> {
    let folder = build_stand_in(workspace, workspace.target.join("cuda/counting"), &["-DCOUNT_INSTRUCTIONS"])?;
    let mut test = workspace.cargo();
    find_driver(folder, &mut test)?;
    test.args(["test", "--release", "--locked", "--test", "cuda", "--"]);
    command::run(test.args(["--ignored", "--nocapture", "what_the_kernels_execute"]))
}

/// Builds the stand-in driver; its folder.
pub fn stand_in(workspace: &Workspace) -> Result<PathBuf> {
    build_stand_in(workspace, folder_of_stand_in(workspace), &[])
}

fn build_stand_in(workspace: &Workspace, library: PathBuf, options: &[&str]) -> Result<PathBuf> {
    let sources = workspace.existing("tests/cuda")?;
    fs::create_dir_all(&library)?;
    let translated = workspace.target.join("cuda/ptx_kernels.cpp");
    let mut translate = Command::new(&Python::find()?.program);
    translate.env("PYTHONDONTWRITEBYTECODE", "1").arg(sources.join("ptx_to_cpp.py"));
    command::run(translate.arg(workspace.existing(PTX)?).arg(&translated))?;
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    let mut compile = Command::new(compiler);
    // One translation unit each, none optimised across IEEE 754; fused multiply-adds are function calls.
    compile.args([
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-shared",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fvisibility=hidden",
    ]);
    compile.args(["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused"]).args(options).arg("-I").arg(&sources);
    for file in ["cuda_on_cpu.cpp", "driver.cpp", "source_kernels.cpp"] {
        compile.arg(sources.join(file));
    }
    compile.arg(&translated).arg("-o").arg(library.join("libcuda.so.1"));
    command::run_quietly("Building the stand-in driver", &mut compile, &workspace.log("cuda-stand-in"))?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_words_are_understood() {
        let log = "ptxas info    : 8 bytes gmem\n\
                   ptxas info    : Compiling entry function 'miamix_large' for 'sm_70'\n\
                   ptxas info    : Function properties for miamix_large\n    \
                   80 bytes stack frame, 48 bytes spill stores, 52 bytes spill loads\n\
                   ptxas info    : Used 80 registers, used 1 barriers, 720 bytes cmem[0]\n";
        assert_eq!(usage(log), [("miamix_large".to_owned(), 80, 48)]);
    }

    #[test]
    fn ptx_is_lowered_once() {
        let ptx = ".version 8.8\n.target sm_70\n\t.pragma \"used_bytes_mask 15\";\n\tret;\n";
        assert_eq!(lowered(ptx).unwrap(), ".version 7.0\n.target sm_70\n\tret;\n");
        assert!(lowered(".version 8.7\n").is_err());
    }
}
