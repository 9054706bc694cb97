//! Foreign text on one line, for logs, health and terminals.

/// `text` on one line of at most `most` characters; control characters become spaces, and an ellipsis marks the cut.
/// What turns the direction of a text or cannot be seen is left out, since Alertmanager's page and terminals obey it.
#[must_use]
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (index, c) in text.chars().filter(|c| !is_invisible(*c)).enumerate() {
        if index == most {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

/// Whether the character changes the text direction or is invisible.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{00AD}' | '\u{180E}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_line_and_bounded() {
        assert_eq!(one_line("a\r\nb\u{7}c", 9), "a  b c");
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüx", 3), "äöü…");
        assert_eq!(one_line("a\u{202E}b\u{2066}c\u{200B}", 3), "abc");
        assert_eq!(one_line("👩\u{200D}🚒", 9), "👩\u{200D}🚒", "an emoji of several characters stays whole");
    }
}
