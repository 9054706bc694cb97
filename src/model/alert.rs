//! One alert of an incident.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{seen::Seen, time::Timestamp};

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Firing,
    Resolved,
    /// It was firing, and Alertmanager no longer lists it in its notifications or says that it is suppressed: silenced,
    /// inhibited or muted.
    Absent,
    /// It was firing, and no peer of Alertmanager has it any more. Nobody said that it is resolved.
    Gone,
}

impl AlertState {
    /// The states of alerts that matter now: an incident is about those in the first of these that it has alerts in.
    pub const FOCUS: [Self; 3] = [Self::Firing, Self::Absent, Self::Gone];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Absent => "absent",
            Self::Gone => "gone",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "firing" => Self::Firing,
            "resolved" => Self::Resolved,
            "absent" => Self::Absent,
            "gone" => Self::Gone,
            _ => return None,
        })
    }
}

/// The alert as Alertmanager sent it. All of it is untrusted until rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertDoc {
    pub labels: Labels,
    pub annotations: Labels,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub generator_url: String,
    /// The start that was named last, which may be later than the first one that was. Not after the receiver's own time
    /// when it came: Alertmanager gives an alert that is posted without one its end as its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// Grafana's webhook only, as are the next two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dashboard_url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub panel_url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub silence_url: String,
    /// What Grafana measured, by the rule's queries: `A=93.4, C=1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub values: String,
}

/// By what the store finds an alert in whatever incident holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertKey {
    /// See [`name_hash`].
    pub name_hash: i64,
    pub fingerprint: String,
}

impl AlertKey {
    #[must_use]
    pub fn of(fingerprint: &str, labels: &Labels) -> Self {
        Self { name_hash: name_hash(labels), fingerprint: fingerprint.to_owned() }
    }
}

/// A hash (32-bit FNV-1a) of `alertname`, never 0. The store keeps it and sorts by it, so that it never changes.
#[must_use]
pub fn name_hash(labels: &Labels) -> i64 {
    let name = labels.get("alertname").map_or("", String::as_str);
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash) + 1
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub fingerprint: String,
    pub state: AlertState,
    /// Start of the present (or last) firing; the earliest that any payload named.
    pub starts_at: Timestamp,
    /// Set while resolved.
    pub ends_at: Option<Timestamp>,
    /// Set while absent; the receiver's clock.
    pub absent_since: Option<Timestamp>,
    /// When `state` last changed; the receiver's clock. Orders the lines of a card.
    pub changed_at: Timestamp,
    /// What Alertmanager's API said of it last; `None`: it was not asked, or a webhook has said more since.
    pub seen: Option<Seen>,
    pub doc: AlertDoc,
}

impl Alert {
    /// Whether it is over if it was reported to have ended then. An end before the start belongs to an earlier firing.
    #[must_use]
    pub fn is_over_at(&self, ends_at: Timestamp) -> bool {
        ends_at >= self.doc.starts_at.unwrap_or(self.starts_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_name_is_the_one_that_stores_hold() {
        let of = |labels: &[(&str, &str)]| {
            name_hash(&labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        assert_eq!(of(&[("alertname", "Watchdog"), ("pod", "p")]), 2_481_911_395);
        assert_eq!(of(&[("pod", "p")]), 0x811c_9dc5 + 1);
    }
}
