//! What a `logs_url` is: a link to Grafana Explore, whose state is JSON in a query parameter, or any other link.
//!
//! People write these links by hand into rules, and a room is less forgiving than a browser: [`LogsUrl::parse`] repairs
//! what it can (raw JSON, a missing `schemaVersion`, times as numbers) and names each repair as a [`Problem`].
//! [`LogsUrl::put_range`] gives panes without a time range the alert's range. The rules are those of Grafana's
//! `public/app/features/explore/hooks/useStateSync/migrators/{v0,v1}.ts` and `state/utils.ts` (`fromURLRange`).
//!
//! Parameters that need no repair keep their bytes, and of a state only `range` changes.

mod loki;
mod problem;
mod raw_url;

use std::time::Duration;

use serde_json::{Map, Value, json};

use self::raw_url::{Param, RawUrl};
pub use self::{
    loki::{log_query, loki_url, quoted},
    problem::Problem,
};
use super::url;
use crate::model::Timestamp;

/// Logs from before an alert fired show why it did.
const BEFORE: Duration = Duration::from_mins(15);
const AFTER: Duration = Duration::from_mins(5);
/// Times of 13 digits in milliseconds, from 2001 to 2286: Grafana reads strings of 8, 15 and 19 digits as dates.
const MILLISECONDS: std::ops::RangeInclusive<i64> = 1_000_000_000_000..=9_999_999_999_999;
/// Longer values are not parsed; a link of this length could not be opened either.
const MAX_READ: usize = 64 * 1024;

/// How an Explore link carries its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `panes={"id": {…}}` with `schemaVersion=1`; Grafana 10.1 and newer.
    Panes,
    /// `left={…}` or `left=["now-1h","now",…]`, perhaps with `right=`; older, and migrated by newer ones.
    Left,
}

/// The time range that a link should show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    from: Timestamp,
    /// `None`: until now.
    to: Option<Timestamp>,
}

impl Range {
    /// From 15 minutes before `starts_at` to 5 minutes after `ends_at`; without an end, until now.
    #[must_use]
    pub fn around(starts_at: Timestamp, ends_at: Option<Timestamp>) -> Self {
        Self { from: starts_at.minus(BEFORE), to: ends_at.map(|end| end.max(starts_at).plus(AFTER)) }
    }

    /// The range as Explore reads it: milliseconds as strings, or `now`.
    fn strings(self) -> (String, String) {
        let digits = |at: Timestamp| at.0.clamp(*MILLISECONDS.start(), *MILLISECONDS.end()).to_string();
        (digits(self.from), self.to.map_or_else(|| "now".to_owned(), digits))
    }
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

/// A `logs_url`, parsed and repaired.
#[derive(Clone, Debug)]
pub struct LogsUrl {
    url: RawUrl,
    form: Option<Form>,
    /// The index of each state's parameter, and the state.
    states: Vec<(usize, Value)>,
    problems: Vec<Problem>,
}

impl LogsUrl {
    /// Parses any text; [`Self::broken`] says whether it gives a link.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        let mut problems = Vec::new();
        let raw = raw.trim();
        if raw.len() > MAX_READ {
            let url = RawUrl::other("");
            return Self { url, form: None, states: Vec::new(), problems: vec![Problem::TooLong] };
        }
        let mut url = RawUrl::of_explore(raw, &mut problems).unwrap_or_else(|| RawUrl::other(raw));
        let form = form_of(&url);
        let mut states = Vec::new();
        if let Some(form) = form {
            for index in 0..url.params.len() {
                if is_state(form, &url.params[index]) {
                    states.extend(state(&mut url.params[index], form, &mut problems).map(|value| (index, value)));
                }
            }
            if form == Form::Panes {
                put_schema_version(&mut url, &mut states, &mut problems);
            }
        } else if url.is_explore {
            problems.push(Problem::NoState);
        }
        let mut parsed = Self { url, form, states, problems };
        parsed.check_url(raw);
        parsed.note_gaps();
        parsed.problems.sort_unstable();
        parsed.problems.dedup();
        parsed
    }

    /// Whether it links to Grafana Explore, with or without a state.
    #[must_use]
    pub fn is_explore(&self) -> bool {
        self.url.is_explore
    }

    /// `None` for a link to anything but Grafana Explore, and for one to Explore without a state.
    #[must_use]
    pub fn form(&self) -> Option<Form> {
        self.form
    }

    /// The decoded states as JSON: one for `panes`, one each for `left` and `right`.
    pub fn states(&self) -> impl Iterator<Item = &Value> {
        self.states.iter().map(|(_, state)| state)
    }

