//! What lies between ONNX Runtime's tables of functions and the operators.
//!
//! A process may hold several copies of ONNX Runtime, so each operator and each kernel keeps the table of
//! the host that asked for it. Errors and panics become a status; kernels are shared by concurrent runs.

use crate::panics;
use miamix_core::{Dtype, Executor, Status};
use ort_sys as sys;
use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use sys::OrtErrorCode as Code;

/// The version of the C API asked of the host: no function that came later may be called.
///
/// Operators carry the same number. It promises nothing that came later either, in-place work for instance.
pub const API_VERSION: u32 = 17;

/// The host's functions. Never a reference: an older host's table is shorter than our declaration of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Api(*const sys::OrtApi);

// SAFETY: the table lasts as long as the host's library, and its functions may be called from any thread.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// Calls a function of the host's table; a status becomes an [`Error`].
macro_rules! call {
    ($api:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let api: Api = $api;
        // SAFETY: the function is part of API 17, and what the arguments point to outlives the call.
        api.check(unsafe { ((*api.0).$function)($($argument),*) })
    }};
}

/// What the host is told.
#[derive(Debug)]
pub struct Error {
    code: Code,
    message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn invalid(message: impl Into<String>) -> Self {
        Error { code: Code::ORT_INVALID_ARGUMENT, message: message.into() }
    }

    /// The same error with words in front.
    pub fn at(self, place: impl fmt::Display) -> Self {
        Error { message: format!("{place}{}", self.message), ..self }
    }
}

impl From<miamix_core::Error> for Error {
    fn from(error: miamix_core::Error) -> Self {
        let code = match error.status() {
            Status::InvalidArgument | Status::Shape | Status::Dtype | Status::Plan => Code::ORT_INVALID_ARGUMENT,
            Status::Unsupported => Code::ORT_NOT_IMPLEMENTED,
            Status::OutOfMemory | Status::CudaUnavailable | Status::Cuda | Status::Internal | Status::Ok => {
                Code::ORT_FAIL
            }
        };
        Error { code, message: error.to_string() }
    }
}

impl Api {
    fn check(self, status: sys::OrtStatusPtr) -> Result<()> {
        if status.0.is_null() {
            return Ok(());
        }
        // SAFETY: a status that is not null is ours to read and to release.
        let message = unsafe {
            let message = CStr::from_ptr(((*self.0).GetErrorMessage)(status.0)).to_string_lossy().into_owned();
            ((*self.0).ReleaseStatus)(status.0);
            message
        };
        Err(Error { code: Code::ORT_FAIL, message })
    }

    fn status(self, error: Error) -> sys::OrtStatusPtr {
        let message = CString::new(error.message.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the host copies the message.
        unsafe { ((*self.0).CreateStatus)(error.code, message.as_ptr()) }
    }

    /// Runs `body`; an error or a panic becomes a status that begins with `place`.
    fn guard(self, place: &str, body: impl FnOnce() -> Result<()>) -> sys::OrtStatusPtr {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => sys::OrtStatusPtr(ptr::null_mut()),
            Ok(Err(error)) => self.status(error.at(format_args!("{place}: "))),
            Err(panic) => {
                let message = format!("{place}: {}", panics::describe(panic));
                self.status(Error { code: Code::ORT_RUNTIME_EXCEPTION, message })
            }
        }
    }
}

/// Element type of a tensor, of those the operators know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Float,
    Float16,
    Bfloat16,
    Uint8,
    Int64,
    Bool,
}

impl Element {
    const ALL: [Element; 6] =
        [Element::Float, Element::Float16, Element::Bfloat16, Element::Uint8, Element::Int64, Element::Bool];

    pub(super) fn to_onnx(self) -> sys::ONNXTensorElementDataType {
        use sys::ONNXTensorElementDataType::*;
        match self {
            Element::Float => ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
            Element::Float16 => ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
            Element::Bfloat16 => ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
            Element::Uint8 => ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
            Element::Int64 => ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
            Element::Bool => ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        }
    }

    /// The type with that number. Not from the enumeration of `ort-sys`: a newer host has numbers beyond it.
    fn from_number(number: i32) -> Option<Self> {
        Element::ALL.into_iter().find(|element| element.to_onnx() as i32 == number)
    }
}

impl From<Dtype> for Element {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Element::Float,
            Dtype::F16 => Element::Float16,
            Dtype::Bf16 => Element::Bfloat16,
            Dtype::U8 => Element::Uint8,
        }
    }
}

