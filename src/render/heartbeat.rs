//! What is said of a heartbeat that is missing.

use std::time::Duration;

use super::{
    card::group::Group,
    text,
    time::{self, TimeFormat},
};
use crate::model::{IncidentState, Labels, Timestamp};

/// Annotations that cards do not show as such: which heartbeat it is, and for how long it had been silent.
const WHO: &str = "__heartbeat";
const SILENT: &str = "__silent";
const MAX_NAME: usize = 32;
const MAX_LABELS: usize = 36;

/// The annotations of the alert that a missing heartbeat is. `labels` are the values by which switches differ, `silent` is
/// since the last beat, `resolved`: Alertmanager has said that the alert is over.
#[must_use]
pub fn annotations<'a>(name: &str, labels: impl Iterator<Item = &'a str>, silent: Duration, resolved: bool) -> Labels {
    let (who, silent) = (who(name, labels), time::words(silent));
    let (means, help) = if resolved {
        (
            "Alertmanager says that this alert has ended, which it does by itself only if Prometheus stops sending it: \
             Prometheus is down, does not evaluate its rules, or cannot reach Alertmanager.",
            "Look whether Prometheus runs. Until the heartbeat is back, nothing that it would find comes here.",
        )
    } else {
        (
            "Nothing was heard of this alert, which always fires: Alertmanager is down, cannot reach this receiver, or has \
             the alert silenced.",
            "Look whether Alertmanager and Prometheus run. Until the heartbeat is back, quiet in this room proves nothing.",
        )
    };
    [
        (WHO, who.clone()),
        (SILENT, silent.clone()),
        ("summary", format!("No heartbeat from {who} {}", so(&silent))),
        ("description", format!("{means}\n{help}")),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// `prometheus (the-cluster)`.
#[must_use]
pub fn who<'a>(name: &str, labels: impl Iterator<Item = &'a str>) -> String {
    let name = text::show(&text::clean(name), MAX_NAME);
    let labels: Vec<String> = labels.map(text::clean).filter(|value| !value.is_empty()).collect();
    if labels.is_empty() { name } else { format!("{name} ({})", text::show(&labels.join(", "), MAX_LABELS)) }
}

fn so(silent: &str) -> String {
    format!("for {silent}: alerts may not reach this room")
}

/// Emoji, name and the rest of a card's first line; `None`: nothing but the usual is to be said.
pub(super) fn headline(
    group: &Group<'_>,
    times: &TimeFormat<'_>,
    now: Timestamp,
) -> Option<(&'static str, String, String)> {
    if !group.incident.key.is_heartbeat() {
        return None;
    }
    let said = |name: &str| group.incident.alerts.first()?.doc.annotations.get(name).map(|said| text::clean(said));
    let (who, silent) = (said(WHO)?, said(SILENT)?);
    Some(match group.incident.state {
        IncidentState::Firing => ("💔", format!("No heartbeat from {who}"), so(&silent)),
        IncidentState::Resolved => {
            let (from, to) = group.span(now);
            ("🟢", format!("Heartbeat from {who} is back"), format!("after {}", time::words(to.since(from))))
        }
        IncidentState::Gone => {
            let at = group.incident.closed_at.unwrap_or(group.incident.last_notified_at);
            ("⚪", format!("Heartbeat from {who} is not watched any more"), format!("since {}", times.with_zone(at)))
        }
        IncidentState::Quiet | IncidentState::Unlisted | IncidentState::Stale => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_named_by_its_labels_however_hostile() {
        for (labels, expected) in [
            (vec![], "prometheus"),
            (vec!["", ""], "prometheus"),
            (vec!["the-cluster"], "prometheus (the-cluster)"),
            (vec!["a", "", "b"], "prometheus (a, b)"),
            (vec!["a\nb\u{202e}"], "prometheus (a b)"),
        ] {
            assert_eq!(who("prometheus", labels.iter().copied()), expected, "{labels:?}");
        }
        let long = "x".repeat(16_000);
        assert!(who(&long, std::iter::once(long.as_str())).chars().count() < 80);
    }
}
