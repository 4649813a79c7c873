//! The CUDA engine without a GPU: the real host code against a stand-in driver (tests/cuda/), which runs the kernels on
//! the CPU, both as they are written and as the PTX that ships. Every result is the CPU engine's, bit for bit.
//!
//! `cargo xtask test --only CUDA` builds the stand-in and makes the library find it.
#![cfg(feature = "cuda")]

use half::{bf16, f16};
use libloading::Library;
use miamix::{
    Batch, BatchShape, Config, CudaStream, CurrentCudaDevice, DeviceBatch, DeviceLabels, DeviceOutput, DevicePlan,
    Dtype, Element, Error, Images, ImagesMut, LabelWeight, Labels, Maps, MapsMut, Merge, Method, MethodWeights, MiaMix,
    Output, Pairing, Plan, PlanSource, Status, Workspace, check_cuda_labels, cuda_available, cuda_device_of_address,
    cuda_device_of_stream,
};
use ndarray::{Array1, Array2, Array3, Array4};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Barrier, Mutex, MutexGuard, OnceLock, PoisonError};

/// Orders of threads: ascending, descending, random.
const ORDERS: [c_int; 3] = [0, 1, 2];
/// The kernels as they are written, and as the PTX that ships.
const FORMS: [c_int; 2] = [0, 1];

/// What the stand-in counts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counts {
    pushed: u64,
    popped: u64,
    loaded: u64,
    launched: u64,
    pinned: u64,
    allocated: u64,
    copied: u64,
    freed: u64,
}

/// The stand-in driver, one test at a time.
struct StandIn {
    library: &'static Library,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl StandIn {
    /// Nothing where the stand-in is not found, which is a failure where it is required.
    fn get() -> Option<StandIn> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        static ONE: Mutex<()> = Mutex::new(());
        let found = LIBRARY.get_or_init(|| {
            // SAFETY: the stand-in's initialisers are those of the C++ library.
            let library = unsafe { Library::new("libcuda.so.1") }.ok()?;
            // SAFETY: only looked up.
            let is_stand_in = unsafe { library.get::<unsafe extern "C" fn()>("stand_in_run") }.is_ok();
            is_stand_in.then_some(library)
        });
        if found.is_none() {
            assert!(std::env::var_os("MIAMIX_REQUIRE_CUDA").is_none(), "the stand-in driver is not found");
            eprintln!("skipped: no stand-in driver; run cargo xtask test --only CUDA");
        }
        let one_at_a_time = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().map(|library| StandIn { library, _one_at_a_time: one_at_a_time })
    }

    fn function<T>(&self, name: &str) -> libloading::Symbol<'static, T> {
        // SAFETY: each caller below gives the function's type, as tests/cuda/driver.cpp has it.
        unsafe { self.library.get(name) }.unwrap()
    }

    /// Streams 0, 1 and 3 are of one context, stream 2 of another; 4 and 5 are the default streams of the two.
    fn stream(&self, i: c_int) -> CudaStream {
        // SAFETY: the function's type.
        CudaStream(unsafe { self.function::<unsafe extern "C" fn(c_int) -> *mut c_void>("stand_in_stream")(i) })
    }

    fn set(&self, order: c_int, form: c_int) {
        // SAFETY: the function's type.
        unsafe { self.function::<unsafe extern "C" fn(c_int, c_int)>("stand_in_set")(order, form) }
    }

    /// Lets the `call`-th call that uses a stream fail, from 1.
    fn fail(&self, call: c_int) {
        // SAFETY: the function's type.
        unsafe { self.function::<unsafe extern "C" fn(c_int)>("stand_in_fail")(call) }
    }

    fn on(&self, function: &str, stream: CudaStream) {
        // SAFETY: the functions' type.
        unsafe { self.function::<unsafe extern "C" fn(*mut c_void)>(function)(stream.0) }
    }

    /// Does what is on a stream.
    fn run(&self, stream: CudaStream) {
        // SAFETY: the function's type.
        let error =
            unsafe { self.function::<unsafe extern "C" fn(*mut c_void) -> *const c_char>("stand_in_run")(stream.0) };
        if !error.is_null() {
            // SAFETY: text of the stand-in's.
            panic!("{}", unsafe { CStr::from_ptr(error) }.to_str().unwrap());
        }
    }

    /// Another stream of device 0.
    fn new_stream(&self) -> CudaStream {
        let mut stream = null_mut();
        // SAFETY: the function's type.
        unsafe {
            self.function::<unsafe extern "C" fn(*mut *mut c_void, u32) -> c_int>("cuStreamCreate")(&mut stream, 1)
        };
        CudaStream(stream)
    }

    /// Events that the library has asked for.
    fn queried(&self) -> u64 {
        // SAFETY: the function's type.
        unsafe { self.function::<unsafe extern "C" fn() -> u64>("stand_in_queried")() }
    }

    /// Does the next things that are on a stream.
    fn run_some(&self, stream: CudaStream, count: c_int) {
        // SAFETY: the function's type.
        unsafe { self.function::<unsafe extern "C" fn(*mut c_void, c_int)>("stand_in_run_some")(stream.0, count) }
    }

    fn counts(&self) -> Counts {
        // SAFETY: eight numbers of the stand-in's.
        let counts = unsafe { *self.function::<unsafe extern "C" fn() -> *const [u64; 8]>("stand_in_counts")() };
        let [pushed, popped, loaded, launched, pinned, allocated, copied, freed] = counts;
        Counts { pushed, popped, loaded, launched, pinned, allocated, copied, freed }
    }
}

/// An element whose bits can be compared.
trait Bits: Element + num_traits::Zero {
    fn of(value: f32) -> Self;
    fn bits(self) -> u32;
}
impl Bits for f32 {
    fn of(value: f32) -> Self {
        value - 100.0
    }
    fn bits(self) -> u32 {
        self.to_bits()
    }
}
impl Bits for f16 {
    fn of(value: f32) -> Self {
        // Some are denormal.
        f16::from_f32((value - 100.0) * 1e-6)
    }
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}
impl Bits for bf16 {
    fn of(value: f32) -> Self {
        bf16::from_f32(value - 100.0)
    }
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}
impl Bits for u8 {
    fn of(value: f32) -> Self {
        value as u8
    }
    fn bits(self) -> u32 {
        self.into()
    }
}

/// Images whose every element tells its place.
fn images<T: Bits>(shape: [usize; 4], salt: usize) -> Array4<T> {
    Array4::from_shape_fn(shape, |(n, c, y, x)| {
        let index = ((n * 5 + c) * 131 + y) * 257 + x + salt * 7919;
        T::of((index * 2_654_435_761 % 65_521) as f32 / 257.0)
    })
}

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Memory {
    Nchw,
    Nhwc,
    /// Rows that are not whole groups apart.
    Padded,
}

/// Images in one of those layouts: the memory, and the strides of [N, C, H, W] in it.
struct Laid<T> {
    memory: Vec<T>,
    shape: [usize; 4],
    strides: [isize; 4],
}

impl<T: Bits> Laid<T> {
    fn empty(shape: [usize; 4], layout: Memory) -> Self {
        let [n, c, h, w] = shape.map(|extent| extent as isize);
        let (strides, len) = match layout {
            Memory::Nchw => ([c * h * w, h * w, w, 1], n * c * h * w),
            Memory::Nhwc => ([c * h * w, 1, c * w, c], n * c * h * w),
            Memory::Padded => ([c * h * (w + 1) + 3, h * (w + 1), w + 1, 1], n * (c * h * (w + 1) + 3)),
        };
        Laid { memory: vec![T::zero(); len as usize], shape, strides }
    }

    fn of(images: &Array4<T>, layout: Memory) -> Self {
        let (n, c, h, w) = images.dim();
        let mut laid = Laid::empty([n, c, h, w], layout);
        for ((n, c, y, x), &value) in images.indexed_iter() {
            let at = laid.at([n, c, y, x]);
            laid.memory[at] = value;
        }
        laid
    }

    fn at(&self, index: [usize; 4]) -> usize {
        index.iter().zip(self.strides).map(|(&i, stride)| i as isize * stride).sum::<isize>() as usize
    }

    fn bits(&self) -> Vec<u32> {
        let [n, c, h, w] = self.shape;
        ndarray::indices([n, c, h, w])
            .into_iter()
            .map(|(n, c, y, x)| self.memory[self.at([n, c, y, x])].bits())
            .collect()
    }

    fn view(&self) -> Images<'_> {
        // SAFETY: the memory is as long as shape and strides reach.
        unsafe { Images::from_raw("images", self.memory.as_ptr().cast(), T::DTYPE, self.shape, self.strides) }.unwrap()
    }

    fn view_mut(&mut self) -> ImagesMut<'_> {
        let data = self.memory.as_mut_ptr().cast();
        // SAFETY: as above.
        unsafe { ImagesMut::from_raw("mixed_images", data, T::DTYPE, self.shape, self.strides) }.unwrap()
    }
}

/// All that a call gives.
#[derive(Debug, PartialEq)]
struct Results {
    images: Vec<u32>,
    labels: Vec<u32>,
    weight: Vec<u32>,
    partner: Vec<i64>,
}

