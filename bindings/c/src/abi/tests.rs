//! What a C program cannot see: that the bits are those of the Rust API, and that no panic gets out.
//! `tests/c/abi.c` tests the rest from C.

#[cfg(feature = "cuda")]
use super::apply::miamix_backward;
use super::apply::{miamix_apply, miamix_apply_maps, miamix_masks, miamix_mix};
use super::boundary::boundary;
use super::config::{miamix_config, miamix_config_init};
#[cfg(feature = "cuda")]
use super::cuda::{
    miamix_check_labels, miamix_cuda_device_of, miamix_cuda_sizes, miamix_plan_on_device, miamix_plan_upload,
};
use super::op::{miamix_op, miamix_op_create, miamix_op_free};
use super::plan::{miamix_plan, miamix_plan_draw, miamix_plan_free, miamix_shape};
#[cfg(feature = "cuda")]
use super::plan::{miamix_plan_redraw, miamix_plan_shape, miamix_plan_to_json};
use super::status::miamix_last_error_message;
use super::tensor::{FLOAT32, IMAGES, INT64, miamix_device, miamix_dtype, miamix_tensor};
#[cfg(feature = "cuda")]
use crate::stand_in::StandIn;
use half::{bf16, f16};
use miamix_core::{Batch, BatchShape, Config, Element, Images, ImagesMut, Labels, MiaMix, Output, Status};
use ndarray::{Array1, Array2, Array3, Array4, ArrayRef, Dimension};
use std::ffi::CStr;
use std::ptr::{null, null_mut};

/// An odd batch of odd images, large enough to be worked on by several threads.
const SHAPE: (usize, usize, usize, usize) = (7, 3, 61, 47);
const N_CLASSES: usize = 5;

fn last_error() -> String {
    // SAFETY: never NULL, and copied before the next call.
    unsafe { CStr::from_ptr(miamix_last_error_message()) }.to_str().unwrap().to_owned()
}

