//! `[store]`

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::credential::{conflict, secret};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::Store,
    secret::{Secret, SecretKind, read_line},
    values::{DURATION, duration, text},
};

const PATH: &str = "/var/lib/matrix-alertmanager-receiver";
const RETENTION: Duration = Duration::from_hours(7 * 24);
/// Characters of a replica's name: host names have at most 64.
const MAX_NAME: usize = 64;
const NAME: &str = "a name of at most 64 letters, digits, dots, dashes and underscores, or \"\" for the host's";

pub(super) fn read(store: &Section<'_>) -> Store {
    let path = store.read("path", "the path of a directory", text);
    let replica = store.read("replica", NAME, name).filter(|name| !name.is_empty());
    Store {
        path: path.map_or_else(|| PATH.into(), PathBuf::from),
        retention: store.read("retention", DURATION, duration).unwrap_or(RETENTION),
        database_url: database_url(store),
        replica: replica.unwrap_or_else(host_name),
    }
}

/// It is a label of metrics and stands in the log.
fn name(item: &Item<'_>) -> Result<String, BadValue> {
    if item.text() == Some("") {
        return Ok(String::new());
    }
    let name = text(item)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.len() <= MAX_NAME && name.chars().all(is_plain) { Ok(name) } else { Err(BadValue::Unexpected) }
}

/// In a pod this is the pod's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn database_url(store: &Section<'_>) -> Option<Secret> {
    let items: Vec<Item<'_>> = ["database_url", "database_url_file"].iter().filter_map(|key| store.item(key)).collect();
    match items.as_slice() {
        [] => None,
        [one, two, ..] => conflict(one, two),
        [item] if item.text() == Some("") => None,
        [item] => {
            // A token: a blank or quotes in it are a copying error.
            let url = secret(item, SecretKind::Token)?;
            match fault_of_database_url(url.expose()) {
                None => Some(url),
                Some(why) => {
                    item.fault(why);
                    None
                }
            }
        }
    }
}

/// A database's URL that a command line names by itself, or by the file that holds it.
///
/// # Errors
/// With what is wrong, naming the file and never the URL.
pub fn database_url_from(text: Option<&str>, file: Option<&Path>) -> Result<Option<Secret>, String> {
    let (secret, name) = match (text, file) {
        (Some(text), _) => (Secret::new(text), "the URL".to_owned()),
        (None, Some(file)) => (Secret::from_file(&read_line(file)?, file.to_owned()), file.display().to_string()),
        (None, None) => return Ok(None),
    };
    match fault_of_database_url(secret.expose()) {
        None => Ok(Some(secret)),
        Some(why) => Err(format!("{name} {why}")),
    }
}

/// A password may stand in it, so that no text quotes it.
pub(in crate::config) fn fault_of_database_url(text: &str) -> Option<&'static str> {
    if text.contains(char::is_whitespace) {
        return Some("has a blank in it, which no URL has");
    }
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => None,
        Ok(url) if url.scheme() == "sqlite" => Some("names SQLite, which store.path configures: leave this key out"),
        _ => Some(
            "is not a URL such as \"postgres://receiver:PASSWORD@db.example.org/receiver\"; in a password @, /, # and ? \
             are written as %40, %2F, %23 and %3F",
        ),
    }
}
