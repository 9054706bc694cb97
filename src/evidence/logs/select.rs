//! Which lines are shown, and how much of each.

use regex::Regex;

use super::{
    LogLines,
    answer::{Entry, Found},
    clean::clean,
    private_keys::lines_of_keys,
    redact::{PRIVATE_KEY, redacted},
};
use crate::model::Timestamp;

/// Of one line, in characters.
const MAX_LINE: usize = 300;
/// Of all lines, in bytes.
const MAX_BYTES: usize = 6 * 1024;
/// More of a line is not looked at, in bytes.
const MAX_READ: usize = 32 * 1024;

/// The newest `most` lines that fit. `limit`: how many Loki was asked for.
pub(super) fn newest(found: Found, redact: &[Regex], most: usize, limit: usize) -> LogLines {
    let Found { mut entries, beyond } = found;
    // Each stream from its oldest line on, so that lines of the same time keep their order.
    entries.reverse();
    blank_keys(&mut entries);
    entries.sort_by_key(|entry| entry.at);
    let all = entries.len() + beyond;
    let (mut lines, mut bytes, mut seen) = (Vec::new(), 0, 0);
    for entry in entries.iter().rev() {
        let text = shown(&entry.line, redact);
        if !text.is_empty() {
            if lines.len() == most || bytes + text.len() > MAX_BYTES {
                break;
            }
            bytes += text.len();
            lines.push((Timestamp(entry.at / 1_000_000), text));
        }
        seen += 1;
    }
    lines.reverse();
    LogLines { lines, more: all - seen, more_than: all >= limit }
}

/// Blanks the lines of private keys, stream by stream: other streams' lines may come between them.
fn blank_keys(entries: &mut [Entry]) {
    let mut begin = 0;
    while begin < entries.len() {
        let stream = entries[begin].stream;
        let end = begin + entries[begin..].iter().take_while(|entry| entry.stream == stream).count();
        let of_stream = &mut entries[begin..end];
        if of_stream.iter().any(|entry| entry.line.contains("PRIVATE KEY")) {
            let hidden = lines_of_keys(of_stream.iter().map(|entry| entry.line.as_str()));
            let mut before = false;
            for (entry, hidden) in of_stream.iter_mut().zip(hidden) {
                if hidden {
                    // One line for all of it; empty ones are not shown.
                    let line = if before { "" } else { PRIVATE_KEY };
                    line.clone_into(&mut entry.line);
                }
                before = hidden;
            }
        }
        begin = end;
    }
}

/// What is shown of a line: cleaned, blanked, and only then cut.
fn shown(line: &str, redact: &[Regex]) -> String {
    let (read, is_cut) = beginning(line);
    let text = redacted(&clean(read), redact);
    let fits = text.chars().count() <= MAX_LINE;
    if fits && !is_cut {
        return text;
    }
    let cut: String = text.chars().take(MAX_LINE - 1).collect();
    format!("{}…", cut.trim_end())
}

