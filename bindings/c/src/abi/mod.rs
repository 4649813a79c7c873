//! miamix.h: the C interface of MiAMix, multi-stage mixed-sample augmentation.
//!
//!     config + seed + shape --> plan --> masks --> mix --> images, labels
//!                               draws    pure      pure
//!
//! An operator (miamix_op) holds checked parameters. A plan (miamix_plan) holds every random decision for one
//! batch, as plain data. Applying a plan mixes each image of the batch, the primary, with another one, its
//! partner, under the mask of the plan: a mask of 1 keeps the primary's pixel, a mask of 0 takes the partner's.
//! Labels are mixed by the share of pixels that the primary keeps. Equal parameters, shapes and seeds give
//! equal bits, whatever the number of threads, the machine or the language.
//!
//!     miamix_op *op = NULL;
//!     miamix_op_create(NULL, &op);    // the parameters of the paper
//!     for (first_sample = 0; next_batch(&images, &labels); first_sample += n)
//!         miamix_mix(op, seed, first_sample, &images, NULL, &labels, 10,
//!                    &mixed_images, &mixed_labels, NULL, NULL, NULL);
//!     miamix_op_free(op);
//!
//! That is all that a training loop needs; to keep, read or write a plan, draw it with miamix_plan_draw() and use
//! it with miamix_apply(). The chapters: versions and errors, parameters, the operator, plans, tensors, mixing, CUDA.
//!
//! Ownership. miamix_op_create(), miamix_plan_draw(), miamix_plan_from_json() and miamix_plan_on_device()
//! give a handle to the caller, who releases it with the _free() function of its type; freeing NULL does
//! nothing. All other arguments are borrowed for the call: tensors, their shapes and their memory stay with
//! the caller. An argument that is a pointer to const is not changed. Strings that a function returns belong
//! to the library.
//!
//! Threads. Every function may be called on any thread, and operators and plans may be used by any number of
//! threads at once, except that miamix_plan_redraw() and the _free() functions need their handle alone.
//! A call works on several threads (miamix_config.n_threads), which are the library's own, and returns when all are
//! done; a small batch is mixed on the calling thread. The child of a fork(), at whatever moment, may go on with
//! the operators and plans that it has: the library starts threads anew there.
//!
//! Streams. Calls on tensors in CPU memory are synchronous and ignore the argument stream, which is there
//! for tensors on CUDA devices. A stream is used, never owned; no call waits for a device. Functions
//! without that argument touch no device.
//!
//! Errors. A call returns MIAMIX_STATUS_OK (0), or says why not: by a status, and by
//! miamix_last_error_message(), "name: rule, got value". Arguments are checked before anything is
//! written. NULL where it is not allowed, numbers out of range and sizes that overflow are errors; what
//! cannot be checked is that memory is there: addresses, shapes and strides must be true. After
//! MIAMIX_STATUS_OUT_OF_MEMORY, MIAMIX_STATUS_CUDA and MIAMIX_STATUS_INTERNAL, which can come in the middle of the
//! work, outputs may be written in part; after any other error they are as they were.
//!
//! Versions. Within one ABI version (MIAMIX_ABI_VERSION) functions, numbers and layouts are only added to.
//! Structs that may grow begin with struct_size, the size that the caller was compiled with.

mod apply;
mod boundary;
mod config;
mod cuda;
#[cfg_attr(not(feature = "cuda"), path = "no_device.rs")]
mod device;
mod op;
mod plan;
mod status;
mod tensor;
#[cfg(test)]
mod tests;
