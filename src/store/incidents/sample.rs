//! A few alerts that stand for all of an incident: what one line about it among others can say, in bounded memory.
//!
//! All alerts are looked at, one at a time. Kept are those that a person would be shown first, one of each severity,
//! those that began first and ended last, and those that differ from the others in what a line speaks of. So what these
//! few have in common, all have. The rest is counted.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use sqlx::AnyConnection;

use crate::{
    model::{Alert, AlertState, Incident, Labels, LeftOut},
    store::{StoreError, db::rows},
};

/// How many alerts are kept from the start of the order.
const FIRST: usize = 20;
/// How many severities of one state are distinguished.
const SEVERITIES: usize = 32;
/// How many alerts are kept for differing from the others.
const UNLIKE: usize = 48;
/// Bytes of one alert; of a larger one long texts are cut, and then what no line shows is left out.
const ALERT_BYTES: usize = 16 * 1024;
/// Bytes of all that is kept of an incident, one alert at least.
const BYTES: usize = 64 * 1024;
/// Where long texts of an oversized alert are cut, in bytes.
const TEXT: usize = 256;
/// The overhead of a label beyond its text, in bytes.
const ENTRY: usize = 96;
/// The annotations that a line may be made of.
const SHOWN_ANNOTATIONS: [&str; 4] = ["summary", "description", "message", "logs_url"];
const STATES: [AlertState; 4] = [AlertState::Firing, AlertState::Resolved, AlertState::Absent, AlertState::Gone];

/// Gives `incident` the alerts that stand for all of its own, and the number of the others.
pub(crate) async fn take(connection: &mut AnyConnection, incident: &mut Incident) -> Result<(), StoreError> {
    let mut sample = Sample::default();
    let mut alerts = rows::stream_alerts(connection, &incident.id);
    while let Some(alert) = alerts.try_next().await? {
        sample.look_at(alert);
    }
    drop(alerts);
    (incident.alerts, incident.left_out) = sample.finish();
    Ok(())
}

/// What makes an alert stand out among those of its state; the most important first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extreme {
    Began,
    Ended,
}

#[derive(Default)]
struct Sample {
    /// In the order in which they would be shown.
    first: Vec<Alert>,
    extremes: BTreeMap<(AlertState, Extreme), Alert>,
    severities: BTreeMap<(AlertState, String), Alert>,
    unlike: Vec<Alert>,
    /// Of all, and of each state.
    alike: BTreeMap<Option<AlertState>, Alike>,
    counts: LeftOut,
}

/// As the renderer puts them in order, as far as that does not depend on the config.
fn order(alert: &Alert) -> impl Ord + '_ {
    (alert.state, std::cmp::Reverse((alert.changed_at, alert.starts_at)), alert.fingerprint.as_str())
}

impl Sample {
    fn look_at(&mut self, mut alert: Alert) {
        *self.counts.of_mut(alert.state) += 1;
        shorten(&mut alert);
        self.keep_unlike(&alert);
        self.keep_extreme(&alert);
        let severity = alert.doc.labels.get("severity").cloned().unwrap_or_default();
        let known = self.severities.keys().filter(|(state, _)| *state == alert.state).count();
        if known < SEVERITIES {
            self.severities.entry((alert.state, severity)).or_insert_with(|| alert.clone());
        }
        let at = self.first.partition_point(|kept| order(kept) < order(&alert));
        if at < FIRST {
            self.first.insert(at, alert);
            self.first.truncate(FIRST);
        }
    }

    fn keep_unlike(&mut self, alert: &Alert) {
        let of_all = self.alike.entry(None).or_default().is_broken_by(said_by_labels(alert));
        let of_state = self.alike.entry(Some(alert.state)).or_default().is_broken_by(said_by(alert));
        if (of_all || of_state) && self.unlike.len() < UNLIKE {
            self.unlike.push(alert.clone());
        }
    }

