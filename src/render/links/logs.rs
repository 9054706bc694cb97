//! The Logs link of an alert: from its `logs_url`, else built from its labels; and the time range it shows.

use super::{
    explore::{LogsUrl, Problem, Range, log_query, loki_url, quoted},
    link::{Link, LinkKind, link},
    url,
};
use crate::{
    config::Grafana,
    model::{Alert, Incident},
    render::{places, style::Style, text},
};

const ANNOTATION: &str = "logs_url";
/// A broken value is shown up to this many characters.
const MAX_SHOWN: usize = 80;

/// The link without a time range, so that alerts can share it.
pub(crate) fn of_alert(style: &Style, incident: &Incident, alert: &Alert) -> Option<Link> {
    annotated(style, alert).and_then(Result::ok).or_else(|| {
        let grafana = style.grafana(incident)?;
        link(style, LinkKind::Logs, &built_url(grafana, &built_query(grafana, alert)?))
    })
}

/// What to ask Loki for an alert's log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsQuery {
    /// LogQL, as somebody wrote it: it may be wrong, or give numbers in place of lines.
    pub query: String,
    /// The link that shows it, with the alert's time range; `None` where it is too long for one.
    pub link: Option<String>,
}

/// The query behind an alert's Logs link: that of its `logs_url`, if that leads to Loki in Grafana Explore, else the one that
/// is built from its labels.
#[must_use]
pub fn logs_query(style: &Style, incident: &Incident, alert: &Alert) -> Option<LogsQuery> {
    let range = Range::around(alert.starts_at, alert.ends_at);
    let of_link = |query: String, url: &str| {
        let link = link(style, LinkKind::Logs, url).map(|link| in_time(link, range).url);
        LogsQuery { query, link }
    };
    let parsed = alert.doc.annotations.get(ANNOTATION).map(|raw| LogsUrl::parse(raw));
    let annotated = parsed.as_ref().and_then(|parsed| Some((parsed.loki_query()?.to_owned(), parsed.to_url())));
    if let Some((query, url)) = annotated {
        return Some(of_link(query, &url));
    }
    let grafana = style.grafana(incident)?;
    let query = built_query(grafana, alert)?;
    let url = built_url(grafana, &query);
    Some(of_link(query, &url))
}

/// What an alert says, by which one about an exporter's own pod is recognised.
fn words(alert: &Alert) -> Vec<String> {
    alert.doc.annotations.values().map(|value| text::clean(value)).collect()
}

/// What is wrong with the alert's `logs_url` if it gives no link, and its text, cleaned for display.
pub(crate) fn broken(style: &Style, alert: &Alert) -> Option<(Problem, String)> {
    let problem = annotated(style, alert)?.err()?;
    Some((problem, inert(alert.doc.annotations.get(ANNOTATION)?)))
}

/// Adds the time range to a Logs link that has none.
pub(crate) fn in_time(link: Link, range: Range) -> Link {
    if link.kind != LinkKind::Logs {
        return link;
    }
    let mut parsed = LogsUrl::parse(&link.url);
    let ranged = parsed.put_range(range).then(|| url::safe(&parsed.to_url())).flatten();
    match ranged.filter(|url| url.len() <= url::MAX_URL) {
        Some(url) => Link { url, ..link },
        None => link,
    }
}

/// The link of the alert's annotation; `None` without one.
fn annotated(style: &Style, alert: &Alert) -> Option<Result<Link, Problem>> {
    let raw = alert.doc.annotations.get(ANNOTATION).filter(|raw| !raw.trim().is_empty())?;
    let parsed = LogsUrl::parse(raw);
    if let Some(problem) = parsed.broken() {
        return Some(Err(problem));
    }
    Some(link(style, LinkKind::Logs, &parsed.to_url()).ok_or(Problem::TooLong))
}

/// A query for the streams that carry the alert's labels; `None` where it has none of them.
fn built_query(grafana: &Grafana, alert: &Alert) -> Option<String> {
    let labels = places::labels_of_thing(&alert.doc.labels, &words(alert));
    let mut matchers: Vec<(&str, &str)> = Vec::new();
    for fallback in [false, true] {
        if !matchers.is_empty() {
            break;
        }
        for label in grafana.labels.iter().filter(|label| label.fallback == fallback) {
            let value = labels.get(&label.alert).filter(|value| !value.is_empty());
            // Two alert labels may map to one Loki label; the first one wins.
            if let Some(value) = value
                && !matchers.iter().any(|(name, _)| *name == label.loki)
            {
                matchers.push((&label.loki, value));
            }
        }
    }
    if matchers.is_empty() {
        return None;
    }
    let matchers: Vec<String> = matchers.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    Some(log_query(&matchers.join(","), grafana.line_filter.as_deref().unwrap_or_default()))
}

fn built_url(grafana: &Grafana, query: &str) -> String {
    loki_url(&grafana.url, grafana.org_id, &grafana.loki_datasource, query)
}

/// The text of a broken value without scheme, credentials and host, so that clients do not turn it into a link.
fn inert(raw: &str) -> String {
    let decoded = urlencoding::decode(raw).map_or_else(|_| raw.to_owned(), std::borrow::Cow::into_owned);
    let clean = text::clean(&decoded);
    let (scheme, rest) = match clean.split_once("//") {
        Some((before, rest)) if before.is_empty() || before.ends_with(':') => (true, rest),
        _ => (false, clean.as_str()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = scheme || rest[..end].contains('@') || (end < rest.len() && rest[..end].contains(['.', ':']));
    let shown = if host { format!("…{}", &rest[end..]) } else { rest.to_owned() };
    text::show(&shown.replace("://", ": //"), MAX_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::inert;

    #[test]
    fn what_is_broken_is_shown_so_that_no_client_makes_a_link_of_it() {
        for (raw, shown) in [
            ("see the wiki", "see the wiki"),
            ("javascript:alert(1)", "javascript:alert(1)"),
            ("https://grafana.example.org/explore?panes=%7B%22a", "…/explore?panes={\"a"),
            ("https://u:secret@grafana.example.org", "…"),
            ("u:secret@grafana.example.org", "…"),
            ("grafana.example.org/explore?x", "…/explore?x"),
            ("//example.org/x", "…/x"),
            ("ftp://a/b?c=https://d", "…/b?c=https: //d"),
            ("a\nb\u{202e}c", "a bc"),
        ] {
            assert_eq!(inert(raw), shown, "{raw}");
        }
        assert!(inert(&"x ".repeat(9000)).chars().count() <= 80);
    }
}
