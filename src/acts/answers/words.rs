//! The words of answers. A refusal says what would help.

use crate::{
    acts::{
        command::{Command, CommandFault, WORDS, is_about_an_incident},
        rights::Denial,
        silence::matchers::{MOST, MatcherFault},
    },
    alertmanager::client::{ApiError, ApiFault},
    config::Actions,
    evidence::NoEvidence,
    model::{ActKind, EvidenceKind, Reason, SendError},
    render::answer::{Answer, duration},
    text::one_line,
};

/// Characters of a word that an answer repeats: the help after it must fit on the line too.
const REPEATED: usize = 30;

/// What somebody wrote, short enough to be repeated.
#[must_use]
pub fn repeated(word: &str) -> String {
    one_line(word, REPEATED)
}

#[must_use]
pub fn refusal(reason: &str) -> Answer {
    Answer::new("❌", reason)
}

/// A duration as a command takes it: `2h`, `1h30m`.
#[must_use]
pub fn typed(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 3_600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    let text = parts.concat();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Why somebody may not.
#[must_use]
pub fn denial(denial: Denial, kind: ActKind, actions: &Actions) -> Answer {
    let prefix = &actions.prefix;
    match denial {
        Denial::NotJoined => refusal("Only members of this room may do this"),
        Denial::NoRight { needs: Some(needs), has } => {
            let level = if has == i64::MAX { "the highest there is".to_owned() } else { has.to_string() };
            let listed = if kind.only_reads() { "" } else { " or to be listed in actions.allow.users" };
            refusal(&format!("This needs power level {needs}{listed}; yours is {level}"))
        }
        Denial::NoRight { needs: None, .. } => refusal("This needs to be listed in actions.allow.users"),
        Denial::NotEncrypted => refusal("This room is encrypted and the command was not: send it encrypted"),
        Denial::Unsigned => {
            refusal("The command came from a device that is not verified: verify this session, then repeat it")
        }
        Denial::Violated => {
            refusal("The device that sent this does not prove who you are: sign in again, then repeat it")
        }
        Denial::PowerNotTrusted => refusal("In an encrypted room a silence needs your name in actions.allow.users")
            .line("Power levels are not encrypted. With actions.trust_power = true they suffice."),
        Denial::ReactionNotTrusted => refusal(&format!("Use {prefix}silence here: reactions are not encrypted"))
            .line("With actions.trust_reactions = true they suffice."),
    }
}

/// Why a command cannot be carried out as it was written; `None`: it can.
#[must_use]
pub fn fault(command: &Command, prefix: &str, silence: std::time::Duration) -> Option<String> {
    let rest = if command.text.is_empty() { String::new() } else { format!(" {}", command.text) };
    Some(match command.fault.as_ref()? {
        CommandFault::Duration(word) => {
            let number = word.chars().all(|c| c.is_ascii_digit()) && word.len() < 6 && *word != "0";
            let example = if number { format!("{word}h") } else { typed(silence) };
            let name = command.alertname.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let word = repeated(word);
            format!("{word} is not a duration; it needs a unit: {prefix}silence{name} {example}{rest}")
        }
        CommandFault::Count(word) => format!("{} is not a number of lines: {prefix}logs 20", repeated(word)),
        CommandFault::NoAlertname => {
            let word = WORDS.iter().find(|(_, kind)| *kind == command.kind).map_or("ack", |(word, _)| *word);
            format!("Say which alert of this message: {prefix}{word} ALERTNAME")
        }
    })
}

/// An unknown command, with the one that was perhaps meant.
#[must_use]
pub fn unknown(word: &str, prefix: &str) -> String {
    let lower = word.to_lowercase();
    let near = WORDS
        .iter()
        .map(|(known, _)| (strsim::damerau_levenshtein(known, &lower), *known))
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len())
        .min();
    match near {
        Some((_, known)) => format!("There is no {prefix}{word}; did you mean {prefix}{known}?"),
        None => format!("There is no {prefix}{}; {prefix}help lists what there is", repeated(word)),
    }
}