/// One variant of an operator: hosts choose among those of a name by the element types of the inputs.
pub trait Operator: Send + Sync + 'static {
    /// What a node of a session keeps.
    type Kernel: Send + Sync;

    fn name(&self) -> &'static CStr;
    /// The first version of the domain's operator set that it is part of.
    fn since_version(&self) -> i32;
    fn inputs(&self) -> &[Element];
    fn outputs(&self) -> &[Element];

    /// The host's name for what runs it, on whose device inputs and outputs lie; none is the CPU.
    fn provider(&self) -> Option<&'static CStr> {
        None
    }

    /// Inputs that lie in CPU memory whatever runs the node.
    fn cpu_inputs(&self) -> &'static [usize] {
        &[]
    }

    /// Tells the host the shapes of the outputs.
    ///
    /// Hosts call it on the first registered variant of a name whatever the types, so it asks for those too.
    /// They ignore its errors: what must reach the user is checked in [`Operator::create`].
    fn infer_shapes(&self, shapes: &ShapeContext) -> Result<()>;

    /// Reads and checks the attributes of a node.
    fn create(&self, node: &NodeInfo) -> Result<Self::Kernel>;

    /// Runs a node.
    fn compute(kernel: &Self::Kernel, run: &RunContext) -> Result<()>;
}

/// What the host holds for a variant: its own view first.
#[repr(C)]
struct Registered<O> {
    table: sys::OrtCustomOp,
    api: Api,
    operator: O,
}

/// What the host holds for a node.
struct NodeKernel<O: Operator> {
    api: Api,
    /// Operator and node, as messages name them.
    place: String,
    kernel: O::Kernel,
}

/// The host's view of a variant. It is never freed, as sessions may last until the process ends.
pub fn register<O: Operator>(api: Api, operator: O) -> &'static sys::OrtCustomOp {
    let table = sys::OrtCustomOp {
        version: API_VERSION,
        CreateKernel: None,
        GetName: Some(name::<O>),
        GetExecutionProviderType: Some(provider::<O>),
        GetInputType: Some(input_type::<O>),
        GetInputTypeCount: Some(input_count::<O>),
        GetOutputType: Some(output_type::<O>),
        GetOutputTypeCount: Some(output_count::<O>),
        KernelCompute: None,
        KernelDestroy: Some(destroy::<O>),
        GetInputCharacteristic: Some(required),
        GetOutputCharacteristic: Some(required),
        GetInputMemoryType: Some(input_memory::<O>),
        GetVariadicInputMinArity: Some(one),
        GetVariadicInputHomogeneity: Some(one),
        GetVariadicOutputMinArity: Some(one),
        GetVariadicOutputHomogeneity: Some(one),
        CreateKernelV2: Some(create::<O>),
        KernelComputeV2: Some(compute::<O>),
        InferOutputShapeFn: Some(infer_shapes::<O>),
        GetStartVersion: Some(since_version::<O>),
        GetEndVersion: Some(no_end),
        GetMayInplace: None,
        ReleaseMayInplace: None,
        GetAliasMap: None,
        ReleaseAliasMap: None,
    };
    &Box::leak(Box::new(Registered { table, api, operator })).table
}

/// # Safety
/// `op` was made by [`register`] for the same operator.
unsafe fn registered<'a, O>(op: *const sys::OrtCustomOp) -> &'a Registered<O> {
    // SAFETY: the table is the first field of a `Registered` that is never freed.
    unsafe { &*op.cast() }
}

extern "system" fn name<O: Operator>(op: *const sys::OrtCustomOp) -> *const c_char {
    // SAFETY: the host hands back what it was given.
    unsafe { registered::<O>(op) }.operator.name().as_ptr()
}

extern "system" fn provider<O: Operator>(op: *const sys::OrtCustomOp) -> *const c_char {
    // SAFETY: the host hands back what it was given.
    unsafe { registered::<O>(op) }.operator.provider().map_or(ptr::null(), CStr::as_ptr)
}

extern "system" fn input_type<O: Operator>(
    op: *const sys::OrtCustomOp,
    index: usize,
) -> sys::ONNXTensorElementDataType {
    // SAFETY: the host hands back what it was given.
    element_at(unsafe { registered::<O>(op) }.operator.inputs(), index)
}

extern "system" fn output_type<O: Operator>(
    op: *const sys::OrtCustomOp,
    index: usize,
) -> sys::ONNXTensorElementDataType {
    // SAFETY: the host hands back what it was given.
    element_at(unsafe { registered::<O>(op) }.operator.outputs(), index)
}

fn element_at(elements: &[Element], index: usize) -> sys::ONNXTensorElementDataType {
    let undefined = sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    elements.get(index).map_or(undefined, |element| element.to_onnx())
}

extern "system" fn input_count<O: Operator>(op: *const sys::OrtCustomOp) -> usize {
    // SAFETY: the host hands back what it was given.
    unsafe { registered::<O>(op) }.operator.inputs().len()
}

extern "system" fn output_count<O: Operator>(op: *const sys::OrtCustomOp) -> usize {
    // SAFETY: the host hands back what it was given.
    unsafe { registered::<O>(op) }.operator.outputs().len()
}

/// None is optional: hosts before 1.24 crash on an empty optional input.
extern "system" fn required(_: *const sys::OrtCustomOp, _: usize) -> sys::OrtCustomOpInputOutputCharacteristic {
    sys::OrtCustomOpInputOutputCharacteristic::INPUT_OUTPUT_REQUIRED
}