    /// Every pane of every state.
    #[must_use]
    pub fn panes(&self) -> Vec<Pane<'_>> {
        let form = self.form;
        let panes = self.states.iter().flat_map(|(_, state)| match (form, state) {
            (Some(Form::Panes), Value::Object(panes)) => panes.values().filter_map(object_pane).collect(),
            (_, Value::Array(items)) => vec![array_pane(items)],
            (_, state) => object_pane(state).into_iter().collect::<Vec<_>>(),
        });
        panes.collect()
    }

    /// All problems of the value, repaired or not, without duplicates.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Why the value gives no link.
    #[must_use]
    pub fn broken(&self) -> Option<Problem> {
        self.problems.iter().copied().find(|problem| problem.is_fatal())
    }

    /// Adds `range` to each pane without one and returns whether there was one. It is idempotent.
    pub fn put_range(&mut self, range: Range) -> bool {
        if self.broken().is_some() {
            return false;
        }
        let (from, to) = range.strings();
        let mut put = false;
        for (index, state) in &mut self.states {
            let mut missing = false;
            each_pane(self.form, state, &mut |pane| missing |= put_range(pane, &from, &to));
            if missing {
                self.url.params[*index].set(&state.to_string());
                put = true;
            }
        }
        put
    }

    /// The repaired value, percent-encoded throughout: an http or https URL without credentials, unless it is broken.
    #[must_use]
    pub fn to_url(&self) -> String {
        url::encoded(&self.url.to_string())
    }

    fn check_url(&mut self, raw: &str) {
        let url = self.to_url();
        match url::safe(&url) {
            None if url.len() > url::MAX_READ => self.problems.push(Problem::TooLong),
            None => self.problems.push(Problem::NotAUrl),
            Some(_) if has_credentials(raw) => self.problems.push(Problem::Credentials),
            Some(_) => {}
        }
        if url::encoded(raw) != raw {
            self.problems.push(Problem::NotEncoded);
        }
    }

    fn note_gaps(&mut self) {
        if self.broken().is_some() {
            return;
        }
        let panes = self.panes();
        let no_datasource = panes.iter().any(|pane| pane.datasource.is_none());
        let no_query = panes.iter().any(|pane| pane.queries.is_empty());
        self.problems.extend(no_datasource.then_some(Problem::NoDatasource));
        self.problems.extend(no_query.then_some(Problem::NoQuery));
    }
}

/// Grafana reads `panes` where it is; `left` beside it is then ignored.
fn form_of(url: &RawUrl) -> Option<Form> {
    let has = |name: &str| url.params.iter().any(|param| param.name() == name && !param.is_empty());
    if !url.is_explore {
        None
    } else if has("panes") {
        Some(Form::Panes)
    } else if has("left") || has("right") {
        Some(Form::Left)
    } else {
        None
    }
}

fn is_state(form: Form, param: &Param) -> bool {
    let names: &[&str] = if form == Form::Panes { &["panes"] } else { &["left", "right"] };
    names.contains(&param.name()) && !param.is_empty()
}

/// Parses the state of a parameter and repairs it in place.
fn state(param: &mut Param, form: Form, problems: &mut Vec<Problem>) -> Option<Value> {
    let Some(mut state) = param.json(problems) else {
        problems.push(Problem::NotJson);
        return None;
    };
    let shaped = match (form, &state) {
        (Form::Panes, Value::Object(panes)) => !panes.is_empty() && panes.values().all(is_pane),
        // Grafana rejects a short form without all four: from, to, datasource and a query.
        (Form::Left, Value::Array(items)) => items.len() > 3,
        (Form::Left, state) => is_pane(state),
        (Form::Panes, _) => false,
    };
    if !shaped {
        problems.push(Problem::WrongShape);
        return None;
    }
    let mut repaired = false;
    each_pane(Some(form), &mut state, &mut |pane| repaired |= repair_range(pane));
    if repaired {
        problems.push(Problem::RangeNotStrings);
        param.set(&state.to_string());
    }
    Some(state)
}

fn is_pane(value: &Value) -> bool {
    let Value::Object(pane) = value else { return false };
    pane.get("queries").is_none_or(|queries| queries.as_array().is_some_and(|all| all.iter().all(Value::is_object)))
}

fn put_schema_version(url: &mut RawUrl, states: &mut [(usize, Value)], problems: &mut Vec<Problem>) {
    let good = |param: &Param| param.value.as_deref().is_some_and(|v| v.parse::<u32>().is_ok_and(|v| v >= 1));
    match url.params.iter_mut().find(|param| param.name() == "schemaVersion") {
        Some(param) if good(param) => return,
        Some(param) => param.value = Some("1".to_owned()),
        None => {
            url.params.insert(0, Param { key: "schemaVersion".to_owned(), value: Some("1".to_owned()) });
            for (index, _) in states {
                *index += 1;
            }
        }
    }
    problems.push(Problem::NoSchemaVersion);
}

