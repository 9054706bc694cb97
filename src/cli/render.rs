//! `render FILE`: the message that a payload gives, by the same way as in the running receiver, without any server.

use std::{
    env,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Config, terminal};
use crate::{
    clock::Clock,
    config::{Purpose, Route},
    delivery::mentions_for,
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
    /// What to show: the message as text, its HTML, or the content of the event as JSON. Without it: as text, on a
    /// terminal with colours and links.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The route whose settings apply; by default the one that the payload would take.
    #[arg(long)]
    route: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Html,
    Text,
    Json,
    /// What a terminal gets anyway, for pagers that understand it.
    #[value(hide = true)]
    Terminal,
}

impl Format {
    /// Plain text for pipes and files, and for those who asked for it (<https://no-color.org>).
    fn for_stdout() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !plain { Self::Terminal } else { Self::Text }
    }
}

impl Render {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config, &crate::config::environment(), Purpose::Render)?;
        let body = self.read()?;
        let webhook = intake::decode(&body).with_context(|| self.name())?;
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
        let style = Style::new(&config.display, &config.links)?.with_routes(&config.routes)?;
        let message = render::card(&style, &incident, None, now, 0);
        print(&self.show(&message, &incident, route)?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What messages call the payload.
    fn name(&self) -> String {
        if self.is_stdin() { "standard input".to_owned() } else { self.file.display().to_string() }
    }

    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        let read =
            if self.is_stdin() { io::stdin().read_to_end(&mut body).map(|_| body) } else { std::fs::read(&self.file) };
        read.with_context(|| format!("cannot read {}", self.name()))
    }

    fn show(&self, message: &Message, incident: &Incident, route: &Route) -> anyhow::Result<String> {
        Ok(match self.format.unwrap_or_else(Format::for_stdout) {
            Format::Text => message.body.clone(),
            Format::Html => message.html.clone(),
            Format::Terminal => terminal::from_html(&message.html),
            Format::Json => {
                let op = TxnId("preview".to_owned());
                let notice = incident.state != IncidentState::Firing;
                let mentions = mentions_for(Some(route), incident.severity).filter(|_| !notice);
                let envelope = Envelope { op: &op, incident: &incident.id, notice, mentions };
                let content: serde_json::Value = serde_json::from_str(&render::card_content(message, &envelope))?;
                serde_json::to_string_pretty(&content)?
            }
        })
    }
}

/// Writes a line to standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // Whoever reads has read enough: `render FILE | head -1`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
