//! Logs links all the way: a rule made by `logs-url`, filled in by a real Prometheus, corrected and given its time by the
//! receiver; and what the commands say of links.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{
    Alert, Alertmanager, AlertmanagerConfig, DEADLINE, Payload, Prometheus, PrometheusConfig, ReceiverBuilder,
    RoomView, Scene, Switch,
};

/// A label value as Windows, URLs and people make them: quotation marks, backslashes, and all that means something in a
/// URL.
const NASTY: &str = r#"C:\Programs & "100%" a+b#ü {x} |= %41 'y'"#;
const MINUTE: i64 = 60_000;

/// Without any environment, so that no config of the developer is read.
fn logs_url(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
    command.env_clear().arg("logs-url").args(args).output().expect("the receiver's binary starts")
}

fn printed(args: &[&str]) -> String {
    let output = logs_url(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
    text(&output.stdout).trim_end_matches('\n').to_owned()
}

/// The panes of the Logs link of the card, decoded by a reader of URLs that is not the receiver's.
fn panes(view: &RoomView) -> Value {
    let card = view.card();
    let url =
        card.body().lines().find_map(|line| line.strip_prefix("Logs: ")).unwrap_or_else(|| panic!("{}", card.body()));
    let html = format!("href=\"{}\"", url.replace('&', "&#38;"));
    assert!(card.formatted_body().contains(&html), "{html} in {}", card.formatted_body());
    let url = url::Url::parse(url).expect("a URL");
    let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    assert_eq!(parameter("schemaVersion").as_deref(), Some("1"));
    serde_json::from_str(&parameter("panes").expect("panes")).expect("JSON")
}

fn time(range: &Value, end: &str) -> i64 {
    let text = range[end].as_str().expect("a string");
    assert_eq!(text.len(), 13, "{text}");
    text.parse().expect("milliseconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_made_by_logs_url_leads_to_the_alerts_own_logs() {
    let line = printed(&[
        "--grafana",
        "https://grafana.example.org/",
        "--datasource",
        "loki-uid",
        "--selector",
        r#"namespace="{{ $labels.namespace }}", volume="{{$labels.volume}}""#,
        "--line-filter",
        r#"|~ "can't|it's \"{{ $labels.volume }}\"""#,
        "--org-id",
        "3",
        "--yaml",
    ]);
    assert!(
        line.starts_with("logs_url: 'https://grafana.example.org/explore?schemaVersion=1&orgId=3&panes=%7B"),
        "{line}"
    );
    let rules = format!(
        "groups:\n- name: demo\n  rules:\n  - alert: Full\n    expr: demo_full > 3\n    annotations:\n      {line}\n"
    );
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let alertmanager = Alertmanager::start(AlertmanagerConfig::webhook(&receiver.webhook_url("default"))).await;
    let switch = Switch::start().await;
    let escaped = NASTY.replace('\\', r"\\").replace('"', r#"\""#);
    let series = format!(r#"demo_full{{namespace="media",volume="{escaped}"}}"#);
    switch.set(&series, 5.0);
    let config = PrometheusConfig::new(&rules).alertmanager(&alertmanager).scrape("disks", &switch);
    let _prometheus = Prometheus::start(config).await;

    // LogQL's strings, as Go quotes them.
    let quoted = escaped;
    let query = format!(r#"{{namespace="media", volume="{quoted}"}} |~ "can't|it's \"{quoted}\"""#);
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let before = jiff::Timestamp::now().as_millisecond();
    let pane = panes(&view)["log"].clone();
    assert_eq!(pane["queries"][0]["expr"].as_str(), Some(query.as_str()));
    assert_eq!(
        (&pane["datasource"], &pane["queries"][0]["datasource"]["uid"]),
        (&"loki-uid".into(), &"loki-uid".into())
    );
    assert_eq!(pane["range"]["to"], "now");
    let from = time(&pane["range"], "from");
    assert!((0..3 * MINUTE).contains(&(before - 15 * MINUTE - from)), "{from} for an alert of {before}");

    switch.set(&series, 0.0);
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().has("RESOLVED");
    let view = scene.room.wait_for("green", DEADLINE, green).await;
    let over = panes(&view)["log"].clone();
    assert_eq!(over["queries"], pane["queries"]);
    assert_eq!(time(&over["range"], "from"), from);
    let to = time(&over["range"], "to") - 5 * MINUTE;
    assert!((from + 15 * MINUTE..=jiff::Timestamp::now().as_millisecond()).contains(&to), "{to}");
    assert_eq!(receiver.metric("broken_links_total", &[]).await, 0.0);
}

#[test]
fn logs_url_says_what_it_cannot_do() {
    let base = ["--grafana", "https://g.example.org", "--datasource", "loki", "--selector"];
    let with = |selector: &str, more: &[&str]| {
        let args: Vec<&str> = base.iter().copied().chain([selector]).chain(more.iter().copied()).collect();
        logs_url(&args)
    };
    let refused = |output: Output| {
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(with("", &[])).contains("--selector: names no label"));
    assert!(refused(with(" {} ", &[])).contains("--selector: names no label"));
    assert!(refused(with("a={{ $labels.a }}", &[])).contains("{{ $labels.a }} is not in double quotes"));
    assert!(refused(with("a=`{{ $labels.a }}`", &[])).contains("is not in double quotes"));
    assert!(refused(with("a=\"b\"", &["--line-filter", "|= {{ .x }}"])).contains("is not in double quotes"));
    assert!(refused(with("a=\"b\"", &["--line-filter", "x\ny"])).contains("line breaks"));
    let elsewhere =
        |grafana: &str| refused(logs_url(&["--grafana", grafana, "--datasource", "l", "--selector", "a=\"b\""]));
    assert!(elsewhere("grafana.example.org").contains("--grafana: the link is no http or https URL"));
    assert!(elsewhere("https://u:p@g.example.org").contains("--grafana: the link holds a user name or password"));
    assert!(elsewhere("https://g.example.org/?x").contains("--grafana: the URL of Grafana alone"));
    assert_eq!(logs_url(&[]).status.code(), Some(2));

    let plain = ["a=\"{{ $labels.a }}\"", "--line-filter", "it's {{ .b | urlquery }}"];
    let args: Vec<&str> = base.iter().copied().chain(plain).collect();
    let url = printed(&args);
    assert!(url.contains("%5C%22{{ $labels.a | reReplaceAll `([\"\\\\])` `\\\\\\$1` | urlquery }}%5C%22"), "{url}");
    assert!(url.contains("it%27s%20{{ .b | urlquery }}"), "{url}");
    let kept = printed(&[&args[..], &["--keep-holes"]].concat());
    assert!(kept.contains("%5C%22{{ $labels.a }}%5C%22"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_ones_own_and_broken_ones_in_the_room_and_in_the_metrics() {
    let scene = Scene::new().await;
    let links = r#"
        [links]
        grafana = { url = "https://grafana.example.org", loki_datasource = "loki", labels = ["instance"] }
        [routes.default]
        links = [
            { label = "Node", url = "https://g.example.org/d/n?var-node={{ labels.instance | urlencode }}" },
            { label = "Bad", url = "{{ annotations.bad }}", when = "annotations.bad" },
        ]"#;
    let receiver = ReceiverBuilder::of(&scene).toml(links).start().await;
    let checked = receiver.cli(&["check"]).await;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("links: 2 custom links"), "{said}");
    let broken = |reason: &str| [("link", "logs"), ("reason", reason)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    for reason in ["not_a_url", "too_long", "not_json", "wrong_shape"] {
        let labels = broken(reason);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(receiver.metric("broken_links_total", &labels).await, 0.0);
    }
    let alert = Alert::firing("n 01")
        .annotation("logs_url", "https://grafana.example.org/explore?schemaVersion=1&panes={{ nothing }}")
        .annotation("bad", "javascript:alert(1)");
    receiver.accept("default", Payload::group("DiskFull").alert(alert)).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let card = view.card();
    assert!(
        card.has("logs_url holds a state that is no JSON: …/explore?schemaVersion=1&panes={{ nothing }}"),
        "{}",
        card.body()
    );
    assert!(
        card.has("Node: https://g.example.org/d/n?var-node=n%2001\n") && !card.has("javascript"),
        "{}",
        card.body()
    );
    assert_eq!(panes(&view)["log"]["queries"][0]["expr"], "{instance=\"n 01\"}");
    receiver.wait_metric("broken_links_total", &[("link", "logs"), ("reason", "not_json")], |count| count >= 1.0).await;
    receiver
        .wait_metric("broken_links_total", &[("link", "extra"), ("reason", "not_a_url")], |count| count >= 1.0)
        .await;

    let wrong = ReceiverBuilder::of(&scene)
        .toml("[[routes.default.links]]\nlabel = \"X\"\nurl = \"https://g.example.org/{{ labels.\"")
        .unstarted();
    let checked = wrong.cli(&["check"]).await;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("FAULT  routes.default.links[0].url: column 32: "), "{said}");
    let started = wrong.cli(&["serve"]).await;
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(1), "{said}");
    assert!(said.contains("routes.default.links[0].url: column 32: "), "{said}");
}
