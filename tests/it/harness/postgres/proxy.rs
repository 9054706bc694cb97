//! A proxy before a PostgreSQL that breaks the network on command, and that sees the statements go by.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use super::wire::{self, Messages, commits};
use crate::harness::{DEADLINE, eventually, free_port};

/// A statement on its way to the server.
#[derive(Debug, Clone)]
pub struct Said {
    pub sql: String,
    /// Whether its transaction has changed anything so far.
    pub writes: bool,
}

/// Which statements are meant.
#[derive(Clone)]
pub struct Statement(Arc<dyn Fn(&Said) -> bool + Send + Sync>);

impl Statement {
    pub fn all() -> Self {
        Self::when(|_| true)
    }

    /// COMMIT of transactions that have written something.
    pub fn commits() -> Self {
        Self::when(|said| said.writes && commits(&said.sql))
    }

    /// Those with this text in them.
    pub fn with(needle: &str) -> Self {
        let needle = needle.to_owned();
        Self::when(move |said| said.sql.contains(&needle))
    }

    pub fn when(predicate: impl Fn(&Said) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(predicate))
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statement")
    }
}

/// What happens to a statement.
#[derive(Debug, Clone)]
pub enum StatementFault {
    /// Nothing: an exception from a wider fault set before.
    Pass,
    /// The server gets it after this long, as if it worked on it all the while.
    Slow(Duration),
    /// The connection is closed, the server not asked.
    Cut,
    /// No answer ever, the server not asked.
    Hang,
    /// The server does it; the connection is closed in place of the end of its answer.
    CutAfter,
    /// The server does it; the end of the answer never comes.
    HangAfter,
    /// The server does it; the end of its answer waits until the test says, and whether the connection is cut then.
    Hold(mpsc::UnboundedSender<HeldAnswer>),
}

/// The end of an answer that is held back; dropped, it is passed on.
#[derive(Debug)]
pub struct HeldAnswer {
    pub said: Said,
    /// `true`: pass on; `false`: cut.
    verdict: oneshot::Sender<bool>,
}

impl HeldAnswer {
    pub fn release(self) {
        let _ = self.verdict.send(true);
    }

    pub fn cut(self) {
        let _ = self.verdict.send(false);
    }
}

#[derive(Debug)]
struct Rule {
    which: Statement,
    fault: StatementFault,
    /// `None`: without end.
    left: Option<usize>,
}

#[derive(Debug)]
struct Shared {
    /// The server's port.
    target: AtomicU16,
    rules: Mutex<Vec<Rule>>,
    /// Whether nothing goes through, in either direction.
    stalled: watch::Sender<bool>,
    said: Mutex<Vec<Said>>,
    /// Commits that the server has carried out and whose answer was not passed on.
    unanswered: AtomicUsize,
}

impl Shared {
    fn choose(&self, said: &Said) -> StatementFault {
        let mut rules = lock(&self.rules);
        let rule = rules.iter_mut().rev().find(|rule| rule.left != Some(0) && (rule.which.0)(said));
        let Some(rule) = rule else { return StatementFault::Pass };
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        rule.fault.clone()
    }
}

/// Point a receiver's database URL at [`PostgresProxy::port`]. Everything passes until a fault is set.
#[derive(Debug)]
pub struct PostgresProxy {
    port: u16,
    shared: Arc<Shared>,
    /// Accepts and owns all connections; `None` while down.
    server: Mutex<Option<JoinHandle<()>>>,
}

impl PostgresProxy {
    /// A proxy to the server on this port of 127.0.0.1.
    pub async fn before(target: u16) -> Self {
        let shared = Shared {
            target: AtomicU16::new(target),
            rules: Mutex::default(),
            stalled: watch::Sender::new(false),
            said: Mutex::default(),
            unanswered: AtomicUsize::new(0),
        };
        let proxy = Self { port: free_port(), shared: Arc::new(shared), server: Mutex::new(None) };
        proxy.up().await;
        proxy
    }

