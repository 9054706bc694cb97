//! Whether a silence would reach beyond its incident.

use std::collections::BTreeSet;

use super::matchers::{Wanted, matchers};
use crate::{
    alertmanager::api::{ApiAlert, Matcher},
    model::{Incident, Labels},
};

/// Alerts outside that a refusal names.
const NAMED: usize = 3;

/// What one silence is to match, and how many alerts that are now.
#[derive(Debug)]
pub struct Fit {
    pub matchers: Vec<Matcher>,
    pub alerts: usize,
}

/// What belongs to an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub fingerprints: BTreeSet<String>,
    pub receiver: String,
    pub group_labels: Labels,
    /// Alerts that other open incidents hold.
    pub elsewhere: BTreeSet<String>,
}

/// What a silence would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    Fits {
        matchers: Vec<Matcher>,
        alerts: usize,
    },
    /// It would silence these too; the first few, and how many in all.
    Beyond {
        named: Vec<String>,
        count: usize,
    },
}

impl Extent {
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        Self {
            fingerprints: incident.alerts.iter().map(|alert| alert.fingerprint.clone()).collect(),
            receiver: incident.key.receiver.clone(),
            group_labels: incident.doc.group_labels.clone(),
            elsewhere: BTreeSet::new(),
        }
    }

    /// Also an alert of the group of which no notification has come yet.
    fn holds(&self, alert: &ApiAlert) -> bool {
        self.fingerprints.contains(&alert.fingerprint)
            || (!self.elsewhere.contains(&alert.fingerprint)
                && alert.receivers.contains(&self.receiver)
                && has(&alert.labels, &self.group_labels))
    }
}

/// `hits`: what Alertmanager has that matches the labels of `wanted`, for all receivers. The labels that the incident's
/// alerts have in common are added only if that is needed.
#[must_use]
pub fn judge(wanted: &Wanted, hits: &[ApiAlert], extent: &Extent) -> Cover {
    let narrow: Labels = wanted.labels.iter().chain(&wanted.common).map(|(n, v)| (n.clone(), v.clone())).collect();
    let mut outside = Vec::new();
    for labels in [&wanted.labels, &narrow] {
        let (inside, beyond): (Vec<&ApiAlert>, Vec<&ApiAlert>) =
            hits.iter().filter(|alert| has(&alert.labels, labels)).partition(|alert| extent.holds(alert));
        if beyond.is_empty() {
            return Cover::Fits { matchers: matchers(labels), alerts: inside.len() };
        }
        outside = beyond;
    }
    let named = outside.iter().take(NAMED).map(|alert| name(alert)).collect();
    Cover::Beyond { named, count: outside.len() }
}

/// Whether an alert has all these labels. An empty one stands for none.
fn has(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name).map_or("", String::as_str) == value)
}

/// `NodeDown instance="a" (receiver: pager)`.
fn name(alert: &ApiAlert) -> String {
    let of = |name: &str| alert.labels.get(name).map(String::as_str);
    let where_ = ["namespace", "pod", "instance", "job"].into_iter().find_map(|name| Some((name, of(name)?)));
    let place = where_.map(|(name, value)| format!(" {name}={value:?}")).unwrap_or_default();
    let receivers = alert.receivers.join(", ");
    format!("{}{place} (receiver: {receivers})", of("alertname").unwrap_or("an alert without a name"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::matchers::{
            of_incident,
            tests::{alert, incident, labels},
        },
        *,
    };
    use crate::model::AlertState;

    fn hit(fingerprint: &str, receiver: &str, pairs: &[(&str, &str)]) -> ApiAlert {
        ApiAlert {
            fingerprint: fingerprint.to_owned(),
            labels: labels(pairs),
            receivers: vec![receiver.to_owned()],
            ..ApiAlert::default()
        }
    }

    #[test]
    fn a_silence_stays_within_its_incident() {
        let ours = [("alertname", "A"), ("team", "x"), ("pod", "a")];
        let incident = incident(&[("alertname", "A")], vec![alert("1", AlertState::Firing, &ours)]);
        let wanted = of_incident(&incident).expect("one").remove(0);
        let extent = Extent { elsewhere: BTreeSet::from(["3".to_owned()]), ..Extent::of(&incident) };
        let fits = |labels: &Labels, alerts| Cover::Fits { matchers: matchers(labels), alerts };
        let (wide, narrow) = (labels(&[("alertname", "A")]), labels(&ours));
        let own = hit("1", "matrix", &ours);
        let judge = |others: Vec<ApiAlert>| {
            let hits: Vec<ApiAlert> = std::iter::once(own.clone()).chain(others).collect();
            judge(&wanted, &hits, &extent)
        };
        assert_eq!(judge(vec![]), fits(&wide, 1));
        let fresh = hit("2", "matrix", &[("alertname", "A"), ("team", "y")]);
        assert_eq!(judge(vec![fresh]), fits(&wide, 2), "of the group, and not notified yet");
        let others = hit("3", "matrix", &[("alertname", "A"), ("team", "y")]);
        assert_eq!(judge(vec![others]), fits(&narrow, 1), "another incident has it");
        let pager = hit("4", "pager", &[("alertname", "A"), ("team", "y")]);
        assert_eq!(judge(vec![pager]), fits(&narrow, 1), "another receiver has it");
        let same = hit("5", "pager", &[("alertname", "A"), ("team", "x"), ("pod", "a"), ("instance", "n1")]);
        let named = vec![r#"A pod="a" (receiver: pager)"#.to_owned()];
        assert_eq!(judge(vec![same]), Cover::Beyond { named, count: 1 });
    }

    #[test]
    fn an_alert_without_a_label_has_an_empty_one() {
        assert!(has(&labels(&[("a", "b")]), &labels(&[("c", "")])));
        assert!(!has(&labels(&[("a", "b")]), &labels(&[("c", "d")])));
    }
}
