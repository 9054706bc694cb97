//! Formats faults as text and JSON.

use serde_json::{Value, json};

use super::faults::RuleFault;
use crate::cli::support::output::clean;

/// `file:line: group "x", rule "Y": <fault>; mended: <value>`, cleaned for a terminal, since rules are foreign text.
pub(super) fn line(file: &str, fault: &RuleFault) -> String {
    let rule = match fault.rule.as_str() {
        "" => String::new(),
        rule => format!(", rule {}", quoted(rule)),
    };
    let corrected = match &fault.corrected {
        Some(value) if fault.fixed => format!("; fixed: {}", clean(value)),
        Some(value) => format!("; mended: {}", clean(value)),
        None => String::new(),
    };
    let unfixed = fault.unfixed.as_ref().map(|why| format!(" (not fixed: {why})")).unwrap_or_default();
    let (file, line, group, message) = (clean(file), fault.place.line, quoted(&fault.group), clean(&fault.message));
    format!("{file}:{line}: group {group}{rule}: {message}{corrected}{unfixed}")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", clean(name))
}

pub(super) fn json(file: &str, fault: &RuleFault) -> Value {
    json!({
        "file": file,
        "line": fault.place.line,
        "column": fault.place.column,
        "group": fault.group,
        "rule": fault.rule,
        "code": fault.code.as_str(),
        "message": fault.message,
        "mended": fault.corrected,
        "fixed": fault.fixed,
    })
}
