//! `[lint]`: what `lint-rules` does not report.

use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{LINT_CODES, Lint},
};

pub(super) fn read(lint: &Section<'_>) -> Lint {
    Lint { ignore: lint.list("ignore", "a code such as \"no_logs_url\"", code).unwrap_or_default() }
}

fn code(item: &Item<'_>) -> Result<String, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    if LINT_CODES.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(BadValue::Because(format!("unknown code {}, expected one of {}", item.found(), LINT_CODES.join(", "))))
}
