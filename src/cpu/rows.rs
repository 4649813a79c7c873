//! Rows of images in any layout, under a view: as they lie in memory where they can be, else through a staging row.

use crate::error::Result;
use crate::memory::resize;
use crate::plan::View;
use crate::tensor::Raw;

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    /// One channel: W elements.
    Planar,
    /// All C channels of each pixel together: W·C elements.
    Interleaved { channels: usize },
}

impl Layout {
    /// The layout in which `out` is written without staging, where there is one.
    pub fn of(out: &Raw) -> Self {
        let interleaved = Layout::Interleaved { channels: out.shape[1] };
        if out.shape[1] > 1 && !Layout::Planar.is_direct(out) && interleaved.is_direct(out) {
            interleaved
        } else {
            Layout::Planar
        }
    }

    /// Number of planes, and elements a pixel in a row.
    pub fn split(self, channels: usize) -> (usize, usize) {
        match self {
            Layout::Planar => (channels, 1),
            Layout::Interleaved { channels } => (1, channels),
        }
    }

    /// Whether rows lie in memory as this layout has them.
    fn is_direct(self, raw: &Raw) -> bool {
        let [_, channels, _, width] = raw.shape;
        let [_, channel_stride, _, pixel_stride] = raw.strides;
        match self {
            Layout::Planar => width == 1 || pixel_stride == 1,
            Layout::Interleaved { .. } => {
                (channels == 1 || channel_stride == 1) && (width == 1 || pixel_stride == channels as isize)
            }
        }
    }
}

/// Where the rows of one sample are.
#[derive(Clone, Copy)]
struct Place {
    raw: Raw,
    sample: usize,
    layout: Layout,
    row_len: usize,
    direct: bool,
}

impl Place {
    fn new(raw: Raw, sample: usize, layout: Layout) -> Self {
        let [_, channels, _, width] = raw.shape;
        let row_len = width * layout.split(channels).1;
        Place { raw, sample, layout, row_len, direct: layout.is_direct(&raw) }
    }

    fn row<T>(&self, plane: usize, y: usize) -> *mut T {
        self.raw.at(self.sample, plane, y, 0)
    }

    /// Whether `n_rows` rows follow one another without a gap.
    fn is_block(&self, n_rows: usize) -> bool {
        self.direct && (n_rows == 1 || self.raw.strides[2] == self.row_len as isize)
    }

    /// Address of pixel (`x`, `y`) of `plane`, and of its further channels by a stride.
    fn pixel<T>(&self, plane: usize, y: usize, x: usize) -> (*mut T, isize, usize) {
        (self.raw.at(self.sample, plane, y, x), self.raw.strides[1], self.layout.split(1).1)
    }
}

/// Room for `len` elements of `T`, of at most 8 bytes each and no destructor.
fn staging<T: Copy + Default>(memory: &mut Vec<u64>, len: usize) -> Result<&mut [T]> {
    const { assert!(align_of::<T>() <= align_of::<u64>()) };
    resize(memory, (len * size_of::<T>()).div_ceil(8), 0)?;
    let room = memory.as_mut_ptr().cast::<T>();
    for i in 0..len {
        // SAFETY: `memory` holds `len` elements of T and is aligned for them.
        unsafe { room.add(i).write(T::default()) };
    }
    // SAFETY: as above, all written.
    Ok(unsafe { std::slice::from_raw_parts_mut(room, len) })
}

/// Reads the rows of one sample under a view.
pub(super) struct RowReader<'a, T> {
    place: Place,
    view: View,
    staging: &'a mut [T],
}

impl<'a, T: Copy + Default> RowReader<'a, T> {
    /// Sample `sample` of `raw`, which can be read as long as the reader lives.
    pub fn new(raw: Raw, sample: usize, view: View, layout: Layout, memory: &'a mut Vec<u64>) -> Result<Self> {
        let place = Place::new(raw, sample, layout);
        let staged = view != View::IDENTITY || !place.direct;
        Ok(RowReader { place, view, staging: staging(memory, if staged { place.row_len } else { 0 })? })
    }

    /// `n_rows` rows as they lie in memory, if they lie there one after the other.
    pub fn block(&self, plane: usize, y: usize, n_rows: usize) -> Option<&[T]> {
        (self.view == View::IDENTITY && self.place.is_block(n_rows)).then(|| {
            // SAFETY: rows y .. y + n_rows of the tensor, contiguous.
            unsafe { std::slice::from_raw_parts(self.place.row(plane, y), n_rows * self.place.row_len) }
        })
    }

