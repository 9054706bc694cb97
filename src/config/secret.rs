//! A secret and where it came from.

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
    kind: SecretKind,
}

/// Which characters a secret may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SecretKind {
    /// Chosen by a person: blanks and quotes may be intended.
    #[default]
    Password,
    /// Generated, or part of a URL: blanks and quotes are copying errors.
    Token,
}

impl Secret {
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), file: None, kind: SecretKind::default() }
    }

    /// A secret as read from a file, without one trailing line break.
    #[must_use]
    pub fn from_file(value: &str, file: PathBuf) -> Self {
        Self { value: trim_line_break(value).to_owned(), file: Some(file), kind: SecretKind::default() }
    }

    /// Checks the text against `kind`.
    ///
    /// # Errors
    /// With what is odd about it, as it follows a name; never the secret.
    pub(super) fn of_kind(self, kind: SecretKind) -> Result<Self, String> {
        match self.oddity() {
            Some(oddity) if kind == SecretKind::Token || oddity == MARK => Err(oddity.to_owned()),
            _ => Ok(Self { kind, ..self }),
        }
    }

    /// The secret that its file holds now, from the file's bytes.
    ///
    /// # Errors
    /// Says why that cannot be the secret, naming the path and never the content.
    pub fn renewed(&self, bytes: Vec<u8>) -> Result<Self, String> {
        let path = self.file.clone().unwrap_or_default();
        let named = |why: &str| format!("{} {why}", path.display());
        let line = line(bytes).map_err(named)?;
        Self::from_file(&line, path.clone()).of_kind(self.kind).map_err(|why| named(&why))
    }

    /// What looks like a copying error, as it follows a name.
    #[must_use]
    pub fn oddity(&self) -> Option<&'static str> {
        let text = self.value.as_str();
        let quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
        if text.starts_with(BYTE_ORDER_MARK) {
            Some(MARK)
        } else if text.trim() != text {
            Some("begins or ends with a blank: take it away")
        } else if quoted('"') || quoted('\'') {
            Some("stands in quotes, which count as part of it (docker's --env-file keeps them): take them away")
        } else if text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) {
            Some("begins with the word Bearer, which is not part of a token: take it away")
        } else {
            None
        }
    }

    /// Returns the secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The file to read again when the secret is no longer accepted.
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

const BYTE_ORDER_MARK: char = '\u{feff}';
const MARK: &str = "begins with a byte order mark, which some editors write: save it as UTF-8 without one";

/// Bound of a secret file, so that a path like `/dev/zero` cannot fill the memory.
const MAX_BYTES: usize = 64 * 1024;

/// The one line of a file from a secrets mount.
///
/// # Errors
/// Says why there is no such line, naming the path and never the content.
pub(super) fn read_line(path: &Path) -> Result<String, String> {
    let bound = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bound).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let line = line(bytes).map_err(|why| format!("{} {why}", path.display()))?;
    if line.starts_with(BYTE_ORDER_MARK) { Err(format!("{} {MARK}", path.display())) } else { Ok(line) }
}

fn line(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.len() > MAX_BYTES {
        return Err("is larger than a secret can be");
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16 text, expected UTF-8");
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text")?;
    let line = trim_line_break(&text);
    if line.trim().is_empty() {
        return Err("is empty");
    }
    if line.contains(char::is_control) {
        return Err("must hold a single line and no control characters");
    }
    Ok(line.to_owned())
}

fn trim_line_break(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}
