//! MiAMix: multi-stage mixed-sample data augmentation.
//!
//! Each image of a training batch is mixed with a partner under a mask that is drawn in several random
//! stages, and the labels are mixed by the share of pixels each image keeps.
//!
//! ```text
//! config + seed + shape ──> plan ──> masks ──> mix ──> images, labels
//!                           draws    pure      pure
//! ```
//!
//! [`MiaMix::draw`] makes every random decision and stores it as a [`Plan`], plain data that can be kept,
//! read and replayed; [`MiaMix::apply`] uses it. The same configuration, shape and seed give the same bits
//! for any number of threads, on every machine and in every language.
//!
//! ```
//! use miamix::ndarray::{Array1, Array4};
//! use miamix::{Config, Labels, MiaMix};
//!
//! let images = Array4::<f32>::zeros((8, 3, 32, 32));
//! let labels = Array1::from_iter(0..8i64);
//! let op = MiaMix::new(Config::default())?;
//! let mixed = op.mix(images.view(), images.view(), Labels::ids(labels.view(), 10), 42, 0)?;
//! assert_eq!(mixed.labels.dim(), (8, 10));
//! # Ok::<(), miamix::Error>(())
//! ```
//!
//! # Source
//! W. Liang, Y. Liang, J. Jia, *MiAMix: Enhancing Image Classification through a Multi-Stage Augmented
//! Mixed Sample Data Augmentation Method*, 2023.

#![warn(missing_docs)]

mod config;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod float_mode;
mod json;
mod mask;
mod math;
mod memory;
mod op;
mod plan;
mod rng;
#[doc(hidden)]
pub mod simd;
mod tensor;
#[cfg(test)]
mod vectors;

pub use config::{
    Config, CutmixBox, GaussianSigma, LabelWeight, LambdaReading, MAX_GRID, MAX_LAYERS, MAX_SHEAR, MAX_SIDE_PX,
    MAX_SMOOTH_PX, Merge, Method, MethodWeights, Pairing,
};
pub use cpu::{Executor, Inline, MAX_THREADS, Threads};
#[cfg(feature = "cuda")]
pub use cuda::{
    CudaStream, CurrentCudaDevice, DeviceBatch, DeviceLabels, DeviceOutput, DevicePlan, PlanSource, Workspace,
    check_cuda_labels, cuda_available, cuda_device_of_address, cuda_device_of_stream,
};
pub use error::{Error, Result, Status};
pub use op::{Batch, Labels, MiaMix, Mixed, Output};
pub use plan::{Augment, BatchShape, Cells, Layer, Plan, Sample, Shape, View, Warp};
pub use tensor::{Dtype, Element, Images, ImagesMut, MapElement, Maps, MapsMut};
/// The crates whose arrays and elements this one takes and gives, of the versions that it does so in.
pub use {half, ndarray};

/// The snippets of the README, which are compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
