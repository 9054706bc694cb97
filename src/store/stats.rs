//! Numbers for metrics and health, read when they are asked for.

use sqlx::Row as _;

use super::{Store, StoreError};
use crate::model::Timestamp;

/// A card is behind while it is due, and also while the op that will bring it up to date is not acknowledged.
const BEHIND: &str = "SELECT count(*), min(dirty_since) FROM card WHERE dirty_since IS NOT NULL \
     OR id IN (SELECT card FROM op WHERE state IN ('in_flight', 'in_doubt', 'parked'))";
const BEHIND_BY_ROOM: &str = "SELECT room, count(*) FROM card WHERE dirty_since IS NOT NULL \
     OR id IN (SELECT card FROM op WHERE state IN ('in_flight', 'in_doubt', 'parked')) GROUP BY room";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open incidents by route.
    pub incidents_open: Vec<(String, i64)>,
    /// Cards whose room is behind.
    pub waiting: i64,
    /// Unacknowledged ops by state: in_flight, in_doubt, parked, dead.
    pub ops: Vec<(String, i64)>,
    /// The oldest accepted change that a room does not show.
    pub oldest: Option<Timestamp>,
    /// When something was last set aside as a dead letter.
    pub last_dead: Option<Timestamp>,
    /// Cards that are behind, by room address.
    pub waiting_by_room: Vec<(String, i64)>,
}

impl Store {
    /// # Errors
    /// When the store cannot be read.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let pairs = |rows: Vec<sqlx::sqlite::SqliteRow>| -> Result<Vec<(String, i64)>, StoreError> {
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        };
        let incidents_open = sqlx::query("SELECT route, count(*) FROM incident WHERE closed_at IS NULL GROUP BY route")
            .fetch_all(&mut *connection)
            .await?;
        let ops = sqlx::query("SELECT state, count(*) FROM op WHERE state NOT IN ('done', 'refused') GROUP BY state")
            .fetch_all(&mut *connection)
            .await?;
        let (waiting, due): (i64, Option<i64>) = sqlx::query_as(BEHIND).fetch_one(&mut *connection).await?;
        let under_way: Option<i64> =
            sqlx::query_scalar("SELECT min(since) FROM op WHERE state IN ('in_flight', 'in_doubt', 'parked')")
                .fetch_one(&mut *connection)
                .await?;
        let last_dead: Option<i64> =
            sqlx::query_scalar("SELECT max(ended_at) FROM op WHERE state = 'dead'").fetch_one(&mut *connection).await?;
        let by_room = sqlx::query(BEHIND_BY_ROOM).fetch_all(&mut *connection).await?;
        let oldest = [due, under_way].into_iter().flatten().min().map(Timestamp);
        Ok(Stats {
            incidents_open: pairs(incidents_open)?,
            waiting,
            ops: pairs(ops)?,
            oldest,
            last_dead: last_dead.map(Timestamp),
            waiting_by_room: pairs(by_room)?,
        })
    }
}
