//! What the project does to itself. `cargo xtask` is the alias.

mod bench;
mod command;
mod cpp;
mod cpp_host;
mod cuda;
mod debian;
mod demo;
mod gpu;
mod hosts;
mod instructions;
mod java;
mod mutants;
mod neon;
mod partial;
mod photos;
mod python;
mod sanitize;
mod test;
mod wheel;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What the project does to itself", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Mixes photographs with the operator inside ONNX Runtime, and leaves a contact sheet.
    Demo(demo::Options),
    /// Runs the tests.
    Test(test::Options),
    /// Puts small faults into the core, one at a time, and expects the tests to notice each.
    Mutants(mutants::Options),
    /// Compiles the CUDA kernels to PTX, which is committed, and has it assembled for every architecture.
    Ptx(cuda::PtxOptions),
    /// What only a GPU can show: byte equality, graphs, times, on hardware.
    Gpu(gpu::Options),
    /// Measures this machine and writes docs/bench/cpu.md.
    Bench(bench::Options),
    /// Counts the instructions that each part of the CPU engine takes: docs/bench/instructions.md.
    Instructions(instructions::Options),
    /// Tries the operator in every ONNX Runtime that can be installed: docs/hosts.md (a download of 1 GB).
    Hosts(hosts::Options),
    /// Packs the Python wheel.
    Wheel(wheel::Options),
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if command::interrupted() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("{} {error:#}", console::style("error:").red().bold().for_stderr());
            ExitCode::FAILURE
        }
    }
}

/// Whether everything passed.
fn run() -> Result<bool> {
    let arguments = Arguments::parse();
    command::handle_interrupts()?;
    let workspace = Workspace::find()?;
    match arguments.task {
        Task::Demo(options) => demo::run(&workspace, &options).map(|()| true),
        Task::Test(options) => test::run(&workspace, &options),
        Task::Mutants(options) => mutants::run(&workspace, &options),
        Task::Ptx(options) => cuda::ptx(&workspace, &options).map(|()| true),
        Task::Gpu(options) => gpu::run(&workspace, &options).map(|()| true),
        Task::Bench(options) => bench::run(&workspace, &options).map(|()| true),
        Task::Instructions(options) => instructions::run(&workspace, &options),
        Task::Hosts(options) => hosts::run(&workspace, &options),
        Task::Wheel(options) => wheel::run(&workspace, &options).map(|()| true),
    }
}
