//! The command `heartbeats`, over the control socket.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use jiff::Timestamp as Moment;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{forget::forget, list::list};
use crate::{
    health::Heartbeat,
    http::{answer::Answer, state::App},
    model::{Labels, SwitchKey, Timestamp},
    store::StoreError,
};

/// Which switches to disarm.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct Which {
    name: String,
    route: Option<String>,
    #[serde(default)]
    labels: Labels,
}

impl Which {
    fn matches(&self, key: &SwitchKey) -> bool {
        key.name == self.name
            && self.route.as_ref().is_none_or(|route| key.route.as_str() == route)
            && self.labels.iter().all(|(name, value)| key.labels.get(name) == Some(value))
    }
}

pub(in crate::http) async fn show(State(app): State<Arc<App>>) -> Answer {
    match app.store.heartbeats().await {
        Ok(switches) => {
            let all: Vec<Value> = list(&app.config(), &switches).iter().map(|one| in_json(&app, one)).collect();
            Answer::ok(json!({ "heartbeats": all }))
        }
        Err(error) => failed(&error),
    }
}

pub(in crate::http) async fn disarm(State(app): State<Arc<App>>, Json(which): Json<Which>) -> Answer {
    let switches = match app.store.heartbeats().await {
        Ok(switches) => switches,
        Err(error) => return failed(&error),
    };
    let keys: Vec<SwitchKey> = switches.into_iter().map(|one| one.key).filter(|key| which.matches(key)).collect();
    let routes: BTreeSet<&str> = keys.iter().map(|key| key.route.as_str()).collect();
    if routes.len() > 1 {
        let routes: Vec<&str> = routes.into_iter().collect();
        return Answer::bad_request(&format!("several routes have it: {}; add --route ROUTE", routes.join(", ")));
    }
    let mut forgotten = Vec::new();
    for key in keys {
        match forget(&app, &app.store, &app.config(), key.clone()).await {
            Ok(true) => {
                tracing::info!(route = %key.route, heartbeat = key.name, "heartbeat disarmed by command");
                forgotten.push(json!({ "route": key.route.as_str(), "name": key.name, "labels": key.labels }));
            }
            Ok(false) => {}
            Err(error) => return failed(&error),
        }
    }
    if forgotten.is_empty() {
        return Answer::not_found("no such switch is armed; heartbeats lists what there is");
    }
    Answer::ok(json!({ "forgotten": forgotten }))
}

fn failed(error: &StoreError) -> Answer {
    Answer::unavailable(&format!("the store failed: {error}"))
}

fn in_json(app: &App, heartbeat: &Heartbeat) -> Value {
    let time = |at: Timestamp| Moment::from_millisecond(app.clock.shown(at).0).ok().map(|at| at.to_string());
    let armed = heartbeat.armed;
    let state = match armed {
        None => "unarmed",
        Some(armed) if armed.missing_since.is_some() => "missing",
        Some(armed) if armed.is_resolved => "resolved",
        Some(_) => "beating",
    };
    json!({
        "route": heartbeat.key.route.as_str(),
        "name": heartbeat.key.name,
        "labels": heartbeat.key.labels,
        "state": state,
        "last": armed.and_then(|armed| time(armed.beat_at)),
        "due": armed.and_then(|armed| time(armed.due)),
        "missing_since": armed.and_then(|armed| time(armed.missing_since?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RouteName;

    #[test]
    fn which_switches_a_command_means() {
        let labels = |text: &[(&str, &str)]| -> Labels {
            text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let route = RouteName::parse("infra").expect("a name");
        let key =
            SwitchKey { route, name: "prometheus".to_owned(), labels: labels(&[("cluster", "a"), ("zone", "b")]) };
        for (which, expected) in [
            (json!({ "name": "prometheus" }), true),
            (json!({ "name": "prom" }), false),
            (json!({ "name": "prometheus", "route": null, "labels": { "zone": "b" } }), true),
            (json!({ "name": "prometheus", "route": "infra" }), true),
            (json!({ "name": "prometheus", "route": "default" }), false),
            (json!({ "name": "prometheus", "labels": { "cluster": "a", "zone": "c" } }), false),
            (json!({ "name": "prometheus", "labels": { "host": "a" } }), false),
        ] {
            let which: Which = serde_json::from_value(which).expect("a question");
            assert_eq!(which.matches(&key), expected, "{which:?}");
        }
    }
}
