//! The time range of a pane: repaired where it is there, added where it is missing.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::pane::{Form, array_pane, range_of};
use crate::model::Timestamp;

/// Logs from before an alert fired show why it did.
const BEFORE: Duration = Duration::from_mins(15);
const AFTER: Duration = Duration::from_mins(5);
/// Times of 13 digits in milliseconds, from 2001 to 2286: Grafana reads strings of 8, 15 and 19 digits as dates.
const MILLISECONDS: std::ops::RangeInclusive<i64> = 1_000_000_000_000..=9_999_999_999_999;
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
    pub(super) fn strings(self) -> (String, String) {
        let digits = |at: Timestamp| at.0.clamp(*MILLISECONDS.start(), *MILLISECONDS.end()).to_string();
        (digits(self.from), self.to.map_or_else(|| "now".to_owned(), digits))
    }
}

/// Where a pane keeps its time range.
pub(super) enum RangeSlot<'a> {
    /// `{"range": {"from": …, "to": …}}`
    Object(&'a mut Map<String, Value>),
    /// The first two of a list.
    Array(&'a mut Vec<Value>),
}

pub(super) fn each_pane(form: Option<Form>, state: &mut Value, act: &mut dyn FnMut(RangeSlot<'_>)) {
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
pub(super) fn repair_range(slot: RangeSlot<'_>) -> bool {
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
pub(super) fn repaired(time: &Value) -> Option<Value> {
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
pub(super) fn milliseconds(number: f64) -> Option<i64> {
    [1000.0, 1.0, 0.001, 0.000_001]
        .into_iter()
        .map(|factor| number * factor)
        .find(|ms| (1.0e12..1.0e13).contains(ms))
        .map(|ms| ms.round() as i64)
}

/// Returns whether the range was missing.
pub(super) fn put_range(slot: RangeSlot<'_>, from: &str, to: &str) -> bool {
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