    /// One row: out(x, y) = src(f(x + dx), y + dy), 0 outside.
    pub fn row(&mut self, plane: usize, y: usize) -> &[T] {
        let View { flip, dx, dy } = self.view;
        if self.view == View::IDENTITY && self.place.direct {
            // SAFETY: row y of the tensor, contiguous.
            return unsafe { std::slice::from_raw_parts(self.place.row(plane, y), self.place.row_len) };
        }
        self.staging.fill(T::default());
        let [_, _, height, width] = self.place.raw.shape;
        let source_y = y as isize + dy as isize;
        let first = (-(dx as isize)).clamp(0, width as isize) as usize;
        let end = (width as isize - dx as isize).clamp(0, width as isize) as usize;
        if (0..height as isize).contains(&source_y) && first < end {
            let count = self.place.layout.split(1).1;
            let out = &mut self.staging[first * count..end * count];
            if self.place.direct {
                // SAFETY: row `source_y` of the tensor, contiguous.
                let row = unsafe {
                    std::slice::from_raw_parts(self.place.row::<T>(plane, source_y as usize), self.place.row_len)
                };
                let shown = (first as isize + dx as isize) as usize * count;
                let shown =
                    if flip { row.len() - shown - out.len()..row.len() - shown } else { shown..shown + out.len() };
                let row = &row[shown];
                if !flip {
                    out.copy_from_slice(row);
                } else if count == 1 {
                    out.iter_mut().zip(row.iter().rev()).for_each(|(out, &value)| *out = value);
                } else {
                    let pixels = row.rchunks_exact(count);
                    out.chunks_exact_mut(count).zip(pixels).for_each(|(out, pixel)| out.copy_from_slice(pixel));
                }
            } else {
                for (x, out) in (first..).zip(out.chunks_exact_mut(count)) {
                    let shifted = (x as isize + dx as isize) as usize;
                    let source_x = if flip { width - 1 - shifted } else { shifted };
                    let (from, stride, _) = self.place.pixel::<T>(plane, source_y as usize, source_x);
                    for (c, out) in out.iter_mut().enumerate() {
                        // SAFETY: an element of the tensor: its coordinates were checked just above.
                        *out = unsafe { from.wrapping_offset(c as isize * stride).read() };
                    }
                }
            }
        }
        self.staging
    }
}

/// Writes the rows of one sample.
pub(super) struct RowWriter<'a, T> {
    place: Place,
    staging: &'a mut [T],
}

impl<'a, T: Copy + Default> RowWriter<'a, T> {
    /// Sample `sample` of `raw`, which only this writer writes as long as it lives.
    pub fn new(raw: Raw, sample: usize, layout: Layout, memory: &'a mut Vec<u64>) -> Result<Self> {
        let place = Place::new(raw, sample, layout);
        Ok(RowWriter { place, staging: staging(memory, if place.direct { 0 } else { place.row_len })? })
    }

    /// Whether rows are written where they belong, without staging.
    pub fn is_direct(&self) -> bool {
        self.place.direct
    }

    /// `n_rows` rows as they lie in memory, if they lie there one after the other.
    pub fn block(&mut self, plane: usize, y: usize, n_rows: usize) -> Option<&mut [T]> {
        self.place.is_block(n_rows).then(|| {
            // SAFETY: rows y .. y + n_rows of the tensor, contiguous, of a sample that is ours.
            unsafe { std::slice::from_raw_parts_mut(self.place.row(plane, y), n_rows * self.place.row_len) }
        })
    }

    /// Gives row `y` to `fill`.
    pub fn row(&mut self, plane: usize, y: usize, fill: impl FnOnce(&mut [T])) {
        if self.place.direct {
            // SAFETY: row y of the tensor, contiguous, of a sample that is ours.
            return fill(unsafe { std::slice::from_raw_parts_mut(self.place.row(plane, y), self.place.row_len) });
        }
        fill(self.staging);
        for x in 0..self.place.raw.shape[3] {
            let (to, stride, count) = self.place.pixel::<T>(plane, y, x);
            for c in 0..count {
                // SAFETY: an element of the tensor, of a sample that is ours.
                unsafe { to.wrapping_offset(c as isize * stride).write(self.staging[x * count + c]) };
            }
        }
    }
}
