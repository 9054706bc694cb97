//! Replaces values in place: comments, layout, quotes and block headers stay.

use std::{collections::HashMap, ops::Range};

use granit_parser::ScalarStyle;

use crate::cli::support::yaml::{Edit, Scalar, differs_only};

/// Changes of one file, which do not overlap.
#[derive(Debug, Default)]
pub(super) struct Edits {
    changes: Vec<(Range<usize>, String)>,
    expected: HashMap<usize, Edit>,
}

impl Edits {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Replaces `scalar` by `value`.
    ///
    /// # Errors
    /// Says why the scalar's style cannot hold the value.
    pub(super) fn replace(&mut self, source: &str, scalar: &Scalar<'_>, value: &str) -> Result<(), &'static str> {
        let written = &source[scalar.bytes.clone()];
        if value.chars().any(char::is_control) {
            return Err("the corrected value has control characters");
        }
        let (length, text, read) = match scalar.style {
            ScalarStyle::SingleQuoted => (written.len(), single_quoted(value), value.to_owned()),
            ScalarStyle::DoubleQuoted => (written.len(), double_quoted(value), value.to_owned()),
            ScalarStyle::Plain if written.is_empty() => return Err("there is no value to edit"),
            ScalarStyle::Plain if !plain_can_hold(value, scalar.flow) => {
                return Err("the corrected value needs quotes, which the value does not have");
            }
            ScalarStyle::Plain => (written.len(), value.to_owned(), value.to_owned()),
            // The blank lines at the end belong to the block; its header says whether they count.
            ScalarStyle::Literal | ScalarStyle::Folded => {
                let ending = &scalar.text[scalar.text.trim_end_matches('\n').len()..];
                (written.trim_end().len(), value.to_owned(), format!("{value}{ending}"))
            }
        };
        if written.is_empty() {
            return Err("its bytes are unknown");
        }
        let start = scalar.bytes.start;
        self.add(start..start + length, text, scalar.number, Edit::Replaced(read))
    }

    /// Inserts a line with `key` and `value` before `first`, the first key of a block mapping.
    pub(super) fn insert(
        &mut self,
        source: &str,
        first: &Scalar<'_>,
        key: &str,
        value: &str,
    ) -> Result<(), &'static str> {
        let at = first.bytes.start;
        let line = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let indent = &source[line..at];
        if first.flow || indent.is_empty() || !indent.bytes().all(|b| b == b' ') {
            return Err("the annotations have no line to put it before");
        }
        // Comments above the first key belong to that key.
        let mut at = line;
        while let Some(before) = source[..at].strip_suffix('\n') {
            let start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let text = before[start..].trim();
            if !(text.is_empty() || text.starts_with('#')) {
                break;
            }
            at = start;
        }
        let newline = if source[..line].ends_with("\r\n") { "\r\n" } else { "\n" };
        let text = format!("{indent}{key}: {}{newline}", single_quoted(value));
        self.add(at..at, text, first.number, Edit::Before(key.to_owned(), value.to_owned()))
    }

    fn add(&mut self, bytes: Range<usize>, text: String, number: usize, edit: Edit) -> Result<(), &'static str> {
        if self.expected.contains_key(&number) {
            return Err("another fault is fixed there already");
        }
        self.expected.insert(number, edit);
        self.changes.push((bytes, text));
        Ok(())
    }

    /// The file with all changes; `None` if it would not parse to exactly the expected values.
    pub(super) fn apply(mut self, source: &str) -> Option<String> {
        self.changes.sort_by_key(|(bytes, _)| bytes.start);
        let mut new = String::with_capacity(source.len() + 256);
        let mut at = 0;
        for (bytes, text) in &self.changes {
            new.push_str(source.get(at..bytes.start)?);
            new.push_str(text);
            at = bytes.end;
        }
        new.push_str(source.get(at..)?);
        differs_only(source, &new, &self.expected).then_some(new)
    }
}

