//! `/healthz` and `/healthz/delivery`: what the operator looks at when something is stuck.
//!
//! Both need no credentials, so rooms are named `<route>/<n>` and no Matrix id appears.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use jiff::Timestamp as Moment;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{App, Settings, answer::Answer};
use crate::{
    health::{self, Age, ClockSet, Hold, Loaded, Trust},
    model::{NoKeys, OpState, RoomAddress, Timestamp},
    store::Stats,
};

/// A change that a room does not show after this long is late.
const LATE: Duration = Duration::from_mins(2);
/// Without a successful sync for this long, new members and devices go unnoticed.
const SYNC_LOST: Duration = Duration::from_mins(5);
/// A dead letter is news for this long.
const DEAD_IS_NEWS: Duration = Duration::from_hours(1);
/// Longer than any send takes.
const OVERDUE: Duration = Duration::from_mins(2);
/// So is a clock that was set.
const CLOCK_IS_NEWS: Duration = Duration::from_hours(24);
const STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// 200 while webhooks can be committed, else 503. Delivery that is held or late is `degraded`, and still 200.
pub async fn healthz(State(app): State<Arc<App>>) -> Answer {
    let report = Report::take(&app, &app.settings(), Ids::Blank).await;
    Answer::health(report.failing.is_none(), json!({ "status": report.status(), "parts": report.parts() }))
}

/// For monitors that should page: 503 while a room or the account is held for anything but a rate limit, an event is
/// set aside, a change is undelivered for 2 minutes, no sync succeeded for 5, or a dead letter is younger than an hour.
pub async fn delivery(State(app): State<Arc<App>>) -> Answer {
    let report = Report::take(&app, &app.settings(), Ids::Blank).await;
    let reasons = report.undelivered();
    let status = if reasons.is_empty() { "ok" } else { "failing" };
    Answer::health(reasons.is_empty(), json!({ "status": status, "reasons": reasons }))
}

/// Whether Matrix ids are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Blank,
    Told,
}

/// How everything is, and the one judgement of it: the status page shows the same.
pub(super) struct Report {
    pub(super) health: health::State,
    pub(super) stats: Option<Stats>,
    pub(super) now: Timestamp,
    wall: Timestamp,
    /// Why webhooks cannot be committed.
    pub(super) failing: Option<String>,
    pub(super) routes: Vec<(String, Vec<RoomAddress>)>,
    ids: Ids,
}

impl Report {
    pub(super) async fn take(app: &App, settings: &Settings, ids: Ids) -> Self {
        let (mut health, now) = (app.health.snapshot(), app.clock.now());
        forget_overdue(&mut health, now);
        let stats = timeout(STATS_TIMEOUT, app.store.stats(&settings.rooms)).await.ok().and_then(Result::ok);
        let failing = match &health.store_fault {
            _ if health.stopping => Some("shutting down".to_owned()),
            Some(fault) => Some(format!("webhooks cannot be committed: {fault}")),
            None => None,
        };
        let routes = settings.config.routes.values();
        let routes = routes.map(|route| (route.name.to_string(), route.rooms.clone())).collect();
        Self { health, stats, now, wall: app.clock.wall(), failing, routes, ids }
    }