extern "system" fn input_memory<O: Operator>(op: *const sys::OrtCustomOp, index: usize) -> sys::OrtMemType {
    // SAFETY: the host hands back what it was given.
    match unsafe { registered::<O>(op) }.operator.cpu_inputs().contains(&index) {
        true => sys::OrtMemType::OrtMemTypeCPUInput,
        false => sys::OrtMemType::OrtMemTypeDefault,
    }
}

extern "system" fn one(_: *const sys::OrtCustomOp) -> c_int {
    1
}

extern "system" fn since_version<O: Operator>(op: *const sys::OrtCustomOp) -> c_int {
    // SAFETY: the host hands back what it was given.
    unsafe { registered::<O>(op) }.operator.since_version()
}

extern "system" fn no_end(_: *const sys::OrtCustomOp) -> c_int {
    c_int::MAX
}

extern "system" fn create<O: Operator>(
    op: *const sys::OrtCustomOp,
    api: *const sys::OrtApi,
    info: *const sys::OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> sys::OrtStatusPtr {
    let api = Api(api);
    // SAFETY: the host hands back what it was given.
    let operator = unsafe { &registered::<O>(op).operator };
    let node = NodeInfo { api, info, lifetime: PhantomData };
    let name = operator.name().to_string_lossy();
    let place = match node.name() {
        Ok(node) if !node.is_empty() => format!("{name} '{node}'"),
        _ => name.into_owned(),
    };
    api.guard(&place, || {
        let new = NodeKernel::<O> { api, place: place.clone(), kernel: operator.create(&node)? };
        // SAFETY: the host's variable, which is read only if the status is null.
        unsafe { *kernel = Box::into_raw(Box::new(new)).cast() };
        Ok(())
    })
}

extern "system" fn compute<O: Operator>(kernel: *mut c_void, context: *mut sys::OrtKernelContext) -> sys::OrtStatusPtr {
    // SAFETY: made by `create`, and only shared until `destroy`: runs may be concurrent.
    let node = unsafe { &*kernel.cast::<NodeKernel<O>>() };
    let run = RunContext { api: node.api, context, lifetime: PhantomData };
    node.api.guard(&node.place, || O::compute(&node.kernel, &run))
}

extern "system" fn destroy<O: Operator>(kernel: *mut c_void) {
    if !kernel.is_null() {
        // SAFETY: made by `create`, and the host's last use of it.
        let node = unsafe { Box::from_raw(kernel.cast::<NodeKernel<O>>()) };
        // There is no status to report a panic with.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(node))).map_err(panics::describe);
    }
}

extern "system" fn infer_shapes<O: Operator>(
    op: *const sys::OrtCustomOp,
    context: *mut sys::OrtShapeInferContext,
) -> sys::OrtStatusPtr {
    // SAFETY: the host hands back what it was given.
    let Registered { api, operator, .. } = unsafe { registered::<O>(op) };
    let shapes = ShapeContext { api: *api, context, lifetime: PhantomData };
    // Hosts ignore the status, and leak it: the shape is unknown then.
    let _ = catch_unwind(AssertUnwindSafe(|| operator.infer_shapes(&shapes))).map_err(panics::describe);
    sys::OrtStatusPtr(ptr::null_mut())
}

/// One axis of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    Fixed(i64),
    /// A name that stands for the same number everywhere in the graph.
    Named(CString),
    Unknown,
}

impl Dim {
    /// This axis; an unknown one gets a name of its own, as it would become −1 if the host had it back without.
    pub fn or_fresh(self) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Dim::Fixed(_) | Dim::Named(_) => self,
            Dim::Unknown => {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                Dim::Named(CString::new(format!("miamix_dim_{number}")).expect("no zero byte in it"))
            }
        }
    }

    /// What is known of an axis from two of its tensors.
    pub fn or(&self, other: &Dim) -> Self {
        match (self, other) {
            (Dim::Unknown, _) | (Dim::Named(_), Dim::Fixed(_)) => other.clone(),
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(extent) => extent.fmt(f),
            Dim::Named(name) => name.to_string_lossy().fmt(f),
            Dim::Unknown => "?".fmt(f),
        }
    }
}

/// # Safety
/// `info` describes a tensor and lives during the call.
unsafe fn element_and_dims(
    api: Api,
    info: *const sys::OrtTensorTypeAndShapeInfo,
) -> Result<(Option<Element>, Vec<Dim>)> {
    let mut number = 0i32;
    call!(api, GetTensorElementType(info, (&raw mut number).cast()))?;
    let mut rank = 0;
    call!(api, GetDimensionsCount(info, &mut rank))?;
    let mut extents = vec![0; rank];
    call!(api, GetDimensions(info, extents.as_mut_ptr(), rank))?;
    let mut names = vec![ptr::null(); rank];
    call!(api, GetSymbolicDimensions(info, names.as_mut_ptr(), rank))?;
    let dims = extents.into_iter().zip(names).map(|(extent, name)| {
        if extent >= 0 {
            return Dim::Fixed(extent);
        }
        // SAFETY: a name that is not null is a string of the host's, which lives as long as `info`.
        let name = if name.is_null() { CString::default() } else { unsafe { CStr::from_ptr(name) }.to_owned() };
        if name.is_empty() { Dim::Unknown } else { Dim::Named(name) }
    });
    Ok((Element::from_number(number), dims.collect()))
}

