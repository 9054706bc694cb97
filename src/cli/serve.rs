//! `serve`: the receiver itself.

use std::{path::Path, process::ExitCode};

use clap::Args;

use super::Config;
use crate::{
    app::{Receiver, Source},
    config::{LogFormat, Purpose},
    telemetry,
};

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

pub fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Config::load(file, &crate::config::environment(), Purpose::Serve)?;
    let log = telemetry::init(config.log.format == LogFormat::Json, &config.log.filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let source = Source { file: file.map(Path::to_owned), log };
    runtime.block_on(async { Receiver::prepare(config, source).await?.run().await })?;
    Ok(ExitCode::SUCCESS)
}