    fn keep_extreme(&mut self, alert: &Alert) {
        let mut keep = |reason, better: &dyn Fn(&Alert) -> bool| {
            let kept = self.extremes.get(&(alert.state, reason));
            if kept.is_none_or(better) {
                self.extremes.insert((alert.state, reason), alert.clone());
            }
        };
        if alert.starts_at.0 > 0 {
            keep(Extreme::Began, &|kept| alert.starts_at < kept.starts_at);
        }
        if alert.ends_at.is_some() {
            keep(Extreme::Ended, &|kept| alert.ends_at > kept.ends_at);
        }
    }

    /// Sorted by fingerprint, with the number of those that are left out.
    fn finish(self) -> (Vec<Alert>, LeftOut) {
        let mut left_out = self.counts;
        let (mut kept, mut bytes) = (BTreeMap::new(), 0);
        let mut first = self.first.into_iter();
        // The most telling ones first, for when not all have room.
        let lead = first.next();
        let others = self.severities.into_values().chain(self.extremes.into_values()).chain(self.unlike).chain(first);
        for alert in lead.into_iter().chain(others) {
            let cost = cost(&alert);
            if kept.contains_key(&alert.fingerprint) || (bytes + cost > BYTES && !kept.is_empty()) {
                continue;
            }
            bytes += cost;
            kept.insert(alert.fingerprint.clone(), alert);
        }
        for state in STATES {
            let count = kept.values().filter(|alert| alert.state == state).count();
            *left_out.of_mut(state) -= count;
        }
        (kept.into_values().collect(), left_out)
    }
}

/// What the alerts seen so far have in common, and which names occur.
#[derive(Default)]
struct Alike {
    common: Option<BTreeMap<String, String>>,
    names: BTreeSet<String>,
}

impl Alike {
    /// Whether an alert is the first that differs from those before it in one of these.
    fn is_broken_by<'a>(&mut self, said: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let said: BTreeMap<&str, &str> = said.collect();
        let Some(common) = &mut self.common else {
            self.names.extend(said.keys().map(|name| (*name).to_owned()));
            self.common = Some(said.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
            return false;
        };
        let before = common.len();
        common.retain(|name, value| said.get(name.as_str()) == Some(&value.as_str()));
        let mut broken = common.len() < before;
        for name in said.keys() {
            if !self.names.contains(*name) && self.names.len() < UNLIKE * 4 {
                self.names.insert((*name).to_owned());
                broken = true;
            }
        }
        broken
    }
}

fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

fn said_by_labels(alert: &Alert) -> impl Iterator<Item = (&str, &str)> {
    pairs(&alert.doc.labels)
}

/// Names with a blank in front cannot be those of labels.
fn said_by(alert: &Alert) -> impl Iterator<Item = (&str, &str)> {
    let doc = &alert.doc;
    let urls = [
        (" generator", doc.generator_url.as_str()),
        (" dashboard", doc.dashboard_url.as_str()),
        (" panel", doc.panel_url.as_str()),
        (" silence", doc.silence_url.as_str()),
    ];
    pairs(&doc.annotations).chain(urls)
}

fn cost(alert: &Alert) -> usize {
    let of = |labels: &Labels| labels.iter().map(|(name, value)| name.len() + value.len() + ENTRY).sum::<usize>();
    let doc = &alert.doc;
    let urls = [&doc.generator_url, &doc.dashboard_url, &doc.panel_url, &doc.silence_url];
    of(&doc.labels) + of(&doc.annotations) + urls.map(String::len).iter().sum::<usize>() + 2 * ENTRY
}

