//! What the program can say, read out of its code: the calls of the log macros, and all other constant text.

use std::fs;

use super::{GAP, files_below, leading, root};

/// What the program can say.
pub(super) struct Source {
    /// All code without tests, with string literals on one line.
    text: String,
    calls: Vec<Call>,
}

/// One call of a log macro.
struct Call {
    level: String,
    /// What stands between its parentheses.
    body: String,
}

impl Source {
    pub fn read() -> Self {
        let (mut text, mut calls) = (String::new(), Vec::new());
        let mut files = Vec::new();
        files_below(&root().join("src"), "rs", &mut files);
        for file in files {
            let code = fs::read_to_string(&file).expect("a source file");
            let code = one_line_literals(code.split("#[cfg(test)]\nmod ").next().unwrap_or_default());
            for (at, _) in code.match_indices("tracing::") {
                let rest = &code[at + "tracing::".len()..];
                let Some((level, rest)) = rest.split_once("!(") else { continue };
                if ["info", "warn", "error"].contains(&level) {
                    calls.push(Call { level: level.to_uppercase(), body: arguments(rest).to_owned() });
                }
            }
            text.push_str(&code);
        }
        Self { text: text.replace("\\\"", "\""), calls }
    }

    /// Whether a line of the log may be `line`: its level, its message, its fields, and what the values name.
    pub fn writes(&self, line: &str) -> Result<(), String> {
        let (level, rest) = line.split_once(' ').ok_or("no level")?;
        let (message, fields) = parted(rest);
        let call = self.calls.iter().filter(|call| call.level == level).find_map(|call| {
            let known = |(name, _): &(String, String)| has_field(&call.body, name);
            let tail = literals(&call.body).into_iter().find_map(|literal| tail_after(&literal, &message))?;
            fields.iter().all(known).then_some(tail)
        });
        let tail = call.ok_or("no such line at this level")?;
        self.says(&tail)?;
        for (name, value) in &fields {
            // Rooms and routes are the operator's.
            if name != "room" {
                self.names(value)?;
            }
        }
        Ok(())
    }

    /// Whether each constant part of `text` stands in the code.
    pub fn says(&self, text: &str) -> Result<(), String> {
        for part in text.split(GAP).flat_map(|part| part.split(" -> ")).map(str::trim).filter(|part| part.len() > 2) {
            if !self.text.contains(part) {
                return Err(format!("not in src: {part}"));
            }
        }
        Ok(())
    }

    /// The same for a field's value, which may begin with a word of a closed set.
    fn names(&self, value: &str) -> Result<(), String> {
        let value = value.replace('"', " … ");
        let value = value.trim_matches(|c: char| c == GAP || c.is_whitespace());
        let word = leading(value, |c| c.is_ascii_lowercase() || c == '_');
        let rest = &value[word.len()..];
        if !word.is_empty() && (rest.is_empty() || rest.starts_with(':')) {
            let set = self.text.contains(&format!("\"{word}\""));
            return if set { self.says(rest.trim_start_matches(':')) } else { Err(format!("not in src: {word}")) };
        }
        self.says(value)
    }
}

/// What of `message` comes after the constant start of a format string; all of it must be constant if nothing is put in.
fn tail_after(literal: &str, message: &str) -> Option<String> {
    match literal.split_once('{') {
        None => (literal == message).then(String::new),
        Some((start, _)) if start.len() > 8 => message.strip_prefix(start.trim_end()).map(str::to_owned),
        Some(_) => None,
    }
}

/// The message of a log line, and its fields with their values.
fn parted(line: &str) -> (String, Vec<(String, String)>) {
    let (mut message, mut fields) = (Vec::new(), Vec::<(String, String)>::new());
    for word in line.split_whitespace() {
        let name = leading(word, |c| c.is_ascii_lowercase() || c == '_');
        if let Some(value) = word[name.len()..].strip_prefix('=').filter(|_| !name.is_empty()) {
            fields.push((name.to_owned(), value.to_owned()));
        } else if let Some((_, value)) = fields.last_mut() {
            value.push(' ');
            value.push_str(word);
        } else {
            message.push(word);
        }
    }
    (message.join(" "), fields)
}

/// A backslash at the end of a line in a literal swallows the line break and the blanks after it.
fn one_line_literals(code: &str) -> String {
    let mut parts = code.split("\\\n");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.trim_start());
    }
    text
}

/// Up to the parenthesis that closes a call.
pub(super) fn arguments(rest: &str) -> &str {
    let (mut depth, mut in_literal, mut escaped) = (0, false, false);
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_literal => escaped = true,
            '"' => in_literal = !in_literal,
            '(' if !in_literal => depth += 1,
            ')' if !in_literal && depth == 0 => return &rest[..at],
            ')' if !in_literal => depth -= 1,
            _ => {}
        }
    }
    rest
}

fn literals(code: &str) -> Vec<String> {
    let code = code.replace("\\\"", "\u{0}");
    code.split('"').skip(1).step_by(2).map(|literal| literal.replace('\u{0}', "\"")).collect()
}

/// Whether a log macro gives the field, as `name = value` or, where a variable is called so, by its name alone.
fn has_field(arguments: &str, name: &str) -> bool {
    arguments.match_indices(name).any(|(at, _)| {
        let before = arguments[..at].chars().next_back();
        let after = &arguments[at + name.len()..];
        before.is_none_or(|c| c.is_whitespace() || c == '%') && (after.starts_with(" = ") || after.starts_with(','))
    })
}
