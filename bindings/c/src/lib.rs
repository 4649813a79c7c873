//! The C library: the stable C ABI, and the operator for ONNX Runtime.

// C programs know the types by these names.
#[allow(non_camel_case_types)]
mod abi;
#[cfg(feature = "ort")]
mod ort;
mod panics;
#[cfg(all(test, feature = "cuda"))]
mod stand_in;
