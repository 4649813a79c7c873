//! The `miamix` program: look at what the operator does, write ONNX models with it, measure it.

mod bench;
mod canvas;
mod masks;
mod mix;
mod model;
mod output;
mod params;
mod photos;
mod work;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Multi-stage mixed-sample augmentation: look at it, put it into ONNX models, measure it.
///
/// MiAMix mixes each image of a training batch with a partner under a mask that is drawn in several random stages,
/// and mixes the labels by the share of pixels each image keeps. The same parameters, seed and batch give the same
/// pixels on every machine and in every language.
#[derive(Parser)]
#[command(name = "miamix", version, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Mix(mix::Args),
    Masks(masks::Args),
    Model(model::Args),
    Bench(bench::Args),
}

const EXAMPLES: &str = "\
Examples:
  miamix mix photos/ --out mixed            mix photographs, look at mixed/contact-sheet.png
  miamix masks --out masks.png              see what every method does
  miamix model --preset cifar10 --out mix.onnx
  miamix bench                              measure this machine, the memory floor beside it

Exit status:
  0  done
  1  something failed: a file that cannot be read or decoded, a folder that is not empty
  2  an argument or a parameter is wrong
  130  interrupted; nothing half-written is left";

fn main() -> ExitCode {
    let matches = params::with_defaults(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = work::watch_interrupts().and_then(|()| match cli.command {
        Command::Mix(args) => mix::run(args),
        Command::Masks(args) => masks::run(args),
        Command::Model(args) => model::run(args),
        Command::Bench(args) => bench::run(args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit_status(&error))
        }
    }
}

/// The numbers of `miamix --help`.
fn exit_status(error: &anyhow::Error) -> u8 {
    if error.is::<work::Interrupted>() {
        return 130;
    }
    match error.downcast_ref::<miamix::Error>().map(miamix::Error::status) {
        Some(miamix::Status::InvalidArgument) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        params::with_defaults(Cli::command()).debug_assert();
    }
}
