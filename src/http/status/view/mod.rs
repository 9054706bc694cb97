//! The report, the overview and the config -> the page. How well something is comes from the report behind `/healthz`,
//! so that the two never disagree.

use std::{collections::HashMap, time::Duration};

use tokio::time::timeout;

use super::super::{App, Settings};
use crate::{
    config::Config,
    health::{
        Heartbeat,
        report::{self, Fact, MatrixIds, Report, RoomPart, Status},
    },
    http::health,
    model::{OpKind, OpState, RoomAddress, Timestamp},
    render::{
        Style, StyleError,
        heartbeat::who,
        status::{
            self, Backlog, DeliveryRow, IncidentRow, LetterRow, Level, Link, List, Part, RoomLink, RoomRow, StatusPage,
            Times, WaitingRow, event_link, room_link, short, words,
        },
    },
    store::{DeadLetter, OpenIncident, Overview, PlacedCard, SeenIncident, Stats, WaitingCard},
};

/// The page never waits longer than this for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Switches that have a line.
const HEARTBEATS: usize = 30;

/// # Errors
/// When the config's time zone is unknown, which no start lets pass.
pub async fn page(app: &App, settings: &Settings) -> Result<StatusPage, StyleError> {
    let config = settings.config.as_ref();
    let (report, stats) = health::take(app, settings, MatrixIds::Shown).await;
    let (now, ahead) = (app.clock.now(), app.clock.ahead());
    let overview = timeout(STORE_TIMEOUT, app.store.overview(&settings.rooms)).await.ok().and_then(Result::ok);
    let places = timeout(STORE_TIMEOUT, app.store.resolved_rooms()).await.ok().and_then(Result::ok).unwrap_or_default();
    let places = places.into_iter().map(|(address, place)| (address, place.current().to_owned())).collect();
    let style = Style::new(&config.display, &config.links)?;
    let times = Times::new(&config.display.timezone, now, ahead);
    let view = View {
        config,
        report: &report,
        stats: stats.as_ref(),
        now,
        overview: overview.as_deref(),
        places,
        style,
        times,
    };
    Ok(view.page(app))
}

struct View<'a> {
    config: &'a Config,
    report: &'a Report,
    stats: Option<&'a Stats>,
    now: Timestamp,
    overview: Option<&'a Overview>,
    /// The rooms behind addresses.
    places: HashMap<RoomAddress, String>,
    style: Style,
    times: Times,
}

