//! `[log]`

use tracing_subscriber::EnvFilter;

use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Log, LogFormat},
    values::{text, word},
};

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) fn read(log: &Section<'_>) -> Log {
    let format = log.read("format", "\"text\" or \"json\"", |item| word(item, &FORMATS));
    let filter = log.read("filter", "a filter such as \"info\" or \"info,matrix_sdk=debug\"", directives);
    Log { format: format.unwrap_or(LogFormat::Text), filter: filter.unwrap_or_else(|| "info".to_owned()) }
}

fn directives(item: &Item<'_>) -> Result<String, BadValue> {
    let text = text(item)?;
    EnvFilter::builder().parse(&text).map_err(|_| BadValue::Unexpected)?;
    Ok(text)
}
