//! Examples of the help texts can be copied as they are shown on a narrow terminal, and are commands that exist.

use clap::{Command, CommandFactory as _, Parser as _};

use super::{Cli, wget::Wget};

const NAME: &str = "matrix-alertmanager-receiver";
/// As wide as most terminals.
const WIDTH: usize = 80;

/// The help texts of a command and of all below it, by its names.
fn helps(command: &mut Command, names: &str, into: &mut Vec<(String, String)>) {
    into.push((names.to_owned(), command.render_long_help().to_string()));
    for below in command.get_subcommands_mut() {
        let names = format!("{names} {}", below.get_name());
        helps(below, &names, into);
    }
}

fn all_helps() -> Vec<(String, String)> {
    let mut helps_of = Vec::new();
    for mut command in [Cli::command(), Wget::command()] {
        command = command.term_width(WIDTH);
        command.build();
        let name = command.get_name().to_owned();
        helps(&mut command, &name, &mut helps_of);
    }
    helps_of
}

/// The lines below `Examples:` or `Start here`, with those joined that a shell joins.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| !line.starts_with("Examples:") && !line.starts_with("Start here"));
    let mut found = Vec::new();
    let mut goes_on = false;
    for line in lines.skip(1).take_while(|line| line.starts_with("  ")) {
        let text = line.trim();
        let (text, more) = text.strip_suffix('\\').map_or((text, false), |text| (text, true));
        match found.last_mut() {
            Some(last) if goes_on => *last = format!("{last}{text}"),
            _ => found.push(text.to_owned()),
        }
        goes_on = more;
    }
    assert!(!goes_on, "a line goes on into nothing: {help}");
    found
}

/// The words of each command of a line, as a shell splits them; what is redirected is left out.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let (mut word, mut quote) = (None::<String>, None);
    let mut redirected = false;
    for c in line.chars().chain([' ']) {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => {
                (quote, word) = (Some(c), Some(word.take().unwrap_or_default()));
            }
            None if c == ' ' => match word.take().as_deref() {
                None => {}
                Some("|" | "&&") => commands.push(Vec::new()),
                Some(">" | "<") => redirected = true,
                Some(_) if redirected => redirected = false,
                Some("#") => return commands,
                Some(text) => commands.last_mut().expect("one").push(text.to_owned()),
            },
            Some(_) | None => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote does not end: {line}");
    commands
}

#[test]
fn every_example_can_be_copied() {
    let mut ours = 0;
    for (names, help) in all_helps() {
        for example in examples(&help) {
            let mut is_ours = false;
            for words in commands(&example) {
                let words: Vec<String> = words.into_iter().skip_while(|word| is_assignment(word)).collect();
                let parsed = match words.first().map(String::as_str) {
                    Some(NAME) => Cli::try_parse_from(&words).map(drop),
                    Some("wget") => Wget::try_parse_from(&words).map(drop),
                    Some("jq" | "helm" | "echo") => continue,
                    first => panic!("{names}: {example}: {first:?} is not a command"),
                };
                assert!(parsed.is_ok(), "{names}: {example}: {parsed:?}");
                is_ours = true;
            }
            assert!(is_ours, "{names}: {example}");
            ours += 1;
        }
    }
    assert!(ours >= 30, "{ours}");
}

/// `NAME=value` before a command.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

#[test]
fn lines_are_split_as_a_shell_does() {
    let line = "A=1 x 'a b' --c=\"d|e\" < in | jq -r '.[]' > \"${o}\" && echo y # why";
    let expected = [vec!["A=1", "x", "a b", "--c=d|e"], vec!["jq", "-r", ".[]"], vec!["echo", "y"]];
    assert_eq!(commands(line), expected);
    assert_eq!(examples("Examples:\n  a \\\n    b\n  c\n\nMore:\n  d\n"), ["a b", "c"]);
}
