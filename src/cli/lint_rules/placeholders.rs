//! Finds the placeholders of a Prometheus template (`{{ $labels.pod }}`) and the labels that they show.
//!
//! Reads only as much of Go's template language as it takes to find a placeholder's end and labels.
//! <https://prometheus.io/docs/prometheus/latest/configuration/template_reference/>

use std::ops::Range;

/// One `{{ … }}` with its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub(super) bytes: Range<usize>,
    /// The alert's labels that it names.
    pub(super) labels: Vec<String>,
}

/// A placeholder that does not end; holds the byte where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclosed(pub(super) usize);

/// # Errors
/// When a placeholder does not end.
pub(super) fn placeholders(text: &str) -> Result<Vec<Placeholder>, Unclosed> {
    let mut placeholders = Vec::new();
    let mut at = 0;
    // For each open block, whether `.` is not the alert within it.
    let mut blocks = Vec::new();
    while let Some(start) = text[at..].find("{{").map(|found| at + found) {
        let end = end_of(text, start).ok_or(Unclosed(start))?;
        let inside = text[start + 2..end - 2].trim_matches(|c: char| c == '-' || c.is_whitespace());
        let tokens = if inside.starts_with("/*") { Vec::new() } else { tokens(inside) };
        let foreign = blocks.contains(&true);
        placeholders.push(Placeholder { bytes: start..end, labels: labels(&tokens, foreign) });
        match tokens.first() {
            Some(Token::Name("range" | "with" | "define" | "block")) => blocks.push(true),
            Some(Token::Name("if")) => blocks.push(false),
            Some(Token::Name("end")) => {
                blocks.pop();
            }
            _ => {}
        }
        at = end;
    }
    Ok(placeholders)
}