/// What shape inference may ask for and tell.
pub struct ShapeContext<'a> {
    api: Api,
    context: *mut sys::OrtShapeInferContext,
    lifetime: PhantomData<&'a ()>,
}

impl ShapeContext<'_> {
    /// Element type and shape of an input. An empty shape is that of a scalar, or unknown: hosts do not tell.
    pub fn input(&self, index: usize) -> Result<(Option<Element>, Vec<Dim>)> {
        let mut info = ptr::null_mut();
        call!(self.api, ShapeInferContext_GetInputTypeShape(self.context, index, &mut info))?;
        // SAFETY: the context owns the description.
        unsafe { element_and_dims(self.api, info) }
    }

    pub fn set_output(&self, index: usize, element: Element, dims: &[Dim]) -> Result<()> {
        let api = self.api;
        let dims: Vec<Dim> = dims.iter().cloned().map(Dim::or_fresh).collect();
        let extents: Vec<i64> =
            dims.iter().map(|dim| if let Dim::Fixed(extent) = dim { *extent } else { -1 }).collect();
        let mut names: Vec<*const c_char> =
            dims.iter().map(|dim| if let Dim::Named(name) = dim { name } else { c"" }.as_ptr()).collect();
        let mut info = ptr::null_mut();
        call!(api, CreateTensorTypeAndShapeInfo(&mut info))?;
        let result = (|| {
            // Hosts since 1.19 take the output's type from here.
            call!(api, SetTensorElementType(info, element.to_onnx()))?;
            call!(api, SetDimensions(info, extents.as_ptr(), extents.len()))?;
            call!(api, SetSymbolicDimensions(info, names.as_mut_ptr(), names.len()))?;
            call!(api, ShapeInferContext_SetOutputTypeShape(self.context, index, info))
        })();
        // SAFETY: made above; the host has copied it.
        unsafe { ((*api.0).ReleaseTensorTypeAndShapeInfo)(info) };
        result
    }

    /// An integer attribute, if it is there and is one.
    pub fn int_attribute(&self, name: &CStr) -> Option<i64> {
        let mut value = 0i64;
        self.read_attribute(name, sys::OrtOpAttrType::ORT_OP_ATTR_INT, (&raw mut value).cast(), size_of::<i64>())?;
        Some(value)
    }

    /// Whether a string attribute is there and has this value.
    pub fn attribute_is(&self, name: &CStr, value: &str) -> bool {
        let mut text = [0u8; 64];
        let kind = sys::OrtOpAttrType::ORT_OP_ATTR_STRING;
        // Some hosts count the final zero, newer ones do not.
        let length = self.read_attribute(name, kind, text.as_mut_ptr().cast(), text.len());
        length.is_some_and(|length| text[..length].strip_suffix(b"\0").unwrap_or(&text[..length]) == value.as_bytes())
    }

    /// Reads an attribute into a buffer; the number of bytes it has.
    fn read_attribute(&self, name: &CStr, kind: sys::OrtOpAttrType, data: *mut c_void, length: usize) -> Option<usize> {
        let mut attribute = ptr::null();
        call!(self.api, ShapeInferContext_GetAttribute(self.context, name.as_ptr(), &mut attribute)).ok()?;
        let mut read = 0;
        call!(self.api, ReadOpAttr(attribute, kind, data, length, &mut read)).ok()?;
        Some(read)
    }
}

/// A node of a session that is being made.
pub struct NodeInfo<'a> {
    api: Api,
    info: *const sys::OrtKernelInfo,
    lifetime: PhantomData<&'a ()>,
}