impl View<'_> {
    fn page(&self, app: &App) -> StatusPage {
        let level = level_of(self.report.status);
        let mut parts = vec![self.accepting(), self.homeserver(), self.sync(), self.encryption()];
        parts.extend(self.replica());
        parts.extend(self.certificate());
        parts.extend(self.alertmanager());
        parts.extend(self.heartbeats());
        parts.push(self.settings());
        let (rooms, backlog) = (self.rooms(), self.backlog());
        let overview = self.overview;
        let total = |stats: &Stats| stats.incidents_open.iter().map(|(_, count)| count).sum();
        StatusPage {
            level,
            reasons: reasons(level, &parts, &rooms, &backlog),
            replica: self.report.replica.as_ref().map(|part| words(&part.reason)),
            parts,
            rooms,
            backlog,
            deliveries: self.deliveries(),
            picture: app.history.picture(self.now, app.metrics.totals()),
            incidents: overview.map(|overview| {
                let rows: Vec<_> = overview.incidents.iter().map(|open| self.incident(open)).collect();
                List::of(rows, self.stats.map_or(0, total))
            }),
            letters: overview.map(|overview| {
                let rows = overview.dead_letters.iter().map(|letter| self.letter(letter)).collect();
                List::of(rows, overview.dead_letters_in_all)
            }),
            version: self.report.state.version.clone(),
            started: self.report.state.started_at.map(|at| self.times.at(at)),
            made: self.times.now(),
        }
    }

    fn accepting(&self) -> Part {
        let mut part = match &self.report.failing {
            Some(reason) => Part { level: Level::Failing, words: sentence(&words(reason)), ..named("Accepting") },
            None => Part {
                words: "Webhooks are taken and answered 200 once they are on disk.".to_owned(),
                ..named("Accepting")
            },
        };
        if part.level != Level::Ok && !self.report.state.stopping {
            part.runbook = Some("Disk full");
        }
        match self.overview.map(|overview| overview.last_accepted) {
            Some(Some(heard)) => part.last = Some(("Last one accepted", self.times.at(heard))),
            Some(None) => part.details.push("None has been accepted yet.".to_owned()),
            None => {}
        }
        part
    }

    fn homeserver(&self) -> Part {
        let mut part = judged("Homeserver", &self.report.homeserver);
        let matrix = &self.config.matrix;
        part.details = vec![words(&format!("{} as {}", matrix.homeserver, matrix.user_id))];
        let state = &self.report.state;
        let hold = state.account_hold.as_ref();
        if let (Level::Degraded, None, Some(hold)) = (part.level, &state.homeserver_fault, hold)
            && let Some(until) = hold.until
        {
            part.last = Some(("Tried again", self.times.at(until)));
        }
        if part.level != Level::Ok {
            let fault = state.homeserver_fault.as_ref().or(state.shared_fault.as_ref()).map_or("", String::as_str);
            let reason = hold.map_or(fault, |hold| &hold.reason);
            part.runbook = Some(runbook(reason).unwrap_or("Homeserver down"));
        }
        part
    }

    fn sync(&self) -> Part {
        let mut part = judged("Sync", &self.report.sync);
        part.last = self.report.state.last_sync.map(|at| ("Last one", self.times.at(at)));
        part
    }

    fn encryption(&self) -> Part {
        let mut part = judged("Encryption", &self.report.encryption);
        if part.level != Level::Ok {
            let held = self.report.state.no_keys.is_some();
            part.runbook = Some(if held { "An encrypted room is held" } else { "Clients show a warning" });
        }
        part
    }

    /// The heading says who leads; a part says what to do if nobody does.
    fn replica(&self) -> Option<Part> {
        let part = judged("Leader", self.report.replica.as_ref()?);
        (part.level != Level::Ok).then_some(Part { runbook: Some("Nobody leads"), ..part })
    }

    fn certificate(&self) -> Option<Part> {
        let mut part = judged("Certificate", self.report.certificate.as_ref()?);
        part.last = self.report.state.certificate.as_ref().map(|used| ("Ends", self.times.at_wall(used.not_after)));
        if part.level != Level::Ok {
            part.runbook = Some("The certificate");
        }
        Some(part)
    }

    fn alertmanager(&self) -> Option<Part> {
        let mut part = judged("Alertmanager", self.report.alertmanager.as_ref()?);
        let last = self.report.state.alertmanagers.values().flatten().filter_map(|peer| peer.last_good).max();
        part.last = last.map(|at| ("Last answer", self.times.at(at)));
        if part.level != Level::Ok {
            part.runbook = Some("Alertmanager cannot be asked");
        }
        Some(part)
    }

    fn heartbeats(&self) -> Option<Part> {
        let mut part = judged("Heartbeats", self.report.heartbeats.as_ref()?);
        let mut all: Vec<&Heartbeat> = self.report.state.heartbeats.iter().collect();
        // Those that need somebody first, then those that wait longest.
        all.sort_by_key(|one| one.armed.map(|armed| (armed.missing_since.is_none(), armed.beat_at)));
        part.details = all.iter().take(HEARTBEATS).map(|one| heartbeat_line(&self.times, one)).collect();
        if all.len() > HEARTBEATS {
            part.details.push(format!("and {} more", all.len() - HEARTBEATS));
        }
        if part.level != Level::Ok {
            part.runbook = Some("A heartbeat is missing");
        }
        Some(part)
    }

    fn settings(&self) -> Part {
        let mut part = judged("Config", &self.report.config);
        part.last = self.report.state.config.since.map(|at| ("Read", self.times.at(at)));
        if part.level != Level::Ok {
            part.runbook = Some("The config is refused");
        }
        part
    }

    /// Held ones first, else in the order of the config. A room that several routes share is shown once.
    fn rooms(&self) -> Vec<RoomRow> {
        let mut rows = Vec::new();
        for route in &self.report.routes {
            for RoomPart { address, part, .. } in &route.rooms {
                let Some(known) = self.report.state.rooms.get(address) else { continue };
                let judged = judged("", part);
                if rows.iter().any(|row: &RoomRow| row.address == address.as_str()) {
                    continue;
                }
                let hold = known.hold.as_ref().filter(|_| judged.level != Level::Ok);
                let keys = known.no_keys.map(|_| "An encrypted room is held");
                rows.push(RoomRow {
                    room: self.place(address),
                    address: address.to_string(),
                    level: judged.level,
                    words: judged.words,
                    since: hold.map(|hold| self.times.at(hold.since)),
                    until: hold.and_then(|hold| Some(self.times.at(hold.until?))),
                    notice: part.notice.as_deref().map(words).unwrap_or_default(),
                    runbook: keys.or_else(|| runbook(&hold?.reason)),
                    waiting: waiting_of(part),
                    oldest: self.oldest_in(address),
                });
            }
        }
        rows.sort_by_key(|row| row.level == Level::Ok);
        rows
    }

    fn oldest_in(&self, address: &RoomAddress) -> Option<status::Moment> {
        let oldest = &self.stats?.oldest_by_room;
        oldest.iter().find(|(room, _)| room == address.as_str()).map(|(_, since)| self.times.at(*since))
    }

    fn backlog(&self) -> Backlog {
        let mut part = judged("", &self.report.backlog);
        let waiting = self.stats.map_or(0, |stats| stats.waiting);
        if part.level == Level::Ok {
            part.words = match self.stats.and_then(|stats| stats.oldest) {
                None => "Nothing: every room shows all that was accepted.".to_owned(),
                Some(oldest) => format!("{}; the oldest change is {} old.", cards(waiting), self.times.age(oldest)),
            };
        }
        let ops = self.stats.iter().flat_map(|stats| &stats.ops);
        let events = ops.filter_map(|(state, count)| {
            let words = match state {
                OpState::InFlight => "being sent",
                OpState::InDoubt => "in doubt: the homeserver has not answered whether it has them",
                OpState::Parked => "set aside: others get through, these do not",
                OpState::Done | OpState::Refused | OpState::Dead => return None,
            };
            Some(format!("{count} {words}"))
        });
        let events = events.collect();
        let runbook = match part.level {
            Level::Ok => None,
            _ if self.report.has_recent_dead_letter => Some("Dead letters"),
            _ => Some("Backlog"),
        };
        let rows: Vec<_> =
            self.overview.iter().flat_map(|overview| &overview.waiting).map(|card| self.waiting(card)).collect();
        Backlog { level: part.level, words: part.words, events, runbook, cards: List::of(rows, waiting) }
    }

    fn waiting(&self, card: &WaitingCard) -> WaitingRow {
        WaitingRow {
            summary: self.summary(&card.leads),
            others: card.others,
            room: self.place(&card.room),
            since: self.times.at(card.since),
        }
    }

    fn summary(&self, seen: &SeenIncident) -> status::IncidentSummary {
        status::summarize(&self.style, &seen.incident, &seen.counts, seen.has_more)
    }

    fn deliveries(&self) -> Vec<DeliveryRow> {
        let row = |delivery: &crate::health::Delivery| DeliveryRow {
            at: self.times.at(delivery.at),
            room: self.place(&delivery.room),
            event: Link {
                words: kind(delivery.kind).to_owned(),
                url: self.room_id(&delivery.room).map(|room| event_link(room, &delivery.event, self.server())),
            },
            took: short(delivery.took),
        };
        self.report.state.deliveries.iter().map(row).collect()
    }

    fn incident(&self, open: &OpenIncident) -> IncidentRow {
        let incident = &open.seen.incident;
        let link = |card: &PlacedCard| {
            let room = self.room_name(&card.room);
            let url = card.event.as_deref().zip(self.room_id(&card.room));
            let url = url.map(|(event, room)| event_link(room, event, self.server()));
            let words = if card.event.is_some() { format!("card in {room}") } else { format!("not yet in {room}") };
            Link { words, url }
        };
        IncidentRow {
            summary: self.summary(&open.seen),
            statements: status::statements(incident, open.seen.silence.as_ref(), &self.times),
            route: incident.key.route.to_string(),
            since: self.times.at(incident.opened_at),
            heard: self.times.at(incident.last_notified_at),
            cards: open.cards.iter().map(link).collect(),
        }
    }

    fn letter(&self, letter: &DeadLetter) -> LetterRow {
        LetterRow {
            at: self.times.at(letter.at),
            room: self.place(&letter.op.room),
            kind: kind(letter.op.kind),
            says: words(&letter.first_line()),
            reason: words(&letter.error),
            id: words(letter.op.txn_id.as_str()),
        }
    }

    fn place(&self, address: &RoomAddress) -> RoomLink {
        let url = self.room_id(address).map(|room| room_link(room, self.server()));
        RoomLink { words: self.room_name(address), url }
    }

    /// `<route>/<n>`; a room that the config no longer names by its address.
    fn room_name(&self, address: &RoomAddress) -> String {
        let known = self.report.state.rooms.get(address);
        known.map_or_else(|| words(address.as_str()), |room| room.name.to_string())
    }

    /// `None`: an alias that has not been looked up yet.
    fn room_id<'a>(&'a self, address: &'a RoomAddress) -> Option<&'a str> {
        let known = self.places.get(address).map(String::as_str);
        known.or((!address.is_alias()).then_some(address.as_str()))
    }

    /// The bot's own, which is in all of its rooms.
    fn server(&self) -> &str {
        self.config.matrix.user_id.split_once(':').map_or("", |(_, server)| server)
    }
}

