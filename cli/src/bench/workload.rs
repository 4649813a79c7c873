//! The batches that are measured.

use clap::ValueEnum;
use miamix::{BatchShape, Dtype};
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

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
    /// 256x3x224x224 bfloat16
    #[value(name = "E")]
    E,
    /// 64x3x225x225 float32, a size without small factors
    #[value(name = "F")]
    F,
}

impl Workload {
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    pub fn batch(self) -> BatchKind {
        let f32_nchw = |samples, side, num_classes| BatchKind {
            samples,
            channels: 3,
            height: side,
            width: side,
            dtype: Element::F32,
            layout: Layout::Nchw,
            num_classes,
        };
        let imagenet = f32_nchw(64, 224, 1000);
        match self {
            Workload::A => f32_nchw(128, 32, 10),
            Workload::B => f32_nchw(128, 64, 200),
            Workload::C => imagenet,
            Workload::D => BatchKind { dtype: Element::U8, layout: Layout::Nhwc, ..imagenet },
            Workload::E => BatchKind { samples: 256, dtype: Element::Bf16, ..imagenet },
            Workload::F => BatchKind { height: 225, width: 225, ..imagenet },
        }
    }
}

/// An element type, by the name that the library gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Element {
    #[serde(rename = "float32")]
    F32,
    #[serde(rename = "float16")]
    F16,
    #[serde(rename = "bfloat16")]
    Bf16,
    #[serde(rename = "uint8")]
    U8,
}

impl Element {
    fn dtype(self) -> Dtype {
        match self {
            Element::F32 => Dtype::F32,
            Element::F16 => Dtype::F16,
            Element::Bf16 => Dtype::Bf16,
            Element::U8 => Dtype::U8,
        }
    }

    pub fn name(self) -> &'static str {
        self.dtype().name()
    }
}

/// The order of a batch's axes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Layout {
    Nchw,
    Nhwc,
}

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "NCHW",
            Layout::Nhwc => "NHWC",
        }
    }
}

/// Size, element type and layout of a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchKind {
    pub samples: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub dtype: Element,
    pub layout: Layout,
    pub num_classes: usize,
}

impl BatchKind {
    pub fn plan_shape(&self) -> BatchShape {
        BatchShape::new(self.samples, self.height, self.width)
    }

    /// Pixels of one mask.
    pub fn plane_len(&self) -> usize {
        self.height * self.width
    }

    /// Elements of the batch.
    pub fn len(&self) -> usize {
        self.samples * self.channels * self.plane_len()
    }

    /// As it lies in memory.
    pub fn shape(&self) -> [usize; 4] {
        let BatchKind { samples, channels, height, width, .. } = *self;
        match self.layout {
            Layout::Nchw => [samples, channels, height, width],
            Layout::Nhwc => [samples, height, width, channels],
        }
    }

    /// Of one batch.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.dtype().size()
    }

    /// `[N, C, H, W]`.
    pub fn view<'a, T>(&self, pixels: &'a [T]) -> ArrayView4<'a, T> {
        let view = ArrayView4::from_shape(self.shape(), pixels).expect("as many pixels as the shape says");
        match self.layout {
            Layout::Nchw => view,
            Layout::Nhwc => view.permuted_axes([0, 3, 1, 2]),
        }
    }

    /// `[N, C, H, W]`.
    pub fn view_mut<'a, T>(&self, pixels: &'a mut [T]) -> ArrayViewMut4<'a, T> {
        let view = ArrayViewMut4::from_shape(self.shape(), pixels).expect("as many pixels as the shape says");
        match self.layout {
            Layout::Nchw => view,
            Layout::Nhwc => view.permuted_axes([0, 3, 1, 2]),
        }
    }
}
