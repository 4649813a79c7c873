//! Batches of images in memory that the caller owns: element type, shape, strides, address.

use crate::error::{Error, Result};
use half::{bf16, f16};
use ndarray::{ArrayView1, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4};
use std::marker::PhantomData;
use std::ops::Range;

/// Element type of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    U8,
}

impl Dtype {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::U8 => "uint8",
        }
    }
}

/// An element of images: f32, [`f16`](struct@f16), [`bf16`] or u8.
pub trait Element: Copy + Send + Sync + sealed::Sealed + 'static {
    /// Its name at run time.
    const DTYPE: Dtype;
}

mod sealed {
    pub trait Sealed {}
    pub trait SealedMap {}
}

macro_rules! elements {
    ($($t:ty => $dtype:ident),+) => { $(
        impl sealed::Sealed for $t {}
        impl Element for $t { const DTYPE: Dtype = Dtype::$dtype; }
    )+ };
}
elements!(f32 => F32, f16 => F16, bf16 => Bf16, u8 => U8);

/// An element of label maps: an integer of 8 to 64 bits.
pub trait MapElement: Copy + Send + Sync + sealed::SealedMap + 'static {}

macro_rules! map_elements {
    ($($t:ty),+) => { $(impl sealed::SealedMap for $t {} impl MapElement for $t {})+ };
}
map_elements!(u8, i8, u16, i16, u32, i32, u64, i64);

/// Address, shape and strides of a 4-D tensor, its lifetime and type erased.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub data: *mut u8,
    /// Bytes an element.
    pub size: usize,
    /// [N, C, H, W].
    pub shape: [usize; 4],
    /// In elements.
    pub strides: [isize; 4],
}

// SAFETY: an address; whoever reads or writes through it upholds the views' promises.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl Raw {
    /// The bytes it touches.
    pub fn bytes(&self) -> Range<usize> {
        span_of(self.data, self.size, &self.shape, &self.strides)
    }

    /// Whether no two indices share an element: each stride spans all that the smaller ones reach.
    fn is_injective(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let mut axes: [(usize, usize); 4] =
            std::array::from_fn(|axis| (self.strides[axis].unsigned_abs(), self.shape[axis]));
        axes.sort_unstable();
        let mut reach = 0;
        axes.into_iter().filter(|&(_, extent)| extent > 1).all(|(stride, extent)| {
            let apart = stride > reach;
            reach += (extent - 1) * stride;
            apart
        })
    }

    /// Address of element `[n, c, y, x]`, which may lie outside only where it is not read.
    #[inline(always)]
    pub fn at<T>(&self, n: usize, c: usize, y: usize, x: usize) -> *mut T {
        let index = [n, c, y, x].into_iter().zip(self.strides).map(|(i, stride)| i as isize * stride).sum::<isize>();
        self.data.cast::<T>().wrapping_offset(index)
    }

    fn check_extent(&self, name: &str) -> Result<()> {
        let mut reach: usize = self.size;
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            reach = extent
                .saturating_sub(1)
                .checked_mul(stride.unsigned_abs())
                .and_then(|span| span.checked_mul(self.size))
                .and_then(|span| span.checked_add(reach))
                .filter(|&reach| reach <= isize::MAX as usize)
                .ok_or_else(|| Error::shape(name, "of less than 2^63 bytes", &self.shape))?;
        }
        Ok(())
    }
}

/// Images to read: `[N, C, H, W]` of f32, f16, bf16 or u8, any strides.
///
/// NHWC is the same tensor with other strides: permute the axes of the view.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pub(crate) raw: Raw,
    dtype: Dtype,
    lifetime: PhantomData<&'a ()>,
}

/// Images to write: `[N, C, H, W]` of f32, f16, bf16 or u8, any strides under which no element is met twice.
#[derive(Debug)]
pub struct ImagesMut<'a> {
    pub(crate) raw: Raw,
    dtype: Dtype,
    lifetime: PhantomData<&'a mut ()>,
}

