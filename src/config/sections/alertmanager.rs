//! `[alertmanager]` and `routes.X.alertmanager`: where and how to ask Alertmanager.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{auth, service};
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Alertmanager, ApiAuth},
    values::{duration, off},
};

const URL: &str = "the URL of an Alertmanager such as \"http://alertmanager-0:9093\"";
const POLL: &str = "a duration of a second or more such as \"60s\", or \"never\"";
const TABLE: &str = "a table such as { urls = [\"http://alertmanager:9093\"] }, or false";
/// What its API begins with, longest first.
const API: [&str; 3] = ["/api/v2", "/api/v1", "/api"];
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
    let headers = service::headers(section);
    let ca_file = service::ca_file(section);
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
    for url in section.list("urls", URL, |item| service::url(item, &API)).unwrap_or_default() {
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

fn poll(item: &Item<'_>) -> Result<Option<Duration>, BadValue> {
    if item.text() == Some("never") {
        return Ok(None);
    }
    duration(item).and_then(|poll| if poll < SHORTEST_POLL { Err(BadValue::Unexpected) } else { Ok(Some(poll)) })
}
