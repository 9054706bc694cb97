//! An alert with its labels cleaned, and what several of them share.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    model::{Alert, Labels},
    render::{style::Style, text},
};

/// The annotations that say what happened; the first one with text counts.
pub(crate) const SUMMARIES: [&str; 3] = ["summary", "description", "message"];

/// An alert with its labels cleaned for display.
pub(crate) struct CleanAlert<'a> {
    pub(crate) alert: &'a Alert,
    pub(crate) labels: Labels,
    /// Index into the severities; one past the end for an unknown severity.
    pub(crate) rank: u32,
}

impl<'a> CleanAlert<'a> {
    pub(crate) fn new(style: &Style, alert: &'a Alert) -> Self {
        let labels = clean_labels(&alert.doc.labels);
        let rank = style.display.rank(labels.get("severity").map(String::as_str));
        Self { alert, labels, rank }
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The lines of an annotation; empty where it says nothing.
    pub(crate) fn annotation(&self, name: &str) -> Vec<String> {
        self.alert.doc.annotations.get(name).map(|raw| text::lines(raw)).unwrap_or_default()
    }

    /// What this alert says happened.
    pub(crate) fn what(&self) -> Vec<String> {
        SUMMARIES.iter().map(|name| self.annotation(name)).find(|lines| !lines.is_empty()).unwrap_or_default()
    }
}

pub(crate) fn clean_labels(raw: &Labels) -> Labels {
    let mut labels = Labels::new();
    for (name, value) in raw {
        let (name, value) = (text::clean(name), text::clean(value));
        if !name.is_empty() && !value.is_empty() {
            labels.insert(name, value);
        }
    }
    labels
}

/// The value that all items share, if they share one.
pub(crate) fn same<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

pub(crate) fn common_labels<'l>(mut all: impl Iterator<Item = &'l Labels>) -> Labels {
    let mut common: BTreeMap<String, String> = all.next().cloned().unwrap_or_default();
    for labels in all {
        common.retain(|name, value| labels.get(name) == Some(value));
    }
    common
}

/// Every label that at least two alerts have different values of, or that some lack.
pub(crate) fn differing(alerts: &[CleanAlert<'_>]) -> Vec<String> {
    let mut known: BTreeMap<&str, (&str, usize, bool)> = BTreeMap::new();
    for seen in alerts {
        for (name, value) in &seen.labels {
            match known.entry(name) {
                Entry::Vacant(free) => {
                    free.insert((value, 1, false));
                }
                Entry::Occupied(mut taken) => {
                    let (first, count, differs) = taken.get_mut();
                    *count += 1;
                    *differs |= *first != value;
                }
            }
        }
    }
    let differs = |(_, (_, count, differs)): &(&str, (&str, usize, bool))| *differs || *count < alerts.len();
    known.into_iter().filter(differs).map(|(name, _)| name.to_owned()).collect()
}
