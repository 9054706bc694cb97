//! A body as Alertmanager and Grafana write it, read in one pass: a third of the time that reading it in parts takes.
//!
//! Whatever is odd, too long, too much or nested deeper is left to the parent module, which knows what to make of it; so both
//! read the same from what is read here.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor},
};
use serde_json::{Map, Value};

use super::{
    Envelope, MAX_ALERTS, MAX_ENTRIES,
    alert::{MAX_FINGERPRINT, MAX_LABELS, MAX_VALUE, Parts, moment, read_values},
    reason_of,
};
use crate::{intake::webhook::ListedAlert, model::Labels};

/// The envelope of a usual body; `None` for any other.
pub(super) fn read(body: &[u8]) -> Option<Envelope> {
    serde_json::from_str(str::from_utf8(body).ok()?).ok()
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum EnvelopeKey {
    Receiver,
    GroupKey,
    GroupLabels,
    #[serde(rename = "externalURL")]
    ExternalUrl,
    TruncatedAlerts,
    #[serde(rename = "notification_reason")]
    Reason,
    Alerts,
    #[serde(other)]
    Other,
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a webhook")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let (mut receiver, mut group_key, mut external_url) = (None, None, None);
        let (mut group_labels, mut truncated, mut reason, mut alerts) = (None, None, None, None);
        while let Some(key) = map.next_key()? {
            match key {
                EnvelopeKey::Receiver => once(&mut receiver, map.next_value::<Text<'_>>()?)?,
                EnvelopeKey::GroupKey => once(&mut group_key, map.next_value::<Text<'_>>()?)?,
                EnvelopeKey::GroupLabels => once(&mut group_labels, map.next_value::<UsualLabels>()?)?,
                EnvelopeKey::ExternalUrl => once(&mut external_url, map.next_value::<Text<'_>>()?)?,
                EnvelopeKey::TruncatedAlerts => once(&mut truncated, map.next_value::<u64>()?)?,
                EnvelopeKey::Reason => once(&mut reason, map.next_value::<Text<'_>>()?)?,
                EnvelopeKey::Alerts => once(&mut alerts, map.next_value::<Alerts>()?)?,
                EnvelopeKey::Other => {
                    map.next_value::<Flat>()?;
                }
            }
        }
        let missing = || de::Error::missing_field("one of the envelope");
        Ok(Envelope {
            receiver: receiver.ok_or_else(missing)?.into(),
            group_key: group_key.ok_or_else(missing)?.into(),
            group_labels: group_labels.map(|UsualLabels(labels)| labels).unwrap_or_default(),
            external_url: external_url.map(Into::into).unwrap_or_default(),
            truncated: truncated.unwrap_or_default(),
            reason: reason_of(reason.as_ref().map_or("", Text::as_str)),
            alerts: alerts.map(|Alerts(alerts)| alerts).ok_or_else(missing)?,
            odd: 0,
        })
    }
}

/// Of a name that comes twice the last counts, which is for the parent module to sort out.
fn once<T, E: de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    if slot.replace(value).is_some() { Err(E::custom("a name that comes twice")) } else { Ok(()) }
}

struct Alerts(Vec<ListedAlert>);

impl<'de> Deserialize<'de> for Alerts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AlertsVisitor;
        impl<'de> Visitor<'de> for AlertsVisitor {
            type Value = Alerts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Alerts, A::Error> {
                let (mut alerts, mut entries) = (Vec::new(), 0);
                while let Some(Alert(alert)) = list.next_element()? {
                    entries += alert.doc.labels.len() + alert.doc.annotations.len();
                    if alerts.len() == MAX_ALERTS || entries > MAX_ENTRIES {
                        return Err(de::Error::custom("too much"));
                    }
                    alerts.push(alert);
                }
                Ok(Alerts(alerts))
            }
        }
        deserializer.deserialize_seq(AlertsVisitor)
    }
}

struct Alert(ListedAlert);

impl<'de> Deserialize<'de> for Alert {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AlertVisitor).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum AlertKey {
    Status,
    Labels,
    Annotations,
    StartsAt,
    EndsAt,
    Fingerprint,
    #[serde(rename = "generatorURL")]
    GeneratorUrl,
    #[serde(rename = "dashboardURL")]
    DashboardUrl,
    #[serde(rename = "panelURL")]
    PanelUrl,
    #[serde(rename = "silenceURL")]
    SilenceUrl,
    Values,
    ValueString,
    #[serde(other)]
    Other,
}

struct AlertVisitor;

impl<'de> Visitor<'de> for AlertVisitor {
    type Value = ListedAlert;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an alert")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListedAlert, A::Error> {
        let (mut status, mut fingerprint, mut labels, mut annotations) = (None, None, None, None);
        let (mut starts_at, mut ends_at, mut values, mut value_string) = (None, None, None, None);
        let mut urls: [Option<Text<'_>>; 4] = Default::default();
        while let Some(key) = map.next_key()? {
            match key {
                AlertKey::Status => once(&mut status, map.next_value::<Text<'_>>()?)?,
                AlertKey::Labels => once(&mut labels, map.next_value::<UsualLabels>()?)?,
                AlertKey::Annotations => once(&mut annotations, map.next_value::<UsualLabels>()?)?,
                AlertKey::StartsAt => once(&mut starts_at, map.next_value::<Text<'_>>()?)?,
                AlertKey::EndsAt => once(&mut ends_at, map.next_value::<Text<'_>>()?)?,
                AlertKey::Fingerprint => once(&mut fingerprint, map.next_value::<Text<'_>>()?)?,
                AlertKey::GeneratorUrl => once(&mut urls[0], map.next_value()?)?,
                AlertKey::DashboardUrl => once(&mut urls[1], map.next_value()?)?,
                AlertKey::PanelUrl => once(&mut urls[2], map.next_value()?)?,
                AlertKey::SilenceUrl => once(&mut urls[3], map.next_value()?)?,
                AlertKey::Values => once(&mut values, map.next_value::<FlatValues>()?.0)?,
                AlertKey::ValueString => once(&mut value_string, map.next_value::<Text<'_>>()?)?,
                AlertKey::Other => {
                    map.next_value::<Flat>()?;
                }
            }
        }
        let odd = || de::Error::custom("odd");
        let time = |text: Option<Text<'_>>| text.map_or(Ok(None), |text| moment(text.as_str())).map_err(|()| odd());
        let fingerprint = fingerprint.filter(|text| (1..=MAX_FINGERPRINT).contains(&text.as_str().len()));
        let [generator_url, dashboard_url, panel_url, silence_url] =
            urls.map(|url| url.map(String::from).unwrap_or_default());
        let parts = Parts {
            is_firing: match status.as_ref().map(Text::as_str) {
                Some("firing") => true,
                Some("resolved") => false,
                _ => return Err(odd()),
            },
            fingerprint: fingerprint.ok_or_else(odd)?.into(),
            labels: labels.map(|UsualLabels(labels)| labels).unwrap_or_default(),
            annotations: annotations.map(|UsualLabels(labels)| labels).unwrap_or_default(),
            starts_at: time(starts_at)?,
            ends_at: time(ends_at)?,
            generator_url,
            dashboard_url,
            panel_url,
            silence_url,
            values: read_values(values.as_ref(), value_string.as_ref().map(Text::as_str)),
        };
        Ok(parts.listed())
    }
}

/// A text that stays as it is: neither too long nor with a NUL.
struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Text<'_>> for String {
    fn from(Text(text): Text<'_>) -> Self {
        text.into_owned()
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a short text")
            }

            // As it is in the body, where JSON allows no control character.
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                if text.len() > MAX_VALUE {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Text(Cow::Borrowed(text)))
            }

            // One with escapes.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                if text.len() > MAX_VALUE || text.contains('\0') {
                    return Err(E::invalid_value(Unexpected::Other("a text to be cut"), &self));
                }
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

struct UsualLabels(Labels);

impl<'de> Deserialize<'de> for UsualLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = UsualLabels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UsualLabels, A::Error> {
                let mut labels: Vec<(String, String)> = Vec::with_capacity(8);
                while let Some((name, value)) = map.next_entry::<Text<'_>, Text<'_>>()? {
                    if labels.len() == MAX_LABELS {
                        return Err(de::Error::custom("too many labels"));
                    }
                    labels.push((name.into(), value.into()));
                }
                let many = labels.len();
                // Mostly in order already, which makes this quick.
                let labels: Labels = labels.into_iter().collect();
                if labels.len() < many {
                    Err(de::Error::custom("a name that comes twice"))
                } else {
                    Ok(UsualLabels(labels))
                }
            }
        }
        deserializer.deserialize_map(LabelsVisitor)
    }
}

/// What nobody reads: a scalar, or a list or an object of scalars, so that nothing here is nested deep.
struct Flat;

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlatVisitor { scalars_only: false })
    }
}

