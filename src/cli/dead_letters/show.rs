//! Formats dead letters as text.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::support::output::{clean, json_text};

const COLUMNS: [&str; 4] = ["ID", "ROOM", "KIND", "WHEN"];

/// A table: for each dead letter a line of columns, the line it says, and why it was refused.
pub(super) fn table(letters: &[Value]) -> String {
    let rows: Vec<[String; 4]> = letters
        .iter()
        .map(|letter| [text(letter, "id"), room(letter), text(letter, "kind"), text(letter, "at")])
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(COLUMNS[column].len())
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let line = |cells: [&str; 4]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(COLUMNS);
    for (row, letter) in rows.iter().zip(letters) {
        out.push_str(&line(row.each_ref().map(String::as_str)));
        for field in ["says", "reason"] {
            let _ = writeln!(out, "    {}", text(letter, field));
        }
    }
    out
}

pub(super) fn in_full(letter: &Value) -> anyhow::Result<String> {
    let mut out = String::new();
    let _ = writeln!(out, "{:14}{} ({})", "room", room(letter), text(letter, "address"));
    for field in ["id", "kind", "at", "reason", "incident", "notification", "says"] {
        let _ = writeln!(out, "{field:14}{}", text(letter, field));
    }
    out.push_str(&json_text(&letter["content"])?);
    Ok(out)
}

fn room(letter: &Value) -> String {
    match &letter["room"] {
        Value::Null => format!("{} (not in the config)", text(letter, "address")),
        _ => text(letter, "room"),
    }
}

pub(super) fn text(json: &Value, field: &str) -> String {
    clean(json[field].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::support::output::steers;

    fn hostile() -> Value {
        json!({
            "id": "01A", "room": null, "address": "!r:example.org", "kind": "card", "at": "2026-01-02T03:04:05Z",
            "reason": "too_large: 413 \u{1b}[2J\u{9b}x", "says": "a\u{202e}b\nc", "incident": "i", "notification": "n",
            "content": { "body": "x\u{7f}\u{9b}\u{2066}y\nz" },
        })
    }

    #[test]
    fn a_table_for_people() {
        let mut known = hostile();
        known["room"] = "default/1".into();
        insta::assert_snapshot!(table(&[known]), @r"
        ID   ROOM       KIND  WHEN
        01A  default/1  card  2026-01-02T03:04:05Z
            a b c
            too_large: 413  [2J x
        ");
    }

    #[test]
    fn hostile_text_steers_no_terminal_and_json_means_the_same() {
        for shown in [table(&[hostile()]), in_full(&hostile()).unwrap(), json_text(&hostile()).unwrap()] {
            assert!(!shown.chars().any(|c| steers(c) && c != '\n'), "{shown:?}");
        }
        assert_eq!(serde_json::from_str::<Value>(&json_text(&hostile()).unwrap()).unwrap(), hostile());
        assert!(table(&[hostile()]).contains("!r:example.org (not in the config)"));
    }
}
