//! One alert of a payload: an odd field of it costs that field, and not the alert.

use jiff::Timestamp as Moment;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    intake::{scrub::cut, webhook::ListedAlert},
    model::{AlertDoc, Labels, Timestamp},
};

/// Longer names and values of labels and annotations are cut at this many bytes.
pub(super) const MAX_VALUE: usize = 16 * 1024;

/// More labels (or annotations) of one alert than this are not kept.
pub(super) const MAX_LABELS: usize = 128;

/// A fingerprint is 16 characters long; a longer text than this is hashed.
pub(super) const MAX_FINGERPRINT: usize = 128;

/// Of Grafana's measured values so many are kept, and of each so many bytes of name and value.
const MAX_VALUES: usize = 8;

const MAX_VALUE_NAME: usize = 40;

/// A text that identifies something. One that is too long ends in a hash of the whole text, so that texts with the same
/// beginning stay distinct.
pub(super) fn identity(text: &str, max: usize, odd: &mut u32) -> String {
    if text.len() <= max {
        return text.replace('\0', "\u{fffd}");
    }
    *odd += 1;
    let hash = hex::encode(&Sha256::digest(text)[..16]);
    format!("{}…{hash}", cut(text, max - hash.len() - '…'.len_utf8()).replace('\0', "?"))
}

/// What is read of an alert, before the rules that need more than one field.
pub(super) struct Parts {
    pub is_firing: bool,
    pub fingerprint: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    pub generator_url: String,
    pub dashboard_url: String,
    pub panel_url: String,
    pub silence_url: String,
    pub values: String,
}

impl Parts {
    pub fn listed(self) -> ListedAlert {
        let Self { is_firing, starts_at, ends_at, labels, .. } = self;
        // The button that tests a contact point sends an alert that nothing ever resolves, so it counts as over at once.
        let is_test = labels.get("alertname").is_some_and(|name| name == "TestAlert")
            && labels.get("instance").is_some_and(|instance| instance == "Grafana");
        let (firing, ends_at) = if is_test { (false, starts_at) } else { (is_firing, ends_at) };
        ListedAlert {
            fingerprint: self.fingerprint,
            firing,
            starts_at,
            ends_at: if firing { None } else { ends_at },
            doc: AlertDoc {
                labels,
                annotations: self.annotations,
                generator_url: self.generator_url,
                starts_at: None,
                dashboard_url: self.dashboard_url,
                panel_url: self.panel_url,
                silence_url: self.silence_url,
                values: self.values,
            },
        }
    }
}

pub(super) fn read_alert(value: &Value, odd: &mut u32) -> ListedAlert {
    let empty = Map::new();
    let alert = value.as_object().unwrap_or_else(|| {
        *odd += 1;
        &empty
    });
    let mut labels_of = |key: &str| match alert.get(key) {
        None | Some(Value::Null) => Labels::new(),
        Some(Value::Object(labels)) => read_labels(labels, odd),
        Some(_) => {
            *odd += 1;
            Labels::new()
        }
    };
    let (labels, annotations) = (labels_of("labels"), labels_of("annotations"));
    let starts_at = read_time(alert, "startsAt", odd);
    let ends_at = read_time(alert, "endsAt", odd);
    let is_firing = match alert.get("status").and_then(Value::as_str) {
        Some("firing") => true,
        Some("resolved") => false,
        _ => {
            // Alertmanager derives the status from endsAt; without it, firing is the safer guess.
            *odd += 1;
            ends_at.is_none()
        }
    };
    let fingerprint = match alert.get("fingerprint") {
        Some(Value::String(text)) if !text.is_empty() => identity(text, MAX_FINGERPRINT, odd),
        None | Some(Value::Null | Value::String(_)) => fingerprint_of(&labels, value),
        Some(_) => {
            *odd += 1;
            fingerprint_of(&labels, value)
        }
    };
    let parts = Parts {
        is_firing,
        fingerprint,
        labels,
        annotations,
        starts_at,
        ends_at,
        generator_url: read_text(alert, "generatorURL", odd),
        dashboard_url: read_text(alert, "dashboardURL", odd),
        panel_url: read_text(alert, "panelURL", odd),
        silence_url: read_text(alert, "silenceURL", odd),
        values: read_values(alert.get("values"), alert.get("valueString").and_then(Value::as_str)),
    };
    parts.listed()
}

