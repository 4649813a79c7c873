//! The C ABI (`include/miamix.h`).