const N_CLASSES: usize = 7;

fn ids(n: usize) -> Vec<i64> {
    (0..n as i64).map(|i| i % N_CLASSES as i64 - 1).collect()
}

fn on_cpu<T: Bits>(op: &MiaMix, plan: &Plan, primary: &Array4<T>, partner: &Array4<T>) -> Results {
    let n = primary.dim().0;
    let ids = Array1::from(ids(n));
    let mut out = Array4::<T>::zeros(primary.dim());
    let (mut labels, mut weight, mut partners) = (Array2::zeros((n, N_CLASSES)), vec![0.0f32; n], vec![0i64; n]);
    op.apply(
        plan,
        Batch {
            images: primary.view().into(),
            partner_images: partner.view().into(),
            labels: Labels::ids(ids.view(), N_CLASSES),
        },
        Output {
            images: out.view_mut().into(),
            labels: Some(labels.view_mut()),
            label_weight: Some(&mut weight),
            partner_index: Some(&mut partners),
        },
    )
    .unwrap();
    Results {
        images: out.iter().map(|v| v.bits()).collect(),
        labels: labels.iter().map(|v: &f32| v.to_bits()).collect(),
        weight: weight.iter().map(|v| v.to_bits()).collect(),
        partner: partners,
    }
}

/// A call of the CUDA engine, with memory that lives as long as it.
struct Call<T> {
    primary: Laid<T>,
    partner: Laid<T>,
    out: Laid<T>,
    ids: Vec<i64>,
    labels: Vec<f32>,
    weight: Vec<f32>,
    partners: Vec<i64>,
    bad_label: u32,
    /// Whether `bad_label` is given.
    reports: bool,
}

impl<T: Bits> Call<T> {
    fn new(primary: &Array4<T>, partner: &Array4<T>, layout: Memory) -> Self {
        let n = primary.dim().0;
        let primary = Laid::of(primary, layout);
        Call {
            out: Laid::empty(primary.shape, layout),
            primary,
            partner: Laid::of(partner, layout),
            ids: ids(n),
            labels: vec![f32::NAN; n * N_CLASSES],
            weight: vec![f32::NAN; n],
            partners: vec![-1; n],
            bad_label: 0,
            reports: true,
        }
    }

    fn put(
        &mut self,
        op: &MiaMix,
        plan: PlanSource<'_>,
        workspace: Option<Workspace>,
        stream: CudaStream,
    ) -> miamix::Result<()> {
        let batch = DeviceBatch {
            images: self.primary.view(),
            partner_images: self.partner.view(),
            labels: DeviceLabels::Ids { data: self.ids.as_ptr(), stride: 1, n_classes: N_CLASSES },
        };
        let output = DeviceOutput {
            images: self.out.view_mut(),
            labels: self.labels.as_mut_ptr(),
            label_strides: [N_CLASSES as isize, 1],
            label_weight: self.weight.as_mut_ptr(),
            partner_index: self.partners.as_mut_ptr(),
            bad_label: if self.reports { &raw mut self.bad_label } else { null_mut() },
        };
        // SAFETY: memory of this call's, which outlives the test's `run`; a stream of the stand-in's.
        unsafe { op.apply_cuda(plan, batch, output, workspace, stream) }
    }

    fn results(&self) -> Results {
        Results {
            images: self.out.bits(),
            labels: self.labels.iter().map(|v| v.to_bits()).collect(),
            weight: self.weight.iter().map(|v| v.to_bits()).collect(),
            partner: self.partners.clone(),
        }
    }
}

fn assert_same(got: &Results, expected: &Results, what: &str) {
    assert_eq!(got.partner, expected.partner, "{what}: partner_index");
    assert_eq!(got.weight, expected.weight, "{what}: label_weight");
    assert_eq!(got.labels, expected.labels, "{what}: labels");
    if let Some(i) = (0..expected.images.len()).find(|&i| got.images[i] != expected.images[i]) {
        panic!("{what}: element {i} is {:#x}, on the CPU {:#x}", got.images[i], expected.images[i]);
    }
}

/// All methods, warps, smoothing, views.
fn busy(k_min: u32, k_max: u32) -> Config {
    Config {
        k_min,
        k_max,
        method_weights: MethodWeights::from([1.0; 6]),
        p_apply: 0.9,
        p_aug: 0.5,
        p_smooth: 0.5,
        smooth_range_px: [3, 15],
        grid_range: [2, 16],
        label_smoothing: 0.1,
        ..Config::default()
    }
}

/// Runs a plan in every form and order.
fn check<T: Bits>(stand_in: &StandIn, op: &MiaMix, plan: &Plan, channels: usize, layout: Memory, orders: &[c_int]) {
    let BatchShape { samples, height, width } = plan.shape();
    let shape = [samples, channels, height, width];
    let (primary, partner) = (images::<T>(shape, 0), images::<T>(shape, 1));
    let expected = on_cpu(op, plan, &primary, &partner);
    for form in FORMS {
        for &order in orders {
            stand_in.set(order, form);
            let mut call = Call::new(&primary, &partner, layout);
            call.put(op, PlanSource::Host(plan), None, stand_in.stream(0)).unwrap();
            stand_in.run(stand_in.stream(0));
            let what = format!("{shape:?} {:?} {layout:?}, form {form}, order {order}", T::DTYPE);
            assert_same(&call.results(), &expected, &what);
        }
    }
}

#[test]
fn every_element_type_and_layout_gives_the_bits_of_the_cpu() {
    let Some(stand_in) = StandIn::get() else { return };
    for views in [false, true] {
        let config = Config { p_flip: if views { 0.5 } else { 0.0 }, pad_px: if views { 2 } else { 0 }, ..busy(1, 3) };
        let op = MiaMix::new(config).unwrap();
        // Whole groups and not, small and large, one channel and several.
        for (n, c, h, w) in [(4, 3, 12, 16), (3, 1, 9, 13), (2, 4, 66, 68), (2, 2, 71, 61)] {
            let plan = op.draw(BatchShape::new(n, h, w), 5, 0).unwrap();
            for layout in [Memory::Nchw, Memory::Nhwc, Memory::Padded] {
                check::<f32>(&stand_in, &op, &plan, c, layout, &ORDERS[2..]);
                check::<f16>(&stand_in, &op, &plan, c, layout, &ORDERS[2..]);
                check::<bf16>(&stand_in, &op, &plan, c, layout, &ORDERS[2..]);
                check::<u8>(&stand_in, &op, &plan, c, layout, &ORDERS[2..]);
            }
        }
    }
}

#[test]
fn every_size_gives_the_bits_of_the_cpu_in_every_order() {
    let Some(stand_in) = StandIn::get() else { return };
    for merge in [Merge::Product, Merge::Sum] {
        for (k_min, k_max) in [(1, 2), (8, 8)] {
            let op = MiaMix::new(Config { merge, ..busy(k_min, k_max) }).unwrap();
            let small = [(1, 1), (1, 7), (7, 1), (2, 2), (5, 3), (32, 32), (33, 65), (64, 64), (1, 4096), (4096, 1)];
            let large = [(65, 67), (1, 4097), (4500, 1), (70, 300)];
            for (i, (h, w)) in small.into_iter().chain(large).enumerate() {
                let plan = op.draw(BatchShape::new(if h * w > 4000 { 2 } else { 6 }, h, w), i as u64, 0).unwrap();
                check::<f32>(&stand_in, &op, &plan, 1, Memory::Nchw, &ORDERS);
            }
        }
    }
    let op = MiaMix::new(busy(2, 3)).unwrap();
    for side in [224, 225] {
        let plan = op.draw(BatchShape::new(3, side, side), 1, 0).unwrap();
        check::<u8>(&stand_in, &op, &plan, 3, Memory::Nchw, &ORDERS[2..]);
    }
}

/// Masks, of which each method has its share, against the CPU's, with no image in between.
#[test]
fn masks_of_each_method_are_those_of_the_cpu() {
    let Some(stand_in) = StandIn::get() else { return };
    for method in Method::ALL {
        for (n, h, w) in [(8, 20, 31), (3, 80, 60)] {
            let config = Config { method_weights: MethodWeights::only(method), ..busy(1, 2) };
            let op = MiaMix::new(Config { rotate_max_rad: 3.0, shear_max: 2.0, ..config }).unwrap();
            let plan = op.draw(BatchShape::new(n, h, w), 3, 0).unwrap();
            let mut expected = Array3::<f32>::zeros((n, h, w));
            let mut expected_weight = vec![0.0; n];
            op.masks(&plan, Some(expected.view_mut()), Some(&mut expected_weight)).unwrap();
            for form in FORMS {
                stand_in.set(2, form);
                let (mut masks, mut weight) = (vec![f32::NAN; n * h * w], vec![f32::NAN; n]);
                let stream = stand_in.stream(1);
                // SAFETY: memory that outlives the run.
                unsafe {
                    op.masks_cuda(PlanSource::Host(&plan), masks.as_mut_ptr(), weight.as_mut_ptr(), None, stream)
                }
                .unwrap();
                stand_in.run(stream);
                for (i, (got, expected)) in masks.iter().zip(&expected).enumerate() {
                    assert_eq!(got.to_bits(), expected.to_bits(), "{method:?}, {h}×{w}, pixel {i}: {got} {expected}");
                }
                assert_eq!(weight, expected_weight);
            }
        }
    }
}

