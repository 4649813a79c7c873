//! The golden vectors of `tests/reference`, for unit tests.

use ndarray::{Array, Dimension};
use ndarray_npy::{NpzReader, ReadableElement};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::path::PathBuf;

/// One stage's cases, and their arrays.
pub(crate) struct Vectors<T> {
    pub cases: Vec<T>,
    arrays: Option<NpzReader<File>>,
}

impl<T: DeserializeOwned> Vectors<T> {
    pub fn read(stage: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        let json = std::fs::read_to_string(folder.join(format!("{stage}.json"))).expect("the vectors are there");
        let cases: Vec<T> = serde_json::from_str(&json).expect("the vectors are well formed");
        assert!(!cases.is_empty(), "{stage}: no cases");
        let arrays = File::open(folder.join(format!("{stage}.npz"))).ok().map(|file| NpzReader::new(file).unwrap());
        Vectors { cases, arrays }
    }

    pub fn array<A: ReadableElement, D: Dimension>(&mut self, case: &str, name: &str) -> Array<A, D> {
        let reader = self.arrays.as_mut().expect("the stage has arrays");
        reader.by_name(&format!("{case}/{name}")).unwrap_or_else(|error| panic!("{case}/{name}: {error}"))
    }
}
