//! The CUDA variants against a stand-in host and the stand-in driver of `tests/cuda`: what they give is what those of
//! the CPU give, byte for byte. `cargo xtask test --only CUDA` makes the driver be found.

use super::super::RegisterCustomOps;
use super::super::host::{API_VERSION, Element};
use super::super::schema::{IMAGE_TYPES, LABEL_KINDS, LabelKind, MIAMIX, MIAMIX_MASKS, Schema};
use crate::stand_in::StandIn;
use half::{bf16, f16};
use miamix_core::{Dtype, cuda_available};
use ort_sys as sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::{self, null_mut};
use std::sync::OnceLock;

const CUDA: Option<&CStr> = Some(c"CUDAExecutionProvider");
const CPU: Option<&CStr> = None;
const POISON: u8 = 0xA5;

/// A tensor, in what passes for the memory of either device; a tensor's type and shape, too.
struct Value {
    element: Element,
    shape: Vec<i64>,
    memory: Vec<u64>,
}

impl Value {
    fn new(element: Element, shape: &[i64]) -> Self {
        let bytes = shape.iter().product::<i64>() as usize * size(element);
        let memory = vec![u64::from_ne_bytes([POISON; 8]); bytes.div_ceil(8).max(1)];
        Value { element, shape: shape.to_vec(), memory }
    }

    fn of(element: Element, shape: &[i64], bytes: &[u8]) -> Self {
        let mut value = Value::new(element, shape);
        value.write(bytes);
        value
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: any bytes are; at least as many.
        let all = unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), 8 * self.memory.len()) };
        &all[..self.shape.iter().product::<i64>() as usize * size(self.element)]
    }

    fn write(&mut self, bytes: &[u8]) {
        assert_eq!(self.bytes().len(), bytes.len());
        // SAFETY: as many.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_mut_ptr().cast(), bytes.len()) };
    }
}

fn size(element: Element) -> usize {
    match element {
        Element::Uint8 | Element::Bool => 1,
        Element::Float16 | Element::Bfloat16 => 2,
        Element::Float => 4,
        Element::Int64 => 8,
    }
}

/// A node that is made into a kernel: all its attributes are ints or strings.
struct Node {
    ints: Vec<(&'static CStr, i64)>,
    strings: Vec<(&'static CStr, &'static CStr)>,
    inputs: Vec<Value>,
}

/// A run of a kernel.
struct Context {
    inputs: Vec<Value>,
    outputs: Vec<Option<Value>>,
    elements: Vec<Element>,
    stream: *mut c_void,
}

/// The functions of a host that the library calls.
mod host {
    use super::*;

    thread_local! {
        /// What was registered on this thread.
        pub static TABLES: RefCell<Vec<&'static sys::OrtCustomOp>> = const { RefCell::new(Vec::new()) };
    }

    const FINE: sys::OrtStatusPtr = sys::OrtStatusPtr(null_mut());

    fn failed(message: &CStr) -> sys::OrtStatusPtr {
        sys::OrtStatusPtr(message.to_owned().into_raw().cast())
    }

    extern "system" fn create_status(_: sys::OrtErrorCode, message: *const c_char) -> sys::OrtStatusPtr {
        // SAFETY: the library's message.
        failed(unsafe { CStr::from_ptr(message) })
    }
    extern "system" fn error_message(status: *const sys::OrtStatus) -> *const c_char {
        status.cast()
    }
    extern "system" fn release_status(status: *mut sys::OrtStatus) {
        // SAFETY: made by `failed`.
        drop(unsafe { CString::from_raw(status.cast()) });
    }

