//! Turns metio's URL mappings into `links.rewrite`, and reports what its templates use.

use super::{
    draft::{Draft, accepted, quoted},
    keys::{COMPUTED, EXTERNAL, GENERATOR, Key, Keys},
    report::Report,
    values::{self, Value},
};

const TO: &str = "links.rewrite";

/// Names in Go templates and their names in ours. Of two where one begins with the other, the longer comes first.
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

/// Writes both mappings, longer prefixes first, since the first match wins.
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
    // metio replaces a whole URL; here the rest of the URL, which begins with a slash, follows the prefix.
    let from = key.name.trim_end_matches('/');
    if let Some((_, name)) = values::find_variable(from) {
        report.hand(key, TO, &format!("holds ${{{name}}}: write the URL"));
        return None;
    }
    let Value::Text(to) = &key.value else {
        match key.value.variable() {
            Some(name) => report.hand(key, TO, &format!("holds ${{{name}}}: write it there")),
            None => report.nothing(key, "it makes a link empty; here there is no link where there is no URL"),
        }
        return None;
    };
    let to = to.trim_end_matches('/');
    if !from.starts_with("http://") && !from.starts_with("https://") {
        let text = "no URL that Alertmanager or Prometheus send is this alone: they begin with http:// or https://";
        report.nothing(key, text);
    } else if let Some((_, other)) = known.iter().find(|(known, other)| known == from && other != to) {
        let text = format!("the same prefix leads to {other:?} already, and here it is one for all links");
        report.hand(key, TO, &text);
    } else if let Err(fault) = accepted("links", "rewrite", &format!("[{}]", entry(from, to))) {
        report.hand(key, TO, &format!("is not taken: {fault}"));
    } else {
        report.changes(key, TO, "the start of any link now, in place of this one URL as a whole");
        return Some((from.to_owned(), to.to_owned()));
    }
    None
}

/// Reports what belongs to Go templates. It has no counterpart: they render one alert, and ours render a group.
pub(super) fn templating(keys: &Keys, report: &mut Report) {
    for key in keys.entries(COMPUTED) {
        let what = key.value.text().unwrap_or("sets nothing");
        let text = format!("{what}; looks of a severity are display.severities, all else a template of your own");
        report.nothing(key, &text);
    }
    let templates = ["templating.firing-template", "templating.resolved-template"];
    for key in templates.into_iter().filter_map(|path| keys.get(path)) {
        let names = used(key.value.text().unwrap_or_default());
        let there = if names.is_empty() { String::new() } else { format!("; there {}", names.join(", ")) };
        let text = format!(
            "Go templates are not read, and the built-in card takes their place; for a look of your own see \
             docs/TEMPLATES.md, nearest is templates/examples/classic with updates = \"post\"{there}"
        );
        report.nothing(key, &text);
    }
}

/// Which of [`NAMES`] a Go template uses.
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
    fn names_of_a_template_are_reported_once_and_whole() {
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
