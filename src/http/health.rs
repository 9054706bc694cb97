//! `/healthz` and `/healthz/delivery`: what the operator looks at when something is stuck, as JSON.
//!
//! Both need no credentials, so rooms are named `<route>/<n>` and no Matrix id appears.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{App, Settings, answer::Answer};
use crate::{
    config::Route,
    health::{
        in_words, judge,
        report::{Fact, Input, MatrixIds, Numbers, Part, Report, RoutePart, Status},
    },
    model::OpState,
    store::Stats,
};

const STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// 200 while webhooks can be committed, else 503. Delivery that is held or late is `degraded`, and still 200.
pub async fn healthz(State(app): State<Arc<App>>) -> Answer {
    let (report, _) = take(&app, &app.settings(), MatrixIds::Blanked).await;
    let body = json!({ "status": report.status.as_str(), "parts": parts(&report) });
    Answer::health(report.failing.is_none(), body)
}

/// For monitors that should page: 503 while a room or the account is held for anything but a rate limit, an event is
/// set aside, a change is undelivered for 2 minutes, no sync succeeded for 5, or a dead letter is younger than an hour.
pub async fn delivery(State(app): State<Arc<App>>) -> Answer {
    let (report, _) = take(&app, &app.settings(), MatrixIds::Blanked).await;
    let reasons = report.undelivered;
    let status = if reasons.is_empty() { Status::Ok } else { Status::Failing };
    Answer::health(reasons.is_empty(), json!({ "status": status.as_str(), "reasons": reasons }))
}

/// Judges how everything is now. The numbers of the store come along, if it answers in time.
pub(super) async fn take(app: &App, settings: &Settings, ids: MatrixIds) -> (Report, Option<Stats>) {
    let (health, now) = (app.health.snapshot(), app.clock.now());
    let stats = timeout(STATS_TIMEOUT, app.store.stats(&settings.rooms)).await.ok().and_then(Result::ok);
    let routes = settings.config.routes.values();
    let routes = routes.map(|route| (route.name.to_string(), route.rooms.clone())).collect();
    let numbers = stats.as_ref().map(numbers);
    (judge(Input { state: health, numbers, now, wall: app.clock.wall(), routes, ids }), stats)
}

/// Whether what comes for the route reaches its rooms, by the judgement of `/healthz/delivery`: `false` as well if that
/// cannot be known.
pub async fn delivers(app: &App, route: &Route) -> bool {
    let (mut health, now) = (app.health.snapshot(), app.clock.now());
    health.rooms.retain(|address, _| route.rooms.contains(address));
    let stats = timeout(STATS_TIMEOUT, app.store.stats(&route.rooms)).await.ok().and_then(Result::ok);
    // A dead letter of whichever room is an event that was refused, and no sign that others are.
    let Some(numbers) = stats.as_ref().map(|stats| Numbers { last_dead: None, ..numbers(stats) }) else { return false };
    let input = Input {
        state: health,
        numbers: Some(numbers),
        now,
        wall: app.clock.wall(),
        routes: Vec::new(),
        ids: MatrixIds::Blanked,
    };
    let report = judge(input);
    report.state.connected && report.undelivered.is_empty()
}

fn numbers(stats: &Stats) -> Numbers {
    let parked = stats.ops.iter().find(|(state, _)| *state == OpState::Parked);
    Numbers {
        waiting: stats.waiting,
        waiting_by_room: stats.waiting_by_room.clone(),
        oldest: stats.oldest,
        parked: parked.map(|(_, count)| *count),
        last_dead: stats.last_dead,
    }
}

fn parts(report: &Report) -> Value {
    let routes: Map<_, _> = report.routes.iter().map(|route| (route.name.clone(), route_json(route))).collect();
    let mut parts = json!({
        "store": store_json(&report.store),
        "homeserver": part_json(&report.homeserver),
        "sync": part_json(&report.sync),
        "encryption": part_json(&report.encryption),
        "config": part_json(&report.config),
        "routes": routes,
    });
    if let (Some(part), Some(replica)) = (&report.replica, &report.state.replica) {
        let mut json = part_json(part);
        json["name"] = replica.name.as_str().into();
        json["leads"] = replica.leads.into();
        json["leader"] = replica.leader.as_deref().into();
        parts["replica"] = json;
    }
    if let Some(certificate) = &report.certificate {
        parts["certificate"] = part_json(certificate);
    }
    if let Some(alertmanager) = &report.alertmanager {
        parts["alertmanager"] = part_json(alertmanager);
    }
    if let Some(heartbeats) = &report.heartbeats {
        parts["heartbeats"] = part_json(heartbeats);
    }
    parts
}

/// The store's numbers stand before its reason.
fn store_json(part: &Part) -> Value {
    let mut json = json!({ "status": part.status.as_str() });
    print_facts(&mut json, &part.facts);
    json["reason"] = part.reason.as_str().into();
    print_notice(&mut json, part);
    json
}

fn part_json(part: &Part) -> Value {
    let mut json = json!({ "status": part.status.as_str() });
    if !part.reason.is_empty() {
        json["reason"] = part.reason.as_str().into();
    }
    print_facts(&mut json, &part.facts);
    print_notice(&mut json, part);
    json
}

fn route_json(route: &RoutePart) -> Value {
    let rooms: Map<_, _> = route.rooms.iter().map(|room| (room.name.to_string(), part_json(&room.part))).collect();
    json!({ "status": route.status.as_str(), "rooms": rooms })
}

fn print_facts(json: &mut Value, facts: &[Fact]) {
    for fact in facts {
        let (name, value) = match *fact {
            Fact::Waiting(count) => ("waiting", count.into()),
            Fact::Keys(why) => ("keys", why.as_str().into()),
            Fact::Since(at) => ("since", at.map(in_words).into()),
            Fact::Until(at) => ("until", at.map(in_words).into()),
            Fact::Last(at) => ("last", at.map(in_words).into()),
            Fact::NotAfter(at) => ("not_after", in_words(at).into()),
        };
        json[name] = value;
    }
}

fn print_notice(json: &mut Value, part: &Part) {
    if let Some(notice) = &part.notice {
        json["notice"] = notice.as_str().into();
    }
}