fn shorten(alert: &mut Alert) {
    if cost(alert) <= ALERT_BYTES {
        return;
    }
    let doc = &mut alert.doc;
    for value in doc.labels.values_mut().chain(doc.annotations.values_mut()) {
        value.truncate(value.floor_char_boundary(TEXT));
    }
    for url in [&mut doc.generator_url, &mut doc.dashboard_url, &mut doc.panel_url, &mut doc.silence_url] {
        if url.len() > TEXT * 4 {
            url.clear();
        }
    }
    if cost(alert) > ALERT_BYTES {
        alert.doc.annotations.retain(|name, _| SHOWN_ANNOTATIONS.contains(&name.as_str()));
    }
    if cost(alert) > ALERT_BYTES {
        alert.doc.labels.retain(|name, _| name.len() <= TEXT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AlertDoc, Timestamp};

    fn alert(number: usize, state: AlertState) -> Alert {
        let label = |name: &str, value: String| (name.to_owned(), value);
        Alert {
            fingerprint: format!("{number:05}"),
            state,
            starts_at: Timestamp(1_000),
            ends_at: (state == AlertState::Resolved).then_some(Timestamp(2_000)),
            absent_since: None,
            changed_at: Timestamp(1_000),
            seen: None,
            doc: AlertDoc {
                labels: Labels::from([
                    label("alertname", "A".to_owned()),
                    label("instance", format!("n{number}")),
                    label("severity", "warning".to_owned()),
                ]),
                annotations: Labels::from([label("summary", "down".to_owned())]),
                ..AlertDoc::default()
            },
        }
    }

    fn sampled(alerts: impl IntoIterator<Item = Alert>) -> (Vec<Alert>, LeftOut) {
        let mut sample = Sample::default();
        for alert in alerts {
            sample.look_at(alert);
        }
        sample.finish()
    }

    #[test]
    fn few_are_all_kept() {
        let all: Vec<Alert> = (0..FIRST).map(|number| alert(number, AlertState::Firing)).collect();
        assert_eq!(sampled(all.clone()), (all, LeftOut::default()));
    }

    /// Whatever is far behind in the order and unlike the others is there, and everything is counted.
    #[test]
    fn what_is_unlike_is_kept_and_the_rest_is_counted() {
        let mut all: Vec<Alert> = (0..9_000).map(|number| alert(number, AlertState::Firing)).collect();
        all.extend((9_000..9_900).map(|number| alert(number, AlertState::Resolved)));
        all[7_000].doc.labels.insert("severity".to_owned(), "critical".to_owned());
        all[7_100].starts_at = Timestamp(5);
        all[7_200].doc.annotations.insert("summary".to_owned(), "on fire".to_owned());
        all[7_300].doc.labels.insert("cluster".to_owned(), "eu".to_owned());
        all[7_400].doc.generator_url = "https://prometheus.example/".to_owned();
        all[9_300].ends_at = Some(Timestamp(9_000));
        all[9_400].doc.labels.insert("alertname".to_owned(), "B".to_owned());
        let (kept, left_out) = sampled(all.clone());
        for number in [7_000, 7_100, 7_200, 7_300, 7_400, 9_300, 9_400] {
            assert!(kept.contains(&all[number]), "{number}");
        }
        assert!(kept.len() < 2 * FIRST, "{}", kept.len());
        let count = |state| kept.iter().filter(|alert| alert.state == state).count();
        assert_eq!(count(AlertState::Firing) + left_out.firing, 9_000);
        assert_eq!(count(AlertState::Resolved) + left_out.resolved, 900);
        assert_eq!(left_out.absent, 0);
        assert!(kept.is_sorted_by_key(|alert| &alert.fingerprint));
    }

    /// Alerts made to be kept: each unlike all others, of a severity of its own, and as large as they come.
    #[test]
    fn what_is_kept_has_a_bound_in_bytes() {
        let hostile = (0..500).map(|number| {
            let mut alert = alert(number, STATES[number % 3]);
            alert.doc.labels.insert("severity".to_owned(), format!("s{number}"));
            for label in 0..100 {
                alert.doc.labels.insert(format!("l{number}-{label}"), "x".repeat(2_000));
                alert.doc.annotations.insert(format!("a{number}-{label}"), "x".repeat(2_000));
            }
            alert
        });
        let (kept, left_out) = sampled(hostile);
        assert!(!kept.is_empty() && kept.iter().map(cost).sum::<usize>() <= BYTES.max(cost(&kept[0])));
        assert_eq!(kept.len() + left_out.firing + left_out.resolved + left_out.absent, 500);
    }
}
