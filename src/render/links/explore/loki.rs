//! Explore links to a Loki datasource, made from a selector.

use std::fmt::Write as _;

use serde_json::json;

/// Grafana requires three characters, not all of them digits, and replaces other ids.
const PANE: &str = "log";

/// The URL of Explore below `grafana` with one Loki query, without a time range. `expr` may hold anything; `grafana` is
/// used unchanged.
#[must_use]
pub fn loki_url(grafana: &str, org_id: u64, datasource: &str, expr: &str) -> String {
    let query = json!({
        "refId": "A",
        "datasource": { "type": "loki", "uid": datasource },
        "expr": expr,
        "queryType": "range",
    });
    let panes = json!({ PANE: { "datasource": datasource, "queries": [query] } }).to_string();
    let panes = urlencoding::encode(&panes);
    format!("{}/explore?schemaVersion=1&orgId={org_id}&panes={panes}", grafana.trim_end_matches('/'))
}

/// `{a="b"} |= "c"`. A `filter` that is not a LogQL stage is a text that lines must contain; an empty one filters
/// nothing.
#[must_use]
pub fn log_query(matchers: &str, filter: &str) -> String {
    let (matchers, filter) = (matchers.trim(), filter.trim());
    let mut query = if matchers.starts_with('{') { matchers.to_owned() } else { format!("{{{matchers}}}") };
    if filter.starts_with(['|', '!']) {
        let _ = write!(query, " {filter}");
    } else if !filter.is_empty() {
        let _ = write!(query, " |= {}", quoted(filter));
    }
    query
}

/// A LogQL string, which has Go's syntax: whatever `text` holds, it cannot end the string.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
