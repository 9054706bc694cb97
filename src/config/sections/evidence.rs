//! `[evidence]` and `routes.X.evidence`: where log lines and graphs come from, and which cards get them.

use regex::{Regex, RegexBuilder};

use super::{auth, mentions, service};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{ApiAuth, Display, Evidence, EvidenceSource, MAX_LOG_LINES, RouteEvidence},
    values::{boolean, number, text},
};

/// A source's key, an example of its URL, and what the paths of its API begin with, longest first.
struct Kind {
    key: &'static str,
    url: &'static str,
    api: &'static [&'static str],
}

const LOKI: Kind = Kind {
    key: "loki",
    url: "the URL of Loki such as \"http://loki:3100\"",
    api: &["/loki/api/v1/query_range", "/loki/api/v1", "/loki/api"],
};
const PROMETHEUS: Kind = Kind {
    key: "prometheus",
    url: "the URL of Prometheus such as \"http://prometheus:9090\"",
    api: &["/api/v1/query_range", "/api/v1/query", "/api/v1", "/api", "/graph", "/query"],
};

/// All patterns are tried on every line.
const MAX_PATTERNS: usize = 64;
/// Of one pattern when it is compiled, in bytes.
const MAX_PATTERN_SIZE: usize = 4 * 1024 * 1024;

/// Which sources the config names, be their tables right or wrong.
#[derive(Clone, Copy, Default)]
pub(super) struct Named {
    loki: bool,
    prometheus: bool,
}

/// `[evidence]`.
pub(super) fn read(root: &Section<'_>) -> (Option<Evidence>, Named) {
    let section = root.section("evidence");
    let named = Named { loki: section.item("loki").is_some(), prometheus: section.item("prometheus").is_some() };
    if section.is_there()
        && !named.loki
        && !named.prometheus
        && let Some(item) = root.item("evidence")
    {
        item.fault("names no source, expected loki, prometheus, or both, each a table such as { url = \"http://…\" }");
    }
    let evidence = Evidence {
        loki: source(&section, &LOKI),
        prometheus: source(&section, &PROMETHEUS),
        redact: patterns(&section),
    };
    (section.is_there().then_some(evidence), named)
}

fn source(parent: &Section<'_>, kind: &Kind) -> Option<EvidenceSource> {
    // Anything but a table is one error, which `section` reports.
    let item = parent.item(kind.key).filter(|item| item.section().is_ok());
    let section = parent.section(kind.key);
    let url = section.require(item.is_some(), "url", kind.url, |url| service::url(url, kind.api));
    let auth = item.as_ref().and_then(|item| auth::of_service(item, &section));
    if item.is_none() {
        auth::make_known(&section);
    }
    let headers = service::headers(&section);
    let ca_file = service::ca_file(&section);
    Some(EvidenceSource { url: url?, auth: auth.unwrap_or(ApiAuth::None), headers, ca_file })
}

fn patterns(section: &Section<'_>) -> Vec<Regex> {
    let each = "a regular expression such as 'customer-[0-9]+'";
    let patterns = section.list("redact", each, pattern).unwrap_or_default();
    if patterns.len() > MAX_PATTERNS {
        section.item("redact").iter().for_each(|item| {
            item.fault(format!("found {} entries, expected {MAX_PATTERNS} or fewer", patterns.len()));
        });
    }
    patterns
}

fn pattern(item: &Item<'_>) -> Result<Regex, BadValue> {
    let pattern = text(item)?;
    match RegexBuilder::new(&pattern).size_limit(MAX_PATTERN_SIZE).build() {
        Ok(regex) if regex.is_match("") => {
            let advice =
                "which matches nothing at all as well, and so every place of every line: say what must be there";
            Err(BadValue::Because(format!("found {}, {advice}", item.found())))
        }
        Ok(regex) => Ok(regex),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(BadValue::Because(format!("found {}, which takes too much memory: make it simpler", item.found())))
        }
        Err(error) => {
            let why = why(&error.to_string());
            Err(BadValue::Because(format!("found {}, not a regular expression: {why}", item.found())))
        }
    }
}

/// What is wrong with a pattern of one line, and at which character, from the text of the error: the pattern, a line with `^`
/// below the place, and `error: …`.
fn why(error: &str) -> String {
    const INDENT: usize = 4;
    let what = error.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it cannot be read");
    let place = error.lines().find(|line| line.trim_start().starts_with('^')).and_then(|line| line.find('^'));
    place.map_or_else(|| what.to_owned(), |at| format!("{what} (character {})", (at + 1).saturating_sub(INDENT)))
}

/// `routes.X.evidence`; without the table nothing is shown unless somebody asks.
pub(super) fn of_route(route: &Section<'_>, named: Named, display: &Display) -> Option<RouteEvidence> {
    let section = route.section("evidence");
    let lines = format!("a whole number of lines from 0 to {MAX_LOG_LINES}");
    let at_most = |item: &Item<'_>| {
        number(item, 0).and_then(|lines| if lines > MAX_LOG_LINES { Err(BadValue::Unexpected) } else { Ok(lines) })
    };
    let logs = section.read("logs", &lines, at_most);
    let graph = section.read("graph", "true or false", boolean);
    let lacks = |key: &str, source: &str, advice: &str| {
        section.item(key).iter().for_each(|item| {
            item.fault(format!("found {}, but evidence.{source} is not set: set it, or {advice}", item.found()));
        });
    };
    if logs.is_some_and(|lines| lines > 0) && !named.loki {
        lacks("logs", "loki", "logs = 0");
    }
    if graph == Some(true) && !named.prometheus {
        lacks("graph", "prometheus", "graph = false");
    }
    if !named.loki
        && !named.prometheus
        && section.is_there()
        && logs.is_none()
        && graph.is_none()
        && let Some(item) = route.item("evidence")
    {
        item.fault("shows nothing without a source: set evidence.loki, evidence.prometheus, or both");
    }
    let evidence = RouteEvidence {
        logs: logs.unwrap_or(if named.loki { RouteEvidence::LOGS } else { 0 }),
        graph: graph.unwrap_or(named.prometheus),
        min_severity: mentions::min_severity(&section, display).unwrap_or(0),
        encrypted_only: section.read("encrypted_only", "true or false", boolean).unwrap_or(false),
    };
    section.is_there().then_some(evidence)
}