/// So many values of a large field lie near the threshold that they are narrowed down before they are ranked.
#[test]
fn the_threshold_of_a_large_field_is_found() {
    let Some(stand_in) = StandIn::get() else { return };
    let (h, w) = (800, 900);
    for p_aug in [0.0, 1.0] {
        let config = Config { method_weights: MethodWeights::only(Method::FMix), k_max: 1, p_aug, ..Config::default() };
        let op = MiaMix::new(Config { p_smooth: 0.0, ..config }).unwrap();
        let plan = op.draw(BatchShape::new(1, h, w), 1, 0).unwrap();
        let mut expected = Array3::<f32>::zeros((1, h, w));
        op.masks(&plan, Some(expected.view_mut()), None).unwrap();
        for form in FORMS {
            stand_in.set(2, form);
            let mut masks = vec![f32::NAN; h * w];
            let stream = stand_in.stream(1);
            // SAFETY: memory that outlives the run.
            unsafe { op.masks_cuda(PlanSource::Host(&plan), masks.as_mut_ptr(), null_mut(), None, stream) }.unwrap();
            stand_in.run(stream);
            assert!(masks.iter().eq(&expected), "warped {p_aug}, form {form}");
        }
    }
}

/// Plans written by hand: shares of 0 and 1, empty boxes, wild warps, several decays, flat fields, ties, fields without
/// waves.
#[test]
fn plans_written_by_hand_are_followed() {
    let Some(stand_in) = StandIn::get() else { return };
    let op = MiaMix::new(Config::default()).unwrap();
    let warp = r#"{"angle_rad": 70.5, "shear": -900.0}"#;
    let fmix = |given: f32, decay: f32, warp: &str| {
        format!(
            r#"{{"method": "fmix", "lambda": 0.5, "given": {given}, "noise_key": "0x1234abcd5678ef90",
                "decay_power": {decay}, "warp": {warp}, "smooth_px": null}}"#
        )
    };
    let layers = [
        fmix(0.0, 3.0, "null"),
        fmix(1.0, 2.0, warp),
        fmix(0.37, 2.0, warp),
        // Only the lowest wave is left, which is the same in every row or column: ties.
        fmix(0.37, 300.0, "null"),
        // So many in one bin that they are not ranked one by one.
        fmix(0.01, 3000.0, "null"),
        fmix(0.5, 3.5, r#"{"angle_rad": 0.0, "shear": 0.0}"#),
        format!(r#"{{"method": "cutmix", "lambda": 0.5, "given": 0.5, "x0": -9, "y0": 3, "x1": 5, "y1": 700, "warp": {warp}, "smooth_px": 15}}"#),
        r#"{"method": "cutmix", "lambda": 0.5, "given": 0.0, "x0": 4, "y0": 3, "x1": 4, "y1": 7, "warp": null, "smooth_px": 1}"#.into(),
        format!(r#"{{"method": "gridmix", "lambda": 0.5, "given": 0.5, "n": 16, "cells": [0, 17, 40, 255], "warp": {warp}, "smooth_px": 3}}"#),
        r#"{"method": "gmix", "lambda": 0.5, "given": 0.5, "cx": 1.5, "cy": -3.0, "sigma_px": 0.0}"#.into(),
        r#"{"method": "agmix", "lambda": 0.5, "given": 0.5, "cx": 1.5, "cy": -3.0, "sigma_px": 40.0, "q": 0.9999999, "angle_rad": -40.0}"#.into(),
        r#"{"method": "mixup", "lambda": 0.5, "given": 1.0}"#.into(),
    ];
    for merge in ["product", "sum"] {
        for (h, w) in [(1, 1), (2, 2), (2, 33), (1, 600), (21, 34), (2, 2100), (64, 128), (70, 600)] {
            let view = r#"{"flip": true, "dx": 1, "dy": -2}"#;
            let samples: Vec<String> = layers
                .iter()
                .chain([&layers[2..=5].join(","), &String::new()])
                .enumerate()
                .map(|(i, layers)| {
                    let partner = (i + 3) % 14;
                    format!(
                        r#"{{"partner_index": {partner}, "primary_view": {view}, "partner_view": {view}, "layers": [{layers}]}}"#
                    )
                })
                .collect();
            let plan = Plan::from_json(&format!(
                r#"{{"version": 1, "height": {h}, "width": {w}, "merge": "{merge}", "label_weight": "merged",
                    "lambda_reading": "complement", "samples": [{}]}}"#,
                samples.join(",")
            ))
            .unwrap();
            check::<f32>(&stand_in, &op, &plan, 2, Memory::Nchw, &ORDERS[2..]);
        }
    }
}

#[test]
fn labels_of_every_kind_are_mixed() {
    let Some(stand_in) = StandIn::get() else { return };
    let (n, k, h, w) = (5, 300, 70, 64);
    let op =
        MiaMix::new(Config { label_smoothing: 0.2, label_weight: LabelWeight::Drawn, ..Config::default() }).unwrap();
    let plan = op.draw(BatchShape::new(n, h, w), 2, 0).unwrap();
    let pixels = images::<u8>([n, 1, h, w], 0);
    let soft = Array2::from_shape_fn((n, k), |(i, c)| (i * k + c) as f32 / 1500.0);
    let ids32 = Array1::from_iter((0..n as i32).map(|i| i * 70 - 1));
    let ids64 = ids32.mapv(i64::from);
    let stream = stand_in.stream(0);
    let column_first = Array2::<f32>::zeros((k, n));
    let cases = [
        (Labels::soft(soft.view()), DeviceLabels::Soft { data: soft.as_ptr(), strides: [k as isize, 1], n_classes: k }),
        (Labels::ids32(ids32.view(), k), DeviceLabels::Ids32 { data: ids32.as_ptr(), stride: 1, n_classes: k }),
        (Labels::ids(ids64.view(), k), DeviceLabels::Ids { data: ids64.as_ptr(), stride: 1, n_classes: k }),
    ];
    for (labels, device) in cases {
        let mut expected = Array2::zeros((n, k));
        let mut expected_pixels = pixels.clone();
        op.apply(
            &plan,
            Batch { images: pixels.view().into(), partner_images: pixels.view().into(), labels },
            Output {
                images: expected_pixels.view_mut().into(),
                labels: Some(expected.view_mut()),
                label_weight: None,
                partner_index: None,
            },
        )
        .unwrap();
        for form in FORMS {
            stand_in.set(2, form);
            let (input, mut output) = (Laid::of(&pixels, Memory::Nchw), Laid::<u8>::empty([n, 1, h, w], Memory::Nchw));
            let mut got = column_first.clone();
            let batch = DeviceBatch { images: input.view(), partner_images: input.view(), labels: device };
            let output = DeviceOutput {
                images: output.view_mut(),
                labels: got.as_mut_ptr(),
                label_strides: [1, n as isize],
                label_weight: null_mut(),
                partner_index: null_mut(),
                bad_label: null_mut(),
            };
            // SAFETY: memory that outlives the run.
            unsafe { op.apply_cuda(PlanSource::Host(&plan), batch, output, None, stream) }.unwrap();
            stand_in.run(stream);
            for ((i, c), expected) in expected.indexed_iter() {
                assert_eq!(got[[c, i]].to_bits(), f32::to_bits(*expected), "row {i}, class {c}");
            }
        }
    }
}

#[test]
fn a_class_id_that_is_too_large_is_a_row_of_zeros_and_reported() {
    let Some(stand_in) = StandIn::get() else { return };
    let op = MiaMix::new(Config { p_apply: 0.0, ..Config::default() }).unwrap();
    let plan = op.draw(BatchShape::new(4, 5, 5), 0, 0).unwrap();
    let pixels = images::<f32>([4, 1, 5, 5], 0);
    for form in FORMS {
        stand_in.set(2, form);
        let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
        call.ids = vec![2, N_CLASSES as i64, -1, 0];
        call.put(&op, PlanSource::Host(&plan), None, stand_in.stream(0)).unwrap();
        stand_in.run(stand_in.stream(0));
        let rows: Vec<f32> = call.labels.chunks(N_CLASSES).map(|row| row.iter().sum()).collect();
        assert_eq!((rows, call.bad_label), (vec![1.0, 0.0, 0.0, 1.0], 2));
    }
}

/// Without a place of the caller's for it, in order: the check sees what the stream has done, once.
#[test]
fn the_next_check_tells_of_a_class_id_that_is_too_large() {
    let Some(stand_in) = StandIn::get() else { return };
    let op = MiaMix::new(Config { p_apply: 0.0, ..Config::default() }).unwrap();
    // SAFETY: streams of the stand-in's.
    let check = |i| unsafe { check_cuda_labels(stand_in.stream(i)) };
    for (h, form) in [(5, 0), (5, 1), (70, 0), (70, 1)] {
        stand_in.set(2, form);
        let plan = op.draw(BatchShape::new(4, h, 60), 0, 0).unwrap();
        let pixels = images::<u8>([4, 1, h, 60], 0);
        let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
        call.reports = false;
        call.ids = vec![2, N_CLASSES as i64, i64::MAX, -1];
        call.put(&op, PlanSource::Host(&plan), None, stand_in.stream(0)).unwrap();
        assert_eq!(check(0), Ok(()));
        stand_in.run(stand_in.stream(0));
        // Streams 0 and 1 are of one context, stream 2 of another.
        assert_eq!(check(2), Ok(()));
        let error = check(1).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert_eq!(
            error.to_string(),
            "labels[2]: must be below num_classes, got a larger class id in a batch on the CUDA device, whose label \
             is a row of zeros"
        );
        assert_eq!(check(0), Ok(()));
    }
}

