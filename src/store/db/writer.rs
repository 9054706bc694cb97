//! The one writer. Jobs that arrive during a commit share the next one: one transaction, one fsync.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use sqlx::{Connection as _, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    error::in_words,
    meta,
    monitoring::Commits,
    repeats::{self, Repeat},
};
use crate::{
    clock::{Clock, Mark},
    health::Health,
    metrics::Metrics,
    store::StoreError,
};

/// How many jobs may be queued. Further callers wait for a slot until [`PATIENCE`] runs out.
const QUEUE: usize = 1_024;
/// How many jobs may share one transaction.
const BATCH: usize = 256;
/// How often an idle writer reports that it is alive and retries a failed commit.
const BEAT: Duration = Duration::from_secs(1);
/// How old the stored clock mark may get while jobs commit, and while the writer is idle. A change of the wall clock by
/// [`MARK_AHEAD`] milliseconds outdates it at once, since the next start may have nothing else to go by.
const MARK_EVERY: Duration = Duration::from_secs(10);
const MARK_IDLE: Duration = Duration::from_mins(1);
const MARK_AHEAD: u64 = 5_000;
/// Two statements at once: each call costs a trip to the database's thread and back. COMMIT releases the savepoint.
const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT job";
const NEXT_JOB: &str = "RELEASE SAVEPOINT job; SAVEPOINT job";
/// How long a caller waits for its commit.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a job uses besides the connection.
pub(crate) struct WriteContext {
    /// The last number given out; see [`WriteContext::next`].
    seq: i64,
    /// Whether some room may be behind once this is committed.
    pub wake: bool,
}

impl WriteContext {
    /// The last number given out.
    pub fn last(&self) -> i64 {
        self.seq
    }

    /// The next number of the store's one counter: revisions and notes are ordered by it.
    pub fn next(&mut self) -> i64 {
        self.seq += 1;
        self.seq
    }
}

/// A piece of work for one transaction.
trait WriteJob: Send {
    /// Does the work. Returns whether it succeeded; if not, it must be undone.
    fn run<'c>(
        &'c mut self,
        connection: &'c mut SqliteConnection,
        context: &'c mut WriteContext,
    ) -> BoxFuture<'c, bool>;

    /// Why it failed.
    fn error(&self) -> Option<String>;

    /// Answers the caller after the commit.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Work<T, F> {
    /// Taken when it is run.
    todo: Option<F>,
    result: Result<T, StoreError>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> WriteJob for Work<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection, &'c mut WriteContext) -> BoxFuture<'c, Result<T, StoreError>> + Send,
{
    fn run<'c>(
        &'c mut self,
        connection: &'c mut SqliteConnection,
        context: &'c mut WriteContext,
    ) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            if let Some(work) = self.todo.take() {
                // One poisoned webhook must not end the writer.
                let done = AssertUnwindSafe(async { work(connection, context).await }).catch_unwind().await;
                self.result = done.unwrap_or_else(|_| {
                    tracing::error!("panic in a store job; its changes are undone");
                    Err(StoreError::Panic)
                });
            }
            self.result.is_ok()
        })
    }

    fn error(&self) -> Option<String> {
        self.result.as_ref().err().map(ToString::to_string)
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        // The caller may have given up; then nobody listens.
        let _ = self.reply.send(committed.and(self.result));
    }
}