impl<'a> Images<'a> {
    /// Images at an address.
    ///
    /// # Errors
    /// [`Error::Shape`] if they would span more than 2⁶³ bytes; `name` is used in the message.
    ///
    /// # Safety
    /// `data` is aligned for the element, and every element that shape and strides (in elements) reach
    /// can be read during `'a` and is not written by others.
    pub unsafe fn from_raw(
        name: &str,
        data: *const u8,
        dtype: Dtype,
        shape: [usize; 4],
        strides: [isize; 4],
    ) -> Result<Self> {
        let raw = Raw { data: data.cast_mut(), size: dtype.size(), shape, strides };
        raw.check_extent(name)?;
        Ok(Images { raw, dtype, lifetime: PhantomData })
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// [N, C, H, W].
    pub fn shape(&self) -> [usize; 4] {
        self.raw.shape
    }
}

impl<'a> ImagesMut<'a> {
    /// Images at an address.
    ///
    /// # Errors
    /// As [`Images::from_raw`].
    ///
    /// # Safety
    /// As [`Images::from_raw`], and the elements can be written during `'a` and are not read by others.
    pub unsafe fn from_raw(
        name: &str,
        data: *mut u8,
        dtype: Dtype,
        shape: [usize; 4],
        strides: [isize; 4],
    ) -> Result<Self> {
        let raw = Raw { data, size: dtype.size(), shape, strides };
        raw.check_extent(name)?;
        Ok(ImagesMut { raw, dtype, lifetime: PhantomData })
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// [N, C, H, W].
    pub fn shape(&self) -> [usize; 4] {
        self.raw.shape
    }
}

impl<'a, T: Element> From<ArrayView4<'a, T>> for Images<'a> {
    fn from(view: ArrayView4<'a, T>) -> Self {
        let raw = raw4(view.as_ptr().cast_mut().cast(), size_of::<T>(), view.dim(), view.strides());
        Images { raw, dtype: T::DTYPE, lifetime: PhantomData }
    }
}

impl<'a, T: Element> From<ArrayViewMut4<'a, T>> for ImagesMut<'a> {
    fn from(mut view: ArrayViewMut4<'a, T>) -> Self {
        let data = view.as_mut_ptr().cast();
        let raw = raw4(data, size_of::<T>(), view.dim(), view.strides());
        ImagesMut { raw, dtype: T::DTYPE, lifetime: PhantomData }
    }
}

fn raw4(data: *mut u8, size: usize, (n, c, h, w): (usize, usize, usize, usize), strides: &[isize]) -> Raw {
    Raw { data, size, shape: [n, c, h, w], strides: [strides[0], strides[1], strides[2], strides[3]] }
}

/// Label maps to read: `[N, H, W]` integers, any strides.
#[derive(Clone, Copy, Debug)]
pub struct Maps<'a> {
    pub(crate) raw: Raw,
    lifetime: PhantomData<&'a ()>,
}

/// Label maps to write: `[N, H, W]` integers, any strides under which no element is met twice.
#[derive(Debug)]
pub struct MapsMut<'a> {
    pub(crate) raw: Raw,
    lifetime: PhantomData<&'a mut ()>,
}

impl<'a> Maps<'a> {
    /// Maps at an address; `size`: bytes an element, 1, 2, 4 or 8.
    ///
    /// # Errors
    /// [`Error::Dtype`] for another size, [`Error::Shape`] if they would span more than 2⁶³ bytes.
    ///
    /// # Safety
    /// As [`Images::from_raw`].
    pub unsafe fn from_raw(
        name: &str,
        data: *const u8,
        size: usize,
        shape: [usize; 3],
        strides: [isize; 3],
    ) -> Result<Self> {
        let raw = raw_map(name, data.cast_mut(), size, shape, strides)?;
        Ok(Maps { raw, lifetime: PhantomData })
    }
}

impl<'a> MapsMut<'a> {
    /// Maps at an address; `size`: bytes an element, 1, 2, 4 or 8.
    ///
    /// # Errors
    /// As [`Maps::from_raw`].
    ///
    /// # Safety
    /// As [`ImagesMut::from_raw`].
    pub unsafe fn from_raw(
        name: &str,
        data: *mut u8,
        size: usize,
        shape: [usize; 3],
        strides: [isize; 3],
    ) -> Result<Self> {
        let raw = raw_map(name, data, size, shape, strides)?;
        Ok(MapsMut { raw, lifetime: PhantomData })
    }
}

fn raw_map(name: &str, data: *mut u8, size: usize, [n, h, w]: [usize; 3], [sn, sh, sw]: [isize; 3]) -> Result<Raw> {
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Err(Error::dtype(name, "must be integers of 8, 16, 32 or 64 bits", format_args!("{size} bytes")));
    }
    let raw = Raw { data, size, shape: [n, 1, h, w], strides: [sn, 0, sh, sw] };
    raw.check_extent(name)?;
    Ok(raw)
}

