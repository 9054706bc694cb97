//! A one-line summary of an incident, also where only some of its alerts are known.

use super::{
    time::{Moment, Times},
    words::words,
};
use crate::{
    model::{AlertState, Incident, IncidentState, KnownSilence},
    render::{
        card::{alert::clean_labels, group::Group, headline, statements},
        held_back, places,
        style::Style,
        text,
    },
};

const MAX_PLACE: usize = 120;
const MAX_WHAT: usize = 160;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentSummary {
    pub emoji: String,
    /// The severity or the state in words, as the emoji shows it.
    pub word: String,
    pub name: String,
    /// May be empty.
    pub place: String,
    /// May be empty.
    pub what: String,
    /// `3 firing, 1 resolved`.
    pub counts: String,
}

/// What somebody did about an incident: `👀 taken by Alice`, when, and what they said.
#[derive(Clone, Debug)]
pub struct StatementRow {
    /// What stands before the time.
    pub words: String,
    pub at: Moment,
    /// May be empty.
    pub said: String,
}

/// `counts` holds the number of alerts by state, of which `incident` may carry only a few; the summary then leaves out
/// what needs all of them. `has_more` says that there are more than were counted.
#[must_use]
pub fn summarize(style: &Style, incident: &Incident, counts: &[(AlertState, i64)], has_more: bool) -> IncidentSummary {
    let group = Group::new(style, incident);
    let total: i64 = counts.iter().map(|(_, count)| count).sum();
    let complete = i64::try_from(group.alerts.len()).is_ok_and(|known| known >= total) && !has_more;
    let more = if has_more { "+" } else { "" };
    let alertname = incident.doc.group_labels.get("alertname").map(|name| text::clean(name));
    let name = match alertname.filter(|name| !name.is_empty()) {
        Some(_) => headline::name(&group),
        None if complete => headline::name(&group),
        None => format!("{total}{more} alerts"),
    };
    let mut labels = clean_labels(&incident.doc.group_labels);
    labels.retain(|name, _| name != "alertname" && name != "severity");
    let mut place = places::all(&labels, &style.display.places);
    if complete
        && group.alerts.len() == 1
        && let Some(thing) = places::alone(&group.thing, &style.display.places)
    {
        place = thing.name;
    }
    let what = if complete { group.what.first().map(String::as_str).unwrap_or_default() } else { "" };
    let (emoji, word) = lead(style, incident);
    IncidentSummary {
        emoji,
        word,
        name,
        place: text::cut(&place, MAX_PLACE),
        what: text::show(what, MAX_WHAT),
        counts: tell_counts(incident, counts, more),
    }
}

/// Who takes care of an incident, and the silence that all of its alerts share.
#[must_use]
pub fn statements(incident: &Incident, silence: Option<&KnownSilence>, times: &Times) -> Vec<StatementRow> {
    let taken = incident.taken.first().map(|first| {
        let others = statements::others(incident.taken.len() - 1);
        StatementRow {
            words: format!("👀 taken by {}{others}", statements::name(first)),
            at: times.at(first.at),
            said: statements::words(&first.text),
        }
    });
    let silenced = silence.map(|silence| {
        let by = statements::silenced_by(silence);
        let by = if by.is_empty() { by } else { format!(" by {by}") };
        StatementRow {
            words: format!("🔕 silenced{by} until"),
            at: times.at_wall(silence.until),
            said: statements::words(&silence.comment),
        }
    });
    taken.into_iter().chain(silenced).collect()
}

fn lead(style: &Style, incident: &Incident) -> (String, String) {
    match incident.state {
        IncidentState::Quiet => ("🔕".to_owned(), held_back::counted(incident).to_owned()),
        IncidentState::Unlisted => ("⚪".to_owned(), "listed alerts are resolved".to_owned()),
        _ => {
            let known = style.severity(incident.severity);
            let word = known.map_or("firing".to_owned(), |severity| words(&severity.word));
            (style.emoji(incident.severity), word)
        }
    }
}

fn tell_counts(incident: &Incident, counts: &[(AlertState, i64)], more: &str) -> String {
    let order = [
        (AlertState::Firing, "firing"),
        (AlertState::Absent, "no longer reported"),
        (AlertState::Gone, "no longer in Alertmanager"),
        (AlertState::Resolved, "resolved"),
    ];
    let counts = order.iter().filter_map(|(state, word)| {
        let count = counts.iter().find(|(known, _)| known == state)?.1;
        Some(format!("{count}{more} {word}"))
    });
    let mut counts: Vec<String> = counts.collect();
    if incident.doc.truncated > 0 {
        counts.push(format!("{} not listed", incident.doc.truncated));
    }
    counts.join(", ")
}
