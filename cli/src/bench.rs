//! `miamix bench`: the operator on this machine, with the memory floor beside it.

mod floor;
mod machine;
mod report;

use crate::work;
use anyhow::Result;
use clap::ValueEnum;
use floor::{Aligned, Blend, Floor, Stores};
use machine::Machine;
use miamix::{Batch, BatchShape, Config, Dtype, Labels, MiaMix, Output, Threads};
use ndarray::{Array1, Array2, ArrayView4, ArrayViewMut3, ArrayViewMut4};
use report::{Measured, Timing};
use std::time::{Duration, Instant};

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
}

const EXAMPLES: &str = "\
Examples:
  miamix bench
  miamix bench --workload A C --threads 1 2 4 --seconds 10
  miamix bench --json > bench.json";

/// The batches that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// 128x3x32x32 float32
    #[value(name = "A")]
    A,
    /// 128x3x64x64 float32
    #[value(name = "B")]
    B,
    /// 64x3x224x224 float32
    #[value(name = "C")]
    C,
    /// 64x224x224x3 uint8
    #[value(name = "D")]
    D,
}

impl Workload {
    fn batch(self) -> BatchKind {
        let f32_nchw = |n_samples, side, n_classes| BatchKind {
            n_samples,
            side,
            n_classes,
            dtype: Dtype::F32,
            channels_last: false,
        };
        match self {
            Workload::A => f32_nchw(128, 32, 10),
            Workload::B => f32_nchw(128, 64, 200),
            Workload::C => f32_nchw(64, 224, 1000),
            Workload::D => BatchKind { dtype: Dtype::U8, channels_last: true, ..f32_nchw(64, 224, 1000) },
        }
    }
}

/// Size, element type and layout of a batch of square RGB images.
#[derive(Clone, Copy, Debug)]
pub struct BatchKind {
    n_samples: usize,
    side: usize,
    n_classes: usize,
    dtype: Dtype,
    channels_last: bool,
}

const CHANNELS: usize = 3;
/// Rounds that are not counted: they fill caches and the operator's own memory.
const WARM_UP: usize = 3;
/// A median of fewer rounds says little, however short the time.
const MIN_ROUNDS: usize = 5;

impl BatchKind {
    /// Elements of one image.
    fn sample_len(&self) -> usize {
        CHANNELS * self.side * self.side
    }

