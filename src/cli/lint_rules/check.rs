//! Checks the rules of one file, and corrects what can be corrected.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    edit::Edits,
    faults::{Code, RuleFault},
    link::{inspect, lost_label, nearest, proposal},
    placeholders::{Unclosed, placeholders},
    promql::kept_labels,
    rules::{Rule, Rules},
    settings::Settings,
};
use crate::cli::support::yaml::{NodeRef, Position, Tree, YamlError};

/// The result for one file.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) faults: Vec<RuleFault>,
    /// How many faults each ignored code has left out.
    pub(super) ignored: BTreeMap<&'static str, usize>,
    pub(super) alerting: usize,
    /// Whether the file has no rules at all.
    pub(super) empty: bool,
    /// The corrected file, if that was requested and anything was corrected.
    pub(super) text: Option<String>,
}

/// # Errors
/// When `source` is not YAML, or exceeds a bound.
pub(super) fn check(source: &str, settings: &Settings, fix: bool) -> Result<Checked, YamlError> {
    let tree = Tree::parse(source)?;
    let rules = Rules::of(&tree)?;
    let mut file = File { source, tree: &tree, settings, edits: fix.then(Edits::default), faults: Vec::new() };
    for &(group, place) in &rules.odd {
        file.add(group, "", place, Code::NoRule, "neither an alert nor a record".to_owned());
    }
    for rule in &rules.alerting {
        file.check(rule);
        if tree.exhausted() {
            return Err(YamlError::at(rule.place, "too many values by aliases"));
        }
    }
    let File { edits, mut faults, .. } = file;
    let edits = edits.filter(|edits| !edits.is_empty());
    let text = edits.and_then(|edits| {
        let text = edits.apply(source);
        if text.is_none() {
            for fault in faults.iter_mut().filter(|fault| fault.fixed) {
                (fault.fixed, fault.unfixed) = (false, Some("the corrected file would read differently".to_owned()));
            }
        }
        text
    });
    let mut ignored = BTreeMap::new();
    faults.retain(|fault| {
        let is_on = !settings.ignores(fault.code);
        if !is_on {
            *ignored.entry(fault.code.as_str()).or_default() += 1;
        }
        is_on
    });
    faults.sort_by_key(|fault| (fault.place.line, fault.place.column));
    Ok(Checked { faults, ignored, alerting: rules.alerting.len(), empty: rules.is_empty(), text })
}

struct File<'a> {
    source: &'a str,
    tree: &'a Tree<'a>,
    settings: &'a Settings,
    /// `Some` if faults are to be corrected.
    edits: Option<Edits>,
    faults: Vec<RuleFault>,
}

impl File<'_> {
    fn add(&mut self, group: &str, rule: &str, place: Position, code: Code, message: String) -> &mut RuleFault {
        self.faults.push(RuleFault {
            place,
            group: group.to_owned(),
            rule: rule.to_owned(),
            code,
            message,
            corrected: None,
            fixed: false,
            unfixed: None,
        });
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    fn check(&mut self, rule: &Rule<'_>) {
        let kept = rule.expr.and_then(kept_labels);
        match rule.logs_url.and_then(|found| Some((found, self.tree.text(found)?))) {
            Some((found, value)) => self.check_link(rule, found, value, kept.as_deref()),
            None => self.propose(rule, kept.as_deref()),
        }
        self.check_words(rule, kept.as_deref());
        if !rule.has_words {
            let message = "neither summary nor description".to_owned();
            self.add(rule.group, rule.name, rule.place, Code::NoSummary, message);
        }
        self.check_severity(rule);
    }

    fn check_link(&mut self, rule: &Rule<'_>, found: NodeRef, value: &str, kept: Option<&[String]>) {
        let inspected = inspect(value, self.settings, kept);
        let entangled = inspected.entangled.join(", ");
        let mut corrected = None;
        if let Some(value) = inspected.corrected.filter(|_| entangled.is_empty()) {
            corrected = Some((value.clone(), self.replace(found, &value)));
        }
        let place = self.tree.place(found);
        for (code, message, corrects) in inspected.faults {
            let fault = self.add(rule.group, rule.name, place, code, message);
            if let Some((value, outcome)) = corrected.as_ref().filter(|_| corrects) {
                fault.set_correction(value, *outcome);
            } else if corrects {
                fault.unfixed = Some(format!("that would correct what is switched off as well: {entangled}"));
            }
        }
    }

    /// Checks the placeholders of all other annotations. A label that is only unknown is no fault there: a reader sees an
    /// empty value and loses no link.
    fn check_words(&mut self, rule: &Rule<'_>, kept: Option<&[String]>) {
        let pairs = rule.annotations.and_then(|map| self.tree.pairs(map)).unwrap_or_default();
        for (key, found) in pairs {
            let (Some(name), Some(value)) = (self.tree.text(key), self.tree.text(found)) else { continue };
            if name == "logs_url" {
                continue;
            }
            let place = self.tree.place(found);
            match placeholders(value) {
                Err(Unclosed(at)) => {
                    let begin: String = value[at..].chars().take(20).collect();
                    let message = format!("{name} has a placeholder that does not end: {begin}");
                    self.add(rule.group, rule.name, place, Code::Template, message);
                }
                Ok(placeholders) => {
                    let labels = placeholders.iter().flat_map(|placeholder| &placeholder.labels);
                    let lost: BTreeSet<String> = labels.filter_map(|label| lost_label(name, label, kept?)).collect();
                    for message in lost {
                        self.add(rule.group, rule.name, place, Code::LostLabel, message);
                    }
                }
            }
        }
    }

    fn propose(&mut self, rule: &Rule<'_>, kept: Option<&[String]>) {
        let proposal = (!self.settings.ignores(Code::NoLogsUrl)).then(|| proposal(self.settings, kept)).flatten();
        let outcome = proposal.as_ref().and_then(|value| self.insert(rule, value));
        let place = rule.logs_url.map_or(rule.place, |found| self.tree.place(found));
        let fault = self.add(rule.group, rule.name, place, Code::NoLogsUrl, "no logs_url".to_owned());
        if let Some(value) = &proposal {
            fault.set_correction(value, outcome);
        }
    }

    fn check_severity(&mut self, rule: &Rule<'_>) {
        let value = rule.severity.and_then(|found| Some((found, self.tree.text(found)?)));
        let Some((found, value)) = value else {
            let message = "no severity label".to_owned();
            self.add(rule.group, rule.name, rule.place, Code::NoSeverity, message);
            return;
        };
        let known = &self.settings.severities;
        let value = value.trim();
        // Only Prometheus knows the value of a template.
        if value.contains("{{") || known.iter().any(|name| name.eq_ignore_ascii_case(value)) {
            return;
        }
        let shown: String = value.chars().take(100).collect();
        let hint = match nearest(&shown, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known: {}", known.join(", ")),
        };
        let message = format!("unknown severity {shown:?}; {hint}");
        self.add(rule.group, rule.name, self.tree.place(found), Code::UnknownSeverity, message);
    }

    /// Returns `None` if nothing is to be corrected, else whether it will be.
    fn replace(&mut self, found: NodeRef, value: &str) -> Option<Result<(), &'static str>> {
        let edits = self.edits.as_mut()?;
        if found.shared {
            return Some(Err(SHARED));
        }
        Some(match self.tree.scalar(found) {
            Some(scalar) => edits.replace(self.source, &scalar, value),
            None => Err("it is not a text"),
        })
    }

    fn insert(&mut self, rule: &Rule<'_>, value: &str) -> Option<Result<(), &'static str>> {
        let edits = self.edits.as_mut()?;
        if let Some(found) = rule.logs_url {
            return self.replace(found, value);
        }
        let Some(map) = rule.annotations else { return Some(Err("the rule has no annotations")) };
        if map.shared {
            return Some(Err(SHARED));
        }
        Some(match self.tree.first_key(map) {
            Some(first) => edits.insert(self.source, &first, "logs_url", value),
            None => Err("the annotations are on one line"),
        })
    }
}