#[test]
fn devices_are_told() {
    let Some(stand_in) = StandIn::get() else { return };
    // SAFETY: streams of the stand-in's, whose second context is of device 1.
    let devices = [0, 1, 2, 3].map(|i| unsafe { cuda_device_of_stream(stand_in.stream(i)) });
    assert_eq!(devices, [Ok(0), Ok(0), Ok(1), Ok(0)]);
    // SAFETY: the function's type.
    let set = stand_in.function::<unsafe extern "C" fn(c_int)>("stand_in_device_of_addresses");
    let memory = [0u8; 8];
    for (device, expected) in
        [(5, Ok(5)), (-1, Err(Error::Cuda { call: "cuPointerGetAttribute", code: 1 })), (0, Ok(0))]
    {
        // SAFETY: a number.
        unsafe { set(device) };
        assert_eq!(cuda_device_of_address(memory.as_ptr().cast()), expected);
    }
}

/// Gradients, with one view and with two, of a plan on the host and of one that is uploaded, in whatever memory.
fn check_gradients<T: Bits>(stand_in: &StandIn, op: &MiaMix, plan: &Plan, channels: usize, layout: Memory) {
    let BatchShape { samples, height, width } = plan.shape();
    let shape = [samples, channels, height, width];
    let grad = images::<T>(shape, 3);
    let [mut images, mut partner, mut both] = std::array::from_fn(|_| Array4::<T>::zeros(shape));
    op.backward(plan, grad.view().into(), images.view_mut().into(), Some(partner.view_mut().into())).unwrap();
    op.backward(plan, grad.view().into(), both.view_mut().into(), None).unwrap();
    let bits = |array: &Array4<T>| array.iter().map(|value| value.bits()).collect::<Vec<_>>();
    let stream = stand_in.stream(0);
    let grad = Laid::of(&grad, layout);

    let mut plan_memory = vec![[0u64; 2]; DevicePlan::bytes(op.config(), plan.shape()).div_ceil(16)];
    let (address, bytes) = (plan_memory.as_mut_ptr().cast(), size_of_val(&plan_memory[..]));
    // SAFETY: memory of that size, used to the end of this function.
    let device = unsafe { DevicePlan::at(op.config(), plan.shape(), address, bytes) }.unwrap();
    let bytes = op.cuda_backward_workspace_bytes(plan.shape()).unwrap();
    let mut memory = vec![0u8; bytes + 256];
    let offset = memory.as_ptr().align_offset(256);
    let workspace = Workspace { data: memory[offset..].as_mut_ptr().cast(), bytes };
    for form in FORMS {
        stand_in.set(2, form);
        for uploaded in [false, true] {
            let (source, workspace) = if uploaded {
                // SAFETY: a stream of the stand-in's.
                unsafe { device.upload(plan, stream) }.unwrap();
                (PlanSource::Device(&device), Some(workspace))
            } else {
                (PlanSource::Host(plan), None)
            };
            let [mut got, mut got_partner, mut got_both] = std::array::from_fn(|_| Laid::<T>::empty(shape, layout));
            // SAFETY: memory that outlives the run.
            unsafe {
                let (images, partner) = (got.view_mut(), Some(got_partner.view_mut()));
                op.backward_cuda(source, grad.view(), images, partner, workspace, stream).unwrap();
                op.backward_cuda(source, grad.view(), got_both.view_mut(), None, workspace, stream).unwrap();
            }
            stand_in.run(stream);
            let what = format!("{shape:?} {:?} {layout:?}, form {form}, uploaded: {uploaded}", T::DTYPE);
            assert_eq!(got.bits(), bits(&images), "{what}: grad_images");
            assert_eq!(got_partner.bits(), bits(&partner), "{what}: grad_partner_images");
            assert_eq!(got_both.bits(), bits(&both), "{what}: of one view");
        }
    }
}

#[test]
fn gradients_are_those_of_the_cpu() {
    let Some(stand_in) = StandIn::get() else { return };
    for (p_flip, pad_px) in [(0.0, 0), (0.5, 3)] {
        // Several samples have one partner, and some none.
        let pairing = if pad_px > 0 { Pairing::Uniform } else { Pairing::Permutation };
        let op = MiaMix::new(Config { p_flip, pad_px, pairing, p_self: 0.3, ..busy(1, 3) }).unwrap();
        for (n, c, h, w) in [(1, 1, 1, 1), (9, 3, 12, 16), (3, 6, 9, 13), (4, 1, 71, 61)] {
            let plan = op.draw(BatchShape::new(n, h, w), 5, 0).unwrap();
            for layout in [Memory::Nchw, Memory::Nhwc, Memory::Padded] {
                check_gradients::<f32>(&stand_in, &op, &plan, c, layout);
                check_gradients::<f16>(&stand_in, &op, &plan, c, layout);
                check_gradients::<bf16>(&stand_in, &op, &plan, c, layout);
            }
        }
    }
}

#[test]
fn a_share_of_0_passes_on_nothing() {
    let Some(stand_in) = StandIn::get() else { return };
    let op = MiaMix::new(Config { method_weights: MethodWeights::only(Method::CutMix), ..busy(1, 1) }).unwrap();
    let plan = op.draw(BatchShape::new(3, 12, 12), 1, 0).unwrap();
    let grad = Array4::from_elem([3, 1, 12, 12], f32::INFINITY);
    let mut expected = Array4::zeros([3, 1, 12, 12]);
    op.backward(&plan, grad.view().into(), expected.view_mut().into(), None).unwrap();
    assert!(expected.iter().all(|value: &f32| !value.is_nan()));
    for form in FORMS {
        stand_in.set(2, form);
        let mut got = Array4::<f32>::zeros([3, 1, 12, 12]);
        let (plan, stream) = (PlanSource::Host(&plan), stand_in.stream(0));
        // SAFETY: memory that outlives the run.
        unsafe { op.backward_cuda(plan, grad.view().into(), got.view_mut().into(), None, None, stream) }.unwrap();
        stand_in.run(stream);
        assert_eq!(got, expected);
    }
}

#[test]
fn maps_of_every_width_are_mixed() {
    let Some(stand_in) = StandIn::get() else { return };
    let op = MiaMix::new(Config { pad_px: 2, p_flip: 0.5, ..busy(1, 3) }).unwrap();
    for (n, h, w) in [(5, 12, 10), (2, 66, 70)] {
        let plan = op.draw(BatchShape::new(n, h, w), 4, 0).unwrap();
        macro_rules! widths { ($($t:ty),+) => { $({
            let a = Array3::from_shape_fn((n, h, w), |(i, y, x)| (i * 1000 + y * 20 + x) as $t);
            let b = a.mapv(|v| !v);
            let mut expected = Array3::<$t>::zeros((n, h, w));
            op.apply_maps(&plan, a.view(), b.view(), expected.view_mut()).unwrap();
            for form in FORMS {
                stand_in.set(2, form);
                let mut got = Array3::<$t>::zeros((n, h, w));
                let (maps, partners, out) = (Maps::from(a.view()), Maps::from(b.view()), MapsMut::from(got.view_mut()));
                // SAFETY: memory that outlives the run.
                unsafe { op.apply_maps_cuda(PlanSource::Host(&plan), maps, partners, out, None, stand_in.stream(0)) }
                    .unwrap();
                stand_in.run(stand_in.stream(0));
                assert_eq!(got, expected);
            }
        })+ }; }
        widths!(u8, i16, u32, i64);
    }
}

