//! Asks the peers of one Alertmanager.

mod health;
pub mod parse;
mod request;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::json;
use url::Url;

use self::{
    health::Record,
    request::{Answer, Call, Request},
};
use super::api::{ApiAlert, ApiSilence, NewSilence, PeerStatus, SilenceState};
use crate::{
    api_client::host,
    clock::Clock,
    config::{Alertmanager, Config},
    health::Health,
    metrics::Metrics,
    model::{RouteName, Timestamp},
};

/// Why a request failed. No text of it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    pub kind: ApiFault,
    /// In words for the operator, bounded, with the peer's host and the server's own text where there is one.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// Nothing was sent: no connection could be made.
    NotSent,
    /// It may have been carried out: no answer, an unreadable one, or a 5xx.
    InDoubt,
    /// 400, 409, 422 and other refusals of what was asked.
    Refused,
    /// 401, 403.
    Unauthorized,
    /// 404: no such silence; for a read, no API at this URL.
    NotFound,
}

impl ApiFault {
    /// As the metric names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::InDoubt => "in_doubt",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
        }
    }
}

/// The client of one route's Alertmanager.
#[derive(Clone)]
pub struct Client {
    config: Arc<Alertmanager>,
    /// Why there is none: a file of the config cannot be used.
    http: Result<reqwest::Client, String>,
    route: RouteName,
    metrics: Arc<Metrics>,
    record: Option<Record>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Client {
    #[must_use]
    pub fn new(config: Arc<Alertmanager>, route: RouteName, metrics: Arc<Metrics>) -> Self {
        let http = request::build(&config);
        Self { config, http, route, metrics, record: None }
    }

    /// The clients of all routes that have an Alertmanager; those that share one share its connections too. Health and metrics
    /// forget what other routes had.
    #[must_use]
    pub fn of_routes(
        config: &Config,
        metrics: &Arc<Metrics>,
        health: &Arc<Health>,
        clock: &Clock,
    ) -> BTreeMap<RouteName, Self> {
        let mut clients: BTreeMap<RouteName, Self> = BTreeMap::new();
        let routes = config.routes.iter().filter_map(|(name, route)| Some((name, route.alertmanager.as_ref()?)));
        for (name, alertmanager) in routes {
            let same = clients.values().find(|client| Arc::ptr_eq(&client.config, alertmanager));
            let client = match same {
                Some(client) => Self { route: name.clone(), record: None, ..client.clone() },
                None => Self::new(alertmanager.clone(), name.clone(), metrics.clone()),
            };
            clients.insert(name.clone(), client.with_health(health.clone(), clock.clone()));
        }
        let names: Vec<RouteName> = clients.keys().cloned().collect();
        health.update(|state| state.alertmanagers.retain(|route, _| names.contains(route)));
        metrics.alertmanager.serve(&names);
        clients
    }

    /// Notes in `health` which peers answer.
    #[must_use]
    pub fn with_health(mut self, health: Arc<Health>, clock: Clock) -> Self {
        let hosts = self.config.urls.iter().map(host).collect();
        self.record = Some(Record::new(health, clock, self.route.clone(), hosts));
        self
    }

    /// The route that it asks for.
    #[must_use]
    pub fn route(&self) -> &RouteName {
        &self.route
    }

    /// How many peers are configured.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.config.urls.len()
    }

    /// The host of a peer, as errors name it.
    #[must_use]
    pub fn host(&self, peer: usize) -> String {
        self.config.urls.get(peer).map(host).unwrap_or_default()
    }

    /// The alerts that a peer routes to this receiver, from `/alerts/groups`. `peer`: only that one; else the first that
    /// answers. Returns which one did.
    ///
    /// # Errors
    /// When none answers.
    pub async fn alerts_of_receiver(
        &self,
        receiver: &str,
        peer: Option<usize>,
    ) -> Result<(usize, Vec<ApiAlert>), ApiError> {
        // Anchored by Alertmanager.
        let query = vec![("receiver", quoted_regex(receiver))];
        let request = Request { call: Call::Groups, path: path(&["alerts", "groups"]), query, body: None };
        let receiver = receiver.to_owned();
        self.read(&request, peer, move |body: &[u8]| parse::groups(body, &receiver)).await
    }

    /// The alerts of all receivers that match these labels by equality, from `/alerts`.
    ///
    /// # Errors
    /// When no peer answers.
    pub async fn alerts_with(&self, labels: &[(String, String)]) -> Result<Vec<ApiAlert>, ApiError> {
        let query = labels.iter().map(|(name, value)| ("filter", filter(name, value))).collect();
        let request = Request { call: Call::Alerts, path: path(&["alerts"]), query, body: None };
        let (_, mut alerts) = self.read(&request, None, parse::alerts).await?;
        // Whatever becomes of the filter on the way.
        alerts.retain(|alert| {
            labels.iter().all(|(name, value)| alert.labels.get(name).map_or("", String::as_str) == value)
        });
        Ok(alerts)
    }

    /// All silences, the expired ones included only if `expired`. `peer` as above.
    ///
    /// # Errors
    /// When no peer answers.
    pub async fn silences(&self, expired: bool, peer: Option<usize>) -> Result<Vec<ApiSilence>, ApiError> {
        // Since 0.34; ignored before.
        let query = if expired { Vec::new() } else { vec![("expired", "false".to_owned())] };
        let request = Request { call: Call::Silences, path: path(&["silences"]), query, body: None };
        let (_, mut silences) = self.read(&request, peer, parse::silences).await?;
        silences.retain(|silence| expired || silence.state != SilenceState::Expired);
        Ok(silences)
    }

