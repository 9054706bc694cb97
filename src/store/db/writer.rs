//! The one writer. Jobs that arrive during a commit share the next one: one transaction, one fsync.

mod job;
mod shared;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sqlx::{AnyConnection, Connection as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub(crate) use self::job::WriteContext;
use self::job::{Batch, Message, Work};
use super::{
    checkpoints::{CHECKPOINT, WriteAheadLog},
    database::{Database, UndoPlace},
    error::{concerns_all, in_words, is_without_room},
    meta,
    monitoring::Commits,
    openings::{self, Opening},
    repeats::{self, Repeat},
    statement::{self, SqlBuilder},
    wakes::{Behind, Wakes},
};
use crate::{
    clock::{Clock, Mark},
    health::Health,
    metrics::Metrics,
    model::Epoch,
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
/// How many transactions in a row must find the time of the store far from the clock before the line goes on from there.
const JUMP_SEEN: u32 = 3;
/// How long a transaction may take where the database is another machine's, which may fall silent.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for its commit.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Handle {
    jobs: mpsc::Sender<Message>,
    fence: Option<Epoch>,
}

impl Handle {
    /// A handle whose work fails with [`StoreError::NotLeader`] once another epoch leads.
    pub fn fenced(&self, epoch: Epoch) -> Self {
        Self { jobs: self.jobs.clone(), fence: Some(epoch) }
    }

    /// Runs `work` inside the writer's next transaction and returns once that is committed. Work that fails is undone
    /// alone; the others in the same transaction are not touched.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection, &'c mut WriteContext) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.run(work, false).await
    }

    /// The same for work that may change tens of megabytes.
    pub async fn write_large<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection, &'c mut WriteContext) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.run(work, true).await
    }

    async fn run<T, F>(&self, work: F, is_large: bool) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection, &'c mut WriteContext) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let fence = self.fence.clone();
        let job = Work { todo: Some(work), fence, is_large, result: Err(StoreError::Stopped), reply };
        self.committed(Message::Job(Box::new(job)), answer).await
    }

    /// Returns once the repeat is committed. All repeats of a transaction share a few statements.
    pub async fn repeats(&self, repeats: Repeat) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.committed(Message::Repeat(repeats, reply), answer).await
    }

    /// Returns once the opening is committed, or `false` if it has to be written as other work is: alone, and by what is
    /// known of its group.
    pub async fn open(&self, opening: Opening) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.committed(Message::Opening(Box::new(opening), reply), answer).await
    }

    /// How many pieces of work wait.
    #[cfg(test)]
    pub fn queued(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
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

/// What the writer works with.
pub(crate) struct Parts {
    pub database: Database,
    pub connection: AnyConnection,
    /// The name under which it leaves its marks.
    pub replica: String,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub wakes: Wakes,
    pub commits: Commits,
    pub log: WriteAheadLog,
    /// By which this process knows its own notifications.
    pub process: u64,
}

pub(crate) async fn start(mut parts: Parts) -> Result<Handle, StoreError> {
    let seq = meta::read_seq(&mut parts.connection).await?;
    let (jobs, inbox) = mpsc::channel(QUEUE);
    let context = WriteContext { seq, behind: Behind::None, epoch: None };
    let Parts { database, connection, replica, clock, metrics, health, wakes, commits, log, process } = parts;
    let writer = Writer {
        database,
        connection: Some(connection),
        token_key: meta::token_key(&replica),
        wake_key: meta::wake_key(&replica),
        context,
        undo: UndoPlace::Memory,
        saved_seq: seq,
        saved_mark: None,
        is_without_room: false,
        off_line: 0,
        clock,
        metrics,
        health,
        wakes,
        commits,
        log,
        process,
    };
    // The writer has its own thread and runtime. On the shared runtime it would queue behind webhooks that are being
    // decoded, once for each statement.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .enable_io()
        .build()
        .map_err(|error| no_thread(&error))?;
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || runtime.block_on(writer.run(inbox)))
        .map_err(|error| no_thread(&error))?;
    Ok(Handle { jobs, fence: None })
}

fn no_thread(error: &std::io::Error) -> StoreError {
    StoreError::Database(format!("cannot start the writer: {error}"))
}

