//! Lists for a room: what is open, and what is silenced.

use super::{Answer, time};
use crate::{
    model::{AlertState, Incident, Timestamp},
    render::{status, style::Style},
};

/// An open incident, of which only some alerts may be known.
#[derive(Clone, Copy, Debug)]
pub struct ListedIncident<'a> {
    pub incident: &'a Incident,
    pub counts: &'a [(AlertState, i64)],
    pub has_more: bool,
    /// When the first of the alerts began that matter now.
    pub since: Timestamp,
}

/// A silence that is active. All texts are untrusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSilence {
    pub by: String,
    /// By the wall clock.
    pub until: Timestamp,
    pub comment: String,
    /// `alertname="A", job="b"`; empty: not known.
    pub matchers: String,
}

/// The open incidents, in this order; `all`: how many there are.
#[must_use]
pub fn alerts(style: &Style, incidents: &[ListedIncident<'_>], all: usize, now: Timestamp) -> Answer {
    if incidents.is_empty() {
        return Answer::new("🟢", "Nothing is open here");
    }
    let firing = incidents.iter().filter(|open| open.incident.state == crate::model::IncidentState::Firing).count();
    let head = if all == 1 { "1 incident is open here".to_owned() } else { format!("{all} incidents are open here") };
    let head = if firing < incidents.len() { format!("{head}, {firing} of them firing") } else { head };
    let mut answer = Answer::new("ℹ️", &head);
    for open in incidents {
        let summary = status::summarize(style, open.incident, open.counts, open.has_more);
        let mut words = format!("{} {}", summary.emoji, summary.name);
        for more in [&summary.place, &summary.what] {
            if !more.is_empty() {
                words = format!("{words} · {more}");
            }
        }
        words = format!("{words} · {}, since {}", summary.counts, time(style, open.since, now));
        if let Some(taken) = open.incident.taken.first() {
            let who = if taken.name.is_empty() { &taken.user } else { &taken.name };
            words = format!("{words} · taken by {who}");
        }
        answer = answer.line(&words);
    }
    answer.and_more(all.saturating_sub(incidents.len()))
}

/// The silences, in this order.
#[must_use]
pub fn silences(style: &Style, silences: &[ListedSilence], now: Timestamp) -> Answer {
    let mut answer = match silences.len() {
        0 => return Answer::new("🟢", "No silence of what is open here is known"),
        1 => Answer::new("🔕", "1 silence is active"),
        many => Answer::new("🔕", &format!("{many} silences are active")),
    };
    for silence in silences {
        let comment = if silence.comment.is_empty() { String::new() } else { format!(": {}", silence.comment) };
        let words = format!("until {} by {}{comment}", time(style, silence.until, now), silence.by);
        answer = answer.code(&words, &silence.matchers);
    }
    answer
}
