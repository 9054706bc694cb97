//! Makes bytes readable as JSON without changing what is valid: homeservers reject the characters that are replaced
//! here.

use std::borrow::Cow;

/// The body as text in which every `\u` escape of a lone surrogate reads `\ufffd`, and bytes that are not UTF-8 read
/// U+FFFD. A lone surrogate is legal in JSON text, but no Unicode string can hold it.
pub fn readable(body: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(body);
    match first_lone_surrogate(&text, 0) {
        None => text,
        Some(first) => Cow::Owned(replace_lone_surrogates(&text, first)),
    }
}

fn replace_lone_surrogates(text: &str, first: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        out.push_str(&text[from..at]);
        out.push_str("\\ufffd");
        from = at + 6;
        next = first_lone_surrogate(text, from);
    }
    out.push_str(&text[from..]);
    out
}

/// The position of the next `\uD800`-`\uDFFF` that is not half of a pair.
fn first_lone_surrogate(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(offset) = bytes.get(at..)?.iter().position(|b| *b == b'\\') {
        at += offset;
        match escape_at(bytes, at) {
            // An escape other than `\u`, such as `\\`: its second byte starts no escape.
            None => at += 2,
            Some(0xD800..=0xDBFF) if matches!(escape_at(bytes, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => return Some(at),
            Some(_) => at += 6,
        }
    }
    None
}

fn escape_at(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    if escape[0] != b'\\' || escape[1] != b'u' {
        return None;
    }
    let digits = std::str::from_utf8(&escape[2..]).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

/// The longest prefix of `text` of at most `max` bytes that ends at a character boundary.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn only_lone_surrogates_and_broken_bytes_change() {
        for (input, expected) in [
            (r#""plain""#, r#""plain""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\u0041""#, r#""\ufffd\u0041""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\u12"#, r#""\u12"#),
        ] {
            assert_eq!(readable(input.as_bytes()), expected, "{input}");
        }
        assert_eq!(readable(b"\"a\xffb\""), "\"a\u{fffd}b\"");
    }
}