/// An array's shape and strides as C has them.
struct Described {
    data: *mut u8,
    dtype: miamix_dtype,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl Described {
    fn new<T, D: Dimension>(array: &mut ArrayRef<T, D>, dtype: miamix_dtype) -> Self {
        Described {
            data: array.as_mut_ptr().cast(),
            dtype,
            shape: array.shape().iter().map(|&extent| extent as i64).collect(),
            strides: array.strides().iter().map(|&stride| stride as i64).collect(),
        }
    }

    fn tensor(&mut self) -> miamix_tensor {
        miamix_tensor {
            data: self.data.cast(),
            device: miamix_device { device_type: 1, device_id: 0 },
            ndim: self.shape.len() as i32,
            dtype: self.dtype,
            shape: self.shape.as_mut_ptr(),
            strides: self.strides.as_mut_ptr(),
            byte_offset: 0,
        }
    }
}

/// Every layer kind, views and label smoothing.
fn config() -> Config {
    Config {
        k_max: 4,
        method_weights: [1.0; 6].into(),
        p_flip: 0.5,
        pad_px: 3,
        label_smoothing: 0.1,
        ..Config::default()
    }
}

fn create(n_threads: u32) -> *mut miamix_op {
    let config = miamix_config { n_threads, ..config().into() };
    let mut op = null_mut();
    assert_eq!(unsafe { miamix_op_create(&raw const config, &raw mut op) }, Status::Ok, "{}", last_error());
    op
}

/// An array in the order [N, C, H, W], in memory in that order or in the order NHWC.
fn images<T: Element>(nhwc: bool, element: impl Fn(usize) -> T) -> Array4<T> {
    let (n, c, h, w) = SHAPE;
    let at = |(n, c, y, x): (usize, usize, usize, usize)| element(((n * 3 + c) * 61 + y) * 47 + x);
    if nhwc {
        Array4::from_shape_fn((n, h, w, c), |(n, y, x, c)| at((n, c, y, x))).permuted_axes([0, 3, 1, 2])
    } else {
        Array4::from_shape_fn(SHAPE, at)
    }
}

fn agrees<T: Element>(dtype: miamix_dtype, from: impl Fn(usize) -> T, bits: impl Fn(T) -> u32, zero: T) {
    let rust = MiaMix::new(config()).unwrap();
    let ids = Array1::from_iter((0..SHAPE.0 as i64).map(|i| i % N_CLASSES as i64 - 1));
    let plan = rust.draw(BatchShape::new(SHAPE.0, SHAPE.2, SHAPE.3), 3, 500).unwrap();
    for nhwc in [false, true] {
        let mut primary = images(nhwc, |i| from(i % 256));
        let mut partner = images(nhwc, |i| from((i * 7 + 5) % 256));
        let mut expected = images(nhwc, |_| zero);
        let mut expected_labels = Array2::<f32>::zeros((SHAPE.0, N_CLASSES));
        let (mut expected_weight, mut expected_index) = (vec![0.0; SHAPE.0], vec![0; SHAPE.0]);
        let batch = Batch {
            images: Images::from(primary.view()),
            partner_images: Images::from(partner.view()),
            labels: Labels::ids(ids.view(), N_CLASSES),
        };
        let output = Output {
            images: ImagesMut::from(expected.view_mut()),
            labels: Some(expected_labels.view_mut()),
            label_weight: Some(&mut expected_weight),
            partner_index: Some(&mut expected_index),
        };
        rust.apply(&plan, batch, output).unwrap();

        for n_threads in [1, 2, 7] {
            let op = create(n_threads);
            let mut mixed = images(nhwc, |_| zero);
            let mut ids = ids.clone();
            let mut labels = Array2::<f32>::zeros((SHAPE.0, N_CLASSES));
            let (mut weight, mut index) = (Array1::<f32>::zeros(SHAPE.0), Array1::<i64>::zeros(SHAPE.0));
            let mut described = [
                Described::new(&mut primary, dtype),
                Described::new(&mut partner, dtype),
                Described::new(&mut ids, INT64),
                Described::new(&mut mixed, dtype),
                Described::new(&mut labels, FLOAT32),
                Described::new(&mut weight, FLOAT32),
                Described::new(&mut index, INT64),
            ];
            let [mut primary, mut partner, mut ids, mut out, mut rows, mut weights, mut indices] =
                described.each_mut().map(Described::tensor);
            let status = unsafe {
                miamix_mix(
                    op,
                    3,
                    500,
                    &raw mut primary,
                    &raw mut partner,
                    &raw mut ids,
                    N_CLASSES,
                    &raw mut out,
                    &raw mut rows,
                    &raw mut weights,
                    &raw mut indices,
                    null_mut(),
                )
            };
            assert_eq!(status, Status::Ok, "{}", last_error());
            let context = format!("{dtype}, NHWC: {nhwc}, {n_threads} threads");
            assert!(mixed.iter().map(|&v| bits(v)).eq(expected.iter().map(|&v| bits(v))), "images, {context}");
            assert_eq!(labels, expected_labels, "{context}");
            assert_eq!(weight.to_vec(), expected_weight, "{context}");
            assert_eq!(index.to_vec(), expected_index, "{context}");
            unsafe { miamix_op_free(op) };
        }
    }
}

#[test]
fn mixing_gives_the_bits_of_the_rust_api() {
    let [float32, float16, bfloat16, uint8] = IMAGES.try_into().unwrap();
    agrees(float32, |i| i as f32 / 255.0, f32::to_bits, 0.0);
    agrees(float16, |i| f16::from_f32(i as f32 / 255.0), |v| v.to_bits().into(), f16::ZERO);
    agrees(bfloat16, |i| bf16::from_f32(i as f32 / 255.0), |v| v.to_bits().into(), bf16::ZERO);
    agrees(uint8, |i| i as u8, u32::from, 0);
}

/// Draws a plan for [`SHAPE`] with [`config`].
fn draw(op: *const miamix_op) -> *mut miamix_plan {
    let shape = miamix_shape::from(BatchShape::new(SHAPE.0, SHAPE.2, SHAPE.3));
    let mut plan = null_mut();
    assert_eq!(unsafe { miamix_plan_draw(op, &raw const shape, 3, 500, &raw mut plan) }, Status::Ok);
    plan
}

#[test]
fn masks_and_maps_are_those_of_the_rust_api() {
    let rust = MiaMix::new(config()).unwrap();
    let rust_plan = rust.draw(BatchShape::new(SHAPE.0, SHAPE.2, SHAPE.3), 3, 500).unwrap();
    let map_shape = (SHAPE.0, SHAPE.2, SHAPE.3);
    let (mut expected, mut expected_weight) = (Array3::<f32>::zeros(map_shape), vec![0.0; SHAPE.0]);
    rust.masks(&rust_plan, Some(expected.view_mut()), Some(&mut expected_weight)).unwrap();
    let maps = Array3::from_shape_fn(map_shape, |(n, y, x)| ((n * 61 + y) * 47 + x) as i64);
    let mut expected_maps = Array3::<i64>::zeros(map_shape);
    rust.apply_maps(&rust_plan, maps.view(), maps.view(), expected_maps.view_mut()).unwrap();

    for n_threads in [1, 2, 7] {
        let op = create(n_threads);
        let plan = draw(op);
        let (mut masks, mut weight) = (Array3::<f32>::zeros(map_shape), Array1::<f32>::zeros(SHAPE.0));
        let (mut maps, mut mixed) = (maps.clone(), Array3::<i64>::zeros(map_shape));
        let mut described = [
            Described::new(&mut masks, FLOAT32),
            Described::new(&mut weight, FLOAT32),
            Described::new(&mut maps, INT64),
            Described::new(&mut mixed, INT64),
        ];
        let [mut t_masks, mut t_weight, t_maps, mut t_mixed] = described.each_mut().map(Described::tensor);
        let status = unsafe { miamix_masks(op, plan, &raw mut t_masks, &raw mut t_weight, null_mut()) };
        assert_eq!(status, Status::Ok, "{}", last_error());
        let status = unsafe { miamix_apply_maps(op, plan, &raw const t_maps, null(), &raw mut t_mixed, null_mut()) };
        assert_eq!(status, Status::Ok, "{}", last_error());
        assert_eq!(masks, expected, "{n_threads} threads");
        assert_eq!(weight.to_vec(), expected_weight, "{n_threads} threads");
        assert_eq!(mixed, expected_maps, "{n_threads} threads");
        unsafe { (miamix_plan_free(plan), miamix_op_free(op)) };
    }
}

#[test]
fn one_plan_serves_many_threads_each_with_its_own_message() {
    let op = create(2);
    let plan = draw(op);
    let (op_address, plan_address) = (op as usize, plan as usize);
    let mix = move |fails: bool| {
        let (op, plan) = (op_address as *const miamix_op, plan_address as *const miamix_plan);
        let mut images = images(false, |i| i as f32);
        let mut mixed = Array4::<f32>::zeros(SHAPE);
        let (mut images, mut out) = (Described::new(&mut images, FLOAT32), Described::new(&mut mixed, FLOAT32));
        out.shape[1] -= i64::from(fails);
        let (images, mut out) = (images.tensor(), out.tensor());
        out.strides = null_mut();
        let status = unsafe {
            let none = null_mut();
            miamix_apply(op, plan, &raw const images, null(), null(), 0, &raw mut out, none, none, none, null_mut())
        };
        (status, last_error(), mixed)
    };
    let threads: Vec<_> = (0..6).map(|i| std::thread::spawn(move || mix(i % 2 == 1))).collect();
    let (_, _, expected) = mix(false);
    for (i, thread) in threads.into_iter().enumerate() {
        let (status, message, mixed) = thread.join().unwrap();
        if i % 2 == 1 {
            assert_eq!(status, Status::Shape);
            assert_eq!(message, "mixed_images: expected shape [7, 3, 61, 47], got [7, 2, 61, 47]");
        } else {
            assert_eq!((status, message.as_str()), (Status::Ok, ""));
            assert_eq!(mixed, expected);
        }
    }
    unsafe { (miamix_plan_free(plan), miamix_op_free(op)) };
}

#[test]
fn a_panic_is_a_status_even_where_its_payload_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let with_text = boundary(|| panic!("a {}", "reason"));
    let text = last_error();
    let with_bomb = boundary(|| std::panic::panic_any(Bomb));
    std::panic::set_hook(quiet);
    assert_eq!((with_text, with_bomb), (Status::Internal, Status::Internal));
    assert_eq!(text, "internal error, a bug of the library: a reason");
    assert_eq!(last_error(), "internal error, a bug of the library: no message");
    assert_eq!(boundary(|| Ok(())), Status::Ok);
    assert_eq!(last_error(), "");
}

