//! What lies in `deploy/prometheus/`: promtool, amtool and a real Prometheus take it, and each rule tells all that a card
//! shows.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::harness::{
    Prometheus, PrometheusConfig,
    http::{Answer, client},
    metric_sources,
};

const RUNBOOK: &str = "https://runbooks.example.org/RUNBOOK-ALERTS.md#";
const GRAFANA: &str = "https://grafana.example.org/explore?schemaVersion=1&orgId=1&panes=";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn test_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join("tests")).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// What a command says on success.
fn succeeds(command: &mut Command) -> String {
    let output = command.current_dir(folder()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

#[test]
fn promtool_takes_the_rules() {
    succeeds(Command::new("promtool").args(["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"]));
}

/// Whether each fires when it should, not before, and with which words.
#[test]
fn promtool_runs_the_cases() {
    succeeds(Command::new("promtool").args(["test", "rules"]).args(test_files()));
}

#[test]
fn what_is_generated_is_up_to_date() {
    succeeds(Command::new("../../scripts/rules").arg("--check"));
}

/// Not by the script that makes it: two columns to the right stands the same.
#[test]
fn the_resource_holds_the_same_rules() {
    let (rules, resource) = (read("rules.yaml"), read("prometheusrule.yaml"));
    let (_, spec) = resource.split_once("\nspec:\n").expect("a spec");
    let groups: Vec<_> = rules.lines().skip_while(|line| *line != "groups:").collect();
    let spec: Vec<_> = spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    assert!(groups.len() > 500, "{}", groups.len());
    assert_eq!(spec, groups);
    assert!(resource.contains("\nkind: PrometheusRule\n"));
}

#[test]
fn alertmanager_takes_the_example_and_routes_as_it_says() {
    succeeds(Command::new("amtool").args(["check-config", "alertmanager.yml"]));
    let routed = |labels: &[&str]| {
        let mut command = Command::new("amtool");
        succeeds(command.args(["config", "routes", "test", "--config.file=alertmanager.yml"]).args(labels))
    };
    assert_eq!(routed(&["alertname=Watchdog", "severity=none"]), "dead-mans-switch\n");
    let own = ["alertname=ReceiverDown", "severity=critical", "notify=out-of-band"];
    assert_eq!(routed(&own), "out-of-band,matrix\n");
    assert_eq!(routed(&["alertname=PodFailed", "severity=warning"]), "matrix\n");
    assert_eq!(routed(&["alertname=NodeCPUHigh", "severity=info"]), "matrix\n");
}

/// All alerting rules, as Prometheus itself reads them.
async fn loaded_rules() -> Vec<Value> {
    let prometheus = Prometheus::start(PrometheusConfig::new(&read("rules.yaml"))).await;
    let answer = Answer::to(client().get(format!("{}/api/v1/rules?type=alert", prometheus.url()))).await;
    let answer = answer.expect("Prometheus answers").expect_ok("rules");
    let groups = answer["data"]["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_tells_what_a_card_shows() {
    let runbook = read("../../docs/RUNBOOK-ALERTS.md");
    let rules = loaded_rules().await;
    assert!(rules.len() >= 25, "{}", rules.len());
    for rule in &rules {
        let name = rule["name"].as_str().expect("a name");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        let known = ["critical", "warning", "info"].contains(&severity);
        assert!(known || (name, severity) == ("Watchdog", "none"), "{name}: {severity:?}");
        let annotation = |key: &str| {
            let text = rule["annotations"][key].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{name} has no {key}");
            text.to_owned()
        };
        annotation("summary");
        annotation("description");
        let anchor = name.to_lowercase();
        assert_eq!(annotation("runbook_url"), format!("{RUNBOOK}{anchor}"));
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} is not in the runbook");
        assert_explores(name, &annotation("logs_url"));
    }
    let headings = runbook.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(headings, rules.len(), "the runbook tells of a rule that is gone");
}

/// With its holes filled, the link opens one Loki query, and leaves the range to the receiver.
fn assert_explores(name: &str, logs_url: &str) {
    let mut filled = logs_url.to_owned();
    while let Some(start) = filled.find("{{") {
        let length = filled[start..].find("}}").unwrap_or_else(|| panic!("{name}: {logs_url}")) + "}}".len();
        let hole = &filled[start..start + length];
        assert!(hole.starts_with("{{ $labels.") && hole.ends_with(" }}"), "{name}: {hole}");
        filled.replace_range(start..start + length, "filled-in");
    }
    let panes = filled.strip_prefix(GRAFANA).unwrap_or_else(|| panic!("{name}: {logs_url}"));
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
    assert!(panes.bytes().all(stays), "{name} is not all encoded: {panes}");
    let panes = urlencoding::decode(panes).expect("UTF-8");
    let panes: Value = serde_json::from_str(&panes).unwrap_or_else(|error| panic!("{name}: {error}: {panes}"));
    let expr = panes["abc"]["queries"][0]["expr"].as_str().unwrap_or_default().to_owned();
    assert!(expr.starts_with('{') && expr.contains('}'), "{name}: {expr}");
    let query = json!({
        "refId": "A", "datasource": { "type": "loki", "uid": "loki" }, "expr": expr, "queryType": "range",
    });
    assert_eq!(panes, json!({ "abc": { "datasource": "loki", "queries": [query] } }), "{name}");
}

/// What the cases of one rule expect.
#[derive(Debug, Default)]
struct Cases {
    silent: usize,
    /// The severity and summary of each alert.
    firing: Vec<(String, String)>,
}

/// Reads the lines that matter; promtool reads all of them.
fn cases() -> BTreeMap<String, Cases> {
    let mut all = BTreeMap::<String, Cases>::new();
    for file in test_files() {
        let text = fs::read_to_string(&file).expect("a file");
        let (mut name, mut severity) = (String::new(), String::new());
        for line in text.lines().map(str::trim) {
            if let Some(alert) = line.strip_prefix("alertname: ") {
                alert.clone_into(&mut name);
            } else if line == "exp_alerts: []" {
                all.entry(name.clone()).or_default().silent += 1;
            } else if let Some(text) = line.strip_prefix("severity: ") {
                text.clone_into(&mut severity);
            } else if let Some(summary) = line.strip_prefix("summary: ") {
                let expected = (severity.to_uppercase(), summary.trim_matches('\'').to_owned());
                all.entry(name.clone()).or_default().firing.push(expected);
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_is_seen_firing_and_not_firing() {
    let mut cases = cases();
    for rule in loaded_rules().await {
        let name = rule["name"].as_str().expect("a name");
        let Cases { silent, firing } = cases.remove(name).unwrap_or_default();
        assert!(!firing.is_empty(), "{name} is never seen firing");
        // The one that always fires.
        assert!(silent > 0 || name == "Watchdog", "{name} is never seen not firing");
        for (severity, summary) in firing {
            // All that a push notification has room for.
            let first_line = format!("🔴 {severity} {name} — {summary}");
            assert!(first_line.chars().count() <= 110, "{first_line}");
        }
    }
    assert!(cases.is_empty(), "cases of rules that are gone: {:?}", cases.keys());
}

/// A metric that was renamed here would leave an alert that never fires.
#[test]
fn the_receivers_own_metrics_exist() {
    let (rules, metrics) = (read("rules.yaml"), metric_sources());
    let prefix = "matrix_alertmanager_receiver_";
    let names = rules.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|character: char| !(character.is_ascii_lowercase() || character == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    let mut seen = 0;
    for name in names {
        assert!(metrics.contains(&format!("\"{name}\"")), "{prefix}{name}");
        seen += 1;
    }
    assert!(seen > 0);
}
