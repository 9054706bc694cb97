//! The view model as minijinja values: an unknown name is an error, not a blank.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::{
    Error, ErrorKind, Value,
    value::{Enumerator, Object, ObjectExt as _},
};
use serde_json::Value as Json;

/// Maps with keys from the payload: a missing key is blank.
const OPEN: [&str; 3] = ["labels", "annotations", "group_labels"];

/// A map with fixed names.
#[derive(Debug)]
struct Closed(BTreeMap<String, Value>);

impl Object for Closed {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let known = || self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Some(self.0.get(key).cloned().unwrap_or_else(|| {
            let text = format!("unknown name `{key}`; available: {}", known());
            Value::from(Error::new(ErrorKind::UndefinedError, text))
        }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|this| Box::new(this.0.keys().map(|key| Value::from(key.as_str()))))
    }
}

/// The variables of a template.
pub(super) fn context(view: &Json) -> Value {
    // Not closed: other names may be functions or the template's own variables.
    convert(view, true)
}

fn convert(json: &Json, open: bool) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(yes) => Value::from(*yes),
        Json::Number(number) => number.as_i64().map_or_else(|| Value::from(number.as_f64()), Value::from),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(|item| convert(item, false)).collect(),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), convert(value, is_open(name))));
            if open { Value::from_pairs(fields) } else { Value::from_object(Closed(fields.collect())) }
        }
    }
}

fn is_open(name: &str) -> bool {
    OPEN.contains(&name)
}