    /// `failing`: webhooks cannot be committed; `degraded`: delivery is held or late.
    pub(super) fn status(&self) -> &'static str {
        if self.failing.is_some() {
            "failing"
        } else if self.parts_degraded() {
            "degraded"
        } else {
            "ok"
        }
    }

    fn parts(&self) -> Value {
        let mut parts = json!({
            "store": self.store(),
            "homeserver": self.homeserver(),
            "sync": self.sync(),
            "encryption": self.encryption(),
            "config": self.config(),
            "routes": Value::Object(self.routes.iter().map(|(name, rooms)| (name.clone(), self.route(rooms))).collect::<Map<_, _>>()),
        });
        if let Some(certificate) = self.certificate() {
            parts["certificate"] = certificate;
        }
        parts
    }

    fn parts_degraded(&self) -> bool {
        let parts = self.parts();
        let degraded = |part: &Value| part["status"] != "ok";
        ["store", "homeserver", "sync", "encryption", "config"].iter().any(|name| degraded(&parts[*name]))
            || parts.get("certificate").is_some_and(degraded)
            || parts["routes"].as_object().is_some_and(|routes| routes.values().any(degraded))
    }

    pub(super) fn store(&self) -> Value {
        let mut part = self.store_alone();
        if let Some(notice) = self.clock_set() {
            part["notice"] = notice.into();
        }
        part
    }

    /// A day long, in words.
    fn clock_set(&self) -> Option<String> {
        let ClockSet { at, by_ms } = self.health.clock_set?;
        let way = if by_ms < 0 { "back" } else { "ahead" };
        (self.now.since(at) < CLOCK_IS_NEWS).then(|| {
            format!(
                "the clock of this machine was set {way} by {} s at {}; nothing waits or is closed by it, but times that were \
                 shown may be off",
                by_ms.unsigned_abs() / 1_000,
                self.moment(at)
            )
        })
    }

    fn store_alone(&self) -> Value {
        if let Some(reason) = &self.failing {
            return json!({ "status": "failing", "reason": reason });
        }
        self.backlog()
    }

    /// What rooms have not been shown, whether or not webhooks are taken.
    pub(super) fn backlog(&self) -> Value {
        let Some(stats) = &self.stats else {
            return json!({ "status": "degraded", "reason": "the store does not answer reads in time" });
        };
        let oldest = stats.oldest.map(|since| self.now.since(since));
        let mut part = json!({ "status": "ok", "waiting": stats.waiting });
        if let Some(reason) = self.late() {
            part["status"] = "degraded".into();
            part["reason"] = reason.into();
        } else if let Some(reason) = self.dead() {
            part["status"] = "degraded".into();
            part["reason"] = reason.into();
        } else if let Some(reason) = self.parked() {
            part["status"] = "degraded".into();
            part["reason"] = reason.into();
        } else {
            part["reason"] = match oldest {
                None => "commits; every room shows all that was accepted".into(),
                Some(age) => format!("commits; the oldest undelivered change is {} s old", age.as_secs()).into(),
            };
        }
        part
    }

    pub(super) fn homeserver(&self) -> Value {
        if let Some(fault) = &self.health.homeserver_fault {
            return json!({ "status": "degraded", "reason": self.told(fault) });
        }
        if let Some(hold) = &self.health.account_hold {
            return json!({ "status": "degraded", "reason": self.held(hold), "until": hold.until.map(|at| self.moment(at)) });
        }
        if !self.health.connected {
            return json!({ "status": "degraded", "reason": "not connected yet since the start" });
        }
        json!({ "status": "ok", "reason": "answers, and takes the access token" })
    }

    pub(super) fn sync(&self) -> Value {
        let last = self.health.last_sync.map(|at| self.moment(at));
        if self.health.no_keys.is_some() && self.sync_lost().is_none() {
            return json!({ "status": "ok", "reason": "none, since it is not our device's; the homeserver answers", "last": last });
        }
        if let Some(reason) = self.sync_lost() {
            return json!({ "status": "degraded", "reason": reason, "last": last });
        }
        match (&self.health.sync_fault, &last) {
            (Some(fault), _) => json!({ "status": "degraded", "reason": self.told(fault), "last": last }),
            (None, None) => json!({ "status": "degraded", "reason": "none has succeeded yet since the start" }),
            (None, Some(last)) => json!({ "status": "ok", "reason": "keeps up", "last": last }),
        }
    }

    pub(super) fn encryption(&self) -> Value {
        if let Some(why) = self.health.no_keys {
            let held = self.health.rooms.values().any(|room| room.no_keys.is_some());
            let (status, rooms) =
                if held { ("degraded", "encrypted rooms are held") } else { ("ok", "no room is encrypted") };
            return json!({ "status": status, "reason": format!("{rooms}; {}", why.advice()), "keys": why.as_str() });
        }
        match &self.health.trust {
            Trust::NotNeeded => json!({ "status": "ok", "reason": "no room is encrypted, as far as is known" }),
            Trust::Signed { key_only_here: false } => {
                json!({ "status": "ok", "reason": "the device is signed by the account's identity" })
            }
            Trust::Signed { key_only_here: true } => json!({
                "status": "ok", "reason": "the device is signed by the account's identity",
                "notice": "the account's recovery key lies in store.path as recovery-key and nowhere else: keep a copy \
                           in a safe place, then delete that file or name the copy in matrix.recovery_key_file",
            }),
            Trust::Unsigned(fault) => json!({
                "status": "degraded", "reason": format!("clients show a warning: {}", self.told(fault)),
            }),
        }
    }

    /// `None`: webhooks come by plain HTTP.
    pub(super) fn certificate(&self) -> Option<Value> {
        let certificate = self.health.certificate.as_ref()?;
        let (status, reason) = match (&certificate.refused, certificate.age(self.wall)) {
            (_, Age::Ended) => ("degraded", "has ended: clients will refuse it".to_owned()),
            (_, Age::NotYet) => ("degraded", "is not valid yet: clients will refuse it".to_owned()),
            (Some(fault), _) => ("degraded", format!("what the files hold is refused, the one in use stays: {fault}")),
            (None, Age::EndsSoon) => ("degraded", "ends soon, and should have been renewed".to_owned()),
            (None, Age::Good) => ("ok", "is the one in the files".to_owned()),
        };
        Some(json!({ "status": status, "reason": reason, "not_after": in_words(certificate.not_after) }))
    }

    pub(super) fn config(&self) -> Value {
        let Loaded { since, faults, restart } = &self.health.config;
        let since = since.map(|at| self.moment(at));
        if *faults > 0 {
            let reason = format!(
                "it has changed and is refused (faults: {faults}, which the log names); the one before stays in force"
            );
            return json!({ "status": "degraded", "reason": reason, "since": since });
        }
        let mut part = json!({ "status": "ok", "reason": "in force as it is", "since": since });
        if !restart.is_empty() {
            part["reason"] = "in force but for what wants a restart".into();
            part["notice"] = format!("to be had by a restart only: {}", restart.join(", ")).into();
        }
        part
    }

    pub(super) fn route(&self, rooms: &[RoomAddress]) -> Value {
        let mut shown = Map::new();
        let mut degraded = false;
        for room in rooms {
            let Some(state) = self.health.rooms.get(room) else { continue };
            let waiting = self.waiting_in(room);
            let mut part = match (&state.hold, state.no_keys) {
                (None, None) => json!({ "status": "ok", "waiting": waiting }),
                (hold, Some(why)) => {
                    degraded = true;
                    let reason = match hold {
                        // Which request fails.
                        Some(hold) if why == NoKeys::NotReady => self.told(&hold.reason),
                        _ => format!("encrypted, and {}", why.advice()),
                    };
                    json!({ "status": "degraded", "reason": reason, "keys": why.as_str(), "waiting": waiting })
                }
                (Some(hold), None) => {
                    degraded = true;
                    json!({
                        "status": "degraded", "reason": self.told(&hold.reason), "since": self.moment(hold.since),
                        "until": hold.until.map(|at| self.moment(at)), "waiting": waiting,
                    })
                }
            };
            if let Some(notice) = &state.notices() {
                part["notice"] = notice.as_str().into();
            }
            shown.insert(state.name.to_string(), part);
        }
        json!({ "status": if degraded { "degraded" } else { "ok" }, "rooms": shown })
    }

    pub(super) fn waiting_in(&self, room: &RoomAddress) -> i64 {
        let by_room = self.stats.iter().flat_map(|stats| &stats.waiting_by_room);
        by_room.filter(|(address, _)| address == room.as_str()).map(|(_, count)| *count).sum()
    }

    fn undelivered(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self.failing.iter().cloned().collect();
        let faults = self.health.account_hold.iter().filter(|hold| !hold.rate_limit).map(|hold| self.held(hold));
        match &self.health.homeserver_fault {
            Some(fault) => reasons.push(self.told(fault)),
            None => reasons.extend(faults),
        }
        for room in self.health.rooms.values() {
            if let Some(why) = room.no_keys {
                reasons.push(format!("{}: encrypted, and {}", room.name, why.advice()));
            } else if let Some(hold) = room.hold.as_ref().filter(|hold| !hold.rate_limit) {
                reasons.push(format!("{}: {}", room.name, self.held(hold)));
            }
        }
        reasons.extend(self.late());
        reasons.extend(self.sync_lost());
        reasons.extend(self.parked());
        reasons.extend(self.dead());
        reasons
    }

    /// How far the wall clock is ahead of the receiver's own time, in milliseconds.
    pub(super) fn ahead(&self) -> i64 {
        self.wall.ahead_of(self.now)
    }

    fn moment(&self, at: Timestamp) -> String {
        in_words(at.moved(self.ahead()))
    }

    fn held(&self, hold: &Hold) -> String {
        if hold.rate_limit {
            return "the homeserver limits our rate; what waits is sent when it allows".to_owned();
        }
        self.told(&hold.reason)
    }

    fn told(&self, text: &str) -> String {
        match self.ids {
            Ids::Blank => without_ids(text),
            Ids::Told => text.to_owned(),
        }
    }

    fn late(&self) -> Option<String> {
        let age = self.now.since(self.stats.as_ref()?.oldest?);
        (age > LATE).then(|| format!("the oldest undelivered change is {} s old", age.as_secs()))
    }

    fn sync_lost(&self) -> Option<String> {
        let last = self.health.last_sync.or(self.health.started_at)?;
        let ago = self.now.since(last);
        (ago > SYNC_LOST).then(|| format!("no sync has succeeded for {} s", ago.as_secs()))
    }

    fn parked(&self) -> Option<String> {
        let (_, parked) = self.stats.as_ref()?.ops.iter().find(|(state, _)| *state == OpState::Parked)?;
        Some(format!("{parked} set aside: the homeserver answers, but not these events"))
    }

    pub(super) fn dead(&self) -> Option<String> {
        let ago = self.now.since(self.stats.as_ref()?.last_dead?);
        (ago < DEAD_IS_NEWS)
            .then(|| format!("the homeserver refused an event for good {} s ago; it is a dead letter", ago.as_secs()))
    }
}