    fn layout(&self) -> &'static str {
        if self.channels_last { "NHWC" } else { "NCHW" }
    }

    /// As it lies in memory.
    fn shape(&self) -> [usize; 4] {
        let BatchKind { n_samples, side, .. } = *self;
        if self.channels_last { [n_samples, side, side, CHANNELS] } else { [n_samples, CHANNELS, side, side] }
    }

    /// Two reads and one write.
    fn bytes(&self) -> usize {
        3 * self.n_samples * self.sample_len() * self.dtype.size()
    }

    fn view<'a, T>(&self, pixels: &'a [T]) -> ArrayView4<'a, T> {
        let view = ArrayView4::from_shape(self.shape(), pixels).expect("as many pixels as the shape says");
        if self.channels_last { view.permuted_axes([0, 3, 1, 2]) } else { view }
    }

    fn view_mut<'a, T>(&self, pixels: &'a mut [T]) -> ArrayViewMut4<'a, T> {
        let view = ArrayViewMut4::from_shape(self.shape(), pixels).expect("as many pixels as the shape says");
        if self.channels_last { view.permuted_axes([0, 3, 1, 2]) } else { view }
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds, 0 to 3600".into()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let machine = Machine::this();
    let workloads = if args.workload.is_empty() { Workload::value_variants().to_vec() } else { args.workload };
    let threads: Vec<usize> = if args.threads.is_empty() {
        if machine.cores > 1 { vec![1, machine.cores] } else { vec![1] }
    } else {
        args.threads.into_iter().map(usize::from).collect()
    };
    if cfg!(debug_assertions) {
        eprintln!("warning: this program was built without optimisation; its numbers mean nothing");
    }
    let progress = work::bar("measuring", (workloads.len() * threads.len()) as u64);
    let mut results = Vec::new();
    for &workload in &workloads {
        for &n_threads in &threads {
            let time = Duration::from_secs_f64(args.seconds);
            let kind = workload.batch();
            results.push(match kind.dtype {
                Dtype::U8 => measure::<u8>(workload, kind, n_threads, time)?,
                _ => measure::<f32>(workload, kind, n_threads, time)?,
            });
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
fn measure<T: Blend>(workload: Workload, kind: BatchKind, n_threads: usize, time: Duration) -> Result<Measured> {
    let BatchKind { n_samples, side, n_classes, .. } = kind;
    let op = MiaMix::new(Config::default())?.with_threads(n_threads)?;
    let threads = Threads::new(n_threads)?;
    let shape = BatchShape::new(n_samples, side, side);
    let n_elements = n_samples * kind.sample_len();
    let mut primary = Aligned::<T>::new(n_elements);
    let mut partner = Aligned::<T>::new(n_elements);
    // Any pixels do, but not zeros, which the system maps to one page.
    for (i, (a, b)) in primary.iter_mut().zip(partner.iter_mut()).enumerate() {
        (*a, *b) = (T::pixel(i), T::pixel(i / 7 + 100));
    }
    let mut out = Aligned::<T>::new(n_elements);
    let ids = Array1::from_iter((0..n_samples).map(|i| (i % n_classes) as i64));
    let mut labels = Array2::zeros((n_samples, n_classes));
    let mut label_weight = vec![0.0; n_samples];
    let mut partner_index = vec![0; n_samples];

    let mut plan = op.draw(shape, 0, 0)?;
    let mut masks = Aligned::<f32>::new(n_samples * side * side);
    let view = ArrayViewMut3::from_shape((n_samples, side, side), &mut masks)?;
    op.masks(&plan, Some(view), None)?;
    let floor_partner: Vec<usize> = plan.samples().map(|sample| sample.partner_index).collect();

    let mut operator = Vec::new();
    let mut plain = Vec::new();
    let mut streaming = Vec::new();
    let mut copy = Vec::new();
    let start = Instant::now();
    for round in 0.. {
        if operator.len() >= MIN_ROUNDS && start.elapsed() >= time {
            break;
        }
        work::check_interrupt()?;
        let warm = round >= WARM_UP;
        let count = |times: &mut Vec<Duration>, began: Instant| {
            let took = began.elapsed();
            if warm {
                times.push(took);
            }
        };
        let mut floor = Floor {
            threads: &threads,
            primary: &primary,
            partner: &partner,
            partner_index: &floor_partner,
            masks: &masks,
            out: &mut out,
            channels_last: kind.channels_last,
        };
        // Streaming stores leave the output out of the caches, so what follows them is not the plain blend.
        let began = Instant::now();
        floor.blend(Stores::Streaming)?;
        count(&mut streaming, began);

        let began = Instant::now();
        floor.copy()?;
        count(&mut copy, began);

        let began = Instant::now();
        floor.blend(Stores::Plain)?;
        count(&mut plain, began);

        let began = Instant::now();
        op.draw_into(shape, round as u64, 0, &mut plan)?;
        op.apply(
            &plan,
            Batch {
                images: kind.view(&primary).into(),
                partner_images: kind.view(&partner).into(),
                labels: Labels::ids(ids.view(), n_classes),
            },
            Output {
                images: kind.view_mut(&mut out).into(),
                labels: Some(labels.view_mut()),
                label_weight: Some(&mut label_weight),
                partner_index: Some(&mut partner_index),
            },
        )?;
        count(&mut operator, began);
    }
    Ok(Measured {
        workload,
        kind,
        n_threads,
        operator: Timing::of(operator),
        plain: Timing::of(plain),
        streaming: Timing::of(streaming),
        copy: Timing::of(copy),
    })
}
