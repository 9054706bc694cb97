//! A secret, and where it came from.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

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
        Self { value: trim_line_break(value).to_owned(), file: Some(file) }
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The file to read again when the secret stops working.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// No credential is longer; a path like `/dev/zero` must not fill the memory.
const MAX_BYTES: usize = 64 * 1024;

/// The one line of a file from a secrets mount.
///
/// # Errors
/// Why there is no such line, naming the path and never the content.
pub(super) fn read_line(path: &Path) -> Result<String, String> {
    let bound = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bound).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("{} is larger than a secret can be", path.display()));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
    let line = trim_line_break(&text);
    if line.trim().is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    if line.contains(char::is_control) {
        return Err(format!("{} must hold a single line and no control characters", path.display()));
    }
    Ok(line.to_owned())
}

fn trim_line_break(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}
