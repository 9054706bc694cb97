//! Links: which ones an alert has, made valid and safe. What is no http or https URL is no link.

use url::Url;

use super::Style;
use crate::{
    config::Rewrite,
    model::{Alert, Labels},
};

/// Logs links carry whole queries; beyond this they could not be opened either.
const MAX_URL: usize = 4096;

/// In the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkKind {
    Logs,
    Source,
    Runbook,
    Dashboard,
    Panel,
    Silence,
    /// Of Alertmanager itself, not of an alert.
    Alertmanager,
}

impl LinkKind {
    /// Those of an alert.
    pub(super) const ALL: [Self; 6] =
        [Self::Logs, Self::Source, Self::Runbook, Self::Dashboard, Self::Panel, Self::Silence];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Logs => "Logs",
            Self::Source => "Source",
            Self::Runbook => "Runbook",
            Self::Dashboard => "Dashboard",
            Self::Panel => "Panel",
            Self::Silence => "Silence",
            Self::Alertmanager => "Alertmanager",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) kind: LinkKind,
    pub(super) label: String,
    pub(super) url: String,
}

/// The links of one alert, at most one of a kind, in order. Only a silence that the alert itself names is among them.
pub(super) fn of_alert(style: &Style, alert: &Alert) -> Vec<Link> {
    LinkKind::ALL.into_iter().filter_map(|kind| of_kind(style, alert, kind)).collect()
}

pub(super) fn of_kind(style: &Style, alert: &Alert, kind: LinkKind) -> Option<Link> {
    let doc = &alert.doc;
    let note = |key: &str| doc.annotations.get(key).map_or("", String::as_str);
    let sources: [&str; 3] = match kind {
        LinkKind::Logs => [note("logs_url"), "", ""],
        LinkKind::Source => [&doc.generator_url, "", ""],
        LinkKind::Runbook => [note("runbook_url"), note("runbook"), ""],
        LinkKind::Dashboard => [note("dashboard_url"), &doc.dashboard_url, note("dashboard")],
        LinkKind::Panel => [note("panel_url"), &doc.panel_url, ""],
        LinkKind::Silence => [&doc.silence_url, "", ""],
        LinkKind::Alertmanager => ["", "", ""],
    };
    sources.into_iter().find_map(|raw| link(style, kind, raw))
}

/// The link to the Alertmanager that told of an incident.
pub(super) fn alertmanager(style: &Style, external_url: &str) -> Option<Link> {
    link(style, LinkKind::Alertmanager, external_url)
}

/// The link to Alertmanager's form for a silence, with `labels` filled in; none without labels, since that form would
/// silence everything.
pub(super) fn silence(style: &Style, external_url: &str, labels: &Labels) -> Option<Link> {
    if labels.is_empty() || external_url.trim().is_empty() {
        return None;
    }
    let matchers: Vec<String> = labels.iter().map(|(name, value)| matcher(name, value)).collect();
    let filter = format!("{{{}}}", matchers.join(", "));
    let base = external_url.trim().trim_end_matches('/');
    link(style, LinkKind::Silence, &format!("{base}/#/silences/new?filter={}", urlencoding::encode(&filter)))
}

/// `name="value"` as Alertmanager's matcher parser reads it: values escaped as in Go, names beyond the classic
/// alphabet quoted (UTF-8 matchers, Alertmanager 0.27).
fn matcher(name: &str, value: &str) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let classic =
        name.chars().enumerate().all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()));
    let name = if classic && !name.is_empty() { name.to_owned() } else { quoted(name) };
    format!("{name}={}", quoted(value))
}

fn link(style: &Style, kind: LinkKind, raw: &str) -> Option<Link> {
    let url = rewritten(&style.rewrite, safe(raw)?)?;
    (url.len() <= MAX_URL).then(|| Link { kind, label: kind.label().to_owned(), url })
}

/// A http or https URL without credentials in it, every character of it fit for an attribute.
pub(super) fn safe(raw: &str) -> Option<String> {
    let raw = raw.trim();
    if raw.is_empty() || raw.len() > 4 * MAX_URL {
        return None;
    }
    let mut url = Url::parse(&encoded(raw)).ok()?;
    // The parser decodes hosts, so that what was encoded above may be raw again.
    let plain = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    if !matches!(url.scheme(), "http" | "https") || !url.host_str().is_some_and(plain) {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.into())
}

/// Encodes what people leave raw in a URL (a log selector above all) and what the URL standard lets pass but link
/// parsers stumble over; sequences that are encoded already stay as they are.
fn encoded(raw: &str) -> String {
    let mut url = String::with_capacity(raw.len() + 16);
    for (at, c) in raw.char_indices() {
        match c {
            '{' => url.push_str("%7B"),
            '}' => url.push_str("%7D"),
            '|' => url.push_str("%7C"),
            '"' => url.push_str("%22"),
            '\'' => url.push_str("%27"),
            '<' => url.push_str("%3C"),
            '>' => url.push_str("%3E"),
            '\\' => url.push_str("%5C"),
            '^' => url.push_str("%5E"),
            '`' => url.push_str("%60"),
            '%' if !raw.as_bytes()[at + 1..].iter().take(2).filter(|b| b.is_ascii_hexdigit()).count().eq(&2) => {
                url.push_str("%25");
            }
            c if c.is_whitespace() || c.is_control() => url.push_str("%20"),
            c => url.push(c),
        }
    }
    url
}

/// The first prefix that matches up to the end of a part of the URL (`http://prom:90` is no prefix of
/// `http://prom:9090/`) is replaced; the result must be a link as well.
fn rewritten(rules: &[Rewrite], url: String) -> Option<String> {
    for rule in rules {
        let Some(rest) = url.strip_prefix(rule.from.as_str()) else { continue };
        if rule.from.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?', '#']) {
            return safe(&format!("{}{rest}", rule.to));
        }
    }
    Some(url)
}

/// Rules whose `from` is written as links are after they were parsed: `http://Prom:80` matches `http://prom/graph`.
pub(super) fn normal_rules(rules: &[Rewrite]) -> Vec<Rewrite> {
    let normal = |rule: &Rewrite| {
        let mut from = safe(&rule.from).unwrap_or_else(|| rule.from.clone());
        if !rule.from.ends_with('/') {
            from.truncate(from.trim_end_matches('/').len());
        }
        Rewrite { from, to: rule.to.clone() }
    };
    rules.iter().map(normal).collect()
}
