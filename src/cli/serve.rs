//! `serve`: the receiver itself.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Args;

use crate::app::{Receiver, Source};

/// Runs the receiver; the same as no command.
///
/// Takes webhooks on http.listen and shows them in the rooms, until SIGTERM or SIGINT. What it has accepted survives any
/// kind of end. A change of the config applies within seconds, or at once on SIGHUP.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver serve --config /etc/matrix-alertmanager-receiver.toml
  MATRIX_HOMESERVER=https://matrix.example.org MATRIX_USER_ID=@alerts:example.org \\
    MATRIX_ACCESS_TOKEN_FILE=/run/secrets/token MATRIX_ROOM_ID='!abc:example.org' matrix-alertmanager-receiver")]
pub struct Serve {}

/// What still runs when all is stopped reads files, and is left to itself after this.
const LAST_THREADS: Duration = Duration::from_secs(1);

pub fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (config, source) = Source::read(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(async { Receiver::prepare(config, source).await?.run().await });
    // A look at a file that hangs must not hold up the end.
    runtime.shutdown_timeout(LAST_THREADS);
    ran?;
    Ok(ExitCode::SUCCESS)
}
