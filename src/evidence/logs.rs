//! Log lines from Loki.

use super::NoEvidence;
use crate::{config::EvidenceSource, model::Timestamp};

/// What is asked of Loki. Times are those of the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsWanted {
    /// LogQL, as the card's Logs link shows it.
    pub query: String,
    /// That link, with its time range.
    pub link: Option<String>,
    pub from: Timestamp,
    pub to: Timestamp,
    /// At most this many lines are shown.
    pub lines: usize,
}

/// What is shown of the lines: merged, sorted, cleaned, blanked and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLines {
    /// Oldest first.
    pub lines: Vec<(Timestamp, String)>,
    /// Lines that are not shown.
    pub more: usize,
    /// There may be more than that.
    pub more_than: bool,
}

/// Asks Loki once.
///
/// # Errors
/// When there are no lines to show, and why.
pub async fn fetch(_source: &EvidenceSource, _redact: &[String], _wanted: &LogsWanted) -> Result<LogLines, NoEvidence> {
    std::future::ready(Err(NoEvidence::NoQuery("log lines are not finished".to_owned()))).await
}
