//! What people did about an incident, a line each: who takes care of it, and who silenced it until when.

use super::group::Group;
use crate::{
    model::{IncidentState, KnownSilence, MAX_TAKEN, Taken},
    render::{event::user_link, held_back, text, time::TimeFormat},
};

const MAX_NAME: usize = 60;
const MAX_SAID: usize = 150;
/// In a digest a name stands at the end of its incident's line.
const MAX_SHORT_NAME: usize = 24;

/// `👀 taken by Alice at 12:31: looking at the node`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// `👀 taken`, `🔕 silenced`.
    pub(crate) what: &'static str,
    /// May be empty.
    pub(crate) who: String,
    /// Where that person is found; may be empty.
    pub(crate) url: String,
    /// All that follows, with its blank or colon.
    pub(crate) rest: String,
}

/// Nothing for an incident that is over: who took it did so for this outage.
pub(crate) fn statements(group: &Group<'_>, times: &TimeFormat<'_>) -> Vec<Statement> {
    taken(group, times).into_iter().chain(silenced(group, times)).collect()
}

fn taken(group: &Group<'_>, times: &TimeFormat<'_>) -> Option<Statement> {
    let incident = group.incident;
    let first = incident.taken.first().filter(|_| incident.state.is_open())?;
    let others = others(incident.taken.len() - 1);
    Some(Statement {
        what: "👀 taken",
        who: name(first),
        url: user_link(&first.user).unwrap_or_default(),
        rest: format!("{others} at {}{}", times.minute(first.at), said(&first.text)),
    })
}

fn silenced(group: &Group<'_>, times: &TimeFormat<'_>) -> Option<Statement> {
    let silence = held_back::shared_silence(group).filter(|_| group.incident.state == IncidentState::Quiet)?;
    Some(Statement {
        what: "🔕 silenced",
        who: silenced_by(silence),
        url: String::new(),
        rest: format!(" until {}{}", times.minute(silence.until), said(&silence.comment)),
    })
}

/// `👀 Alice`, `👀 Alice +2`; empty where nobody took it.
pub(crate) fn taken_in_short(group: &Group<'_>) -> String {
    let incident = group.incident;
    let Some(first) = incident.taken.first().filter(|_| incident.state.is_open()) else { return String::new() };
    let others = match incident.taken.len() - 1 {
        0 => String::new(),
        others => format!(" +{others}"),
    };
    format!("👀 {}{others}", text::show(&clean_name(first), MAX_SHORT_NAME))
}

/// ` and 2 others` who took it as well; empty for none.
pub(crate) fn others(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " and 1 other".to_owned(),
        others if others + 1 < MAX_TAKEN => format!(" and {others} others"),
        // Further ones are not read.
        others => format!(" and {others} or more others"),
    }
}

/// The display name, else the user id. Both are whatever that person likes.
pub(crate) fn name(taken: &Taken) -> String {
    text::show(&clean_name(taken), MAX_NAME)
}

fn clean_name(taken: &Taken) -> String {
    let name = text::clean(&taken.name);
    if name.is_empty() { text::clean(&taken.user) } else { name }
}

/// May be empty.
pub(crate) fn silenced_by(silence: &KnownSilence) -> String {
    text::show(&text::clean(&silence.by), MAX_NAME)
}

/// What somebody wrote, on one line; may be empty.
pub(crate) fn words(said: &str) -> String {
    text::show(&text::clean(said), MAX_SAID)
}

fn said(raw: &str) -> String {
    match words(raw) {
        words if words.is_empty() => words,
        words => format!(": {words}"),
    }
}
