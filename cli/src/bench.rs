//! `miamix bench`: the operator on this machine, with the memory floor beside it.

mod floor;
mod machine;
mod report;
mod serve;
mod stage;
mod workload;

use crate::work;
use anyhow::Result;
use clap::ValueEnum;
use machine::Machine;
use miamix::Config;
use report::{Measured, Timing};
use stage::{Contender, stage};
use std::time::{Duration, Instant};
use workload::Workload;

/// Measure the operator on this machine.
///
/// For each workload: drawing a plan and mixing images and labels with default parameters, another seed each time, into
/// buffers that are used again. Beside it, in the same run and in turn with it, two floors: a blend of the same batch
/// under masks that lie ready in memory (with plain and with streaming stores, the faster counts), and memcpy.
///
/// GB/s counts two images read and one written (memcpy: one and one). What else is moved is not counted: the blend reads
/// its masks, 4 bytes a pixel, too, which the operator makes in the cache, so for bytes it is not quite a floor.
/// Keep the machine quiet: a busy one shows in the spread.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Workloads [default: all]
    #[arg(long, value_enum, num_args = 1.., ignore_case = true, value_name = "NAME")]
    workload: Vec<Workload>,
    /// Numbers of threads [default: 1 and one for each core]
    #[arg(long, num_args = 1.., value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Vec<u16>,
    /// Seconds for each workload and number of threads
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Take turns as another program asks for them, in JSON on standard input
    #[arg(long, hide = true, conflicts_with_all = ["workload", "threads", "seconds", "json"])]
    serve: bool,
}

const EXAMPLES: &str = "\
Examples:
  miamix bench
  miamix bench --workload A C --threads 1 2 4 --seconds 10
  miamix bench --json > bench.json";

/// Rounds that are not counted: they fill caches and the operator's own memory.
const WARM_UP: usize = 3;
/// A median of fewer rounds says little, however short the time.
const MIN_ROUNDS: usize = 5;

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds, 0 to 3600".into()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: this program was built without optimisation; its numbers mean nothing");
    }
    if args.serve {
        return serve::serve();
    }
    let machine = Machine::this();
    let workloads = if args.workload.is_empty() { Workload::value_variants().to_vec() } else { args.workload };
    let threads: Vec<usize> = if args.threads.is_empty() {
        if machine.cores > 1 { vec![1, machine.cores] } else { vec![1] }
    } else {
        args.threads.into_iter().map(usize::from).collect()
    };
    let progress = work::bar("measuring", (workloads.len() * threads.len()) as u64);
    let mut results = Vec::new();
    for &workload in &workloads {
        for &n_threads in &threads {
            results.push(measure(workload, n_threads, Duration::from_secs_f64(args.seconds))?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    if args.json {
        println!("{}", report::json(&machine, &results)?);
    } else {
        print!("{}", report::table(&machine, &results));
    }
    Ok(())
}

/// Measures one workload; operator and floors take turns, so that a noisy moment meets all of them.
fn measure(workload: Workload, n_threads: usize, time: Duration) -> Result<Measured> {
    // Streaming stores leave the output out of the caches, so what follows them is not the plain blend.
    const TURNS: [Contender; 4] =
        [Contender::FloorStreaming, Contender::Memcpy, Contender::FloorPlain, Contender::Operator];
    let kind = workload.batch();
    let mut stage = stage(kind, Config::default(), n_threads)?;
    let mut times = [const { Vec::new() }; TURNS.len()];
    let start = Instant::now();
    for round in 0.. {
        if times[0].len() >= MIN_ROUNDS && start.elapsed() >= time {
            break;
        }
        work::check_interrupt()?;
        for (times, contender) in times.iter_mut().zip(TURNS) {
            let took = stage.time(contender)?;
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    let [streaming, copy, plain, operator] = times.map(Timing::of);
    Ok(Measured { workload, kind, n_threads, operator, plain, streaming, copy })
}
