//! Foreign text on one line, for logs, health and terminals.

/// `text` on one line of at most `most` characters; control characters become spaces, and an ellipsis marks the cut.
#[must_use]
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == most {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_line_and_bounded() {
        assert_eq!(one_line("a\r\nb\u{7}c", 9), "a  b c");
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüx", 3), "äöü…");
    }
}
