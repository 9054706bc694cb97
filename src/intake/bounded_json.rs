//! Parses JSON in parts: fields that are not needed are never built, and large values are cut before they are. A
//! million empty objects as values would take many times the memory of the body.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use super::scrub::cut;

/// Parts up to this size are parsed as they are.
const SMALL: usize = 64 * 1024;
/// The depth that `serde_json` allows; it does not check it where it only skips.
const MAX_DEPTH: usize = 127;

/// The wanted fields of an object; the last one wins where a name repeats.
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// At most `most` fields that `wanted` selects; `None` if the text is not an object.
    ///
    /// # Errors
    /// When it is not JSON.
    pub(super) fn of(
        text: &'a str,
        wanted: impl Fn(&str) -> bool,
        most: usize,
    ) -> Result<Option<Self>, serde_json::Error> {
        if kind_of(text) != '{' {
            serde_json::from_str::<IgnoredAny>(text)?;
            return Ok(None);
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = json.deserialize_map(FieldsVisitor { wanted, most, of: PhantomData })?;
        json.end()?;
        Ok(Some(Self(fields)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

struct FieldsVisitor<'a, F> {
    wanted: F,
    most: usize,
    of: PhantomData<&'a ()>,
}

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for FieldsVisitor<'de, F> {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !(self.wanted)(&name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value()?;
            // With few wanted names, repeats replace each other; where all are wanted, the last one wins later.
            if fields.len() < self.most {
                fields.push((name, value));
            } else if let Some(known) = fields.iter_mut().find(|(known, _)| *known == name) {
                known.1 = value;
            }
        }
        Ok(fields)
    }
}

/// The first elements of a list, and how many more there are.
pub(super) struct First<'a, const MOST: usize> {
    pub(super) elements: Vec<&'a RawValue>,
    pub(super) more: usize,
}

impl<'de: 'a, 'a, const MOST: usize> Deserialize<'de> for First<'a, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor<'a, const MOST: usize>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a, const MOST: usize> Visitor<'de> for FirstVisitor<'a, MOST> {
            type Value = First<'a, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut first = First { elements: Vec::new(), more: 0 };
                while first.elements.len() < MOST {
                    let Some(element) = list.next_element::<&RawValue>()? else { return Ok(first) };
                    first.elements.push(element);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    first.more += 1;
                }
                Ok(first)
            }
        }
        deserializer.deserialize_seq(FirstVisitor(PhantomData))
    }
}

/// # Errors
/// When the nesting is deeper than `serde_json` allows.
pub(super) fn check_depth(text: &str) -> Result<(), serde_json::Error> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(de::Error::custom("nested too deep"));
        }
    }
    Ok(())
}

/// The first character of a value, which tells its kind.
pub(super) fn kind_of(text: &str) -> char {
    text.trim_start().chars().next().unwrap_or(' ')
}

/// A scalar in full; of a list or an object only its kind.
pub(super) fn scalar(raw: &RawValue) -> Value {
    match kind_of(raw.get()) {
        '[' => Value::Array(Vec::new()),
        '{' => Value::Object(Map::new()),
        _ => serde_json::from_str(raw.get()).unwrap_or_default(),
    }
}

/// At most `most` labels; values that are neither strings nor short are cut.
pub(super) fn labels(raw: &RawValue, most: usize, max_value: usize) -> Value {
    let Ok(Some(fields)) = Fields::of(raw.get(), |_| true, most) else { return scalar(raw) };
    let value = |raw: &RawValue| {
        let text = raw.get();
        let whole = || serde_json::from_str(text).ok();
        let short = if text.len() <= max_value || kind_of(text) == '"' { whole() } else { None };
        short.unwrap_or_else(|| Value::String(cut(text, max_value + 1).to_owned()))
    };
    Value::Object(fields.0.into_iter().map(|(name, raw)| (name, value(raw))).collect())
}

/// An alert; a large one only with the fields that are read.
pub(super) fn alert(raw: &RawValue, most: usize, max_value: usize) -> Value {
    const LABELS: [&str; 3] = ["labels", "annotations", "values"];
    const OTHERS: [&str; 9] = [
        "status",
        "startsAt",
        "endsAt",
        "fingerprint",
        "generatorURL",
        "dashboardURL",
        "panelURL",
        "silenceURL",
        "valueString",
    ];
    if raw.get().len() <= SMALL
        && let Ok(whole) = serde_json::from_str(raw.get())
    {
        return whole;
    }
    let wanted = |name: &str| LABELS.contains(&name) || OTHERS.contains(&name);
    let Ok(Some(fields)) = Fields::of(raw.get(), wanted, LABELS.len() + OTHERS.len()) else { return scalar(raw) };
    let of = |name: &&str, read: &dyn Fn(&RawValue) -> Value| Some(((*name).to_owned(), read(fields.get(name)?)));
    let labels = LABELS.iter().filter_map(|name| of(name, &|raw| labels(raw, most, max_value)));
    labels.chain(OTHERS.iter().filter_map(|name| of(name, &scalar))).collect::<Map<_, _>>().into()
}