/// One capture, many plans: replays follow what was uploaded since.
#[test]
fn a_captured_graph_replays_with_another_plan() {
    let Some(stand_in) = StandIn::get() else { return };
    let stream = stand_in.stream(3);
    for (h, w) in [(16, 16), (66, 68)] {
        let op = MiaMix::new(busy(1, 3)).unwrap();
        let shape = BatchShape::new(3, h, w);
        let (primary, partner) = (images::<f32>([3, 2, h, w], 0), images::<f32>([3, 2, h, w], 1));
        let bytes = DevicePlan::bytes(op.config(), shape);
        let mut memory = vec![[0u64; 2]; bytes.div_ceil(16)];
        // SAFETY: memory of that size, used to the end of the test.
        let device = unsafe { DevicePlan::at(op.config(), shape, memory.as_mut_ptr().cast(), bytes) }.unwrap();
        let plans: Vec<Plan> = (0..4).map(|seed| op.draw(shape, seed, 0).unwrap()).collect();
        for form in FORMS {
            stand_in.set(2, form);
            let mut call = Call::new(&primary, &partner, Memory::Nchw);
            // SAFETY: a stream of the stand-in's.
            unsafe { device.upload(&plans[0], stream) }.unwrap();
            stand_in.on("stand_in_begin_capture", stream);
            let refused = call.put(&op, PlanSource::Host(&plans[0]), None, stream).unwrap_err();
            assert_eq!(refused.to_string(), "stream: is capturing, which takes only a plan that was uploaded before");
            assert_eq!(refused.status(), Status::Unsupported);
            // SAFETY: as above.
            let refused = unsafe { device.upload(&plans[0], stream) }.unwrap_err();
            assert_eq!(refused.status(), Status::Unsupported);
            call.put(&op, PlanSource::Device(&device), None, stream).unwrap();
            // Another call meanwhile, on a stream that is not captured, breaks no capture, and the caller's own mode
            // is left as it was.
            let mut other = Call::new(&primary, &partner, Memory::Nchw);
            other.put(&op, PlanSource::Host(&plans[1]), None, stand_in.stream(0)).unwrap();
            stand_in.run(stand_in.stream(0));
            assert_same(&other.results(), &on_cpu(&op, &plans[1], &primary, &partner), "beside a capture");
            // SAFETY: the function's type.
            assert_eq!(unsafe { stand_in.function::<unsafe extern "C" fn() -> c_int>("stand_in_capture_mode")() }, 0);
            stand_in.on("stand_in_end_capture", stream);
            let before = stand_in.counts().launched;
            for plan in &plans {
                // SAFETY: as above.
                unsafe { device.upload(plan, stream) }.unwrap();
                stand_in.on("stand_in_replay", stream);
                stand_in.run(stream);
                let expected = on_cpu(&op, plan, &primary, &partner);
                assert_same(&call.results(), &expected, &format!("{h}×{w}, form {form}"));
            }
            // One launch of small images, two of large ones.
            assert_eq!(stand_in.counts().launched - before, if h == 16 { 4 } else { 8 });
        }
    }
}

/// A context at the address of one that is gone (`cudaDeviceReset`) is a new one: nothing that was made in the old one is
/// used, whether its pinned memory is out of reach or somebody else's by now.
#[test]
fn a_context_that_was_reset_is_loaded_anew() {
    let Some(stand_in) = StandIn::get() else { return };
    stand_in.set(0, 0);
    let stream = stand_in.stream(2);
    let op = MiaMix::new(busy(1, 2)).unwrap();
    let shape = BatchShape::new(2, 66, 66);
    let pixels = images::<f32>([2, 1, 66, 66], 0);
    let apply = |seed| {
        let plan = op.draw(shape, seed, 0).unwrap();
        let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
        call.reports = false;
        let loaded = stand_in.counts().loaded;
        call.put(&op, PlanSource::Host(&plan), None, stream).unwrap();
        stand_in.run(stream);
        assert_same(&call.results(), &on_cpu(&op, &plan, &pixels, &pixels), &format!("seed {seed}"));
        // SAFETY: a stream of the stand-in's.
        unsafe { check_cuda_labels(stream) }.unwrap();
        stand_in.counts().loaded - loaded
    };
    let reset = |taken: c_int| {
        // SAFETY: the function's type.
        unsafe { stand_in.function::<unsafe extern "C" fn(*mut c_void, c_int)>("stand_in_reset")(stream.0, taken) }
    };
    apply(0);
    for taken in [0, 1, 0] {
        assert_eq!(apply(1), 0);
        reset(taken);
        assert_eq!(apply(2), 1, "memory taken: {taken}");
    }
    // Whoever only asks finds no answer of the old one's either.
    reset(1);
    // SAFETY: as above.
    unsafe { check_cuda_labels(stream) }.unwrap();
    reset(0);
    // SAFETY: as above.
    unsafe { check_cuda_labels(stream) }.unwrap();
    assert_eq!(apply(3), 0);
}

/// What lies in its memory is no plan before: nothing is launched. An upload that fails changes nothing of that.
#[test]
fn a_device_plan_is_refused_until_it_is_uploaded() {
    let Some(stand_in) = StandIn::get() else { return };
    let stream = stand_in.stream(0);
    stand_in.set(0, 0);
    let op = MiaMix::new(Config::default()).unwrap();
    let shape = BatchShape::new(2, 6, 6);
    let bytes = DevicePlan::bytes(op.config(), shape);
    let mut memory = vec![[u64::MAX; 2]; bytes.div_ceil(16)];
    // SAFETY: memory of that size, used to the end of the test.
    let device = unsafe { DevicePlan::at(op.config(), shape, memory.as_mut_ptr().cast(), bytes) }.unwrap();
    let pixels = images::<f32>([2, 1, 6, 6], 0);
    let plan = op.draw(shape, 1, 0).unwrap();
    let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
    let mut masks = vec![0.0f32; 72];
    let mut refused = |call: &mut Call<f32>| {
        // SAFETY: memory that outlives the run.
        let rendered = unsafe {
            op.masks_cuda(PlanSource::Device(&device), masks.as_mut_ptr(), null_mut(), None, stream).unwrap_err()
        };
        assert_eq!(call.put(&op, PlanSource::Device(&device), None, stream), Err(rendered.clone()));
        assert_eq!(rendered.status(), Status::InvalidArgument);
        assert_eq!(
            rendered.to_string(),
            "plan: must have been uploaded (miamix_plan_upload) before it is applied, got a plan in device memory \
             that never was"
        );
    };
    let before = stand_in.counts().launched;
    refused(&mut call);
    stand_in.fail(1);
    // SAFETY: a stream of the stand-in's.
    unsafe { device.upload(&plan, stream) }.unwrap_err();
    refused(&mut call);
    stand_in.run(stream);
    assert_eq!(stand_in.counts().launched, before);
    // SAFETY: as above.
    unsafe { device.upload(&plan, stream) }.unwrap();
    call.put(&op, PlanSource::Device(&device), None, stream).unwrap();
    stand_in.run(stream);
    assert_same(&call.results(), &on_cpu(&op, &plan, &pixels, &pixels), "once it is uploaded");
    // To one device; stream 2 is of another.
    let error = call.put(&op, PlanSource::Device(&device), None, stand_in.stream(2)).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument);
    assert_eq!(
        error.to_string(),
        "plan: must be one that was uploaded to CUDA device 1, where the tensors are, got one of device 0"
    );
}

/// Plans, pinned memory and workspaces: nothing is used before its time, given up too early, or allocated for each call.
#[test]
fn calls_may_pile_up_on_many_streams() {
    let Some(stand_in) = StandIn::get() else { return };
    let op = MiaMix::new(busy(1, 2)).unwrap();
    let shape = BatchShape::new(2, 66, 66);
    let (primary, partner) = (images::<bf16>([2, 1, 66, 66], 0), images::<bf16>([2, 1, 66, 66], 1));
    let before = stand_in.counts();
    let mut rounds = Vec::new();
    for round in 0..3u64 {
        let mut calls = Vec::new();
        for i in 0..8 {
            stand_in.set(2, i % 2);
            let plan = op.draw(shape, round * 8 + i as u64, 0).unwrap();
            let expected = on_cpu(&op, &plan, &primary, &partner);
            let mut call = Call::new(&primary, &partner, Memory::Nchw);
            call.put(&op, PlanSource::Host(&plan), None, stand_in.stream(i % 4)).unwrap();
            // The plan is freed here, before anything has run.
            calls.push((call, expected));
        }
        for i in [2, 0, 3, 1] {
            stand_in.run(stand_in.stream(i));
        }
        for (i, (call, expected)) in calls.iter().enumerate() {
            assert_same(&call.results(), expected, &format!("round {round}, call {i}"));
        }
        rounds.push(stand_in.counts());
    }
    // Pinned memory of the first round serves the next ones.
    assert_eq!(rounds[0].pinned, rounds[2].pinned);
    // The caller's context is left as it was; kernels are loaded once a context.
    assert_eq!((rounds[2].pushed, rounds[2].loaded), (rounds[2].popped, rounds[0].loaded));
    assert!(rounds[0].loaded - before.loaded <= 2);
    // A workspace a call, and none left.
    assert_eq!((rounds[2].allocated - before.allocated, rounds[2].freed - before.freed), (24, 24));
}