fn single_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn double_quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether a plain scalar can hold `value`. The result is checked again by parsing the whole file.
fn plain_can_hold(value: &str, flow: bool) -> bool {
    let first = value.chars().next().is_some_and(char::is_alphanumeric);
    let clashes = [": ", " #"].iter().any(|text| value.contains(text)) || value.ends_with([':', ' ']);
    first && !clashes && !(flow && value.contains(['{', '}', '[', ']', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::support::yaml::Tree;

    /// The file with the value of `a.u` replaced.
    fn replaced(source: &str, value: &str) -> Result<String, &'static str> {
        let tree = Tree::parse(source).unwrap();
        let found = tree.get(tree.get(tree.documents()[0], "a").unwrap(), "u").unwrap();
        let mut edits = Edits::default();
        edits.replace(source, &tree.scalar(found).unwrap(), value)?;
        Ok(edits.apply(source).unwrap_or_else(|| "refused".to_owned()))
    }

    #[test]
    fn only_the_value_changes() {
        for (source, value, expected) in [
            ("a:\n  u: old # c\n  v: 1\n", "new", "a:\n  u: new # c\n  v: 1\n"),
            ("a:\n  u:   'o''ld'   # c\n", "n'w", "a:\n  u:   'n''w'   # c\n"),
            ("a: {u: \"o\\\"ld\", v: 1}\n", "n\"\\w", "a: {u: \"n\\\"\\\\w\", v: 1}\n"),
            ("a:\n  u: old\n    more\n  # c\n  v: 1\n", "new", "a:\n  u: new\n  # c\n  v: 1\n"),
            ("a:\n  u: >-  # c\n      old\n      more\n\n  v: 1\n", "new", "a:\n  u: >-  # c\n      new\n\n  v: 1\n"),
            ("a:\r\n  u: |\r\n    old\r\n  v: 1\r\n", "new", "a:\r\n  u: |\r\n    new\r\n  v: 1\r\n"),
            ("a:\n  u: |+\n    old\n\n\n  v: 1\n", "new", "a:\n  u: |+\n    new\n\n\n  v: 1\n"),
            ("a:\n  u: |2\n    old\n", "new", "a:\n  u: |2\n    new\n"),
            ("a:\n  u: >\n    old", "new", "a:\n  u: >\n    new"),
            ("a:\n  u: !!str old\n", "new", "a:\n  u: !!str new\n"),
            ("a:\n  u: &x old\n", "new", "a:\n  u: &x new\n"),
            ("\u{feff}# ü\na:\n  ? u\n  : old\n", "ü", "\u{feff}# ü\na:\n  ? u\n  : ü\n"),
        ] {
            let found = replaced(source, value);
            assert_eq!(found.as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn a_value_that_a_style_cannot_hold_is_left() {
        for (source, value) in [
            ("a:\n  u: old\n", "new: er"),
            ("a:\n  u: old\n", "new # er"),
            ("a:\n  u: old\n", "{{ new }}"),
            ("a: {u: old}\n", "new {{ x }}"),
            ("a:\n  u:\n", "new"),
            ("a:\n  u: 'old'\n", "new\nline"),
        ] {
            assert!(replaced(source, value).is_err(), "{source} {value}");
        }
    }

    #[test]
    fn a_line_is_put_before_the_first() {
        let inserted = |source: &str| {
            let tree = Tree::parse(source).unwrap();
            let map = tree.get(tree.documents()[0], "a").unwrap();
            let mut edits = Edits::default();
            edits.insert(source, &tree.first_key(map).ok_or("no key")?, "u", "it's")?;
            Ok::<_, &str>(edits.apply(source).unwrap_or_else(|| "refused".to_owned()))
        };
        for (source, expected) in [
            ("a: # c\n  # d\n  v: 1 # e\n", Some("a: # c\n  u: 'it''s'\n  # d\n  v: 1 # e\n")),
            ("a:\r\n    v: |\r\n      x\r\n", Some("a:\r\n    u: 'it''s'\r\n    v: |\r\n      x\r\n")),
            ("a: {v: 1}\n", None),
            ("a:\n  &k v: 1\n", None),
            ("a:\n  ? v\n  : 1\n", None),
            ("a: {}\n", None),
        ] {
            assert_eq!(inserted(source).ok().as_deref(), expected, "{source}");
        }
    }
}
