//! What is wrong with a config, all of it at once: nobody wants to fix one line per start.

use std::{fmt, sync::Arc};

/// Where a value was set. The order is the order of the report: the file from top to bottom, then the environment,
/// then what is not set anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    File {
        path: Arc<str>,
        line: usize,
        /// Set for syntax errors alone, where the line does not suffice.
        column: Option<usize>,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// Not set; names the file or the environment where it is missing.
    Unset(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column: None } => write!(f, "{path}:{line}"),
            Self::File { path, line, column: Some(column) } => write!(f, "{path}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
            Self::Unset(place) => f.write_str(place),
        }
    }
}

/// One error in a config. Its text never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConfigFault {
    pub(super) origin: Origin,
    pub(super) text: String,
}

impl ConfigFault {
    /// An error in the key at `path`.
    pub(super) fn at(origin: &Origin, path: &str, text: impl fmt::Display) -> Self {
        Self { origin: origin.clone(), text: format!("{path}: {text}") }
    }
}

/// All errors in a config, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .lines.join("\n"))]
pub struct ConfigFaults {
    lines: Vec<String>,
}

impl ConfigFaults {
    /// Sorts the errors by place and drops duplicates.
    pub(super) fn new(mut faults: Vec<ConfigFault>) -> Self {
        faults.sort();
        faults.dedup();
        Self { lines: faults.into_iter().map(|fault| format!("{}: {}", fault.origin, fault.text)).collect() }
    }

    /// One line per error; never empty.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
