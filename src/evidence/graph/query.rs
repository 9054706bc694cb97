//! What Prometheus is asked: over which time, in which steps.

use std::time::Duration;

use url::form_urlencoded;

use super::{
    super::{MAX_ANSWER, NoEvidence},
    comparison::Watched,
};
use crate::{
    api_client::{Answer, Question, Unanswered, ask},
    config::EvidenceSource,
    model::Timestamp,
};

const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);
/// How much of the graph is before the alert: five of six parts.
const AGES: u32 = 6;
const POINTS: u64 = 250;
const MIN_STEP: u64 = 15;
/// Longer URLs are refused by some servers, in bytes; beyond that the query goes in the body.
const MAX_URL: usize = 2_000;
/// Prometheus gives up a second before we do.
const TIMEOUT: &str = "9s";

/// The time that a graph shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Between two points, in seconds.
    pub(super) step: u64,
}

impl Span {
    /// The last hour, or six times the age of what began: at most a day.
    pub(super) fn of(began: Option<Timestamp>, now: Timestamp) -> Self {
        let age = began.map_or(Duration::ZERO, |began| now.since(began));
        Self::last(age.saturating_mul(AGES).clamp(HOUR, DAY), now)
    }

    pub(super) fn last(range: Duration, now: Timestamp) -> Self {
        let step = range.as_secs().div_ceil(POINTS).max(MIN_STEP);
        Self { from: now.minus(range), to: now, step }
    }
}

/// Asks once for the watched expression. If all its series are too long an answer, those that fire are asked for.
pub(super) async fn fetch(
    source: &EvidenceSource,
    whole: &str,
    watched: &Watched,
    span: Span,
) -> Result<Answer, NoEvidence> {
    let answer = match ask_for(source, &watched.expr, span).await {
        Err(Unanswered::TooLong(_)) if watched.expr != whole => ask_for(source, whole, span).await?,
        answer => answer?,
    };
    if answer.is_success() { Ok(answer) } else { Err(NoEvidence::Failed(answer.refusal())) }
}

async fn ask_for(source: &EvidenceSource, expr: &str, span: Span) -> Result<Answer, Unanswered> {
    let pairs = pairs(expr, span);
    let path = ["api", "v1", "query_range"];
    let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
    let form = source.url.as_str().len() + encoded.len() > MAX_URL;
    ask(source, &Question { key: "evidence.prometheus", path: &path, pairs: &pairs, form, max_body: MAX_ANSWER }).await
}

fn pairs(expr: &str, span: Span) -> [(&'static str, String); 5] {
    let seconds = |at: Timestamp| format!("{}.{:03}", at.0.div_euclid(1_000), at.0.rem_euclid(1_000));
    [
        ("query", expr.to_owned()),
        ("start", seconds(span.from)),
        ("end", seconds(span.to)),
        ("step", span.step.to_string()),
        ("timeout", TIMEOUT.to_owned()),
    ]
}
