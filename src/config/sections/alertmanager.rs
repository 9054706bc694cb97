//! `[alertmanager]` and `routes.X.alertmanager`: where and how to ask Alertmanager.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use url::Url;

use super::{
    auth,
    credential::{ca_file, from_file},
};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Alertmanager, ApiAuth},
    secret::{Secret, SecretKind},
    values::{duration, off, text},
};

const URL: &str = "the URL of an Alertmanager such as \"http://alertmanager-0:9093\"";
const POLL: &str = "a duration of a second or more such as \"60s\", or \"never\"";
const TABLE: &str = "a table such as { urls = [\"http://alertmanager:9093\"] }, or false";
/// More peers than any cluster has.
const MAX_URLS: usize = 16;
/// Between two polls; Alertmanager does more for one than we do.
const SHORTEST_POLL: Duration = Duration::from_secs(1);
const DEFAULT_POLL: Duration = Duration::from_mins(1);

/// `base` is what a route inherits that has no table of its own; `false` in place of the table stands for none.
pub(super) fn read(parent: &Section<'_>, base: Option<&Arc<Alertmanager>>) -> Option<Arc<Alertmanager>> {
    let Some(item) = parent.item("alertmanager") else {
        // The keys of an absent table are read as well, which makes them known.
        table(None, &parent.absent("alertmanager"));
        return base.cloned();
    };
    if let Ok(section) = item.section() {
        return table(Some(&item), &section).map(Arc::new);
    }
    table(None, &parent.absent("alertmanager"));
    item.read(TABLE, off);
    None
}

/// `item` is the table's own, if it is set.
fn table(item: Option<&Item<'_>>, section: &Section<'_>) -> Option<Alertmanager> {
    let urls = urls(section);
    let auth = item.and_then(|item| auth::of_service(item, section));
    if item.is_none() {
        auth::make_known(section);
    }
    let headers = headers(section);
    let ca_file = section.read("ca_file", "the path of a file", optional_ca_file).flatten();
    let poll = section.read("poll", POLL, poll);
    item?;
    Some(Alertmanager {
        urls,
        auth: auth.unwrap_or(ApiAuth::None),
        headers,
        ca_file,
        poll: poll.unwrap_or(Some(DEFAULT_POLL)),
    })
}

fn urls(section: &Section<'_>) -> Vec<Url> {
    let Some(item) = section.item("urls") else {
        if section.is_there() {
            section.missing("urls", &format!("a list of at least one URL, each {URL}"));
        }
        return Vec::new();
    };
    let mut urls: Vec<Url> = Vec::new();
    for url in section.list("urls", URL, url).unwrap_or_default() {
        if urls.contains(&url) {
            item.fault(format!("names {url} twice, expected every peer once"));
        } else {
            urls.push(url);
        }
    }
    match item.items() {
        Ok(items) if items.is_empty() => item.fault(format!("found an empty list, expected at least one, {URL}")),
        Ok(items) if items.len() > MAX_URLS => {
            item.fault(format!(
                "found {} entries, expected {MAX_URLS} or fewer: the peers of one cluster",
                items.len()
            ));
        }
        _ => {}
    }
    urls
}

/// The URL to which `/api/v2/…` is added, without a slash at the end unless it has no path.
fn url(item: &Item<'_>) -> Result<Url, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    let mut url = Url::parse(text).map_err(|_| BadValue::Unexpected)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(BadValue::Unexpected);
    }
    if !url.username().is_empty() || url.password().is_some() {
        let advice = "leave it out and set username and password_file, or bearer_token_file";
        return Err(BadValue::Because(format!("holds a user name or password: {advice}")));
    }
    if url.query().is_some() || url.fragment().is_some() {
        let advice = "leave out what begins with ? or #; the address of the API is what stands before";
        return Err(BadValue::Because(format!("found {}, {advice}", item.found())));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if let Some(before) = ["/api", "/api/v1", "/api/v2"].iter().find_map(|end| path.strip_suffix(end)) {
        url.set_path(before);
        let url = url.as_str().trim_end_matches('/');
        return Err(BadValue::Because(format!(
            "found {}, expected it without the path of the API: {url}",
            item.found()
        )));
    }
    url.set_path(&path);
    Ok(url)
}

/// An empty text stands for none, as in the documented default.
fn optional_ca_file(item: &Item<'_>) -> Result<Option<PathBuf>, BadValue> {
    if item.text() == Some("") { Ok(None) } else { ca_file(item).map(Some) }
}

fn poll(item: &Item<'_>) -> Result<Option<Duration>, BadValue> {
    if item.text() == Some("never") {
        return Ok(None);
    }
    duration(item).and_then(|poll| if poll < SHORTEST_POLL { Err(BadValue::Unexpected) } else { Ok(Some(poll)) })
}

/// What `headers` and `header_files` set, each name once.
fn headers(section: &Section<'_>) -> Vec<(String, Secret)> {
    let mut named: BTreeMap<String, Item<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for (key, of_file) in [("headers", false), ("header_files", true)] {
        let table = section.section(key);
        for name in table.names() {
            let Some(item) = table.item(name) else { continue };
            let lower = name.to_ascii_lowercase();
            if let Some(why) = refused(&lower) {
                item.fault(why);
            } else if let Some(other) = named.get(&lower) {
                item.fault(format!("the same header as {}, keep one of the two", other.place()));
            } else if let Some(value) = value(&item, of_file) {
                found.push((lower.clone(), value));
            }
            named.entry(lower).or_insert(item);
        }
    }
    found
}

/// Why a header of this name cannot be set.
fn refused(name: &str) -> Option<&'static str> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match name {
        _ if name.is_empty() || !name.chars().all(token) => {
            Some("not the name of an HTTP header such as \"X-Scope-OrgID\"")
        }
        "authorization" => Some("set username and password_file, or bearer_token_file, in place of this header"),
        "host" => Some("the host is that of the URL: leave this header out"),
        "connection" | "transfer-encoding" | "te" | "upgrade" | "expect" => {
            Some("is about the connection and set by the receiver: leave this header out")
        }
        _ if name.starts_with("content-") || name.starts_with("accept") => {
            Some("is about the body and set by the receiver: leave this header out")
        }
        _ => None,
    }
}

fn value(item: &Item<'_>, of_file: bool) -> Option<Secret> {
    let sendable = |value: &str| value.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    let because = "holds characters that a header cannot carry, expected ASCII";
    if of_file {
        let read = from_file(item, SecretKind::Password)?;
        if !sendable(read.expose()) {
            item.fault(because);
            return None;
        }
        return Some(read);
    }
    item.read("a string of one line, not empty", |item| {
        let value = text(item)?;
        if sendable(&value) { Ok(Secret::new(value)) } else { Err(BadValue::Because(because.to_owned())) }
    })
}
