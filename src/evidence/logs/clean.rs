//! Takes out of a line what a terminal obeys and nobody reads.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

use crate::text::is_invisible;

/// Runs of blanks are at most so long, so that an indentation stays and a line is not all blank.
const MAX_BLANKS: usize = 8;

/// Escape sequences: CSI, the strings of OSC, DCS, SOS, PM and APC with their end, two-byte ones; and colours that a logger of
/// JSON has escaped once more.
static SEQUENCES: LazyLock<Regex> = LazyLock::new(|| {
    let csi = r"(?:\x1b\[|\x{9b})[0-?]*[ -/]*[@-~]";
    let strings = r"(?:\x1b[\]PX^_]|[\x{9d}\x{90}\x{98}\x{9e}\x{9f}])[^\x07\x1b\x{9c}]*(?:\x07|\x1b\\|\x{9c})";
    let short = r"\x1b[ -/]*[0-~]";
    let escaped = r"\\(?:u001[bB]|x1[bB]|033|e)\[[0-9;]*m";
    Regex::new(&format!("{csi}|{strings}|{short}|{escaped}")).expect("a constant")
});

/// `line` on one line without escape sequences, control characters, and what cannot be seen.
pub(super) fn clean(line: &str) -> String {
    let line = if line.contains(['\u{1b}', '\\', '\u{9b}', '\u{9d}', '\u{90}', '\u{98}', '\u{9e}', '\u{9f}']) {
        SEQUENCES.replace_all(line, "")
    } else {
        Cow::Borrowed(line)
    };
    let (mut clean, mut blanks) = (String::with_capacity(line.len()), 0);
    for c in line.chars().filter(|c| !is_invisible(*c)) {
        if c.is_control() || c.is_whitespace() {
            blanks += 1;
            if blanks <= MAX_BLANKS {
                clean.push(' ');
            }
        } else {
            blanks = 0;
            clean.push(c);
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn only_text_is_left() {
        for (line, expected) in [
            ("plain <b>text</b>", "plain <b>text</b>"),
            ("\u{1b}[1;31mERROR\u{1b}[0m x", "ERROR x"),
            ("\u{1b}[38;2;1;2;3mtrue\u{1b}[K colour\u{9b}0m", "true colour"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;https://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\", "alink"),
            ("\u{1b}Pdcs\u{1b}\\a\u{1b}(Bb\u{1b}7c", "abc"),
            // Without an end it is not a sequence: its text stays.
            ("\u{1b}]0;title", "0;title"),
            ("\u{1b}", ""),
            (r"\u001b[32mINFO\u001b[0m \x1b[1mx\033[m C:\e", r"INFO x C:\e"),
            ("a\tb\r\nc\u{0}d\u{8}", "a b  c d"),
            ("  indented", "  indented"),
            ("x                                   y  ", "x        y"),
            ("turn\u{202e}ed \u{200b}\u{feff}round\u{2028}x", "turned round x"),
            ("   ", ""),
        ] {
            assert_eq!(clean(line), expected, "{line:?}");
        }
    }
}
