//! What a node of ONNX Runtime costs beside the work that it does: `cargo xtask bench --node` prints docs/bench/node.md.
//!
//! A chain of nodes is run through the C API, with its inputs and its output bound to memory; in turn with it, what each
//! node has to do, by the core itself: a plan drawn into an old one, and a batch mixed under it. A node costs what nine
//! take more than one, by eight.

#[path = "../tests/support/onnx.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod onnx;

use miamix_core::{Batch, BatchShape, Config, Images, Inline, Labels, MiaMix, Output};
use ndarray::{Array1, Array2, Array4};
use onnx::{Node, model, value};
use ort::AsPointer;
use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::{DynValue, Tensor};
use std::fmt::Write;
use std::path::PathBuf;
use std::ptr;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CLASSES: usize = 10;
const CHAIN: usize = 9;
/// [N, C, H, W], from what is nothing but overhead to what hides it.
const SHAPES: [[usize; 4]; 4] = [[1, 1, 1, 1], [8, 3, 8, 8], [8, 3, 32, 32], [64, 3, 32, 32]];
/// A turn repeats a call for so long: much longer than reading the clock takes.
const TURN: Duration = Duration::from_micros(500);
const N_TURNS: usize = 1001;

fn main() -> Result<()> {
    let library = std::env::var("MIAMIX_LIBRARY").map_err(|_| "MIAMIX_LIBRARY must be the path of libmiamix")?;
    let runtime = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let runtime =
        runtime.ok_or("ORT_DYLIB_PATH must be the path of libonnxruntime: `cargo xtask bench --node` sets it")?;
    let environment = ort::init().build()?;
    let mut rows = String::new();
    for shape in SHAPES {
        let session = |n_nodes| -> Result<Session> {
            let builder = Session::builder(&environment)?.with_operator_library(&library)?;
            Ok(builder.with_intra_threads(1)?.commit_from_memory(&chain(n_nodes))?)
        };
        let (mut one, mut nine) = (Bound::new(session(1)?, shape)?, Bound::new(session(CHAIN)?, shape)?);
        let mut core = Core::new(shape)?;
        let mut calls: [&mut dyn FnMut(); 3] = [&mut || core.call(), &mut || one.run(), &mut || nine.run()];
        let [core_us, one_us, nine_us] = medians(&mut calls);
        let node_us = (nine_us - one_us) / (CHAIN - 1) as f64;
        let [n, c, h, w] = shape;
        let (beside, run) = (node_us - core_us, one_us - node_us);
        writeln!(rows, "| {n}×{c}×{h}×{w} | {core_us:.2} | {node_us:.2} | {beside:.2} | {one_us:.2} | {run:.2} |")?;
    }
    print!(
        "\
# What a node costs

<!-- Written by `cargo xtask bench --node`. -->

Microseconds, medians of {N_TURNS} turns of half a millisecond each, in the same run and in turn. Images of float, int64
labels, default parameters, another seed for each batch; one thread; inputs and outputs bound to memory, through the C
API. {}, {}.

* core: a plan is drawn into an old one and a batch mixed under it, by the Rust API, into buffers that are used again.
* node: the same as a node of a graph, with memory for its outputs from the host: what {CHAIN} nodes in a chain take
  more than one, by {}.
* beside: what the node takes more than the core.
* run: a whole run of a session with one node.
* of the host: what such a run takes more than its node: a node of another operator has it too.

In large batches it is memory that differs, not the node: images of a chain stay in the cache in another way.

| batch | core | node | beside | run | of the host |
|---|--:|--:|--:|--:|--:|
{rows}",
        runtime.file_name().unwrap_or_default().to_string_lossy(),
        cpu(),
        CHAIN - 1,
    );
    Ok(())
}

/// The median time of each call, microseconds.
fn medians<const N: usize>(calls: &mut [&mut dyn FnMut(); N]) -> [f64; N] {
    let repeats = std::array::from_fn::<_, N, _>(|i| {
        let (start, mut n) = (Instant::now(), 0u32);
        while start.elapsed() < 100 * TURN {
            calls[i]();
            n += 1;
        }
        n.div_ceil(100)
    });
    let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(N_TURNS));
    for _ in 0..N_TURNS {
        for i in 0..N {
            let start = Instant::now();
            (0..repeats[i]).for_each(|_| calls[i]());
            times[i].push(start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats[i]));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[N_TURNS / 2]
    })
}

