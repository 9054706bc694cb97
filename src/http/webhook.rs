//! `POST /alerts` and `POST /alerts/{route}`: 200 only for what is on disk.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, Method, header},
};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use super::{
    answer::Answer,
    auth::CredentialSource,
    body_budget::BodyPermit,
    state::{App, Settings},
};
use crate::{
    clock::Clock,
    config::Route,
    intake::{
        self, ListedAlert, PathKind, RouteError, Rules, Webhook,
        heartbeats::{self, Beats},
    },
    model::{AlertKey, IncidentKey},
    store::{Ingest, Ingested},
};

/// A whole body must arrive within this; Alertmanager itself waits at least 10 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub async fn post(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    answer(&app, &WebhookRequest { path: None, query, method, headers }, body).await
}

pub async fn post_to(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    answer(&app, &WebhookRequest { path: Some(path.map(|Path(path)| path)), query, method, headers }, body).await
}

/// A request without its body. No `Debug`: the query and the headers may hold secrets, and nothing may print them.
struct WebhookRequest {
    /// The decoded path after `/alerts/`, if it can be decoded.
    path: Option<Result<String, PathRejection>>,
    query: Option<String>,
    method: Method,
    headers: HeaderMap,
}

async fn answer(app: &Arc<App>, request: &WebhookRequest, body: Body) -> Answer {
    match accept(app, request, body).await {
        Ok(answer) => answer,
        Err(answer) => {
            if answer.asks_to_retry() {
                app.refusals.note(app.clock.now());
            }
            answer
        }
    }
}

/// The order of the checks is part of the interface: 405, 401, 404, 413, 400.
async fn accept(app: &Arc<App>, request: &WebhookRequest, body: Body) -> Result<Answer, Answer> {
    let headers = &request.headers;
    if request.method != Method::POST {
        return Err(Answer::method_not_allowed("POST"));
    }
    let settings = app.settings();
    let proof = settings.guard.check(headers, request.query.as_deref()).inspect_err(|_| {
        if app.log_limits.credentials.allows("", app.clock.now()) {
            tracing::warn!("webhook rejected: missing or wrong credentials");
        }
    })?;
    let path = request.path.as_ref().map(Result::as_ref).transpose();
    let path = path.map_err(|_| Answer::not_found("unknown route: its name is not UTF-8"))?;
    let by_path = path.map(|path| intake::route_of_path(&settings.config, path));
    let by_path = by_path.transpose().map_err(|error| unrouted(&error))?;
    if app.health.is_stopping() {
        return Err(Answer::unavailable("the receiver is shutting down"));
    }
    let (body, permit) = read(app, settings.config.http.max_body_bytes, headers, body).await?;
    let Some(permit) = app.body_budget.decode(permit, body.len()).await else { return Err(too_much(app)) };
    let mut webhook = intake::decode(&body).map_err(|error| {
        tracing::warn!(%error, "webhook rejected");
        Answer::bad_request(&error.to_string())
    })?;
    let routes = &settings.config.routes;
    let route = match by_path {
        Some((route, _)) => route,
        None => intake::choose_route(routes, None, &webhook.receiver).map_err(|error| unrouted(&error))?,
    };
    let beats = heartbeats::split(&mut webhook, route);
    let (counts, switches) = (Counts::of(&webhook, &beats), beats.switches.clone());
    let ingested = app
        .store
        .ingest(ingest(&settings, &app.clock, route, by_path.is_none(), (webhook, beats), body, permit))
        .await
        .map_err(|error| {
            tracing::warn!(route = %route.name, %error, "committing a webhook failed; answered 503");
            Answer::unavailable(&format!("cannot commit: {error}"))
        })?;
    app.beats.note(switches);
    record(app, route, &counts, &ingested);
    record_compat(app, proof, by_path.map(|(_, kind)| kind));
    Ok(Answer::ok(json!({ "status": "accepted", "notification": ingested.notification.as_str() })))
}

fn unrouted(error: &RouteError) -> Answer {
    tracing::warn!(%error, "webhook rejected");
    Answer::not_found(&error.to_string())
}

/// Alertmanager drops what it holds after a 413.
fn too_large(limit: usize) -> Answer {
    tracing::warn!(limit, "webhook rejected: its body is too large");
    Answer::too_large(limit)
}

fn too_much(app: &App) -> Answer {
    if app.log_limits.bodies.allows("", app.clock.now()) {
        tracing::warn!("too many webhook bytes in flight; answering 503");
    }
    Answer::unavailable("too many webhook bytes in flight")
}

/// Reads the whole body. A body that is too slow is answered 503, since Alertmanager would not retry after a 408.
async fn read(app: &App, limit: usize, headers: &HeaderMap, body: Body) -> Result<(Bytes, BodyPermit), Answer> {
    if let Some(encoding) = foreign_encoding(headers) {
        tracing::warn!(%encoding, "webhook rejected: its body is compressed");
        return Err(Answer::unsupported(&format!(
            "Content-Encoding: {encoding} is not supported; send the body uncompressed"
        )));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let Some(permit) = app.body_budget.permit(announced.unwrap_or(limit)).await else {
        return Err(too_much(app));
    };
    let collect = async {
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(limit));
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Answer::bad_request("the body ended before it was complete"))?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(bytes))
    };
    let bytes = timeout(BODY_TIMEOUT, collect).await;
    Ok((bytes.map_err(|_| Answer::unavailable("the body did not arrive in time"))??, permit))
}

