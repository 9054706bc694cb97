//! `[[routes.X.heartbeats]]`

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::credential::{conflict, secret};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::Heartbeat,
    secret::{Secret, SecretKind},
    values::{duration, text},
};

const MAX_HEARTBEATS: usize = 32;
/// It is a label of metrics and an argument of a command.
const MAX_NAME: usize = 40;
/// In `match` and in `by`.
const MAX_LABELS: usize = 16;
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(15);
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_hours(30 * 24);

const NAME: &str = "a word of a-z, A-Z, 0-9, . _ and -, at most 40 characters, such as \"prometheus\"";
const TIMEOUT: &str = "a duration from \"1s\" to \"30d\" such as \"15m\"";

pub(super) fn read(route: &Section<'_>) -> Vec<Heartbeat> {
    let each = "a table such as { name = \"prometheus\", match = { alertname = \"Watchdog\" } }";
    let heartbeats = route.list("heartbeats", each, |item| Ok((heartbeat(item)?, item.clone()))).unwrap_or_default();
    if let Some(item) = route.item("heartbeats").filter(|_| heartbeats.len() > MAX_HEARTBEATS) {
        item.fault(format!("found {} entries, expected {MAX_HEARTBEATS} or fewer", heartbeats.len()));
    }
    let mut read: Vec<Heartbeat> = Vec::new();
    for (heartbeat, item) in heartbeats {
        if !heartbeat.name.is_empty() && read.iter().any(|other| other.name == heartbeat.name) {
            item.fault(format!("{:?} is the name of two heartbeats, expected a name for each", heartbeat.name));
        } else {
            read.push(heartbeat);
        }
    }
    read
}

/// The name is empty if it is missing or wrong.
fn heartbeat(item: &Item<'_>) -> Result<Heartbeat, BadValue> {
    let entry = item.section()?;
    for (key, expected) in [("name", NAME), ("match", "labels of the alert such as { alertname = \"Watchdog\" }")] {
        if entry.item(key).is_none() {
            item.fault(format!("an entry without {key}, expected {expected}"));
        }
    }
    let timeout = entry.read("timeout", TIMEOUT, |item| {
        duration(item).and_then(|timeout| {
            let fits = (SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(&timeout);
            if fits { Ok(timeout) } else { Err(BadValue::Unexpected) }
        })
    });
    Ok(Heartbeat {
        name: entry.read("name", NAME, name).unwrap_or_default(),
        matches: matches(&entry),
        by: by(&entry),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        ping_url: ping_url(&entry),
    })
}

fn name(item: &Item<'_>) -> Result<String, BadValue> {
    let name = text(item)?;
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // A command would take one that begins with a dash for an option.
    let is_name = name.len() <= MAX_NAME && name.chars().all(good) && !name.starts_with('-');
    if is_name { Ok(name) } else { Err(BadValue::Unexpected) }
}

fn matches(entry: &Section<'_>) -> BTreeMap<String, String> {
    let section = entry.section("match");
    let mut matches = BTreeMap::new();
    for label in section.names() {
        let value = section.read(label, "the value of a label, not empty", text);
        if label.trim().is_empty() {
            section.item(label).iter().for_each(|item| item.fault("an empty name, expected that of a label"));
        } else if let Some(value) = value {
            matches.insert(label.to_owned(), value);
        }
    }
    let labels = section.names().count();
    if section.is_there() && (labels == 0 || labels > MAX_LABELS) {
        entry.item("match").iter().for_each(|item| {
            let example = "such as { alertname = \"Watchdog\" }";
            item.fault(format!("found {labels} labels, expected 1 to {MAX_LABELS} that a beat has, {example}"));
        });
    }
    matches
}

fn by(entry: &Section<'_>) -> Vec<String> {
    let mut by: Vec<String> = Vec::new();
    let labels = entry.list("by", "the name of a label such as \"cluster\"", text).unwrap_or_default();
    let Some(item) = entry.item("by") else { return by };
    if labels.len() > MAX_LABELS {
        item.fault(format!("found {} labels, expected {MAX_LABELS} or fewer", labels.len()));
    }
    for label in labels {
        if by.contains(&label) {
            item.fault(format!("names {label:?} twice, expected every label once"));
        } else {
            by.push(label);
        }
    }
    by
}

fn ping_url(entry: &Section<'_>) -> Option<Secret> {
    let items: Vec<Item<'_>> = ["ping_url", "ping_url_file"].iter().filter_map(|key| entry.item(key)).collect();
    match items.as_slice() {
        [] => None,
        [one, two, ..] => conflict(one, two),
        [item] => {
            // A token: a blank or quotes in it are a copying error.
            let url = secret(item, SecretKind::Token)?;
            match fault_of_ping_url(url.expose()) {
                None => Some(url),
                Some(why) => {
                    item.fault(why);
                    None
                }
            }
        }
    }
}

/// Whoever knows the URL can ping it, so that no text quotes it.
fn fault_of_ping_url(text: &str) -> Option<&'static str> {
    if text.contains(char::is_whitespace) {
        return Some("has a blank in it, which no URL has");
    }
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            Some("is not an http or https URL such as \"https://hc-ping.com/…\"")
        }
        Ok(url) if url.fragment().is_some() => Some("holds a #, and what follows it is not sent: leave it out"),
        Ok(_) => None,
        Err(_) => Some("is not a URL such as \"https://hc-ping.com/…\""),
    }
}
