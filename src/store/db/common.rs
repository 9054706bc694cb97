//! What the alerts of a group have in common is written once, with their incident; of each alert, what differs from that.
//! Otherwise it is most of what a new group writes.

use std::{borrow::Cow, cmp::Ordering, collections::btree_map, fmt, iter::Peekable};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use super::json::{from_json, to_json};
use crate::{
    model::{Alert, AlertDoc, Labels, Timestamp},
    store::StoreError,
};

/// Bytes of texts that are kept in common at most: they are read again with each alert.
const MOST: usize = 4 * 1024;

/// What all alerts had in common when their incident was opened. It never changes, since the rows of its alerts say only what
/// differs from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Common {
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    annotations: Labels,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    generator_url: String,
}

impl Common {
    pub fn of(alerts: &[Alert]) -> Self {
        let Some((first, others)) = alerts.split_first() else { return Self::default() };
        let first = &first.doc;
        let mut labels: Vec<_> = first.labels.iter().collect();
        let mut annotations: Vec<_> = first.annotations.iter().collect();
        let mut url = Some(&first.generator_url);
        for Alert { doc, .. } in others {
            keep_same(&mut labels, &doc.labels);
            keep_same(&mut annotations, &doc.annotations);
            url = url.filter(|url| **url == doc.generator_url);
        }
        let mut left = MOST;
        let mut has_room = |bytes: usize| {
            let rest = left.checked_sub(bytes);
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        let mut owned = |pairs: Vec<(&String, &String)>| -> Labels {
            let short = pairs.into_iter().filter(|(name, value)| has_room(name.len() + value.len()));
            short.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let (labels, annotations) = (owned(labels), owned(annotations));
        let generator_url = url.filter(|url| has_room(url.len())).cloned().unwrap_or_default();
        Self { labels, annotations, generator_url }
    }

    /// As it is written; `None` for nothing.
    ///
    /// # Errors
    /// None is known of: JSON can hold all texts.
    pub fn to_json(&self) -> Result<Option<String>, StoreError> {
        (*self != Self::default()).then(|| to_json(self)).transpose()
    }

    /// # Errors
    /// When it is not what [`Self::to_json`] writes.
    pub fn from_json(json: Option<&str>) -> Result<Self, StoreError> {
        json.map_or_else(|| Ok(Self::default()), |json| from_json(json, "common"))
    }

    /// What differs in a document, as JSON: a merge patch (RFC 7396) of what is in common, and the document as it is where
    /// that is nothing.
    ///
    /// # Errors
    /// As [`Self::to_json`].
    pub fn difference(&self, doc: &AlertDoc) -> Result<String, StoreError> {
        // All fields are named, so that none that is added later is lost.
        let AlertDoc { labels, annotations, generator_url, starts_at, dashboard_url, panel_url, silence_url, values } =
            doc;
        to_json(&Difference {
            labels: differing(&self.labels, labels),
            annotations: differing(&self.annotations, annotations),
            generator_url: (*generator_url != self.generator_url).then_some(generator_url.into()),
            starts_at: *starts_at,
            dashboard_url: dashboard_url.into(),
            panel_url: panel_url.into(),
            silence_url: silence_url.into(),
            values: values.into(),
        })
    }

    /// The document that differs like this.
    ///
    /// # Errors
    /// When it is not what [`Self::difference`] writes.
    pub fn document(&self, difference: &str) -> Result<AlertDoc, StoreError> {
        let difference: Difference = from_json(difference, "doc")?;
        Ok(AlertDoc {
            labels: merged(&self.labels, difference.labels),
            annotations: merged(&self.annotations, difference.annotations),
            generator_url: difference.generator_url.map_or_else(|| self.generator_url.clone(), Cow::into_owned),
            starts_at: difference.starts_at,
            dashboard_url: difference.dashboard_url.into_owned(),
            panel_url: difference.panel_url.into_owned(),
            silence_url: difference.silence_url.into_owned(),
            values: difference.values.into_owned(),
        })
    }
}

/// Texts by their names, in order; `None` for what the alert lacks.
#[derive(Default)]
struct Texts<'a>(Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>);

impl Texts<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Texts<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts<'static>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                    texts.push((name.into(), value.map(Into::into)));
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(TextsVisitor)
    }
}

#[derive(Serialize, Deserialize)]
struct Difference<'a> {
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    labels: Texts<'a>,
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    annotations: Texts<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generator_url: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    dashboard_url: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    panel_url: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    silence_url: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    values: Cow<'a, str>,
}

/// The value of `name`; for one name after the other, in their order, which is much less than to look each up.
fn next<'a>(labels: &mut Peekable<btree_map::Iter<'a, String, String>>, name: &str) -> Option<&'a String> {
    while labels.next_if(|(before, _)| before.as_str() < name).is_some() {}
    labels.next_if(|(same, _)| *same == name).map(|(_, value)| value)
}

fn keep_same(pairs: &mut Vec<(&String, &String)>, labels: &Labels) {
    let mut labels = labels.iter().peekable();
    pairs.retain(|(name, value)| next(&mut labels, name) == Some(*value));
}

