//! The answers of Alertmanager's API as the receiver reads them.
//!
//! Every field may be missing, or be something else than it should: such a field reads as empty, and what stands beside it
//! is kept. Only text that is not JSON at all, or not the expected list, is an error. The answer is read in one pass into
//! what is kept of it, since it may have thousands of alerts.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use jiff::Timestamp as Moment;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    alertmanager::api::{ApiAlert, ApiSilence, Matcher, PeerStatus, SilenceState},
    model::{Labels, Timestamp},
};

/// Entries of one list that are read; more than any Alertmanager lists.
const MAX_ITEMS: usize = 200_000;

/// The alerts that `GET /alerts/groups` lists for this receiver.
///
/// # Errors
/// Says what is wrong with the answer.
pub fn groups(body: &[u8], receiver: &str) -> Result<Vec<ApiAlert>, String> {
    let groups: Vec<Group> = list(body)?;
    let of_receiver = |group: &Group| group.receiver.as_ref().is_none_or(|name| name.0 == receiver);
    let alerts = groups.into_iter().filter(of_receiver).flat_map(|group| {
        let name = group.receiver;
        group.alerts.into_iter().map(move |mut alert| {
            if let Some(Name(name)) = &name
                && !alert.receivers.contains(name)
            {
                alert.receivers.push(name.clone());
            }
            alert
        })
    });
    // One of a group that names no receiver says itself where it goes.
    Ok(alerts.filter(|alert| alert.receivers.iter().any(|name| name == receiver)).collect())
}

/// The alerts that `GET /alerts` lists.
///
/// # Errors
/// As [`groups`].
pub fn alerts(body: &[u8]) -> Result<Vec<ApiAlert>, String> {
    list(body)
}

/// The silences that `GET /silences` lists. One without an id cannot be named, and is left out.
///
/// # Errors
/// As [`groups`].
pub fn silences(body: &[u8]) -> Result<Vec<ApiSilence>, String> {
    let mut silences: Vec<ApiSilence> = list(body)?;
    silences.retain(|silence| !silence.id.is_empty());
    Ok(silences)
}

/// What `GET /status` says.
///
/// # Errors
/// As [`groups`].
pub fn status(body: &[u8]) -> Result<PeerStatus, String> {
    object(body)
}

/// The id in the answer to `POST /silences`; some versions of Grafana call it `id`.
#[must_use]
pub fn silence_id(body: &[u8]) -> Option<String> {
    object::<Made>(body).ok()?.0.filter(|id| !id.trim().is_empty())
}

/// The server's own words in the body of an error: a JSON string, the `message` of an object, or plain text.
#[must_use]
pub fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if let Ok(Text(Some(text))) = serde_json::from_str::<Text>(&text) {
        return text;
    }
    if let Ok(Object(Some(Message(Some(message))))) = serde_json::from_str::<Object<Message>>(&text) {
        return message;
    }
    // The page of a proxy says nothing in its first line.
    if text.trim_start().starts_with('<') { String::new() } else { text.into_owned() }
}

fn list<T: Fields>(body: &[u8]) -> Result<Vec<T>, String> {
    match serde_json::from_str::<List<T>>(&String::from_utf8_lossy(body)) {
        Ok(List(Some(items))) => Ok(items),
        Ok(List(None)) => Err("the answer is not a list".to_owned()),
        Err(error) => Err(in_words(&error)),
    }
}

fn object<T: Fields>(body: &[u8]) -> Result<T, String> {
    match serde_json::from_str::<Object<T>>(&String::from_utf8_lossy(body)) {
        Ok(Object(Some(object))) => Ok(object),
        Ok(Object(None)) => Err("the answer is not an object".to_owned()),
        Err(error) => Err(in_words(&error)),
    }
}

/// serde_json quotes nothing of the text but our own words.
fn in_words(error: &serde_json::Error) -> String {
    format!("the answer cannot be read as JSON: {error}")
}

