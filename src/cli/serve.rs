//! `serve`: the receiver itself.

use std::{path::Path, process::ExitCode};

use super::Config;
use crate::{
    app::Receiver,
    config::{LogFormat, Purpose},
    telemetry,
};

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Config::load(config, &crate::config::environment(), Purpose::Serve)?;
    telemetry::init(config.log.format == LogFormat::Json, &config.log.filter)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { Receiver::prepare(config).await?.run().await })?;
    Ok(ExitCode::SUCCESS)
}
