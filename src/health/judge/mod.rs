//! The judgement: state, numbers of the store and the time -> the status of each part and why. Pure.

mod others;
mod replica;

use std::time::Duration;

use super::{
    Age, ClockSet, Hold, Loaded, RoomHealth, State, Trust,
    report::{Fact, Input, MatrixIds, Part, Report, RoomPart, RoutePart, Status},
};
use crate::model::{NoKeys, RoomAddress, Timestamp};

/// A change that a room does not show after this long is late.
const LATE: Duration = Duration::from_mins(2);

/// Without a successful sync for this long, new members and devices go unnoticed.
const SYNC_LOST: Duration = Duration::from_mins(5);

/// How long a dead letter degrades the report.
const DEAD_IS_RECENT: Duration = Duration::from_hours(1);

/// How long the report mentions that the clock was set.
const CLOCK_SET_IS_RECENT: Duration = Duration::from_hours(24);

/// A hold that ended this long ago is over; it is longer than any send takes.
const OVERDUE: Duration = Duration::from_mins(2);

/// Judges how everything is.
#[must_use]
pub fn judge(mut input: Input) -> Report {
    drop_overdue_holds(&mut input.state, input.now);
    let failing = match &input.state.store_fault {
        _ if input.state.stopping => Some("shutting down".to_owned()),
        Some(fault) => Some(format!("webhooks cannot be committed: {fault}")),
        None => None,
    };
    let backlog = input.backlog();
    let mut store = match &failing {
        Some(reason) => Part::new(Status::Failing, reason),
        None => backlog.clone(),
    };
    store.notice = input.clock_set();
    let mut report = Report {
        status: Status::Ok,
        store,
        backlog,
        homeserver: input.homeserver(),
        sync: input.sync(),
        encryption: input.encryption(),
        config: input.config(),
        replica: input.replica(),
        certificate: input.certificate(),
        alertmanager: input.alertmanager(),
        heartbeats: input.heartbeats(),
        routes: input.routes.iter().map(|(name, rooms)| input.route(name, rooms)).collect(),
        undelivered: input.undelivered(failing.as_ref()),
        has_recent_dead_letter: input.dead().is_some(),
        failing,
        state: input.state,
    };
    let parts = [&report.store, &report.homeserver, &report.sync, &report.encryption, &report.config];
    let parts = parts.into_iter().chain(&report.replica).chain(&report.certificate);
    let parts = parts.chain(&report.alertmanager).chain(&report.heartbeats);
    let parts = parts.map(|part| part.status);
    let worst = parts.chain(report.routes.iter().map(|route| route.status)).max();
    report.status = worst.unwrap_or(Status::Ok);
    report
}

impl Input {
    fn clock_set(&self) -> Option<String> {
        let ClockSet { at, by_ms } = self.state.clock_set?;
        let way = if by_ms < 0 { "back" } else { "ahead" };
        (self.now.since(at) < CLOCK_SET_IS_RECENT).then(|| {
            format!(
                "the clock of this machine was set {way} by {} s at {}; nothing waits or is closed by it, but times that were \
                 shown may be off",
                by_ms.unsigned_abs() / 1_000,
                in_words(self.by_wall(at))
            )
        })
    }

    fn backlog(&self) -> Part {
        let Some(numbers) = &self.numbers else {
            return Part::degraded("the store does not answer reads in time");
        };
        let part = match (self.late().or_else(|| self.dead()).or_else(|| self.parked()), numbers.oldest) {
            (Some(reason), _) => Part::degraded(reason),
            (None, None) => Part::ok("commits; every room shows all that was accepted"),
            (None, Some(oldest)) => {
                let age = self.now.since(oldest).as_secs();
                Part::ok(format!("commits; the oldest undelivered change is {age} s old"))
            }
        };
        part.with([Fact::Waiting(numbers.waiting)])
    }

    fn homeserver(&self) -> Part {
        if let Some(fault) = &self.state.homeserver_fault {
            return Part::degraded(self.blanked(fault));
        }
        if let Some(fault) = &self.state.shared_fault {
            return Part::degraded(self.shared_fault(fault));
        }
        if let Some(hold) = &self.state.account_hold {
            return Part::degraded(self.held(hold)).with([self.until(hold)]);
        }
        if !self.state.connected {
            return Part::degraded("not connected yet since the start");
        }
        Part::ok("answers, and takes the access token")
    }