impl<'a, T: MapElement> From<ArrayView3<'a, T>> for Maps<'a> {
    fn from(view: ArrayView3<'a, T>) -> Self {
        let (raw, lifetime) =
            (raw3(view.as_ptr().cast_mut().cast(), size_of::<T>(), view.dim(), view.strides()), PhantomData);
        Maps { raw, lifetime }
    }
}

impl<'a, T: MapElement> From<ArrayViewMut3<'a, T>> for MapsMut<'a> {
    fn from(mut view: ArrayViewMut3<'a, T>) -> Self {
        let data = view.as_mut_ptr().cast();
        MapsMut { raw: raw3(data, size_of::<T>(), view.dim(), view.strides()), lifetime: PhantomData }
    }
}

fn raw3(data: *mut u8, size: usize, (n, h, w): (usize, usize, usize), strides: &[isize]) -> Raw {
    Raw { data, size, shape: [n, 1, h, w], strides: [strides[0], 0, strides[1], strides[2]] }
}

/// A table of numbers to read: a view without `ndarray`'s invariant lifetime. One column where there is only one axis.
#[derive(Debug)]
pub(crate) struct Table<'a, T> {
    data: *const T,
    pub shape: [usize; 2],
    strides: [isize; 2],
    lifetime: PhantomData<&'a T>,
}

impl<T> Clone for Table<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Table<'_, T> {}

// SAFETY: it only reads, as a shared reference does.
unsafe impl<T: Sync> Send for Table<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Table<'_, T> {}

impl<T: Copy> Table<'_, T> {
    /// Element `[row, column]`.
    ///
    /// # Panics
    /// If it lies outside.
    #[inline]
    pub fn at(&self, row: usize, column: usize) -> T {
        assert!(row < self.shape[0] && column < self.shape[1]);
        let offset = row as isize * self.strides[0] + column as isize * self.strides[1];
        // SAFETY: inside the view that this was made from.
        unsafe { self.data.wrapping_offset(offset).read() }
    }

    pub fn bytes(&self) -> Range<usize> {
        span_of(self.data.cast(), size_of::<T>(), &self.shape, &self.strides)
    }
}

impl<'a, T> From<ArrayView1<'a, T>> for Table<'a, T> {
    fn from(view: ArrayView1<'a, T>) -> Self {
        Table { data: view.as_ptr(), shape: [view.len(), 1], strides: [view.strides()[0], 0], lifetime: PhantomData }
    }
}

impl<'a, T> From<ArrayView2<'a, T>> for Table<'a, T> {
    fn from(view: ArrayView2<'a, T>) -> Self {
        let (shape, strides) = ([view.nrows(), view.ncols()], [view.strides()[0], view.strides()[1]]);
        Table { data: view.as_ptr(), shape, strides, lifetime: PhantomData }
    }
}

/// Checks that an output meets each of its elements once.
pub(crate) fn check_injective(name: &str, output: &Raw) -> Result<()> {
    if output.is_injective() {
        Ok(())
    } else {
        Err(Error::dtype(
            name,
            "must have strides under which no element is met twice",
            format_args!("{:?}", output.strides),
        ))
    }
}

/// Checks that an output shares no byte with an input.
pub(crate) fn check_apart(output: (&'static str, Range<usize>), input: (&str, Range<usize>)) -> Result<()> {
    Error::overlap(output, input).map_or(Ok(()), Err)
}

/// The bytes of a slice.
pub(crate) fn bytes_of<T>(slice: &[T]) -> Range<usize> {
    let range = slice.as_ptr_range();
    range.start as usize..range.end as usize
}

/// The bytes that a strided array of elements of `size` bytes touches.
pub(crate) fn span_of(data: *const u8, size: usize, shape: &[usize], strides: &[isize]) -> Range<usize> {
    let at = data as usize;
    if shape.contains(&0) {
        return at..at;
    }
    let spans = || shape.iter().zip(strides).map(|(&extent, &stride)| (extent as isize - 1) * stride);
    let (least, most) = (spans().map(|s| s.min(0)).sum::<isize>(), spans().map(|s| s.max(0)).sum::<isize>());
    let size = size as isize;
    at.wrapping_add_signed(least * size)..at.wrapping_add_signed((most + 1) * size)
}
