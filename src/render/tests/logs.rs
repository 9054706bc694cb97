//! The Logs link on cards and in replies: its time, what is built from labels, what is broken, and operator's links.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rendered::{card, digest, reply};
use super::{
    check::assert_sound,
    samples::{absent, alert, at, incident, note, resolved, style},
};
use crate::{
    config::{Config, Display, ExtraLink, Grafana, Links, LokiLabel, Purpose, Rewrite, Route},
    model::{Alert, Form, Incident, NoteKind, RouteName},
    render::{BrokenLink, LinkTemplateErrors, Style, links::alert_links::broken_links},
};

const EXPLORE: &str = "https://grafana.example.org/explore?schemaVersion=1&panes=%7B%22abc%22:%7B%22datasource%22:%22loki%22,\
                       %22queries%22:%5B%7B%22expr%22:%22%7Ba=1%7D%22%7D%5D%7D%7D";

/// The URLs of the plain body with this label, and the first pane's range of each.
fn logs_of(body: &str) -> Vec<(String, String)> {
    let line = |line: &str| line.trim().strip_prefix("Logs").and_then(|rest| Some(rest.split_once(": ")?.1.to_owned()));
    let range = |url: String| {
        let pane = pane_of(&url);
        let end = |key: &str| pane["range"][key].as_str().expect("a range").to_owned();
        (end("from"), end("to"))
    };
    body.lines().filter_map(line).map(range).collect()
}

fn pane_of(url: &str) -> Value {
    let parsed = url::Url::parse(url).expect("a URL");
    let panes = parsed.query_pairs().find(|(key, _)| key == "panes").expect("panes").1;
    let panes: Value = serde_json::from_str(&panes).expect("JSON");
    panes.as_object().expect("panes").values().next().expect("a pane").clone()
}

fn shown(style: &Style, incident: &Incident) -> String {
    let message = card(style, incident, None, at(12, 30), Form::Full);
    assert_sound(&message);
    message.body
}

fn ms(hour: i64, minute: i64) -> String {
    at(hour, minute).0.to_string()
}

/// A style for one route `default` with these links.
fn with(grafana: Option<Grafana>, links: &[(&str, &str, Option<&str>)]) -> Result<Style, LinkTemplateErrors> {
    let name = RouteName::parse("default").unwrap();
    let text = |text: &str| text.to_owned();
    let links =
        links.iter().map(|(label, url, when)| ExtraLink { label: text(label), url: text(url), when: when.map(text) });
    let route = Route { grafana, links: links.collect(), ..Route::with_defaults(name.clone()) };
    style().with_routes(&BTreeMap::from([(name, route)]))
}

fn grafana() -> Grafana {
    let label = |name: &str, fallback| LokiLabel { alert: name.to_owned(), loki: name.to_owned(), fallback };
    Grafana {
        url: "https://grafana.example.org/".to_owned(),
        loki_datasource: "loki-uid".to_owned(),
        org_id: 7,
        labels: vec![label("namespace", false), label("pod", false), label("job", true), label("instance", true)],
        line_filter: None,
    }
}

fn exploring(fingerprint: &str) -> Alert {
    alert(fingerprint, &[("alertname", "X"), ("node", fingerprint)], &[("logs_url", EXPLORE), ("summary", "s")])
}

#[test]
fn one_alert_has_its_own_time() {
    let firing = exploring("a");
    assert_eq!(logs_of(&shown(&style(), &incident(vec![firing.clone()]))), [(ms(11, 48), "now".to_owned())]);
    // It may fire again, so that its end is not known.
    let quiet = absent(firing.clone(), at(12, 10));
    assert_eq!(logs_of(&shown(&style(), &incident(vec![quiet]))), [(ms(11, 48), "now".to_owned())]);
    let over = resolved(firing, at(12, 20));
    assert_eq!(logs_of(&shown(&style(), &incident(vec![over]))), [(ms(11, 48), ms(12, 25))]);
}

