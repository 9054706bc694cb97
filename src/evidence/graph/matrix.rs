//! The answer to `query_range`, read leniently and within bounds: a series is read at a time, and what is not JSON of the
//! expected shape is passed over.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::series::{Point, Series};

/// Series beyond this are counted, not looked at.
const MAX_SERIES: usize = 5_000;
/// Prometheus itself refuses to answer more points of a series.
const MAX_POINTS: usize = 11_000;
/// Labels of a series beyond this are not read, nor is what is longer, in bytes.
const MAX_LABELS: usize = 100;
const MAX_LABEL_BYTES: usize = 4_096;

/// The parts of an answer.
/// The parts of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    status: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    error: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data<'a> {
    #[serde(rename = "resultType")]
    kind: String,
    #[serde(borrow)]
    result: Rows<'a>,
}

/// The series of an answer, each still text.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    series: Vec<&'a RawValue>,
    /// Those behind [`MAX_SERIES`].
    pub(super) unread: usize,
}

impl Rows<'_> {
    /// Each series; `None` for one without a point, or that is not one.
    pub(super) fn each(&self) -> impl Iterator<Item = Option<Series>> {
        self.series.iter().map(|row| {
            let row: Row = serde_json::from_str(row.get()).ok()?;
            let series = row.series();
            (!series.points.is_empty()).then_some(series)
        })
    }
}

/// The series of an answer.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(body: &[u8]) -> Result<Rows<'_>, String> {
    let not_json = "the answer is not JSON of Prometheus";
    let answer: Answer = serde_json::from_slice(body).map_err(|_| not_json)?;
    match answer.status.as_str() {
        "success" => {}
        "error" => return Err(format!("the query failed: {}", answer.error.as_str().unwrap_or("no reason given"))),
        _ => return Err(not_json.to_owned()),
    }
    let data: Data = serde_json::from_str(answer.data.map_or("{}", RawValue::get)).map_err(|_| not_json)?;
    match data.kind.as_str() {
        "matrix" => Ok(data.result),
        kind => Err(format!("the answer is of type {kind:?}, expected a matrix")),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Rows<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Rows<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of series")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rows<'de>, A::Error> {
                let mut rows = Rows::default();
                while rows.series.len() < MAX_SERIES {
                    match list.next_element::<&'de RawValue>()? {
                        Some(row) => rows.series.push(row),
                        None => return Ok(rows),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    rows.unread += 1;
                }
                Ok(rows)
            }

            fn visit_unit<E>(self) -> Result<Rows<'de>, E> {
                Ok(Rows::default())
            }
        }
        from.deserialize_any(Reader)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    metric: BTreeMap<String, Value>,
    values: Values,
}

impl Row {
    fn series(self) -> Series {
        let short = |name: &String, value: &str| name.len() + value.len() <= MAX_LABEL_BYTES;
        let text = |(name, value): (String, Value)| match value {
            Value::String(value) if short(&name, &value) => Some((name, value)),
            _ => None,
        };
        let labels = self.metric.into_iter().take(MAX_LABELS).filter_map(text).collect();
        Series::new(labels, self.values.0)
    }
}

#[derive(Debug, Default)]
struct Values(Vec<Point>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of points")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut points = Vec::new();
                while points.len() < MAX_POINTS {
                    match list.next_element::<(Number, Number)>()? {
                        Some((Number(at), Number(value))) => points.push(Point { at, value }),
                        None => return Ok(Values(points)),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Values(points))
            }
        }
        from.deserialize_seq(Reader)
    }
}

/// A number, or a text with one; NaN for another text, null and the like.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.trim().parse().unwrap_or(f64::NAN)))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(f64::NAN))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(f64::NAN))
            }
        }
        from.deserialize_any(Reader)
    }
}
