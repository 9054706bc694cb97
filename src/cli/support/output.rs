//! What a command prints. Text from alerts, rules and servers is cleaned first: it must not steer the terminal.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use serde_json::Value;

use crate::text::one_line;

/// Longest excerpt of a server's answer, in characters.
const MAX_EXCERPT: usize = 200;

/// Writes a line to standard output. A closed pipe is not an error: the reader of `render FILE | head -1` has enough.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Foreign text on one line, without characters that steer a terminal or change the direction of text.
pub(crate) fn clean(text: &str) -> String {
    let clean: String = text.chars().map(|c| if steers(c) { ' ' } else { c }).collect();
    clean.trim().to_owned()
}

/// As [`clean`], of bounded length.
pub(crate) fn excerpt(text: &str) -> String {
    clean(&one_line(text, MAX_EXCERPT))
}

/// The same JSON with every character that steers a terminal escaped; such characters stand only in strings.
pub(crate) fn json_text(json: &Value) -> anyhow::Result<String> {
    let mut out = String::new();
    for c in serde_json::to_string_pretty(json)?.chars() {
        if steers(c) && c != '\n' {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

/// Whether `c` is a control character or one that changes the direction of text.
pub(crate) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(clean(" a\u{1b}[2Jb\nc\u{202e}d\n"), "a [2Jb c d");
        assert_eq!(excerpt("a\u{1b}[2Jb\nc\n"), "a [2Jb c");
        assert_eq!(excerpt(&"x".repeat(10_000)).chars().count(), MAX_EXCERPT + 1);
    }

    #[test]
    fn escaped_json_means_the_same() {
        let hostile = json!({ "body": "x\u{7f}\u{9b}\u{2066}y\nz" });
        let text = json_text(&hostile).unwrap();
        assert!(!text.chars().any(|c| steers(c) && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), hostile);
    }
}
