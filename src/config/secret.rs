//! A secret, and where it came from.

use std::{fmt, path::PathBuf};

/// A credential that no log, error or page shows: its `Debug` is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    file: Option<PathBuf>,
}

impl Secret {
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), file: None }
    }

    /// As read from a file; one trailing line break is not part of it.
    #[must_use]
    pub fn from_file(value: &str, file: PathBuf) -> Self {
        Self { value: value.trim_end_matches(['\r', '\n']).to_owned(), file: Some(file) }
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The file to read again when the secret stops working.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