/// The byte behind the placeholder that starts at `start`.
fn end_of(text: &str, start: usize) -> Option<usize> {
    let inside = &text[start + 2..];
    let comment = inside.strip_prefix("- ").unwrap_or(inside).trim_start();
    if comment.starts_with("/*") {
        let close = start + text[start..].find("*/")?;
        return text[close..].find("}}").map(|found| close + found + 2);
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some(open) if c == '\\' && open != '`' => escaped = true,
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if inside[at..].starts_with("}}") => return Some(start + 2 + at + 2),
            _ => {}
        }
    }
    None
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name with its dots and dollar: `$labels.pod`, `.Labels`, `index`, `end`.
    Name(&'a str),
    /// A string, without its quotes.
    Text(&'a str),
    Other,
}

fn tokens(inside: &str) -> Vec<Token<'_>> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
    let mut tokens = Vec::new();
    let mut rest = inside;
    while let Some(first) = rest.chars().next() {
        let length = if matches!(first, '"' | '`' | '\'') {
            let mut escaped = false;
            let close = rest.char_indices().skip(1).find(|&(_, c)| {
                let closes = c == first && !escaped;
                escaped = c == '\\' && first != '`' && !escaped;
                closes
            });
            let close = close.map_or(rest.len(), |(at, _)| at);
            tokens.push(Token::Text(&rest[1..close]));
            (close + 1).min(rest.len())
        } else if is_name(first) {
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            tokens.push(Token::Name(&rest[..length]));
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Other);
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn labels(tokens: &[Token<'_>], foreign: bool) -> Vec<String> {
    let mut labels = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Name(name) = token else { continue };
        let label = match name.strip_prefix("$labels").or(name.strip_prefix(".Labels").filter(|_| !foreign)) {
            Some("") if at > 0 && tokens[at - 1] == Token::Name("index") => match tokens.get(at + 1) {
                Some(Token::Text(label)) => label,
                _ => continue,
            },
            Some(rest) => match rest.strip_prefix('.') {
                Some(label) if !label.is_empty() => label,
                _ => continue,
            },
            None => continue,
        };
        labels.push(label.to_owned());
    }
    labels
}

/// `text` with each placeholder replaced by a token of letters and digits, which no encoding changes, and the way back.
#[derive(Clone, Debug)]
pub(super) struct Masked {
    pub(super) text: String,
    placeholders: Vec<(String, String)>,
}

impl Masked {
    pub(super) fn of(text: &str, placeholders: &[Placeholder]) -> Self {
        let query = text.find('?').unwrap_or(text.len());
        // Tokens are numbers, so that they are valid in JSON. Their digit 7 occurs once, so that a token never overlaps
        // itself, and their length differs from that of a timestamp.
        let mut prefixes = (0..text.len()).map(|number| format!("73{}", digits(number, 3)));
        // A text has fewer prefixes than bytes, so one is free.
        let prefix = prefixes.find(|prefix| !text.contains(prefix.as_str())).unwrap_or_default();
        let mut masked = Self { text: String::new(), placeholders: Vec::new() };
        let mut at = 0;
        for (index, placeholder) in placeholders.iter().enumerate() {
            masked.text.push_str(&text[at..placeholder.bytes.start]);
            let number = digits(index, 7);
            let token = match placeholder.bytes.start {
                // `{{ .ExternalURL }}/explore`: the placeholder holds scheme and host.
                0 => format!("https://h{prefix}{number}"),
                start if start < query => format!("h{prefix}{number}"),
                _ => format!("{prefix}{number}"),
            };
            masked.text.push_str(&token);
            masked.placeholders.push((token, text[placeholder.bytes.clone()].to_owned()));
            at = placeholder.bytes.end;
        }
        masked.text.push_str(&text[at..]);
        masked
    }

    /// Puts the placeholders back in place of their tokens.
    pub(super) fn unmask(&self, text: &str) -> String {
        self.placeholders.iter().fold(text.to_owned(), |text, (token, placeholder)| text.replace(token, placeholder))
    }
}

/// `number` in base 7, so with the digits 0 to 6 only.
fn digits(mut number: usize, width: usize) -> String {
    let mut digits = Vec::new();
    while digits.len() < width || number > 0 {
        digits.push(char::from(b'0' + u8::try_from(number % 7).unwrap_or_default()));
        number /= 7;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_their_labels() {
        for (text, labels) in [
            ("none }} here", &[][..]),
            ("{{ $labels.pod }}-{{$labels.a}}", &["pod", "a"]),
            ("{{- .Labels.pod -}}", &["pod"]),
            ("{{ index $labels \"a.b\" }}{{ index .Labels `c` }}", &["a.b", "c"]),
            ("{{ printf \"}} $labels.no %s\" $labels.pod | urlquery }}", &["pod"]),
            ("{{ if $labels.a }}{{ .Labels.b }}{{ else }}{{ $labels.c }}{{ end }}", &["a", "b", "c"]),
            // Within a range the dot is not the alert.
            ("{{ range query \"up\" }}{{ .Labels.no }}{{ $labels.a }}{{ end }}{{ .Labels.b }}", &["a", "b"]),
            ("{{/* $labels.no }} */}}{{ $value }}{{ $labels }}{{ $externalLabels.no }}", &[]),
        ] {
            let found: Vec<String> =
                placeholders(text).unwrap().into_iter().flat_map(|placeholder| placeholder.labels).collect();
            assert_eq!(found, labels, "{text}");
        }
        for (text, at) in [("a {{ b", 2), ("{{ \"}} ", 0), ("{{/* }}", 0), ("{{ a }}{{", 7), ("ü{{`", 2)] {
            assert_eq!(placeholders(text), Err(Unclosed(at)), "{text}");
        }
    }

    #[test]
    fn unmasking_restores_the_text() {
        for text in [
            "{{ .ExternalURL }}/explore?a={{ $labels.a }}{{ $labels.b }}7300",
            "https://g-{{ $labels.c }}/?a=73{{ \"7\" }}73000{{ `}}` }}73001",
            "plain",
        ] {
            let masked = Masked::of(text, &placeholders(text).unwrap());
            assert!(!masked.text.contains("{{"), "{}", masked.text);
            assert_eq!(masked.unmask(&masked.text), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_restored(text in "(\\{\\{|\\}\\}|\"|`|7|3|0|\\?| |\\$labels\\.a|/\\*|\\*/|ü|\\\\){0,24}") {
            if let Ok(placeholders) = placeholders(&text) {
                let masked = Masked::of(&text, &placeholders);
                proptest::prop_assert_eq!(masked.unmask(&masked.text), text);
            }
        }
    }
}
