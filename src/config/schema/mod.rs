//! What a [`Config`] holds. Its values are valid: reading rejects everything else.

mod api_auth;
mod display;
mod evidence;
mod lint;
mod matrix;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use url::Url;

use self::api_auth::files_of_service;
pub(in crate::config) use self::matrix::{NO_HOMESERVER, NO_USER};
pub use self::{
    api_auth::ApiAuth,
    display::{Display, Severity},
    evidence::{Evidence, EvidenceSource, Heartbeat, RouteEvidence},
    lint::{LINT_CODES, Lint},
    matrix::{Credential, Matrix, Proxy},
};
use super::{secret::Secret, templates::Templates};
use crate::model::{Alert, AlertState, RoomAddress, RoomName, RouteName};

/// Bound of all user ids of one `mentions.users` together, so that an encrypted edit of the longest card fits into an event.
pub const MAX_MENTIONS_BYTES: usize = 800;

/// Log lines that a route can show with a card, or somebody can ask for.
pub const MAX_LOG_LINES: usize = 50;

#[derive(Clone, Debug)]
pub struct Config {
    pub http: Http,
    pub matrix: Matrix,
    pub store: Store,
    /// Has at least one entry.
    pub routes: BTreeMap<RouteName, Route>,
    pub links: Links,
    /// The files of `[templates]`.
    pub templates: Templates,
    pub display: Display,
    pub log: Log,
    pub compat: Compat,
    pub lint: Lint,
    /// Where evidence comes from; `None`: none is shown.
    pub evidence: Option<Evidence>,
}

/// The API of one Alertmanager, or of one cluster of them.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    /// All peers of the cluster, at least one; http or https, without credentials, a path prefix is kept. No slash at the
    /// end.
    pub urls: Vec<Url>,
    pub auth: ApiAuth,
    /// Names are lower case and valid; none is `authorization`, `host` or about the body.
    pub headers: Vec<(String, Secret)>,
    /// PEM certificates of authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// How often to ask while something is open; `None`: never.
    pub poll: Option<Duration>,
}

impl Alertmanager {
    /// The files of its secrets and certificates.
    pub(in crate::config) fn files(&self) -> impl Iterator<Item = &Path> {
        files_of_service(&self.auth, &self.headers, self.ca_file.as_deref())
    }
}

/// Who may act from a room, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    pub allow: Allow,
    /// The power level from which `!why` and the like are answered.
    pub read: i64,
    /// What a command begins with; never empty.
    pub prefix: String,
    /// How long a silence lasts if nothing else is said.
    pub silence: Duration,
    pub max_silence: Duration,
    /// Whether reactions act.
    pub reactions: bool,
    /// Whether the reaction for a silence acts in encrypted rooms too.
    pub trust_reactions: bool,
    /// Whether the power level alone allows a silence in encrypted rooms.
    pub trust_power: bool,
}

/// Either suffices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// `None`: no power level allows it.
    pub power: Option<i64>,
    /// `@local:server`.
    pub users: Vec<String>,
}

/// Who is called when nobody takes an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// Since the incident opened or reopened.
    pub after: Duration,
    /// Index into `display.severities`.
    pub min_severity: u32,
    pub users: Vec<String>,
    /// Mention the whole room (`@room`).
    pub room: bool,
}

impl Escalation {
    /// Whether an alert is one for which somebody is called. A suppressed one counts as absent, and so does not fire.
    #[must_use]
    pub fn concerns(&self, alert: &Alert, display: &Display) -> bool {
        let severity = alert.doc.labels.get("severity").map(String::as_str);
        alert.state == AlertState::Firing && display.rank(severity) <= self.min_severity
    }
}

#[derive(Clone, Debug)]
pub struct Http {
    pub listen: SocketAddr,
    pub max_body_bytes: usize,
    pub allow_unauthenticated: bool,
    pub auth: Auth,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// `None`: the status page is served where webhooks are.
    pub admin: Option<Admin>,
}

/// PEM files; both are watched and read again while the receiver runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by its intermediate certificates.
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// A second listener, for browsers; every request to it needs user name and password.
#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
    pub username: String,
    pub password: Secret,
}

/// The credentials that webhooks need.
#[derive(Clone, Debug)]
pub enum Auth {
    None,
    Bearer(Secret),
    Basic { username: String, password: Secret },
}

#[derive(Clone, Debug)]
pub struct Store {
    /// A directory, created at start: the session, keys, and the database unless `database_url` names another.
    pub path: PathBuf,
    pub retention: Duration,
    /// Of PostgreSQL, which several replicas share; `None`: SQLite in `path`.
    pub database_url: Option<Secret>,
    /// The name of this replica; never empty, and short.
    pub replica: String,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub name: RouteName,
    /// No room twice; empty only where the config was read for a purpose that needs no room.
    pub rooms: Vec<RoomAddress>,
    /// Payload receivers that also land here on `POST /alerts`.
    pub receivers: Vec<String>,
    pub updates: Updates,
    /// `None`: never.
    pub remind_after: Option<Duration>,
    pub reopen_after: Duration,
    pub stale_after: Duration,
    /// `None`: never.
    pub repost_after: Option<Duration>,
    /// More new incidents than this at once become a digest; 0: never.
    pub digest_above: usize,
    pub mentions: Mentions,
    /// `links.grafana`, overlaid with the keys that the route sets.
    pub grafana: Option<Grafana>,
    /// Links beside the built-in ones.
    pub links: Vec<ExtraLink>,
    /// The files of `[templates]`, overlaid with the route's own.
    pub templates: Templates,
    /// `[alertmanager]`, or the route's own in its place; `None`: nothing is known beyond webhooks. Routes without their own
    /// share one, by pointer.
    pub alertmanager: Option<Arc<Alertmanager>>,
    /// `[actions]`, or the route's own in its place; `None`: nobody acts from its rooms.
    pub actions: Option<Actions>,
    /// In the order of `after`.
    pub escalate: Vec<Escalation>,
    /// `None`: nothing is shown that nobody asked for.
    pub evidence: Option<RouteEvidence>,
    pub heartbeats: Vec<Heartbeat>,
}