/// Threads with a stream each, which all find their context new: it is loaded once, and no thread meets another's memory.
/// ThreadSanitizer runs this one, too.
#[test]
fn threads_mix_on_streams_of_their_own() {
    let Some(stand_in) = StandIn::get() else { return };
    const N_THREADS: u64 = 6;
    stand_in.set(2, 0);
    let op = MiaMix::new(busy(1, 2)).unwrap();
    let shape = BatchShape::new(2, 12, 12);
    let (primary, partner) = (images::<f32>([2, 1, 12, 12], 0), images::<f32>([2, 1, 12, 12], 1));
    let bytes = DevicePlan::bytes(op.config(), shape);
    // What is looked up once a process is, where ThreadSanitizer sees that it was before.
    cuda_available().unwrap();
    // SAFETY: the function's type, and a stream of the stand-in's.
    unsafe { stand_in.function::<unsafe extern "C" fn(*mut c_void, c_int)>("stand_in_reset")(stand_in.stream(0).0, 0) };
    let before = stand_in.counts();
    let streams: Vec<usize> = (0..N_THREADS).map(|_| stand_in.new_stream().0 as usize).collect();
    let start = Barrier::new(N_THREADS as usize);
    let (stand_in, op, start) = (&stand_in, &op, &start);
    let (primary, partner) = (&primary, &partner);
    std::thread::scope(|scope| {
        let threads = streams.into_iter().enumerate().map(|(i, stream)| {
            scope.spawn(move || {
                let stream = CudaStream(stream as *mut c_void);
                let mut memory = vec![[0u64; 2]; bytes.div_ceil(16)];
                // SAFETY: memory of that size, used to the end of the thread.
                let device = unsafe { DevicePlan::at(op.config(), shape, memory.as_mut_ptr().cast(), bytes) }.unwrap();
                start.wait();
                for round in 0..8 {
                    let plan = op.draw(shape, 100 * i as u64 + round, 0).unwrap();
                    let mut calls = [0, 1].map(|_| Call::new(primary, partner, Memory::Nchw));
                    calls[0].put(op, PlanSource::Host(&plan), None, stream).unwrap();
                    // SAFETY: a stream of the stand-in's.
                    unsafe { device.upload(&plan, stream) }.unwrap();
                    calls[1].put(op, PlanSource::Device(&device), None, stream).unwrap();
                    // SAFETY: as above.
                    unsafe { check_cuda_labels(stream) }.unwrap();
                    stand_in.run(stream);
                    let expected = on_cpu(op, &plan, primary, partner);
                    calls.iter().for_each(|call| assert_same(&call.results(), &expected, &format!("thread {i}")));
                }
            })
        });
        // By hand: ThreadSanitizer sees this end of a thread, and not that of the scope.
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let after = stand_in.counts();
    assert_eq!((after.loaded - before.loaded, after.pushed), (1, after.popped));
}

/// What the host code itself takes for a batch of 256, beside the draw and a copy of the plan's bytes:
/// `cargo test --release --test cuda -- --ignored --nocapture` on a quiet machine, with the stand-in driver to be found.
/// What a real driver takes for its part is not in it, and that of the stand-in (queues of closures) is.
#[test]
#[ignore = "a measurement, which asserts nothing"]
fn what_the_host_code_costs() {
    let Some(stand_in) = StandIn::get() else { return };
    let stream = stand_in.stream(0);
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>8} {:>8}   (µs, median; plan in KB)",
        "", "plan", "copy", "draw", "upload", "apply"
    );
    for side in [32, 224] {
        let op = MiaMix::new(Config::default()).unwrap();
        let shape = BatchShape::new(256, side, side);
        let bytes = DevicePlan::bytes(op.config(), shape);
        let mut memory = vec![[0u64; 2]; bytes.div_ceil(16)];
        // SAFETY: memory of that size, used to the end of the test.
        let device = unsafe { DevicePlan::at(op.config(), shape, memory.as_mut_ptr().cast(), bytes) }.unwrap();
        let workspace_bytes = op.cuda_workspace_bytes(shape).unwrap();
        // Addresses alone: nothing on the stream is run but the uploads.
        let at = |address: usize| std::ptr::without_provenance_mut::<u8>(address);
        let workspace = Some(Workspace { data: at(1 << 40).cast(), bytes: workspace_bytes });
        let (images, strides) = ([256, 3, side, side], [3 * side * side, side * side, side, 1].map(|s| s as isize));
        let from = vec![1u8; bytes];
        let mut to = vec![0u8; bytes];
        let mut plan = op.draw(shape, 0, 0).unwrap();
        let [mut copied, mut drawn, mut uploaded, mut applied] = [const { Vec::new() }; 4];
        for round in 0..2000 {
            let timed = |into: &mut Vec<f64>, work: &mut dyn FnMut()| {
                let start = std::time::Instant::now();
                work();
                into.push(start.elapsed().as_secs_f64() * 1e6);
            };
            timed(&mut copied, &mut || std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from)));
            timed(&mut drawn, &mut || op.draw_into(shape, round, 0, &mut plan).unwrap());
            // SAFETY: a stream of the stand-in's.
            timed(&mut uploaded, &mut || unsafe { device.upload(&plan, stream) }.unwrap());
            stand_in.run(stream);
            timed(&mut applied, &mut || {
                // SAFETY: what is put on the stream is thrown away.
                unsafe {
                    let read =
                        |name, i: usize| Images::from_raw(name, at(i << 40), Dtype::F32, images, strides).unwrap();
                    let out = ImagesMut::from_raw("mixed_images", at(4 << 40), Dtype::F32, images, strides).unwrap();
                    let ids = DeviceLabels::Ids { data: at(5 << 40).cast(), stride: 1, n_classes: 10 };
                    let batch =
                        DeviceBatch { images: read("images", 2), partner_images: read("partner", 3), labels: ids };
                    let output = DeviceOutput {
                        images: out,
                        labels: at(6 << 40).cast(),
                        label_strides: [10, 1],
                        label_weight: null_mut(),
                        partner_index: null_mut(),
                        bad_label: null_mut(),
                    };
                    op.apply_cuda(PlanSource::Device(&device), batch, output, workspace, stream).unwrap();
                }
            });
            stand_in.on("stand_in_forget", stream);
        }
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let kilobytes = bytes as f64 / 1000.0;
        let [copied, drawn, uploaded, applied] = [copied, drawn, uploaded, applied].map(median);
        println!("{side:>5}² px {kilobytes:>8.1} {copied:>8.2} {drawn:>8.2} {uploaded:>8.2} {applied:>8.2}");
    }
}

/// What the kernels execute, as PTX whose lanes go through it together, where the stand-in driver counts it
/// (`cargo xtask instructions --cuda`): not what hardware takes, but what it is asked for.
#[test]
#[ignore = "a measurement, which asserts nothing"]
fn what_the_kernels_execute() {
    let Some(stand_in) = StandIn::get() else { return };
    /// Instructions of all warps, and of the longest.
    #[repr(C)]
    struct Executed {
        all_warps: u64,
        longest_warp: u64,
    }
    // SAFETY: the function's type.
    let executed = unsafe { stand_in.library.get::<unsafe extern "C" fn() -> Executed>("stand_in_executed") };
    let Ok(executed) = executed else { return eprintln!("skipped: this stand-in driver does not count") };
    println!("{:<38} {:>16} {:>14}", "", "for 128 pixels", "longest warp");
    stand_in.set(0, 1);
    let plain = Config { k_max: 1, p_aug: 0.0, p_smooth: 0.0, ..Config::default() };
    let warped = Config { p_aug: 1.0, ..plain.clone() };
    let smooth = Config { p_smooth: 1.0, ..plain.clone() };
    let both = Config { p_aug: 1.0, p_smooth: 1.0, ..plain.clone() };
    let only = |method, config: &Config| Config { method_weights: MethodWeights::only(method), ..config.clone() };
    fn count<T: Bits>(
        stand_in: &StandIn,
        executed: &dyn Fn() -> Executed,
        name: &str,
        config: Config,
        shape: BatchShape,
        layout: Memory,
    ) {
        let op = MiaMix::new(config).unwrap();
        let plan = op.draw(shape, 3, 0).unwrap();
        let BatchShape { samples, height, width } = shape;
        let images = images::<T>([samples, 3, height, width], 0);
        let mut call = Call::new(&images, &images, layout);
        call.put(&op, PlanSource::Host(&plan), None, stand_in.stream(0)).unwrap();
        stand_in.run(stand_in.stream(0));
        let Executed { all_warps, longest_warp } = executed();
        let pixels = (samples * height * width) as f64;
        let what = format!("{height}×{width} {:?} {layout:?}, {name}", T::DTYPE);
        println!("{what:<38} {:>16.0} {longest_warp:>14}", all_warps as f64 / (pixels / 128.0));
    }
    // SAFETY: the function's type.
    let executed = || unsafe { executed() };
    let large = |samples| BatchShape::new(samples, 224, 224);
    macro_rules! count {
        ($t:ty, $name:expr, $config:expr, $shape:expr, $layout:expr) => {
            count::<$t>(&stand_in, &executed, $name, $config, $shape, $layout)
        };
    }
    for layout in [Memory::Nchw, Memory::Nhwc] {
        count!(f32, "default", Config::default(), large(48), layout);
        count!(f16, "default", Config::default(), large(48), layout);
        count!(bf16, "default", Config::default(), large(48), layout);
        count!(u8, "default", Config::default(), large(48), layout);
        let mixup = only(Method::MixUp, &plain);
        count!(f32, "mixup", mixup.clone(), large(2), layout);
        count!(f16, "mixup", mixup.clone(), large(2), layout);
        count!(bf16, "mixup", mixup.clone(), large(2), layout);
        count!(u8, "mixup", mixup, large(2), layout);
    }
    for method in [Method::CutMix, Method::GridMix, Method::FMix, Method::AgMix] {
        count!(u8, &format!("{method:?}"), only(method, &plain), large(4), Memory::Nchw);
        if method == Method::AgMix {
            continue;
        }
        count!(u8, &format!("{method:?} warped"), only(method, &warped), large(4), Memory::Nchw);
        count!(u8, &format!("{method:?} smooth"), only(method, &smooth), large(4), Memory::Nchw);
        count!(u8, &format!("{method:?} both"), only(method, &both), large(4), Memory::Nchw);
    }
    for side in [512, 1024] {
        for (name, config) in [("FMix", &plain), ("FMix warped", &warped)] {
            let config = only(Method::FMix, config);
            count!(u8, name, config, BatchShape::new(2, side, side), Memory::Nchw);
        }
    }
    count!(f32, "default", Config::default(), BatchShape::new(128, 32, 32), Memory::Nchw);
}

