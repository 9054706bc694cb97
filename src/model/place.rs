//! The room behind an address.

/// What an address stands for. An alias keeps the room that it led to first: whoever can move an alias must not be able
/// to lead alerts elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The id of the room that the alias led to when it was looked up first, or that the config names.
    pub first: String,
    /// The room that stands in its place by now, after one upgrade or several.
    pub successor: Option<String>,
}

impl Place {
    #[must_use]
    pub fn new(first: impl Into<String>) -> Self {
        Self { first: first.into(), successor: None }
    }

    /// The room that events go to.
    #[must_use]
    pub fn current(&self) -> &str {
        self.successor.as_deref().unwrap_or(&self.first)
    }
}