#[must_use]
pub fn matcher_fault(fault: MatcherFault) -> Answer {
    match fault {
        MatcherFault::NothingOpen => refusal("Nothing of this is firing any more"),
        MatcherFault::TooMany(names) => {
            refusal(&format!("This mixes {names} alertnames, and {MOST} are silenced at once"))
                .line("Silence them in Alertmanager, or reply to the message about one of them.")
        }
        MatcherFault::NoLabels => refusal("These alerts have no labels by which they could be silenced"),
        MatcherFault::NoSuchAlert => refusal("That alert is not part of this any more"),
        MatcherFault::NotAlertmanagers => refusal(
            "This is not an alert of Alertmanager, so a silence cannot hold it back",
        )
        .line("Take it (👀) so that nobody else is called; heartbeats forget ends it where it is not wanted any more."),
    }
}

#[must_use]
pub fn beyond(named: &[String], count: usize) -> Answer {
    let others = if count == 1 { "1 other alert".to_owned() } else { format!("{count} other alerts") };
    let mut answer = refusal(&format!("Not silenced: that would silence {others} as well"));
    for name in named {
        answer = answer.line(name);
    }
    if count > named.len() {
        answer = answer.line(&format!("and {} more", count - named.len()));
    }
    answer.line("Reply to the message about one alert to silence that one, or silence in Alertmanager by hand.")
}

/// Alertmanager did not do it.
#[must_use]
pub fn api_error(what: &str, error: &ApiError) -> Answer {
    let (reason, help) = match error.kind {
        ApiFault::NotSent => ("Alertmanager cannot be reached", "Try again, or use another way to Alertmanager."),
        ApiFault::InDoubt => ("Alertmanager did not answer", "Try again, or use another way to Alertmanager."),
        ApiFault::Refused => ("Alertmanager refused it", ""),
        ApiFault::Unauthorized => {
            ("Alertmanager did not accept the credentials", "Check [alertmanager] in the config.")
        }
        ApiFault::NotFound => ("Alertmanager has no such API or silence", "Check alertmanager.urls in the config."),
    };
    refusal(&format!("{what}: {reason}")).line(&error.detail).line(help)
}

/// Why there is no evidence, and what would help.
#[must_use]
pub fn no_evidence(kind: EvidenceKind, why: &NoEvidence) -> Answer {
    let (name, source, key) = match kind {
        EvidenceKind::Logs => ("Logs", "Loki", "evidence.loki"),
        EvidenceKind::Graph => ("Graphs", "Prometheus", "evidence.prometheus"),
    };
    match why {
        NoEvidence::NotConfigured(_) => {
            refusal(&format!("{name} are not configured")).line(&format!("Set {key} in the receiver's config."))
        }
        NoEvidence::PlainRoom => refusal(&format!("{name} are shown in encrypted rooms only, and this one is not"))
            .line("The route's evidence.encrypted_only says so."),
        NoEvidence::NoQuery(reason) => {
            let help = match kind {
                EvidenceKind::Logs => "The annotation logs_url or [links.grafana] gives it one: see LOGS.md.",
                EvidenceKind::Graph => "It is read from generatorURL, which Prometheus, Thanos and vmalert set.",
            };
            refusal(&sentence(reason)).line(help)
        }
        NoEvidence::OwnAlarm => {
            let what = match kind {
                EvidenceKind::Logs => "log lines",
                EvidenceKind::Graph => "graph",
            };
            refusal(&format!("A missing heartbeat has no {what}")).line("It is an alert that did not come.")
        }
        NoEvidence::Empty(reason) => Answer::new("ℹ️", &sentence(reason)),
        NoEvidence::Failed(reason) => refusal(&format!("{source} gave nothing to show")).line(reason),
        NoEvidence::TimedOut => refusal(&format!("{source} did not answer within 10 s"))
            .line("Try again, or narrow the query: it may read too much."),
        NoEvidence::NotUploaded(error) => not_uploaded(error),
    }
}

fn not_uploaded(error: &SendError) -> Answer {
    let (reason, help) = match error.reason {
        Reason::TooLarge => ("The picture is too large for the homeserver", "Its limit for uploads is too small."),
        Reason::RateLimited => ("The homeserver limits uploads for now", "Try again in a minute."),
        Reason::KeysNotReady => ("The picture cannot be encrypted for this room", ""),
        _ => ("The homeserver did not take the picture", "Try again."),
    };
    refusal(reason).line(&error.detail).line(help)
}

