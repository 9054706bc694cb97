//! Reads a command from the body of a message. Pure, and safe for whatever anybody writes into a room.

use std::time::Duration;

use crate::{config::parse_duration, model::ActKind, text::one_line};

/// Bytes of a body that are looked at.
const MAX_BODY: usize = 4_096;
/// Characters of a reason that are kept.
pub const MAX_TEXT: usize = 300;
/// Characters of a command's word and of the name of an alert.
const MAX_WORD: usize = 120;

/// The words of the commands.
pub const WORDS: [(&str, ActKind); 10] = [
    ("ack", ActKind::Take),
    ("unack", ActKind::Untake),
    ("silence", ActKind::Silence),
    ("unsilence", ActKind::Unsilence),
    ("why", ActKind::Why),
    ("logs", ActKind::Logs),
    ("graph", ActKind::Graph),
    ("alerts", ActKind::Alerts),
    ("silences", ActKind::Silences),
    ("help", ActKind::Help),
];

/// A command as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub kind: ActKind,
    /// In a digest's thread: the name of the alert that it is about.
    pub alertname: Option<String>,
    pub duration: Option<Duration>,
    pub count: Option<usize>,
    /// What is left: a reason, or for [`ActKind::Unknown`] the unknown word. On one line, at most [`MAX_TEXT`] characters.
    pub text: String,
    pub fault: Option<CommandFault>,
}

/// What cannot be read in a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandFault {
    /// It begins like a duration and is none; as written.
    Duration(String),
    /// Not a number; as written.
    Count(String),
    /// In a digest's thread it must name an alert.
    NoAlertname,
}

/// What a body asks for; `None`: it does not begin with the prefix and a word. In the thread of a digest the first word
/// after the command's own names the alert.
#[must_use]
pub fn parse(body: &str, prefix: &str, in_digest: bool) -> Option<Command> {
    let rest = after_prefix(without_fallback(bounded(body)), prefix)?;
    let (word, rest) = split_word(rest);
    if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let known = WORDS.iter().find(|(name, _)| *name == lower).map(|(_, kind)| *kind);
    let mut command = Command {
        kind: known.unwrap_or(ActKind::Unknown),
        alertname: None,
        duration: None,
        count: None,
        text: String::new(),
        fault: None,
    };
    let Some(kind) = known else {
        command.text = one_line(word, MAX_WORD);
        return Some(command);
    };
    let rest = if in_digest && is_about_an_incident(kind) { name_alert(&mut command, rest) } else { rest };
    let rest = match kind {
        ActKind::Silence => read_duration(&mut command, rest),
        ActKind::Logs => read_count(&mut command, rest),
        _ => rest,
    };
    command.text = one_line(rest.trim(), MAX_TEXT);
    Some(command)
}

/// Whether a command of this kind needs an incident, so that it says nothing in the room itself.
#[must_use]
pub fn is_about_an_incident(kind: ActKind) -> bool {
    !matches!(kind, ActKind::Alerts | ActKind::Silences | ActKind::Help | ActKind::Unknown)
}

fn bounded(body: &str) -> &str {
    let mut end = body.len().min(MAX_BODY);
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    &body[..end]
}

/// Without the quoted lines that old clients put before a reply.
fn without_fallback(body: &str) -> &str {
    let mut rest = body;
    while rest.starts_with("> ") || rest.starts_with(">\n") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    if rest.len() == body.len() { body } else { rest.trim_start_matches(['\r', '\n']) }
}

/// A prefix that ends in a letter or digit is a word, and the command follows after a blank.
fn after_prefix<'b>(body: &'b str, prefix: &str) -> Option<&'b str> {
    let rest = body.strip_prefix(prefix)?;
    if prefix.ends_with(char::is_alphanumeric) {
        return rest.starts_with(char::is_whitespace).then(|| rest.trim_start());
    }
    (!rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// The first word, and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

fn name_alert<'r>(command: &mut Command, rest: &'r str) -> &'r str {
    let (name, after) = split_word(rest);
    if name.is_empty() || parse_duration(name).is_some() {
        command.fault = Some(CommandFault::NoAlertname);
        return rest;
    }
    command.alertname = Some(one_line(name, MAX_WORD));
    after
}

/// A first word that begins with a digit has to be a duration: silencing for another time than was meant is worse than
/// asking back.
fn read_duration<'r>(command: &mut Command, rest: &'r str) -> &'r str {
    let (word, after) = split_word(rest);
    if !word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') {
        return rest;
    }
    match parse_duration(word).filter(|duration| !duration.is_zero()) {
        Some(duration) => command.duration = Some(duration),
        None => command.fault = command.fault.take().or(Some(CommandFault::Duration(one_line(word, MAX_WORD)))),
    }
    after
}

