//! Where lines and pictures come from, and what of an alert says which. [`Services`] asks Loki and Prometheus; the tests
//! script a second one.

use regex::Regex;

use super::{
    BoxFuture, NoEvidence, Picture,
    graph::{self, GraphWanted},
    logs::{self, LogLines, LogsWanted},
};
use crate::{
    config::EvidenceSource,
    model::{Alert, Incident},
    render::{Message, Style, answer::Answer},
};

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

/// The notice that shows log lines.
#[must_use]
pub fn log_notice(_style: &Style, _incident: &Incident, _alert: &Alert, lines: &LogLines) -> Message {
    let answer = Answer::new("📜", "Log lines");
    lines.lines.iter().fold(answer, |answer, (_, line)| answer.code("", line)).message()
}