    fn sync(&self) -> Part {
        let last = self.state.last_sync.map(|at| self.by_wall(at));
        let part = match (self.sync_lost(), self.state.no_keys, &self.state.sync_fault, last) {
            (Some(reason), ..) => Part::degraded(reason),
            (None, Some(why), ..) if self.state.acting => {
                Part::degraded(format!("none, so nobody can act from rooms; {}", why.advice()))
            }
            (None, Some(_), ..) => Part::ok("none, since it is not our device's; the homeserver answers"),
            (None, None, Some(fault), _) => Part::degraded(self.blanked(fault)),
            (None, None, None, None) => return Part::degraded("none has succeeded yet since the start"),
            (None, None, None, Some(_)) => Part::ok("keeps up"),
        };
        part.with([Fact::Last(last)])
    }

    fn encryption(&self) -> Part {
        if let Some(why) = self.state.no_keys {
            let part = if self.state.rooms.values().any(|room| room.no_keys.is_some()) {
                Part::degraded(format!("encrypted rooms are held; {}", why.advice()))
            } else {
                Part::ok(format!("no room is encrypted; {}", why.advice()))
            };
            return part.with([Fact::Keys(why)]);
        }
        match &self.state.trust {
            Trust::NotNeeded => Part::ok("no room is encrypted, as far as is known"),
            Trust::Signed { key_only_here } => {
                let advice = "the account's recovery key lies in store.path as recovery-key and nowhere else: keep a copy in \
                              a safe place, then delete that file or name the copy in matrix.recovery_key_file";
                let notice = key_only_here.then(|| advice.to_owned());
                Part { notice, ..Part::ok("the device is signed by the account's identity") }
            }
            Trust::Unsigned(fault) => Part::degraded(format!("clients show a warning: {}", self.blanked(fault))),
        }
    }

    fn certificate(&self) -> Option<Part> {
        let certificate = self.state.certificate.as_ref()?;
        let part = match (&certificate.refused, certificate.age(self.wall)) {
            (_, Age::Ended) => Part::degraded("has ended: clients will refuse it"),
            (_, Age::NotYet) => Part::degraded("is not valid yet: clients will refuse it"),
            (Some(fault), _) => {
                Part::degraded(format!("what the files hold is refused, the one in use stays: {fault}"))
            }
            (None, Age::EndsSoon) => Part::degraded("ends soon, and should have been renewed"),
            (None, Age::Good) => Part::ok("is the one in the files"),
        };
        Some(part.with([Fact::NotAfter(certificate.not_after)]))
    }

    fn config(&self) -> Part {
        let Loaded { since, faults, restart } = &self.state.config;
        let part = if *faults > 0 {
            Part::degraded(format!(
                "it has changed and is refused (faults: {faults}, which the log names); the one before stays in force"
            ))
        } else if restart.is_empty() {
            Part::ok("in force as it is")
        } else {
            let notice = Some(format!("to be had by a restart only: {}", restart.join(", ")));
            Part { notice, ..Part::ok("active, except for what requires a restart") }
        };
        part.with([Fact::Since(since.map(|at| self.by_wall(at)))])
    }

    fn route(&self, name: &str, rooms: &[RoomAddress]) -> RoutePart {
        let known = rooms.iter().filter_map(|address| Some((address, self.state.rooms.get(address)?)));
        let rooms: Vec<RoomPart> = known
            .map(|(address, room)| RoomPart {
                address: address.clone(),
                name: room.name.clone(),
                part: self.room(address, room),
            })
            .collect();
        let status = rooms.iter().map(|room| room.part.status).max().unwrap_or(Status::Ok);
        RoutePart { name: name.to_owned(), status, rooms }
    }

    fn room(&self, address: &RoomAddress, room: &RoomHealth) -> Part {
        let part = match (&room.hold, room.no_keys) {
            (None, None) => Part::ok(""),
            // The hold says which request fails.
            (Some(hold), Some(NoKeys::NotReady)) => {
                Part::degraded(self.blanked(&hold.reason)).with([Fact::Keys(NoKeys::NotReady)])
            }
            (_, Some(why)) => Part::degraded(format!("encrypted, and {}", why.advice())).with([Fact::Keys(why)]),
            (Some(hold), None) => Part::degraded(self.blanked(&hold.reason))
                .with([Fact::Since(Some(self.by_wall(hold.since))), self.until(hold)]),
        };
        let by_room = self.numbers.iter().flat_map(|numbers| &numbers.waiting_by_room);
        let waiting = by_room.filter(|(known, _)| known == address.as_str()).map(|(_, count)| *count).sum();
        Part { notice: room.notices(), ..part.with([Fact::Waiting(waiting)]) }
    }

