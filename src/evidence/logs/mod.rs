//! Log lines from Loki.

mod answer;
mod clean;
mod private_keys;
mod redact;
mod select;
#[cfg(test)]
mod tests;

use regex::Regex;

use super::{MAX_ANSWER, NoEvidence};
use crate::{
    api_client::{self, Answer, Question},
    config::EvidenceSource,
    model::Timestamp,
};

/// Lines that Loki is asked for, so that it can be said how many more there are than those that are shown. Loki itself allows
/// 5,000 unless its config says otherwise.
const LIMIT: usize = 200;
/// A longer query is not sent, in bytes: it would not fit into the URL that many servers accept.
const MAX_QUERY: usize = 7 * 1024;

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
pub async fn fetch(source: &EvidenceSource, redact: &[Regex], wanted: &LogsWanted) -> Result<LogLines, NoEvidence> {
    if wanted.query.len() > MAX_QUERY {
        return Err(NoEvidence::NoQuery(format!("the query is longer than {} KiB", MAX_QUERY / 1024)));
    }
    let nanoseconds = |at: Timestamp| i128::from(at.0) * 1_000_000;
    let pairs = [
        ("query", wanted.query.clone()),
        ("start", nanoseconds(wanted.from).to_string()),
        ("end", nanoseconds(wanted.to).to_string()),
        ("limit", LIMIT.max(wanted.lines).to_string()),
        ("direction", "backward".to_owned()),
    ];
    let path = ["loki", "api", "v1", "query_range"];
    let question = Question { key: "evidence.loki", path: &path, pairs: &pairs, form: false, max_body: MAX_ANSWER };
    let answer = api_client::ask(source, &question).await?;
    if !answer.is_success() {
        return Err(refusal(&answer));
    }
    let (redact, most) = (redact.to_vec(), wanted.lines);
    // Reading megabytes takes longer than the runtime may be held.
    let reading = tokio::task::spawn_blocking(move || lines(&answer, &redact, most));
    reading.await.unwrap_or_else(|_| Err(NoEvidence::Failed("reading the log lines failed".to_owned())))
}

fn lines(answer: &Answer, redact: &[Regex], most: usize) -> Result<LogLines, NoEvidence> {
    let found = answer::read(&answer.body).map_err(|unusable| match unusable {
        answer::Unusable::Numbers => NoEvidence::NoQuery(
            "the query counts lines, so that there are none to show; the link shows a number, not lines".to_owned(),
        ),
        answer::Unusable::NotLoki(what) => {
            NoEvidence::Failed(answer.error(&format!("{what}; check evidence.loki.url")))
        }
    })?;
    let lines = select::newest(found, redact, most, LIMIT);
    if lines.lines.is_empty() {
        let what = "Loki has no lines for this query and time; of a wrong tenant it says the same";
        return Err(NoEvidence::Empty(what.to_owned()));
    }
    Ok(lines)
}

/// What an answer of Loki means that is not 2xx.
fn refusal(answer: &Answer) -> NoEvidence {
    let words = answer.words();
    match answer.status {
        400 if words.contains("parse error") || words.contains("syntax error") => {
            NoEvidence::NoQuery(answer.error(&format!("Loki cannot read the query: {words}")))
        }
        401 if words.contains("no org id") => NoEvidence::Failed(
            answer.error("Loki needs a tenant (401: no org id): set X-Scope-OrgID in evidence.loki.headers"),
        ),
        _ => NoEvidence::Failed(answer.refusal()),
    }
}