#[test]
fn a_shared_link_has_the_time_of_all_that_share_it() {
    let (mut early, late) = (exploring("a"), exploring("b"));
    early.starts_at = at(11, 0);
    let both = incident(vec![early.clone(), late.clone()]);
    assert_eq!(logs_of(&shown(&style(), &both)), [(ms(10, 45), "now".to_owned())]);
    let over = incident(vec![resolved(early.clone(), at(12, 40)), resolved(late.clone(), at(12, 20))]);
    assert_eq!(logs_of(&shown(&style(), &over)), [(ms(10, 45), ms(12, 45))]);
    // One that is over has no say while another fires.
    let one_left = incident(vec![resolved(early.clone(), at(12, 20)), late.clone()]);
    assert_eq!(logs_of(&shown(&style(), &one_left)), [(ms(11, 48), "now".to_owned())]);

    // Links that differ have a time each.
    let mut other = late.clone();
    other.doc.annotations.insert("logs_url".to_owned(), EXPLORE.replace("a=1", "a=2"));
    let differing = incident(vec![early.clone(), other]);
    let mut ranges = logs_of(&shown(&style(), &differing));
    ranges.sort();
    assert_eq!(ranges, [(ms(10, 45), "now".to_owned()), (ms(11, 48), "now".to_owned())]);
}

#[test]
fn replies_and_digests_show_the_time_as_well() {
    let both = incident(vec![exploring("a"), exploring("b")]);
    let note = note(NoteKind::NewFiring, &["b"]);
    let said = reply(&style(), &both, &[&note], None, at(12, 30), Form::Full);
    assert_eq!(logs_of(&said.body), [(ms(11, 48), "now".to_owned())]);
    let reported = digest(&style(), &[&both], None, at(12, 30), Form::Full, true);
    assert_eq!(logs_of(&reported.message.body), [(ms(11, 48), "now".to_owned())]);
}

#[test]
fn without_an_annotation_a_link_is_built_from_labels() {
    let query = |style: &Style, labels: &[(&str, &str)]| {
        let incident = incident(vec![alert("1", labels, &[])]);
        let url =
            shown(style, &incident).lines().find_map(|line| line.strip_prefix("Logs: ").map(ToOwned::to_owned))?;
        assert!(url.starts_with("https://grafana.example.org/explore?schemaVersion=1&orgId=7&panes="), "{url}");
        let pane = pane_of(&url);
        assert_eq!((&pane["datasource"], &pane["range"]["to"]), (&"loki-uid".into(), &"now".into()));
        assert_eq!(pane["queries"][0]["datasource"]["uid"], "loki-uid");
        Some(pane["queries"][0]["expr"].as_str().expect("a query").to_owned())
    };
    let some = |text: &str| Some(text.to_owned());
    let usual = with(Some(grafana()), &[]).unwrap();
    let labels = [("pod", "a-0"), ("job", "kube-state-metrics"), ("namespace", "media"), ("severity", "x")];
    assert_eq!(query(&usual, &labels), some("{namespace=\"media\",pod=\"a-0\"}"));
    assert_eq!(query(&usual, &[("job", "node"), ("instance", "n1:9100")]), some("{job=\"node\",instance=\"n1:9100\"}"));
    assert_eq!(query(&usual, &[("alertname", "X"), ("namespace", "")]), None, "no label of use");
    assert_eq!(query(&with(None, &[]).unwrap(), &labels), None, "not asked for");
    let hostile = "a\"} |= \"x\\\n\u{1}%41&panes={}#+";
    assert_eq!(
        query(&usual, &[("namespace", hostile)]),
        some("{namespace=\"a\\\"} |= \\\"x\\\\\\n\\u0001%41&panes={}#+\"}")
    );
    let mapped =
        |alert: &str, loki: &str| LokiLabel { alert: alert.to_owned(), loki: loki.to_owned(), fallback: false };
    let mapping = vec![mapped("exported_namespace", "k8s_ns"), mapped("namespace", "k8s_ns")];
    let filtered = Grafana { labels: mapping, line_filter: Some("an \"error\"".to_owned()), ..grafana() };
    let filtered = with(Some(filtered), &[]).unwrap();
    assert_eq!(query(&filtered, &[("namespace", "m")]), some("{k8s_ns=\"m\"} |= \"an \\\"error\\\"\""));
    let both = [("namespace", "monitoring"), ("exported_namespace", "media")];
    assert_eq!(query(&filtered, &both), some("{k8s_ns=\"media\"} |= \"an \\\"error\\\"\""));
    let logql = Grafana { line_filter: Some("|~ \"a|b\"".to_owned()), ..grafana() };
    assert_eq!(query(&with(Some(logql), &[]).unwrap(), &[("pod", "p")]), some("{pod=\"p\"} |~ \"a|b\""));
    // An annotation comes first.
    let annotated = incident(vec![alert("1", &labels, &[("logs_url", "https://logs.example.org/")])]);
    assert!(shown(&usual, &annotated).contains("Logs: https://logs.example.org/\n"));
}

