//! Where lines and pictures come from, and what of an alert says which. [`Services`] asks Loki and Prometheus; the tests
//! script a second one.

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
        redact: &'a [String],
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
        redact: &'a [String],
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

/// The query of an alert's Logs link, and the link.
#[must_use]
pub fn log_query(_style: &Style, _incident: &Incident, alert: &Alert) -> Option<(String, Option<String>)> {
    let url = alert.doc.annotations.get("logs_url")?;
    Some((url.clone(), Some(url.clone())))
}

/// The notice that shows log lines.
#[must_use]
pub fn log_notice(_style: &Style, _incident: &Incident, _alert: &Alert, lines: &LogLines) -> Message {
    let answer = Answer::new("📜", "Log lines");
    lines.lines.iter().fold(answer, |answer, (_, line)| answer.code("", line)).message()
}
