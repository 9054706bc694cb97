//! Faults as people and programs read them.

use serde_json::{Value, json};

use super::faults::Fault;
use crate::cli::support::output::clean;

/// `file:line: group "x", rule "Y": <fault>; mended: <value>`. Rules are anybody's text: what steers a terminal is taken
/// out.
pub(super) fn line(file: &str, fault: &Fault) -> String {
    let rule = match fault.rule.as_str() {
        "" => String::new(),
        rule => format!(", rule {}", quoted(rule)),
    };
    let mended = match &fault.mended {
        Some(value) if fault.fixed => format!("; fixed: {}", clean(value)),
        Some(value) => format!("; mended: {}", clean(value)),
        None => String::new(),
    };
    let unfixed = fault.unfixed.map(|why| format!(" (not fixed: {why})")).unwrap_or_default();
    let (file, line, group, message) = (clean(file), fault.place.line, quoted(&fault.group), clean(&fault.message));
    format!("{file}:{line}: group {group}{rule}: {message}{mended}{unfixed}")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", clean(name))
}

pub(super) fn json(file: &str, fault: &Fault) -> Value {
    json!({
        "file": file,
        "line": fault.place.line,
        "column": fault.place.column,
        "group": fault.group,
        "rule": fault.rule,
        "code": fault.code.as_str(),
        "message": fault.message,
        "mended": fault.mended,
        "fixed": fault.fixed,
    })
}
