//! The command line: one file per command.

mod render;
mod serve;
mod terminal;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Carries Alertmanager notifications into Matrix rooms: kept, exactly once, always showing the newest state.
#[derive(Debug, Parser)]
#[command(name = "matrix-alertmanager-receiver", version = crate::LONG_VERSION, about, max_term_width = 110)]
pub struct Cli {
    /// The config file (TOML). Without one, the environment alone must do: MATRIX_HOMESERVER, MATRIX_USER_ID,
    /// MATRIX_ACCESS_TOKEN, MATRIX_ROOM_ID and, for other addresses than loopback, WEBHOOK_TOKEN.
    #[arg(long, value_name = "FILE", env = "MAR_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the receiver (also without a command).
    Serve(serve::Serve),
    /// Show the message that a webhook payload gives, without any server.
    Render(render::Render),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What went wrong, in words for the operator.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config.as_deref();
        match self.command.unwrap_or(Command::Serve(serve::Serve {})) {
            Command::Serve(serve) => serve.run(config),
            Command::Render(render) => render.run(config),
        }
    }
}