/// A type that reads the fields of an object one by one.
trait Fields: Default {
    /// Reads the value of `key`, or leaves it and returns `false`.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

impl Fields for ApiAlert {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "fingerprint" => self.fingerprint = text(map)?,
            "labels" => self.labels = map.next_value::<Dictionary>()?.0,
            "receivers" => {
                self.receivers =
                    map.next_value::<List<Name>>()?.0.unwrap_or_default().into_iter().map(|n| n.0).collect();
            }
            "startsAt" => self.starts_at = time(map)?,
            "status" => {
                let status = map.next_value::<Object<AlertStatus>>()?.0.unwrap_or_default();
                (self.silenced_by, self.inhibited_by) = (status.silences, status.inhibitors);
                self.muted_by = status.intervals;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[derive(Default)]
struct AlertStatus {
    silences: Vec<String>,
    inhibitors: Vec<String>,
    intervals: Vec<String>,
}

impl Fields for AlertStatus {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "silencedBy" => self.silences = texts(map)?,
            "inhibitedBy" => self.inhibitors = texts(map)?,
            "mutedBy" => self.intervals = texts(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[derive(Default)]
struct Group {
    /// `None`: it does not say.
    receiver: Option<Name>,
    alerts: Vec<ApiAlert>,
}

impl Fields for Group {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "receiver" => self.receiver = map.next_value::<Object<Name>>()?.0,
            "alerts" => self.alerts = map.next_value::<List<ApiAlert>>()?.0.unwrap_or_default(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// An object with a name.
#[derive(Default)]
struct Name(String);

impl Fields for Name {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        if key != "name" {
            return Ok(false);
        }
        self.0 = text(map)?;
        Ok(true)
    }
}

impl Fields for ApiSilence {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "id" => self.id = text(map)?,
            "status" => {
                self.state = match map.next_value::<Object<State>>()?.0.unwrap_or_default().0.as_str() {
                    "active" => SilenceState::Active,
                    "pending" => SilenceState::Pending,
                    _ => SilenceState::Expired,
                };
            }
            "matchers" => {
                let read = map.next_value::<List<ReadMatcher>>()?.0.unwrap_or_default();
                self.matchers = read.into_iter().map(Into::into).collect();
            }
            "createdBy" => self.created_by = text(map)?,
            "comment" => self.comment = text(map)?,
            "startsAt" => self.starts_at = time(map)?.unwrap_or_default(),
            "endsAt" => self.ends_at = time(map)?.unwrap_or_default(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[derive(Default)]
struct State(String);

impl Fields for State {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        if key != "state" {
            return Ok(false);
        }
        self.0 = text(map)?;
        Ok(true)
    }
}

#[derive(Default)]
struct ReadMatcher {
    name: String,
    value: String,
    is_regex: Option<bool>,
    is_equal: Option<bool>,
}

impl Fields for ReadMatcher {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "name" => self.name = text(map)?,
            "value" => self.value = text(map)?,
            "isRegex" => self.is_regex = map.next_value::<Flag>()?.0,
            "isEqual" => self.is_equal = map.next_value::<Flag>()?.0,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl From<ReadMatcher> for Matcher {
    fn from(read: ReadMatcher) -> Self {
        let (is_regex, is_equal) = (read.is_regex.unwrap_or(false), read.is_equal.unwrap_or(true));
        Self { name: read.name, value: read.value, is_regex, is_equal }
    }
}

impl Fields for PeerStatus {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "versionInfo" => self.version = map.next_value::<Object<Version>>()?.0.unwrap_or_default().0,
            "uptime" => self.up_since = time(map)?,
            "cluster" => self.cluster = map.next_value::<Object<Cluster>>()?.0.unwrap_or_default().0,
            "config" => self.config = map.next_value::<Object<Original>>()?.0.unwrap_or_default().0,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Objects of which one field counts.
macro_rules! one_field {
    ($($name:ident $key:literal),*) => {$(
        #[derive(Default)]
        struct $name(String);

        impl Fields for $name {
            fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
                let known = key == $key;
                if known {
                    self.0 = text(map)?;
                }
                Ok(known)
            }
        }
    )*};
}

one_field!(Version "version", Cluster "status", Original "original");

#[derive(Default)]
struct Made(Option<String>);

impl Fields for Made {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "silenceID" => self.0 = map.next_value::<Text>()?.0.or(self.0.take()),
            "id" => self.0 = self.0.take().or(map.next_value::<Text>()?.0),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[derive(Default)]
struct Message(Option<String>);

impl Fields for Message {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "message" | "error" => self.0 = self.0.take().or(map.next_value::<Text>()?.0),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    Ok(map.next_value::<Text>()?.0.unwrap_or_default())
}

fn texts<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<String>, A::Error> {
    Ok(map.next_value::<Texts>()?.0)
}

/// A time that somebody set: Go writes an unset one as the year 1.
fn time<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Timestamp>, A::Error> {
    let moment = map.next_value::<Text>()?.0.and_then(|text| text.parse::<Moment>().ok());
    Ok(moment.map(|moment| Timestamp(moment.as_millisecond())).filter(|at| at.0 > 0))
}

/// Visitors of any value: what a type does not expect is read to its end and dropped.
macro_rules! drop_scalars {
    ($dropped:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($dropped)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($dropped)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($dropped)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($dropped)
        }
    };
}

macro_rules! drop_text {
    ($dropped:expr) => {
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok($dropped)
        }
    };
}

macro_rules! drop_flag {
    ($dropped:expr) => {
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($dropped)
        }
    };
}

macro_rules! drop_list {
    ($dropped:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok($dropped)
        }
    };
}

macro_rules! drop_object {
    ($dropped:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($dropped)
        }
    };
}

/// A string; `None` where there is something else.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfText;
        impl<'de> Visitor<'de> for OfText {
            type Value = Text;
            drop_scalars!(Text(None));
            drop_flag!(Text(None));
            drop_list!(Text(None));
            drop_object!(Text(None));

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }
        }
        from.deserialize_any(OfText)
    }
}

struct Flag(Option<bool>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfFlag;
        impl<'de> Visitor<'de> for OfFlag {
            type Value = Flag;
            drop_scalars!(Flag(None));
            drop_text!(Flag(None));
            drop_list!(Flag(None));
            drop_object!(Flag(None));

            fn visit_bool<E: Error>(self, yes: bool) -> Result<Flag, E> {
                Ok(Flag(Some(yes)))
            }
        }
        from.deserialize_any(OfFlag)
    }
}

