//! Errors: one message with the argument's name, the rule, and the value.

use std::fmt;
use std::ops::Range;

/// What a call answers in C, Python and Java. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A parameter, a label or another value is outside its range.
    InvalidArgument = 1,
    /// Shapes disagree.
    Shape = 2,
    /// An element type or a memory layout that the call does not take.
    Dtype = 3,
    /// A plan that is malformed.
    Plan = 4,
    /// A combination that the library does not provide.
    Unsupported = 5,
    /// Memory could not be had.
    OutOfMemory = 6,
    /// No usable CUDA driver or device on this machine.
    CudaUnavailable = 7,
    /// CUDA reported an error.
    Cuda = 8,
    /// A bug of the library.
    Internal = 9,
}

/// cbindgen:ignore
impl Status {
    /// Every status, in the order of its number.
    pub const ALL: [Status; 10] = [
        Status::Ok,
        Status::InvalidArgument,
        Status::Shape,
        Status::Dtype,
        Status::Plan,
        Status::Unsupported,
        Status::OutOfMemory,
        Status::CudaUnavailable,
        Status::Cuda,
        Status::Internal,
    ];
}

/// Why a call failed. Nothing has been written when one is returned, but for [`Error::OutOfMemory`] and
/// [`Error::Cuda`], which can come in the middle of the work.
///
/// `Display` gives `name: rule, got value`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is outside its range.
    #[error("{name}: {rule}, got {got}")]
    InvalidArgument {
        /// The argument, as the caller knows it.
        name: String,
        /// What it must be.
        rule: String,
        /// What it was.
        got: String,
    },
    /// Shapes disagree.
    #[error("{name}: expected shape {expected}, got {got}")]
    Shape {
        /// The argument.
        name: String,
        /// The shape it must have.
        expected: String,
        /// The shape it has.
        got: String,
    },
    /// An element type or layout that the call does not take.
    #[error("{name}: {rule}, got {got}")]
    Dtype {
        /// The argument.
        name: String,
        /// What it must be.
        rule: String,
        /// What it was.
        got: String,
    },
    /// A plan that is malformed.
    #[error("plan: {at}: {rule}, got {got}")]
    Plan {
        /// Where in the plan, as `samples[2].layers[0].q`.
        at: String,
        /// What it must be.
        rule: String,
        /// What it was.
        got: String,
    },
    /// Text that is not a plan or a configuration at all.
    #[error("{what}: {at}: {message}")]
    Json {
        /// `plan` or `config`.
        what: &'static str,
        /// Where in the text.
        at: String,
        /// What the parser says.
        message: String,
    },
    /// Two buffers share memory that must not.
    #[error("{output}: must not overlap {input}, got {bytes} bytes in common")]
    Overlap {
        /// The buffer that would be written.
        output: &'static str,
        /// The buffer it overlaps.
        input: String,
        /// How much they share.
        bytes: usize,
    },
    /// A combination that the library does not provide.
    #[error("{0}")]
    Unsupported(String),
    /// Memory or threads could not be had. Outputs may have been written in part.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// There is no CUDA driver or device here, or none that the library can use.
    #[error("CUDA is not available: {0}")]
    CudaUnavailable(String),
    /// A call of the CUDA driver failed. Outputs may have been written in part.
    #[error("CUDA: {call} failed with {code}")]
    Cuda {
        /// The driver's function.
        call: &'static str,
        /// Its `CUresult`.
        code: i32,
    },
    /// The driver could not load the kernels.
    #[error("CUDA: {call} failed with {code}: {log}")]
    CudaKernels {
        /// The driver's function.
        call: &'static str,
        /// Its `CUresult`.
        code: i32,
        /// What its compiler said.
        log: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The number by which C, Python and Java know this error.
    pub fn status(&self) -> Status {
        match self {
            Error::InvalidArgument { .. } | Error::Overlap { .. } => Status::InvalidArgument,
            Error::Shape { .. } => Status::Shape,
            Error::Dtype { .. } => Status::Dtype,
            Error::Plan { .. } | Error::Json { what: "plan", .. } => Status::Plan,
            Error::Json { .. } => Status::InvalidArgument,
            Error::Unsupported(_) => Status::Unsupported,
            Error::OutOfMemory(_) => Status::OutOfMemory,
            Error::CudaUnavailable(_) => Status::CudaUnavailable,
            Error::Cuda { .. } | Error::CudaKernels { .. } => Status::Cuda,
        }
    }

    /// `name: rule, got value`.
    pub fn invalid(name: impl Into<String>, rule: impl Into<String>, got: impl fmt::Display) -> Self {
        Error::InvalidArgument { name: name.into(), rule: rule.into(), got: got.to_string() }
    }

    /// `name: expected shape [..], got [..]`.
    pub fn shape(name: impl Into<String>, expected: impl fmt::Display, got: &[usize]) -> Self {
        Error::Shape { name: name.into(), expected: expected.to_string(), got: format!("{got:?}") }
    }

    /// An element type or layout that the call does not take.
    pub fn dtype(name: impl Into<String>, rule: impl Into<String>, got: impl fmt::Display) -> Self {
        Error::Dtype { name: name.into(), rule: rule.into(), got: got.to_string() }
    }

    /// The error of an output that shares bytes with another buffer, if it does: each by its name and addresses.
    pub fn overlap(output: (&'static str, Range<usize>), other: (&str, Range<usize>)) -> Option<Self> {
        let common = output.1.start.max(other.1.start)..output.1.end.min(other.1.end);
        (!common.is_empty()).then(|| Error::Overlap {
            output: output.0,
            input: other.0.to_owned(),
            bytes: common.len(),
        })
    }

    pub(crate) fn plan(at: impl Into<String>, rule: impl Into<String>, got: impl fmt::Display) -> Self {
        Error::Plan { at: at.into(), rule: rule.into(), got: got.to_string() }
    }
}
