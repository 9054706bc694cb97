//! The command line: one file per command.

#![expect(clippy::print_stdout, reason = "commands answer on standard output")]

mod check;
mod completions;
mod dead_letters;
#[cfg(test)]
mod examples;
mod graph;
mod healthcheck;
mod heartbeats;
mod import;
mod lint_rules;
mod login;
mod logs_url;
mod render;
mod send_test;
mod serve;
mod store;
mod support;
mod wget;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

/// Carries Alertmanager notifications into Matrix rooms: kept, exactly once, always showing the newest state.
#[derive(Debug, Parser)]
#[command(name = "matrix-alertmanager-receiver", version = crate::LONG_VERSION, about, max_term_width = 110,
    after_long_help = "\
Start here, each with --config FILE:
  matrix-alertmanager-receiver check --online       # is all set up well?
  matrix-alertmanager-receiver serve                # run the receiver
  matrix-alertmanager-receiver send-test default    # see an alert arrive

Exit codes: 0 success, 1 a problem, which is printed, 2 an invalid command line.")]
pub struct Cli {
    #[arg(
        long,
        value_name = "FILE",
        env = "MAR_CONFIG",
        global = true,
        help = "\
        The config file (TOML). Without one, set these variables: MATRIX_HOMESERVER, MATRIX_USER_ID, \
        MATRIX_ACCESS_TOKEN, MATRIX_ROOM_ID and, unless http.listen is a loopback address, WEBHOOK_TOKEN"
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Login(login::Login),
    Logout(login::Logout),
    Check(check::Check),
    Render(render::Render),
    SendTest(send_test::SendTest),
    LogsUrl(logs_url::LogsUrl),
    LintRules(lint_rules::LintRules),
    Graph(graph::Graph),
    Import(import::Import),
    DeadLetters(dead_letters::DeadLetters),
    Heartbeats(heartbeats::Heartbeats),
    Store(store::Store),
    Healthcheck(healthcheck::Healthcheck),
    Completions(completions::Completions),
}

/// Runs the command of this process's command line.
///
/// # Errors
/// With what went wrong, for the operator.
pub fn run() -> anyhow::Result<ExitCode> {
    if wget::is_name(std::env::args_os().next().as_deref()) { wget::Wget::parse().run() } else { Cli::parse().run() }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// With what went wrong, for the operator.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config.as_deref();
        match self.command.unwrap_or(Command::Serve(serve::Serve {})) {
            Command::Serve(_) => serve::run(config),
            Command::Login(login) => login.run(config),
            Command::Logout(logout) => logout.run(config),
            Command::Check(check) => check.run(config),
            Command::Render(render) => render.run(config),
            Command::SendTest(send_test) => send_test.run(config),
            Command::LogsUrl(logs_url) => logs_url.run(),
            Command::LintRules(lint_rules) => lint_rules.run(config),
            Command::Graph(graph) => graph.run(config),
            Command::Import(import) => import.run(),
            Command::DeadLetters(dead_letters) => dead_letters.run(config),
            Command::Heartbeats(heartbeats) => heartbeats.run(config),
            Command::Store(store) => store.run(config),
            Command::Healthcheck(healthcheck) => Ok(healthcheck.run(config)),
            Command::Completions(completions) => completions.run(Self::command()),
        }
    }
}
