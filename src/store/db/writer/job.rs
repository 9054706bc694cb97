//! The writer's work, and what shares a transaction.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt as _, future::BoxFuture};
use sqlx::AnyConnection;
use tokio::sync::oneshot;

use crate::{
    model::Epoch,
    store::{
        StoreError,
        db::{database::UndoPlace, openings::Opening, repeats::Repeat, rows::AlertRow, wakes::Behind},
    },
};

/// What a job uses besides the connection.
pub(crate) struct WriteContext {
    /// The last number given out; see [`WriteContext::next`].
    pub(super) seq: i64,
    /// Rooms that may be behind once this is committed.
    pub behind: Behind,
    /// The epoch of whoever leads or led last, as the transaction sees it.
    pub epoch: Option<String>,
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
pub(super) trait WriteJob: Send {
    /// Does the work. Returns whether it succeeded; if not, it must be undone.
    fn run<'c>(&'c mut self, connection: &'c mut AnyConnection, context: &'c mut WriteContext) -> BoxFuture<'c, bool>;

    /// Lets it fail before it is run.
    fn refuse(&mut self, error: StoreError);

    /// The only epoch in which it may commit, if it is work of whoever leads.
    fn fence(&self) -> Option<&Epoch>;

    /// Whether it changes more pages than memory should hold a second time.
    fn is_large(&self) -> bool;

    /// Why it failed.
    fn error(&self) -> Option<String>;

    /// Answers the caller after the commit.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(super) struct Work<T, F> {
    /// Taken when it is run.
    pub todo: Option<F>,
    pub fence: Option<Epoch>,
    pub is_large: bool,
    pub result: Result<T, StoreError>,
    pub reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> WriteJob for Work<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut AnyConnection, &'c mut WriteContext) -> BoxFuture<'c, Result<T, StoreError>> + Send,
{
    fn run<'c>(&'c mut self, connection: &'c mut AnyConnection, context: &'c mut WriteContext) -> BoxFuture<'c, bool> {
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

    fn refuse(&mut self, error: StoreError) {
        self.todo = None;
        self.result = Err(error);
    }

    fn fence(&self) -> Option<&Epoch> {
        self.fence.as_ref()
    }

    fn is_large(&self) -> bool {
        self.is_large
    }

    fn error(&self) -> Option<String> {
        self.result.as_ref().err().map(ToString::to_string)
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        // The caller may have given up; then nobody listens.
        let _ = self.reply.send(committed.and(self.result));
    }
}

pub(super) enum Message {
    Job(Box<dyn WriteJob>),
    Opening(Box<Opening>, oneshot::Sender<Result<bool, StoreError>>),
    Repeat(Repeat, oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

/// The work that shares a transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub jobs: Vec<Box<dyn WriteJob>>,
    pub openings: Vec<Opening>,
    /// Whether each of `openings` was written; empty until then.
    pub opened: Vec<bool>,
    pub repeats: Vec<Repeat>,
    opening: Vec<oneshot::Sender<Result<bool, StoreError>>>,
    repeating: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Batch {
    /// Gives back whom to answer once the writer has stopped, if that is what the message asks for.
    pub fn add(&mut self, message: Message) -> Option<oneshot::Sender<()>> {
        match message {
            Message::Job(job) => self.jobs.push(job),
            Message::Opening(opening, reply) => {
                self.openings.push(*opening);
                self.opening.push(reply);
            }
            Message::Repeat(repeat, reply) => {
                self.repeats.push(repeat);
                self.repeating.push(reply);
            }
            Message::Close(reply) => return Some(reply),
        }
        None
    }

    pub fn len(&self) -> usize {
        self.jobs.len() + self.openings.len() + self.repeats.len()
    }

    /// About how many pages it changes.
    pub fn pages(&self) -> usize {
        const PAGE: usize = 4_096;
        // What else there is of a notification goes into rows and indexes.
        let opening = |opening: &Opening| {
            let alerts = opening.alerts.iter().map(AlertRow::size).sum::<usize>();
            5 + (opening.body.len() + alerts) / PAGE
        };
        let jobs: usize = self.jobs.iter().map(|job| if job.is_large() { 1_024 } else { 8 }).sum();
        2 + self.openings.iter().map(opening).sum::<usize>() + jobs + self.repeats.len()
    }

    pub fn undo_place(&self) -> UndoPlace {
        if self.jobs.iter().any(|job| job.is_large()) { UndoPlace::File } else { UndoPlace::Memory }
    }

    /// Answers all callers after the commit.
    pub fn answer(self, committed: &Result<(), String>) {
        let committed = || committed.clone().map_err(StoreError::Database);
        for job in self.jobs {
            job.answer(committed());
        }
        // Before the answers: whoever is answered that it was not written takes its body back.
        drop(self.openings);
        for (n, reply) in self.opening.into_iter().enumerate() {
            // The caller may have given up; then nobody listens.
            let _ = reply.send(committed().map(|()| self.opened.get(n).is_some_and(|written| *written)));
        }
        for reply in self.repeating {
            let _ = reply.send(committed());
        }
    }
}
