//! What is wrong with a configuration, all of it at once: an operator who fixes one line per start gives up.

use std::{fmt, sync::Arc};

/// Where a value was set. The order is the order of the report: the file from top to bottom, then the environment,
/// then what is not set anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    File {
        path: Arc<str>,
        line: usize,
        /// Only where the line alone does not show what is meant: in syntax errors.
        column: Option<usize>,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// Not set: what is named instead is where it should have been.
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

/// One thing that is wrong. Its text never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConfigFault {
    pub(super) origin: Origin,
    pub(super) text: String,
}

impl ConfigFault {
    /// A fault of the key at `path`.
    pub(super) fn at(origin: &Origin, path: &str, text: impl fmt::Display) -> Self {
        Self { origin: origin.clone(), text: format!("{path}: {text}") }
    }
}

/// Everything that is wrong with a configuration, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .lines.join("\n"))]
pub struct ConfigFaults {
    lines: Vec<String>,
}

impl ConfigFaults {
    /// Sorted by place; the same fault found twice is told once.
    pub(super) fn new(mut faults: Vec<ConfigFault>) -> Self {
        faults.sort();
        faults.dedup();
        Self { lines: faults.into_iter().map(|fault| format!("{}: {}", fault.origin, fault.text)).collect() }
    }

    /// One line per fault; never empty.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
