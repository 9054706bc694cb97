//! `render FILE`: the message that a payload gives, by the same way as in the running receiver, without any server.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::Config;
use crate::{
    clock::Clock,
    config::Purpose,
    intake::{self, Rules},
    model::{Incident, IncidentId, IncidentKey, IncidentState, NotificationId, TxnId},
    render::{self, Envelope, Message, Style},
};

/// Shows the message that a webhook payload gives, without any server.
///
/// Needs no config; with one, its links, times and severities are used.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver render payload.json
  matrix-alertmanager-receiver render --format html - < payload.json")]
pub struct Render {
    /// A webhook body of Alertmanager or Grafana; "-" reads standard input.
    file: PathBuf,
    /// What to show: the message as text, its HTML, or the content of the event as JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The route whose settings apply; by default the one that the payload would take.
    #[arg(long)]
    route: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Html,
    Text,
    Json,
}

impl Render {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config, &crate::config::environment(), Purpose::Render)?;
        let body = self.read()?;
        let webhook = intake::decode(&body).with_context(|| self.file.display().to_string())?;
        let route = intake::choose_route(&config.routes, self.route.as_deref(), &webhook.receiver)?;
        let now = Clock::System.now();
        let changes = intake::reconcile(None, &webhook, &Rules::of(route, &config.display), now);
        let key = IncidentKey {
            route: route.name.clone(),
            receiver: webhook.receiver.clone(),
            group_key: webhook.group_key.clone(),
        };
        let (id, notification) = (IncidentId("preview".to_owned()), NotificationId("preview".to_owned()));
        let Some(incident) = intake::apply(None, &key, &id, &changes, &notification, now) else {
            eprintln!("the payload lists no alert: no message would be sent");
            return Ok(ExitCode::SUCCESS);
        };
        let style = Style::new(&config.display, &config.links)?;
        let message = render::card(&style, &incident, None, now, 0);
        println!("{}", self.show(&message, &incident)?);
        Ok(ExitCode::SUCCESS)
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        if self.file.as_os_str() == "-" {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).context("standard input")?;
            return Ok(body);
        }
        std::fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))
    }

    fn show(&self, message: &Message, incident: &Incident) -> anyhow::Result<String> {
        Ok(match self.format {
            Format::Text => message.body.clone(),
            Format::Html => message.html.clone(),
            Format::Json => {
                let op = TxnId("preview".to_owned());
                let notice = incident.state != IncidentState::Firing;
                let envelope = Envelope { op: &op, incident: &incident.id, notice, mentions: None };
                let content: serde_json::Value = serde_json::from_str(&render::card_content(message, &envelope))?;
                serde_json::to_string_pretty(&content)?
            }
        })
    }
}
