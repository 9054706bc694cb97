//! `render FILE`: renders a payload as the running receiver would, without any server.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::support::{input::Input, output::print, terminal};
use crate::{
    clock::Clock,
    config::{Config, Purpose, Route, TemplateFile, TemplateName},
    delivery::mentions_for,
    intake::{self, Rules},
    model::{
        CardId, CardKind, Form, Incident, IncidentId, IncidentKey, IncidentState, Note, NoteArgs, NoteKind,
        NotificationId, Timestamp, TxnId,
    },
    render::{
        self, Envelope, Message, MessageKind, Rendered, Request, Style,
        templates::{Fallback, Templates},
    },
};

/// Shows the message for a webhook payload, without any server.
///
/// Needs no config; with one, its links, times and severities are used.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver render payload.json
  matrix-alertmanager-receiver render --format html - < payload.json
  matrix-alertmanager-receiver render \\
    --template card_html=card.html.j2 payload.json")]
pub struct Render {
    /// A webhook body of Alertmanager or Grafana; "-" reads standard input.
    file: String,
    /// What to show: the message as text, its HTML, or the content of the event as JSON. Without it: as text, on a
    /// terminal with colours and links.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The route whose settings apply; by default the one that the payload would take.
    #[arg(long)]
    route: Option<String>,
    /// A template file in place of the built-in or configured one, as NAME=FILE: card_html, card_text, digest_html,
    /// digest_text, reply_html or reply_text. A digest then holds the one incident; a reply shows it as new or resolved.
    /// Exits with 1 and prints line and column if the template fails on this payload or on a sample.
    #[arg(long = "template", value_name = "NAME=FILE", value_parser = named_file)]
    templates: Vec<(TemplateName, PathBuf)>,
}

fn named_file(argument: &str) -> Result<(TemplateName, PathBuf), String> {
    let named = argument.split_once('=').filter(|(_, file)| !file.is_empty());
    let found = named.and_then(|(name, file)| {
        let name = TemplateName::ALL.into_iter().find(|known| known.as_str() == name)?;
        Some((name, PathBuf::from(file)))
    });
    let known = || TemplateName::ALL.map(TemplateName::as_str).join(", ");
    found.ok_or_else(|| format!("expected NAME=FILE, where NAME is one of {}", known()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Html,
    Text,
    Json,
    /// The default on a terminal; for pagers that understand it.
    #[value(hide = true)]
    Terminal,
}

impl Format {
    /// Plain text for pipes and files, and where it is asked for (<https://no-color.org>).
    fn for_stdout() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !plain { Self::Terminal } else { Self::Text }
    }
}

impl Render {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let mut config = Config::load(config, &crate::config::environment(), Purpose::Render)?;
        self.put_templates(&mut config);
        let input = Input::named(&self.file);
        let body = input.bytes().with_context(|| input.name())?;
        let webhook = intake::decode(&body).with_context(|| input.name())?;
        let route = intake::choose_route(&config.routes, self.route.as_deref(), &webhook.receiver)?;
        let now = Clock::system().wall();
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
        let templates = Templates::load(&config, &style)?;
        let shown = self.rendered(&style.with_templates(templates), &incident, now);
        if let Some(Fallback { file, fault, .. }) = shown.fallbacks.first() {
            bail!("{}: {}:{fault}", file.key, file.path.display());
        }
        print(&self.show(&shown.message, &incident, route)?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Templates of the command line replace those of the config.
    fn put_templates(&self, config: &mut Config) {
        for (name, path) in &self.templates {
            let file = TemplateFile { key: format!("--template {}", name.as_str()), path: path.clone() };
            config.templates.insert(*name, file.clone());
            for route in config.routes.values_mut() {
                route.templates.insert(*name, file.clone());
            }
        }
    }

    /// Renders the kind of message that the first template is for; a card without one.
    fn rendered(&self, style: &Style, incident: &Incident, now: Timestamp) -> Rendered {
        let note = Note {
            id: 0,
            card: CardId("preview".to_owned()),
            incident: incident.id.clone(),
            kind: if incident.state == IncidentState::Firing { NoteKind::NewFiring } else { NoteKind::Resolved },
            at: now,
            notification: incident.notification.clone(),
            args: NoteArgs { fingerprints: Vec::new(), flaps: 0, gap_ms: None, step: None },
        };
        let state = MessageKind::Card { must_hold_all: true };
        let (kind, card) = match self.templates.first().map(|(name, _)| name) {
            None | Some(TemplateName::CardHtml | TemplateName::CardText) => (state, CardKind::Incident),
            Some(TemplateName::DigestHtml | TemplateName::DigestText) => (state, CardKind::Digest),
            Some(TemplateName::ReplyHtml | TemplateName::ReplyText) => (MessageKind::Reply, CardKind::Incident),
        };
        let (incidents, notes) = (&[incident], &[&note]);
        render::render(style, &Request { kind, card, incidents, notes, root_at: None, now, form: Form::Full })
    }

    /// The format; without `--format` it is HTML if all templates are HTML and the output is not a terminal.
    fn format(&self) -> Format {
        let only =
            |html: bool| !self.templates.is_empty() && self.templates.iter().all(|(name, _)| name.is_html() == html);
        match self.format.unwrap_or_else(Format::for_stdout) {
            Format::Text if self.format.is_none() && only(true) => Format::Html,
            Format::Terminal if only(false) => Format::Text,
            format => format,
        }
    }

    fn show(&self, message: &Message, incident: &Incident, route: &Route) -> anyhow::Result<String> {
        Ok(match self.format() {
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