#[test]
fn what_is_broken_is_text_and_counted() {
    let broken = |url: &str| alert("1", &[("alertname", "X")], &[("logs_url", url), ("summary", "s")]);
    let cut = "https://grafana.example.org/explore?schemaVersion=1&panes=%7B%22abc%22";
    let one = incident(vec![broken(cut)]);
    let message = card(&style(), &one, None, at(12, 30), Form::Full);
    assert_sound(&message);
    let line = "logs_url holds a state that is no JSON: …/explore?schemaVersion=1&panes={\"abc\"";
    assert!(message.body.lines().any(|l| l == line), "{}", message.body);
    assert!(!message.html.contains("grafana.example.org") && !message.body.contains("Logs:"), "{}", message.html);
    assert_eq!(broken_links(&style(), &one), [BrokenLink { link: "logs", reason: "not_json" }]);
    let several = incident(vec![broken("see the wiki"), Alert { fingerprint: "2".to_owned(), ..broken("x") }]);
    let body = shown(&style(), &several);
    assert!(body.contains("logs_url of 2 alerts is no http or https URL: "), "{body}");
    // A link that can be built is better than none; the rule wants mending all the same.
    let built = incident(vec![alert("1", &[("pod", "p")], &[("logs_url", "see the wiki")])]);
    let body = shown(&with(Some(grafana()), &[]).unwrap(), &built);
    assert!(
        body.contains("logs_url is no http or https URL: see the wiki\n") && body.contains("Logs: https://"),
        "{body}"
    );
    assert!(broken_links(&style(), &incident(vec![exploring("a")])).is_empty());
}

/// Such a link is dropped, and the card keeps all else that it says.
#[test]
fn an_enormous_link_eats_no_card() {
    for length in [3000, 4000, 5000, 20_000, 200_000] {
        let url = format!("{EXPLORE}&x={}", "{".repeat(length));
        let mut one = exploring("a");
        one.doc.annotations.insert("logs_url".to_owned(), url);
        let many: Vec<Alert> = (0..40).map(|n| Alert { fingerprint: n.to_string(), ..one.clone() }).collect();
        for incident in [incident(vec![one.clone()]), incident(many)] {
            let body = shown(&style(), &incident);
            assert!(body.contains("— s") && body.contains("Silence: "), "{length}: {body}");
            assert_eq!(body.contains("logs_url"), !body.contains("Logs: "), "{length}: {body}");
        }
    }
}