/// A host thread that is `ahead` rounds ahead of streams, which are done in the order in which they were begun: what
/// each of its uploads takes from there on, and how often it asks for an event.
fn uploads_ahead(stand_in: &StandIn, streams: &[CudaStream], ahead: usize, rounds: usize) -> Vec<(f64, u64)> {
    let op = MiaMix::new(Config::default()).unwrap();
    let shape = BatchShape::new(2, 8, 8);
    let plan = op.draw(shape, 0, 0).unwrap();
    let bytes = DevicePlan::bytes(op.config(), shape);
    let mut memory = vec![[0u64; 2]; bytes.div_ceil(16)];
    // SAFETY: memory of that size, used to the end of this function.
    let device = unsafe { DevicePlan::at(op.config(), shape, memory.as_mut_ptr().cast(), bytes) }.unwrap();
    let mut seen = Vec::new();
    for round in 0..ahead + rounds {
        for &stream in streams {
            let (before, start) = (stand_in.queried(), std::time::Instant::now());
            // SAFETY: a stream of the stand-in's.
            unsafe { device.upload(&plan, stream) }.unwrap();
            let micros = start.elapsed().as_secs_f64() * 1e6;
            if round >= ahead {
                seen.push((micros, stand_in.queried() - before));
            }
        }
        if round >= ahead {
            // A copy and an event.
            streams.iter().for_each(|&stream| stand_in.run_some(stream, 2));
        }
    }
    streams.iter().for_each(|&stream| stand_in.run(stream));
    seen
}

/// `cargo test --release --test cuda -- --ignored --nocapture`, as the next one.
#[test]
#[ignore = "a measurement, which asserts nothing"]
fn what_pinned_memory_costs_beside_many_streams() {
    let Some(stand_in) = StandIn::get() else { return };
    println!("{:>8} {:>8} {:>18} {:>22}", "streams", "ahead", "queries an upload", "µs an upload, median");
    for (n_streams, ahead) in [(1, 1), (1, 8), (16, 1), (16, 8), (16, 64)] {
        let streams: Vec<CudaStream> = (0..n_streams).map(|_| stand_in.new_stream()).collect();
        let (mut times, queries): (Vec<f64>, Vec<u64>) =
            uploads_ahead(&stand_in, &streams, ahead, 2000 / n_streams).into_iter().unzip();
        times.sort_by(f64::total_cmp);
        let per_upload = queries.iter().sum::<u64>() as f64 / queries.len() as f64;
        println!("{n_streams:>8} {ahead:>8} {per_upload:>18.1} {:>22.2}", times[times.len() / 2]);
    }
}

/// However many uploads are on their way, the driver is asked about two; a stream that is held up costs one question more
/// and no memory but its own.
#[test]
fn pinned_memory_is_found_by_few_questions() {
    let Some(stand_in) = StandIn::get() else { return };
    let streams: Vec<CudaStream> = (0..16).map(|_| stand_in.new_stream()).collect();
    let queries = |rounds| uploads_ahead(&stand_in, &streams, 8, rounds).into_iter().map(|(_, queries)| queries);
    // As much memory as this takes.
    queries(8).for_each(drop);
    let pinned = stand_in.counts().pinned;
    assert!(queries(20).all(|queries| queries <= 2));
    assert_eq!(stand_in.counts().pinned, pinned);

    let op = MiaMix::new(Config::default()).unwrap();
    let plan = op.draw(BatchShape::new(2, 20, 20), 0, 0).unwrap();
    let pixels = images::<u8>([2, 1, 20, 20], 0);
    let (held_up, mut calls) = (stand_in.new_stream(), Vec::new());
    for _ in 0..10 {
        let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
        call.put(&op, PlanSource::Host(&plan), None, held_up).unwrap();
        calls.push(call);
    }
    queries(8).for_each(drop);
    let pinned = stand_in.counts().pinned;
    assert!(queries(20).all(|queries| queries <= 3));
    assert_eq!(stand_in.counts().pinned, pinned);
    stand_in.run(held_up);
    let expected = on_cpu(&op, &plan, &pixels, &pixels);
    calls.iter().for_each(|call| assert_same(&call.results(), &expected, "held up"));
}

#[test]
fn a_workspace_of_the_callers_is_used_and_nothing_else() {
    let Some(stand_in) = StandIn::get() else { return };
    stand_in.set(2, 0);
    for (h, w) in [(20, 20), (66, 66)] {
        let op = MiaMix::new(busy(1, 2)).unwrap();
        let shape = BatchShape::new(2, h, w);
        let bytes = op.cuda_workspace_bytes(shape).unwrap();
        let mut memory = vec![0u8; bytes + 256];
        let offset = memory.as_ptr().align_offset(256);
        let workspace = |bytes| Workspace { data: memory.as_ptr().wrapping_add(offset).cast_mut().cast(), bytes };
        let (primary, partner) = (images::<u8>([2, 3, h, w], 0), images::<u8>([2, 3, h, w], 1));
        let plan = op.draw(shape, 9, 0).unwrap();
        let mut call = Call::new(&primary, &partner, Memory::Nhwc);
        let before = stand_in.counts().allocated;
        call.put(&op, PlanSource::Host(&plan), Some(workspace(bytes)), stand_in.stream(0)).unwrap();
        stand_in.run(stand_in.stream(0));
        assert_same(&call.results(), &on_cpu(&op, &plan, &primary, &partner), "in a workspace");
        assert_eq!(stand_in.counts().allocated, before);
        let error = call.put(&op, PlanSource::Host(&plan), Some(workspace(16)), stand_in.stream(0)).unwrap_err();
        assert!(error.to_string().starts_with("workspace: must have at least "), "{error}");
        memory.fill(0);
    }
}

/// A device without memory pools mixes in a workspace of the caller's, and says so otherwise.
#[test]
fn without_memory_pools_there_must_be_a_workspace() {
    let Some(stand_in) = StandIn::get() else { return };
    stand_in.set(0, 0);
    let stream = stand_in.stream(2);
    // SAFETY: the functions' types.
    let (reset, no_pools) = unsafe {
        let reset = stand_in.function::<unsafe extern "C" fn(*mut c_void, c_int)>("stand_in_reset");
        let no_pools = stand_in.function::<unsafe extern "C" fn(c_int)>("stand_in_no_pools");
        (move || reset(stream.0, 0), move |without| no_pools(without))
    };
    let op = MiaMix::new(busy(1, 2)).unwrap();
    let shape = BatchShape::new(2, 20, 20);
    let plan = op.draw(shape, 9, 0).unwrap();
    let pixels = images::<u8>([2, 1, 20, 20], 0);
    let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
    let bytes = op.cuda_workspace_bytes(shape).unwrap();
    let mut memory = vec![0u8; bytes + 256];
    let offset = memory.as_ptr().align_offset(256);
    let workspace = Workspace { data: memory[offset..].as_mut_ptr().cast(), bytes };
    reset();
    no_pools(1);
    let error = call.put(&op, PlanSource::Host(&plan), None, stream).unwrap_err();
    assert_eq!(error.status(), Status::Unsupported);
    assert_eq!(error.to_string(), "workspace: must be given, as CUDA device 1 has no memory pools");
    call.put(&op, PlanSource::Host(&plan), Some(workspace), stream).unwrap();
    stand_in.run(stream);
    assert_same(&call.results(), &on_cpu(&op, &plan, &pixels, &pixels), "in a workspace");
    // The next test finds a device with pools.
    no_pools(0);
    reset();
}

/// A thread without a context takes the device's own, retained once, for as long as the guard lives.
#[test]
fn a_null_stream_is_the_default_stream_of_the_current_device() {
    let Some(stand_in) = StandIn::get() else { return };
    stand_in.set(0, 0);
    let null = CudaStream(null_mut());
    let op = MiaMix::new(busy(1, 2)).unwrap();
    let plan = op.draw(BatchShape::new(2, 20, 20), 9, 0).unwrap();
    let pixels = images::<u8>([2, 1, 20, 20], 0);
    // SAFETY: the function's type.
    let retained = || unsafe { stand_in.function::<unsafe extern "C" fn() -> c_int>("stand_in_retained")() };
    let before = retained();
    for device in [0, 1, 0, 1] {
        let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
        {
            let _current = CurrentCudaDevice::for_stream(null, device).unwrap();
            // SAFETY: the default stream of a context of the stand-in's.
            assert_eq!(unsafe { cuda_device_of_stream(null) }, Ok(device));
            // What is current already stays.
            let _other = CurrentCudaDevice::for_stream(null, 1 - device).unwrap();
            call.put(&op, PlanSource::Host(&plan), None, null).unwrap();
        }
        call.put(&op, PlanSource::Host(&plan), None, null).unwrap_err();
        stand_in.run(stand_in.stream(4 + device));
        assert_same(&call.results(), &on_cpu(&op, &plan, &pixels, &pixels), "on a default stream");
    }
    assert_eq!(retained() - before, 2);
    // A stream has a context of its own.
    let _current = CurrentCudaDevice::for_stream(stand_in.stream(0), 5).unwrap();
    let error = CurrentCudaDevice::for_stream(null, 5).unwrap_err();
    assert_eq!(error, Error::Cuda { call: "cuDeviceGet", code: 101 });
    let counts = stand_in.counts();
    assert_eq!(counts.pushed, counts.popped);
}

