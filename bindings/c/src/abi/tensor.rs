//! Tensors
//!
//! Arrays in memory of the caller. A miamix_tensor has the layout of DLPack's DLTensor, so that a tensor of
//! any framework is passed as it is, without a copy.

use super::boundary::{Failure, Result, borrow, borrow_slice, check_pointer};
use miamix_core::{Dtype, Error, Images, ImagesMut, Maps, MapsMut};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, ArrayViewMut3, Axis, ShapeBuilder};
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

/// Where memory is, as DLPack numbers it.
#[repr(C)]
pub enum miamix_device_type {
    /// Main memory.
    Cpu = 1,
    /// Memory of a CUDA device, all tensors of a call on the same one: see the argument stream. Not yet confirmed
    /// on hardware. MIAMIX_STATUS_CUDA_UNAVAILABLE where there is no driver.
    Cuda = 2,
    /// Main memory, pinned by CUDA: the same as MIAMIX_DEVICE_TYPE_CPU here.
    CudaHost = 3,
}

/// What an element is, as DLPack numbers it.
#[repr(C)]
pub enum miamix_dtype_code {
    /// A signed integer.
    Int = 0,
    /// An unsigned integer.
    Uint = 1,
    /// An IEEE 754 number.
    Float = 2,
    /// A bfloat16.
    Bfloat = 4,
    /// A truth value of 8 bits.
    Bool = 6,
}

/// DLPack's DLDevice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct miamix_device {
    /// A miamix_device_type.
    pub device_type: i32,
    /// Which device of that type; 0 for main memory.
    pub device_id: i32,
}

/// DLPack's DLDataType.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct miamix_dtype {
    /// A miamix_dtype_code.
    pub code: u8,
    /// Bits of an element.
    pub bits: u8,
    /// 1.
    pub lanes: u16,
}

/// DLPack's DLTensor.
///
/// Shapes are in the order [N, C, H, W] (images), [N, H, W] (maps, masks), [N, K] or [N] (labels). The order
/// in memory is what the strides say: NHWC images have shape {N, C, H, W} and strides {H W C, 1, W C, C}.
/// Images of five axes, [N, T, C, H, W], are taken as T C channels if the strides of T and C let them be one axis.
///
/// What is read may have any strides, 0 and negative ones too. Images and maps that are written may have any
/// strides under which no element is met twice; all other arrays that are written are compact.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct miamix_tensor {
    /// Aligned for the element after byte_offset is added; may be NULL where the shape has a 0.
    pub data: *mut c_void,
    /// Where data is.
    pub device: miamix_device,
    /// Number of axes.
    pub ndim: i32,
    /// What an element is.
    pub dtype: miamix_dtype,
    /// ndim extents.
    pub shape: *mut i64,
    /// ndim distances in elements; NULL for a compact tensor, the last axis the closest.
    pub strides: *mut i64,
    /// Added to data, bytes.
    pub byte_offset: u64,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<miamix_tensor>() == 48 && align_of::<miamix_tensor>() == 8);

/// Most axes of a tensor: [N, T, C, H, W].
const MAX_AXES: usize = 5;

const fn dtype(code: miamix_dtype_code, bits: u8) -> miamix_dtype {
    miamix_dtype { code: code as u8, bits, lanes: 1 }
}

pub(super) const FLOAT32: miamix_dtype = dtype(miamix_dtype_code::Float, 32);
pub(super) const INT32: miamix_dtype = dtype(miamix_dtype_code::Int, 32);
pub(super) const INT64: miamix_dtype = dtype(miamix_dtype_code::Int, 64);

pub(super) const IMAGES: &[miamix_dtype] = &[
    FLOAT32,
    dtype(miamix_dtype_code::Float, 16),
    dtype(miamix_dtype_code::Bfloat, 16),
    dtype(miamix_dtype_code::Uint, 8),
];

/// Those of which there are gradients.
pub(super) const REAL_IMAGES: &[miamix_dtype] = IMAGES.split_at(3).0;

pub(super) const MAPS: &[miamix_dtype] = &[
    dtype(miamix_dtype_code::Uint, 8),
    dtype(miamix_dtype_code::Int, 8),
    dtype(miamix_dtype_code::Uint, 16),
    dtype(miamix_dtype_code::Int, 16),
    dtype(miamix_dtype_code::Uint, 32),
    INT32,
    dtype(miamix_dtype_code::Uint, 64),
    INT64,
    dtype(miamix_dtype_code::Bool, 8),
];

