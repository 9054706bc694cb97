//! Why Alertmanager holds back an alert, in words.

use super::{
    card::{alert::same, group::Group},
    text,
    time::TimeFormat,
};
use crate::model::{AlertState, Finding, Incident, KnownSilence, Seen};

const MAX_NAME: usize = 60;
const MAX_COMMENT: usize = 150;
const MAX_ALERTNAME: usize = 48;

/// How an alert is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldBack {
    Silenced,
    Inhibited,
    Muted,
}

impl HeldBack {
    pub(crate) fn of(seen: Option<&Seen>) -> Option<Self> {
        match seen?.finding {
            Finding::Silenced { .. } => Some(Self::Silenced),
            Finding::Inhibited { .. } => Some(Self::Inhibited),
            Finding::Muted { .. } => Some(Self::Muted),
            Finding::Active | Finding::Unknown => None,
        }
    }

    /// How all absent alerts of an incident are held back, if they agree.
    pub(crate) fn all(incident: &Incident) -> Option<Self> {
        same(absent(incident).map(Self::of)).flatten().filter(|_| incident.left_out.absent == 0)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Silenced => "silenced",
            Self::Inhibited => "inhibited",
            Self::Muted => "muted",
        }
    }

    /// The first word of a card.
    pub(crate) fn head(self) -> &'static str {
        match self {
            Self::Silenced => "SILENCED",
            Self::Inhibited => "INHIBITED",
            Self::Muted => "MUTED",
        }
    }
}

/// How the absent alerts of an incident are called where they are counted.
pub(crate) fn counted(incident: &Incident) -> &'static str {
    HeldBack::all(incident).map_or("no longer reported", HeldBack::word)
}

/// `silenced by Alice until 14:31: disk is replaced`, `inhibited by NodeDown`, `muted (time interval)`, each with
/// `not heard of since 12:40` where Alertmanager does not answer; empty where nothing is known.
pub(crate) fn words(times: &TimeFormat<'_>, seen: &Seen) -> String {
    let known = match &seen.finding {
        Finding::Active | Finding::Unknown => String::new(),
        // The one that ends last comes first.
        Finding::Silenced { silences } => silences.first().map_or("silenced".to_owned(), |silence| {
            let by = text::show(&text::clean(&silence.by), MAX_NAME);
            let by = if by.is_empty() { by } else { format!(" by {by}") };
            let comment = text::show(&text::clean(&silence.comment), MAX_COMMENT);
            let comment = if comment.is_empty() { comment } else { format!(": {comment}") };
            format!("silenced{by} until {}{comment}", times.minute(silence.until))
        }),
        Finding::Inhibited { by } => {
            let names: Vec<String> = by
                .iter()
                .map(|name| text::show(&text::clean(name), MAX_ALERTNAME))
                .filter(|name| !name.is_empty())
                .collect();
            if names.is_empty() { "inhibited".to_owned() } else { format!("inhibited by {}", names.join(", ")) }
        }
        Finding::Muted { .. } => "muted (time interval)".to_owned(),
    };
    match unheard(times, seen) {
        Some(unheard) if known.is_empty() => unheard,
        Some(unheard) => format!("{known} · {unheard}"),
        None => known,
    }
}

fn unheard(times: &TimeFormat<'_>, seen: &Seen) -> Option<String> {
    seen.unheard_since.map(|since| format!("not heard of since {}", times.minute(since)))
}

/// What is known of all absent alerts of an incident, if it is the same; empty if it is not, or nothing.
pub(crate) fn shared_words(incident: &Incident, times: &TimeFormat<'_>) -> String {
    let shared = same(absent(incident)).flatten().filter(|_| incident.left_out.absent == 0);
    shared.map(|seen| words(times, seen)).unwrap_or_default()
}

/// What stands behind the start of an incident whose alerts are all absent. The silence that they share has a line to
/// itself.
pub(crate) fn beside_start(incident: &Incident, times: &TimeFormat<'_>) -> String {
    let shared = same(absent(incident)).flatten().filter(|_| incident.left_out.absent == 0);
    match (HeldBack::all(incident), shared) {
        (Some(HeldBack::Silenced), Some(seen)) => {
            unheard(times, seen).map(|unheard| format!(", {unheard}")).unwrap_or_default()
        }
        (Some(_), Some(seen)) => format!(", {}", words(times, seen)),
        (Some(_), None) => String::new(),
        (None, Some(seen)) if seen.unheard_since.is_some() => format!(", perhaps silenced, {}", words(times, seen)),
        (None, _) => ", perhaps silenced".to_owned(),
    }
}

/// The silence that all alerts share which matter now; the one of each that ends last.
pub(crate) fn shared_silence<'a>(group: &Group<'a>) -> Option<&'a KnownSilence> {
    if group.focus != AlertState::Absent || group.incident.left_out.absent > 0 {
        return None;
    }
    let of = |finding: &'a Finding| match finding {
        Finding::Silenced { silences } => silences.first(),
        _ => None,
    };
    let alerts = group.incident.alerts.iter().filter(|alert| alert.state == AlertState::Absent);
    let mut silences = alerts.map(|alert| alert.seen.as_ref().and_then(|seen| of(&seen.finding)));
    let first = silences.next()??;
    silences.all(|other| other.is_some_and(|other| other.id == first.id)).then_some(first)
}

fn absent(incident: &Incident) -> impl Iterator<Item = Option<&Seen>> {
    let absent = incident.alerts.iter().filter(|alert| alert.state == AlertState::Absent);
    absent.map(|alert| alert.seen.as_ref())
}
