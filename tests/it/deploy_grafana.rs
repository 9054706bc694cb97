//! `deploy/grafana/dashboard.json`: each of its queries tells something of a receiver that has delivered an alert, asked of
//! a real Prometheus that scrapes it.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Payload, Prometheus, PrometheusConfig, ReceiverBuilder, Scene, Source, eventually};

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboard.json");
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    value.as_array().unwrap_or_else(|| panic!("no {what}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// What is asked where, the labels that its legend names among it.
struct Query {
    place: String,
    expr: String,
    labels: Vec<String>,
}

/// As Grafana fills it in while everything is chosen.
fn substituted(expr: &str) -> String {
    let mut filled = expr.replace("$__rate_interval", "5m");
    for variable in ["$instance", "$route", "$room"] {
        filled = filled.replace(variable, ".*");
    }
    assert!(!filled.contains('$'), "an unknown variable in {expr}");
    filled
}

fn holes(legend: &str) -> Vec<String> {
    legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or_default().to_owned()).collect()
}

/// Those of the panels, the annotations and the variables.
fn queries(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in list(&dashboard["panels"], "panels").iter().filter(|panel| panel["type"] != "row") {
        for target in list(&panel["targets"], "targets") {
            let place = format!("panel {}", text(panel, "title"));
            let labels = holes(text(target, "legendFormat"));
            queries.push(Query { place, expr: substituted(text(target, "expr")), labels });
        }
    }
    for annotation in list(&dashboard["annotations"]["list"], "annotations") {
        if let Some(expr) = annotation["expr"].as_str() {
            let place = format!("annotation {}", text(annotation, "name"));
            queries.push(Query { place, expr: substituted(expr), labels: Vec::new() });
        }
    }
    for variable in list(&dashboard["templating"]["list"], "variables") {
        if variable["type"] == "query" {
            let call = text(&variable["query"], "query");
            let call =
                call.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("label_values");
            let (series, label) = call.rsplit_once(", ").expect("a series and a label");
            let place = format!("variable {}", text(variable, "name"));
            queries.push(Query { place, expr: substituted(series), labels: vec![label.to_owned()] });
        }
    }
    queries
}

/// What is missing from the answer, if anything.
fn fault(query: &Query, result: &Value) -> Option<String> {
    let series = result.as_array()?;
    if series.is_empty() {
        return Some("is empty".to_owned());
    }
    for found in series {
        if found["value"][1] == "NaN" {
            return Some(format!("is NaN: {found}"));
        }
        if let Some(label) = query.labels.iter().find(|label| found["metric"][label.as_str()].is_null()) {
            return Some(format!("has no label {label}: {found}"));
        }
    }
    None
}

/// Everything that has metrics only where it is configured.
fn shows_and_watches(source: &str) -> String {
    format!(
        "[evidence]\nprometheus = {{ url = {source:?} }}\n[routes.default.evidence]\nmin_severity = \"warning\"\n\
         [[routes.default.heartbeats]]\nname = \"prometheus\"\nmatch = {{ alertname = \"Watchdog\" }}\n\
         ping_url = \"{source}/ping\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_tells_something_of_a_receiver_that_delivered() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let mut receiver = ReceiverBuilder::of(&scene).toml(&shows_and_watches(&source.url())).start().await;
    let target = receiver.url().replace("http://", "");
    let scraping = PrometheusConfig::new("groups: []").scrape_target("receiver", &target);
    let prometheus = Prometheus::start(scraping).await;
    let scraped = async || {
        let up = prometheus.query("matrix_alertmanager_receiver_homeserver_up == 1").await;
        (!up.as_array()?.is_empty()).then_some(())
    };
    eventually("a first scrape", DEADLINE, scraped).await;
    receiver.accept("default", Payload::group("Watchdog").firing(&["n01"])).await;
    receiver.accept("default", Payload::group("PodCrashLooping").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.wait_metric("evidence_total", &[("outcome", "sent")], |sent| sent == 1.0).await;
    receiver.wait_metric("heartbeat_pings_total", &[("outcome", "sent")], |sent| sent == 1.0).await;
    for expr in [
        r#"matrix_alertmanager_receiver_room_events_total{outcome="sent"} > 0"#,
        // Those that are not there before, and are gone with the process: two scrapes.
        "increase(matrix_alertmanager_receiver_evidence_total[5m])",
        "increase(matrix_alertmanager_receiver_heartbeat_pings_total[5m])",
    ] {
        let seen = async || (!prometheus.query(expr).await.as_array()?.is_empty()).then_some(());
        eventually(&format!("scrapes of {expr}"), DEADLINE, seen).await;
    }
    // The annotation marks starts.
    receiver.restart().await;

    let queries = queries(&dashboard());
    assert!(queries.len() > 30, "{}", queries.len());
    for query in &queries {
        let end = tokio::time::Instant::now() + DEADLINE;
        while let Some(fault) = fault(query, &prometheus.query(&query.expr).await) {
            assert!(tokio::time::Instant::now() < end, "{}: {} {fault}", query.place, query.expr);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// As it must be to be loaded from a file, by a sidecar or by hand.
#[test]
fn it_can_be_provisioned() {
    let dashboard = dashboard();
    assert!(dashboard["__inputs"].is_null() && dashboard["__requires"].is_null(), "it would ask at import");
    assert_eq!(dashboard["id"], Value::Null);
    assert_eq!(text(&dashboard, "uid"), "matrix-alertmanager-receiver");
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 41));
    let variables: Vec<_> =
        list(&dashboard["templating"]["list"], "variables").iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(variables, ["datasource", "instance", "route", "room"]);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard["panels"], "panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{}", panel["id"]);
        let title = text(panel, "title");
        let side = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title} has no {key}"));
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(x < 24 && taken.insert((x, y)), "{title} lies on another panel, or beyond the edge");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(!text(panel, "description").is_empty(), "{title}");
        let datasource = json!({ "type": "prometheus", "uid": "${datasource}" });
        assert_eq!(panel["datasource"], datasource, "{title}");
        for target in list(&panel["targets"], "targets") {
            assert_eq!(target["datasource"], datasource, "{title}");
        }
    }
}
