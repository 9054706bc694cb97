//! Links: which ones an alert has, made valid and safe. What is no http or https URL is no link.

use url::Url;

use super::{
    custom::Outcome,
    explore::{Problem, Range},
    logs,
};
use crate::{
    config::Rewrite,
    model::{Alert, Incident, Labels},
    render::Style,
};

/// Logs links carry whole queries; beyond this they could not be opened either.
pub(crate) const MAX_URL: usize = 4096;
/// Longer texts are no URL; rewriting might make a shorter one of them.
pub(crate) const MAX_READ: usize = 4 * MAX_URL;

/// In the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkKind {
    Logs,
    Source,
    Runbook,
    Dashboard,
    Panel,
    /// The operator's own, by its index in `routes.X.links`.
    CustomLinks(usize),
    Silence,
    /// Of Alertmanager itself, not of an alert.
    Alertmanager,
}

impl LinkKind {
    /// Those that an alert of this incident may have.
    pub(crate) fn all(style: &Style, incident: &Incident) -> Vec<Self> {
        let mut kinds = vec![Self::Logs, Self::Source, Self::Runbook, Self::Dashboard, Self::Panel];
        kinds.extend((0..style.custom_links.count(incident)).map(Self::CustomLinks));
        kinds.push(Self::Silence);
        kinds
    }

    /// Empty for the operator's own, which have a label each.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Logs => "Logs",
            Self::Source => "Source",
            Self::Runbook => "Runbook",
            Self::Dashboard => "Dashboard",
            Self::Panel => "Panel",
            Self::CustomLinks(_) => "",
            Self::Silence => "Silence",
            Self::Alertmanager => "Alertmanager",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    pub(crate) label: String,
    pub(crate) url: String,
}

/// The links of one alert, at most one of a kind, in order, that of logs for `range`. Only a silence that the alert itself
/// names is among them.
pub(crate) fn of_alert(style: &Style, incident: &Incident, alert: &Alert, range: Range) -> Vec<Link> {
    let kinds = LinkKind::all(style, incident).into_iter();
    kinds.filter_map(|kind| of_kind(style, incident, alert, kind)).map(|link| logs::in_time(link, range)).collect()
}

/// The link of one kind; that of logs has no time range yet, see [`logs::in_time`].
pub(crate) fn of_kind(style: &Style, incident: &Incident, alert: &Alert, kind: LinkKind) -> Option<Link> {
    let doc = &alert.doc;
    let note = |key: &str| doc.annotations.get(key).map_or("", |raw| first_of(raw));
    let sources: [&str; 3] = match kind {
        LinkKind::Logs => return logs::of_alert(style, incident, alert),
        LinkKind::CustomLinks(index) => return custom_links(style, incident, alert, index)?.ok(),
        LinkKind::Source => [&doc.generator_url, "", ""],
        LinkKind::Runbook => [note("runbook_url"), note("runbook"), ""],
        LinkKind::Dashboard => [note("dashboard_url"), &doc.dashboard_url, note("dashboard")],
        LinkKind::Panel => [note("panel_url"), &doc.panel_url, ""],
        LinkKind::Silence => [&doc.silence_url, "", ""],
        LinkKind::Alertmanager => ["", "", ""],
    };
    sources.into_iter().find_map(|raw| link(style, kind, raw))
}

/// One of the operator's own; `None` where it is not meant for this alert.
fn custom_links(style: &Style, incident: &Incident, alert: &Alert, index: usize) -> Option<Result<Link, &'static str>> {
    let (label, outcome) = style.custom_links.link(incident, alert, index)?;
    match outcome {
        Outcome::NotHere => None,
        Outcome::Failed => Some(Err("template_failed")),
        Outcome::Url(url) => {
            let problem = if url.len() > MAX_URL { Problem::TooLong } else { Problem::NotAUrl };
            let link = link(style, LinkKind::CustomLinks(index), &url);
            Some(link.map(|link| Link { label: label.to_owned(), ..link }).ok_or(problem.as_str()))
        }
    }
}

/// A link that messages leave out because it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenLink {
    /// `logs`, `runbook`, `dashboard`, `panel` or `extra`.
    pub link: &'static str,
    /// From a closed set.
    pub reason: &'static str,
}

