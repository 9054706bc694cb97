//! `links.grafana` and `routes.X.grafana`: what logs links are built from for alerts without one.

use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Grafana, LokiLabel},
    values::{boolean, text, url_prefix},
};

const URL: &str = "the URL of Grafana such as \"https://grafana.example.org\"";
const DATASOURCE: &str = "the uid of a Loki datasource such as \"loki\"";

/// `base` holds what a route inherits where it sets nothing itself.
pub(super) fn read(parent: &Section<'_>, base: Option<&Grafana>) -> Option<Grafana> {
    // Anything but a table is one error, which `section` reports.
    let set = parent.item("grafana").is_some_and(|item| item.section().is_ok());
    let section = parent.section("grafana");
    let url = section.require(set && base.is_none(), "url", URL, base_url);
    let loki_datasource = section.require(set && base.is_none(), "loki_datasource", DATASOURCE, text);
    let org_id = section.read("org_id", "the number of an organisation, 1 or more", |item| {
        item.integer().and_then(|number| u64::try_from(number).ok()).filter(|id| *id > 0).ok_or(BadValue::Unexpected)
    });
    let each =
        "a label such as \"namespace\" or a table such as { alert = \"namespace\", loki = \"k8s_namespace_name\" }";
    let labels = section.list("labels", each, label);
    let line_filter =
        section.read("line_filter", "LogQL such as '|= \"error\"', or a text that lines must contain", text);
    if !set {
        return base.cloned();
    }
    Some(Grafana {
        url: url.or_else(|| base.map(|base| base.url.clone())).unwrap_or_default(),
        loki_datasource: loki_datasource.or_else(|| base.map(|base| base.loki_datasource.clone())).unwrap_or_default(),
        org_id: org_id.or(base.map(|base| base.org_id)).unwrap_or(1),
        labels: labels.or_else(|| base.map(|base| base.labels.clone())).unwrap_or_else(default_labels),
        line_filter: line_filter.or_else(|| base.and_then(|base| base.line_filter.clone())),
    })
}

/// `job` and `instance` mostly name the exporter, not what it watches, so they are used only where nothing else is set.
fn default_labels() -> Vec<LokiLabel> {
    let label = |name: &str, fallback| LokiLabel { alert: name.to_owned(), loki: name.to_owned(), fallback };
    let own = ["namespace", "pod", "container"].map(|name| label(name, false));
    own.into_iter().chain(["job", "instance"].map(|name| label(name, true))).collect()
}

fn label(item: &Item<'_>) -> Result<LokiLabel, BadValue> {
    if item.text().is_some() {
        let name = loki_name(item)?;
        return Ok(LokiLabel { alert: name.clone(), loki: name, fallback: false });
    }
    let entry = item.section()?;
    if entry.item("alert").is_none() {
        item.fault("an entry without alert, expected the name of an alert's label");
    }
    let alert = entry.read("alert", "the name of an alert's label", text).unwrap_or_default();
    let expected = "the name of a Loki label such as \"k8s_namespace_name\"";
    let loki = entry.read("loki", expected, loki_name).unwrap_or_else(|| alert.clone());
    let fallback = entry.read("fallback", "true or false", boolean).unwrap_or(false);
    Ok(LokiLabel { alert, loki, fallback })
}

/// It stands in a selector as it is.
fn loki_name(item: &Item<'_>) -> Result<String, BadValue> {
    let name = text(item)?;
    let good = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
    if name.chars().enumerate().all(good) { Ok(name) } else { Err(BadValue::Unexpected) }
}

/// `/explore?…` is added to it.
fn base_url(item: &Item<'_>) -> Result<String, BadValue> {
    let url = url_prefix(item)?;
    let host = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    if host.is_empty() || url.contains(['?', '#']) { Err(BadValue::Unexpected) } else { Ok(url) }
}