    extern "system" fn create_domain(_: *const c_char, domain: *mut *mut sys::OrtCustomOpDomain) -> sys::OrtStatusPtr {
        // SAFETY: the library's variable.
        unsafe { *domain = ptr::without_provenance_mut(1) };
        FINE
    }
    extern "system" fn add_operator(
        _: *mut sys::OrtCustomOpDomain,
        operator: *const sys::OrtCustomOp,
    ) -> sys::OrtStatusPtr {
        // SAFETY: never freed.
        TABLES.with_borrow_mut(|tables| tables.push(unsafe { &*operator }));
        FINE
    }
    extern "system" fn add_domain(_: *mut sys::OrtSessionOptions, _: *mut sys::OrtCustomOpDomain) -> sys::OrtStatusPtr {
        FINE
    }

    extern "system" fn node_name(
        _: *const sys::OrtKernelInfo,
        text: *mut c_char,
        size: *mut usize,
    ) -> sys::OrtStatusPtr {
        // SAFETY: asked for the size first, and room for as many then.
        unsafe {
            *size = 4;
            if !text.is_null() {
                ptr::copy_nonoverlapping(c"mix".as_ptr(), text, 4);
            }
        }
        FINE
    }
    fn attribute<T: Copy>(all: &[(&'static CStr, T)], name: *const c_char) -> Option<T> {
        // SAFETY: the library's text.
        let name = unsafe { CStr::from_ptr(name) };
        all.iter().find(|(other, _)| *other == name).map(|&(_, value)| value)
    }
    const ABSENT: &CStr = c"No attribute with this name";
    extern "system" fn int(info: *const sys::OrtKernelInfo, name: *const c_char, out: *mut i64) -> sys::OrtStatusPtr {
        // SAFETY: the test's node, the library's variable.
        unsafe {
            match attribute(&(*info.cast::<Node>()).ints, name) {
                Some(value) => *out = value,
                None => return failed(ABSENT),
            }
        }
        FINE
    }
    extern "system" fn string(
        info: *const sys::OrtKernelInfo,
        name: *const c_char,
        out: *mut c_char,
        size: *mut usize,
    ) -> sys::OrtStatusPtr {
        // SAFETY: as above; asked for the size first.
        unsafe {
            let Some(value) = attribute(&(*info.cast::<Node>()).strings, name) else { return failed(ABSENT) };
            *size = value.count_bytes() + 1;
            if !out.is_null() {
                ptr::copy_nonoverlapping(value.as_ptr(), out, *size);
            }
        }
        FINE
    }
    extern "system" fn no_float(_: *const sys::OrtKernelInfo, _: *const c_char, _: *mut f32) -> sys::OrtStatusPtr {
        failed(ABSENT)
    }
    extern "system" fn no_floats(
        _: *const sys::OrtKernelInfo,
        _: *const c_char,
        _: *mut f32,
        _: *mut usize,
    ) -> sys::OrtStatusPtr {
        failed(ABSENT)
    }
    extern "system" fn no_ints(
        _: *const sys::OrtKernelInfo,
        _: *const c_char,
        _: *mut i64,
        _: *mut usize,
    ) -> sys::OrtStatusPtr {
        failed(ABSENT)
    }
    extern "system" fn input_type(
        info: *const sys::OrtKernelInfo,
        index: usize,
        out: *mut *mut sys::OrtTypeInfo,
    ) -> sys::OrtStatusPtr {
        // SAFETY: the test's node, the library's variable.
        unsafe { *out = (&raw const (&(*info.cast::<Node>()).inputs)[index]).cast_mut().cast() };
        FINE
    }
    extern "system" fn tensor_type(
        info: *const sys::OrtTypeInfo,
        out: *mut *const sys::OrtTensorTypeAndShapeInfo,
    ) -> sys::OrtStatusPtr {
        // SAFETY: the library's variable.
        unsafe { *out = info.cast() };
        FINE
    }
    extern "system" fn release_type(_: *mut sys::OrtTypeInfo) {}

    extern "system" fn type_and_shape(
        value: *const sys::OrtValue,
        out: *mut *mut sys::OrtTensorTypeAndShapeInfo,
    ) -> sys::OrtStatusPtr {
        // SAFETY: the library's variable.
        unsafe { *out = value.cast_mut().cast() };
        FINE
    }
    extern "system" fn release_type_and_shape(_: *mut sys::OrtTensorTypeAndShapeInfo) {}
    extern "system" fn element(
        info: *const sys::OrtTensorTypeAndShapeInfo,
        out: *mut sys::ONNXTensorElementDataType,
    ) -> sys::OrtStatusPtr {
        // SAFETY: the test's value, the library's variable.
        unsafe { *out = (*info.cast::<Value>()).element.to_onnx() };
        FINE
    }
    extern "system" fn rank(info: *const sys::OrtTensorTypeAndShapeInfo, out: *mut usize) -> sys::OrtStatusPtr {
        // SAFETY: as above.
        unsafe { *out = (*info.cast::<Value>()).shape.len() };
        FINE
    }
    extern "system" fn extents(
        info: *const sys::OrtTensorTypeAndShapeInfo,
        out: *mut i64,
        length: usize,
    ) -> sys::OrtStatusPtr {
        // SAFETY: as above, of the rank's length.
        unsafe { ptr::copy_nonoverlapping((*info.cast::<Value>()).shape.as_ptr(), out, length) };
        FINE
    }
    extern "system" fn no_symbols(
        _: *const sys::OrtTensorTypeAndShapeInfo,
        out: *mut *const c_char,
        length: usize,
    ) -> sys::OrtStatusPtr {
        // SAFETY: the library's variables.
        unsafe { std::slice::from_raw_parts_mut(out, length) }.fill(c"".as_ptr());
        FINE
    }

    extern "system" fn input(
        context: *const sys::OrtKernelContext,
        index: usize,
        out: *mut *const sys::OrtValue,
    ) -> sys::OrtStatusPtr {
        // SAFETY: the test's context, the library's variable.
        unsafe { *out = (&raw const (&(*context.cast::<Context>()).inputs)[index]).cast() };
        FINE
    }
    extern "system" fn output(
        context: *mut sys::OrtKernelContext,
        index: usize,
        extents: *const i64,
        rank: usize,
        out: *mut *mut sys::OrtValue,
    ) -> sys::OrtStatusPtr {
        // SAFETY: the test's context, the library's variables.
        unsafe {
            let context = &mut *context.cast::<Context>();
            let value = Value::new(context.elements[index], std::slice::from_raw_parts(extents, rank));
            *out = (&raw mut *context.outputs[index].insert(value)).cast();
        }
        FINE
    }
    extern "system" fn data(value: *mut sys::OrtValue, out: *mut *mut c_void) -> sys::OrtStatusPtr {
        // SAFETY: the test's value, the library's variable.
        unsafe { *out = (*value.cast::<Value>()).memory.as_mut_ptr().cast() };
        FINE
    }
    extern "system" fn stream(context: *const sys::OrtKernelContext, out: *mut *mut c_void) -> sys::OrtStatusPtr {
        // SAFETY: the test's context, the library's variable.
        unsafe { *out = (*context.cast::<Context>()).stream };
        FINE
    }
    extern "system" fn parallel_for(
        _: *const sys::OrtKernelContext,
        task: unsafe extern "C" fn(*mut c_void, usize),
        total: usize,
        _: usize,
        tasks: *mut c_void,
    ) -> sys::OrtStatusPtr {
        // SAFETY: what the library asked for.
        (0..total).for_each(|index| unsafe { task(tasks, index) });
        FINE
    }

    struct Table(Box<MaybeUninit<sys::OrtApi>>);
    // SAFETY: only read.
    unsafe impl Sync for Table {}
    // SAFETY: as above.
    unsafe impl Send for Table {}

    pub extern "system" fn api(version: u32) -> *const sys::OrtApi {
        static TABLE: OnceLock<Table> = OnceLock::new();
        assert_eq!(version, API_VERSION);
        let table = TABLE.get_or_init(|| {
            let mut table = Box::new(MaybeUninit::<sys::OrtApi>::zeroed());
            macro_rules! functions {
                ($($field:ident: $function:expr,)+) => {
                    // SAFETY: fields of memory of our own.
                    unsafe { $((&raw mut (*table.as_mut_ptr()).$field).write($function);)+ }
                };
            }
            functions! {
                CreateStatus: create_status,
                GetErrorMessage: error_message,
                ReleaseStatus: release_status,
                CreateCustomOpDomain: create_domain,
                CustomOpDomain_Add: add_operator,
                AddCustomOpDomain: add_domain,
                KernelInfo_GetNodeName: node_name,
                KernelInfoGetAttribute_int64: int,
                KernelInfoGetAttribute_string: string,
                KernelInfoGetAttribute_float: no_float,
                KernelInfoGetAttributeArray_float: no_floats,
                KernelInfoGetAttributeArray_int64: no_ints,
                KernelInfo_GetInputTypeInfo: input_type,
                CastTypeInfoToTensorInfo: tensor_type,
                ReleaseTypeInfo: release_type,
                GetTensorTypeAndShape: type_and_shape,
                ReleaseTensorTypeAndShapeInfo: release_type_and_shape,
                GetTensorElementType: element,
                GetDimensionsCount: rank,
                GetDimensions: extents,
                GetSymbolicDimensions: no_symbols,
                KernelContext_GetInput: input,
                KernelContext_GetOutput: output,
                GetTensorMutableData: data,
                KernelContext_GetGPUComputeStream: stream,
                KernelContext_ParallelFor: parallel_for,
            }
            Table(table)
        });
        table.0.as_ptr()
    }

    pub extern "system" fn version() -> *const c_char {
        c"1.17.3".as_ptr()
    }
}

/// All that the library registers, in its order.
fn registered() -> Vec<&'static sys::OrtCustomOp> {
    host::TABLES.with_borrow_mut(Vec::clear);
    let base = sys::OrtApiBase { GetApi: host::api, GetVersionString: host::version };
    // SAFETY: the options are not looked at.
    let status = unsafe { RegisterCustomOps(null_mut(), &base) };
    assert_eq!(message(status), None);
    host::TABLES.with_borrow(Vec::clone)
}

fn message(status: sys::OrtStatusPtr) -> Option<String> {
    // SAFETY: a message of the stand-in host's, which is ours.
    (!status.0.is_null()).then(|| unsafe { CString::from_raw(status.0.cast()) }.into_string().unwrap())
}

fn name(operator: &sys::OrtCustomOp) -> &CStr {
    // SAFETY: the library's function, its own table; text that is never freed.
    unsafe { CStr::from_ptr(operator.GetName.unwrap()(operator)) }
}

fn provider(operator: &sys::OrtCustomOp) -> Option<&CStr> {
    // SAFETY: as above.
    unsafe {
        let provider = operator.GetExecutionProviderType.unwrap()(operator);
        (!provider.is_null()).then(|| CStr::from_ptr(provider))
    }
}

fn types(operator: &sys::OrtCustomOp) -> [Vec<i32>; 2] {
    // SAFETY: as above.
    unsafe {
        let n_inputs = operator.GetInputTypeCount.unwrap()(operator);
        let n_outputs = operator.GetOutputTypeCount.unwrap()(operator);
        let inputs = (0..n_inputs).map(|index| operator.GetInputType.unwrap()(operator, index) as i32);
        let outputs = (0..n_outputs).map(|index| operator.GetOutputType.unwrap()(operator, index) as i32);
        [inputs.collect(), outputs.collect()]
    }
}

/// The one that a host takes for a node of these types.
fn chosen(schema: &Schema, provided: Option<&CStr>, images: Dtype, labels: LabelKind) -> &'static sys::OrtCustomOp {
    let numbers = |ports: Vec<Element>| ports.into_iter().map(|port| port.to_onnx() as i32).collect::<Vec<_>>();
    let wanted = schema.elements(images, labels).map(numbers);
    let serves = |operator: &&sys::OrtCustomOp| {
        name(operator) == schema.name && provider(operator) == provided && types(operator) == wanted
    };
    let found: Vec<_> = registered().into_iter().filter(serves).collect();
    assert_eq!(found.len(), 1, "{:?} for {provided:?}, {images:?}, {labels:?}", schema.name);
    found[0]
}

#[test]
fn every_variant_is_there_for_cuda_after_those_for_the_cpu() {
    let all = registered();
    let of = |provided| {
        let some = all.iter().filter(move |operator| provider(operator) == provided);
        some.map(|operator| (name(operator), types(operator))).collect::<Vec<_>>()
    };
    assert_eq!(of(CPU), of(CUDA));
    assert_eq!(all.len(), 2 * IMAGE_TYPES.len() * (LABEL_KINDS.len() + 1));
    let first_on_device = all.iter().position(|operator| provider(operator) == CUDA).unwrap();
    assert!(all[first_on_device..].iter().all(|operator| provider(operator) == CUDA));
    for operator in all {
        let schema = if name(operator) == MIAMIX.name { &MIAMIX } else { &MIAMIX_MASKS };
        for (index, port) in schema.inputs.iter().enumerate() {
            let is_scalar = ["seed", "first_sample", "training_mode"].contains(&port.name);
            // SAFETY: the library's function, its own table.
            let memory = unsafe { operator.GetInputMemoryType.unwrap()(operator, index) };
            let expected = match is_scalar && provider(operator) == CUDA {
                true => sys::OrtMemType::OrtMemTypeCPUInput,
                false => sys::OrtMemType::OrtMemTypeDefault,
            };
            assert!(memory == expected, "{:?}, {}: {}", name(operator), port.name, memory as i32);
        }
    }
}

/// A kernel of the library's.
struct Kernel {
    operator: &'static sys::OrtCustomOp,
    kernel: *mut c_void,
    outputs: Vec<Element>,
}

impl Kernel {
    fn new(operator: &'static sys::OrtCustomOp, outputs: Vec<Element>, node: &Node) -> Result<Self, String> {
        let mut kernel = null_mut();
        let info = (&raw const *node).cast();
        // SAFETY: the library's function, its own table, the stand-in host's node.
        let status =
            unsafe { operator.CreateKernelV2.unwrap()(operator, host::api(API_VERSION), info, &raw mut kernel) };
        match message(status) {
            None => Ok(Kernel { operator, kernel, outputs }),
            Some(message) => Err(message),
        }
    }