#[test]
fn failures_of_the_driver_are_errors() {
    let Some(stand_in) = StandIn::get() else { return };
    stand_in.set(0, 0);
    let op = MiaMix::new(busy(2, 2)).unwrap();
    let plan = op.draw(BatchShape::new(2, 66, 66), 9, 0).unwrap();
    let pixels = images::<u8>([2, 1, 66, 66], 0);
    let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
    let mut failed = Vec::new();
    for at in 1..20 {
        stand_in.fail(at);
        let result = call.put(&op, PlanSource::Host(&plan), None, stand_in.stream(0));
        stand_in.run(stand_in.stream(0));
        match result {
            Err(Error::Cuda { call, code: 999 }) => failed.push(call),
            Err(other) => panic!("{other}"),
            Ok(()) => break,
        }
    }
    stand_in.fail(0);
    failed.dedup();
    let all = ["cuMemAllocFromPoolAsync", "cuMemcpyHtoDAsync_v2", "cuEventRecord", "cuMemsetD8Async", "cuLaunchKernel"];
    assert_eq!(failed, all);
    let nowhere = CudaStream(std::ptr::without_provenance_mut(64));
    let error = call.put(&op, PlanSource::Host(&plan), None, nowhere).unwrap_err();
    assert_eq!(error, Error::Cuda { call: "cuStreamGetCtx", code: 400 });
    assert_eq!((error.to_string().as_str(), error.status()), ("CUDA: cuStreamGetCtx failed with 400", Status::Cuda));
    let error = call.put(&op, PlanSource::Host(&plan), None, CudaStream(null_mut())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stream: must not be NULL on a thread without a current CUDA context (make the device current first), got NULL"
    );
    assert_eq!(error.status(), Status::InvalidArgument);
    let counts = stand_in.counts();
    assert_eq!(counts.pushed, counts.popped);
}

#[test]
fn the_stand_in_notices_mistakes() {
    let Some(stand_in) = StandIn::get() else { return };
    type Mistake = unsafe extern "C" fn(*const c_char, c_int, *const c_void) -> *const c_char;
    let mistake = stand_in.function::<Mistake>("stand_in_mistake");
    let run = |name: &CStr, order| {
        let mut seen = [-1i32; 64];
        let parameter = seen.as_mut_ptr();
        // SAFETY: the kernels take one address, and write 64 numbers there at most.
        let error = unsafe { mistake(name.as_ptr(), order, (&raw const parameter).cast()) };
        // SAFETY: text of the stand-in's.
        let error = (!error.is_null()).then(|| unsafe { CStr::from_ptr(error) }.to_str().unwrap().to_owned());
        (error, seen)
    };
    let right: [i32; 64] = std::array::from_fn(|i| 63 - i as i32);
    for order in ORDERS {
        assert_ne!(run(c"without_a_barrier", order).1, right);
        let (error, _) = run(c"barrier_of_a_part", order);
        assert!(error.unwrap().ends_with("__syncthreads: a part of the block has ended"));
        assert!(run(c"past_the_end", order).0.unwrap().ends_with("write past the end of shared memory"));
    }
}

/// What the driver's compiler says about kernels that it does not take is told. In a process of its own.
#[test]
fn kernels_that_do_not_compile_are_told_of() {
    let Some(stand_in) = StandIn::get() else { return };
    const REFUSED: &str = "STAND_IN_PTX";
    if std::env::var_os(REFUSED).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "kernels_that_do_not_compile_are_told_of", "--nocapture"]).env(REFUSED, "refused");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let op = MiaMix::new(Config::default()).unwrap();
    let plan = op.draw(BatchShape::new(1, 2, 2), 0, 0).unwrap();
    let pixels = images::<f32>([1, 1, 2, 2], 0);
    let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
    let error = call.put(&op, PlanSource::Host(&plan), None, stand_in.stream(0)).unwrap_err();
    let said = "ptxas application ptx input, line 9; fatal   : Parsing error near '.oops'";
    assert_eq!(error.to_string(), format!("CUDA: cuModuleLoadDataEx failed with 218: {said}"));
    assert_eq!(error.status(), Status::Cuda);
}

/// On a machine without a driver, whoever asks gets an error that says so. In a process of its own, as the answer is kept.
#[test]
fn without_a_driver_there_is_an_error() {
    const CHILD: &str = "MIAMIX_TEST_WITHOUT_CUDA";
    if let Some(reason) = std::env::var_os(CHILD) {
        let error = cuda_available().unwrap_err();
        assert_eq!(error.status(), Status::CudaUnavailable);
        assert_eq!(error.to_string(), format!("CUDA is not available: {}", reason.to_str().unwrap()));
        let op = MiaMix::new(Config::default()).unwrap();
        let plan = op.draw(BatchShape::new(1, 2, 2), 0, 0).unwrap();
        let pixels = images::<f32>([1, 1, 2, 2], 0);
        let mut call = Call::new(&pixels, &pixels, Memory::Nchw);
        let stream = CudaStream(null_mut());
        assert_eq!(call.put(&op, PlanSource::Host(&plan), None, stream).unwrap_err(), error);
        return;
    }
    let check = |reason: &str, change: &dyn Fn(&mut std::process::Command)| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "without_a_driver_there_is_an_error", "--nocapture"]).env(CHILD, reason);
        change(&mut child);
        let output = child.output().unwrap();
        assert!(output.status.success(), "{reason}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let Some(_stand_in) = StandIn::get() else {
        // A real driver, or none.
        if cuda_available().is_err() {
            check("no driver library (libcuda.so.1)", &|_| ());
        }
        return;
    };
    check("no driver library (libcuda.so.1)", &|child| {
        child.env_remove("LD_LIBRARY_PATH").env_remove("MIAMIX_REQUIRE_CUDA");
    });
    check("CUDA: cuInit failed with 100", &|child| {
        child.env("STAND_IN_INIT", "100");
    });
    check("the driver knows no device", &|child| {
        child.env("STAND_IN_DEVICES", "0");
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let op = MiaMix::new(Config::default()).unwrap();
    let plan = op.draw(BatchShape::new(2, 6, 6), 0, 0).unwrap();
    let pixels = images::<f32>([2, 1, 6, 6], 0);
    let stream = CudaStream(null_mut());
    let mut other = Call::new(&images::<f32>([2, 1, 6, 7], 0), &pixels, Memory::Nchw);
    let error = other.put(&op, PlanSource::Host(&plan), None, stream).unwrap_err();
    assert_eq!(error.to_string(), "images: expected shape [2, C, 6, 6], as the plan, got [2, 1, 6, 7]");
    let mut same = Call::new(&pixels, &pixels, Memory::Nchw);
    let view = Laid { memory: Vec::new(), shape: same.primary.shape, strides: same.primary.strides };
    let overlapping = Laid::<f32> { memory: std::mem::take(&mut same.primary.memory), ..view };
    let batch =
        DeviceBatch { images: overlapping.view(), partner_images: same.partner.view(), labels: DeviceLabels::None };
    let data = overlapping.memory.as_ptr().cast_mut().cast();
    // SAFETY: never read or written: the call is refused.
    let images =
        unsafe { ImagesMut::from_raw("mixed_images", data, Dtype::F32, overlapping.shape, overlapping.strides) }
            .unwrap();
    let output = DeviceOutput {
        images,
        labels: null_mut(),
        label_strides: [0, 0],
        label_weight: null_mut(),
        partner_index: null_mut(),
        bad_label: null_mut(),
    };
    // SAFETY: as above.
    let error = unsafe { op.apply_cuda(PlanSource::Host(&plan), batch, output, None, stream) }.unwrap_err();
    assert_eq!(error.to_string(), "mixed_images: must not overlap images, got 288 bytes in common");
    let shape = BatchShape::new(2, 6, 6);
    let bytes = DevicePlan::bytes(op.config(), shape);
    // SAFETY: never used.
    let at = |data: usize, bytes| unsafe {
        DevicePlan::at(op.config(), shape, std::ptr::without_provenance_mut(data), bytes).map(|_| ())
    };
    assert_eq!(
        at(8, bytes).unwrap_err().to_string(),
        "buffer: must be the address of device memory, a multiple of 16, got 0x8"
    );
    let error = at(64, bytes - 1).unwrap_err();
    assert_eq!(error.to_string(), format!("buffer: must have at least {bytes} bytes, got {}", bytes - 1));
    at(64, bytes).unwrap();
}
