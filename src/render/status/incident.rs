//! An incident in a few words, from what is known of it without all of its alerts.

use super::super::{Style, places, text};
use crate::{
    model::{AlertState, Incident, IncidentState},
    render::card::{group::Group, headline},
};

const MAX_PLACE: usize = 120;
const MAX_WHAT: usize = 160;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub emoji: String,
    /// The severity, or how it stands; what the emoji says.
    pub word: String,
    pub name: String,
    /// May be empty.
    pub place: String,
    /// May be empty.
    pub what: String,
    /// `3 firing, 1 resolved`.
    pub counts: String,
}

/// `counts`: the incident's alerts by state, of which it may carry a few only. What only all of them together could tell
/// is not told then. `has_more`: there are more than were counted.
#[must_use]
pub fn tell(style: &Style, incident: &Incident, counts: &[(AlertState, i64)], has_more: bool) -> Told {
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
    let mut labels = crate::render::card::group::clean_labels(&incident.doc.group_labels);
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
    Told {
        emoji,
        word,
        name,
        place: text::cut(&place, MAX_PLACE),
        what: text::show(what, MAX_WHAT),
        counts: tell_counts(incident, counts, more),
    }
}

fn lead(style: &Style, incident: &Incident) -> (String, String) {
    match incident.state {
        IncidentState::Quiet => ("🔕".to_owned(), "no longer reported".to_owned()),
        IncidentState::Unlisted => ("⚪".to_owned(), "listed alerts are resolved".to_owned()),
        _ => {
            let known = usize::try_from(incident.severity).ok().and_then(|rank| style.display.severities.get(rank));
            let word = known.map_or("firing".to_owned(), |severity| super::words(&severity.word));
            (style.emoji(incident.severity), word)
        }
    }
}

fn tell_counts(incident: &Incident, counts: &[(AlertState, i64)], more: &str) -> String {
    let order = [
        (AlertState::Firing, "firing"),
        (AlertState::Absent, "no longer reported"),
        (AlertState::Resolved, "resolved"),
    ];
    let told = order.iter().filter_map(|(state, word)| {
        let count = counts.iter().find(|(known, _)| known == state)?.1;
        Some(format!("{count}{more} {word}"))
    });
    let mut told: Vec<String> = told.collect();
    if incident.doc.truncated > 0 {
        told.push(format!("{} not listed", incident.doc.truncated));
    }
    told.join(", ")
}
