//! Reads the answer of Loki's `query_range`, leniently: what is not known is left out, and nothing but times and lines is
//! kept.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Entries beyond are only counted, whatever Loki was asked for.
const MAX_ENTRIES: usize = 5000;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Which of the answer's streams it is from.
    pub(super) stream: usize,
    /// Nanoseconds since 1970.
    pub(super) at: i64,
    pub(super) line: String,
}

/// All entries of an answer, in its order: stream by stream, each from the newest to the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// Entries that are not among them.
    pub(super) beyond: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// A metric query's answer.
    Numbers,
    /// What it is, as it follows a server's name.
    NotLoki(&'static str),
}

pub(super) fn read(body: &[u8]) -> Result<Found, Unusable> {
    let text = String::from_utf8_lossy(body);
    let reply: Reply = serde_json::from_str(&text).map_err(|error| {
        Unusable::NotLoki(if error.is_data() {
            "answers JSON that is not what Loki answers"
        } else {
            "answers what is not JSON"
        })
    })?;
    let data = reply.data.ok_or(Unusable::NotLoki("answers JSON without data"))?;
    match data.kind.as_deref() {
        Some("streams") => Ok(data.result.0),
        Some("matrix" | "vector" | "scalar") => Err(Unusable::Numbers),
        _ => Err(Unusable::NotLoki("answers JSON that is not what Loki answers")),
    }
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default, rename = "resultType")]
    kind: Option<String>,
    #[serde(default)]
    result: Streams,
}

#[derive(Default)]
struct Streams(Found);

impl<'de> Deserialize<'de> for Streams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StreamsVisitor)
    }
}

struct StreamsVisitor;

impl<'de> Visitor<'de> for StreamsVisitor {
    type Value = Streams;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of streams")
    }

    fn visit_unit<E>(self) -> Result<Streams, E> {
        Ok(Streams::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut streams: A) -> Result<Streams, A::Error> {
        let (mut found, mut stream) = (Found::default(), 0);
        while streams.next_element_seed(StreamSeed { found: &mut found, stream })?.is_some() {
            stream += 1;
        }
        Ok(Streams(found))
    }
}

/// Reads `{"stream": {…}, "values": [[…], …]}` into `found`.
struct StreamSeed<'a> {
    found: &'a mut Found,
    stream: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for StreamSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StreamSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            if key == "values" {
                fields.next_value_seed(ValuesSeed { found: &mut *self.found, stream: self.stream })?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    // A number of a scalar.
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

struct ValuesSeed<'a> {
    found: &'a mut Found,
    stream: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for ValuesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ValuesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        loop {
            if self.found.entries.len() >= MAX_ENTRIES {
                if values.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
                self.found.beyond += 1;
                continue;
            }
            let Some(Value(value)) = values.next_element()? else { return Ok(()) };
            let stream = self.stream;
            self.found.entries.extend(value.map(|(at, line)| Entry { stream, at, line }));
        }
    }
}

/// `["1700000000000000000", "line"]`, perhaps with structured metadata behind; `None`: a time or a line is not a text.
struct Value(Option<(i64, String)>);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairVisitor;
        impl<'de> Visitor<'de> for PairVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time and a line")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Value, A::Error> {
                let at = pair.next_element::<Text>()?;
                let line = pair.next_element::<Text>()?;
                while pair.next_element::<IgnoredAny>()?.is_some() {}
                let both = at.and_then(|at| at.0?.parse().ok()).zip(line.and_then(|line| line.0));
                Ok(Value(both))
            }
        }
        deserializer.deserialize_seq(PairVisitor)
    }
}

/// A text; `None` for any other simple value.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Result<Vec<(usize, i64, String)>, Unusable> {
        Ok(read(body.as_bytes())?.entries.into_iter().map(|entry| (entry.stream, entry.at, entry.line)).collect())
    }

    #[test]
    fn lines_are_read_and_nothing_else() {
        let body = r#"{"status":"success","data":{"stats":{"x":[1]},"result":[
            {"stream":{"a":"1"},"values":[["2","b"],["1","a",{"structuredMetadata":{"k":"v"}}]]},
            {"values":[["x","no time"],["3",7],[4,"a number"],["5"],[],["6","c"]],"later":null},{}],
            "resultType":"streams"}}"#;
        let line = |stream, at, line: &str| (stream, at, line.to_owned());
        assert_eq!(found(body), Ok(vec![line(0, 2, "b"), line(0, 1, "a"), line(1, 6, "c")]));
        assert_eq!(found(r#"{"data":{"resultType":"streams","result":null}}"#), Ok(Vec::new()));
        assert_eq!(found(r#"{"data":{"resultType":"streams"}}"#), Ok(Vec::new()));
    }

    #[test]
    fn numbers_are_no_lines() {
        for body in [
            r#"{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1700000000,"7"],[1.5,"8"]]}]}}"#,
            r#"{"data":{"result":[{"metric":{},"value":[1700000000,"7"]}],"resultType":"vector"}}"#,
            r#"{"data":{"resultType":"scalar","result":[1700000000.5,"7"]}}"#,
        ] {
            assert_eq!(found(body), Err(Unusable::Numbers), "{body}");
        }
    }

    #[test]
    fn what_is_not_from_loki() {
        for (body, expected) in [
            ("<html>login</html>", "answers what is not JSON"),
            ("", "answers what is not JSON"),
            (r#"{"data":{"resultType":"streams","result":[{"values":[["1","cut"#, "answers what is not JSON"),
            ("[]", "answers JSON without data"),
            (r#"{"data":7}"#, "answers JSON that is not what Loki answers"),
            (r#"{"data":{"result":[]}}"#, "answers JSON that is not what Loki answers"),
            (r#"{"data":{"resultType":"streams","result":"x"}}"#, "answers JSON that is not what Loki answers"),
            (
                r#"{"data":{"resultType":"streams","result":[{"values":7}]}}"#,
                "answers JSON that is not what Loki answers",
            ),
            (r#"{"status":"success"}"#, "answers JSON without data"),
        ] {
            assert_eq!(found(body), Err(Unusable::NotLoki(expected)), "{body}");
        }
    }

    #[test]
    fn more_entries_than_anybody_asked_for_are_counted() {
        let values = vec![r#"["1","x"]"#; 6000].join(",");
        let stream = format!(r#"{{"values":[{values}]}}"#);
        let body = format!(r#"{{"data":{{"resultType":"streams","result":[{stream},{stream}]}}}}"#);
        let found = read(body.as_bytes()).expect("lines");
        assert_eq!((found.entries.len(), found.beyond), (5000, 7000));
    }

    #[test]
    fn depth_is_bounded() {
        let body = format!(r#"{{"data":{{"resultType":"streams","result":{}"#, "[".repeat(100_000));
        assert!(read(body.as_bytes()).is_err());
    }
}
