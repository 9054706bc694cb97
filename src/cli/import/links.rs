//! metio's URL mappings as `links.rewrite`, and what its templates had.

use super::{
    draft::{Draft, accepted, quoted},
    keys::{COMPUTED, EXTERNAL, GENERATOR, Key, Keys},
    report::Report,
    values::{self, Value},
};

const TO: &str = "links.rewrite";

/// Names in Go templates, and what a template of ours calls it. Longer ones first where one begins with another.
const NAMES: [(&str, &str); 16] = [
    (".Alert.Labels", "labels"),
    (".Alert.Annotations", "annotations"),
    (".Alert.Status", "state"),
    (".Alert.StartsAt", "starts_at"),
    (".Alert.EndsAt", "ends_at"),
    (".Alert.GeneratorURL", "links"),
    (".GroupLabels", "group_labels"),
    (".CommonLabels", "labels"),
    (".CommonAnnotations", "annotations"),
    (".SilenceURL", "links"),
    (".ExternalURL", "alertmanager_url"),
    (".GeneratorURL", "links"),
    (".ComputedValues", "color, emoji, word"),
    ("ToUpper", "| upper"),
    ("ToLower", "| lower"),
    ("Replace", "| replace"),
];

/// Both mappings; those with the longer prefix first, since the first that matches wins.
pub(super) fn mappings(keys: &Keys, draft: &mut Draft, report: &mut Report) {
    let mut rewrites: Vec<(String, String)> = Vec::new();
    for key in keys.entries(EXTERNAL).chain(keys.entries(GENERATOR)) {
        if let Some(rewrite) = mapping(key, &rewrites, report) {
            rewrites.push(rewrite);
        }
    }
    rewrites.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
    rewrites.dedup();
    if !rewrites.is_empty() {
        let entries: Vec<String> = rewrites.iter().map(|(from, to)| format!("    {},\n", entry(from, to))).collect();
        draft.set("links", "rewrite", &format!("[\n{}]", entries.concat()));
    }
}

fn entry(from: &str, to: &str) -> String {
    format!("{{ from = {}, to = {} }}", quoted(from), quoted(to))
}

fn mapping(key: &Key, known: &[(String, String)], report: &mut Report) -> Option<(String, String)> {
    // A whole URL became another; of prefixes the rest of the URL follows, with a slash of its own.
    let from = key.name.trim_end_matches('/');
    if let Some((_, name)) = values::variable(from) {
        report.hand(key, Some(TO), &format!("holds ${{{name}}}: write the URL"));
        return None;
    }
    let Value::Text(to) = &key.value else {
        match key.value.named() {
            Some(name) => report.hand(key, Some(TO), &format!("holds ${{{name}}}: write it there")),
            None => report.nothing(key, "it makes a link empty; here there is no link where there is no URL"),
        }
        return None;
    };
    if !from.starts_with("http://") && !from.starts_with("https://") {
        report.nothing(
            key,
            "no URL that Alertmanager or Prometheus send is this alone: they begin with http:// or https://",
        );
        return None;
    }
    let to = to.trim_end_matches('/');
    if let Some((_, other)) = known.iter().find(|(known, other)| known == from && other != to) {
        report.hand(
            key,
            Some(TO),
            &format!("the same prefix leads to {other:?} already, and here it is one for all links"),
        );
        return None;
    }
    if let Err(fault) = accepted("links", "rewrite", &format!("[{}]", entry(from, to))) {
        report.hand(key, Some(TO), &format!("is not taken: {fault}"));
        return None;
    }
    report.changes(key, TO, "the start of any link now, in place of this one URL as a whole");
    Some((from.to_owned(), to.to_owned()))
}

/// What belongs to Go templates, and has no counterpart: they make a message of one alert, ours one of a group.
pub(super) fn templating(keys: &Keys, report: &mut Report) {
    for key in keys.entries(COMPUTED) {
        let what = key.value.text().unwrap_or("sets nothing");
        report.nothing(
            key,
            &format!("{what}; looks of a severity are display.severities, all else a template of your own"),
        );
    }
    let templates = ["templating.firing-template", "templating.resolved-template"];
    for key in templates.into_iter().filter_map(|path| keys.get(path)) {
        template(key, report);
    }
}

fn template(key: &Key, report: &mut Report) {
    let text = match &key.value {
        Value::Text(text) => text.as_str(),
        Value::Nothing | Value::Variable(_) | Value::Mixed(_) | Value::Tag => "",
    };
    let names = used(text);
    let there = if names.is_empty() { String::new() } else { format!("; there {}", names.join(", ")) };
    report.nothing(
        key,
        &format!(
            "Go templates are not read, and the built-in card takes their place; for a look of your own see \
             docs/TEMPLATES.md, nearest is templates/examples/classic with updates = \"post\"{there}"
        ),
    );
}

/// Which of [`NAMES`] a Go template has, with ours.
fn used(template: &str) -> Vec<String> {
    let actions = template.split("{{").skip(1).map(|rest| rest.split_once("}}").map_or(rest, |(action, _)| action));
    let words: Vec<&str> =
        actions.flat_map(|action| action.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_')).collect();
    let has = |name: &str| {
        let begins = |word: &&str| word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        words.iter().any(begins)
    };
    NAMES.iter().filter(|(name, _)| has(name)).map(|(name, ours)| format!("{name} is {ours}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_template_are_told_once_and_whole() {
        let template = "{{ if .Alert.Labels.name }}{{ .Alert.Labels.a | ToUpper }}{{end}} .SilenceURL {{.AlertX}} \
                        {{ .GeneratorURL }} {{ RegexReplace `a` `b` .Alert.GeneratorURLs }} {{ .ExternalURL";
        let expected = [
            ".Alert.Labels is labels",
            ".ExternalURL is alertmanager_url",
            ".GeneratorURL is links",
            "ToUpper is | upper",
        ];
        assert_eq!(used(template), expected);
    }
}