impl NodeInfo<'_> {
    fn name(&self) -> Result<String> {
        let mut size = 0;
        call!(self.api, KernelInfo_GetNodeName(self.info, ptr::null_mut(), &mut size))?;
        let mut text = vec![0u8; size];
        call!(self.api, KernelInfo_GetNodeName(self.info, text.as_mut_ptr().cast(), &mut size))?;
        Ok(text_of(text))
    }

    /// The declared shape of an input; empty for a scalar, and where it is unknown.
    pub fn input_dims(&self, index: usize) -> Result<Vec<Dim>> {
        let mut type_info = ptr::null_mut();
        call!(self.api, KernelInfo_GetInputTypeInfo(self.info, index, &mut type_info))?;
        let dims = (|| {
            let mut info = ptr::null();
            call!(self.api, CastTypeInfoToTensorInfo(type_info, &mut info))?;
            if info.is_null() {
                return Ok(Vec::new());
            }
            // SAFETY: part of `type_info`, which is released below.
            Ok(unsafe { element_and_dims(self.api, info) }?.1)
        })();
        // SAFETY: ours, and not used again.
        unsafe { ((*self.api.0).ReleaseTypeInfo)(type_info) };
        dims
    }

    /// A float; nothing where the attribute is absent, an error where it is of another type.
    pub fn float(&self, name: &CStr) -> Result<Option<f32>> {
        self.attribute(name, "a float", self.read_float(name))
    }

    /// An int, as [`NodeInfo::float`].
    pub fn int(&self, name: &CStr) -> Result<Option<i64>> {
        self.attribute(name, "an int", self.read_int(name))
    }

    /// A string, as [`NodeInfo::float`].
    pub fn string(&self, name: &CStr) -> Result<Option<String>> {
        self.attribute(name, "a string", self.read_string(name))
    }

    /// A list of floats, as [`NodeInfo::float`].
    pub fn floats(&self, name: &CStr) -> Result<Option<Vec<f32>>> {
        self.list(name, "a list of floats", self.read_floats(name))
    }

    /// A list of ints, as [`NodeInfo::float`].
    pub fn ints(&self, name: &CStr) -> Result<Option<Vec<i64>>> {
        self.list(name, "a list of ints", self.read_ints(name))
    }

    fn read_float(&self, name: &CStr) -> Result<f32> {
        let mut value = 0.0;
        call!(self.api, KernelInfoGetAttribute_float(self.info, name.as_ptr(), &mut value)).map(|()| value)
    }

    fn read_int(&self, name: &CStr) -> Result<i64> {
        let mut value = 0;
        call!(self.api, KernelInfoGetAttribute_int64(self.info, name.as_ptr(), &mut value)).map(|()| value)
    }

    fn read_string(&self, name: &CStr) -> Result<String> {
        let (info, name, mut size) = (self.info, name.as_ptr(), 0);
        call!(self.api, KernelInfoGetAttribute_string(info, name, ptr::null_mut(), &mut size))?;
        let mut text = vec![0u8; size];
        call!(self.api, KernelInfoGetAttribute_string(info, name, text.as_mut_ptr().cast(), &mut size))?;
        Ok(text_of(text))
    }

    fn read_floats(&self, name: &CStr) -> Result<Vec<f32>> {
        let (info, name, mut size) = (self.info, name.as_ptr(), 0);
        call!(self.api, KernelInfoGetAttributeArray_float(info, name, ptr::null_mut(), &mut size))?;
        let mut values = vec![0.0; size];
        call!(self.api, KernelInfoGetAttributeArray_float(info, name, values.as_mut_ptr(), &mut size))?;
        Ok(values)
    }

    fn read_ints(&self, name: &CStr) -> Result<Vec<i64>> {
        let (info, name, mut size) = (self.info, name.as_ptr(), 0);
        call!(self.api, KernelInfoGetAttributeArray_int64(info, name, ptr::null_mut(), &mut size))?;
        let mut values = vec![0; size];
        call!(self.api, KernelInfoGetAttributeArray_int64(info, name, values.as_mut_ptr(), &mut size))?;
        Ok(values)
    }

    /// Tells an absent attribute, of which every host says "No attribute with", from one of another type.
    fn attribute<T>(&self, name: &CStr, rule: &str, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.message.starts_with("No attribute with") => Ok(None),
            Err(_) => Err(wrong_type(name, rule, self.describe(name))),
        }
    }

    /// The same for a list: hosts read an attribute of another type as an empty one.
    fn list<T>(&self, name: &CStr, rule: &str, read: Result<Vec<T>>) -> Result<Option<Vec<T>>> {
        match self.attribute(name, rule, read)? {
            Some(values) if values.is_empty() => match self.describe(name) {
                None => Ok(Some(values)),
                other => Err(wrong_type(name, rule, other)),
            },
            values => Ok(values),
        }
    }

    /// Type and value of an attribute, unless it is an empty list or of a type that no attribute here has.
    fn describe(&self, name: &CStr) -> Option<String> {
        (self.read_float(name).ok().map(|value| format!("the float {value}")))
            .or_else(|| self.read_int(name).ok().map(|value| format!("the int {value}")))
            .or_else(|| self.read_string(name).ok().map(|value| format!("the string {value:?}")))
            .or_else(|| {
                let values = self.read_floats(name).ok().filter(|values| !values.is_empty());
                values.map(|values| format!("the floats {values:?}"))
            })
            .or_else(|| {
                let values = self.read_ints(name).ok().filter(|values| !values.is_empty());
                values.map(|values| format!("the ints {values:?}"))
            })
    }
}

fn wrong_type(name: &CStr, rule: &str, got: Option<String>) -> Error {
    let (name, got) = (name.to_string_lossy(), got.unwrap_or_else(|| "another type".to_owned()));
    Error::invalid(format!("attribute {name}: must be {rule}, got {got}"))
}

