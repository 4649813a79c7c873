//! In the place of `device.rs` in a library without the CUDA engine.

use super::apply::{Inputs, Outputs};
use super::boundary::Result;
use super::plan::miamix_plan;
use super::tensor::Tensor;
use miamix_core::{BatchShape, Error, MiaMix};
use std::convert::Infallible;
use std::ffi::c_void;

fn absent<T>() -> Result<T> {
    Err(Error::CudaUnavailable("this library has no CUDA engine".into()).into())
}

/// None is ever made: no tensor on a CUDA device gets past [`Tensor::required`].
pub(super) struct Stream(Infallible);

impl Stream {
    pub unsafe fn of(_: i32, _: *mut c_void) -> Result<Self> {
        absent()
    }
}

pub(super) fn sizes(_: &MiaMix, _: BatchShape) -> Result<[usize; 3]> {
    absent()
}

pub(super) unsafe fn plan_at(_: &MiaMix, _: BatchShape, _: [(*mut c_void, usize); 2]) -> Result<miamix_plan> {
    absent()
}

pub(super) unsafe fn upload(_: &miamix_plan, _: &miamix_plan, _: *mut c_void) -> Result<()> {
    absent()
}

pub(super) unsafe fn check_labels(_: *mut c_void) -> Result<()> {
    absent()
}

pub(super) fn device_of(_: *const c_void) -> Result<i32> {
    absent()
}

pub(super) unsafe fn apply(_: &MiaMix, _: &miamix_plan, _: &Inputs<'_>, _: &Outputs<'_>, stream: Stream) -> Result<()> {
    match stream.0 {}
}

pub(super) unsafe fn apply_maps(
    _: &MiaMix,
    _: &miamix_plan,
    _: &Tensor<'_>,
    _: &Tensor<'_>,
    _: &Tensor<'_>,
    stream: Stream,
) -> Result<()> {
    match stream.0 {}
}

pub(super) unsafe fn masks(
    _: &MiaMix,
    _: &miamix_plan,
    _: Option<&Tensor<'_>>,
    _: Option<&Tensor<'_>>,
    stream: Stream,
) -> Result<()> {
    match stream.0 {}
}

pub(super) unsafe fn backward(
    _: &MiaMix,
    _: &miamix_plan,
    _: &Tensor<'_>,
    _: &Tensor<'_>,
    _: Option<&Tensor<'_>>,
    stream: Stream,
) -> Result<()> {
    match stream.0 {}
}