/// A model of so many nodes, each of which mixes what the one before it has mixed.
fn chain(n_nodes: usize) -> Vec<u8> {
    let name = |i: usize| if i == 0 { "images".to_owned() } else { format!("mixed{i}") };
    let node = |i: usize| {
        let (from, to) = (name(i), name(i + 1));
        let inputs = [&from, &from, "labels", "seed", "first_sample", "training_mode"];
        let others = ["labels", "weight", "index"].map(|output| format!("{output}{i}"));
        let outputs = [&to, &others[0], &others[1], &others[2]];
        let node = Node::new("MiAMix", &format!("mix{i}"), &inputs, &outputs.map(String::as_str));
        node.int("num_classes", CLASSES as i64).int("seed_offset", i as i64)
    };
    let scalars = [("seed", onnx::INT64), ("first_sample", onnx::INT64), ("training_mode", onnx::BOOL)];
    let inputs = [("images", onnx::FLOAT), ("labels", onnx::INT64)].into_iter().chain(scalars);
    let inputs = inputs.map(|(name, element)| value(name, element)).collect();
    model((0..n_nodes).map(node).collect(), inputs, vec![value(&name(n_nodes), onnx::FLOAT)])
}

fn images(shape: [usize; 4]) -> Array4<f32> {
    Array4::from_shape_fn(shape, |(n, c, y, x)| ((101 * n + 57 * c + 31 * y + 7 * x) % 251) as f32 / 251.0)
}

fn labels(n: usize) -> Array1<i64> {
    Array1::from_shape_fn(n, |i| (i * 7 % CLASSES) as i64)
}

/// A session whose inputs and output lie in memory of ours.
struct Bound {
    binding: IoBinding,
    seed: *mut i64,
    /// Kept for the binding.
    _values: Vec<DynValue>,
    session: Session,
}

impl Bound {
    fn new(session: Session, shape: [usize; 4]) -> Result<Self> {
        let mut binding = session.create_binding()?;
        let mut seed = Tensor::from_array((Vec::<i64>::new(), vec![0i64]))?;
        let seed_data = seed.extract_tensor_mut().1.as_mut_ptr();
        let mut values: Vec<DynValue> = Vec::new();
        let inputs: [(&str, DynValue); 5] = [
            ("images", Tensor::from_array((shape, images(shape).into_raw_vec_and_offset().0))?.into_dyn()),
            ("labels", Tensor::from_array(([shape[0]], labels(shape[0]).to_vec()))?.into_dyn()),
            ("seed", seed.into_dyn()),
            ("first_sample", Tensor::from_array((Vec::<i64>::new(), vec![0i64]))?.into_dyn()),
            ("training_mode", Tensor::from_array((Vec::<i64>::new(), vec![true]))?.into_dyn()),
        ];
        for (name, value) in inputs {
            binding.bind_input(name, &value)?;
            values.push(value);
        }
        let output = session.outputs()[0].name().to_owned();
        binding.bind_output(output, Tensor::<f32>::new(&Allocator::default(), shape)?)?;
        Ok(Bound { binding, seed: seed_data, _values: values, session })
    }

    fn run(&mut self) {
        // SAFETY: an element of a tensor that is kept in `_values`; no run is going on.
        unsafe { *self.seed += 1 };
        // SAFETY: the session and the binding are alive, and nobody else runs them.
        let status =
            unsafe { (ort::api().RunWithBinding)(self.session.ptr().cast_mut(), ptr::null(), self.binding.ptr()) };
        assert!(status.0.is_null(), "a run failed");
    }
}

/// The same work by the core itself.
struct Core {
    op: MiaMix,
    plan: miamix_core::Plan,
    shape: BatchShape,
    seed: u64,
    images: Array4<f32>,
    labels: Array1<i64>,
    mixed: Array4<f32>,
    mixed_labels: Array2<f32>,
    label_weight: Vec<f32>,
    partner_index: Vec<i64>,
}

impl Core {
    fn new(shape: [usize; 4]) -> Result<Self> {
        let op = MiaMix::new(Config::default())?;
        let [n, _, h, w] = shape;
        let batch = BatchShape::new(n, h, w);
        Ok(Core {
            plan: op.draw(batch, 0, 0)?,
            op,
            shape: batch,
            seed: 0,
            images: images(shape),
            labels: labels(n),
            mixed: Array4::zeros(shape),
            mixed_labels: Array2::zeros((n, CLASSES)),
            label_weight: vec![0.0; n],
            partner_index: vec![0; n],
        })
    }

    fn call(&mut self) {
        self.seed += 1;
        self.op.draw_into(self.shape, self.seed, 0, &mut self.plan).expect("the shape did not change");
        let batch = Batch {
            images: Images::from(self.images.view()),
            partner_images: self.images.view().into(),
            labels: Labels::ids(self.labels.view(), CLASSES),
        };
        let output = Output {
            images: self.mixed.view_mut().into(),
            labels: Some(self.mixed_labels.view_mut()),
            label_weight: Some(&mut self.label_weight),
            partner_index: Some(&mut self.partner_index),
        };
        self.op.apply_on(&Inline, &self.plan, batch, output).expect("the batch fits");
    }
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    name.unwrap_or("an unknown processor").trim().to_owned()
}