    /// One run; its context, whose outputs may not be there yet.
    fn run(&self, inputs: Vec<Value>, stream: *mut c_void) -> Result<Context, String> {
        let outputs = self.outputs.iter().map(|_| None).collect();
        let mut context = Context { inputs, outputs, elements: self.outputs.clone(), stream };
        let address = (&raw mut context).cast();
        // SAFETY: the library's function and kernel, the stand-in host's context.
        match message(unsafe { self.operator.KernelComputeV2.unwrap()(self.kernel, address) }) {
            None => Ok(context),
            Some(message) => Err(message),
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: made by the library, and not used again.
        unsafe { self.operator.KernelDestroy.unwrap()(self.kernel) };
    }
}

const CLASSES: i64 = 5;
const SEED: i64 = -3;

/// All methods but one, views, label smoothing where it is the default.
fn node(inputs: &[Value], nhwc: bool) -> Node {
    Node {
        ints: vec![(c"num_classes", CLASSES), (c"k_max", 4), (c"pad_px", 2), (c"seed_offset", 11)],
        strings: vec![(c"layout", if nhwc { c"NHWC" } else { c"NCHW" })],
        inputs: inputs.iter().map(|value| Value::new(value.element, &value.shape)).collect(),
    }
}

/// Elements that are near each other and all different in bits.
fn pixels(dtype: Dtype, count: usize, salt: usize) -> Vec<u8> {
    let number = |i: usize| ((i + salt) * 2_654_435_761 % 65_521) as f32 / 257.0;
    (0..count)
        .flat_map(|i| match dtype {
            Dtype::F32 => number(i).to_ne_bytes().to_vec(),
            Dtype::F16 => f16::from_f32(number(i)).to_ne_bytes().to_vec(),
            Dtype::Bf16 => bf16::from_f32(number(i)).to_ne_bytes().to_vec(),
            Dtype::U8 => vec![number(i) as u8],
        })
        .collect()
}

/// What goes into MiAMix.
fn inputs(dtype: Dtype, labels: LabelKind, shape: [i64; 4], training_mode: bool) -> Vec<Value> {
    let (n, count) = (shape[0], shape.iter().product::<i64>() as usize);
    let labels = match labels {
        LabelKind::Ids => {
            let ids: Vec<u8> = (0..n).flat_map(|i| (i % CLASSES - 1).to_ne_bytes()).collect();
            Value::of(Element::Int64, &[n], &ids)
        }
        LabelKind::Soft => {
            let rows: Vec<u8> = (0..n * CLASSES).flat_map(|i| (i as f32 / 7.0).to_ne_bytes()).collect();
            Value::of(Element::Float, &[n, CLASSES], &rows)
        }
    };
    vec![
        Value::of(dtype.into(), &shape, &pixels(dtype, count, 0)),
        Value::of(dtype.into(), &shape, &pixels(dtype, count, 5003)),
        labels,
        Value::of(Element::Int64, &[], &SEED.to_ne_bytes()),
        Value::of(Element::Int64, &[1], &(1i64 << 40).to_ne_bytes()),
        Value::of(Element::Bool, &[], &[training_mode.into()]),
    ]
}

/// The inputs of MiAMixMasks among those of MiAMix.
fn mask_inputs(inputs: Vec<Value>) -> Vec<Value> {
    let mut inputs = inputs.into_iter();
    let like = inputs.next().unwrap();
    [like].into_iter().chain(inputs.skip(2).take(2)).collect()
}

/// Runs the variants for both providers on the same inputs, and compares what they give.
fn compare(
    driver: &StandIn,
    schema: &Schema,
    dtype: Dtype,
    labels: LabelKind,
    nhwc: bool,
    make: impl Fn() -> Vec<Value>,
) {
    let stream = driver.stream(1);
    let what = format!("{:?}, {dtype:?}, {labels:?}, NHWC: {nhwc}", schema.name);
    let [_, elements] = schema.elements(dtype, labels);
    let kernel = |provided| {
        let operator = chosen(schema, provided, dtype, labels);
        Kernel::new(operator, elements.clone(), &node(&make(), nhwc)).unwrap()
    };
    let on_cpu = kernel(CPU).run(make(), null_mut()).unwrap();

    let on_device = kernel(CUDA);
    let mut inputs = make();
    let scalars = inputs.iter().position(|value| value.shape.is_empty()).unwrap();
    // The device's memory holds nothing yet, and nothing may be read or written there before the stream gets to it.
    let late: Vec<Vec<u8>> = inputs[..scalars].iter().map(|value| value.bytes().to_vec()).collect();
    inputs[..scalars].iter_mut().for_each(|value| value.memory.fill(u64::MAX));
    let mut context = on_device.run(inputs, stream).unwrap();
    for output in context.outputs.iter().flatten() {
        assert!(output.bytes().iter().all(|&byte| byte == POISON), "{what}: written too early");
    }
    for (value, bytes) in context.inputs.iter_mut().zip(&late) {
        value.write(bytes);
    }
    // What is in CPU memory may be gone.
    context.inputs[scalars..].iter_mut().for_each(|value| value.memory.fill(u64::MAX));
    driver.run(stream);
    for (index, (got, expected)) in context.outputs.iter().zip(&on_cpu.outputs).enumerate() {
        let (got, expected) = (got.as_ref().unwrap(), expected.as_ref().unwrap());
        assert_eq!(got.shape, expected.shape, "{what}: {}", schema.outputs[index].name);
        assert!(got.bytes() == expected.bytes(), "{what}: {} differs", schema.outputs[index].name);
    }
}

#[test]
fn on_cuda_the_operators_give_the_bytes_of_the_cpu() {
    let Some(driver) = StandIn::get() else { return };
    for dtype in IMAGE_TYPES {
        for (nhwc, shape) in [(false, [5, 3, 13, 17]), (true, [5, 12, 16, 3]), (false, [3, 2, 66, 68])] {
            for labels in LABEL_KINDS {
                for training_mode in [true, false] {
                    compare(&driver, &MIAMIX, dtype, labels, nhwc, || inputs(dtype, labels, shape, training_mode));
                }
            }
            let labels = LabelKind::Ids;
            compare(&driver, &MIAMIX_MASKS, dtype, labels, nhwc, || mask_inputs(inputs(dtype, labels, shape, true)));
        }
    }
    // An empty batch.
    let (dtype, labels) = (Dtype::F32, LabelKind::Soft);
    compare(&driver, &MIAMIX, dtype, labels, false, || inputs(dtype, labels, [0, 3, 8, 8], true));
}

#[test]
fn on_cuda_errors_name_the_node() {
    let Some(driver) = StandIn::get() else { return };
    let stream = driver.stream(1);
    let (dtype, labels, shape) = (Dtype::F32, LabelKind::Ids, [3, 1, 8, 8]);
    let [_, elements] = MIAMIX.elements(dtype, labels);
    let make = || inputs(dtype, labels, shape, true);
    let kernel = Kernel::new(chosen(&MIAMIX, CUDA, dtype, labels), elements, &node(&make(), false)).unwrap();
    let error = |inputs| kernel.run(inputs, stream).err().unwrap();

    let mut others = make();
    others[2] = Value::new(Element::Int64, &[4]);
    assert_eq!(error(others), "MiAMix 'mix': labels: expected shape [3], got [4]");
    let mut others = make();
    others[1] = Value::new(Element::Float, &[3, 1, 8, 9]);
    assert_eq!(error(others), "MiAMix 'mix': partner_images: expected shape [3, 1, 8, 8], got [3, 1, 8, 9]");

    // A class id is not seen before the device has it: the batch has a row of zeros for it, and the next run says so.
    let mut wrong = make();
    wrong[2].write(&[0i64, 1, CLASSES].map(i64::to_ne_bytes).concat());
    let wrong = kernel.run(wrong, stream).unwrap();
    driver.run(stream);
    let mut ignored = make();
    ignored[2].write(&[0i64, 1, -1].map(i64::to_ne_bytes).concat());
    let expected = "MiAMix 'mix': labels[2]: must be below num_classes, got a larger class id in a batch on the CUDA \
                    device, whose label is a row of zeros";
    assert_eq!(error(make()), expected);
    let ignored = kernel.run(ignored, stream).unwrap();
    driver.run(stream);
    for (got, expected) in wrong.outputs.iter().flatten().zip(ignored.outputs.iter().flatten()) {
        assert!(got.bytes() == expected.bytes());
    }

    // A host that captures a graph: the plan of each run would have to be uploaded before it.
    driver.on("stand_in_begin_capture", stream);
    let captured = error(make());
    driver.on("stand_in_end_capture", stream);
    let expected = "MiAMix 'mix': stream: is capturing, which takes only a plan that was uploaded before";
    assert_eq!(captured, expected);
}

/// A session that wants CUDA where there is none says so when it is made.
#[test]
fn without_a_driver_no_cuda_kernel_is_made() {
    let (dtype, labels) = (Dtype::U8, LabelKind::Soft);
    let operator = chosen(&MIAMIX, CUDA, dtype, labels);
    let make = || node(&inputs(dtype, labels, [2, 1, 4, 4], true), false);
    let made = Kernel::new(operator, Vec::new(), &make()).map(|_| ());
    let expected = cuda_available().map_err(|error| format!("MiAMix 'mix': {error}"));
    assert_eq!(made, expected);
}