/// The broken links of an incident's alerts, for the metric.
#[must_use]
pub fn broken_links(style: &Style, incident: &Incident) -> Vec<BrokenLink> {
    let mut broken = Vec::new();
    for alert in &incident.alerts {
        let logs = logs::broken(style, alert).map(|(problem, _)| BrokenLink { link: "logs", reason: problem.as_str() });
        broken.extend(logs);
        for kind in [LinkKind::Runbook, LinkKind::Dashboard, LinkKind::Panel] {
            broken.extend(broken_annotation(style, incident, alert, kind));
        }
        let custom_links = (0..style.custom_links.count(incident))
            .filter_map(|index| custom_links(style, incident, alert, index)?.err());
        broken.extend(custom_links.map(|reason| BrokenLink { link: "extra", reason }));
    }
    broken
}

/// What an annotation says that is meant as a link and is none, or has more links in it than the one that is shown.
fn broken_annotation(style: &Style, incident: &Incident, alert: &Alert, kind: LinkKind) -> Option<BrokenLink> {
    let (link, names) = match kind {
        LinkKind::Runbook => ("runbook", ["runbook_url", "runbook"]),
        LinkKind::Dashboard => ("dashboard", ["dashboard_url", "dashboard"]),
        LinkKind::Panel => ("panel", ["panel_url", "panel"]),
        _ => return None,
    };
    let said = names.iter().filter_map(|name| alert.doc.annotations.get(*name)).find(|raw| !raw.trim().is_empty())?;
    let reason = if of_kind(style, incident, alert, kind).is_none() {
        Problem::NotAUrl.as_str()
    } else if first_of(said).len() < said.trim().len() {
        "several"
    } else {
        return None;
    };
    Some(BrokenLink { link, reason })
}

/// The link to the Alertmanager that told of an incident.
pub(crate) fn alertmanager(style: &Style, external_url: &str) -> Option<Link> {
    link(style, LinkKind::Alertmanager, external_url)
}

/// The link to Alertmanager's form for a silence, with `labels` filled in; none without labels, since that form would
/// silence everything.
pub(crate) fn silence(style: &Style, external_url: &str, labels: &Labels) -> Option<Link> {
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

/// The first of several links in an annotation.
fn first_of(raw: &str) -> &str {
    let raw = raw.trim();
    let ends = raw.match_indices([' ', ',', ';', '\n', '\t']).map(|(at, _)| at);
    let next_is_link =
        |at: &usize| raw[*at..].trim_start_matches([' ', ',', ';', '\n', '\t', '\r']).starts_with("http");
    let end = ends.into_iter().find(next_is_link).unwrap_or(raw.len());
    raw[..end].trim_end_matches([' ', ',', ';', '\r'])
}

/// `https://` in front of what begins with the name of a host, as people write it.
fn with_scheme(raw: &str) -> Option<String> {
    let host = raw.split(['/', '?', '#']).next().unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default();
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let top = name.rsplit('.').next().unwrap_or_default();
    let is_host = name.contains('.') && name.split('.').all(is_name) && top.bytes().all(|b| b.is_ascii_alphabetic());
    is_host.then(|| format!("https://{raw}"))
}

/// `None` where it is no URL, or one that nobody could open.
pub(crate) fn link(style: &Style, kind: LinkKind, raw: &str) -> Option<Link> {
    let url = safe(raw).or_else(|| safe(&with_scheme(raw.trim())?))?;
    let url = rewritten(&style.rewrite, url)?;
    (url.len() <= MAX_URL).then(|| Link { kind, label: kind.label().to_owned(), url })
}

/// A http or https URL without credentials in it, every character of it fit for an attribute.
pub(crate) fn safe(raw: &str) -> Option<String> {
    let raw = raw.trim();
    if raw.is_empty() || raw.len() > MAX_READ {
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
pub(crate) fn encoded(raw: &str) -> String {
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
pub(crate) fn normal_rules(rules: &[Rewrite]) -> Vec<Rewrite> {
    let normal = |rule: &Rewrite| {
        let mut from = safe(&rule.from).unwrap_or_else(|| rule.from.clone());
        if !rule.from.ends_with('/') {
            from.truncate(from.trim_end_matches('/').len());
        }
        Rewrite { from, to: rule.to.clone() }
    };
    rules.iter().map(normal).collect()
}
