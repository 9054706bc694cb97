//! Series: which of them are shown, and what they are called.

use std::{cmp::Ordering, collections::BTreeSet};

use super::comparison::{Compared, Threshold};
use crate::{model::Labels, text::one_line};

/// Lines in one graph.
pub(super) const MAX_SHOWN: usize = 8;
/// Longer names are cut before they are measured, in characters.
const MAX_NAME: usize = 80;
const NAME: &str = "__name__";

/// A value at a time in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) at: f64,
    pub(super) value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Labels,
    /// In order, finite, one at a time; not empty when shown.
    pub(super) points: Vec<Point>,
}

impl Series {
    /// Puts points in order. Of two at the same time the later one in the list counts.
    pub(super) fn new(labels: Labels, mut points: Vec<Point>) -> Self {
        points.retain(|point| point.at.is_finite() && point.value.is_finite());
        points.sort_by(|a, b| a.at.total_cmp(&b.at));
        points.dedup_by(|later, kept| {
            let same = later.at.total_cmp(&kept.at).is_eq();
            if same {
                *kept = *later;
            }
            same
        });
        Self { labels, points }
    }

    pub(super) fn last(&self) -> Option<Point> {
        self.points.last().copied()
    }

    /// How far it went towards where the alert fires.
    fn extreme(&self, threshold: Option<Threshold>) -> f64 {
        let values = self.points.iter().map(|point| point.value);
        match threshold.map(|line| (line.compared, line.value)) {
            Some((Compared::Below | Compared::AtMost, _)) => values.map(|value| -value).fold(f64::MIN, f64::max),
            Some((Compared::Equal, line)) => values.map(|value| -(value - line).abs()).fold(f64::MIN, f64::max),
            Some((Compared::NotEqual, line)) => values.map(|value| (value - line).abs()).fold(f64::MIN, f64::max),
            None | Some((Compared::Above | Compared::AtLeast, _)) => values.fold(f64::MIN, f64::max),
        }
    }

    /// The first alert that has all its labels, or else one that contradicts none of them. Relabelling, `on (…)` and
    /// Thanos add and drop labels, so that the second is likely.
    fn alert(&self, firing: &[Labels]) -> Option<(Match, usize)> {
        let own = || self.labels.iter().filter(|(name, _)| *name != NAME);
        let all = |alert: &Labels| own().all(|(name, value)| alert.get(name) == Some(value));
        if let Some(index) = firing.iter().position(all) {
            return Some((Match::Fires, index));
        }
        let agrees = |alert: &Labels| {
            let mut common = own().filter_map(|(name, value)| Some(alert.get(name)? == value)).peekable();
            common.peek().is_some() && common.all(|same| same)
        };
        firing.iter().position(agrees).map(|index| (Match::Agrees, index))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    Fires,
    Agrees,
    Other,
}

/// The series that are shown, in their order, and how many are not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chosen {
    pub(super) series: Vec<Shown>,
    pub(super) others: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) series: Series,
    /// Cleaned; empty where nothing tells it from others.
    pub(super) name: String,
    /// Whether it is the series of an alert that fires.
    pub(super) fires: bool,
}

/// Chooses at most [`MAX_SHOWN`]: those of firing alerts in their order, then the most extreme.
pub(super) fn choose(all: impl Iterator<Item = Series>, firing: &[Labels], threshold: Option<Threshold>) -> Chosen {
    let mut kept: Vec<((Match, usize), f64, Series)> = Vec::with_capacity(MAX_SHOWN + 1);
    let mut count = 0;
    for series in all {
        count += 1;
        let alert = series.alert(firing).unwrap_or((Match::Other, 0));
        let extreme = series.extreme(threshold);
        let at = kept.partition_point(|(other, most, _)| {
            (*other).cmp(&alert).then(extreme.total_cmp(most)) != Ordering::Greater
        });
        if at < MAX_SHOWN {
            kept.insert(at, (alert, extreme, series));
            kept.truncate(MAX_SHOWN);
        }
    }
    let names = names(&kept.iter().map(|(_, _, series)| &series.labels).collect::<Vec<_>>());
    let others = count - kept.len();
    let shown = kept.into_iter().zip(names).map(|(((matched, _), _, series), name)| Shown {
        series,
        name,
        fires: matched == Match::Fires,
    });
    Chosen { series: shown.collect(), others }
}