/// With a capital letter.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// What there is, for the routes of a room.
#[must_use]
pub fn help(prefix: &str, actions: &Actions, has_alertmanager: bool, evidence: &[EvidenceKind]) -> Answer {
    let mut answer =
        Answer::new("ℹ️", &format!("Reply to a card, or write in its thread; {prefix}why shows what is known"))
            .line("👀 or ✅ on a card: you take care of it; removing it gives it back")
            .code("the same, with a word to the others:", &format!("{prefix}ack looking at the node"))
            .code("gives it back:", &format!("{prefix}unack"));
    if has_alertmanager {
        let (usual, most) = (typed(actions.silence), duration(actions.max_silence));
        answer = answer
            .line(&format!("🔕 on a card: a silence for {usual}; removing it ends the silence"))
            .code(&format!("the same, at most {most}:"), &format!("{prefix}silence {usual} reason"))
            .code("ends the silences made from a card:", &format!("{prefix}unsilence"));
    }
    answer = answer.code("alerts, silences, and who took it:", &format!("{prefix}why"));
    for kind in evidence {
        answer = match kind {
            EvidenceKind::Logs => answer.code("log lines from around its start:", &format!("{prefix}logs 20")),
            EvidenceKind::Graph => answer.code("a graph of what it watches:", &format!("{prefix}graph")),
        };
    }
    answer
        .code("what is open in this room:", &format!("{prefix}alerts"))
        .code("what is silenced:", &format!("{prefix}silences"))
        .code("in the thread of a digest name the alert:", &format!("{prefix}ack ALERTNAME"))
}

/// A command that needs an incident and was written where there is none.
#[must_use]
pub fn no_incident(kind: ActKind) -> Option<&'static str> {
    is_about_an_incident(kind).then_some("Reply to a card with this, or write it in the card's thread")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::acts::command::parse;

    #[test]
    fn faults_show_what_would_be_right() {
        for (body, in_digest, expected) in [
            ("!silence 2 disk", false, "2 is not a duration; it needs a unit: !silence 2h disk"),
            ("!silence 5xx", false, "5xx is not a duration; it needs a unit: !silence 2h"),
            ("!silence A 30 x", true, "30 is not a duration; it needs a unit: !silence A 30h x"),
            ("!logs many", false, "many is not a number of lines: !logs 20"),
            ("!unack", true, "Say which alert of this message: !unack ALERTNAME"),
        ] {
            let command = parse(body, "!", in_digest).expect("a command");
            assert_eq!(fault(&command, "!", Duration::from_hours(2)).as_deref(), Some(expected));
        }
        assert_eq!(fault(&parse("!ack", "!", false).expect("a command"), "!", Duration::from_hours(2)), None);
    }

    #[test]
    fn an_unknown_command_names_its_neighbour() {
        for (word, expected) in [
            ("sielnce", "There is no !sielnce; did you mean !silence?"),
            ("acj", "There is no !acj; did you mean !ack?"),
            ("frobnicate", "There is no !frobnicate; !help lists what there is"),
        ] {
            assert_eq!(unknown(word, "!"), expected);
        }
    }

    #[test]
    fn however_long_a_word_is_the_help_after_it_is_there() {
        let word = "x".repeat(5_000);
        let silence = parse(&format!("!silence 2{word} {word}"), "!", false).expect("a command");
        let fault = fault(&silence, "!", Duration::from_hours(2)).expect("a fault");
        for (text, help) in [(fault, "it needs a unit: !silence 2h"), (unknown(&word, "!"), "!help lists")] {
            let shown = refusal(&text).message();
            assert!(shown.body.contains(help), "{}", shown.body);
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_typed() {
        for (seconds, expected) in [(7_200, "2h"), (5_400, "1h30m"), (86_400, "24h"), (90, "1m30s"), (0, "0s")] {
            assert_eq!(typed(Duration::from_secs(seconds)), expected);
        }
    }
}
