//! Where lines and pictures come from. [`Services`] asks Loki and Prometheus; the tests
//! script a second one.

use regex::Regex;

use super::{
    BoxFuture, NoEvidence, Picture,
    graph::{self, GraphWanted},
    logs::{self, LogLines, LogsWanted},
};
use crate::config::EvidenceSource;

pub trait Sources: Send + Sync + 'static {
    /// # Errors
    /// When there are no lines to show.
    fn logs<'a>(
        &'a self,
        source: &'a EvidenceSource,
        redact: &'a [Regex],
        wanted: &'a LogsWanted,
    ) -> BoxFuture<'a, Result<LogLines, NoEvidence>>;

    /// # Errors
    /// When there is nothing to draw.
    fn graph<'a>(
        &'a self,
        source: &'a EvidenceSource,
        wanted: &'a GraphWanted,
    ) -> BoxFuture<'a, Result<Picture, NoEvidence>>;
}

/// The services that the config names.
#[derive(Clone, Copy, Debug)]
pub struct Services;

impl Sources for Services {
    fn logs<'a>(
        &'a self,
        source: &'a EvidenceSource,
        redact: &'a [Regex],
        wanted: &'a LogsWanted,
    ) -> BoxFuture<'a, Result<LogLines, NoEvidence>> {
        Box::pin(logs::fetch(source, redact, wanted))
    }

    fn graph<'a>(
        &'a self,
        source: &'a EvidenceSource,
        wanted: &'a GraphWanted,
    ) -> BoxFuture<'a, Result<Picture, NoEvidence>> {
        Box::pin(graph::draw(source, wanted))
    }
}