#[test]
fn misaligned_pointers_are_errors() {
    let config = miamix_config::from(Config::default());
    let askew = (&raw const config).cast::<u8>().wrapping_add(4).cast_mut().cast::<miamix_config>();
    let status = unsafe { miamix_config_init(askew, size_of::<miamix_config>()) };
    assert_eq!(status, Status::InvalidArgument);
    assert_eq!(last_error(), format!("config: must be aligned to 8 bytes, got {askew:p}"));
}

/// Tensors in CUDA memory; `cargo xtask test --only CUDA` makes the stand-in driver be found.
#[cfg(feature = "cuda")]
#[test]
fn tensors_on_a_cuda_device_give_the_bits_of_the_cpu() {
    let Some(stand_in) = StandIn::get() else { return };
    let stream = stand_in.stream(0);
    let finish = || stand_in.run(stream);
    let op = create(1);
    let plan = draw(op);
    let (mut primary, mut partner) = (images(false, |i| i as f32), images(false, |i| -(i as f32)));
    let mut ids = Array1::from_iter((0..SHAPE.0 as i64).map(|i| i % N_CLASSES as i64 - 1));
    let map_shape = (SHAPE.0, SHAPE.2, SHAPE.3);
    let mut maps = Array3::from_shape_fn(map_shape, |(n, y, x)| ((n * 61 + y) * 47 + x) as i64);
    let mut results = Vec::new();
    for device_type in [1, 2] {
        let mut mixed = images(false, |_| 0.0f32);
        let mut labels = Array2::<f32>::zeros((SHAPE.0, N_CLASSES));
        let (mut weight, mut index) = (Array1::<f32>::zeros(SHAPE.0), Array1::<i64>::zeros(SHAPE.0));
        let (mut masks, mut mixed_maps) = (Array3::<f32>::zeros(map_shape), Array3::<i64>::zeros(map_shape));
        let [mut grad, mut grad_partner] = std::array::from_fn(|_| images(true, |_| 0.0f32));
        let mut described = [
            Described::new(&mut grad, FLOAT32),
            Described::new(&mut grad_partner, FLOAT32),
            Described::new(&mut primary, FLOAT32),
            Described::new(&mut partner, FLOAT32),
            Described::new(&mut ids, INT64),
            Described::new(&mut mixed, FLOAT32),
            Described::new(&mut labels, FLOAT32),
            Described::new(&mut weight, FLOAT32),
            Described::new(&mut index, INT64),
            Described::new(&mut masks, FLOAT32),
            Described::new(&mut maps, INT64),
            Described::new(&mut mixed_maps, INT64),
        ];
        let mut tensors = described.each_mut().map(Described::tensor);
        tensors.iter_mut().for_each(|tensor| tensor.device = miamix_device { device_type, device_id: 0 });
        let [mut t_grad, mut t_grad_partner, primary, partner, ids, mut out, mut rows, rest @ ..] = tensors;
        let [mut weights, mut indices, mut t_masks, t_maps, mut t_mixed] = rest;
        let mut mix = |rows: &mut miamix_tensor, num_classes| unsafe {
            miamix_mix(
                op,
                3,
                500,
                &raw const primary,
                &raw const partner,
                &raw const ids,
                num_classes,
                &raw mut out,
                rows,
                &raw mut weights,
                &raw mut indices,
                stream,
            )
        };
        if device_type == 2 {
            assert_eq!(mix(&mut rows, N_CLASSES + 1), Status::Shape);
            assert_eq!(last_error(), "mixed_labels: expected shape [7, 6], got [7, 5]");
            let mut elsewhere = miamix_tensor { device: miamix_device { device_type: 1, device_id: 0 }, ..rows };
            assert_eq!(mix(&mut elsewhere, N_CLASSES), Status::InvalidArgument);
            let error = "mixed_labels: must be in the memory of images (CUDA device 0), got CPU memory";
            assert_eq!(last_error(), error);
        }
        assert_eq!(mix(&mut rows, N_CLASSES), Status::Ok, "{}", last_error());
        finish();
        // No context is current on this thread: the default stream is that of the tensors' device.
        let status = unsafe { miamix_masks(op, plan, &raw mut t_masks, null_mut(), null_mut()) };
        assert_eq!(status, Status::Ok, "{}", last_error());
        stand_in.run(stand_in.stream(4));
        let status = unsafe { miamix_apply_maps(op, plan, &raw const t_maps, null(), &raw mut t_mixed, stream) };
        assert_eq!(status, Status::Ok, "{}", last_error());
        finish();
        let status =
            unsafe { miamix_backward(op, plan, &raw const primary, &raw mut t_grad, &raw mut t_grad_partner, stream) };
        assert_eq!(status, Status::Ok, "{}", last_error());
        finish();
        if device_type == 2 {
            let elsewhere = stand_in.stream(2);
            let status = unsafe { miamix_apply_maps(op, plan, &raw const t_maps, null(), &raw mut t_mixed, elsewhere) };
            assert_eq!(status, Status::InvalidArgument);
            let error = "stream: must be of CUDA device 0, where the tensors are, got a stream of device 1";
            assert_eq!(last_error(), error);
        }
        results.push((mixed, labels, weight, index, masks, mixed_maps, grad, grad_partner));
    }
    let [cpu, cuda] = &results[..] else { unreachable!("two") };
    assert_eq!(cpu, cuda);
    unsafe {
        miamix_plan_free(plan);
        miamix_op_free(op);
    }
}

