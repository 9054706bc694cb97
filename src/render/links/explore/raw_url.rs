//! A URL as its author wrote it, cut into parameters: raw JSON may contain the `&` and `#` that normally end one.

use std::fmt;

use serde_json::Value;

use super::problem::Problem;

/// The parameters that hold a state.
const STATES: [&str; 3] = ["panes", "left", "right"];
/// HTML entities of characters that links contain.
const ENTITIES: [(&str, &str); 7] = [
    ("&quot;", "\""),
    ("&#34;", "\""),
    ("&#x22;", "\""),
    ("&#39;", "'"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    // Last, so that its result is not unescaped again.
    ("&amp;", "&"),
];

/// A URL cut into parts that add up to the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawUrl {
    /// Everything before the question mark; the whole link unless it leads to Explore.
    before: String,
    pub(crate) params: Vec<Param>,
    /// With its `#`; may be empty.
    fragment: String,
    pub(crate) is_explore: bool,
}

/// A query parameter as it is written, encoded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Param {
    pub(crate) key: String,
    /// `None` if there is no equals sign.
    pub(crate) value: Option<String>,
}

impl RawUrl {
    /// A link that is not parsed further.
    pub(crate) fn other(raw: &str) -> Self {
        Self { before: raw.to_owned(), params: Vec::new(), fragment: String::new(), is_explore: false }
    }

    /// Parses a link to Grafana Explore below any path; `None` for any other link.
    pub(crate) fn of_explore(raw: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let (before, _) = raw.split_once(['?', '#']).unwrap_or((raw, ""));
        let path = before.split_once("://").and_then(|(_, rest)| rest.split_once('/'))?.1;
        if path.trim().trim_end_matches('/').rsplit('/').next() != Some("explore") {
            return None;
        }
        let rest = &raw[before.len()..];
        let plain = html_unescaped(rest);
        problems.extend((plain != rest).then_some(Problem::HtmlEscaped));
        let rest = plain;
        let mut url =
            Self { before: before.trim().to_owned(), params: Vec::new(), fragment: String::new(), is_explore: true };
        let Some(mut rest) = rest.strip_prefix('?') else {
            url.fragment = rest;
            return Some(url);
        };
        loop {
            let (param, length) = next_param(rest);
            url.params.extend(param);
            rest = &rest[length..];
            match rest.strip_prefix('&') {
                Some(more) => rest = more,
                None => break,
            }
        }
        url.fragment = rest.to_owned();
        Some(url)
    }
}

impl fmt::Display for RawUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        for (index, param) in self.params.iter().enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            f.write_str(&param.key)?;
            if let Some(value) = &param.value {
                write!(f, "={value}")?;
            }
        }
        f.write_str(&self.fragment)
    }
}

impl Param {
    pub(crate) fn name(&self) -> &str {
        &self.key
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.value.as_deref().is_none_or(str::is_empty)
    }

    /// Sets the value to `text`, percent-encoded.
    pub(crate) fn set(&mut self, text: &str) {
        self.value = Some(urlencoding::encode(text).into_owned());
    }

    /// Parses the value as JSON. If that takes more than decoding, the value is replaced by the repaired text.
    pub(crate) fn json(&mut self, problems: &mut Vec<Problem>) -> Option<Value> {
        let written = self.value.as_deref()?;
        let raw = is_raw(written);
        let text = decoded(written, raw).unwrap_or_else(|| written.to_owned());
        if let Ok(value) = serde_json::from_str(&text) {
            if raw || written.contains(['&', '#']) {
                self.set(&text);
            }
            return Some(value);
        }
        let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let Ok(value) = serde_json::from_str(&flat) {
            problems.push(Problem::LineBreaks);
            self.set(&flat);
            return Some(value);
        }
        // A state never begins with a percent sign.
        let once_more = decoded(&text, false).filter(|_| text.trim_start().starts_with('%'))?;
        let value = serde_json::from_str(&once_more).ok()?;
        problems.push(Problem::EncodedTwice);
        self.set(&once_more);
        Some(value)
    }
}

/// The first parameter, and its length in bytes.
fn next_param(text: &str) -> (Option<Param>, usize) {
    let end = text.find(['&', '#']).unwrap_or(text.len());
    let Some(equals) = text[..end].find('=') else {
        let key = text[..end].trim();
        return ((!key.is_empty()).then(|| Param { key: key.to_owned(), value: None }), end);
    };
    let key = text[..equals].trim();
    let value = &text[equals + 1..];
    let mut end = end - equals - 1;
    if STATES.contains(&key)
        && let Some(length) = json_length(value)
    {
        let blanks = value[length..].len() - value[length..].trim_start().len();
        let after = &value[length + blanks..];
        if after.is_empty() || after.starts_with(['&', '#']) {
            end = length + blanks;
        }
    }
    let param = Param { key: key.to_owned(), value: Some(value[..end].trim().to_owned()) };
    (Some(param), equals + 1 + end)
}

/// The end of the JSON object or list at the start of `text`, some characters of which may be percent-encoded.
fn json_length(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut at = text.len() - text.trim_start().len();
    while let Some((byte, length)) = unit(&text.as_bytes()[at..]) {
        at += length;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The first byte, decoded, and its encoded length in bytes.
fn unit(bytes: &[u8]) -> Option<(u8, usize)> {
    let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    match (bytes.first()?, hex(1), hex(2)) {
        (b'%', Some(high), Some(low)) => Some((high * 16 + low, 3)),
        (byte, ..) => Some((*byte, 1)),
    }
}

/// Whether the JSON was never percent-encoded: every encoder escapes the quotation mark.
fn is_raw(value: &str) -> bool {
    value.contains('"')
}

/// Percent-decodes the value. A plus sign is a blank, as in Grafana, Go and forms, but stays itself in raw JSON. `None`
/// if the result is not UTF-8.
fn decoded(value: &str, raw: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, length)) = unit(rest) {
        bytes.push(if byte == b'+' && length == 1 && !raw { b' ' } else { byte });
        rest = &rest[length..];
    }
    String::from_utf8(bytes).ok()
}

/// Undoes HTML escaping of the characters that links contain, if there is any.
#[must_use]
pub fn html_unescaped(text: &str) -> String {
    ENTITIES.iter().fold(
        text.to_owned(),
        |text, (entity, plain)| {
            if text.contains(entity) { text.replace(entity, plain) } else { text }
        },
    )
}
