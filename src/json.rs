//! JSON text, and where in it an error is.

use crate::error::{Error, Result};
use crate::float_mode::DefaultFloatMode;
use serde::de::DeserializeOwned;

/// Reads JSON; errors say where in the text.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T> {
    let _mode = DefaultFloatMode::enter();
    let mut reader = serde_json::Deserializer::from_str(json);
    let at_end = |message: String| Error::Json { what, at: "text".into(), message };
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let at = error.path().to_string();
        Error::Json { what, at: if at == "." { "text".into() } else { at }, message: error.inner().to_string() }
    })?;
    reader.end().map_err(|error| at_end(error.to_string()))?;
    Ok(value)
}
