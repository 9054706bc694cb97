//! `graph EXPR`: draws an expression as a card's thread would show it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use url::Url;

use super::support::{
    http_client,
    output::{clean, print},
    output_file,
};
use crate::{
    clock::Clock,
    config::{ApiAuth, Config, EvidenceSource, Purpose, parse_duration},
    evidence::graph::{GraphWanted, draw_range},
};

/// More would not be a graph, or none that 250 points can show.
const RANGES: (Duration, Duration) = (Duration::from_mins(5), Duration::from_hours(31 * 24));

/// Draws a PromQL expression into a PNG file, as the thread of a card would show it.
///
/// Of a comparison with a number the left side is drawn, and the number as a line. Asks the Prometheus of the config, or
/// that of --url without credentials. Prints the picture's alt text.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver graph 'up == 0' --config receiver.toml
  matrix-alertmanager-receiver graph --url http://prometheus:9090 \\
    --range 6h --output load.png 'node_load1 > 8'")]
pub struct Graph {
    /// PromQL, such as the expr of an alerting rule.
    expr: String,
    /// The file for the picture. It must not exist yet.
    #[arg(long, value_name = "FILE", default_value = "graph.png")]
    output: PathBuf,
    /// Replace an existing file at --output.
    #[arg(long)]
    force: bool,
    #[arg(long, value_parser = http_client::prometheus_url, help = "\
        The address of a Prometheus, Thanos, Mimir or VictoriaMetrics in place of evidence.prometheus, such as \
        http://prometheus:9090")]
    url: Option<Url>,
    /// The time until now that is drawn: 5m to 31d.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = range)]
    range: Duration,
}

fn range(text: &str) -> Result<Duration, String> {
    let range = parse_duration(text).filter(|range| (RANGES.0..=RANGES.1).contains(range));
    range.ok_or_else(|| "expected a duration from 5m to 31d, such as 1h".to_owned())
}

impl Graph {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        // Credentials are for the source of the config alone.
        let purpose = if self.url.is_some() { Purpose::Render } else { Purpose::Query };
        let config = Config::load(config, &crate::config::environment(), purpose)?;
        let source = self.source(&config)?;
        let wanted = GraphWanted {
            expr: self.expr,
            firing: Vec::new(),
            began: None,
            now: Clock::system().wall(),
            timezone: config.display.timezone,
        };
        let picture = http_client::block_on(async {
            draw_range(&source, &wanted, self.range).await.map_err(|error| {
                // Without the path, and without what a query may hold.
                let at = source.url.origin().ascii_serialization();
                anyhow!("{at}: {}", clean(&error.to_string()))
            })
        })?;
        output_file::create(&self.output, &picture.png, false, self.force)
            .with_context(|| self.output.display().to_string())?;
        print(&clean(&picture.alt))?;
        Ok(ExitCode::SUCCESS)
    }

    fn source(&self, config: &Config) -> anyhow::Result<EvidenceSource> {
        if let Some(url) = &self.url {
            return Ok(EvidenceSource { url: url.clone(), auth: ApiAuth::None, headers: Vec::new(), ca_file: None });
        }
        let configured = config.evidence.as_ref().and_then(|evidence| evidence.prometheus.clone());
        configured.context("evidence.prometheus: not set; set it, or name a Prometheus with --url")
    }
}
