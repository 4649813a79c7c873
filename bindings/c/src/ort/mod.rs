//! The operators for ONNX Runtime, domain `ai.miamix`: `MiAMix` and `MiAMixMasks`.
//!
//! ```text
//! schema ──> mix, masks ──> draw ──> host
//! tables     one operator   plans    ONNX Runtime's functions
//! ```
//!
//! `cuda`: the same operators on CUDA devices.

#[cfg(feature = "cuda")]
mod cuda;
mod draw;
mod host;
mod masks;
mod mix;
#[cfg(test)]
mod models;
#[cfg(test)]
mod page;
mod schema;

use masks::Masks;
use mix::Mix;
use schema::{DOMAIN, IMAGE_TYPES, LABEL_KINDS};

/// Adds the operators to the options of a session: what `RegisterCustomOpsLibrary` of ONNX Runtime calls.
///
/// # Safety
/// `options` and `base` come from one copy of ONNX Runtime.
/// cbindgen:ignore
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RegisterCustomOps(
    options: *mut ort_sys::OrtSessionOptions,
    base: *const ort_sys::OrtApiBase,
) -> ort_sys::OrtStatusPtr {
    // SAFETY: the caller's promise.
    unsafe {
        host::register_domain(options, base, DOMAIN, |api| {
            let mut operators = Vec::new();
            for images in IMAGE_TYPES {
                for labels in LABEL_KINDS {
                    operators.push(host::register(api, Mix::new(images, labels)));
                }
                operators.push(host::register(api, Masks::new(images)));
            }
            // After all of the CPU's: hosts ask the first of a name for shapes.
            #[cfg(feature = "cuda")]
            for images in IMAGE_TYPES {
                for labels in LABEL_KINDS {
                    operators.push(host::register(api, cuda::Cuda(Mix::new(images, labels))));
                }
                operators.push(host::register(api, cuda::Cuda(Masks::new(images))));
            }
            operators
        })
    }
}
