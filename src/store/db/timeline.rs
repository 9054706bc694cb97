//! Resumes the receiver's time at start, where the previous process left it.

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use super::{database::Database, meta};
use crate::store::db::statement;
use crate::{
    clock::{Away, Clock, Mark},
    model::Timestamp,
};

/// Smaller steps are ordinary corrections of the wall clock.
const JUMP: u64 = 5_000;
/// Every column that holds a time of the receiver; none may lie in its future.
const TIMES: &[(&str, &str)] = &[
    ("notification", "at"),
    ("incident", "opened_at"),
    ("incident", "heard_at"),
    ("incident", "closed_at"),
    ("alert", "absent_since"),
    ("alert", "changed_at"),
    ("card", "root_at"),
    ("card", "spoke_at"),
    ("card", "dirty_since"),
    ("note", "at"),
    ("op", "since"),
    ("op", "first_try"),
    ("op", "next_try"),
    ("op", "ended_at"),
    ("room", "held_until"),
];

/// The longest time without a commit that is believed by the database's clock alone.
const MOST_AWAY: Duration = Duration::from_hours(1);

/// A restart or a take-over takes less than this: for as long the database's clock is taken to have gone on as it should, so
/// that ops in flight are repeated under their transaction ids.
const SHORT: Duration = Duration::from_mins(10);

/// Sets `clock` to the time of the store. Returns for how long it was closed, a minute more or less.
pub(crate) async fn resume(
    connection: &mut AnyConnection,
    database: &Database,
    clock: &Clock,
) -> Result<Duration, sqlx::Error> {
    if database.is_shared() {
        return join(connection, database, clock).await;
    }
    let away = match meta::read_mark(connection).await? {
        Some(mark) => go_on(clock, &mark),
        None => adopt(connection, clock).await?,
    };
    tracing::debug!(away_s = away.for_.as_secs(), counted = away.is_sure, "store time resumed");
    Ok(away.for_)
}

/// Takes over the time that replicas have counted by the database's clock.
async fn join(connection: &mut AnyConnection, database: &Database, clock: &Clock) -> Result<Duration, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // Made of literals only.
    let sql = format!("SELECT {}", database.now_sql());
    let wall = statement::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *transaction).await?;
    let wall = if clock.is_manual() { clock.wall() } else { Timestamp(wall) };
    let mark = meta::read_mark(&mut transaction).await?;
    transaction.commit().await?;
    let Some(mark) = mark else {
        clock.join(wall, false);
        return Ok(Duration::ZERO);
    };
    let away = wall.since(mark.wall).min(MOST_AWAY);
    let was_short = (0..=i64::try_from(SHORT.as_millis()).unwrap_or(0)).contains(&wall.ahead_of(mark.wall));
    clock.join(mark.monotonic.plus(away), was_short);
    Ok(away)
}

fn go_on(clock: &Clock, mark: &Mark) -> Away {
    let away = clock.resume(mark);
    let by = clock.ahead() - mark.wall.ahead_of(mark.monotonic);
    // A step ahead cannot be distinguished from downtime that the machine did not count.
    if by.unsigned_abs() >= JUMP && (away.is_sure || by < 0) {
        tracing::warn!(by_s = by / 1_000, "wall clock changed while the receiver was stopped");
    }
    away
}

/// Adopts a store of a version that kept wall-clock times. It was left at the newest time that is not in the future;
/// times in the future, which a wrong clock wrote, become now.
async fn adopt(connection: &mut AnyConnection, clock: &Clock) -> Result<Away, sqlx::Error> {
    let wall = clock.wall();
    let mut newest: Option<i64> = None;
    for sql in
        ["SELECT max(heard_at) FROM incident WHERE heard_at <= $1", "SELECT max(at) FROM notification WHERE at <= $1"]
    {
        newest = newest.max(statement::query_scalar(sql).bind(wall.0).fetch_one(&mut *connection).await?);
    }
    let left = Timestamp(newest.unwrap_or(wall.0));
    let away = clock.resume(&Mark { monotonic: left, wall: left, boot: None });
    let now = clock.now();
    let mut transaction = connection.begin().await?;
    for (table, column) in TIMES {
        // Made of literals only.
        let sql = format!("UPDATE {table} SET {column} = $1 WHERE {column} > $1");
        statement::query(AssertSqlSafe(sql)).bind(now.0).execute(&mut *transaction).await?;
    }
    meta::save_mark(&clock.mark()).build().execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(away)
}