/// The name in messages: `float32`.
impl fmt::Display for miamix_dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let miamix_dtype { code, bits, lanes } = *self;
        let name = match code {
            code if code == miamix_dtype_code::Int as u8 => "int",
            code if code == miamix_dtype_code::Uint as u8 => "uint",
            code if code == miamix_dtype_code::Float as u8 => "float",
            code if code == miamix_dtype_code::Bfloat as u8 => "bfloat",
            code if code == miamix_dtype_code::Bool as u8 && (bits, lanes) == (8, 1) => return f.write_str("bool"),
            _ => return write!(f, "code {code}, {bits} bits, {lanes} lanes"),
        };
        write!(f, "{name}{bits}")?;
        if lanes == 1 { Ok(()) } else { write!(f, " in {lanes} lanes") }
    }
}

/// A tensor of the caller, checked: its elements lie in one address range, at aligned addresses.
#[derive(Clone, Copy)]
pub(super) struct Tensor<'a> {
    name: &'static str,
    /// The CUDA device that it is on; none for CPU memory.
    device: Option<i32>,
    /// The element of index 0; dangling where there are no elements.
    data: *mut u8,
    dtype: miamix_dtype,
    n_axes: usize,
    shape: [usize; MAX_AXES],
    /// In elements; 0 along axes of one element at most.
    strides: [isize; MAX_AXES],
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> Tensor<'a> {
    /// Reads the caller's description; NULL is an error.
    ///
    /// # Safety
    /// As [`Tensor::optional`].
    pub unsafe fn required(
        tensor: *const miamix_tensor,
        name: &'static str,
        dtypes: &[miamix_dtype],
    ) -> Result<Tensor<'a>> {
        // SAFETY: the caller's promise.
        unsafe { Tensor::read(borrow(tensor, name)?, name, dtypes) }
    }

    /// Reads the caller's description; NULL is none.
    ///
    /// # Safety
    /// What is not NULL or misaligned is there: the struct, its shape and strides, and during `'a` its elements.
    pub unsafe fn optional(
        tensor: *const miamix_tensor,
        name: &'static str,
        dtypes: &[miamix_dtype],
    ) -> Result<Option<Tensor<'a>>> {
        if tensor.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        unsafe { Tensor::required(tensor, name, dtypes) }.map(Some)
    }

    unsafe fn read(tensor: &miamix_tensor, name: &'static str, dtypes: &[miamix_dtype]) -> Result<Tensor<'a>> {
        let device = check_device(tensor.device, name)?;
        if !dtypes.contains(&tensor.dtype) {
            return Err(Error::dtype(name, format!("must be of {}", one_of(dtypes)), tensor.dtype).into());
        }
        let n_axes = usize::try_from(tensor.ndim).unwrap_or(usize::MAX);
        if !(1..=MAX_AXES).contains(&n_axes) {
            return Err(shape_error(name, "of 1 to 5 axes", format!("{} axes", tensor.ndim)));
        }
        // SAFETY: the caller's promise.
        let extents = unsafe { borrow_slice(tensor.shape, n_axes, &format!("{name}.shape")) }?;
        let strides = match tensor.strides.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { borrow_slice(tensor.strides, n_axes, &format!("{name}.strides")) }?),
        };
        let size = usize::from(tensor.dtype.bits / 8);
        let too_large = || shape_error(name, "of at least 0 and less than 2^63 bytes", format!("{extents:?}"));
        let mut shape = [1; MAX_AXES];
        for (extent, &given) in shape.iter_mut().zip(extents) {
            *extent = usize::try_from(given).map_err(|_| too_large())?;
        }
        // No product below overflows, not even one of the extents that are not 0 in an empty tensor.
        shape
            .iter()
            .try_fold(size, |product, &extent| product.checked_mul(extent.max(1)))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(too_large)?;
        let mut read = Tensor {
            name,
            device,
            data: std::ptr::without_provenance_mut(size),
            dtype: tensor.dtype,
            n_axes,
            shape,
            strides: compact_strides(shape),
            lifetime: PhantomData,
        };
        if shape.contains(&0) {
            return Ok(read);
        }
        for (axis, &stride) in strides.into_iter().flatten().enumerate() {
            if shape[axis] > 1 {
                read.strides[axis] = isize::try_from(stride).map_err(|_| too_large())?;
            }
        }
        check_pointer(tensor.data.cast::<u8>(), &format!("{name}.data"))?;
        read.data = usize::try_from(tensor.byte_offset)
            .ok()
            .filter(|&offset| tensor.data.addr().checked_add(offset).is_some())
            .map(|offset| tensor.data.cast::<u8>().wrapping_add(offset))
            .ok_or_else(|| {
                Error::invalid(format!("{name}.byte_offset"), "must be inside the memory", tensor.byte_offset)
            })?;
        if !read.data.addr().is_multiple_of(size) {
            return Err(Error::dtype(
                name,
                format!("must be aligned to {size} bytes"),
                format_args!("{:p}", read.data),
            )
            .into());
        }
        let [first, end] = read.span();
        if first < 0 || end > usize::MAX as i128 {
            let got = format!("{extents:?} with strides {:?}", &read.strides[..n_axes]);
            return Err(shape_error(name, "within the address space", got));
        }
        Ok(read)
    }

    /// First and last address + 1 of its elements, computed where nothing overflows.
    fn span(&self) -> [i128; 2] {
        let size = i128::from(self.dtype.bits / 8);
        let reach = |sign: i128| -> i128 {
            let axes = self.shape.iter().zip(self.strides);
            axes.map(|(&extent, stride)| (extent as i128 - 1) * (stride as i128 * sign).max(0)).sum::<i128>() * size
        };
        let at = self.data.addr() as i128;
        [at - reach(-1), at + reach(1) + size]
    }

    /// The addresses of its elements.
    fn bytes(&self) -> Range<usize> {
        if self.shape.contains(&0) {
            return 0..0;
        }
        // Checked by `read`.
        let [first, end] = self.span().map(|address| address as usize);
        first..end
    }

    /// Its name in messages.
    #[cfg(feature = "cuda")]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The element of index 0.
    #[cfg(feature = "cuda")]
    pub fn address(&self) -> *mut u8 {
        self.data
    }

    /// Its extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.n_axes]
    }

    /// Its element type.
    pub fn dtype(&self) -> miamix_dtype {
        self.dtype
    }

    /// Checks that its elements are of the type of `other`.
    pub fn check_same_dtype(&self, other: &Tensor<'_>) -> Result<()> {
        if self.dtype != other.dtype {
            let rule = format!("must be of {} as {} are", other.dtype, other.name);
            return Err(Error::dtype(self.name, rule, self.dtype).into());
        }
        Ok(())
    }

    /// Shape and strides of `D` axes, of which the message says the names.
    pub fn axes<const D: usize>(&self, names: &str) -> Result<([usize; D], [isize; D])> {
        if self.n_axes != D {
            return Err(shape_error(self.name, names, format!("{:?}", self.shape())));
        }
        Ok((std::array::from_fn(|axis| self.shape[axis]), std::array::from_fn(|axis| self.strides[axis])))
    }

    /// `[N, C, H, W]`; T and C of `[N, T, C, H, W]` become one.
    pub fn image_axes(&self) -> Result<([usize; 4], [isize; 4])> {
        if self.n_axes != 5 {
            return self.axes("[N, C, H, W] or [N, T, C, H, W]");
        }
        let ([n, t, c, h, w], [sn, st, sc, sh, sw]) = self.axes("[N, T, C, H, W]")?;
        let stride = match (t, c) {
            (0 | 1, _) | (_, 0) => sc,
            (_, 1) => st,
            _ if sc.checked_mul(c as isize) == Some(st) => sc,
            _ => {
                let rule = format!("must have a stride of T that is {c} times that of C (T and C as one axis)");
                return Err(Error::dtype(self.name, rule, format_args!("{st} and {sc}")).into());
            }
        };
        Ok(([n, t * c, h, w], [sn, stride, sh, sw]))
    }

    /// Images to read.
    pub fn images(&self) -> Result<Images<'a>> {
        let (shape, strides) = self.image_axes()?;
        // SAFETY: aligned; that the elements are there is the promise made to `read`.
        Ok(unsafe { Images::from_raw(self.name, self.data, self.image_dtype(), shape, strides) }?)
    }

    /// Images to write.
    ///
    /// # Safety
    /// The elements can be written, and nobody else uses them.
    pub unsafe fn images_mut(&self) -> Result<ImagesMut<'a>> {
        let (shape, strides) = self.image_axes()?;
        // SAFETY: as for `images`, and the caller's promise.
        Ok(unsafe { ImagesMut::from_raw(self.name, self.data, self.image_dtype(), shape, strides) }?)
    }

    fn image_dtype(&self) -> Dtype {
        match (self.dtype.code, self.dtype.bits) {
            (_, 32) => Dtype::F32,
            (code, 16) if code == miamix_dtype_code::Bfloat as u8 => Dtype::Bf16,
            (_, 16) => Dtype::F16,
            _ => Dtype::U8,
        }
    }

    /// Label maps to read.
    pub fn maps(&self) -> Result<Maps<'a>> {
        let (shape, strides) = self.axes("[N, H, W]")?;
        // SAFETY: as for `images`.
        Ok(unsafe { Maps::from_raw(self.name, self.data, self.size(), shape, strides) }?)
    }

    /// Label maps to write.
    ///
    /// # Safety
    /// As [`Tensor::images_mut`].
    pub unsafe fn maps_mut(&self) -> Result<MapsMut<'a>> {
        let (shape, strides) = self.axes("[N, H, W]")?;
        // SAFETY: as for `images_mut`.
        Ok(unsafe { MapsMut::from_raw(self.name, self.data, self.size(), shape, strides) }?)
    }

    /// One axis to read, of elements of type `T`.
    ///
    /// # Safety
    /// `T` is what the dtype says.
    pub unsafe fn vector<T>(&self) -> Result<ArrayView1<'a, T>> {
        let ([n], [stride]) = self.axes("[N]")?;
        // SAFETY: the caller's promise.
        Ok(unsafe { self.view([n, 1], [stride, 0]) }.index_axis_move(Axis(1), 0))
    }

    /// Two axes to read, of elements of type `T`.
    ///
    /// # Safety
    /// As [`Tensor::vector`].
    pub unsafe fn matrix<T>(&self) -> Result<ArrayView2<'a, T>> {
        let (shape, strides) = self.axes("[N, K]")?;
        // SAFETY: the caller's promise.
        Ok(unsafe { self.view(shape, strides) })
    }

    unsafe fn view<T>(&self, shape: [usize; 2], strides: [isize; 2]) -> ArrayView2<'a, T> {
        // A view is made from its lowest address, with positive strides, and then turned.
        let steps = strides.map(isize::unsigned_abs);
        let start = shape.iter().zip(strides).fold(self.data.cast::<T>(), |start, (&extent, stride)| {
            start.wrapping_offset(extent.saturating_sub(1) as isize * stride.min(0))
        });
        // SAFETY: aligned and in one range, which `read` checked; the rest is the caller's promise.
        let mut view = unsafe { ArrayView2::from_shape_ptr(shape.strides(steps), start) };
        for (axis, _) in strides.iter().enumerate().filter(|&(_, &stride)| stride < 0) {
            view.invert_axis(Axis(axis));
        }
        view
    }

    /// One compact axis to write, of elements of type `T`.
    ///
    /// # Safety
    /// `T` is what the dtype says, the elements can be written, and nobody else uses them.
    pub unsafe fn vector_mut<T>(&self) -> Result<&'a mut [T]> {
        let ([n], _) = self.axes("[N]")?;
        self.check_compact()?;
        // SAFETY: compact, and the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.data.cast(), n) })
    }

    /// Two compact axes to write, of elements of type `T`.
    ///
    /// # Safety
    /// As [`Tensor::vector_mut`].
    pub unsafe fn matrix_mut<T>(&self) -> Result<ArrayViewMut2<'a, T>> {
        let (shape, _) = self.axes::<2>("[N, K]")?;
        self.check_compact()?;
        // SAFETY: as for `vector_mut`.
        Ok(unsafe { ArrayViewMut2::from_shape_ptr(shape, self.data.cast()) })
    }

    /// Three compact axes to write, of elements of type `T`.
    ///
    /// # Safety
    /// As [`Tensor::vector_mut`].
    pub unsafe fn volume_mut<T>(&self) -> Result<ArrayViewMut3<'a, T>> {
        let (shape, _) = self.axes::<3>("[N, H, W]")?;
        self.check_compact()?;
        // SAFETY: as for `vector_mut`.
        Ok(unsafe { ArrayViewMut3::from_shape_ptr(shape, self.data.cast()) })
    }

    pub fn check_compact(&self) -> Result<()> {
        if self.strides == compact_strides(self.shape) {
            return Ok(());
        }
        let strides = format!("strides {:?}", &self.strides[..self.n_axes]);
        Err(Error::dtype(self.name, "must be compact, the last axis the closest", strides).into())
    }

    /// Bytes an element.
    fn size(&self) -> usize {
        usize::from(self.dtype.bits / 8)
    }
}

