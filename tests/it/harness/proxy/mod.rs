//! A proxy before the homeserver that breaks the network on command and keeps a record of what went through.

mod exchange;
mod fault;
mod serve;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use self::{exchange::Record, fault::Rules, serve::accept_all};
pub use self::{
    exchange::{Exchange, Kind, Outcome},
    fault::{Fault, Held, HeldAnswers, Match, Reply},
};
use super::{DEADLINE, eventually, free_port};

/// What the connections share.
#[derive(Debug)]
struct Shared {
    /// The homeserver's URL.
    target: String,
    rules: Mutex<Rules>,
    record: Record,
}

/// Point the receiver's homeserver URL at [`FaultProxy::url`]. Everything passes until a fault is set.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    /// Accepts and owns all connections; `None` while down.
    server: Mutex<Option<JoinHandle<()>>>,
}

impl FaultProxy {
    /// A proxy to `target`, a homeserver's URL.
    pub async fn start(target: &str) -> Self {
        let shared = Shared { target: target.to_owned(), rules: Mutex::default(), record: Record::default() };
        let proxy = Self { port: free_port(), shared: Arc::new(shared), server: Mutex::new(None) };
        proxy.up().await;
        proxy
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on these requests meet this fault. Of several that match, the one set last acts.
    pub fn fault(&self, requests: Match, fault: Fault) {
        self.rules().add(requests, fault, None);
    }

    /// The next `times` of these requests meet this fault, then things are as before.
    pub fn fault_times(&self, times: usize, requests: Match, fault: Fault) {
        self.rules().add(requests, fault, Some(times));
    }

    /// Holds the answers to these requests back, after the homeserver has given them.
    pub fn hold(&self, requests: Match) -> HeldAnswers {
        let (sender, answers) = mpsc::unbounded_channel();
        self.fault(requests, Fault::Hold(sender));
        HeldAnswers::new(answers)
    }

    /// Takes all faults away. What already hangs goes on hanging; what is held stays held.
    pub fn heal(&self) {
        self.rules().clear();
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the listener and every connection: from now on connections are refused.
    pub async fn down(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.abort();
            // Its connections are closed once it is dropped, not before.
            let _ = server.await;
        }
    }

    /// Listens again on the same port.
    pub async fn up(&self) {
        let address = ("127.0.0.1", self.port);
        // A child that another test starts holds all sockets of this process until it has become another program.
        let bind = async || tokio::net::TcpListener::bind(address).await.ok();
        let listener = eventually("the proxy's port is free", DEADLINE, bind).await;
        let server = tokio::spawn(accept_all(listener, self.shared.clone()));
        let before = self.server.lock().unwrap_or_else(PoisonError::into_inner).replace(server);
        assert!(before.is_none(), "the proxy is up already");
    }

    /// All requests so far, in the order they came.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.record.all()
    }

    /// The requests of one kind so far.
    pub fn seen(&self, kind: Kind) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.kind == kind).collect()
    }

    /// How many sends have come, and how many of them got an answer of the homeserver's back to the receiver.
    pub fn sends(&self) -> (usize, usize) {
        let sends = self.seen(Kind::Send);
        let answered = sends.iter().filter(|send| send.was_passed_on()).count();
        (sends.len(), answered)
    }

    /// The most requests of one kind that were under way at the same time.
    pub fn most_at_once(&self, kind: Kind) -> usize {
        let seen = self.seen(kind);
        let at_once = |moment| seen.iter().filter(|one| one.under_way_at(moment)).count();
        seen.iter().map(|one| at_once(one.began)).max().unwrap_or_default()
    }

    /// Forgets the requests so far, so that a test counts from here.
    pub fn forget(&self) {
        self.shared.record.forget();
    }

    /// Waits for a request like this.
    pub async fn wait_for(&self, what: &str, deadline: Duration, wanted: impl Fn(&Exchange) -> bool) -> Exchange {
        eventually(what, deadline, async || self.exchanges().into_iter().find(|exchange| wanted(exchange))).await
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(server) = self.server.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            server.abort();
        }
    }
}
