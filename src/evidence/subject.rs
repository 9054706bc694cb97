//! Which alert of an incident evidence is about.

use std::cmp::Reverse;

use crate::{
    config::Display,
    model::{Alert, AlertState, Incident, Labels},
};

/// Alerts whose series a graph shows first, at most.
const FIRING: usize = 64;

/// The alert with the fingerprint `only`, if one is meant; else of those that `fits` the most severe that fires, the oldest
/// of equals. Where none fires any more it is the one that changed last.
#[must_use]
pub fn choose<'i>(
    incident: &'i Incident,
    display: &Display,
    only: Option<&str>,
    fits: impl Fn(&Alert) -> bool,
) -> Option<&'i Alert> {
    if let Some(only) = only {
        return incident.alerts.iter().find(|alert| alert.fingerprint == only);
    }
    let firing = by_urgency(incident, display).into_iter().find(|alert| fits(alert));
    firing.or_else(|| {
        let over = incident.alerts.iter().filter(|alert| alert.state != AlertState::Firing && fits(alert));
        over.max_by_key(|alert| (alert.changed_at, Reverse(&alert.fingerprint)))
    })
}

/// The labels of the alerts that fire and of which `shares` is true, those of the worst first; of `subject` alone where
/// nothing fires.
#[must_use]
pub fn firing(incident: &Incident, display: &Display, subject: &Alert, shares: impl Fn(&Alert) -> bool) -> Vec<Labels> {
    let firing = by_urgency(incident, display).into_iter().filter(|alert| shares(alert));
    let labels: Vec<Labels> = firing.take(FIRING).map(|alert| alert.doc.labels.clone()).collect();
    if labels.is_empty() { vec![subject.doc.labels.clone()] } else { labels }
}

/// The alerts that fire, the most severe and then the oldest first.
fn by_urgency<'i>(incident: &'i Incident, display: &Display) -> Vec<&'i Alert> {
    let mut firing: Vec<&Alert> = incident.alerts.iter().filter(|alert| alert.state == AlertState::Firing).collect();
    let rank = |alert: &Alert| display.rank(alert.doc.labels.get("severity").map(String::as_str));
    firing.sort_by(|a, b| (rank(a), a.starts_at, &a.fingerprint).cmp(&(rank(b), b.starts_at, &b.fingerprint)));
    firing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::tests::{alert, display, incident},
        model::Timestamp,
    };

    fn at(alert: Alert, at: i64) -> Alert {
        Alert { starts_at: Timestamp(at), changed_at: Timestamp(at), ..alert }
    }

    #[test]
    fn the_most_severe_that_fires_then_the_oldest() {
        let alerts = vec![
            at(alert("late", "critical", AlertState::Firing), 30),
            at(alert("early", "critical", AlertState::Firing), 20),
            at(alert("first", "critical", AlertState::Resolved), 5),
            at(alert("warning", "warning", AlertState::Firing), 10),
            at(alert("last", "info", AlertState::Resolved), 40),
        ];
        let incident = incident(alerts);
        let named = |only: Option<&str>, fits: &[&str]| {
            let fits = |alert: &Alert| fits.is_empty() || fits.contains(&alert.fingerprint.as_str());
            choose(&incident, &display(), only, fits).map(|alert| alert.fingerprint.clone())
        };
        for (only, fits, expected) in [
            (None, &[][..], Some("early")),
            (None, &["late", "warning"], Some("late")),
            (None, &["warning", "first"], Some("warning")),
            (None, &["first", "last"], Some("last")),
            (None, &["none"], None),
            (Some("first"), &["none"], Some("first")),
            (Some("gone"), &[], None),
        ] {
            assert_eq!(named(only, fits).as_deref(), expected, "{only:?} {fits:?}");
        }
    }

    #[test]
    fn series_of_what_fires_come_in_the_same_order() {
        let alerts = vec![
            at(alert("b", "warning", AlertState::Firing), 1),
            at(alert("a", "critical", AlertState::Firing), 2),
            at(alert("c", "critical", AlertState::Resolved), 0),
        ];
        let incident = incident(alerts);
        let pods = |labels: Vec<Labels>| labels.iter().map(|labels| labels["pod"].clone()).collect::<Vec<_>>();
        let subject = &incident.alerts[2];
        assert_eq!(pods(firing(&incident, &display(), subject, |_| true)), ["a", "b"]);
        assert_eq!(pods(firing(&incident, &display(), subject, |alert| alert.fingerprint == "b")), ["b"]);
        assert_eq!(pods(firing(&incident, &display(), subject, |_| false)), ["c"]);
    }
}
