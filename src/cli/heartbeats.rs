//! `heartbeats`: the dead man's switches of the running receiver, asked over its control socket.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::support::{
    control::Control,
    http_client,
    output::{clean, json_text, print},
};
use crate::config::{Config, Purpose};

const COLUMNS: [&str; 6] = ["ROUTE", "NAME", "LABELS", "STATE", "LAST BEAT", "ALARM"];

/// Lists the heartbeats that the receiver watches, and disarms one that is not wanted any more.
///
/// Talks to the running receiver over a socket in store.path, so it must run on the same machine, as the same user or as
/// root, and with the same config; no secrets are needed. A switch that was disarmed is armed again by its next beat.
/// Exits with 1 and the reason when something could not be done.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  matrix-alertmanager-receiver heartbeats
  matrix-alertmanager-receiver heartbeats forget prometheus cluster=old
  matrix-alertmanager-receiver heartbeats forget prometheus --route infra
  matrix-alertmanager-receiver heartbeats list --json \\
    | jq -r '.[] | select(.state == \"missing\") | .name'"
)]
pub struct Heartbeats {
    #[command(subcommand)]
    action: Option<Action>,
    /// List as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them (the default).
    List {
        /// List as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Disarms the switches of one heartbeat, and ends their alarms.
    Forget {
        /// The heartbeat's name in the config, also of one that has left it.
        name: String,
        /// The route, if several have a heartbeat of this name.
        #[arg(long, value_name = "ROUTE")]
        route: Option<String>,
        /// Only switches with these labels.
        #[arg(value_name = "LABEL=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected LABEL=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Heartbeats {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config, &crate::config::environment(), Purpose::Render)?;
        let control = Control::of(&config)?;
        http_client::block_on(async {
            match self.action.unwrap_or(Action::List { json: self.json }) {
                Action::List { json } => list(&control, json).await,
                Action::Forget { name, route, labels } => forget(&control, &name, route.as_deref(), labels).await,
            }
        })
    }
}

async fn list(control: &Control, json: bool) -> anyhow::Result<ExitCode> {
    let mut answer = control.ask(Method::GET, &["heartbeats"], None).await?;
    let Value::Array(heartbeats) = answer["heartbeats"].take() else { bail!("the receiver's answer has no list") };
    if json {
        print(&json_text(&Value::Array(heartbeats))?)?;
    } else if heartbeats.is_empty() {
        print("no heartbeats in the config")?;
    } else {
        print(table(&heartbeats).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn forget(
    control: &Control,
    name: &str,
    route: Option<&str>,
    labels: Vec<(String, String)>,
) -> anyhow::Result<ExitCode> {
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    let body = json!({ "name": name, "route": route, "labels": labels });
    let answer = control.ask(Method::POST, &["heartbeats", "forget"], Some(&body)).await?;
    for forgotten in answer["forgotten"].as_array().into_iter().flatten() {
        let shown = [text(forgotten, "route"), text(forgotten, "name"), labels_of(forgotten)];
        print(&format!("{}: disarmed", shown.join(" ").trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each switch.
fn table(heartbeats: &[Value]) -> String {
    let row = |heartbeat: &Value| {
        let fields = [text(heartbeat, "route"), text(heartbeat, "name"), labels_of(heartbeat)];
        let [route, name, labels] = fields;
        let alarm = if heartbeat["missing_since"].is_null() { "due" } else { "missing_since" };
        [route, name, labels, text(heartbeat, "state"), text(heartbeat, "last"), text(heartbeat, alarm)]
    };
    let rows: Vec<[String; 6]> =
        std::iter::once(COLUMNS.map(str::to_owned)).chain(heartbeats.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(out, "{}", padded.join("  ").trim_end());
    }
    out
}

/// `cluster=a,prometheus=b`, without labels that the beat lacks.
fn labels_of(heartbeat: &Value) -> String {
    let labels = heartbeat["labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name, value.as_str().filter(|value| !value.is_empty())?)));
    let shown = labels.map(|(name, value)| format!("{}={}", clean(name), clean(value)));
    shown.collect::<Vec<_>>().join(",")
}

fn text(json: &Value, field: &str) -> String {
    clean(json[field].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people() {
        let (last, due) = ("2026-01-02T03:04:05Z", "2026-01-02T03:19:05Z");
        let all = [
            json!({ "route": "default", "name": "prometheus", "labels": { "cluster": "a\u{1b}[2J", "x": "" },
                "state": "beating", "last": last, "due": due, "missing_since": null }),
            json!({ "route": "default", "name": "prometheus", "labels": { "cluster": "b", "x": "y" },
                "state": "missing", "last": last, "due": due, "missing_since": "2026-01-02T03:19:06Z" }),
            json!({ "route": "infra", "name": "loki", "labels": {}, "state": "unarmed", "last": null, "due": null,
                "missing_since": null }),
        ];
        insta::assert_snapshot!(table(&all), @r"
        ROUTE    NAME        LABELS         STATE    LAST BEAT             ALARM
        default  prometheus  cluster=a [2J  beating  2026-01-02T03:04:05Z  2026-01-02T03:19:05Z
        default  prometheus  cluster=b,x=y  missing  2026-01-02T03:04:05Z  2026-01-02T03:19:06Z
        infra    loki                       unarmed
        ");
    }

    #[test]
    fn labels_are_pairs() {
        assert_eq!(label("cluster=a=b"), Ok(("cluster".to_owned(), "a=b".to_owned())));
        assert_eq!(label("cluster="), Ok(("cluster".to_owned(), String::new())));
        assert!(label("cluster").is_err());
    }
}
