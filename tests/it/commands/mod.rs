//! The commands beside `serve`: what they say, what they exit with, and that no secret is in it.

mod check;
mod lint_rules;
mod others;

use std::process::Command;

use crate::harness::{Receiver, User};

const HOOK_TOKEN: &str = "hook-token-of-the-test";

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: std::process::Output, secrets: &[&str]) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let ran =
            Self { code: output.status.code().expect("it ended"), out: text(output.stdout), err: text(output.stderr) };
        for secret in secrets {
            assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "a secret is in:\n{}", ran.all());
        }
        ran
    }

    pub(crate) fn all(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }

    /// Exits with `code`, and for each of `lines` there is a line that has all its words.
    pub(crate) fn says(&self, code: i32, lines: &[&[&str]]) -> &Self {
        assert_eq!(self.code, code, "{}", self.all());
        assert!(!self.err.contains("panicked"), "{}", self.all());
        let text = format!("{}{}", self.out, self.err);
        for words in lines {
            let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(found, "no line has {words:?}:\n{}", self.all());
        }
        self
    }

    fn faults(&self) -> usize {
        self.err.lines().filter(|line| line.starts_with("FAULT")).count()
    }
}

pub(crate) async fn run(receiver: &Receiver, bot: &User, args: &[&str]) -> Ran {
    Ran::of(receiver.cli(args).await, &[&bot.access_token, &bot.password, HOOK_TOKEN])
}

/// The binary with a clean environment and no config of its own.
pub(crate) fn bare(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
    Ran::of(command.env_clear().envs(env.iter().copied()).args(args).output().expect("it starts"), &[HOOK_TOKEN])
}

/// An account for what asks no homeserver; nothing listens there.
pub(crate) fn nobody() -> User {
    User {
        user_id: "@alerts:localhost".to_owned(),
        access_token: "syt_token_of_nobody".to_owned(),
        device_id: "D".to_owned(),
        password: "password of nobody".to_owned(),
        homeserver: "http://127.0.0.1:9".to_owned(),
    }
}
