//! `logs-url`: builds a `logs_url` annotation, so that nobody has to percent-encode JSON by hand.

use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::Args;

use super::support::output::print;
use crate::render::links::{
    explore::{LogsUrl as Parsed, log_query, loki_url},
    placeholders::Placeholders,
};

/// Prints a logs_url annotation: a Grafana Explore link to a Loki query, ready for an alerting rule.
///
/// Placeholders such as {{ $labels.namespace }} stay, for Prometheus to fill in. Each gets functions that escape and encode
/// its value, unless it has a urlquery already, so that quotes, blanks, & or % in a value cannot break the link. The
/// receiver adds the time range.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver logs-url --yaml \\
    --grafana https://grafana.example.org --datasource loki \\
    --selector 'namespace=\"{{ $labels.namespace }}\", pod=\"{{ $labels.pod }}\"' \\
    --line-filter '|~ \"error|panic\"'")]
pub struct LogsUrl {
    /// The URL of Grafana for readers of the room.
    #[arg(long, value_name = "URL")]
    grafana: String,
    /// The uid of the Loki datasource.
    #[arg(long, value_name = "UID")]
    datasource: String,
    /// A stream selector in LogQL, with or without braces. Placeholders stand in double quotes.
    #[arg(long, value_name = "LOGQL")]
    selector: String,
    /// A line filter in LogQL such as '|= "error"', or a text that lines must contain.
    #[arg(long, value_name = "LOGQL")]
    line_filter: Option<String>,
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help = "The organisation in Grafana")]
    org_id: u64,
    /// Leave all placeholders as they are; for values of letters, digits, - and _ alone.
    #[arg(long = "keep-holes", alias = "keep-placeholders")]
    keep_placeholders: bool,
    /// Print a line of YAML, quoted.
    #[arg(long)]
    yaml: bool,
}

impl LogsUrl {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let url = self.url()?;
        if self.yaml {
            print(&format!("logs_url: '{}'", url.replace('\'', "''")))?;
        } else {
            print(&url)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn url(&self) -> anyhow::Result<String> {
        ensure!(
            !self.grafana.contains(['?', '#']),
            "--grafana: the URL of Grafana alone, such as https://grafana.example.org"
        );
        ensure!(!self.datasource.trim().is_empty(), "--datasource: empty, expected the uid of a Loki datasource");
        let parts = [self.selector.trim(), self.line_filter.as_deref().unwrap_or_default().trim()];
        ensure!(
            parts.iter().all(|part| !part.contains(char::is_control)),
            "--selector and --line-filter must not contain line breaks"
        );
        // Both at once, so that no two placeholders get the same word.
        let placeholders = Placeholders::take(&parts.join("\n"));
        let (selector, filter) = placeholders.text.split_once('\n').unwrap_or((&placeholders.text, ""));
        let matchers = selector.trim_matches(['{', '}', ' ']);
        ensure!(
            !matchers.is_empty(),
            "--selector: names no label, expected at least one, such as 'namespace=\"media\"'"
        );
        let query = log_query(&format!("{{{matchers}}}"), filter);
        let placeholders = if self.keep_placeholders { placeholders } else { encoding(placeholders, &query)? };
        let url = loki_url(self.grafana.trim(), self.org_id, self.datasource.trim(), &query);
        match Parsed::parse(&url).problems() {
            [] => Ok(placeholders.put_back(&url)),
            [problem, ..] => bail!("--grafana: the link {problem}"),
        }
    }
}

/// Adds escaping, which works only within double quotes.
fn encoding(placeholders: Placeholders, query: &str) -> anyhow::Result<Placeholders> {
    for (word, placeholder) in placeholders.words() {
        let before = query.find(word).map_or("", |at| &query[..at]);
        let (mut quoted, mut escaped) = (None, false);
        for c in before.chars() {
            match (quoted, c) {
                _ if escaped => escaped = false,
                (Some('"'), '\\') => escaped = true,
                (None, '"' | '`') => quoted = Some(c),
                (Some(open), c) if open == c => quoted = None,
                _ => {}
            }
        }
        ensure!(quoted == Some('"'), "{placeholder} is not in double quotes, so its value could be read as LogQL");
    }
    Ok(placeholders.encoding())
}
