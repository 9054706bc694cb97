//! Who leads among several replicas.

use std::{fmt, sync::Arc, time::Duration};

/// One term of one leader. Another one begins with each holder.
#[derive(Clone, PartialEq, Eq)]
pub struct Epoch(Arc<str>);

impl Epoch {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({})", self.0)
    }
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub replica: String,
    pub epoch: Epoch,
    /// Until the lease ends, if it is not renewed.
    pub left: Duration,
}
