//! The C library: the stable C ABI, and the operator for ONNX Runtime.

mod abi;
#[cfg(feature = "ort")]
mod ort;
