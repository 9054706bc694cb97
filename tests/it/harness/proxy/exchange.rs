//! What went through the proxy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `PUT /rooms/{room}/send/{type}/{txn}`
    Send,
    Redact,
    Sync,
    /// Reading a room back: `/messages`, `/context`, `/event`, `/relations`.
    Read,
    /// Keys of end-to-end encryption and the messages that carry them.
    Keys,
    Whoami,
    Other,
}

impl Kind {
    fn of(method: &Method, parts: &[&str]) -> Self {
        match parts {
            [.., "send", _, _] if *method == Method::PUT => Self::Send,
            [.., "redact", _, _] => Self::Redact,
            [.., "sync"] => Self::Sync,
            [.., "messages" | "relations"] => Self::Read,
            [.., "event" | "context" | "relations", _] | [.., "relations", _, _] | [.., "relations", _, _, _] => {
                Self::Read
            }
            [.., "keys", _] | [.., "sendToDevice", _, _] => Self::Keys,
            [.., "account", "whoami"] => Self::Whoami,
            _ => Self::Other,
        }
    }
}

/// How a request ended for the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Under way, hanging or held.
    Pending,
    /// Given this status, the homeserver's or a fault's.
    Answered(u16),
    /// The proxy closed the connection in place of an answer.
    Cut,
    /// The receiver went away first.
    Gone,
}

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub kind: Kind,
    pub method: Method,
    /// Percent-decoded, without the query.
    pub path: String,
    /// As it came, without `?`.
    pub query: String,
    /// Of a send.
    pub room: Option<String>,
    /// Of a send.
    pub txn: Option<String>,
    /// `null` if it is not JSON.
    pub body: Value,
    /// What the homeserver answered; `None` if it was not asked, or not yet.
    pub upstream: Option<u16>,
    /// The event id in the homeserver's answer to a send.
    pub event_id: Option<String>,
    pub outcome: Outcome,
    pub began: Instant,
    /// `None` while it is pending.
    pub ended: Option<Instant>,
}

impl Exchange {
    pub(super) fn new(method: Method, raw_path: &str, query: &str, body: &[u8]) -> Self {
        // Split before decoding: a decoded part may hold a slash.
        let parts: Vec<String> = raw_path
            .split('/')
            .map(|part| urlencoding::decode(part).map_or_else(|_| part.to_owned(), std::borrow::Cow::into_owned))
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let kind = Kind::of(&method, &parts);
        let (room, txn) = match parts[..] {
            [.., "rooms", room, "send" | "redact", _, txn] => (Some(room.to_owned()), Some(txn.to_owned())),
            _ => (None, None),
        };
        Self {
            kind,
            method,
            path: parts.join("/"),
            query: query.to_owned(),
            room,
            txn,
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
            upstream: None,
            event_id: None,
            outcome: Outcome::Pending,
            began: Instant::now(),
            ended: None,
        }
    }

    /// Whether the receiver got the homeserver's own answer.
    pub fn was_passed_on(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(status) if self.upstream == Some(status))
    }

    /// Whether it had begun and not ended.
    pub fn under_way_at(&self, moment: Instant) -> bool {
        self.began <= moment && self.ended.is_none_or(|ended| ended > moment)
    }
}

/// The exchanges of a proxy.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Vec<Arc<Mutex<Exchange>>>>);

impl Record {
    pub(super) fn add(&self, exchange: Exchange) -> Entry {
        let entry = Arc::new(Mutex::new(exchange));
        lock(&self.0).push(entry.clone());
        Entry(entry)
    }

    pub(super) fn all(&self) -> Vec<Exchange> {
        lock(&self.0).iter().map(|entry| lock(entry).clone()).collect()
    }

    pub(super) fn forget(&self) {
        lock(&self.0).clear();
    }
}

/// One exchange that is under way. Dropped before its end, the receiver has gone: hyper drops what it no longer needs.
#[derive(Debug)]
pub(super) struct Entry(Arc<Mutex<Exchange>>);

impl Entry {
    pub(super) fn end(self, outcome: Outcome) {
        self.set(outcome);
    }

    /// As it is by now.
    pub(super) fn now(&self) -> Exchange {
        lock(&self.0).clone()
    }

    /// What the part that asks the homeserver writes to, which goes on when the receiver has gone.
    pub(super) fn upstream(&self) -> Upstream {
        Upstream(self.0.clone())
    }

    fn set(&self, outcome: Outcome) {
        let mut exchange = lock(&self.0);
        if exchange.outcome == Outcome::Pending {
            exchange.outcome = outcome;
            exchange.ended = Some(Instant::now());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.set(Outcome::Gone);
    }
}

/// See [`Entry::upstream`].
#[derive(Debug)]
pub(super) struct Upstream(Arc<Mutex<Exchange>>);

impl Upstream {
    pub(super) fn answered(&self, status: u16, body: &[u8]) {
        let mut exchange = lock(&self.0);
        exchange.upstream = Some(status);
        if exchange.kind == Kind::Send {
            let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
            exchange.event_id = json["event_id"].as_str().map(str::to_owned);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
