//! JSON in columns.

use crate::store::StoreError;

/// # Errors
/// None is known of: JSON can hold all that is written.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    // What most documents take, so that it need not grow again and again.
    let mut json = Vec::with_capacity(512);
    serde_json::to_writer(&mut json, value).map_err(|error| StoreError::Database(error.to_string()))?;
    String::from_utf8(json).map_err(|error| StoreError::Database(error.to_string()))
}

/// Reads what the column of this name has.
///
/// # Errors
/// When it is not what was written.
pub(crate) fn from_json<'t, T: serde::Deserialize<'t>>(text: &'t str, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Database(format!("invalid JSON in the store, column {column}: {error}")))
}