/// The strings of a list.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfTexts;
        impl<'de> Visitor<'de> for OfTexts {
            type Value = Texts;
            drop_scalars!(Texts(Vec::new()));
            drop_flag!(Texts(Vec::new()));
            drop_text!(Texts(Vec::new()));
            drop_object!(Texts(Vec::new()));

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = items.next_element()? {
                    texts.extend(text.filter(|_| texts.len() < MAX_ITEMS));
                }
                Ok(Texts(texts))
            }
        }
        from.deserialize_any(OfTexts)
    }
}

/// An object whose values are strings.
struct Dictionary(Labels);

impl<'de> Deserialize<'de> for Dictionary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfDictionary;
        impl<'de> Visitor<'de> for OfDictionary {
            type Value = Dictionary;
            drop_scalars!(Dictionary(BTreeMap::new()));
            drop_flag!(Dictionary(BTreeMap::new()));
            drop_text!(Dictionary(BTreeMap::new()));
            drop_list!(Dictionary(BTreeMap::new()));

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dictionary, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, Text(value))) = map.next_entry::<String, Text>()? {
                    entries.extend(value.map(|value| (name, value)));
                }
                Ok(Dictionary(entries))
            }
        }
        from.deserialize_any(OfDictionary)
    }
}

/// An object; `None` where there is something else.
struct Object<T>(Option<T>);

impl<'de, T: Fields> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfObject<T>(PhantomData<T>);
        impl<'de, T: Fields> Visitor<'de> for OfObject<T> {
            type Value = Object<T>;
            drop_scalars!(Object(None));
            drop_flag!(Object(None));
            drop_text!(Object(None));
            drop_list!(Object(None));

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
                let mut object = T::default();
                while let Some(Key(key)) = map.next_key()? {
                    if !object.read(&key, &mut map)? {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Object(Some(object)))
            }
        }
        from.deserialize_any(OfObject(PhantomData))
    }
}

/// The objects of a list; `None` where there is something else. `null`, as Go writes an empty list, is one.
struct List<T>(Option<Vec<T>>);

impl<'de, T: Fields> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfList<T>(PhantomData<T>);
        impl<'de, T: Fields> Visitor<'de> for OfList<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<List<T>, E> {
                Ok(List(None))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<List<T>, E> {
                Ok(List(None))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<List<T>, E> {
                Ok(List(None))
            }

            fn visit_unit<E: Error>(self) -> Result<List<T>, E> {
                Ok(List(Some(Vec::new())))
            }
            drop_flag!(List(None));
            drop_text!(List(None));
            drop_object!(List(None));

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(Object(item)) = items.next_element::<Object<T>>()? {
                    if list.len() == MAX_ITEMS {
                        return Err(A::Error::custom("the list is longer than 200,000 entries"));
                    }
                    list.extend(item);
                }
                Ok(List(Some(list)))
            }
        }
        from.deserialize_any(OfList(PhantomData))
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
