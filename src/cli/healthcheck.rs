//! `healthcheck`: whether the receiver's process is alive, for containers whose health check is a command.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Args;
use url::Url;

use super::support::{
    http_client::{self, Trust},
    output,
};
use crate::config::{Config, ConfigFaults, Purpose};

/// Container engines wait 30 s for a check by default, some setups much less.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a running receiver whether it is alive (GET /livez); for the health checks of containers.
///
/// The address comes from http.listen of the config; no credentials and no secret files are needed. Prints nothing and
/// exits with 0 if the receiver is alive; prints why in one line and exits with 1 if not. With http.tls it uses https, and
/// accepts any certificate of a receiver on the same machine.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver healthcheck && echo alive

In a Dockerfile:
  HEALTHCHECK CMD [\"matrix-alertmanager-receiver\", \"healthcheck\"]")]
pub struct Healthcheck {
    #[arg(long, value_parser = http_client::receiver_url, help = "\
        The address of the receiver if it differs from http.listen, such as http://127.0.0.1:9088")]
    url: Option<Url>,
}

impl Healthcheck {
    pub fn run(self, config: Option<&Path>) -> ExitCode {
        match self.verdict(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("unhealthy: {why:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn verdict(self, config: Option<&Path>) -> anyhow::Result<()> {
        let (base, ours) = if let Some(url) = self.url {
            let ours = http_client::is_loopback(&url);
            (url, ours)
        } else {
            let config = Config::load(config, &crate::config::environment(), Purpose::Render);
            let base = http_client::local_url(&config.map_err(|faults| in_one_line(&faults))?.http)?;
            (base, true)
        };
        // An expired certificate is not a reason to have the process killed: the next one might not even start.
        let trust = if ours { Trust::Anybody } else { Trust::System };
        let url = http_client::below(&base, &["livez"]);
        http_client::block_on(async {
            let answer = http_client::ask(http_client::client(&base, TIMEOUT, trust, ours)?.get(url.clone())).await;
            let answer = answer.map_err(|why| anyhow::anyhow!("{url}: {why}"))?;
            anyhow::ensure!(answer.status == 200, "{url}: {} {}", answer.status, output::excerpt(&answer.body));
            Ok(())
        })
    }
}

/// Container engines show a single line, and not always the first.
fn in_one_line(faults: &ConfigFaults) -> anyhow::Error {
    let lines = faults.lines();
    let more = if lines.len() > 1 { " (there is more: run check)" } else { "" };
    anyhow::anyhow!("the config cannot be read: {}{more}", lines.first().map(String::as_str).unwrap_or_default())
}
