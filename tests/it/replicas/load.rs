//! Groups that fire, grow and end, posted to one replica after the other; and from the room's own times, when each of
//! these states was in the room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use rand::Rng as _;
use tokio::time::sleep;

use crate::{
    chaos::{Group, Sent, Step},
    harness::{
        Payload, Receiver, RoomEvent, RoomView,
        http::{Answer, client},
    },
};

/// Alertmanager gives a webhook ten seconds at least.
pub const PATIENCE: Duration = Duration::from_secs(10);
const BACKOFF: Duration = Duration::from_millis(300);
/// Between two states of a group, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 200..1_500;

/// The states of a group, one after the other: one alert, two, none. Every third group stays at two.
const STATES: usize = 3;
const STAYS_OPEN: usize = 3;

/// A state that was answered 200.
#[derive(Debug)]
struct Accepted {
    group: String,
    /// Index of the state.
    state: usize,
    /// Milliseconds since the epoch, as the homeserver counts them.
    at: i64,
}

/// Posts until it is taken, each try at the next replica.
#[derive(Debug)]
pub struct Load {
    urls: Vec<String>,
    next: AtomicUsize,
    /// Tries that were not taken.
    pub unavailable: AtomicUsize,
    accepted: Mutex<Vec<Accepted>>,
    pub stop: AtomicBool,
}

impl Load {
    pub fn on(replicas: &[Receiver]) -> Self {
        Self {
            urls: replicas.iter().map(|replica| replica.webhook_url("default")).collect(),
            next: AtomicUsize::new(0),
            unavailable: AtomicUsize::new(0),
            accepted: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    pub async fn accept(&self, payload: Payload) {
        let body = payload.json();
        loop {
            let url = &self.urls[self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
            match Answer::to(client().post(url).timeout(PATIENCE).json(&body)).await {
                Ok(answer) if answer.status == 200 => return,
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.body),
                Err(_) => {}
            }
            self.unavailable.fetch_add(1, Ordering::Relaxed);
            sleep(BACKOFF).await;
        }
    }

    /// Groups one after the other until the stop. Each state comes twice, as from a pair of Alertmanagers.
    pub async fn run(&self, sender: usize) {
        for number in 0.. {
            let group = format!("Load{sender:02}x{number:04}");
            for state in 0..states(number) {
                if self.stop.load(Ordering::Relaxed) && state == 0 {
                    return;
                }
                self.accept(payload(&group, state)).await;
                let accepted = Accepted { group: group.clone(), state, at: wall_ms() };
                self.accepted.lock().unwrap_or_else(PoisonError::into_inner).push(accepted);
                self.accept(payload(&group, state)).await;
                let pause = Duration::from_millis(rand::rng().random_range(PAUSE_MS));
                sleep(pause).await;
            }
        }
    }

    /// Every group with the last state that was taken, as `chaos` judges it.
    pub fn sent(&self) -> Vec<Sent> {
        let mut last = BTreeMap::new();
        for accepted in &*self.accepted.lock().unwrap_or_else(PoisonError::into_inner) {
            last.insert(accepted.group.clone(), accepted.state);
        }
        let states = [&[("n01", true)][..], &[("n01", true), ("n02", true)], &[("n01", false), ("n02", false)]];
        let group = |name: &str, state: usize| {
            Group::of(name, states[..=state].iter().map(|alerts| Step::of(alerts)).collect())
        };
        last.into_iter().map(|(name, state)| Sent::until(group(&name, state), state)).collect()
    }

    /// When the last of what was taken before `until` came into the room, both in milliseconds since the epoch; `Err`
    /// names what never did.
    pub fn shown_by(&self, view: &RoomView, until: i64) -> Result<i64, String> {
        let shown = shown(view);
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = 0;
        for Accepted { group, state, .. } in accepted.iter().filter(|accepted| accepted.at < until) {
            let times = shown.get(group).ok_or_else(|| format!("{group} has no card"))?;
            let at = times[*state..].iter().flatten().min();
            last = last.max(*at.ok_or_else(|| format!("{group}: state {state} was never shown"))?);
        }
        Ok(last)
    }
}

fn states(group: usize) -> usize {
    if group % STAYS_OPEN == STAYS_OPEN - 1 { STATES - 1 } else { STATES }
}

fn payload(group: &str, state: usize) -> Payload {
    let payload = Payload::group(group);
    match state {
        0 => payload.firing(&["n01"]),
        1 => payload.firing(&["n01", "n02"]),
        _ => payload.resolved(&["n01", "n02"]),
    }
}

/// Milliseconds since the epoch.
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("within the next years")
}

/// When each group's card showed each state first.
fn shown(view: &RoomView) -> BTreeMap<String, [Option<i64>; STATES]> {
    let mut groups: BTreeMap<&str, String> = BTreeMap::new();
    let mut shown: BTreeMap<String, [Option<i64>; STATES]> = BTreeMap::new();
    let mut note = |group: &str, line: &str, at: i64| {
        let state = if line.contains("🟢") { 2 } else { usize::from(line.contains("· 2 firing")) };
        let first = &mut shown.entry(group.to_owned()).or_default()[state];
        *first = Some(first.map_or(at, |first: i64| first.min(at)));
    };
    for event in view.by_bot().filter(|event| event.content.get("m.relates_to").is_none()) {
        let line = first_line(&event.content);
        if let Some(group) = line.split(' ').find(|word| word.starts_with("Load")) {
            groups.insert(&event.event_id, group.to_owned());
            note(group, line, event.origin_server_ts);
        }
    }
    for event in view.by_bot() {
        if let Some(group) = event.related("m.replace").and_then(|root| groups.get(root)) {
            note(group, first_line(&event.content["m.new_content"]), event.origin_server_ts);
        }
    }
    shown
}

fn first_line(content: &serde_json::Value) -> &str {
    content["body"].as_str().and_then(|body| body.lines().next()).unwrap_or_default()
}

/// Events that say what another one says, by the op that each names.
pub fn repeats(view: &RoomView) -> usize {
    let mut ops = BTreeSet::new();
    let op =
        |event: &RoomEvent| event.content["matrix_alertmanager_receiver"]["op"].as_str().unwrap_or_default().to_owned();
    view.by_bot().map(op).filter(|op| !op.is_empty() && !ops.insert(op.clone())).count()
}