/// Where a pane keeps its time range.
enum RangeSlot<'a> {
    /// `{"range": {"from": …, "to": …}}`
    Object(&'a mut Map<String, Value>),
    /// The first two of a list.
    Array(&'a mut Vec<Value>),
}

fn each_pane(form: Option<Form>, state: &mut Value, act: &mut dyn FnMut(RangeSlot<'_>)) {
    match (form, state) {
        (Some(Form::Panes), Value::Object(panes)) => {
            panes.values_mut().filter_map(Value::as_object_mut).for_each(|pane| act(RangeSlot::Object(pane)));
        }
        (_, Value::Object(pane)) => act(RangeSlot::Object(pane)),
        (_, Value::Array(items)) => act(RangeSlot::Array(items)),
        _ => {}
    }
}

/// Turns numeric times into strings; returns whether it changed any.
fn repair_range(slot: RangeSlot<'_>) -> bool {
    let both = match slot {
        RangeSlot::Object(pane) => pane.get_mut("range").and_then(Value::as_object_mut).and_then(|range| {
            // `get_mut` cannot borrow both at once.
            let mut ends = range.iter_mut().filter(|(key, _)| *key == "from" || *key == "to").map(|(_, value)| value);
            ends.next().zip(ends.next())
        }),
        RangeSlot::Array(items) => items.split_first_mut().and_then(|(from, rest)| Some((from, rest.first_mut()?))),
    };
    let Some((one, other)) = both else { return false };
    match (repaired(one), repaired(other)) {
        (None, _) | (_, None) => false,
        (Some(first), Some(second)) => {
            let changed = *one != first || *other != second;
            (*one, *other) = (first, second);
            changed
        }
    }
}

/// A time in Grafana's format; `None` if the value is not a time.
fn repaired(time: &Value) -> Option<Value> {
    match time {
        // Nanoseconds, which Grafana would read as a date.
        Value::String(text) if text.len() == 19 && text.bytes().all(|b| b.is_ascii_digit()) => {
            Some(json!(text[..13].to_owned()))
        }
        Value::String(text) => (!text.trim().is_empty()).then(|| time.clone()),
        Value::Number(number) => milliseconds(number.as_f64()?).map(|ms| json!(ms.to_string())),
        _ => None,
    }
}

/// A number as milliseconds, whether it counts seconds, milliseconds, microseconds or nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "it is within 13 digits")]
fn milliseconds(number: f64) -> Option<i64> {
    [1000.0, 1.0, 0.001, 0.000_001]
        .into_iter()
        .map(|factor| number * factor)
        .find(|ms| (1.0e12..1.0e13).contains(ms))
        .map(|ms| ms.round() as i64)
}

/// Returns whether the range was missing.
fn put_range(slot: RangeSlot<'_>, from: &str, to: &str) -> bool {
    match slot {
        RangeSlot::Object(pane) if range_of(pane).is_none() => {
            pane.insert("range".to_owned(), json!({ "from": from, "to": to }));
            true
        }
        RangeSlot::Array(items) if array_pane(items).range.is_none() && items.len() > 1 => {
            (items[0], items[1]) = (json!(from), json!(to));
            true
        }
        _ => false,
    }
}

fn text_of(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

fn range_of(pane: &Map<String, Value>) -> Option<(&str, &str)> {
    let range = pane.get("range")?;
    text_of(range.get("from")).zip(text_of(range.get("to")))
}

fn object_pane(state: &Value) -> Option<Pane<'_>> {
    let pane = state.as_object()?;
    let queries = pane.get("queries").and_then(Value::as_array).map(|queries| queries.iter().collect());
    Some(Pane {
        datasource: text_of(pane.get("datasource")),
        queries: queries.unwrap_or_default(),
        range: range_of(pane),
    })
}

fn array_pane(items: &[Value]) -> Pane<'_> {
    let is_query = |item: &&Value| item.is_object() && item.get("ui").is_none() && item.get("mode").is_none();
    Pane {
        datasource: text_of(items.get(2)),
        queries: items.iter().skip(3).filter(is_query).collect(),
        range: text_of(items.first()).zip(text_of(items.get(1))),
    }
}

/// Whether the URL has a user name or password, even an empty one.
fn has_credentials(raw: &str) -> bool {
    let authority =
        raw.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    authority.contains('@')
}

#[cfg(test)]
mod tests;
