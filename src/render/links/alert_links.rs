//! Which links an alert has, and which of them are broken.

use super::{
    custom::Outcome,
    explore::{Problem, Range},
    link::{Link, LinkKind, link},
    logs, url,
};
use crate::{
    model::{Alert, Incident, Labels},
    render::style::Style,
};

/// The links of one alert in order, at most one of each kind; the Logs link shows `range`. A silence is among them only
/// if the alert itself names one.
pub(crate) fn of_alert(style: &Style, incident: &Incident, alert: &Alert, range: Range) -> Vec<Link> {
    let kinds = LinkKind::all(style, incident).into_iter();
    kinds.filter_map(|kind| of_kind(style, incident, alert, kind)).map(|link| logs::in_time(link, range)).collect()
}

/// The link of one kind; a Logs link has no time range yet, see [`logs::in_time`].
pub(crate) fn of_kind(style: &Style, incident: &Incident, alert: &Alert, kind: LinkKind) -> Option<Link> {
    if incident.key.is_heartbeat() {
        // What links are made of is not there: it is about the way that alerts take, and about none of their things.
        return None;
    }
    let doc = &alert.doc;
    let note = |key: &str| doc.annotations.get(key).map_or("", |raw| url::first_of(raw));
    let sources: [&str; 3] = match kind {
        LinkKind::Logs => return logs::of_alert(style, incident, alert),
        LinkKind::Custom(index) => return custom_link(style, incident, alert, index)?.ok(),
        LinkKind::Source => [&doc.generator_url, "", ""],
        LinkKind::Runbook => [note("runbook_url"), note("runbook"), ""],
        LinkKind::Dashboard => [note("dashboard_url"), &doc.dashboard_url, note("dashboard")],
        LinkKind::Panel => [note("panel_url"), &doc.panel_url, ""],
        LinkKind::Silence => [&doc.silence_url, "", ""],
        LinkKind::Alertmanager => ["", "", ""],
    };
    sources.into_iter().find_map(|raw| link(style, kind, raw))
}

/// One of the operator's links; `None` where it does not apply to this alert.
fn custom_link(style: &Style, incident: &Incident, alert: &Alert, index: usize) -> Option<Result<Link, &'static str>> {
    let (label, outcome) = style.custom_links.link(incident, alert, index)?;
    match outcome {
        Outcome::NotHere => None,
        Outcome::Failed => Some(Err("template_failed")),
        Outcome::Url(url) => {
            let problem = if url.len() > url::MAX_URL { Problem::TooLong } else { Problem::NotAUrl };
            let link = link(style, LinkKind::Custom(index), &url);
            Some(link.map(|link| Link { label: label.to_owned(), ..link }).ok_or(problem.as_str()))
        }
    }
}

/// A link that messages leave out because it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenLink {
    /// `logs`, `runbook`, `dashboard`, `panel` or `extra`, as the metric's label.
    pub link: &'static str,
    /// One of a closed set, as the metric's label.
    pub reason: &'static str,
}

/// The broken links of an incident's alerts.
#[must_use]
pub fn broken_links(style: &Style, incident: &Incident) -> Vec<BrokenLink> {
    let mut broken = Vec::new();
    let alerts = if incident.key.is_heartbeat() { &[][..] } else { &incident.alerts };
    for alert in alerts {
        let logs = logs::broken(style, alert).map(|(problem, _)| BrokenLink { link: "logs", reason: problem.as_str() });
        broken.extend(logs);
        for kind in [LinkKind::Runbook, LinkKind::Dashboard, LinkKind::Panel] {
            broken.extend(broken_annotation(style, incident, alert, kind));
        }
        let custom_links = (0..style.custom_links.count(incident))
            .filter_map(|index| custom_link(style, incident, alert, index)?.err());
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
    } else if url::first_of(said).len() < said.trim().len() {
        "several"
    } else {
        return None;
    };
    Some(BrokenLink { link, reason })
}

/// The link to the Alertmanager that reported an incident.
pub(crate) fn alertmanager(style: &Style, external_url: &str) -> Option<Link> {
    link(style, LinkKind::Alertmanager, external_url)
}

/// The link to Alertmanager's silence form with `labels` filled in. Without labels there is none, since that form would
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
