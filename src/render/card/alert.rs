//! An alert with its labels cleaned, and what several of them share.

use std::collections::BTreeMap;

use crate::{
    model::{Alert, Labels},
    render::{
        places::{self, exported_name},
        style::Style,
        text,
    },
};

/// Annotations in which an alert says what happened, in any case; the first one that says anything counts.
pub(crate) const SUMMARIES: [&str; 4] = ["summary", "title", "description", "message"];
/// Annotations that are links, or that the first line shows as a reason.
const NO_LINES: [&str; 6] = ["runbook", "dashboard", "panel", "logs", "grafana_state_reason", "error"];
/// Other annotations that a card shows, each on a line.
const MAX_OTHERS: usize = 5;
const MAX_OTHER_NAME: usize = 40;
const MAX_OTHER_VALUE: usize = 150;

/// An alert with its labels cleaned for display.
pub(crate) struct CleanAlert<'a> {
    pub(crate) alert: &'a Alert,
    pub(crate) labels: Labels,
    /// The labels of the thing that it is about, without the exporter's.
    pub(crate) thing: Labels,
    /// Index into the severities; one past the end for an unknown severity.
    pub(crate) rank: u32,
}

impl<'a> CleanAlert<'a> {
    pub(crate) fn new(style: &Style, alert: &'a Alert) -> Self {
        let labels = clean_labels(&alert.doc.labels);
        let rank = style.display.rank(labels.get("severity").map(String::as_str));
        let mut clean = Self { alert, labels, thing: Labels::new(), rank };
        clean.thing = places::labels_of_thing(&clean.labels, &clean.words());
        clean
    }

    /// All that this alert says in sentences.
    fn words(&self) -> Vec<String> {
        SUMMARIES.iter().flat_map(|name| self.annotation(name)).collect()
    }

    /// Whether a label is the exporter's and not the thing's.
    pub(crate) fn is_exporters(&self, name: &str) -> bool {
        match (self.labels.get(name), self.thing.get(name)) {
            (Some(own), Some(of_thing)) => own != of_thing || self.labels.contains_key(&exported_name(name)),
            (Some(_), None) => !name.starts_with("exported_"),
            (None, _) => false,
        }
    }

    /// The name under which a label of the thing stands among the alert's labels.
    pub(crate) fn raw_name(&self, name: &str) -> String {
        let exported = exported_name(name);
        if self.labels.contains_key(&exported) { exported } else { name.to_owned() }
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The lines of an annotation; empty where it says nothing.
    pub(crate) fn annotation(&self, name: &str) -> Vec<String> {
        self.said(name).into_iter().filter_map(Said::into_line).collect()
    }

    fn said(&self, name: &str) -> Vec<Said> {
        let lines = self.raw_annotation(name).map(|raw| text::lines(&unfolded(raw))).unwrap_or_default();
        lines.into_iter().map(Said::of).collect()
    }

    /// The text of an annotation, whatever the case of its name.
    fn raw_annotation(&self, name: &str) -> Option<&str> {
        let annotations = &self.alert.doc.annotations;
        let other_case =
            || annotations.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, text)| text);
        annotations.get(name).or_else(other_case).map(String::as_str)
    }

    /// `impact: No mail leaves`: what annotations of other names say, by name.
    pub(crate) fn others(&self) -> BTreeMap<String, String> {
        let is_line = |name: &str, value: &str| {
            let name = name.to_lowercase();
            !SUMMARIES.contains(&name.as_str())
                && !NO_LINES.contains(&name.as_str())
                && !name.ends_with("url")
                && !name.starts_with("__")
                && !is_link(value)
        };
        let others = self.alert.doc.annotations.iter().filter(|(name, value)| is_line(name, value));
        let lines = others.filter_map(|(name, value)| {
            let (name, line) = (text::clean(name), text::lines(value).into_iter().next()?);
            let shown = format!("{}: {}", text::show(&name, MAX_OTHER_NAME), text::show(&line, MAX_OTHER_VALUE));
            (!name.is_empty()).then_some((name, shown))
        });
        lines.take(MAX_OTHERS).collect()
    }

    /// What is measured, where an annotation or a line of the description says it.
    pub(crate) fn value(&self) -> Option<String> {
        let annotated = self.raw_annotation("value").map(text::clean).filter(|value| !value.is_empty());
        let in_line = || {
            let lines = self.said("description").into_iter();
            lines.into_iter().find_map(|said| if let Said::Value(value) = said { Some(value) } else { None })
        };
        let measured = || Some(text::clean(&self.alert.doc.values)).filter(|values| !values.is_empty());
        annotated.or_else(in_line).or_else(measured)
    }

    /// Why the state is what it is, where Grafana says more than that something fires or is resolved.
    pub(crate) fn reason(&self) -> Option<String> {
        let by_name = match self.label("alertname") {
            Some("DatasourceNoData") => Some("NoData"),
            Some("DatasourceError") => Some("Error"),
            _ => None,
        };
        let said = self.raw_annotation("grafana_state_reason").map(text::clean).filter(|said| !said.is_empty());
        let reason = by_name.map(ToOwned::to_owned).or(said)?;
        Some(match reason.as_str() {
            "NoData" => "no data".to_owned(),
            "Error" => "query failed".to_owned(),
            "MissingSeries" => "the series is gone".to_owned(),
            "Paused" => "the rule is paused".to_owned(),
            "RuleDeleted" => "the rule is deleted".to_owned(),
            "Updated" => "the rule was changed".to_owned(),
            other => text::show(other, MAX_OTHER_NAME),
        })
    }

    /// The error that Grafana gives for a query that failed.
    pub(crate) fn query_error(&self) -> Vec<String> {
        if self.label("alertname") == Some("DatasourceError") { self.annotation("error") } else { Vec::new() }
    }

    /// What this alert says happened.
    pub(crate) fn what(&self) -> Vec<String> {
        let error = self.query_error();
        if !error.is_empty() {
            return error;
        }
        SUMMARIES.iter().map(|name| self.annotation(name)).find(|lines| !lines.is_empty()).unwrap_or_default()
    }
}

/// Whether a text is meant as a link, be it one that must not be shown.
fn is_link(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    ["http://", "https://", "javascript:", "data:", "mailto:"].iter().any(|scheme| text.starts_with(scheme))
        || (!text.contains(char::is_whitespace) && text.contains("://"))
}

/// A line of an annotation. Popular rule collections end their descriptions with the value and with all labels.
enum Said {
    Line(String),
    Value(String),
    /// Chips show them.
    Labels,
}

impl Said {
    fn of(line: String) -> Self {
        let after = |word: &str| Some(line.strip_prefix(word)?.trim_start().strip_prefix(['=', ':'])?.trim());
        match (after("VALUE"), after("LABELS")) {
            (Some(value), _) => Self::Value(value.to_owned()),
            (None, Some(_)) => Self::Labels,
            (None, None) => Self::Line(line),
        }
    }

    fn into_line(self) -> Option<String> {
        match self {
            Self::Line(line) => Some(line),
            Self::Value(value) => Some(format!("value {value}")),
            Self::Labels => None,
        }
    }
}

/// With the line breaks before value and labels that YAML's folded and single-quoted texts lose.
fn unfolded(raw: &str) -> String {
    let broken = raw.replace("\\n", "\n");
    ["VALUE =", "LABELS ="].iter().fold(broken, |text, word| text.replace(&format!(" {word}"), &format!("\n{word}")))
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