    /// # Errors
    /// When this peer does not answer.
    pub async fn status(&self, peer: usize) -> Result<PeerStatus, ApiError> {
        let request = Request { call: Call::Status, path: path(&["status"]), query: Vec::new(), body: None };
        Ok(self.read(&request, Some(peer), parse::status).await?.1)
    }

    /// Asks the peers that were not asked for so long for their status, so that health says how they are now.
    pub async fn ask_idle_peers(&self, than: Duration) {
        let Some(record) = &self.record else { return };
        for peer in record.idle(than) {
            // What came of it is noted.
            let _ = self.status(peer).await;
        }
    }

    /// Makes or extends a silence and returns its id, which may be another one than that of the silence that is extended. The
    /// next peer is tried only if nothing was sent to the one before.
    ///
    /// # Errors
    /// [`ApiFault::InDoubt`]: it may have been made.
    pub async fn post_silence(&self, silence: &NewSilence) -> Result<String, ApiError> {
        let mut body = json!({
            "matchers": silence.matchers,
            "startsAt": rfc3339(silence.starts_at),
            "endsAt": rfc3339(silence.ends_at),
            "createdBy": silence.created_by,
            "comment": silence.comment,
        });
        if let Some(id) = &silence.id {
            body["id"] = id.as_str().into();
        }
        let request =
            Request { call: Call::PostSilence, path: path(&["silences"]), query: Vec::new(), body: Some(body) };
        let mut unsent = nobody();
        for (peer, url) in self.config.urls.iter().enumerate() {
            let answer = self.ask(&request, peer, url, |body| {
                parse::silence_id(body).ok_or_else(|| "the answer has no id of a silence".to_owned())
            });
            match answer.await {
                Err(error) if error.kind == ApiFault::NotSent => unsent = error,
                decided => return decided,
            }
        }
        Err(unsent)
    }

    /// Expires a silence. One that is over or unknown already is no error. It can be repeated, so that every peer is asked
    /// until one knows the silence.
    ///
    /// # Errors
    /// When no peer answers.
    pub async fn expire_silence(&self, id: &str) -> Result<(), ApiError> {
        let request =
            Request { call: Call::DeleteSilence, path: path(&["silence", id]), query: Vec::new(), body: None };
        let mut failed = nobody();
        let mut unknown = false;
        for (peer, url) in self.config.urls.iter().enumerate() {
            match self.ask(&request, peer, url, |_| Ok(())).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == ApiFault::NotFound => unknown = true,
                Err(error) if request::may_ask_next(&error) => {
                    // Once it may have been carried out, that remains so.
                    if failed.kind == ApiFault::NotSent {
                        failed = error;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if unknown { Ok(()) } else { Err(failed) }
    }

    /// Asks one peer, or one after the other until one answers. Returns which one did.
    async fn read<T: Send + 'static>(
        &self,
        request: &Request,
        peer: Option<usize>,
        parse: impl Fn(&[u8]) -> Result<T, String> + Clone + Send + 'static,
    ) -> Result<(usize, T), ApiError> {
        let mut failed = nobody();
        for (at, url) in self.config.urls.iter().enumerate().filter(|(at, _)| peer.is_none_or(|peer| peer == *at)) {
            match self.ask(request, at, url, parse.clone()).await {
                Ok(found) => return Ok((at, found)),
                Err(error) if request::may_ask_next(&error) => failed = error,
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }

    /// Asks one peer, and notes how that went.
    async fn ask<T: Send + 'static>(
        &self,
        request: &Request,
        peer: usize,
        url: &Url,
        parse: impl FnOnce(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Result<T, ApiError> {
        let result = match &self.http {
            Ok(http) => request::send(http, &self.config, url, request).await,
            Err(why) => Err(ApiError { kind: ApiFault::NotSent, detail: why.clone() }),
        };
        let result = match result {
            Ok(answer) => {
                let parsed = parsed(answer, parse).await;
                parsed.map_err(|what| request::error(url, ApiFault::InDoubt, &what))
            }
            Err(error) => Err(error),
        };
        let error = result.as_ref().err();
        let outcome = error.map_or("ok", |error| error.kind.as_str());
        let labels = [self.route.as_str(), request.call.as_str(), outcome];
        self.metrics.alertmanager.requests.with_label_values(&labels).inc();
        if let Some(record) = &self.record {
            record.note(request.call, peer, error, &self.metrics);
        }
        if let Some(error) = error {
            tracing::debug!(route = %self.route, call = request.call.as_str(), outcome, error = %error, "Alertmanager request failed");
        }
        result
    }
}

/// Longer answers are parsed beside the tasks that answer webhooks, not among them.
const LONG: usize = 64 * 1024;

async fn parsed<T: Send + 'static>(
    answer: Answer,
    parse: impl FnOnce(&[u8]) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    if answer.body.len() <= LONG {
        return parse(&answer.body);
    }
    let parsing = tokio::task::spawn_blocking(move || parse(&answer.body));
    parsing.await.unwrap_or_else(|_| Err("parsing the answer failed".to_owned()))
}

fn path(parts: &[&str]) -> Vec<String> {
    parts.iter().map(ToString::to_string).collect()
}

fn nobody() -> ApiError {
    ApiError { kind: ApiFault::NotSent, detail: "no such peer of Alertmanager is configured".to_owned() }
}

/// A regular expression (RE2) that matches `text` alone.
fn quoted_regex(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// A matcher as Alertmanager parses it in a URL. Since 0.27 a name may hold anything if it stands in quotes, which versions
/// before do not take.
fn filter(name: &str, value: &str) -> String {
    let plain =
        |(at, c): (usize, char)| c == '_' || c == ':' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
    let name = if name.chars().enumerate().all(plain) { name.to_owned() } else { in_quotes(name) };
    format!("{name}={}", in_quotes(value))
}

fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}