fn read_count<'r>(command: &mut Command, rest: &'r str) -> &'r str {
    let (word, after) = split_word(rest);
    if word.is_empty() {
        return rest;
    }
    match word.parse::<usize>().ok().filter(|count| *count > 0) {
        Some(count) => command.count = Some(count),
        None => command.fault = command.fault.take().or(Some(CommandFault::Count(one_line(word, MAX_WORD)))),
    }
    after
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Option<Command> {
        parse(body, "!", false)
    }

    fn blank(kind: ActKind) -> Command {
        Command { kind, alertname: None, duration: None, count: None, text: String::new(), fault: None }
    }

    #[test]
    fn each_command_is_read() {
        let minutes = |n| Some(Duration::from_mins(n));
        let text = |kind, text: &str| Command { text: text.to_owned(), ..blank(kind) };
        for (body, expected) in [
            ("!ack", blank(ActKind::Take)),
            ("!ACK looking at the\nnode", text(ActKind::Take, "looking at the node")),
            ("!unack", blank(ActKind::Untake)),
            ("!silence", blank(ActKind::Silence)),
            ("!silence 2h", Command { duration: minutes(120), ..blank(ActKind::Silence) }),
            (
                "!silence  1h30m  disk is being replaced ",
                Command { duration: minutes(90), ..text(ActKind::Silence, "disk is being replaced") },
            ),
            ("!silence disk is being replaced", text(ActKind::Silence, "disk is being replaced")),
            ("!unsilence", blank(ActKind::Unsilence)),
            ("!why", blank(ActKind::Why)),
            ("!logs", blank(ActKind::Logs)),
            ("!logs 20", Command { count: Some(20), ..blank(ActKind::Logs) }),
            ("!graph", blank(ActKind::Graph)),
            ("!alerts", blank(ActKind::Alerts)),
            ("!silences", blank(ActKind::Silences)),
            ("!Help me", text(ActKind::Help, "me")),
            ("!sielnce 2h", text(ActKind::Unknown, "sielnce")),
            ("> <@a:b> the card\n> more\n\n!ack", blank(ActKind::Take)),
        ] {
            assert_eq!(read(body), Some(expected), "{body:?}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_is_a_fault() {
        for word in ["2", "2x", "0s", "5xx", "2H", "-1h", "1.5h", "99999999999999w"] {
            let command = read(&format!("!silence {word} reason")).expect("a command");
            let fault = Some(CommandFault::Duration(word.to_owned()));
            assert_eq!((command.fault, command.duration, command.text.as_str()), (fault, None, "reason"), "{word}");
        }
        for word in ["x", "0", "-1"] {
            let command = read(&format!("!logs {word}")).expect("a command");
            assert_eq!(command.fault, Some(CommandFault::Count(word.to_owned())));
        }
    }

    #[test]
    fn what_does_not_begin_with_the_prefix_is_nothing() {
        for body in [
            "",
            "!",
            "!!!",
            "! ack",
            " !ack",
            "ack",
            "say !ack",
            "!?",
            "!1",
            "> !ack",
            "> quoted\n\nand !ack",
            "!\nack",
        ] {
            assert_eq!(read(body), None, "{body:?}");
        }
        for (body, prefix, is_one) in
            [("!mar ack", "!mar", true), ("!marack", "!mar", false), ("!mar", "!mar", false), ("am/ack", "am/", true)]
        {
            assert_eq!(parse(body, prefix, false).is_some(), is_one, "{body:?}");
        }
    }

    #[test]
    fn in_a_digest_the_alert_is_named() {
        let read = |body| parse(body, "!", true).expect("a command");
        let silence = read("!silence PodCrashLooping 2h why not");
        assert_eq!(silence.alertname.as_deref(), Some("PodCrashLooping"));
        assert_eq!((silence.duration, silence.text.as_str()), (Some(Duration::from_hours(2)), "why not"));
        assert_eq!(read("!ack PodCrashLooping").alertname.as_deref(), Some("PodCrashLooping"));
        for body in ["!ack", "!silence 2h", "!why"] {
            assert_eq!(read(body).fault, Some(CommandFault::NoAlertname), "{body}");
        }
        assert_eq!(read("!alerts").fault, None, "it is about no incident");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_all_is_bounded(body in "(!|> |!silence |!logs |\n)*\\PC{0,60}", repeat in 1_usize..200) {
            for in_digest in [true, false] {
                let command = parse(&body.repeat(repeat), "!", in_digest);
                if let Some(command) = command {
                    prop_assert!(command.text.chars().count() <= MAX_TEXT + 1);
                    prop_assert!(command.alertname.is_none_or(|name| name.chars().count() <= MAX_WORD + 1));
                    prop_assert!(!command.text.contains('\n'));
                }
            }
        }
    }
}
