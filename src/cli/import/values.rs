//! The value of one of metio's keys.

/// Without `Debug`, since it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Null or an empty text.
    Nothing,
    Text(String),
    /// `${NAME}` alone; holds the variable's name.
    Variable(String),
    /// Text around `${NAME}`; holds the name of the first variable.
    Mixed(String),
    /// `!abc:example.org` without quotes, which YAML reads as a tag.
    Tag,
}

impl Value {
    /// The value of a scalar. metio replaces `${NAME}` in the text of the file, before it reads it as YAML.
    pub(super) fn of(text: &str) -> Self {
        match find_variable(text) {
            _ if text.trim().is_empty() => Self::Nothing,
            Some((0, name)) if name.len() + "${}".len() == text.len() => Self::Variable(name.to_owned()),
            Some((_, name)) => Self::Mixed(name.to_owned()),
            None => Self::Text(text.to_owned()),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The name of the first variable in it.
    pub(super) fn variable(&self) -> Option<&str> {
        if let Self::Variable(name) | Self::Mixed(name) = self { Some(name) } else { None }
    }
}

/// The position and name of the first `${NAME}`.
pub(super) fn find_variable(text: &str) -> Option<(usize, &str)> {
    text.match_indices("${").find_map(|(at, open)| {
        let rest = &text[at + open.len()..];
        let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?];
        (!name.is_empty() && rest[name.len()..].starts_with('}')).then_some((at, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_known_as_metio_knows_them() {
        for (text, expected) in [
            ("${A_1}", Some((0, "A_1"))),
            ("x${A}y${B}", Some((1, "A"))),
            ("${} ${a-b} ${c", None),
            ("${a-b} ${c}", Some((7, "c"))),
            ("$A {B}", None),
        ] {
            assert_eq!(find_variable(text), expected, "{text}");
        }
        for (text, expected) in [
            ("", Value::Nothing),
            ("  ", Value::Nothing),
            ("a", Value::Text("a".to_owned())),
            ("${A}", Value::Variable("A".to_owned())),
            ("${A} ", Value::Mixed("A".to_owned())),
            ("${A}${B}", Value::Mixed("A".to_owned())),
        ] {
            assert!(Value::of(text) == expected, "{text}");
        }
    }
}