/// The body's encoding, if it has one; cut, since a stranger chooses it.
fn foreign_encoding(headers: &HeaderMap) -> Option<String> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let words = encodings.flat_map(|value| {
        String::from_utf8_lossy(value.as_bytes()).split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>()
    });
    let mut foreign = words.filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("identity"));
    foreign.next().map(|word| word.chars().filter(|c| !c.is_control()).take(32).collect())
}

fn ingest(
    settings: &Settings,
    clock: &Clock,
    route: &Route,
    by_receiver: bool,
    (mut webhook, beats): (Webhook, Beats),
    body: Bytes,
    permit: BodyPermit,
) -> Ingest {
    let (clock, clock_too) = (clock.clone(), clock.clone());
    let (config, name) = (Arc::clone(&settings.config), route.name.clone());
    webhook.content_hash.push_str(&settings.run);
    let Beats { switches, alerts: beats } = beats;
    let others = (!beats.is_empty()).then(|| heartbeats::resolving(&webhook, &beats));
    let listed = &others.as_ref().unwrap_or(&webhook).alerts;
    let resolved = listed.iter().filter(|alert| !alert.firing).map(key_of).collect();
    let content_hash = webhook.content_hash.clone();
    let rooms = route.rooms.clone();
    // The closures hold the body's share of the budget, even when no client waits for the answer any more.
    let said = Arc::new((webhook, permit));
    let (config_too, name_too, said_too) = (Arc::clone(&config), name.clone(), Arc::clone(&said));
    Ingest {
        key: IncidentKey {
            route: route.name.clone(),
            receiver: said.0.receiver.clone(),
            group_key: said.0.group_key.clone(),
        },
        body: body.into(),
        content_hash,
        by_receiver,
        rooms,
        decide: Arc::new(move |known, now| {
            let rules = Rules { ahead: clock.ahead(), ..Rules::of(&config.routes[&name], &config.display) };
            if beats.is_empty() {
                return intake::reconcile(known, &said.0, &rules, now);
            }
            heartbeats::reconcile_rest(known, &said.0, &beats, &rules, now)
        }),
        resolved,
        settle: Box::new(move |known, now| {
            let rules = Rules::of(&config_too.routes[&name_too], &config_too.display);
            let rules = Rules { ahead: clock_too.ahead(), ..rules };
            intake::settle(known, others.as_ref().unwrap_or(&said_too.0), &rules, now)
        }),
        beats: switches,
    }
}

fn key_of(alert: &ListedAlert) -> AlertKey {
    AlertKey::of(&alert.fingerprint, &alert.doc.labels)
}

/// The counts of a payload for the log and the metrics.
struct Counts {
    firing: u64,
    resolved: u64,
    /// Alerts that are heartbeats, and so are neither.
    beats: usize,
    odd: u32,
}

impl Counts {
    fn of(webhook: &Webhook, beats: &Beats) -> Self {
        let firing = webhook.alerts.iter().filter(|alert| alert.firing).count() as u64;
        Self { firing, resolved: webhook.alerts.len() as u64 - firing, beats: beats.alerts.len(), odd: webhook.odd }
    }
}

fn record(app: &App, route: &Route, counts: &Counts, ingested: &Ingested) {
    let (name, outcome) = (route.name.as_str(), ingested.outcome.as_str());
    app.metrics.notifications.with_label_values(&[name, outcome]).inc();
    app.metrics.alerts.with_label_values(&[name, "firing"]).inc_by(counts.firing);
    app.metrics.alerts.with_label_values(&[name, "resolved"]).inc_by(counts.resolved);
    app.metrics.odd_fields.with_label_values(&[name]).inc_by(u64::from(counts.odd));
    app.metrics.alerts_forgotten.with_label_values(&[name]).inc_by(ingested.forgotten as u64);
    let incident = ingested.incident.as_ref().map(tracing::field::display);
    tracing::info!(
        notification = %ingested.notification, incident, route = name, outcome, firing = counts.firing,
        resolved = counts.resolved, beats = (counts.beats > 0).then_some(counts.beats), odd_fields = counts.odd,
        "accepted"
    );
    if ingested.unarmed > 0 && app.log_limits.heartbeats.allows(name, app.clock.now()) {
        tracing::warn!(route = name, switches = ingested.unarmed, "too many heartbeats; ignoring further label sets");
    }
    if ingested.elsewhere > 0 {
        tracing::info!(
            notification = %ingested.notification, route = name, incidents = ingested.elsewhere,
            "resolved alerts in other incidents too"
        );
    }
}

/// Counts webhooks that use another receiver's URL: once the count stands still, the setting can be removed.
fn record_compat(app: &App, proof: CredentialSource, path: Option<PathKind>) {
    let by_path = match path {
        Some(PathKind::Room) => Some("room_path"),
        Some(PathKind::OldName) => Some("name"),
        Some(PathKind::Route) | None => None,
    };
    let by_query = (proof == CredentialSource::Query).then_some("query_secret");
    for shape in by_path.into_iter().chain(by_query) {
        app.metrics.compat_notifications.with_label_values(&[shape]).inc();
    }
}