/// A string that the host has written with its final zero.
fn text_of(mut bytes: Vec<u8>) -> String {
    bytes.pop();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One run of a node.
pub struct RunContext<'a> {
    api: Api,
    context: *mut sys::OrtKernelContext,
    lifetime: PhantomData<&'a ()>,
}

/// Most axes of a tensor that are looked at: more than any input may have.
const MAX_AXES: usize = 8;

/// The shape of a tensor, without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    extents: [usize; MAX_AXES],
    rank: usize,
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.extents[..self.rank]
    }
}

/// A compact tensor of the host's, alive during a run.
pub struct Tensor<'a> {
    pub shape: Shape,
    /// Never null; on the device of the node's provider, but for [`Operator::cpu_inputs`].
    pub data: *mut u8,
    lifetime: PhantomData<&'a ()>,
}

impl RunContext<'_> {
    /// Input `index`; `name` and `align`, the bytes of an element, are for messages and checks.
    pub fn input(&self, index: usize, name: &str, align: usize) -> Result<Tensor<'_>> {
        let mut value = ptr::null();
        call!(self.api, KernelContext_GetInput(self.context, index, &mut value))?;
        if value.is_null() {
            return Err(Error::invalid(format!("{name}: must be given")));
        }
        let mut info = ptr::null_mut();
        call!(self.api, GetTensorTypeAndShape(value, &mut info))?;
        let shape = (|| {
            let mut rank = 0;
            call!(self.api, GetDimensionsCount(info, &mut rank))?;
            if rank > MAX_AXES {
                return Err(Error::invalid(format!("{name}: must have at most {MAX_AXES} axes, got {rank}")));
            }
            let mut extents = [0i64; MAX_AXES];
            call!(self.api, GetDimensions(info, extents.as_mut_ptr(), rank))?;
            Ok(Shape { extents: extents.map(|extent| extent as usize), rank })
        })();
        // SAFETY: ours, and not used again.
        unsafe { ((*self.api.0).ReleaseTensorTypeAndShapeInfo)(info) };
        let tensor = self.tensor(value.cast_mut(), shape?)?;
        if tensor.data.addr() % align != 0 {
            // Memory of the application, such as a slice of a file.
            let address = tensor.data;
            return Err(Error::invalid(format!("{name}: must lie at a multiple of {align} bytes, got {address:p}")));
        }
        Ok(tensor)
    }

    /// Output `index`, which the host makes room for now.
    pub fn output<const RANK: usize>(&self, index: usize, name: &str, shape: [usize; RANK]) -> Result<Tensor<'_>> {
        let extents = shape.map(|extent| extent as i64);
        let mut value = ptr::null_mut();
        call!(self.api, KernelContext_GetOutput(self.context, index, extents.as_ptr(), RANK, &mut value))?;
        if value.is_null() {
            return Err(Error::invalid(format!("{name}: must be an output of the node")));
        }
        let mut extents = [0; MAX_AXES];
        extents[..RANK].copy_from_slice(&shape);
        self.tensor(value, Shape { extents, rank: RANK })
    }

    fn tensor(&self, value: *mut sys::OrtValue, shape: Shape) -> Result<Tensor<'_>> {
        let mut data = ptr::null_mut();
        call!(self.api, GetTensorMutableData(value, &mut data))?;
        // Where there are no elements hosts may have no address either; a slice needs one.
        let data = if shape.contains(&0) { ptr::without_provenance_mut(16) } else { data.cast() };
        Ok(Tensor { shape, data, lifetime: PhantomData })
    }

    /// The stream of the device that the node's work goes to.
    #[cfg(feature = "cuda")]
    pub fn gpu_stream(&self) -> Result<*mut c_void> {
        let mut stream = ptr::null_mut();
        call!(self.api, KernelContext_GetGPUComputeStream(self.context, &mut stream))?;
        Ok(stream)
    }

    /// The host's threads.
    pub fn threads(&self) -> HostThreads<'_> {
        HostThreads(self)
    }
}

impl Tensor<'_> {
    fn len(&self) -> usize {
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }

    /// Its elements.
    ///
    /// # Safety
    /// They are of type T and in CPU memory, and no reference to any of them is alive.
    pub unsafe fn as_slice<T>(&self) -> &[T] {
        // SAFETY: compact, and aligned: checked where it was made.
        unsafe { std::slice::from_raw_parts(self.data.cast(), self.len()) }
    }

    /// Its elements, to be written.
    ///
    /// # Safety
    /// As [`Tensor::as_slice`].
    pub unsafe fn as_mut_slice<T>(&mut self) -> &mut [T] {
        // SAFETY: the host made it for this run.
        unsafe { std::slice::from_raw_parts_mut(self.data.cast(), self.len()) }
    }
}

/// The threads that the session computes on: a pool of our own would fight them for the cores.
pub struct HostThreads<'a>(&'a RunContext<'a>);