struct Writer {
    database: Database,
    /// `None` after a fault that it did not survive.
    connection: Option<AnyConnection>,
    token_key: String,
    wake_key: String,
    context: WriteContext,
    /// Where SQLite keeps what may be undone.
    undo: UndoPlace,
    saved_seq: i64,
    saved_mark: Option<Mark>,
    /// Whether PostgreSQL had no room for the last transaction.
    is_without_room: bool,
    /// How many transactions in a row found the time of the store far from the clock.
    off_line: u32,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    wakes: Wakes,
    commits: Commits,
    log: WriteAheadLog,
    process: u64,
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
                closing = batch.add(message).or(closing);
                next = if batch.len() < BATCH { inbox.try_recv().ok() } else { None };
            }
            if batch.len() > 0 {
                self.commit(batch).await;
            }
        }
        self.saved_mark = None;
        self.commit(Batch::default()).await;
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
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
        self.is_without_room = self.database.is_shared() && outcome.as_ref().is_err_and(|error| is_without_room(error));
        self.note_outcome(outcome.as_ref().err());
        if outcome.is_ok() {
            self.metrics.store_commit_seconds.observe(started.elapsed().as_secs_f64());
            self.metrics.store_commit_commands.inc_by(count);
            self.saved_seq = self.context.seq;
            self.commits.count();
            self.log.grow(batch.pages());
            self.saved_mark = mark.or(self.saved_mark.take());
            self.wakes.wake(&std::mem::take(&mut self.context.behind));
        }
        batch.answer(&outcome);
        self.begin_log_again().await;
    }

    /// Copies the end of the write-ahead log into the file if the rest is copied, so that the next transaction begins it
    /// again. Nobody has to wait for an answer meanwhile.
    async fn begin_log_again(&mut self) {
        if self.log.take_long()
            && let Some(connection) = &mut self.connection
            && let Err(error) = statement::query(CHECKPOINT).execute(connection).await
        {
            tracing::debug!(error = in_words(&error), "checkpoint failed");
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
        if self.database.is_shared() {
            return self.shared_transaction(batch).await;
        }
        let Some(mut connection) = self.connection.take() else { return Err("the store has stopped".to_owned()) };
        let only_repeats = batch.jobs.is_empty() && batch.openings.is_empty() && mark.is_none();
        let result = if only_repeats && self.saved_seq == self.context.seq {
            let all = self.database.commit_all(&mut connection, repeats::save(&batch.repeats));
            all.await.map_err(|error| in_words(&error))
        } else {
            self.in_steps(&mut connection, batch, mark).await
        };
        if result.is_err() {
            self.roll_back(&mut connection).await;
        }
        self.connection = Some(connection);
        result
    }

    async fn in_steps(
        &mut self,
        connection: &mut AnyConnection,
        batch: &mut Batch,
        mark: Option<&Mark>,
    ) -> Result<(), String> {
        self.begin(connection, batch).await.map_err(|error| in_words(&error))?;
        let last = self.fill(connection, batch, mark).await?;
        self.database.commit_after(connection, last).await.map_err(|error| in_words(&error))
    }

    async fn begin(&mut self, connection: &mut AnyConnection, batch: &Batch) -> Result<(), sqlx::Error> {
        let undo = batch.undo_place();
        if self.undo != undo {
            self.database.keep_undo_in(undo, connection).await?;
            self.undo = undo;
        }
        if batch.openings.is_empty() {
            self.database.begin(connection).await.map(drop)
        } else {
            self.database.begin_with_openings(connection).await
        }
    }

    /// Runs all jobs, and returns the statements that are left.
    async fn fill(
        &mut self,
        connection: &mut AnyConnection,
        batch: &mut Batch,
        mark: Option<&Mark>,
    ) -> Result<Vec<SqlBuilder>, String> {
        let text = |error: sqlx::Error| in_words(&error);
        self.open(connection, batch).await?;
        let last = batch.jobs.len().saturating_sub(1);
        for (n, job) in batch.jobs.iter_mut().enumerate() {
            if job.fence().is_some_and(|fence| self.context.epoch.as_deref() != Some(fence.as_str())) {
                job.refuse(StoreError::NotLeader);
                continue;
            }
            if !job.run(connection, &mut self.context).await {
                self.undo(connection, job.error()).await?;
            } else if n < last {
                self.database.next_job(connection).await.map_err(text)?;
            }
        }
        let mut last = repeats::save(&batch.repeats);
        if self.saved_seq != self.context.seq {
            last.push(meta::save_seq(self.context.seq));
        }
        last.extend(mark.map(meta::save_mark));
        Ok(last)
    }

    /// Writes the openings, as one job. If they cannot be written together, each is tried by itself later.
    async fn open(&mut self, connection: &mut AnyConnection, batch: &mut Batch) -> Result<(), String> {
        if batch.openings.is_empty() {
            return Ok(());
        }
        let openings: Vec<&Opening> = batch.openings.iter().collect();
        match openings::save(connection, &openings, || self.context.next()).await {
            Ok(opened) => {
                let written = openings.iter().zip(&opened).filter(|(_, opened)| **opened);
                for (_, room) in written.filter_map(|(opening, _)| opening.card.as_ref()) {
                    self.context.behind.add(room.as_str());
                }
                batch.opened = opened;
                if !batch.jobs.is_empty() {
                    self.database.first_job(connection).await.map_err(|error| in_words(&error))?;
                }
                Ok(())
            }
            Err(error) => {
                tracing::debug!(error = in_words(&error), "openings failed together, each goes on alone");
                let undone = self.database.undo_openings(connection).await;
                rest_after(Some(in_words(&error)), undone)
            }
        }
    }

    /// Undoes a job that failed. Its savepoint stays, for the next job.
    ///
    /// # Errors
    /// When the whole transaction has failed.
    async fn undo(&mut self, connection: &mut AnyConnection, error: Option<String>) -> Result<(), String> {
        rest_after(error, self.database.undo_job(connection).await)
    }

    async fn roll_back(&mut self, connection: &mut AnyConnection) {
        self.context.behind = Behind::None;
        // SQLite rolls back by itself after some errors (a full disk).
        if let Err(error) = self.database.roll_back(connection).await {
            tracing::debug!(error = in_words(&error), "nothing to roll back");
        }
    }
}

/// What the failure of one piece of work, which was undone, means for the rest of its transaction.
///
/// # Errors
/// When all of it has failed.
fn rest_after(error: Option<String>, undone: Result<(), sqlx::Error>) -> Result<(), String> {
    // After some errors (a full disk) SQLite has undone the whole transaction already. The operator must see that error, not
    // the missing savepoint.
    undone.map_err(|missing| error.clone().unwrap_or_else(|| in_words(&missing)))?;
    // PostgreSQL undoes one statement also then; but what one webhook finds, all will.
    error.filter(|error| concerns_all(error)).map_or(Ok(()), Err)
}