#[test]
fn links_of_ones_own() {
    let style = with(
        None,
        &[
            ("Pods", "https://g.example.org/d/x?ns={{ labels.namespace | urlencode }}&s={{ startsAtMs }}", None),
            ("Old", "https://g.example.org/{{ name }}", Some("severity == 'critical'")),
            ("Evil", "{{ annotations.url }}", Some("annotations.url")),
            ("Fails", "https://g.example.org/{{ labels.fail / 2 }}", Some("labels.fail")),
        ],
    )
    .unwrap();
    let of = |labels: &[(&str, &str)], annotations: &[(&str, &str)]| {
        let incident = incident(vec![alert("1", labels, annotations)]);
        let body = shown(&style, &incident);
        let own = body.lines().filter(|line| ["Pods", "Old", "Evil", "Fails"].iter().any(|own| line.starts_with(own)));
        let reasons: Vec<&str> = broken_links(&style, &incident).iter().map(|broken| broken.reason).collect();
        (own.map(ToOwned::to_owned).collect::<Vec<_>>(), reasons)
    };
    let start = at(12, 3).0;
    let pods = |ns: &str| format!("Pods: https://g.example.org/d/x?ns={ns}&s={start}");
    assert_eq!(of(&[("namespace", "media")], &[]), (vec![pods("media")], vec![]));
    assert_eq!(of(&[("namespace", "a&b c#\"<x>")], &[]).0, [pods("a%26b%20c%23%22%3Cx%3E")]);
    assert_eq!(
        of(&[("alertname", "A"), ("severity", "critical")], &[]),
        (vec!["Old: https://g.example.org/A".to_owned()], vec![])
    );
    assert_eq!(of(&[], &[("url", "javascript:alert(1)")]), (vec![], vec!["not_a_url"]));
    assert_eq!(of(&[], &[("url", &format!("https://a/{}", "x".repeat(5000)))]), (vec![], vec!["too_long"]));
    assert_eq!(
        of(&[], &[("url", "https://u:p@e.example.org/\u{202e}x")]).0,
        ["Evil: https://e.example.org/%E2%80%AEx"]
    );
    assert_eq!(of(&[("fail", "1"), ("namespace", "m")], &[]), (vec![pods("m")], vec!["template_failed"]));

    // One that all alerts share stands once, others with their alerts.
    let node = |name: &str, namespace: &str| alert(name, &[("node", name), ("namespace", namespace)], &[]);
    let shared = shown(&style, &incident(vec![node("a", "m"), node("b", "m")]));
    assert_eq!(shared.matches("Pods: ").count(), 1, "{shared}");
    assert!(shared.contains(&format!("\n{}\n", pods("m"))), "{shared}");
    let apart = shown(&style, &incident(vec![node("a", "m"), node("b", "n")]));
    assert!(apart.contains(&format!("  {}\n", pods("m"))) && apart.contains(&format!("  {}\n", pods("n"))), "{apart}");
}