const SHARED: &str = "it is shared through an alias, so other values would change too";

impl RuleFault {
    fn set_correction(&mut self, value: &str, outcome: Option<Result<(), &'static str>>) {
        self.corrected = Some(value.to_owned());
        self.fixed = outcome == Some(Ok(()));
        self.unfixed = outcome.and_then(Result::err).map(ToOwned::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Display;

    fn found(annotations: &str, expr: &str) -> Vec<String> {
        let rule = format!("alert: A, expr: '{expr}', labels: {{severity: critical}}, annotations: {{{annotations}}}");
        let text = format!("groups: [{{name: g, rules: [{{{rule}}}]}}]");
        let settings = Settings::new(Display::default(), &[], &[]);
        let checked = check(&text, &settings, false).expect("YAML");
        let faults = checked.faults.iter().filter(|fault| fault.code != Code::NoLogsUrl);
        faults.map(|fault| format!("{}: {}", fault.code.as_str(), fault.message)).collect()
    }

    #[test]
    fn ignored_codes_are_neither_reported_nor_corrected() {
        let rule = "alert: A, expr: up, annotations: {summary: x, logs_url: 'https://x/explore?a=b c'}";
        let text = format!("groups: [{{name: g, rules: [{{{rule}}}, {{alert: B, expr: up}}]}}]");
        let mut settings = Settings::new(Display::default(), &[], &[]);
        let codes = |settings: &Settings| {
            let checked = check(&text, settings, true).expect("YAML");
            let codes: Vec<_> = checked.faults.iter().map(|fault| fault.code.as_str()).collect();
            (codes.join(" "), checked.text.is_some())
        };
        let all = codes(&settings);
        assert_eq!(all, ("no_severity not_encoded no_state no_logs_url no_summary no_severity".to_owned(), true));
        settings.ignored = ["not_encoded", "no_state", "no_logs_url", "no_severity"].map(str::to_owned).into();
        assert_eq!(codes(&settings), ("no_summary".to_owned(), false));
    }

    #[test]
    fn labels_that_summary_and_description_lose() {
        let by_job = "sum by (job) (up) > 0";
        let lost = |name: &str| {
            format!("lost_label: {name} shows the label \"pod\", but the rule's expression keeps only job")
        };
        assert_eq!(found("summary: '{{ $labels.pod }} on {{ $labels.job }}'", by_job), [lost("summary")]);
        let both = "summary: '{{ $labels.pod }}, {{ $labels.pod }}', description: '{{ .Labels.pod }}'";
        assert_eq!(found(both, by_job), [lost("summary"), lost("description")]);
        assert_eq!(found("summary: x, runbook_url: 'https://x/{{ $labels.pod }}'", by_job), [lost("runbook_url")]);
        // Of this expression nothing is known, and any label may be shown in words.
        assert_eq!(found("summary: '{{ $labels.pod }} {{ $labels.tenant }}'", "up > 0"), [""; 0]);
        assert_eq!(
            found("summary: '{{ $labels.pod'", "up > 0"),
            ["template: summary has a placeholder that does not end: {{ $labels.pod"]
        );
    }
}
