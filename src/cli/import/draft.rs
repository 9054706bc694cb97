//! The TOML that an import writes, line by line, and the check that the receiver accepts a setting.

use std::fmt::Write as _;

use crate::{
    config::{Config, Purpose},
    text::one_line,
};

/// TOML in the making. All lines of a table are written in a row.
pub(super) struct Draft {
    pub(super) toml: String,
    table: String,
    /// Whether a secret was written.
    pub(super) secret: bool,
}

impl Draft {
    pub(super) fn new(head: &str) -> Self {
        Self { toml: format!("# {head}\n"), table: String::new(), secret: false }
    }

    fn line(&mut self, table: &str, line: &str) {
        if self.table != table {
            table.clone_into(&mut self.table);
            let _ = writeln!(self.toml, "\n[{table}]");
        }
        let _ = writeln!(self.toml, "{line}");
    }

    /// Sets a key; `value` is TOML.
    pub(super) fn set(&mut self, table: &str, key: &str, value: &str) {
        self.line(table, &format!("{key} = {value}"));
    }

    /// Adds a comment, which stays on one line whatever it holds.
    pub(super) fn remark(&mut self, table: &str, text: &str) {
        self.line(table, &format!("# {}", one_line(text, usize::MAX)));
    }

    /// Adds a setting that is commented out.
    pub(super) fn example(&mut self, table: &str, line: &str) {
        self.line(table, &format!("#{line}"));
    }
}

/// `text` as a TOML string. JSON's escapes are TOML's as well; the one control character that JSON does not escape is
/// refused when the value is checked.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether the receiver accepts a setting.
///
/// # Errors
/// With what is wrong with it; that never holds a secret.
pub(super) fn accepted(table: &str, key: &str, value: &str) -> Result<(), String> {
    let text = format!("[{table}]\n{key} = {value}\n");
    Config::parse(&text, "toml", Purpose::Render).map(drop).map_err(|faults| {
        let first = faults.lines().first().map_or("", String::as_str);
        // Without the position, such as `toml:2: `.
        first.split_once(": ").map_or(first, |(_, fault)| fault).to_owned()
    })
}
