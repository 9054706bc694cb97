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
/// With a name in it as long as the config takes, the first line still fits a push notification.
const MAX_WHO: usize = 42;
const MAX_NAME: usize = 24;

/// The annotations of the alert that a missing heartbeat is. `labels` are the values by which switches differ, `silent` is
/// since the last beat, `resolved`: Alertmanager has said that the alert is over.
#[must_use]
pub fn annotations<'a>(name: &str, labels: impl Iterator<Item = &'a str>, silent: Duration, resolved: bool) -> Labels {
    let (who, silent) = (who(name, labels), time::words(silent));
    let (means, help) = if resolved {
        (
            "Alertmanager says that this alert has ended, which it does by itself only if Prometheus stops sending it: \
             Prometheus is down, does not evaluate its rules, or cannot reach Alertmanager.",
            "Check whether Prometheus runs. Until the heartbeat is back, nothing that it would find comes here.",
        )
    } else {
        (
            "Nothing was heard of this alert, which always fires: Alertmanager is down, cannot reach this receiver, or has \
             the alert silenced.",
            "Check whether Alertmanager and Prometheus run. Until the heartbeat is back, quiet in this room proves nothing.",
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

/// What the card says once beats are back, in place of what it meant that they were not.
#[must_use]
pub fn is_back() -> Labels {
    described("Beats come again. What fired and ended in between may not have come here: look at Alertmanager.")
}

/// What the card says when nobody waits for beats any more.
#[must_use]
pub fn is_unwatched() -> Labels {
    described(
        "The config does not name it any more, or it was disarmed by command. The next beat arms what the config names.",
    )
}

fn described(text: &str) -> Labels {
    [("description".to_owned(), text.to_owned())].into()
}

/// `prometheus (the-cluster)`.
#[must_use]
pub fn who<'a>(name: &str, labels: impl Iterator<Item = &'a str>) -> String {
    let labels: Vec<String> = labels.map(text::clean).filter(|value| !value.is_empty()).collect();
    if labels.is_empty() {
        return text::show(&text::clean(name), MAX_WHO);
    }
    let name = text::show(&text::clean(name), MAX_NAME);
    let left = MAX_WHO.saturating_sub(name.chars().count() + 3);
    format!("{name} ({})", text::show(&labels.join(", "), left))
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

/// `HeartbeatMissing prometheus (the-cluster)`: its alertname alone would be that of all of them.
pub(super) fn title(group: &Group<'_>) -> Option<String> {
    let alert = group.incident.alerts.first().filter(|_| group.incident.key.is_heartbeat())?;
    let alertname = alert.doc.labels.get("alertname").map(|name| text::clean(name))?;
    let who = alert.doc.annotations.get(WHO).map(|who| text::clean(who))?;
    Some(format!("{alertname} {who}"))
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
        assert!(who(&long, std::iter::once(long.as_str())).chars().count() <= MAX_WHO);
    }
}