    /// Of 127.0.0.1; see [`super::Database::url_at`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go to this server from now on, as a virtual address moves to another machine. What is open stays.
    pub fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::Relaxed);
    }

    /// From now on these statements meet this fault. Of several that match, the one set last acts.
    pub fn fault(&self, which: Statement, fault: StatementFault) {
        lock(&self.shared.rules).push(Rule { which, fault, left: None });
    }

    /// The next `times` of these statements meet this fault, then things are as before.
    pub fn fault_times(&self, times: usize, which: Statement, fault: StatementFault) {
        lock(&self.shared.rules).push(Rule { which, fault, left: Some(times) });
    }

    /// Holds the ends of the answers to these statements back, after the server has carried them out.
    pub fn hold(&self, which: Statement) -> mpsc::UnboundedReceiver<HeldAnswer> {
        let (sender, answers) = mpsc::unbounded_channel();
        self.fault(which, StatementFault::Hold(sender));
        answers
    }

    /// Nothing goes through any more, as of a network that loses packets; connections are accepted and stay open.
    pub fn stall(&self) {
        self.shared.stalled.send_replace(true);
    }

    /// Takes all faults away. What was stalled goes on late; what hangs goes on hanging.
    pub fn heal(&self) {
        lock(&self.shared.rules).clear();
        self.shared.stalled.send_replace(false);
    }

    /// Closes the listener and every connection: from now on connections are refused.
    pub async fn down(&self) {
        let server = lock(&self.server).take();
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
        let bind = async || TcpListener::bind(address).await.ok();
        let listener = eventually("the proxy's port is free", DEADLINE, bind).await;
        let server = tokio::spawn(accept_all(listener, Arc::clone(&self.shared)));
        assert!(lock(&self.server).replace(server).is_none(), "the proxy is up already");
    }

    /// Closes every connection; new ones are accepted at once.
    pub async fn cut_all(&self) {
        self.down().await;
        self.up().await;
    }

    /// The statements so far, in the order they came.
    pub fn said(&self) -> Vec<Said> {
        lock(&self.shared.said).clone()
    }

    /// Forgets the statements so far, so that a test counts from here.
    pub fn forget(&self) {
        lock(&self.shared.said).clear();
    }

    /// How many transactions the server has committed without the client ever getting the answer.
    pub fn unanswered_commits(&self) -> usize {
        self.shared.unanswered.load(Ordering::Relaxed)
    }
}

impl Drop for PostgresProxy {
    fn drop(&mut self) {
        if let Some(server) = self.server.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            server.abort();
        }
    }
}

/// Serves until it is dropped, and all its connections with it.
async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // `None` is a connection that ended.
                    let _ = serve(stream, &shared).await;
                });
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

/// What becomes of the answer that is under way.
#[derive(Debug)]
enum Ending {
    Pass,
    Cut,
    Hang,
    Ask(Said, mpsc::UnboundedSender<HeldAnswer>),
}

async fn serve(client: TcpStream, shared: &Shared) -> Option<()> {
    flowing(shared).await;
    let server = TcpStream::connect(("127.0.0.1", shared.target.load(Ordering::Relaxed))).await.ok()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok()?;
    }
    let ((from_client, mut to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    let (mut from_client, mut from_server) = (Messages::new(from_client), Messages::new(from_server));
    wire::greet(&mut from_client, &mut to_client, &mut from_server, &mut to_server).await?;
    let mut connection = wire::Said::default();
    let mut ending = Ending::Pass;
    loop {
        tokio::select! {
            message = from_client.next() => {
                let message = message?;
                flowing(shared).await;
                if let Some((sql, writes)) = connection.executed_by(&message) {
                    let said = Said { sql, writes };
                    lock(&shared.said).push(said.clone());
                    match shared.choose(&said) {
                        StatementFault::Pass => {}
                        StatementFault::Slow(wait) => tokio::time::sleep(wait).await,
                        StatementFault::Cut => return None,
                        StatementFault::Hang => std::future::pending().await,
                        StatementFault::CutAfter => ending = Ending::Cut,
                        StatementFault::HangAfter => ending = Ending::Hang,
                        StatementFault::Hold(holder) => ending = Ending::Ask(said, holder),
                    }
                }
                wire::write(&mut to_server, &message).await.ok()?;
            }
            message = from_server.next() => {
                let message = message?;
                flowing(shared).await;
                if matches!(ending, Ending::Pass) {
                    wire::write(&mut to_client, &message).await.ok()?;
                    continue;
                }
                // All of an answer is withheld, or none of it.
                let answer = rest_of(message, &mut from_server).await?;
                end(std::mem::replace(&mut ending, Ending::Pass), &answer, shared).await?;
                for message in answer {
                    wire::write(&mut to_client, &message).await.ok()?;
                }
            }
        }
    }
}

/// The messages up to the end of an answer.
async fn rest_of(first: Vec<u8>, server: &mut Messages) -> Option<Vec<Vec<u8>>> {
    let mut answer = vec![first];
    while !answer.last().is_some_and(|message| wire::ends_answer(message)) {
        answer.push(server.next().await?);
    }
    Some(answer)
}

/// `None` where the connection is to be cut.
async fn end(ending: Ending, answer: &[Vec<u8>], shared: &Shared) -> Option<()> {
    let pass = match ending {
        Ending::Pass => true,
        Ending::Cut => false,
        Ending::Hang => {
            count(answer, shared);
            std::future::pending().await
        }
        Ending::Ask(said, holder) => {
            let (verdict, decided) = oneshot::channel();
            let _ = holder.send(HeldAnswer { said, verdict });
            // A test that dropped it does not care any more: pass it on.
            decided.await.unwrap_or(true)
        }
    };
    if !pass {
        count(answer, shared);
    }
    pass.then_some(())
}

fn count(answer: &[Vec<u8>], shared: &Shared) {
    if answer.iter().any(|message| wire::says_committed(message)) {
        shared.unanswered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits while nothing goes through.
async fn flowing(shared: &Shared) {
    let _ = shared.stalled.subscribe().wait_for(|stalled| !stalled).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
