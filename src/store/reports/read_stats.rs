//! Reads the numbers for metrics and health when they are asked for.

use sqlx::{Connection as _, Row as _};

use super::stats::{Numbers, Ops, Stats, of_rooms};
use crate::store::db::statement;
use crate::{
    model::{OpState, RoomAddress},
    store::{Store, StoreError, db::readers::Readers},
};

/// Each question is answered by an index that has only what is open, due or unfinished. A card is behind while it is due,
/// and also while the op that will bring it up to date is not acknowledged.
const OPEN: &str = "SELECT route, count(*) FROM incident WHERE closed_at IS NULL GROUP BY route";
const DUE: &str = "SELECT room, count(*), min(dirty_since) FROM card WHERE dirty_since IS NOT NULL GROUP BY room";
const UNDER_WAY: &str = "SELECT room, count(*) FROM (\
       SELECT DISTINCT op.card AS card, op.room AS room FROM op \
       WHERE op.state IN ('in_flight', 'in_doubt', 'parked') AND op.state NOT IN ('done', 'refused')\
     ) AS live WHERE EXISTS (SELECT 1 FROM card WHERE card.id = live.card AND card.dirty_since IS NULL) GROUP BY room";
const OPS: &str = "SELECT room, state, count(*), min(since), max(ended_at) FROM op \
     WHERE state NOT IN ('done', 'refused') GROUP BY room, state";

impl Store {
    /// The numbers of these rooms, as they were a second ago or later. What waits for a room that the config no longer
    /// names is a last edit, and nobody's backlog.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stats(&self, rooms: &[RoomAddress]) -> Result<Stats, StoreError> {
        let monitoring = self.monitoring.clone();
        let numbers = self.numbers.get((), &self.commits, async move { read(&monitoring).await }).await?;
        Ok(of_rooms(&numbers, rooms))
    }
}

async fn read(monitoring: &Readers) -> Result<Numbers, StoreError> {
    let mut connection = monitoring.acquire().await?;
    // One transaction, so that all of it is of one instant.
    let mut transaction = connection.begin().await?;
    let mut numbers = Numbers::default();
    for row in &statement::query(OPEN).fetch_all(&mut *transaction).await? {
        numbers.open.push((row.try_get(0)?, row.try_get(1)?));
    }
    for row in &statement::query(DUE).fetch_all(&mut *transaction).await? {
        numbers.behind.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    for row in &statement::query(UNDER_WAY).fetch_all(&mut *transaction).await? {
        numbers.behind.push((row.try_get(0)?, row.try_get(1)?, None));
    }
    for row in &statement::query(OPS).fetch_all(&mut *transaction).await? {
        let Some(state) = OpState::parse(row.try_get(1)?) else { continue };
        let (room, count, since, ended) = (row.try_get(0)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        numbers.ops.push(Ops { room, state, count, since, ended });
    }
    transaction.commit().await?;
    Ok(numbers)
}