enum Message {
    Job(Box<dyn WriteJob>),
    Repeat(Repeat, oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

/// The work that shares a transaction.
#[derive(Default)]
struct Batch {
    jobs: Vec<Box<dyn WriteJob>>,
    repeats: Vec<(Repeat, oneshot::Sender<Result<(), StoreError>>)>,
}

impl Batch {
    fn len(&self) -> usize {
        self.jobs.len() + self.repeats.len()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Handle {
    jobs: mpsc::Sender<Message>,
}

impl Handle {
    /// Runs `work` inside the writer's next transaction and returns once that is committed. Work that fails is undone
    /// alone; the others in the same transaction are not touched.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection, &'c mut WriteContext) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Work { todo: Some(work), result: Err(StoreError::Stopped), reply });
        self.committed(Message::Job(job), answer).await
    }

    /// Returns once the repeat is committed. All repeats of a transaction share a few statements.
    pub async fn repeats(&self, repeats: Repeat) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.committed(Message::Repeat(repeats, reply), answer).await
    }

    async fn committed<T>(
        &self,
        message: Message,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let committed = async {
            self.jobs.send(message).await.map_err(|_| StoreError::Stopped)?;
            answer.await.map_err(|_| StoreError::Stopped)?
        };
        timeout(PATIENCE, committed).await.map_err(|_| StoreError::Late(PATIENCE.as_secs()))?
    }

    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.jobs.send(Message::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

pub(crate) async fn start(
    mut connection: SqliteConnection,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    wake: watch::Sender<u64>,
    commits: Commits,
) -> Result<Handle, StoreError> {
    let seq = meta::read_seq(&mut connection).await?;
    let (jobs, inbox) = mpsc::channel(QUEUE);
    let context = WriteContext { seq, wake: false };
    let writer =
        Writer { connection, context, saved_seq: seq, saved_mark: None, clock, metrics, health, wake, commits };
    // The writer has its own thread and runtime. On the shared runtime it would queue behind webhooks that are being
    // decoded, once for each statement.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| no_thread(&error))?;
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || runtime.block_on(writer.run(inbox)))
        .map_err(|error| no_thread(&error))?;
    Ok(Handle { jobs })
}

fn no_thread(error: &std::io::Error) -> StoreError {
    StoreError::Database(format!("cannot start the writer: {error}"))
}

struct Writer {
    connection: SqliteConnection,
    context: WriteContext,
    saved_seq: i64,
    saved_mark: Option<Mark>,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    wake: watch::Sender<u64>,
    commits: Commits,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut closing = None;
        while closing.is_none() {
            self.beat();
            let Ok(first) = timeout(BEAT, inbox.recv()).await else {
                self.probe_if_failing().await;
                if self.is_mark_older(MARK_IDLE) {
                    self.commit(Batch::default()).await;
                }
                continue;
            };
            let Some(first) = first else { break };
            let mut batch = Batch::default();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Job(job) => batch.jobs.push(job),
                    Message::Repeat(repeats, reply) => batch.repeats.push((repeats, reply)),
                    Message::Close(reply) => closing = Some(reply),
                }
                next = if batch.len() < BATCH { inbox.try_recv().ok() } else { None };
            }
            if batch.len() > 0 {
                self.commit(batch).await;
            }
        }
        self.saved_mark = None;
        self.commit(Batch::default()).await;
        if let Err(error) = self.connection.close().await {
            tracing::warn!(error = in_words(&error), "store did not close cleanly");
        }
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    fn beat(&self) {
        let now = self.clock.now();
        self.health.update(|health| health.writer_beat = Some(now));
    }

    /// Whether the stored mark is older than `age`, or the wall clock has changed since.
    fn is_mark_older(&self, age: Duration) -> bool {
        self.saved_mark.as_ref().is_none_or(|mark| {
            self.clock.now().since(mark.monotonic) >= age
                || self.clock.ahead().abs_diff(mark.wall.ahead_of(mark.monotonic)) >= MARK_AHEAD
        })
    }

    /// Commits nothing after a failure, so that health shows the recovery even if no webhook comes.
    async fn probe_if_failing(&mut self) {
        if self.health.snapshot().store_fault.is_some() {
            self.saved_seq = -1;
            self.commit(Batch::default()).await;
        }
    }

    async fn commit(&mut self, mut batch: Batch) {
        let started = Instant::now();
        let count = batch.len() as u64;
        let mark = self.is_mark_older(MARK_EVERY).then(|| self.clock.mark());
        let outcome = self.transaction(&mut batch, mark.as_ref()).await;
        self.note_outcome(outcome.as_ref().err());
        if outcome.is_ok() {
            self.metrics.store_commit_seconds.observe(started.elapsed().as_secs_f64());
            self.metrics.store_commit_commands.inc_by(count);
            self.saved_seq = self.context.seq;
            self.commits.count();
            self.saved_mark = mark.or(self.saved_mark.take());
            if std::mem::take(&mut self.context.wake) {
                self.wake.send_modify(|commits| *commits += 1);
            }
        }
        for job in batch.jobs {
            job.answer(outcome.clone().map_err(StoreError::Database));
        }
        for (_, reply) in batch.repeats {
            let _ = reply.send(outcome.clone().map_err(StoreError::Database));
        }
    }

    /// Logs a failure once, and its end once.
    fn note_outcome(&self, fault: Option<&String>) {
        let before = self.health.update(|health| std::mem::replace(&mut health.store_fault, fault.cloned()));
        match (before, fault) {
            (None, Some(reason)) => tracing::error!(reason, "the store cannot commit; webhooks are answered 503"),
            (Some(_), None) => tracing::info!("the store commits again"),
            (Some(before), Some(reason)) if before != *reason => tracing::error!(reason, "the store cannot commit"),
            _ => {}
        }
    }

    /// # Errors
    /// In words.
    async fn transaction(&mut self, batch: &mut Batch, mark: Option<&Mark>) -> Result<(), String> {
        let result = match execute(&mut self.connection, BEGIN).await.map_err(|error| in_words(&error)) {
            Ok(()) => self.fill(batch, mark).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.roll_back().await;
        }
        result
    }

    async fn fill(&mut self, batch: &mut Batch, mark: Option<&Mark>) -> Result<(), String> {
        let text = |error: sqlx::Error| in_words(&error);
        let last = batch.jobs.len().saturating_sub(1);
        for (n, job) in batch.jobs.iter_mut().enumerate() {
            if !job.run(&mut self.connection, &mut self.context).await {
                // The savepoint stays, for the next job.
                let undone = execute(&mut self.connection, "ROLLBACK TO SAVEPOINT job").await;
                // After some errors (a full disk) SQLite has undone the whole transaction already. The operator must see
                // that error, not the missing savepoint.
                undone.map_err(|error| job.error().unwrap_or_else(|| in_words(&error)))?;
            } else if n < last {
                execute(&mut self.connection, NEXT_JOB).await.map_err(text)?;
            }
        }
        let repeats: Vec<&Repeat> = batch.repeats.iter().map(|(repeats, _)| repeats).collect();
        repeats::save(&mut self.connection, &repeats).await.map_err(text)?;
        if self.saved_seq != self.context.seq {
            meta::write_seq(&mut self.connection, self.context.seq).await.map_err(text)?;
        }
        if let Some(mark) = mark {
            meta::write_mark(&mut self.connection, mark).await.map_err(text)?;
        }
        execute(&mut self.connection, "COMMIT").await.map_err(text)
    }

    async fn roll_back(&mut self) {
        self.context.wake = false;
        // SQLite rolls back by itself after some errors (a full disk).
        if let Err(error) = execute(&mut self.connection, "ROLLBACK").await {
            tracing::debug!(error = in_words(&error), "nothing to roll back");
        }
    }
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(drop)
}
