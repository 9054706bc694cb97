//! Body -> [`Webhook`]. Strict about the envelope, lenient about each alert: one odd alert must not cost the others.
//!
//! Sources: Alertmanager `notify/webhook/webhook.go` and `template/template.go` (version "4"), Grafana
//! `receivers/webhook/v1/webhook.go` (version "1").

mod alert;
mod usual;

use serde_json::{Map, Value, value::RawValue};

pub(crate) use self::alert::is_own_fingerprint;
use self::alert::{MAX_LABELS, MAX_VALUE, identity, read_alert, read_labels, read_text};
use super::{
    bounded_json::{self, Fields, First},
    content_hash, scrub,
    webhook::{ListedAlert, NotificationReason, Webhook},
};
use crate::model::{HEARTBEATS, Labels};

/// More alerts than this in one payload are not read; they count as left out by Alertmanager (`truncatedAlerts`).
pub const MAX_ALERTS: usize = 10_000;
/// Alerts beyond this many labels and annotations in one payload are not read either: each takes some hundred bytes,
/// however short it is.
const MAX_ENTRIES: usize = 100_000;
/// A receiver's name is that of somebody's config. A longer text than this is hashed: an index of PostgreSQL takes no more
/// than 2,704 bytes in all.
const MAX_RECEIVER: usize = 512;
/// The fields of the envelope that are read.
const FIELDS: [&str; 7] =
    ["receiver", "groupKey", "groupLabels", "externalURL", "truncatedAlerts", "notification_reason", "alerts"];

/// Why a body is not a webhook payload, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("not an Alertmanager webhook payload: {0}")]
    NotWebhook(String),
}

/// Reads a webhook body.
///
/// # Errors
/// When it is not JSON, or its envelope is not that of a webhook. The content of a single alert is never an error.
pub fn decode(body: &[u8]) -> Result<Webhook, DecodeError> {
    let body = text_of(body)?;
    let Some(envelope) = usual::read(body) else { return read_in_parts(body).map(webhook) };
    debug_assert_eq!(read_in_parts(body).as_ref(), Ok(&envelope), "read both ways, the same");
    Ok(webhook(envelope))
}

/// Like [`decode`], as 0.1.0 read all bodies: what a benchmark compares with.
///
/// # Errors
/// Those of [`decode`].
#[doc(hidden)]
pub fn decode_in_parts(body: &[u8]) -> Result<Webhook, DecodeError> {
    text_of(body).and_then(read_in_parts).map(webhook)
}

/// The body without what comes before its JSON.
fn text_of(body: &[u8]) -> Result<&[u8], DecodeError> {
    // Some clients on Windows begin with a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    foreign(body).map_or(Ok(body), |kind| Err(DecodeError::NotJson(kind.to_owned())))
}

fn webhook(envelope: Envelope) -> Webhook {
    let Envelope { receiver, group_key, group_labels, external_url, truncated, reason, alerts, mut odd } = envelope;
    let mut receiver = identity(&unquote_meta(&receiver), MAX_RECEIVER, &mut odd);
    if receiver == HEARTBEATS {
        receiver.push('?');
        odd += 1;
    }
    let mut webhook = Webhook {
        receiver,
        group_key: identity(&group_key, MAX_VALUE, &mut odd),
        group_labels,
        external_url,
        truncated,
        reason,
        alerts: one_each(alerts),
        odd,
        content_hash: String::new(),
    };
    webhook.content_hash = content_hash::of(&webhook);
    webhook
}

/// The fields of a webhook as they are written.
#[derive(Debug, PartialEq, Eq)]
struct Envelope {
    receiver: String,
    group_key: String,
    group_labels: Labels,
    external_url: String,
    truncated: u64,
    reason: NotificationReason,
    alerts: Vec<ListedAlert>,
    /// See [`Webhook::odd`].
    odd: u32,
}