fn named(name: &'static str) -> Part {
    Part { name, level: Level::Ok, words: String::new(), details: Vec::new(), last: None, runbook: None }
}

/// A part of the report, in the words of `/healthz`.
fn judged(name: &'static str, part: &report::Part) -> Part {
    let details = part.notice.as_deref().map(words).into_iter().collect();
    Part { level: level_of(part.status), words: sentence(&words(&part.reason)), details, ..named(name) }
}

/// `default/prometheus (the-cluster): beats, the last 20 s ago; alarm in 14 min without another`
fn heartbeat_line(times: &Times, heartbeat: &Heartbeat) -> String {
    let key = &heartbeat.key;
    let name = format!("{}/{}", key.route, who(&key.name, key.labels.values().map(String::as_str)));
    let Some(armed) = heartbeat.armed else { return format!("{name}: no beat yet") };
    let last = times.at(armed.beat_at).near;
    match armed.missing_since {
        Some(since) => format!("{name}: missing, alarm raised {}, last beat {last}", times.at(since).near),
        None if armed.is_resolved => {
            format!("{name}: Alertmanager calls it resolved, last beat {last}, alarm {}", times.at(armed.due).near)
        }
        None => format!("{name}: beats, last {last}, alarm {} without another", times.at(armed.due).near),
    }
}