/// The shortest that tells them apart: the values of one label if it can, else of several.
fn names(all: &[&Labels]) -> Vec<String> {
    if all.len() < 2 {
        return all.iter().map(|labels| alone(labels)).collect();
    }
    let keys: BTreeSet<&String> = all.iter().flat_map(|labels| labels.keys()).collect();
    let value = |labels: &Labels, key: &str| labels.get(key).cloned().unwrap_or_default();
    let mut differing: Vec<&String> =
        keys.into_iter().filter(|key| all.iter().any(|l| value(l, key) != value(all[0], key))).collect();
    let length = |key: &str| all.iter().map(|labels| value(labels, key).chars().count()).sum::<usize>();
    let kinds = |keys: &[&String]| {
        all.iter()
            .map(|labels| keys.iter().map(|key| value(labels, key)).collect::<Vec<_>>())
            .collect::<BTreeSet<_>>()
            .len()
    };
    differing.sort_by_key(|key| (place(key), length(key)));
    let mut used: Vec<&String> = Vec::new();
    while kinds(&used) < kinds(&differing) {
        // That which tells most of them apart; of equals the first.
        let apart = |key: &&String| kinds(&[used.as_slice(), &[*key]].concat());
        let Some(best) = differing.iter().copied().rev().max_by_key(apart) else { break };
        used.push(best);
    }
    let terse = |key: &&String| all.iter().all(|labels| says_little(&value(labels, key)));
    let parts: Vec<(&String, bool)> = used.iter().map(|key| (*key, terse(key))).collect();
    let name = |labels: &Labels| {
        let words: Vec<String> = parts.iter().map(|(key, terse)| part(key, &value(labels, key), *terse)).collect();
        one_line(&words.join(" "), MAX_NAME)
    };
    all.iter().map(|labels| name(labels)).collect()
}

/// The value, with its label's name if that is needed.
fn part(key: &str, value: &str, terse: bool) -> String {
    match (key, value) {
        (_, "") => format!("no {key}"),
        (NAME, value) => value.to_owned(),
        (key, value) if terse => format!("{key}={value}"),
        (_, value) => value.to_owned(),
    }
}

/// Whether a value says too little without its label.
fn says_little(value: &str) -> bool {
    value.chars().count() < 3 || value.parse::<f64>().is_ok() || matches!(value, "true" | "false")
}

/// Labels that say where something is; the most telling first.
const TELLING: [&str; 11] = [
    "pod",
    "deployment",
    "statefulset",
    "daemonset",
    "job_name",
    "persistentvolumeclaim",
    "mountpoint",
    "device",
    "instance",
    "node",
    "service",
];
const GENERAL: [&str; 5] = [NAME, "job", "namespace", "cluster", "severity"];

/// In which order labels are used for names.
fn place(key: &str) -> usize {
    let telling = TELLING.iter().position(|known| *known == key);
    let general = || GENERAL.iter().rev().position(|known| *known == key).map(|at| TELLING.len() + 1 + at);
    telling.or_else(general).unwrap_or(TELLING.len())
}

/// What a single series is called: the value of the label that says most. The metric's name stands in the title.
fn alone(labels: &Labels) -> String {
    let named = labels.iter().filter(|(key, value)| *key != NAME && !value.is_empty());
    let most = named.min_by_key(|(key, _)| place(key));
    most.map(|(key, value)| one_line(&part(key, value, says_little(value)), MAX_NAME)).unwrap_or_default()
}