fn differing<'a>(common: &'a Labels, own: &'a Labels) -> Texts<'a> {
    let (mut common, mut own) = (common.iter().peekable(), own.iter().peekable());
    let mut texts = Vec::new();
    loop {
        let order = match (common.peek(), own.peek()) {
            (Some((in_common, _)), Some((name, _))) => in_common.cmp(name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Texts(texts),
        };
        let in_common = if order.is_le() { common.next() } else { None };
        let in_own = if order.is_ge() { own.next() } else { None };
        match (in_common, in_own) {
            (Some((name, _)), None) => texts.push((name.into(), None)),
            (in_common, Some((name, value))) if in_common.is_none_or(|(_, common)| common != value) => {
                texts.push((name.into(), Some(value.into())));
            }
            _ => {}
        }
    }
}

fn merged(common: &Labels, differing: Texts<'_>) -> Labels {
    let mut labels = common.clone();
    for (name, value) in differing.0 {
        if let Some(value) = value {
            labels.insert(name.into_owned(), value.into_owned());
        } else {
            labels.remove(name.as_ref());
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::AlertState;

    fn alert(doc: AlertDoc) -> Alert {
        Alert {
            fingerprint: "f".to_owned(),
            state: AlertState::Firing,
            starts_at: Timestamp(0),
            ends_at: None,
            absent_since: None,
            changed_at: Timestamp(0),
            seen: None,
            doc,
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn doc(pairs: &[(&str, &str)], url: &str) -> AlertDoc {
        AlertDoc { labels: labels(pairs), generator_url: url.to_owned(), ..AlertDoc::default() }
    }

    #[test]
    fn what_all_say_is_written_once() {
        let docs = [
            doc(&[("alertname", "A"), ("instance", "n1"), ("job", "node")], "https://prometheus.example/1"),
            doc(
                &[("alertname", "A"), ("instance", "n2"), ("job", "node"), ("rack", "r")],
                "https://prometheus.example/1",
            ),
        ];
        let common = Common::of(&docs.clone().map(alert));
        let written = r#"{"labels":{"alertname":"A","job":"node"},"generator_url":"https://prometheus.example/1"}"#;
        assert_eq!(common.to_json().expect("JSON").as_deref(), Some(written));
        let differences = docs.each_ref().map(|doc| common.difference(doc).expect("JSON"));
        assert_eq!(differences[0], r#"{"labels":{"instance":"n1"}}"#);
        assert_eq!(differences[1], r#"{"labels":{"instance":"n2","rack":"r"}}"#);
        // One that comes later, and does not have all of it.
        let later = doc(&[("alertname", "B"), ("instance", "n3")], "");
        let difference = r#"{"labels":{"alertname":"B","instance":"n3","job":null},"generator_url":""}"#;
        assert_eq!(common.difference(&later).expect("JSON"), difference);
        assert_eq!(common.document(difference).expect("as it was written"), later);
    }

    #[test]
    fn a_document_of_before_is_read_as_it_is() {
        let nothing = Common::from_json(None).expect("nothing");
        let text = r#"{"labels":{"alertname":"A"},"annotations":{"summary":"down"},"generator_url":"u","starts_at":7}"#;
        let doc: AlertDoc = serde_json::from_str(text).expect("a document");
        assert_eq!(nothing.document(text).expect("a document"), doc);
        assert_eq!(nothing.difference(&doc).expect("JSON"), text);
        assert_eq!(nothing.to_json().expect("JSON"), None);
    }

    #[test]
    fn long_texts_stay_with_each_alert() {
        let long = "x".repeat(MOST);
        let docs = [doc(&[("a", &long), ("b", "short")], &long), doc(&[("a", &long), ("b", "short")], &long)];
        let common = Common::of(&docs.clone().map(alert));
        assert_eq!(common.to_json().expect("JSON").as_deref(), Some(r#"{"labels":{"b":"short"}}"#));
        let difference = common.difference(&docs[0]).expect("JSON");
        assert_eq!(common.document(&difference).expect("as it was written"), docs[0]);
    }

    fn any_labels() -> impl Strategy<Value = Labels> {
        // Few names and values, so that some are the same.
        proptest::collection::btree_map("[abc\"é]{0,2}", "[xy\u{0}\\\\]{0,2}", 0..5)
    }

    prop_compose! {
        fn any_doc()(
            labels in any_labels(),
            annotations in any_labels(),
            urls in proptest::array::uniform4("[u\"]{0,1}"),
            starts_at in proptest::option::of(any::<i64>()),
            values in "[v\"]{0,2}",
        ) -> AlertDoc {
            let [generator_url, dashboard_url, panel_url, silence_url] = urls;
            let starts_at = starts_at.map(Timestamp);
            AlertDoc { labels, annotations, generator_url, starts_at, dashboard_url, panel_url, silence_url, values }
        }
    }

    proptest! {
        #[test]
        fn every_document_comes_back(
            first in proptest::collection::vec(any_doc(), 0..4),
            later in any_doc(),
        ) {
            let alerts: Vec<Alert> = first.iter().cloned().map(alert).collect();
            let common = Common::of(&alerts);
            let common = Common::from_json(common.to_json().expect("JSON").as_deref()).expect("as it was written");
            for doc in first.iter().chain([&later]) {
                let difference = common.difference(doc).expect("JSON");
                prop_assert_eq!(&common.document(&difference).expect("as it was written"), doc);
            }
        }
    }
}
