//! The TOML that is made: tables in the order in which they were first written to, settings and remarks in them.

use std::fmt::Write as _;

use crate::{
    config::{Config, Purpose},
    text::one_line,
};

#[derive(Default)]
pub(super) struct Draft {
    tables: Vec<(String, Vec<String>)>,
    /// Some setting is a secret.
    pub(super) secret: bool,
}

impl Draft {
    /// The lines of a table, which begins here if there is none yet.
    fn table(&mut self, name: &str) -> &mut Vec<String> {
        let at = self.tables.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.tables.push((name.to_owned(), Vec::new()));
            self.tables.len() - 1
        });
        &mut self.tables[at].1
    }

    /// `value` is TOML.
    pub(super) fn set(&mut self, table: &str, key: &str, value: &str) {
        self.table(table).push(format!("{key} = {value}"));
    }

    /// `text` is of one line, and so stays a remark whatever it holds.
    pub(super) fn remark(&mut self, table: &str, text: &str) {
        let text = one_line(text, usize::MAX);
        self.table(table).push(format!("# {text}"));
    }

    /// A setting that does not count until somebody takes the # away.
    pub(super) fn example(&mut self, table: &str, line: &str) {
        self.table(table).push(format!("#{line}"));
    }

    pub(super) fn text(&self, head: &str) -> String {
        let mut text = format!("# {head}\n");
        for (name, lines) in &self.tables {
            let _ = writeln!(text, "\n[{name}]");
            for line in lines {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

/// A TOML string. What JSON escapes TOML escapes in the same way; the one control character that JSON leaves alone is
/// refused when the value is read.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether our own reader takes a setting.
///
/// # Errors
/// What it says against it; no secret is in that.
pub(super) fn accepted(table: &str, key: &str, value: &str) -> Result<(), String> {
    let text = format!("[{table}]\n{key} = {value}\n");
    Config::parse(&text, "toml", Purpose::Render).map(drop).map_err(|faults| {
        let first = faults.lines().first().map_or("", String::as_str);
        // Behind the place: `toml:2: `.
        first.split_once(": ").map_or(first, |(_, fault)| fault).to_owned()
    })
}