/// A custom link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraLink {
    /// The text that is shown; short, on one line.
    pub label: String,
    /// A minijinja template.
    pub url: String,
    /// A minijinja expression; `None`: always.
    pub when: Option<String>,
}

/// How changes of an open incident reach the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// Edit the card and reply in its thread.
    Thread,
    /// Edit the card and reply to it in the room's main timeline.
    Reply,
    /// Edit the card, nothing else.
    Edit,
    /// A new message for every change, no edits.
    Post,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mentions {
    /// Index into `display.severities`: alerts this severe or more mention; `None`: nobody is ever mentioned.
    pub min_severity: Option<u32>,
    /// `@local:server`.
    pub users: Vec<String>,
    /// Mention the whole room (`@room`).
    pub room: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Prefix `from` becomes `to` in every link; the first match wins.
    pub rewrite: Vec<Rewrite>,
    /// Where to find the logs of alerts without a `logs_url`.
    pub grafana: Option<Grafana>,
}

/// The settings that logs links are built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grafana {
    /// An http or https URL, to which `/explore` is added.
    pub url: String,
    /// The uid.
    pub loki_datasource: String,
    pub org_id: u64,
    /// In the order of the selector; empty: no link is built.
    pub labels: Vec<LokiLabel>,
    /// LogQL, or a text that lines must contain.
    pub line_filter: Option<String>,
}

/// A label that alerts and Loki's streams have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LokiLabel {
    pub alert: String,
    /// The label's name in Loki.
    pub loki: String,
    /// Used only if an alert has none of the labels that are not fallbacks.
    pub fallback: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub from: String,
    pub to: String,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    /// `tracing` directives.
    pub filter: String,
}

/// Webhook URLs of other receivers that are accepted as well, so that Alertmanager's config can change later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compat {
    /// `POST /alerts/!abc:example.org`: the route that has the room.
    pub room_paths: bool,
    /// `POST /alerts/Old_Name`; none of the names is that of a route.
    pub names: BTreeMap<String, RouteName>,
    /// `POST /alerts?secret=…`: the bearer token or the password of `http.auth`.
    pub query_secret: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Passwords that look wrongly copied, each with what is odd. They are used as they are, since they may be right.
    #[must_use]
    pub fn odd_passwords(&self) -> Vec<String> {
        let basic = match &self.http.auth {
            Auth::Basic { password, .. } => Some(password),
            Auth::None | Auth::Bearer(_) => None,
        };
        let matrix = match &self.matrix.credential {
            Some(Credential::Password(password)) => Some(password),
            Some(Credential::AccessToken(_)) | None => None,
        };
        let passwords = [
            ("http.auth.password", basic),
            ("http.admin.password", self.http.admin.as_ref().map(|admin| &admin.password)),
            ("matrix.password", matrix),
            ("matrix.recovery_key", self.matrix.recovery_key.as_ref()),
            ("matrix.store_passphrase", self.matrix.store_passphrase.as_ref()),
        ];
        let of_alertmanagers = self.alertmanagers().into_iter().filter_map(|(route, alertmanager)| {
            let ApiAuth::Basic { password, .. } = &alertmanager.auth else { return None };
            Some((format!("alertmanager.password of route {route}"), Some(password)))
        });
        let sources = self.evidence.iter().flat_map(Evidence::sources);
        let of_sources = sources.filter_map(|(key, source)| {
            let ApiAuth::Basic { password, .. } = &source.auth else { return None };
            Some((format!("{key}.password"), Some(password)))
        });
        let passwords = passwords.into_iter().map(|(key, secret)| (key.to_owned(), secret));
        let passwords = passwords.chain(of_alertmanagers).chain(of_sources);
        let odd = passwords.filter_map(|(key, secret)| {
            let (secret, file) = (secret?, |file: &Path| format!(" ({})", file.display()));
            let place = secret.file().map(file).unwrap_or_default();
            Some(format!("{key}{place}: {}, unless it is intended", secret.oddity()?))
        });
        odd.collect()
    }

    /// Every Alertmanager once, with the first route that asks it.
    #[must_use]
    pub fn alertmanagers(&self) -> Vec<(&RouteName, &Arc<Alertmanager>)> {
        let mut found: Vec<(&RouteName, &Arc<Alertmanager>)> = Vec::new();
        for (name, route) in &self.routes {
            if let Some(own) = &route.alertmanager
                && !found.iter().any(|(_, known)| Arc::ptr_eq(known, own))
            {
                found.push((name, own));
            }
        }
        found
    }

    /// Every room once, in the order of the config, with the name it has in metrics and health.
    #[must_use]
    pub fn rooms(&self) -> Vec<(RoomAddress, RoomName)> {
        let mut rooms: Vec<(RoomAddress, RoomName)> = Vec::new();
        for route in self.routes.values() {
            for (index, room) in route.rooms.iter().enumerate() {
                if !rooms.iter().any(|(known, _)| known == room) {
                    rooms.push((room.clone(), RoomName(format!("{}/{}", route.name, index + 1))));
                }
            }
        }
        rooms
    }
}
