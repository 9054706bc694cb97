//! `[links]`

use super::grafana;
use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Links, Rewrite},
    values::url_prefix,
};

const PREFIX: &str = "the start of an http or https URL, such as \"http://prometheus-operated:9090\"";

pub(super) fn read(links: &Section<'_>) -> Links {
    let each = "a table such as { from = \"http://prometheus:9090\", to = \"https://prometheus.example.org\" }";
    Links { rewrite: links.list("rewrite", each, rewrite).unwrap_or_default(), grafana: grafana::read(links, None) }
}

fn rewrite(item: &Item<'_>) -> Result<Rewrite, BadValue> {
    let entry = item.section()?;
    let [from, to] = ["from", "to"].map(|key| {
        if entry.item(key).is_none() {
            item.fault(format!("an entry without {key}, expected both from and to"));
        }
        entry.read(key, PREFIX, url_prefix).unwrap_or_default()
    });
    Ok(Rewrite { from, to })
}
