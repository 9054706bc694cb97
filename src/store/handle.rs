//! The handle of the store.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use sqlx::AnyConnection;
use tokio::sync::watch;

use super::{
    StoreError,
    db::{
        database::Database,
        monitoring::{Commits, Shared, Watching},
        readers::Readers,
        wakes::Wakes,
        writer::{self, WriteContext},
    },
    incidents::met::MetGroups,
    reports::{overview::Overview, stats::Numbers},
};
use crate::{
    clock::Clock,
    model::{RoomAddress, RouteName},
};

/// The handle that all parts share. Reads go to one of two pools, writes to the one writer.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) database: Database,
    /// For webhooks and lanes.
    pub(super) readers: Readers,
    /// For metrics, health, the status page and commands, which must not hold up the others.
    pub(super) monitoring: Readers,
    /// For the lease, which must not wait for anything else.
    pub(super) lease: Readers,
    /// For copying the write-ahead log into the file.
    pub(super) checkpoints: Readers,
    pub(super) numbers: Shared<(), Numbers>,
    pub(super) overview: Shared<Vec<RoomAddress>, Overview>,
    pub(super) commits: Commits,
    pub(super) met: MetGroups,
    pub(super) writer: writer::Handle,
    pub(super) clock: Clock,
    /// Subscribe before polling [`Store::due`], or a wake-up is lost.
    pub(super) wakes: Wakes,
    /// Counts how often the lease was given back.
    pub(super) leases: watch::Sender<u64>,
    /// Counts for each route the commits that left an alert absent.
    pub(super) absences: watch::Sender<BTreeMap<RouteName, u64>>,
    /// The one place for a large card in memory.
    pub(super) large: std::sync::Arc<tokio::sync::Semaphore>,
    /// A number at random, by which this process knows its own notifications.
    pub(super) process: u64,
    /// For how long no process had it open before this one.
    pub(super) away: std::time::Duration,
    /// Ends the tasks that watch other replicas, and the one that copies the log.
    pub(super) watching: Watching,
    /// Keeps a second process out for as long as any handle lives.
    pub(super) lock: std::sync::Arc<std::fs::File>,
}

impl Store {
    /// For how long no process had the store open before this one, at most a minute too long.
    #[must_use]
    pub fn away(&self) -> std::time::Duration {
        self.away
    }

    /// Sees every commit after which the room may be behind.
    #[must_use]
    pub fn wake_ups(&self, room: &RoomAddress) -> watch::Receiver<u64> {
        self.wakes.of(room)
    }

    /// Sees that something new for the room came and is about to be committed.
    #[must_use]
    pub fn coming(&self, room: &RoomAddress) -> watch::Receiver<u64> {
        self.wakes.coming(room)
    }

    /// Something new came for these rooms, and is about to be committed. Lanes of another process, and of another address
    /// of the room, do not learn of it.
    pub fn announce(&self, rooms: &[RoomAddress]) {
        self.wakes.announce(rooms);
    }

    /// Sees, for each route, how many webhooks left an alert absent: a good time to ask Alertmanager why.
    #[must_use]
    pub fn absences(&self) -> watch::Receiver<BTreeMap<RouteName, u64>> {
        self.absences.subscribe()
    }

    /// Runs work that has no result inside the next transaction of the writer.
    pub(in crate::store) async fn write<F>(&self, work: F) -> Result<(), StoreError>
    where
        F: for<'c> FnOnce(&'c mut AnyConnection, &'c mut WriteContext) -> BoxFuture<'c, Result<(), StoreError>>
            + Send
            + 'static,
    {
        self.writer.write(work).await
    }
}

#[cfg(test)]
impl Store {
    /// The newest incident of a group, with its alerts.
    pub(crate) async fn incident_of(
        &self,
        key: &crate::model::IncidentKey,
    ) -> Result<Option<crate::model::Incident>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let sql =
            "SELECT * FROM incident WHERE route = $1 AND receiver = $2 AND group_key = $3 ORDER BY rev DESC LIMIT 1";
        let row = sqlx::query(sql).bind(key.route.as_str()).bind(&key.receiver).bind(&key.group_key);
        let Some(row) = row.fetch_optional(&mut *connection).await? else { return Ok(None) };
        let mut incident = super::db::rows::incident(&row)?;
        incident.alerts = super::db::rows::alerts_of(&mut connection, &incident.id).await?;
        Ok(Some(incident))
    }

    /// Does what another part of the receiver would do.
    pub(crate) async fn run_sql(&self, sql: &'static str) {
        let run = self.write(move |connection, _| {
            Box::pin(async move {
                sqlx::Executor::execute(connection, sqlx::raw_sql(sql)).await?;
                Ok(())
            })
        });
        run.await.expect("committed");
    }
}