// SAFETY: the context is used by the thread that calls `run` alone.
unsafe impl Sync for HostThreads<'_> {}

// SAFETY: the host's loop runs each index once and returns when all are done.
unsafe impl Executor for HostThreads<'_> {
    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> miamix_core::Result<()> {
        struct Tasks<'a> {
            task: &'a (dyn Fn(usize) + Sync),
            panic: Mutex<Option<Box<dyn Any + Send>>>,
        }
        extern "C" fn run_one(tasks: *mut c_void, index: usize) {
            // SAFETY: the `Tasks` below, which outlive the call of the host.
            let tasks = unsafe { &*tasks.cast::<Tasks<'_>>() };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (tasks.task)(index))) {
                match tasks.panic.lock() {
                    Ok(mut first) if first.is_none() => *first = Some(panic),
                    _ => drop(panics::describe(panic)),
                }
            }
        }
        let tasks = Tasks { task, panic: Mutex::new(None) };
        let RunContext { api, context, .. } = *self.0;
        // 0: each thread takes the next task when it is done, as samples differ in their work.
        call!(api, KernelContext_ParallelFor(context, run_one, n_tasks, 0, (&raw const tasks).cast_mut().cast()))
            .map_err(|error| miamix_core::Error::Unsupported(format!("threads of the host: {}", error.message)))?;
        match tasks.panic.into_inner() {
            Ok(None) => Ok(()),
            Ok(Some(panic)) => resume_unwind(panic),
            Err(_) => unreachable!("nothing panics while it is locked"),
        }
    }
}

/// Gives the host the operators of a domain: the body of `RegisterCustomOps`.
///
/// `operators` makes them for a host and is asked for each copy of ONNX Runtime once.
///
/// # Safety
/// `options` and `base` are the host's.
pub unsafe fn register_domain(
    options: *mut sys::OrtSessionOptions,
    base: *const sys::OrtApiBase,
    domain: &'static CStr,
    operators: impl FnOnce(Api) -> Vec<&'static sys::OrtCustomOp>,
) -> sys::OrtStatusPtr {
    /// The operators of each host in the process.
    static HOSTS: Mutex<Vec<(Api, Tables)>> = Mutex::new(Vec::new());
    #[derive(Clone, Copy)]
    struct Tables(&'static [&'static sys::OrtCustomOp]);
    // SAFETY: they are only read.
    unsafe impl Send for Tables {}

    if base.is_null() {
        return sys::OrtStatusPtr(ptr::null_mut()); // there is nobody to tell
    }
    // SAFETY: the host's functions, the version a string that is never freed.
    let (version, get_api) = unsafe { (CStr::from_ptr(((*base).GetVersionString)()), (*base).GetApi) };
    let version = version.to_string_lossy();
    // A host that is asked for an API it does not have prints a message of its own; every host has the first.
    let is_new_enough = is_at_least(&version, [1, API_VERSION]);
    // SAFETY: any number may be asked for.
    let api = Api(unsafe { get_api(if is_new_enough { API_VERSION } else { 1 }) });
    if api.0.is_null() {
        return sys::OrtStatusPtr(ptr::null_mut()); // a status is made through the API
    }
    api.guard("miamix", || {
        if !is_new_enough {
            let message = format!("ONNX Runtime: must be 1.{API_VERSION} or later, got {version}");
            return Err(Error { code: Code::ORT_NOT_IMPLEMENTED, message });
        }
        let tables = {
            let mut hosts = HOSTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match hosts.iter().find(|(host, _)| *host == api) {
                Some((_, tables)) => *tables,
                None => {
                    let tables = Tables(operators(api).leak());
                    hosts.push((api, tables));
                    tables
                }
            }
        };
        let mut handle = ptr::null_mut();
        call!(api, CreateCustomOpDomain(domain.as_ptr(), &mut handle))?;
        for table in tables.0 {
            call!(api, CustomOpDomain_Add(handle, *table))?;
        }
        call!(api, AddCustomOpDomain(options, handle))
    })
}