fn level_of(status: Status) -> Level {
    match status {
        Status::Ok => Level::Ok,
        Status::Degraded => Level::Degraded,
        Status::Failing => Level::Failing,
    }
}

fn waiting_of(part: &report::Part) -> i64 {
    let waiting = part.facts.iter().find_map(|fact| if let Fact::Waiting(count) = fact { Some(*count) } else { None });
    waiting.unwrap_or(0)
}

/// Why the verdict is as it is, in the order in which an operator asks.
fn reasons(level: Level, parts: &[Part], rooms: &[RoomRow], backlog: &Backlog) -> Vec<String> {
    if level == Level::Ok {
        return vec![match backlog.cards.total() {
            0 => "Webhooks are taken, and every room shows all that was accepted.".to_owned(),
            waiting => format!("Webhooks are taken and delivered; {}.", cards(waiting)),
        }];
    }
    let bad = |part: &&Part| part.level != Level::Ok;
    let (first, later) = parts.split_at(parts.len().min(2));
    let said = |part: &Part| format!("{}: {}", part.name, part.words);
    let mut reasons: Vec<String> = first.iter().filter(bad).map(said).collect();
    let held = rooms.iter().filter(|room| room.level != Level::Ok);
    reasons.extend(held.map(|room| format!("Room {} is held: {}", room.room.words, room.words)));
    if backlog.level != Level::Ok {
        reasons.push(format!("Waiting: {}", backlog.words));
    }
    reasons.extend(later.iter().filter(bad).map(said));
    reasons
}

/// With a capital at its start, unless that is a word of the log and the metrics.
fn sentence(words: &str) -> String {
    let first = words.split(' ').next().unwrap_or_default();
    let mut chars = words.chars();
    match chars.next() {
        Some(c) if !first.contains('_') => c.to_uppercase().chain(chars).collect(),
        _ => words.to_owned(),
    }
}

fn cards(count: i64) -> String {
    if count == 1 { "1 card waits".to_owned() } else { format!("{count} cards wait") }
}

fn kind(kind: OpKind) -> &'static str {
    match kind {
        OpKind::Card => "new card",
        OpKind::Edit => "edit",
        OpKind::Reply => "reply",
        OpKind::Post => "message",
        OpKind::Notice => "notice",
    }
}

/// The heading of docs/RUNBOOK.md for what a send failed of, which begins with a word of a closed set.
fn runbook(reason: &str) -> Option<&'static str> {
    let word = reason.split(':').next().unwrap_or_default();
    Some(match word {
        "rate_limited" | "join_limited" => "Rate limited",
        "token_rejected" | "account_refused" => "Token expired or rotated",
        "room_refused" => "Wrong room id, or not in the room",
        "keys_not_ready" => "An encrypted room is held",
        "unreachable" | "no_answer" | "server_error" | "unreadable" | "not_ready" => "Homeserver down",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
