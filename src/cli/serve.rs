//! `serve`: the receiver itself.

use std::{path::Path, process::ExitCode};

use clap::Args;

use super::Config;
use crate::{
    app::Receiver,
    config::{LogFormat, Purpose},
    telemetry,
};

/// Runs the receiver; the same as no command.
///
/// Takes webhooks on http.listen and shows them in the rooms, until SIGTERM or SIGINT. What it has accepted survives any
/// kind of end.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver serve --config /etc/matrix-alertmanager-receiver.toml
  MATRIX_HOMESERVER=https://matrix.example.org MATRIX_USER_ID=@alerts:example.org \\
    MATRIX_ACCESS_TOKEN_FILE=/run/secrets/token MATRIX_ROOM_ID='!abc:example.org' matrix-alertmanager-receiver")]
pub struct Serve {}

pub fn run(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Config::load(config, &crate::config::environment(), Purpose::Serve)?;
    telemetry::init(config.log.format == LogFormat::Json, &config.log.filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { Receiver::prepare(config).await?.run().await })?;
    Ok(ExitCode::SUCCESS)
}
