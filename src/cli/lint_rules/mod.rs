//! `lint-rules FILE…`: checks alerting rules, above all their `logs_url`.

mod check;
mod edit;
mod faults;
mod link;
mod placeholders;
mod promql;
mod report;
mod rules;
mod settings;
mod sources;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use serde_json::Value;
use url::Url;

use self::{
    check::{Checked, check},
    settings::Settings,
    sources::sources,
};
use super::support::{
    http_client,
    input::Input,
    output::{clean, json_text, print},
    output_file,
};
use crate::config::{Config, Display, LINT_CODES, Purpose};

/// Checks Prometheus rule files: logs_url, summary, severity. Prints a line for each fault.
///
/// Reads rule files of Prometheus and PrometheusRule resources, also several documents in a file and lists of them;
/// other documents are skipped. Each alerting rule must have a logs_url that Grafana Explore opens at a query, whose
/// placeholders name no label that is unknown or that the rule's outermost `by (…)` does not keep; a summary or a
/// description; and a known severity.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver lint-rules 'rules/**/*.yaml'
  matrix-alertmanager-receiver lint-rules --fix \\
    --grafana https://grafana.example.org --datasource loki rules.yaml
  matrix-alertmanager-receiver lint-rules --ignore no_logs_url rules.yaml
  helm template . \\
    | matrix-alertmanager-receiver lint-rules --format json - | jq -r '.[].code'

Exit codes: 0 no fault (or all were fixed), 1 a fault, 2 a file that is unreadable or not YAML, or no rule in any file.")]
pub struct LintRules {
    /// Files or patterns (quote them: `**` is any depth of folders); "-" reads standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Write corrected values into the files; only the bytes of those values change. A missing logs_url is added if
    /// --grafana and --datasource are set and the rule's `by (…)` says which labels exist.
    #[arg(long)]
    fix: bool,
    /// The format of the faults.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The uid of the only datasource that a logs_url may name.
    #[arg(long, value_name = "UID")]
    datasource: Option<String>,
    /// The only Grafana that a logs_url may lead to.
    #[arg(long, value_name = "URL", value_parser = http_client::grafana_url)]
    grafana: Option<Url>,
    /// Labels that alerts have, beside the usual ones (namespace, pod, container, job, instance, node, …).
    #[arg(long = "label", value_name = "NAME")]
    labels: Vec<String>,
    /// Values that the severity label may have, beside those of display.severities.
    #[arg(long = "severity", value_name = "NAME")]
    severities: Vec<String>,
    /// Do not report or correct faults of this code, beside those of lint.ignore in a config that is named.
    #[arg(long = "ignore", value_name = "CODE", value_parser = PossibleValuesParser::new(LINT_CODES),
        hide_possible_values = true)]
    ignored: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    /// An array of {file, line, column, group, rule, code, message, mended, fixed}.
    Json,
}

/// The counts of all files together.
#[derive(Debug, Default)]
struct Total {
    files: usize,
    rules: usize,
    remaining: usize,
    fixed: usize,
    /// Faults that ignored codes have left out.
    ignored: BTreeMap<&'static str, usize>,
    /// Files that could not be read or written.
    unread: usize,
    /// Whether any file has a rule, even a recording rule.
    any_rule: bool,
}

impl LintRules {
    fn settings(&self, config: Option<&Path>) -> anyhow::Result<Settings> {
        // The environment configures the receiver; here a config counts only if it is named.
        let (display, ignored) = match config {
            Some(_) => {
                let config = Config::load(config, &crate::config::environment(), Purpose::Render)?;
                (config.display, config.lint.ignore)
            }
            None => (Display::default(), Vec::new()),
        };
        Ok(Settings {
            grafana: self.grafana.clone(),
            datasource: self.datasource.clone(),
            ignored: ignored.into_iter().chain(self.ignored.iter().cloned()).collect(),
            ..Settings::new(display, &self.labels, &self.severities)
        })
    }

    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let prepared = self.settings(config).and_then(|settings| {
            let sources = sources(&self.files)?;
            ensure!(
                !self.fix || !sources.contains(&Input::Stdin),
                "--fix needs files: standard input cannot be edited"
            );
            Ok((settings, sources))
        });
        let (settings, sources) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                eprintln!("error: {}", clean_lines(&error));
                return Ok(ExitCode::from(2));
            }
        };
        let mut total = Total::default();
        let mut all = Vec::new();
        for source in sources {
            let name = source.name();
            match lint(&source, &settings, self.fix) {
                Ok(checked) => {
                    total.add(&checked);
                    if checked.empty {
                        eprintln!("{}: no rules", clean(&name));
                    }
                    for fault in &checked.faults {
                        match self.format {
                            Format::Text => print(&report::line(&name, fault))?,
                            Format::Json => all.push(report::json(&name, fault)),
                        }
                    }
                }
                Err(error) => {
                    total.unread += 1;
                    eprintln!("error: {}", clean(&format!("{name}:{error:#}")));
                }
            }
        }
        if self.format == Format::Json {
            print(&json_text(&Value::Array(all))?)?;
        }
        Ok(total.report())
    }
}

/// The error's lines, each cleaned for a terminal.
fn clean_lines(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().map(clean).collect::<Vec<_>>().join("\n")
}

fn lint(source: &Input, settings: &Settings, fix: bool) -> anyhow::Result<Checked> {
    let read = || source.text().map_err(|error| anyhow::anyhow!(" {error:#}"));
    let text = read()?;
    let checked = check(&text, settings, fix)?;
    if let (Input::File(path), Some(corrected)) = (source, &checked.text) {
        if read()? != text {
            bail!(" changed while it was checked; nothing was written");
        }
        output_file::replace(path, corrected).map_err(|error| anyhow::anyhow!(" {error:#}"))?;
    }
    Ok(checked)
}

impl Total {
    fn add(&mut self, checked: &Checked) {
        let fixed = checked.faults.iter().filter(|fault| fault.fixed).count();
        self.files += 1;
        self.rules += checked.alerting;
        self.fixed += fixed;
        self.remaining += checked.faults.len() - fixed;
        self.any_rule |= !checked.empty;
        for (&code, count) in &checked.ignored {
            *self.ignored.entry(code).or_default() += count;
        }
    }

    fn report(&self) -> ExitCode {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let fixed = if self.fixed > 0 { format!(", {} fixed", self.fixed) } else { String::new() };
        let (rules, files) = (count(self.rules, "alerting rule"), count(self.files, "file"));
        let ignored: Vec<String> = self.ignored.iter().map(|(code, count)| format!("{count} {code}")).collect();
        let ignored =
            if ignored.is_empty() { String::new() } else { format!("; switched off: {}", ignored.join(", ")) };
        eprintln!("{rules} in {files}: {}{fixed}{ignored}", count(self.remaining, "fault"));
        if self.unread > 0 {
            return ExitCode::from(2);
        }
        if !self.any_rule {
            eprintln!("error: no rule in any of the files");
            return ExitCode::from(2);
        }
        if self.remaining > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