/// Checks that no output shares memory with an input or another output, before a reference to it is made.
pub(super) fn check_apart<const O: usize, const I: usize>(
    outputs: [Option<&Tensor<'_>>; O],
    inputs: [Option<&Tensor<'_>>; I],
) -> Result<()> {
    for (i, output) in outputs.iter().enumerate() {
        for other in inputs.iter().chain(&outputs[..i]) {
            if let (Some(output), Some(other)) = (output, other) {
                let overlap = Error::overlap((output.name, output.bytes()), (other.name, other.bytes()));
                overlap.map_or(Ok(()), |error| Err(Failure::from(error)))?;
            }
        }
    }
    Ok(())
}

/// The CUDA device that all tensors are on; none where all are in CPU memory.
pub(super) fn common_device<const T: usize>(tensors: [Option<&Tensor<'_>>; T]) -> Result<Option<i32>> {
    let mut tensors = tensors.into_iter().flatten();
    let Some(first) = tensors.next() else { return Ok(None) };
    let place = |device: Option<i32>| device.map_or("CPU memory".into(), |device| format!("CUDA device {device}"));
    for tensor in tensors {
        if tensor.device != first.device {
            let rule = format!("must be in the memory of {} ({})", first.name, place(first.device));
            return Err(Error::invalid(tensor.name, rule, place(tensor.device)).into());
        }
    }
    Ok(first.device)
}

/// The number of a CUDA device that can be used; none for CPU memory.
fn check_device(device: miamix_device, name: &str) -> Result<Option<i32>> {
    let miamix_device { device_type, device_id } = device;
    match device_type {
        cpu if cpu == miamix_device_type::Cpu as i32 || cpu == miamix_device_type::CudaHost as i32 => Ok(None),
        #[cfg(feature = "cuda")]
        cuda if cuda == miamix_device_type::Cuda as i32 => match miamix_core::cuda_available() {
            Ok(()) => Ok(Some(device_id)),
            Err(error) => Err(Failure {
                status: error.status(),
                message: format!("{name}: is on CUDA device {device_id}, and {error}"),
            }),
        },
        #[cfg(not(feature = "cuda"))]
        cuda if cuda == miamix_device_type::Cuda as i32 => Err(Failure {
            status: miamix_core::Status::CudaUnavailable,
            message: format!(
                "{name}: must be in CPU memory, as this library has no CUDA engine, got CUDA device {device_id}"
            ),
        }),
        other => {
            Err(Error::Unsupported(format!("{name}: must be in CPU memory, got DLPack device type {other}")).into())
        }
    }
}

/// Strides of a compact tensor; 0 along axes of one element at most.
fn compact_strides(shape: [usize; MAX_AXES]) -> [isize; MAX_AXES] {
    let mut strides = [0; MAX_AXES];
    let mut step = 1;
    for (stride, &extent) in strides.iter_mut().zip(&shape).rev() {
        if extent > 1 {
            *stride = step;
            step *= extent as isize;
        }
    }
    strides
}

/// `float32, float16 or uint8`.
fn one_of(dtypes: &[miamix_dtype]) -> String {
    let mut text = String::new();
    for (i, dtype) in dtypes.iter().enumerate() {
        let joint = if i == 0 {
            ""
        } else if i + 1 == dtypes.len() {
            " or "
        } else {
            ", "
        };
        text += &format!("{joint}{dtype}");
    }
    text
}

fn shape_error(name: &str, expected: &str, got: String) -> Failure {
    Error::Shape { name: name.to_owned(), expected: expected.to_owned(), got }.into()
}