/// A graph is captured once, and replayed with other plans; in a workspace of the caller's, and without one.
#[cfg(feature = "cuda")]
#[test]
fn a_graph_captured_on_a_cuda_device_takes_uploaded_plans() {
    let Some(stand_in) = StandIn::get() else { return };
    let stream = stand_in.stream(3);
    let op = create(1);
    let plan = draw(op);
    let shape = miamix_shape::from(BatchShape::new(SHAPE.0, SHAPE.2, SHAPE.3));
    let (mut plan_bytes, mut bytes, mut backward_bytes) = (0, 0, 0);
    let sizes = unsafe {
        miamix_cuda_sizes(op, &raw const shape, &raw mut plan_bytes, &raw mut bytes, &raw mut backward_bytes)
    };
    assert_eq!(sizes, Status::Ok, "{}", last_error());
    assert_eq!(backward_bytes - bytes, (SHAPE.0 * SHAPE.2 * SHAPE.3 * 4).next_multiple_of(256));
    let mut memory = vec![0u8; plan_bytes + bytes + 512];
    let buffer = memory.as_mut_ptr().wrapping_add(memory.as_ptr().align_offset(256));
    let workspace = buffer.wrapping_add(plan_bytes.next_multiple_of(256));
    let mut pixels = images(false, |i| i as f32);
    let mut ids = Array1::from_iter((0..SHAPE.0 as i64).map(|i| i + N_CLASSES as i64 - 3));
    let on_device = |plan_bytes, workspace: *mut u8, bytes| {
        let mut device_plan = null_mut();
        let (buffer, workspace) = (buffer.cast(), workspace.cast());
        let made = unsafe {
            miamix_plan_on_device(op, &raw const shape, buffer, plan_bytes, workspace, bytes, &raw mut device_plan)
        };
        (made, device_plan)
    };
    for workspace in [workspace, null_mut()] {
        let (made, device_plan) = on_device(plan_bytes, workspace, if workspace.is_null() { 0 } else { bytes });
        assert_eq!(made, Status::Ok, "{}", last_error());
        let mut mixed = images(false, |_| 0.0f32);
        let mut labels = Array2::<f32>::zeros((SHAPE.0, N_CLASSES));
        let mut described = [
            Described::new(&mut pixels, FLOAT32),
            Described::new(&mut ids, INT64),
            Described::new(&mut mixed, FLOAT32),
            Described::new(&mut labels, FLOAT32),
        ];
        let mut tensors = described.each_mut().map(Described::tensor);
        tensors.iter_mut().for_each(|tensor| tensor.device.device_type = 2);
        let [mut t_pixels, mut t_ids, mut t_mixed, mut t_labels] = tensors;
        let mut apply = |plan: *const miamix_plan| unsafe {
            let (ids, labels, none) = (&raw mut t_ids, &raw mut t_labels, null_mut());
            miamix_apply(
                op,
                plan,
                &raw mut t_pixels,
                none,
                ids,
                N_CLASSES,
                &raw mut t_mixed,
                labels,
                none,
                none,
                stream,
            )
        };
        assert_eq!(apply(device_plan), Status::InvalidArgument);
        let error = "plan: must have been uploaded (miamix_plan_upload) before it is applied, got a plan in device \
                     memory that never was";
        assert_eq!(last_error(), error);
        assert_eq!(unsafe { miamix_plan_upload(plan, device_plan, stream) }, Status::Ok, "{}", last_error());
        stand_in.on("stand_in_begin_capture", stream);
        assert_eq!(apply(plan), Status::Unsupported);
        assert_eq!(last_error(), "stream: is capturing, which takes only a plan that was uploaded before");
        assert_eq!(apply(device_plan), Status::Ok, "{}", last_error());
        assert_eq!(unsafe { miamix_plan_upload(plan, device_plan, stream) }, Status::Unsupported);
        stand_in.on("stand_in_end_capture", stream);
        for first_sample in [500, 507] {
            let next = unsafe { miamix_plan_redraw(op, &raw const shape, 3, first_sample, plan) };
            assert_eq!(next, Status::Ok, "{}", last_error());
            assert_eq!(unsafe { miamix_plan_upload(plan, device_plan, stream) }, Status::Ok, "{}", last_error());
            // What was uploaded may change at once.
            assert_eq!(unsafe { miamix_plan_redraw(op, &raw const shape, 4, 0, plan) }, Status::Ok);
            stand_in.on("stand_in_replay", stream);
            stand_in.run(stream);
            let rust = MiaMix::new(config()).unwrap();
            let expected_plan = rust.draw(BatchShape::new(SHAPE.0, SHAPE.2, SHAPE.3), 3, first_sample).unwrap();
            let mut expected = images(false, |_| 0.0f32);
            let batch = Batch {
                images: Images::from(pixels.view()),
                partner_images: Images::from(pixels.view()),
                labels: Labels::NONE,
            };
            let output = Output {
                images: ImagesMut::from(expected.view_mut()),
                labels: None,
                label_weight: None,
                partner_index: None,
            };
            rust.apply(&expected_plan, batch, output).unwrap();
            assert_eq!(mixed, expected, "first_sample {first_sample}");
            // Ids from 5 on are none of 5 classes; the largest place is told, once.
            assert_eq!(unsafe { miamix_check_labels(stream) }, Status::InvalidArgument);
            assert!(last_error().starts_with("labels[6]: must be below num_classes"), "{}", last_error());
            assert_eq!(unsafe { miamix_check_labels(stream) }, Status::Ok);
        }
        // No context is current on this thread: the default stream is that of the plan's device, and of device 0.
        for (device, default) in [(1, stand_in.stream(5)), (0, stand_in.stream(4))] {
            stand_in.set_device_of_addresses(device);
            let copied = stand_in.copied();
            assert_eq!(unsafe { miamix_plan_upload(plan, device_plan, null_mut()) }, Status::Ok, "{}", last_error());
            assert_eq!(stand_in.copied(), copied);
            stand_in.run(default);
            assert_eq!(stand_in.copied(), copied + 1);
        }
        assert_eq!(apply(device_plan), Status::Ok, "{}", last_error());
        stand_in.run(stream);
        assert_eq!(unsafe { miamix_check_labels(null_mut()) }, Status::InvalidArgument);
        assert_eq!(unsafe { miamix_check_labels(null_mut()) }, Status::Ok);
        let mut read = shape;
        assert_eq!(unsafe { miamix_plan_shape(device_plan, &raw mut read) }, Status::Ok);
        assert_eq!([read.samples, read.height, read.width], [7, 61, 47]);
        let mut length = 0;
        let unread = unsafe { miamix_plan_to_json(device_plan, null_mut(), 0, &raw mut length) };
        assert_eq!(unread, Status::Unsupported);
        let error = "plan: must not be one in device memory, which only calls on CUDA tensors read";
        assert_eq!(last_error(), error);
        assert_eq!(unsafe { miamix_plan_upload(plan, plan, stream) }, Status::Unsupported);
        assert_eq!(last_error(), "device_plan: must be one of miamix_plan_on_device()");
        unsafe { miamix_plan_free(device_plan) };
    }
    assert_eq!(on_device(plan_bytes - 1, null_mut(), 0).0, Status::InvalidArgument);
    assert!(last_error().starts_with("buffer: must have at least "), "{}", last_error());
    assert_eq!(on_device(plan_bytes, null_mut(), 1).0, Status::InvalidArgument);
    assert_eq!(last_error(), "workspace: must not be NULL where it has bytes, got NULL");
    assert_eq!(on_device(plan_bytes, workspace, bytes - 1).0, Status::InvalidArgument);
    let error = format!("workspace: must have at least {bytes} bytes, got {}", bytes - 1);
    assert_eq!(last_error(), error);
    assert_eq!(on_device(plan_bytes, workspace.wrapping_add(8), bytes).0, Status::InvalidArgument);
    let error = "workspace: must be the address of device memory, a multiple of 256, got 0x";
    assert!(last_error().starts_with(error), "{}", last_error());
    let mut device = -1;
    assert_eq!(unsafe { miamix_cuda_device_of(buffer.cast(), &raw mut device) }, Status::Ok, "{}", last_error());
    assert_eq!(device, 0);
    unsafe {
        miamix_plan_free(plan);
        miamix_op_free(op);
    }
}
