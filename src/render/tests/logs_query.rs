//! What to ask Loki for an alert's lines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::samples::{alert, at, incident, style};
use crate::{
    config::{Display, Grafana, Links, LokiLabel},
    model::Alert,
    render::{
        Style,
        links::{LogsQuery, logs_query},
    },
};

fn with_grafana() -> Style {
    with_labels(&[("namespace", "namespace"), ("pod", "pod")])
}

/// Labels of alerts, and what Loki calls them.
fn with_labels(labels: &[(&str, &str)]) -> Style {
    let labels = labels.iter().map(|(alert, loki)| LokiLabel {
        alert: (*alert).to_owned(),
        loki: (*loki).to_owned(),
        fallback: false,
    });
    let grafana = Grafana {
        url: "https://grafana.example.org".to_owned(),
        loki_datasource: "loki".to_owned(),
        org_id: 1,
        labels: labels.collect(),
        line_filter: Some("error".to_owned()),
    };
    let style =
        Style::new(&Display::default(), &Links { rewrite: Vec::new(), grafana: Some(grafana) }).expect("a style");
    style.with_routes(&BTreeMap::new()).expect("no links")
}

fn of(style: &Style, alert: &Alert) -> Option<LogsQuery> {
    logs_query(style, &incident(vec![alert.clone()]), alert)
}

fn explore(panes: &Value) -> String {
    format!("https://g.example.org/explore?schemaVersion=1&panes={}", urlencoding::encode(&panes.to_string()))
}

fn pane(queries: &Value) -> String {
    explore(&json!({ "abc": { "datasource": "uid", "queries": queries } }))
}

fn loki(expr: &str) -> Value {
    json!({ "refId": "A", "datasource": { "type": "loki", "uid": "uid" }, "expr": expr })
}

const LABELS: [(&str, &str); 2] = [("namespace", "shop"), ("pod", "api-\"1")];
const BUILT: &str = "{namespace=\"shop\",pod=\"api-\\\"1\"} |= \"error\"";

#[test]
fn the_query_is_that_of_the_logs_link() {
    let prometheus = json!({ "refId": "A", "datasource": { "type": "prometheus", "uid": "p" }, "expr": "up" });
    let hidden =
        json!({ "refId": "A", "datasource": { "type": "loki", "uid": "uid" }, "expr": "{a=\"0\"}", "hide": true });
    let left = json!({ "datasource": "Loki", "queries": [{ "refId": "A", "expr": "{a=\"left\"}" }], "range": { "from": "now-1h", "to": "now" } });
    let array = json!(["now-1h", "now", "Loki", { "expr": "{a=\"array\"}" }]);
    let state =
        |state: &Value| format!("https://g.example.org/explore?left={}", urlencoding::encode(&state.to_string()));
    for (logs_url, expected) in [
        (pane(&json!([loki("{a=\"b\"} |= \"x & y\"")])), "{a=\"b\"} |= \"x & y\""),
        (pane(&json!([prometheus, hidden, loki(" "), loki(" {a=\"2\"} ")])), "{a=\"2\"}"),
        (pane(&json!([{ "expr": "{a=\"no kind\"}" }])), "{a=\"no kind\"}"),
        (state(&left), "{a=\"left\"}"),
        (state(&array), "{a=\"array\"}"),
        // Raw, as people write it.
        ("https://g/explore?panes={\"a\":{\"queries\":[{\"expr\":\"{a=`raw`}\"}]}}".to_owned(), "{a=`raw`}"),
        // What leads elsewhere, or nowhere, says nothing about Loki.
        (pane(&json!([prometheus])), BUILT),
        (pane(&json!([{ "datasource": { "type": "elasticsearch" }, "query": "level:error" }])), BUILT),
        ("https://kibana.example.org/app/discover".to_owned(), BUILT),
        ("https://g.example.org/explore".to_owned(), BUILT),
        (pane(&json!([{ "expr": 7 }])), BUILT),
        ("not a link".to_owned(), BUILT),
        (String::new(), BUILT),
    ] {
        let alert = alert("1", &LABELS, &[("logs_url", &logs_url)]);
        let found = of(&with_grafana(), &alert).expect("a query");
        assert_eq!(found.query, expected, "{logs_url}");
        let link = found.link.expect("a link");
        let host = if expected == BUILT { "https://grafana.example.org/explore?" } else { "https://g" };
        assert!(link.starts_with(host), "{link}");
    }
}

/// Loki refuses two values of one label.
#[test]
fn of_two_labels_that_are_one_in_loki_the_first_wins() {
    let style = with_labels(&[("namespace", "ns"), ("pod", "ns")]);
    let found = of(&style, &alert("1", &LABELS, &[])).expect("a query");
    assert_eq!(found.query, "{ns=\"shop\"} |= \"error\"");
}

#[test]
fn the_link_shows_the_alerts_time_unless_it_has_its_own() {
    let alert = alert("1", &LABELS, &[]);
    let link = of(&with_grafana(), &alert).expect("a query").link.expect("a link");
    let begins = (at(12, 3).0 - 15 * 60_000).to_string();
    assert!(link.contains(&begins) && link.contains("%22now%22"), "{link}");
    let mut own = alert.clone();
    let range = json!({ "from": "now-3h", "to": "now" });
    let panes = json!({ "abc": { "datasource": "uid", "queries": [loki("{a=\"b\"}")], "range": range } });
    own.doc.annotations.insert("logs_url".to_owned(), explore(&panes));
    let link = of(&with_grafana(), &own).expect("a query").link.expect("a link");
    assert!(link.contains("now-3h") && !link.contains(&begins), "{link}");
}

#[test]
fn without_a_query_there_is_nothing_to_ask() {
    assert_eq!(of(&style(), &alert("1", &LABELS, &[])), None);
    assert_eq!(of(&with_grafana(), &alert("1", &[("alertname", "X")], &[])), None);
    let long = pane(&json!([loki(&format!("{{a=\"{}\"}}", "x".repeat(9000)))]));
    let found = of(&style(), &alert("1", &[], &[("logs_url", &long)])).expect("a query");
    assert_eq!((found.query.len(), found.link), (9006, None), "too long for a link, and not for Loki");
}