/// Grafana's `values` as `A=93.4, C=1`; where a payload has none, those of its `valueString`. Both only inform, so that
/// anything else in them is left out.
pub(super) fn read_values(values: Option<&Value>, value_string: Option<&str>) -> String {
    let shown = |name: &str, value: &str| format!("{}={}", cut(name, MAX_VALUE_NAME), cut(value, MAX_VALUE_NAME));
    let values: Vec<String> = match (values, value_string) {
        (Some(Value::Object(values)), _) => {
            let number = |value: &Value| (value.is_number() || value.is_string()).then(|| plain(value));
            values.iter().filter_map(|(name, value)| Some(shown(name, &number(value)?))).take(MAX_VALUES).collect()
        }
        (_, Some(text)) => {
            // [ var='A' labels={host=h1} value=93.4 ], …
            let read = |part: &str| {
                let name = part.split_once("='")?.1.split_once('\'')?.0;
                let value = part.rsplit_once("value=")?.1.split([' ', ']']).next()?;
                Some(shown(name, value))
            };
            text.split("[ ").filter_map(read).take(MAX_VALUES).collect()
        }
        _ => Vec::new(),
    };
    scrub_text(&values.join(", "))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

pub(super) fn read_labels(labels: &Map<String, Value>, odd: &mut u32) -> Labels {
    if labels.len() > MAX_LABELS {
        *odd += 1;
    }
    let read = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            other => {
                *odd += 1;
                if other.is_null() { String::new() } else { other.to_string() }
            }
        };
        *odd += u32::from(name.len() > MAX_VALUE || text.len() > MAX_VALUE);
        (scrub_text(name), scrub_text(&text))
    };
    labels.iter().take(MAX_LABELS).map(read).collect()
}

/// Replaces NUL, the one character that neither homeservers nor C libraries accept; the renderer handles the rest.
pub(super) fn scrub_text(text: &str) -> String {
    cut(text, MAX_VALUE).replace('\0', "\u{fffd}")
}

pub(super) fn read_text(object: &Map<String, Value>, key: &str, odd: &mut u32) -> String {
    match object.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => {
            *odd += u32::from(text.len() > MAX_VALUE);
            scrub_text(text)
        }
        Some(_) => {
            *odd += 1;
            String::new()
        }
    }
}

fn read_time(alert: &Map<String, Value>, key: &str, odd: &mut u32) -> Option<Timestamp> {
    let text = match alert.get(key) {
        None | Some(Value::Null) => return None,
        Some(Value::String(text)) => text,
        Some(_) => {
            *odd += 1;
            return None;
        }
    };
    moment(text).unwrap_or_else(|()| {
        *odd += 1;
        None
    })
}

/// An RFC 3339 time; Go's zero time (`0001-01-01T00:00:00Z`) means "not set", as no text does.
///
/// # Errors
/// When it is not a time.
pub(super) fn moment(text: &str) -> Result<Option<Timestamp>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    let millis = text.parse::<Moment>().map_err(drop)?.as_millisecond();
    Ok((millis > 0).then_some(Timestamp(millis)))
}

/// Whether an alert with these labels came without a fingerprint, so that it has ours, which Alertmanager does not know.
pub(crate) fn is_own_fingerprint(fingerprint: &str, labels: &Labels) -> bool {
    // One without labels is hashed as a whole; Alertmanager has none like it.
    labels.is_empty() || fingerprint == fingerprint_of(labels, &Value::Null)
}

/// The fingerprint of an alert without one: a hash of its sorted labels, or of the whole alert if it has no labels.
fn fingerprint_of(labels: &Labels, alert: &Value) -> String {
    let mut hash = Sha256::new();
    if labels.is_empty() {
        hash.update(alert.to_string());
    }
    for (name, value) in labels {
        hash.update(name);
        hash.update([0xff]);
        hash.update(value);
        hash.update([0xff]);
    }
    hex::encode(&hash.finalize()[..8])
}