/// Whether a version such as `1.17.3` is this one or later.
fn is_at_least(version: &str, least: [u32; 2]) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)] >= least
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::MaybeUninit;

    /// A host that has only what the tests call.
    struct FakeHost(Box<MaybeUninit<sys::OrtApi>>);

    impl FakeHost {
        fn new() -> Self {
            unsafe extern "system" fn create_status(code: Code, message: *const c_char) -> sys::OrtStatusPtr {
                // SAFETY: the library's message.
                let message = unsafe { CStr::from_ptr(message) }.to_str().unwrap();
                sys::OrtStatusPtr(Box::into_raw(Box::new(format!("{code:?} {message}"))).cast())
            }
            unsafe extern "system" fn parallel_for(
                _: *const sys::OrtKernelContext,
                task: unsafe extern "C" fn(*mut c_void, usize),
                total: usize,
                _: usize,
                data: *mut c_void,
            ) -> sys::OrtStatusPtr {
                let (data, next) = (data.expose_provenance(), &AtomicU64::new(0));
                std::thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(move || {
                            while let index @ 0.. = next.fetch_add(1, Ordering::Relaxed) as usize
                                && index < total
                            {
                                // SAFETY: what the library asked for.
                                unsafe { task(ptr::with_exposed_provenance_mut(data), index) };
                            }
                        });
                    }
                });
                sys::OrtStatusPtr(ptr::null_mut())
            }
            let mut table = Box::new(MaybeUninit::<sys::OrtApi>::zeroed());
            // SAFETY: fields of memory of our own.
            unsafe {
                (&raw mut (*table.as_mut_ptr()).CreateStatus).write(create_status);
                (&raw mut (*table.as_mut_ptr()).KernelContext_ParallelFor).write(parallel_for);
            }
            FakeHost(table)
        }

        fn api(&self) -> Api {
            Api(self.0.as_ptr())
        }
    }

    fn text(status: sys::OrtStatusPtr) -> String {
        // SAFETY: made by `create_status`.
        *unsafe { Box::from_raw(status.0.cast::<String>()) }
    }

    #[test]
    fn errors_and_panics_become_a_status() {
        let host = FakeHost::new();
        let api = host.api();
        assert!(api.guard("MiAMix 'a'", || Ok(())).0.is_null());
        let error = miamix_core::Error::invalid("alpha", "must be finite and greater than 0", -1);
        let status = api.guard("MiAMix 'a'", || Err(error.into()));
        assert_eq!(text(status), "ORT_INVALID_ARGUMENT MiAMix 'a': alpha: must be finite and greater than 0, got -1");
        let status = api.guard("MiAMix 'a'", || panic!("on {}", "purpose"));
        assert_eq!(text(status), "ORT_RUNTIME_EXCEPTION MiAMix 'a': internal error, a bug of the library: on purpose");
        struct PanicsAgain;
        impl Drop for PanicsAgain {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        let status = api.guard("MiAMix 'a'", || std::panic::panic_any(PanicsAgain));
        assert_eq!(text(status), "ORT_RUNTIME_EXCEPTION MiAMix 'a': internal error, a bug of the library: no message");
        let status = api.guard("MiAMix 'a'", || Err(Error::invalid("a\0b")));
        assert_eq!(text(status), "ORT_INVALID_ARGUMENT MiAMix 'a': a b");
    }

    #[test]
    fn tasks_run_on_the_threads_of_the_host_and_may_panic() {
        let host = FakeHost::new();
        let run = RunContext { api: host.api(), context: ptr::null_mut(), lifetime: PhantomData };
        let seen: Vec<AtomicU64> = (0..50).map(|_| AtomicU64::new(0)).collect();
        let count = |i: usize| {
            seen[i].fetch_add(1, Ordering::Relaxed);
        };
        run.threads().run(50, &count).unwrap();
        assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        let panicking = |i: usize| if i == 7 { panic!("task 7") } else { count(i) };
        let status = host.api().guard("MiAMix", || Ok(run.threads().run(50, &panicking)?));
        assert_eq!(text(status), "ORT_RUNTIME_EXCEPTION MiAMix: internal error, a bug of the library: task 7");
        assert_eq!(seen.iter().filter(|n| n.load(Ordering::Relaxed) == 2).count(), 49, "the others did run");
    }

    #[test]
    fn a_host_that_is_too_old_is_told_so() {
        thread_local!(static ASKED: std::cell::RefCell<Vec<u32>> = const { std::cell::RefCell::new(Vec::new()) });
        unsafe extern "system" fn version() -> *const c_char {
            c"1.16.3".as_ptr()
        }
        unsafe extern "system" fn get_api(version: u32) -> *const sys::OrtApi {
            ASKED.with_borrow_mut(|asked| asked.push(version));
            Box::leak(Box::new(FakeHost::new())).api().0
        }
        let base = sys::OrtApiBase { GetApi: get_api, GetVersionString: version };
        // SAFETY: the options are not reached.
        let status = unsafe { register_domain(ptr::null_mut(), &base, c"ai.miamix", |_| unreachable!()) };
        assert_eq!(text(status), "ORT_NOT_IMPLEMENTED miamix: ONNX Runtime: must be 1.17 or later, got 1.16.3");
        // Asked for an API that it does not have, a host prints a message of its own.
        assert_eq!(ASKED.with_borrow(Vec::clone), [1]);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, expected) in [
            ("1.17.0", true),
            ("1.17", true),
            ("1.100.1", true),
            ("2.0.0-dev", true),
            ("1.16.3", false),
            ("1.9.0", false),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(is_at_least(version, [1, 17]), expected, "{version}");
        }
    }

    #[test]
    fn numbers_of_newer_hosts_are_no_type() {
        assert_eq!(Element::from_number(16), Some(Element::Bfloat16));
        assert_eq!(Element::from_number(999), None);
    }
}
