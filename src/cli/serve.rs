//! `serve`: the receiver itself.

use std::{path::Path, process::ExitCode, thread::available_parallelism, time::Duration};

use clap::Args;

use crate::app::{Receiver, Source};

/// Runs the receiver; the same as no command.
///
/// Accepts webhooks on http.listen and shows them in the rooms, until SIGTERM or SIGINT. Accepted alerts survive a crash.
/// Config changes apply within seconds, or at once on SIGHUP.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver serve \\
    --config /etc/matrix-alertmanager-receiver.toml
  MATRIX_HOMESERVER=https://matrix.example.org \\
    MATRIX_USER_ID=@alerts:example.org \\
    MATRIX_ACCESS_TOKEN_FILE=/run/secrets/token \\
    MATRIX_ROOM_ID='!abc:example.org' matrix-alertmanager-receiver")]
pub struct Serve {}

/// The most threads that run tasks. There is one writer, and each thread costs memory, also on a machine of a hundred cores.
const MOST_WORKERS: usize = 4;
/// How long to wait for threads that still read files after the stop.
const LAST_THREADS: Duration = Duration::from_secs(1);

pub fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (config, source) = Source::read(file)?;
    let workers = available_parallelism().map_or(MOST_WORKERS, |cores| cores.get().min(MOST_WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let ran = runtime.block_on(async {
        match Receiver::prepare(config, source).await? {
            Some(receiver) => receiver.run().await,
            None => Ok(()),
        }
    });
    // A file read that hangs must not block the exit.
    runtime.shutdown_timeout(LAST_THREADS);
    ran?;
    Ok(ExitCode::SUCCESS)
}
