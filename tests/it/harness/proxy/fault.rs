//! Which requests meet which fault.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{Exchange, Kind};

/// Which requests are meant.
#[derive(Clone)]
pub struct Match(Arc<dyn Fn(&Exchange) -> bool + Send + Sync>);

impl Match {
    pub fn all() -> Self {
        Self::when(|_| true)
    }

    pub fn kind(kind: Kind) -> Self {
        Self::when(move |request| request.kind == kind)
    }

    pub fn sends() -> Self {
        Self::kind(Kind::Send)
    }

    /// Sends into one room.
    pub fn sends_to(room: &str) -> Self {
        let room = room.to_owned();
        Self::when(move |request| request.kind == Kind::Send && request.room.as_deref() == Some(room.as_str()))
    }

    /// Sends whose content has `needle` anywhere.
    pub fn sends_with(needle: &str) -> Self {
        let needle = needle.to_owned();
        Self::when(move |request| request.kind == Kind::Send && request.body.to_string().contains(&needle))
    }

    /// Any other choice; of the exchange, all that is known of a request is filled in.
    pub fn when(predicate: impl Fn(&Exchange) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(predicate))
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Match")
    }
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing: an exception from a wider fault set before.
    Pass,
    /// The homeserver is asked after this long.
    Delay(Duration),
    /// The same, even if the receiver goes away meanwhile: the request is on its way.
    Late(Duration),
    /// The connection is closed, the homeserver not asked.
    Cut,
    /// No answer ever, the homeserver not asked.
    Hang,
    /// This answer, the homeserver not asked.
    Respond(Reply),
    /// The homeserver does it; the connection is closed in place of its answer.
    CutAfter,
    /// The homeserver does it; the connection is closed if that takes longer than this, as by a reverse proxy.
    CutAt(Duration),
    /// The homeserver does it; no answer ever.
    HangAfter,
    /// The homeserver does it; this is answered instead, as by a reverse proxy that lost patience.
    RespondAfter(Reply),
    /// The homeserver does it; its answer waits for the test. See [`super::FaultProxy::hold`].
    Hold(mpsc::UnboundedSender<Held>),
}

/// An answer that is not the homeserver's.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.to_owned() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A Matrix error.
    pub fn error(status: u16, errcode: &str) -> Self {
        let body = json!({ "errcode": errcode, "error": "as the test wants" });
        Self::new(status, "application/json", &body.to_string())
    }

    /// 429 as Synapse sends it.
    pub fn limited(wait: Duration) -> Self {
        let body = json!({
            "errcode": "M_LIMIT_EXCEEDED",
            "error": "Too Many Requests",
            "retry_after_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        });
        let seconds = wait.as_millis().div_ceil(1000);
        Self::new(429, "application/json", &body.to_string()).header("retry-after", &seconds.to_string())
    }

    /// 502 with a page of HTML, as of a reverse proxy whose homeserver is down.
    pub fn bad_gateway() -> Self {
        Self::new(502, "text/html", "<html><head><title>502 Bad Gateway</title></head></html>")
    }

    /// 200 with a page of HTML, as of a captive portal or a wrong virtual host.
    pub fn garbage() -> Self {
        Self::new(200, "text/html", "<html><body>It works!</body></html>")
    }
}

impl Fault {
    /// See [`Reply::error`].
    pub fn error(status: u16, errcode: &str) -> Self {
        Self::Respond(Reply::error(status, errcode))
    }

    /// See [`Reply::limited`].
    pub fn limited(wait: Duration) -> Self {
        Self::Respond(Reply::limited(wait))
    }

    /// See [`Reply::bad_gateway`].
    pub fn bad_gateway() -> Self {
        Self::Respond(Reply::bad_gateway())
    }

    /// See [`Reply::garbage`].
    pub fn garbage() -> Self {
        Self::Respond(Reply::garbage())
    }
}

/// The answers that a test holds back.
#[derive(Debug)]
pub struct HeldAnswers(mpsc::UnboundedReceiver<Held>);

impl HeldAnswers {
    pub(super) fn new(answers: mpsc::UnboundedReceiver<Held>) -> Self {
        Self(answers)
    }

    /// Waits until the homeserver has given the next answer: what it was asked for is done, and the receiver does not
    /// know it.
    ///
    /// # Panics
    /// At the deadline.
    pub async fn next(&mut self, deadline: Duration) -> Held {
        let held = tokio::time::timeout(deadline, self.0.recv()).await;
        held.ok().flatten().unwrap_or_else(|| panic!("no request to hold the answer of within {deadline:?}"))
    }
}

/// One answer that is held back; dropped, it is passed on.
#[derive(Debug)]
pub struct Held {
    /// With the homeserver's status in `upstream`.
    pub exchange: Exchange,
    /// `true`: pass on; `false`: cut.
    verdict: oneshot::Sender<bool>,
}

impl Held {
    pub(super) fn new(exchange: Exchange) -> (Self, oneshot::Receiver<bool>) {
        let (verdict, receiver) = oneshot::channel();
        (Self { exchange, verdict }, receiver)
    }

    /// Passes it on.
    pub fn release(self) {
        let _ = self.verdict.send(true);
    }

    /// Closes the connection in its place.
    pub fn cut(self) {
        let _ = self.verdict.send(false);
    }
}

#[derive(Debug)]
struct Rule {
    requests: Match,
    fault: Fault,
    /// `None`: without end.
    left: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn add(&mut self, requests: Match, fault: Fault, times: Option<usize>) {
        self.0.push(Rule { requests, fault, left: times });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What this request meets; counted.
    pub(super) fn choose(&mut self, request: &Exchange) -> Fault {
        let rule = self.0.iter_mut().rev().find(|rule| rule.left != Some(0) && (rule.requests.0)(request));
        let Some(rule) = rule else { return Fault::Pass };
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        rule.fault.clone()
    }
}