/// Reads any body, and of what is odd as much as can be read.
fn read_in_parts(body: &[u8]) -> Result<Envelope, DecodeError> {
    let text = scrub::readable(body);
    let not_json = |error: serde_json::Error| DecodeError::NotJson(error.to_string());
    let wanted = |name: &str| FIELDS.contains(&name);
    let Some(fields) = Fields::of(&text, wanted, FIELDS.len()).map_err(not_json)? else {
        let found = serde_json::from_str::<&RawValue>(&text).map(bounded_json::scalar).map_err(not_json)?;
        return Err(DecodeError::NotWebhook(format!("expected an object at the top, found {}", kind(&found))));
    };
    bounded_json::check_depth(&text).map_err(not_json)?;
    let read = |name: &&str| {
        let raw = fields.get(name)?;
        let is_labels = *name == "groupLabels";
        let value =
            if is_labels { bounded_json::labels(raw, MAX_LABELS + 1, MAX_VALUE) } else { bounded_json::scalar(raw) };
        Some(((*name).to_owned(), value))
    };
    let envelope: Map<String, Value> = FIELDS.iter().filter_map(read).collect();
    let mut odd = 0;
    let alerts: First<'_, MAX_ALERTS> = match (envelope.get("alerts"), fields.get("alerts")) {
        (Some(Value::Array(_)), Some(alerts)) => serde_json::from_str(alerts.get()).map_err(not_json)?,
        (Some(other), _) => return Err(wrong("alerts", "a list", other)),
        (None, _) => return Err(DecodeError::NotWebhook("alerts is missing".to_owned())),
    };
    let group_labels = match envelope.get("groupLabels") {
        None | Some(Value::Null) => Labels::new(),
        Some(Value::Object(labels)) => read_labels(labels, &mut odd),
        Some(other) => return Err(wrong("groupLabels", "an object", other)),
    };
    let listed_truncated = match envelope.get("truncatedAlerts") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_u64().ok_or_else(|| wrong("truncatedAlerts", "a whole number", value))?,
    };
    // Reads one alert at a time until the bound is reached.
    let (mut listed, mut entries) = (Vec::new(), 0);
    for raw in &alerts.elements {
        let alert = read_alert(&bounded_json::alert(raw, MAX_LABELS + 1, MAX_VALUE), &mut odd);
        entries += alert.doc.labels.len() + alert.doc.annotations.len();
        if entries > MAX_ENTRIES {
            break;
        }
        listed.push(alert);
    }
    let unread = alerts.elements.len() - listed.len() + alerts.more;
    Ok(Envelope {
        receiver: required_text(&envelope, "receiver")?.to_owned(),
        group_key: required_text(&envelope, "groupKey")?.to_owned(),
        group_labels,
        external_url: read_text(&envelope, "externalURL", &mut odd),
        truncated: listed_truncated.saturating_add(unread as u64),
        reason: read_reason(envelope.get("notification_reason")),
        alerts: listed,
        odd,
    })
}

/// Names the format of a body that is not UTF-8 text, if its first bytes show it.
fn foreign(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x1f, 0x8b, ..] => Some("the body is compressed with gzip; send it as it is"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("the body is compressed with zstd; send it as it is"),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Some("the body is compressed (zlib, deflate); send it as it is"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            Some("the body is UTF-16 or UTF-32 text; send it as UTF-8")
        }
        _ => None,
    }
}

fn required_text<'a>(envelope: &'a Map<String, Value>, key: &str) -> Result<&'a str, DecodeError> {
    match envelope.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(key, "a string", other)),
        None => Err(DecodeError::NotWebhook(format!("{key} is missing"))),
    }
}

fn wrong(key: &str, expected: &str, found: &Value) -> DecodeError {
    DecodeError::NotWebhook(format!("{key}: expected {expected}, found {}", kind(found)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn read_reason(value: Option<&Value>) -> NotificationReason {
    match value {
        None | Some(Value::Null) => NotificationReason::Missing,
        Some(Value::String(text)) => reason_of(text),
        Some(_) => NotificationReason::Other,
    }
}

fn reason_of(text: &str) -> NotificationReason {
    match text {
        "" => NotificationReason::Missing,
        "repeat interval elapsed" => NotificationReason::RepeatInterval,
        "all alerts resolved" => NotificationReason::AllResolved,
        _ => NotificationReason::Other,
    }
}

/// Undoes Go's `regexp.QuoteMeta`, which Alertmanager applies to the receiver's name: `a\.b` is the receiver `a.b`.
fn unquote_meta(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && r"\.+*?()|[]{}^$".contains(*next) => {
                out.push(*next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

/// Removes duplicates; of two alerts with one fingerprint, the firing one stays.
fn one_each(mut listed: Vec<ListedAlert>) -> Vec<ListedAlert> {
    listed.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint).then(b.firing.cmp(&a.firing)));
    listed.dedup_by(|later, first| later.fingerprint == first.fingerprint);
    listed
}

#[cfg(test)]
mod tests;
