//! `serve`: the receiver itself.

use std::{path::Path, process::ExitCode};

use clap::Args;

use super::Config;
use crate::{app::Receiver, config::Purpose, telemetry};

#[derive(Debug, Args)]
pub struct Serve {}

impl Serve {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config, &crate::config::environment(), Purpose::Serve)?;
        telemetry::init(&config.log)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async { Receiver::prepare(config).await?.run().await })?;
        Ok(ExitCode::SUCCESS)
    }
}