#[test]
fn templates_that_cannot_work_are_told_with_key_and_column() {
    let faults =
        |url: &str, when: Option<&str>| with(None, &[("A", "https://a", None), ("B", url, when)]).unwrap_err().0;
    let reported: Vec<String> = [
        ("https://a/{{ labels.", None),
        ("https://a/{{ labels.ns | urlencod }}", None),
        ("https://ü/{{ labels.namespace | urlencod }}", None),
        ("https://a/{% for x in %}", None),
        ("https://a/{{ 1 / 0 }}", None),
        ("https://a/", Some("labels.a ==")),
        ("https://a/", Some("labels.namespace | nothing")),
        ("https://a/", Some("x %}{{ y")),
    ]
    .into_iter()
    .flat_map(|(url, when)| faults(url, when))
    .collect();
    insta::assert_snapshot!(reported.join("\n"), @r"
    routes.default.links[1].url: column 20: syntax error: unexpected end of input, expected identifier or integer
    routes.default.links[1].url: column 26: unknown filter: filter urlencod is unknown
    routes.default.links[1].url: column 33: unknown filter: filter urlencod is unknown
    routes.default.links[1].url: column 23: syntax error: unexpected end of block
    routes.default.links[1].url: column 14: invalid operation: unable to calculate 1 / 0
    routes.default.links[1].when: column 10: syntax error: unexpected end of input, expected expression
    routes.default.links[1].when: column 20: unknown filter: filter nothing is unknown
    routes.default.links[1].when: column 4: syntax error: unexpected `}`
    ");
}

/// Every kind of link goes through `links.rewrite`.
#[test]
fn every_link_is_rewritten() {
    let rewrite =
        vec![Rewrite { from: "http://internal:3000".to_owned(), to: "https://outside.example.org/x".to_owned() }];
    let inside = "http://internal:3000";
    let links = Links { rewrite, grafana: None };
    let name = RouteName::parse("default").unwrap();
    let custom_links = ExtraLink { label: "Own".to_owned(), url: format!("{inside}/own"), when: None };
    let grafana = Some(Grafana { url: inside.to_owned(), ..grafana() });
    let route = Route { grafana, links: vec![custom_links], ..Route::with_defaults(name.clone()) };
    let style = Style::new(&Display::default(), &links).unwrap().with_routes(&BTreeMap::from([(name, route)])).unwrap();
    let url = |path: &str| format!("{inside}/{path}");
    let (runbook, dashboard, panel) = (url("runbook"), url("dashboard"), url("panel"));
    let annotations = [("runbook_url", runbook.as_str()), ("dashboard_url", &dashboard), ("panel_url", &panel)];
    let mut one = alert("1", &[("pod", "p"), ("alertname", "X")], &annotations);
    one.doc.generator_url = url("graph?g0.expr=up");
    let mut incident = incident(vec![one]);
    incident.doc.external_url = url("alertmanager");
    let body = shown(&style, &incident);
    let links: Vec<(&str, &str)> = body.lines().filter_map(|line| line.split_once(": http")).collect();
    let labels: Vec<&str> = links.iter().map(|(label, _)| *label).collect();
    assert_eq!(labels, ["Logs", "Source", "Runbook", "Dashboard", "Panel", "Own", "Silence"]);
    assert!(links.iter().all(|(_, url)| url.starts_with("s://outside.example.org/x/")), "{body}");
    // In its annotation, and with the time put in after it.
    incident.alerts[0]
        .doc
        .annotations
        .insert("logs_url".to_owned(), EXPLORE.replace("https://grafana.example.org", inside));
    let body = shown(&style, &incident);
    assert!(
        body.contains("Logs: https://outside.example.org/x/explore?") && body.contains("%22to%22%3A%22now%22"),
        "{body}"
    );
    incident.alerts[0].doc.silence_url = url("silence");
    assert!(shown(&style, &incident).ends_with("Silence: https://outside.example.org/x/silence"));
    let reported = digest(&style, &[&incident], None, at(12, 30), Form::Full, true).message.body;
    assert!(
        reported.contains("Alertmanager: https://outside.example.org/x/alertmanager\n")
            || reported.ends_with("/x/alertmanager"),
        "{reported}"
    );
    assert!(!reported.contains(inside), "{reported}");
}

/// Of a route that the config does not know any more.
#[test]
fn an_incident_of_an_old_route_has_the_links_of_all() {
    let links = Links { rewrite: Vec::new(), grafana: Some(grafana()) };
    let style = Style::new(&Display::default(), &links).unwrap().with_routes(&BTreeMap::new()).unwrap();
    assert!(
        shown(&style, &incident(vec![alert("1", &[("pod", "p")], &[])])).contains("Logs: https://grafana.example.org/")
    );
}

#[test]
fn the_config_reaches_the_style() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let toml = "[links]\ngrafana = { url = \"https://grafana.example.org\", loki_datasource = \"loki-uid\", org_id = 7 }\n\
                [routes.default]\ngrafana = { labels = [\"team\"] }\n";
    std::fs::write(&file, toml).unwrap();
    let config = Config::load(Some(&file), &BTreeMap::new(), Purpose::Render).unwrap();
    let style = Style::new(&config.display, &config.links).unwrap().with_routes(&config.routes).unwrap();
    let body = shown(&style, &incident(vec![alert("1", &[("team", "a"), ("pod", "p")], &[])]));
    assert!(body.contains("%7Bteam%3D%5C%22a%5C%22%7D") && body.contains("orgId=7"), "{body}");
}