    fn undelivered(&self, failing: Option<&String>) -> Vec<String> {
        let mut reasons: Vec<String> = failing.into_iter().cloned().collect();
        let faults = self.state.account_hold.iter().filter(|hold| !hold.rate_limit).map(|hold| self.held(hold));
        match (&self.state.homeserver_fault, &self.state.shared_fault) {
            (Some(fault), _) => reasons.push(self.blanked(fault)),
            (None, Some(fault)) => reasons.push(self.shared_fault(fault)),
            (None, None) => reasons.extend(faults),
        }
        for room in self.state.rooms.values() {
            if let Some(why) = room.no_keys {
                reasons.push(format!("{}: encrypted, and {}", room.name, why.advice()));
            } else if let Some(hold) = room.hold.as_ref().filter(|hold| !hold.rate_limit) {
                reasons.push(format!("{}: {}", room.name, self.held(hold)));
            }
        }
        reasons.extend(self.leaderless());
        reasons.extend(self.late());
        reasons.extend(self.sync_lost());
        reasons.extend(self.parked());
        reasons.extend(self.dead());
        reasons
    }

    fn shared_fault(&self, fault: &str) -> String {
        format!("the shared device, which sends to plain rooms: {}", self.blanked(fault))
    }

    fn held(&self, hold: &Hold) -> String {
        if hold.rate_limit {
            return "the homeserver limits our rate; what waits is sent when it allows".to_owned();
        }
        self.blanked(&hold.reason)
    }

    fn until(&self, hold: &Hold) -> Fact {
        Fact::Until(hold.until.map(|at| self.by_wall(at)))
    }

    fn by_wall(&self, at: Timestamp) -> Timestamp {
        at.moved(self.wall.ahead_of(self.now))
    }

    fn blanked(&self, text: &str) -> String {
        match self.ids {
            MatrixIds::Blanked => without_ids(text),
            MatrixIds::Shown => text.to_owned(),
        }
    }

    fn late(&self) -> Option<String> {
        let age = self.now.since(self.numbers.as_ref()?.oldest?);
        (age > LATE).then(|| format!("the oldest undelivered change is {} s old", age.as_secs()))
    }

    fn sync_lost(&self) -> Option<String> {
        let last = self.state.last_sync.or(self.state.started_at)?;
        let ago = self.now.since(last);
        (ago > SYNC_LOST).then(|| format!("no sync has succeeded for {} s", ago.as_secs()))
    }

    fn parked(&self) -> Option<String> {
        let parked = self.numbers.as_ref()?.parked?;
        Some(format!("{parked} set aside: the homeserver answers, but not these events"))
    }

    fn dead(&self) -> Option<String> {
        let ago = self.now.since(self.numbers.as_ref()?.last_dead?);
        (ago < DEAD_IS_RECENT)
            .then(|| format!("the homeserver refused an event for good {} s ago; it is a dead letter", ago.as_secs()))
    }
}

/// Drops holds that ended long ago: nothing has waited behind them since, so no send has found out that they are over.
fn drop_overdue_holds(state: &mut State, now: Timestamp) {
    let overdue = |hold: &Hold| hold.until.is_some_and(|until| now.since(until) > OVERDUE);
    state.account_hold.take_if(|hold| overdue(hold));
    for room in state.rooms.values_mut() {
        room.hold.take_if(|hold| overdue(hold));
    }
}

/// A time as RFC 3339 writes it; empty if it lies outside of the calendar.
#[must_use]
pub fn in_words(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|moment| moment.to_string()).unwrap_or_default()
}

/// `/healthz` needs no credentials, so the error texts of a homeserver must not name rooms, users or events there.
fn without_ids(text: &str) -> String {
    let blank = |word: &str| {
        let start = word.trim_start_matches(|c: char| !c.is_alphanumeric() && !"!@#$".contains(c));
        if start.len() > 1 && start.starts_with(['!', '@', '#', '$']) { "[id]".to_owned() } else { word.to_owned() }
    };
    text.split(' ').map(blank).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
