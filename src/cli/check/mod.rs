//! `check`: checks the config and the store and, with `--online`, the database of replicas, the homeserver, the account, the
//! rooms, Alertmanager, and the sources of evidence.

mod account;
mod alertmanager;
mod database;
mod evidence;
mod homeserver;
mod online;
mod readers;
mod report;
mod room;
mod shared_session;
mod store;
mod templates;

use std::{path::Path, process::ExitCode};

use clap::Args;

use self::report::Report;
use super::support::http_client;
use crate::{
    clock::Clock,
    config::{Auth, Config, Credential, Purpose, Secret},
    health::Age,
    http::Pair,
    model::Timestamp,
    render::Style,
};

/// Checks the config, and with --online also the homeserver, the account and every room.
///
/// Prints what it understood on standard output, and what is wrong and what to do about it on standard error, a line each.
/// Exits with 1 if anything is wrong. It changes nothing and may run beside the receiver; run it as the same user, so that
/// it has the same permissions.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver check \\
    --config /etc/matrix-alertmanager-receiver.toml
  matrix-alertmanager-receiver check --online")]
pub struct Check {
    /// Also ask the homeserver: does it answer and accept the access token, is the account in each room, and may it send
    /// messages and mention @room there; who can read an encrypted room, and will clients trust what they read. And ask each
    /// Alertmanager: does every peer answer, does it post here, and could a silence be made.
    /// And ask where log lines and graphs come from whether they can be had. And ask the database of store.database_url: does
    /// it let this role in, can it be written, and does a commit outlive a crash and a fail-over.
    #[arg(long)]
    online: bool,
}

impl Check {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let mut report = Report::default();
        match Config::load(config, &crate::config::environment(), Purpose::Serve) {
            Err(faults) => faults.lines().iter().for_each(|line| report.fault(line)),
            Ok(loaded) => {
                understood(&loaded, config, &mut report);
                account::check(&loaded, self.online, &mut report);
                loaded.odd_passwords().iter().for_each(|odd| report.note(odd));
                alertmanager::understood(&loaded, &mut report);
                evidence::understood(&loaded, &mut report);
                certificate(&loaded, &mut report);
                links(&loaded, &mut report);
                templates::check(&loaded, &mut report);
                store::check(&loaded.store.path, &mut report);
                database::understood(&loaded, &mut report);
                if self.online {
                    http_client::block_on(async {
                        database::check(&loaded, &mut report).await;
                        online::check(&loaded, &mut report).await;
                        alertmanager::check(&loaded, &mut report).await;
                        evidence::check(&loaded, &mut report).await;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(report.end(self.online))
    }
}

/// Checks the certificate for webhooks.
fn certificate(config: &Config, report: &mut Report) {
    let Some(tls) = &config.http.tls else { return };
    let pair = match Pair::load(tls) {
        Ok(pair) => pair,
        Err(fault) => return report.fault(fault),
    };
    let file = tls.cert_file.display();
    let moment = |at: Timestamp| jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    let (from, until) = (moment(pair.not_before), moment(pair.not_after));
    match pair.certificate().age(Clock::system().wall()) {
        Age::Good => report.ok(format!("http: TLS with the certificate in {file}, until {until}")),
        Age::EndsSoon => report.note(format!("http.tls.cert_file: {file}: expires soon, at {until}")),
        Age::Ended => report.fault(format!(
            "http.tls.cert_file: {file}: expired at {until}: it is served, but clients reject it -> renew it"
        )),
        Age::NotYet => report.fault(format!(
            "http.tls.cert_file: {file}: is valid only from {from} on: clients reject it until then -> check the clock"
        )),
    }
}

/// Checks link templates, which the config holds as text.
fn links(config: &Config, report: &mut Report) {
    let count: usize = config.routes.values().map(|route| route.links.len()).sum();
    match Style::new(&config.display, &config.links).map(|style| style.with_routes(&config.routes)) {
        Ok(Ok(_)) if count == 0 => {}
        Ok(Ok(_)) => report.ok(format!("links: {count} custom links, each tried on sample alerts")),
        Ok(Err(faults)) => faults.0.iter().for_each(|fault| report.fault(fault)),
        Err(error) => report.fault(error),
    }
}

/// Prints the main settings, so that an operator notices a valid one that is not the intended one.
fn understood(config: &Config, file: Option<&Path>, report: &mut Report) {
    let from = file.map_or_else(|| "the environment alone".to_owned(), |path| path.display().to_string());
    report.ok(format!("config: read from {from}"));
    report.ok(format!("http: listens on {}, {}", config.http.listen, webhooks(&config.http.auth)));
    let matrix = &config.matrix;
    let (user, homeserver) = (&matrix.user_id, &matrix.homeserver);
    report.ok(format!("matrix: {user} on {homeserver}, {}", credential(matrix.credential.as_ref())));
    let names = config.rooms();
    for route in config.routes.values() {
        let room = |address| {
            let name = names.iter().find(|(known, _)| known == address).map(|(_, name)| name.as_str());
            format!("{address} ({})", name.unwrap_or_default())
        };
        let rooms: Vec<_> = route.rooms.iter().map(room).collect();
        let receivers = match route.receivers.as_slice() {
            [] => String::new(),
            some => format!("; from /alerts for the receivers {}", some.join(", ")),
        };
        report.ok(format!("route {}: POST /alerts/{} to {}{receivers}", route.name, route.name, rooms.join(", ")));
    }
    let compat = &config.compat;
    let shapes = [
        compat.room_paths.then(|| "by a room's id".to_owned()),
        (!compat.names.is_empty()).then(|| format!("by {} other names of routes", compat.names.len())),
        compat.query_secret.then(|| "with the secret in the URL, where proxies log it".to_owned()),
    ];
    let shapes: Vec<String> = shapes.into_iter().flatten().collect();
    if !shapes.is_empty() {
        report.note(format!("compat: webhooks are also accepted {}", shapes.join(", ")));
    }
    if !config.routes.keys().any(|name| name.as_str() == "default") {
        report.note("no route default: POST /alerts answers 404 to receivers that no route names");
    }
}

fn webhooks(auth: &Auth) -> String {
    match auth {
        Auth::None => "webhooks need no credentials".to_owned(),
        Auth::Bearer(token) => format!("webhooks need the bearer token {}", source(token)),
        Auth::Basic { username, password } => {
            format!("webhooks need the user {username:?} with the password {}", source(password))
        }
    }
}

fn credential(credential: Option<&Credential>) -> String {
    match credential {
        None => "without a token or password in the config, so by the session of login".to_owned(),
        Some(Credential::AccessToken(token)) => format!("with the access token {}", source(token)),
        Some(Credential::Password(password)) => format!("with the password {}", source(password)),
    }
}

/// Where a secret comes from, never the secret.
fn source(secret: &Secret) -> String {
    secret.file().map_or_else(|| "of the config".to_owned(), |path| format!("in {}", path.display()))
}