/// The beginning of a line that is too long to be looked at, without its last word, which may be the beginning of a secret
/// that only as a whole is known as one.
fn beginning(line: &str) -> (&str, bool) {
    if line.len() <= MAX_READ {
        return (line, false);
    }
    let cut = &line[..line.floor_char_boundary(MAX_READ)];
    let end = cut.rfind(|c: char| c.is_whitespace() || "\"'`,;|&<>(){}[]".contains(c)).unwrap_or(0);
    (&cut[..end], true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(streams: &[&[(i64, &str)]]) -> Found {
        let entries = streams.iter().enumerate().flat_map(|(stream, values)| {
            values.iter().map(move |(at, line)| Entry { stream, at: *at, line: (*line).to_owned() })
        });
        Found { entries: entries.collect(), beyond: 0 }
    }

    fn texts(lines: &LogLines) -> Vec<&str> {
        lines.lines.iter().map(|(_, line)| line.as_str()).collect()
    }

    #[test]
    fn streams_are_merged_and_sorted_and_the_newest_lines_win() {
        let streams: [&[(i64, &str)]; 2] =
            [&[(5_000_000, "e"), (3_000_000, "c2"), (3_000_000, "c1")], &[(4_000_000, "d"), (1_000_000, "a")]];
        let all = newest(found(&streams), &[], 10, 200);
        assert_eq!(texts(&all), ["a", "c1", "c2", "d", "e"]);
        assert_eq!(all.lines[0].0, Timestamp(1));
        assert_eq!((all.more, all.more_than), (0, false));
        let some = newest(found(&streams), &[], 2, 200);
        assert_eq!((texts(&some), some.more, some.more_than), (vec!["d", "e"], 3, false));
        let limited = newest(found(&streams), &[], 2, 5);
        assert_eq!((limited.more, limited.more_than), (3, true));
        let beyond = newest(Found { beyond: 7, ..found(&streams) }, &[], 2, 5);
        assert_eq!((beyond.more, beyond.more_than), (10, true));
        assert_eq!(newest(Found::default(), &[], 2, 5), LogLines::default());
    }

    #[test]
    fn blank_lines_are_not_shown_and_not_counted() {
        let lines = newest(found(&[&[(4, " \u{1b}[0m"), (3, "c"), (2, "\n"), (1, "a")]]), &[], 2, 200);
        assert_eq!((texts(&lines), lines.more), (vec!["a", "c"], 0));
    }

    #[test]
    fn lines_are_bounded_each_and_together() {
        let long = "ä".repeat(400);
        let lines = newest(found(&[&[(1, &long)]]), &[], 5, 200);
        let line = lines.lines[0].1.clone();
        assert_eq!((line.chars().count(), line.ends_with("ä…")), (300, true));
        // Each takes 601 bytes, the ellipsis 3.
        let many: Vec<(i64, &str)> = (0..50).map(|at| (at, long.as_str())).collect();
        let lines = newest(found(&[&many]), &[], 50, 200);
        let bytes: usize = lines.lines.iter().map(|(_, line)| line.len()).sum();
        assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES - 700, "{bytes}");
        assert_eq!(lines.more, 50 - lines.lines.len());
    }

    #[test]
    fn what_is_secret_is_blanked_before_it_is_cut() {
        let words = "word ".repeat(57);
        let line = format!("{words}token=abcdefghijklmnopqrstuvwxyz0123456789");
        let lines = newest(found(&[&[(1, &line)]]), &[], 5, 200);
        assert!(lines.lines[0].1.ends_with("token=***"), "{lines:?}");
        // The cut goes through this key, whose beginning alone is none.
        let line = format!("{words}AKIAIOSFODNN7EXAMPLE");
        let lines = newest(found(&[&[(1, &line)]]), &[], 5, 200);
        assert!(lines.lines[0].1.ends_with("word ***"), "{lines:?}");
        // Where a line is too long to be looked at, no word is cut in two: this key is one only as a whole.
        let line = format!("{} AKIAIOSFODNN7EXAMPLE", "Ab1".repeat((MAX_READ - 12) / 3));
        let lines = newest(found(&[&[(1, &line)]]), &[], 5, 200);
        assert_eq!(texts(&lines), ["***…"]);
    }

    #[test]
    fn a_key_over_several_lines_is_blanked_through_those_of_other_streams() {
        let key: &[(i64, &str)] =
            &[(7, "after"), (6, "-----END PRIVATE KEY-----"), (4, "c2hvcnQ="), (2, "-----BEGIN PRIVATE KEY-----")];
        let lines = newest(found(&[key, &[(5, "between"), (3, "more"), (1, "before")]]), &[], 50, 200);
        assert_eq!(texts(&lines), ["before", PRIVATE_KEY, "more", "between", "after"]);
        assert_eq!(lines.more, 0);
    }
}
