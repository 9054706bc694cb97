//! A pane of Grafana Explore, in both forms that a link may have.

use serde_json::{Map, Value};

/// How an Explore link carries its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `panes={"id": {…}}` with `schemaVersion=1`; Grafana 10.1 and newer.
    Panes,
    /// `left={…}` or `left=["now-1h","now",…]`, perhaps with `right=`; older, and migrated by newer ones.
    Left,
}

/// A pane of Explore, as a link describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pane<'a> {
    /// The datasource's uid; in old links its name.
    pub datasource: Option<&'a str>,
    /// Each an object; a Loki one has `expr`.
    pub queries: Vec<&'a Value>,
    /// From and to, if both are present in Grafana's format.
    pub range: Option<(&'a str, &'a str)>,
}

pub(super) fn is_pane(value: &Value) -> bool {
    let Value::Object(pane) = value else { return false };
    pane.get("queries").is_none_or(|queries| queries.as_array().is_some_and(|all| all.iter().all(Value::is_object)))
}

pub(super) fn text_of(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

pub(super) fn range_of(pane: &Map<String, Value>) -> Option<(&str, &str)> {
    let range = pane.get("range")?;
    text_of(range.get("from")).zip(text_of(range.get("to")))
}

pub(super) fn object_pane(state: &Value) -> Option<Pane<'_>> {
    let pane = state.as_object()?;
    let queries = pane.get("queries").and_then(Value::as_array).map(|queries| queries.iter().collect());
    Some(Pane {
        datasource: text_of(pane.get("datasource")),
        queries: queries.unwrap_or_default(),
        range: range_of(pane),
    })
}

pub(super) fn array_pane(items: &[Value]) -> Pane<'_> {
    let is_query = |item: &&Value| item.is_object() && item.get("ui").is_none() && item.get("mode").is_none();
    Pane {
        datasource: text_of(items.get(2)),
        queries: items.iter().skip(3).filter(is_query).collect(),
        range: text_of(items.first()).zip(text_of(items.get(1))),
    }
}
