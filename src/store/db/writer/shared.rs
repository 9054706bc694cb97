//! The writer's transaction on a database that others write to as well, and that may be away.

use sqlx::AnyConnection;
use tokio::time::timeout;

use super::{Batch, JUMP_SEEN, MARK_AHEAD, MARK_EVERY, TRANSACTION_TIMEOUT, Writer};
use crate::{
    clock::Mark,
    model::Timestamp,
    store::db::{
        database::Begun,
        error::{in_words, is_broken, is_unsure, no_answer},
        meta,
        statement::SqlBuilder,
        wakes::Behind,
    },
};

/// How many bytes of a notification rooms may take; PostgreSQL takes less than 8,000 in all.
const MOST_NOTIFIED: usize = 7_000;

impl Writer {
    /// The same on a database that others write to as well, and that may be away.
    pub(super) async fn shared_transaction(&mut self, batch: &mut Batch) -> Result<(), String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect(|options| options).await.map_err(|error| in_words(&error))?,
        };
        let first = match self.begin_shared(&mut connection).await {
            // Nothing was done in it, so that another connection may do it.
            Err(error) if is_broken(&error) => {
                connection = self.database.connect(|options| options).await.map_err(|error| in_words(&error))?;
                self.begin_shared(&mut connection).await
            }
            first => first,
        };
        let begun = match first {
            Ok(begun) => begun,
            Err(error) => {
                if !is_broken(&error) {
                    self.roll_back(&mut connection).await;
                    self.connection = Some(connection);
                }
                return Err(in_words(&error));
            }
        };
        let mark = self.follow(&begun);
        let token = ulid::Ulid::new().to_string();
        let filled =
            timeout(TRANSACTION_TIMEOUT, self.fill_shared(&mut connection, batch, begun, mark.as_ref(), &token));
        match filled.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                // Whatever ended it, the connection shows by its answer whether it can be used again.
                match timeout(TRANSACTION_TIMEOUT, self.database.roll_back(&mut connection)).await {
                    Ok(Ok(())) => self.connection = Some(connection),
                    _ => self.context.behind = Behind::None,
                }
                self.context.behind = Behind::None;
                return Err(error);
            }
            // The server ends the transaction of a connection that is gone.
            Err(_) => {
                self.context.behind = Behind::None;
                return Err(in_words(&no_answer("answer", TRANSACTION_TIMEOUT)));
            }
        }
        let behind = &self.context.behind;
        let wake = (!behind.is_none()).then(|| format!("{}{}", self.process, behind.as_words(MOST_NOTIFIED)));
        let committed = timeout(TRANSACTION_TIMEOUT, self.database.commit(&mut connection, wake.as_deref())).await;
        match committed.unwrap_or_else(|_| Err(no_answer("commit", TRANSACTION_TIMEOUT))) {
            Ok(()) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(error) if is_unsure(&error) => {
                drop(connection);
                self.look_up(&token, error).await
            }
            Err(error) => {
                self.roll_back(&mut connection).await;
                self.connection = Some(connection);
                Err(in_words(&error))
            }
        }
    }

    async fn begin_shared(&self, connection: &mut AnyConnection) -> Result<Begun, sqlx::Error> {
        let begun = timeout(TRANSACTION_TIMEOUT, self.database.begin(connection)).await;
        begun.unwrap_or_else(|_| Err(no_answer("begin", TRANSACTION_TIMEOUT)))
    }

    /// Finds out whether a commit whose answer was lost took place. The counter's lock waits until it is over.
    async fn look_up(&mut self, token: &str, lost: sqlx::Error) -> Result<(), String> {
        let found = async {
            let mut connection = self.database.connect(|options| options).await?;
            self.database.begin(&mut connection).await?;
            let found = meta::read(&mut connection, &self.token_key).await?;
            // Commits, since that waits for the standby: what is found may be on this server only.
            self.database.commit(&mut connection, None).await?;
            Ok::<_, sqlx::Error>((connection, found))
        };
        match timeout(TRANSACTION_TIMEOUT, found).await {
            Ok(Ok((connection, found))) => {
                self.connection = Some(connection);
                let is_committed = found.as_deref() == Some(token);
                tracing::info!(
                    error = in_words(&lost),
                    committed = is_committed,
                    "answer of a commit was lost, looked up"
                );
                if is_committed { Ok(()) } else { Err(in_words(&lost)) }
            }
            _ => Err(format!("{}; whether it was committed is not known", in_words(&lost))),
        }
    }

    /// Keeps to the store's time, which goes on by the database's clock. A jump of that clock moves no time: then the line
    /// goes on from here, which the mark that is returned says.
    fn follow(&mut self, begun: &Begun) -> Option<Mark> {
        let (wall, mark) = begun.time.as_ref()?;
        let wall = if self.clock.is_manual() { self.clock.wall() } else { *wall };
        let now = self.clock.now();
        let fresh = Mark { monotonic: now, wall, boot: None };
        let Some(mark) = mark else { return Some(fresh) };
        let line = Timestamp(mark.monotonic.0.saturating_add(wall.0.saturating_sub(mark.wall.0)));
        let off = line.ahead_of(now);
        if off.unsigned_abs() < MARK_AHEAD {
            self.off_line = 0;
            self.clock.follow(line);
            let is_old = wall.since(mark.wall) >= MARK_EVERY;
            return is_old.then_some(Mark { monotonic: line, wall, boot: None });
        }
        // The machine may have slept.
        self.clock.catch_up();
        self.off_line += 1;
        if self.off_line < JUMP_SEEN {
            return None;
        }
        self.off_line = 0;
        tracing::warn!(by_s = off / 1_000, "the database's clock was changed");
        Some(fresh)
    }

    async fn fill_shared(
        &mut self,
        connection: &mut AnyConnection,
        batch: &mut Batch,
        begun: Begun,
        mark: Option<&Mark>,
        token: &str,
    ) -> Result<(), String> {
        if let Some(seq) = begun.seq {
            (self.context.seq, self.saved_seq) = (seq, seq);
        }
        self.context.epoch = begun.epoch;
        if self.is_without_room {
            // What it writes anyway fits into pages that are there.
            meta::try_room(connection).await.map_err(|error| in_words(&error))?;
        }
        let last = self.fill(connection, batch, mark).await?;
        SqlBuilder::execute_all(last, connection).await.map_err(|error| in_words(&error))?;
        let wake = (!self.context.behind.is_none()).then_some(self.wake_key.as_str());
        meta::write_token(connection, &self.token_key, token, wake).await.map_err(|error| in_words(&error))
    }
}
