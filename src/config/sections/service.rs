//! What every service that is asked has in its table: its URL, headers, certificates.

use std::{collections::BTreeMap, path::PathBuf};

use url::Url;

use super::credential;
use crate::config::{
    reader::{BadValue, Item, Section},
    secret::{Secret, SecretKind},
    values::text,
};

/// The URL to which the path of an API is added, without a slash at the end unless it has no path. `api`: beginnings of that
/// path, longest first, which do not belong to it.
pub(super) fn url(item: &Item<'_>, api: &[&str]) -> Result<Url, BadValue> {
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
    if let Some(before) = api.iter().find_map(|end| path.strip_suffix(end)) {
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

/// The value of `ca_file`. An empty text stands for none, as in the documented default.
pub(super) fn ca_file(section: &Section<'_>) -> Option<PathBuf> {
    let optional =
        |item: &Item<'_>| if item.text() == Some("") { Ok(None) } else { credential::ca_file(item).map(Some) };
    section.read("ca_file", "the path of a file", optional).flatten()
}

/// What `headers` and `header_files` set, each name once.
pub(super) fn headers(section: &Section<'_>) -> Vec<(String, Secret)> {
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
        let read = credential::from_file(item, SecretKind::Password)?;
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