/// A hold whose time was up long ago: nothing has waited behind it since, so nobody found out that it is over.
fn forget_overdue(health: &mut health::State, now: Timestamp) {
    let overdue = |hold: &Hold| hold.until.is_some_and(|until| now.since(until) > OVERDUE);
    health.account_hold.take_if(|hold| overdue(hold));
    for room in health.rooms.values_mut() {
        room.hold.take_if(|hold| overdue(hold));
    }
}

fn in_words(at: Timestamp) -> String {
    Moment::from_millisecond(at.0).map(|moment| moment.to_string()).unwrap_or_default()
}

/// Whoever reads health without credentials learns no room, user or event id from a homeserver's error text.
fn without_ids(text: &str) -> String {
    let blank = |word: &str| {
        let start = word.trim_start_matches(|c: char| !c.is_alphanumeric() && !"!@#$".contains(c));
        if start.len() > 1 && start.starts_with(['!', '@', '#', '$']) { "[id]".to_owned() } else { word.to_owned() }
    };
    text.split(' ').map(blank).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::without_ids;

    #[test]
    fn ids_in_a_homeservers_words_are_blanked() {
        for (text, expected) in [
            ("User @bot:example.org not in room !abc:example.org (None)", "User [id] not in room [id] (None)"),
            ("no room '#ops:example.org'", "no room [id]"),
            ("nothing to hide! 100 % @ home", "nothing to hide! 100 % @ home"),
        ] {
            assert_eq!(without_ids(text), expected);
        }
    }
}
