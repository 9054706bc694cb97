//! The placeholders of Prometheus templates in a text: `{{ $labels.namespace }}`, which Prometheus fills in when the
//! alert fires.
//!
//! Words that need no encoding stand in for them while the text around them is encoded or parsed.

/// Escapes `"` and `\` for a LogQL string within a JSON string, and the whole for a URL. A blank becomes a plus sign, which
/// Grafana reads as a blank.
const ENCODE: &str = "reReplaceAll `([\"\\\\])` `\\\\\\$1` | urlquery";

/// A text with its placeholders taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholders {
    /// The text with a word of letters and digits in place of each placeholder.
    pub text: String,
    /// Each word and its placeholder, in order.
    placeholders: Vec<(String, String)>,
}

impl Placeholders {
    /// Takes the placeholders out of `text`. An opening without an end is ordinary text.
    #[must_use]
    pub fn take(text: &str) -> Self {
        let mut stem = "hole".to_owned();
        while text.contains(&stem) {
            stem.push('x');
        }
        let mut taken = Self { text: String::with_capacity(text.len()), placeholders: Vec::new() };
        let mut rest = text;
        while let Some(start) = rest.find("{{")
            && let Some(length) = length_of(&rest[start..])
        {
            // The letter at the end keeps `hole1` from being a prefix of `hole10`.
            let word = format!("{stem}{}z", taken.placeholders.len());
            taken.text.push_str(&rest[..start]);
            taken.text.push_str(&word);
            taken.placeholders.push((word, rest[start..start + length].to_owned()));
            rest = &rest[start + length..];
        }
        taken.text.push_str(rest);
        taken
    }

    /// The placeholders, as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.placeholders.iter().map(|(_, placeholder)| placeholder.as_str())
    }

    /// Each word and its placeholder.
    pub fn words(&self) -> impl Iterator<Item = (&str, &str)> {
        self.placeholders.iter().map(|(word, placeholder)| (word.as_str(), placeholder.as_str()))
    }

    /// Makes each placeholder give a value fit for a LogQL string in the JSON of a URL. A placeholder that already uses
    /// `urlquery` stays as it is.
    #[must_use]
    pub fn encoding(mut self) -> Self {
        for (_, placeholder) in &mut self.placeholders {
            let inner = placeholder.trim_start_matches("{{").trim_end_matches("}}");
            if !inner.contains("urlquery") {
                *placeholder = format!("{{{{ {} | {ENCODE} }}}}", inner.trim_matches(['-', ' ']));
            }
        }
        self
    }

    /// Puts the placeholders back into `text`, which was made from [`Self::text`].
    #[must_use]
    pub fn put_back(&self, text: &str) -> String {
        self.placeholders.iter().fold(text.to_owned(), |text, (word, placeholder)| text.replace(word, placeholder))
    }
}

/// The length of the placeholder at the start of `text`. A `}}` within a string does not end it.
fn length_of(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut quote) = (2, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            (None, byte @ (b'"' | b'`')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at + 2),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Placeholders;

    #[test]
    fn holes_come_out_and_go_back() {
        for (text, placeholders) in [
            ("", vec![]),
            ("{{ $labels.a }}", vec!["{{ $labels.a }}"]),
            ("x{{$value}}y{{ . }}z", vec!["{{$value}}", "{{ . }}"]),
            ("{{ printf \"}}%s\\\"}}\" `}}` }}-{{ 2 }}", vec!["{{ printf \"}}%s\\\"}}\" `}}` }}", "{{ 2 }}"]),
            ("hole0z {{ 1 }}", vec!["{{ 1 }}"]),
            ("{{ never", vec![]),
            ("{\"a\":{\"b\":1}}", vec![]),
        ] {
            let taken = Placeholders::take(text);
            assert_eq!(taken.iter().collect::<Vec<_>>(), placeholders, "{text}");
            assert!(placeholders.is_empty() || !taken.text.contains("{{"), "{taken:?}");
            assert_eq!(taken.put_back(&taken.text), text);
        }
        let many: String = (0..30).map(|n| format!("{{{{ {n} }}}}")).collect::<Vec<_>>().join(" ");
        let taken = Placeholders::take(&many);
        assert_eq!(taken.put_back(&urlencoding::encode(&taken.text)).replace("%20", " "), many);
    }

    #[test]
    fn holes_encode_what_they_yield_once() {
        let encoded = |text: &str| {
            let taken = Placeholders::take(text).encoding();
            taken.put_back(&taken.text)
        };
        let whole = "{{ $labels.a | reReplaceAll `([\"\\\\])` `\\\\\\$1` | urlquery }}";
        assert_eq!(encoded("{{ $labels.a }}"), whole);
        assert_eq!(encoded("{{- $labels.a -}}"), whole);
        assert_eq!(encoded(whole), whole);
        assert_eq!(encoded("{{ .a | urlquery }}"), "{{ .a | urlquery }}");
    }
}