#[derive(Clone, Copy)]
struct FlatVisitor {
    scalars_only: bool,
}

impl FlatVisitor {
    const SCALAR: Self = Self { scalars_only: true };

    fn enter<E: de::Error>(self) -> Result<(), E> {
        if self.scalars_only { Err(E::custom("nested")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for FlatVisitor {
    type Value = Flat;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Flat, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FlatVisitor {
    type Value = Flat;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, or a few")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Flat, E> {
        Ok(Flat)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Flat, E> {
        Ok(Flat)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Flat, E> {
        Ok(Flat)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Flat, E> {
        Ok(Flat)
    }

    fn visit_str<E>(self, _: &str) -> Result<Flat, E> {
        Ok(Flat)
    }

    fn visit_unit<E>(self) -> Result<Flat, E> {
        Ok(Flat)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Flat, A::Error> {
        self.enter()?;
        while list.next_element_seed(Self::SCALAR)?.is_some() {}
        Ok(Flat)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Flat, A::Error> {
        self.enter()?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Self::SCALAR)?;
        }
        Ok(Flat)
    }
}

/// Grafana's `values`, by name; `null` for none.
struct FlatValues(Value);

impl<'de> Deserialize<'de> for FlatValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValuesVisitor;
        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = FlatValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a few numbers")
            }

            fn visit_unit<E>(self) -> Result<FlatValues, E> {
                Ok(FlatValues(Value::Null))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FlatValues, A::Error> {
                let mut values = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Scalar>()? {
                    if values.len() == MAX_LABELS {
                        return Err(de::Error::custom("too many values"));
                    }
                    values.insert(name, value.0);
                }
                Ok(FlatValues(values.into()))
            }
        }
        deserializer.deserialize_any(ValuesVisitor)
    }
}

struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(Value::Null))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

#[cfg(test)]
mod tests;
