//! The store's time at start: goes on where the process before left it.

use sqlx::{Connection as _, SqliteConnection};

use super::meta;
use crate::{
    clock::{Away, Clock, Mark},
    model::Timestamp,
};

/// What a machine's own keeping of the time corrects at once is less.
const JUMP: u64 = 5_000;
/// Where the store keeps times of its own line, which none of them may be ahead of.
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

/// Sets `clock` to the store's time.
pub(crate) async fn resume(connection: &mut SqliteConnection, clock: &Clock) -> Result<(), sqlx::Error> {
    let away = match meta::read_mark(connection).await? {
        Some(mark) => go_on(clock, &mark),
        None => adopt(connection, clock).await?,
    };
    tracing::debug!(away_s = away.for_.as_secs(), counted = away.is_sure, "the store's time goes on");
    Ok(())
}

fn go_on(clock: &Clock, mark: &Mark) -> Away {
    let away = clock.resume(mark);
    let by = clock.ahead() - mark.wall.ahead_of(mark.monotonic);
    // How far it was set ahead cannot be known of a time that nobody counted.
    if by.unsigned_abs() >= JUMP && (away.is_sure || by < 0) {
        tracing::warn!(
            by_s = by / 1_000,
            "the wall clock was set while the receiver did not run; nothing is closed, forgotten or waited for by it"
        );
    }
    away
}

/// A store of before the receiver had a time of its own: what it holds are times of the wall clock. The newest that has
/// come by now is where it was left, and what lies ahead (a clock that was once wrong wrote it) is from just now.
async fn adopt(connection: &mut SqliteConnection, clock: &Clock) -> Result<Away, sqlx::Error> {
    let wall = clock.wall();
    let mut newest: Option<i64> = None;
    for sql in
        ["SELECT max(heard_at) FROM incident WHERE heard_at <= $1", "SELECT max(at) FROM notification WHERE at <= $1"]
    {
        newest = newest.max(sqlx::query_scalar(sql).bind(wall.0).fetch_one(&mut *connection).await?);
    }
    let left = Timestamp(newest.unwrap_or(wall.0));
    let away = clock.resume(&Mark { monotonic: left, wall: left, boot: None });
    let now = clock.now();
    let mut transaction = connection.begin().await?;
    for (table, column) in TIMES {
        // Made of literals only.
        let sql = format!("UPDATE {table} SET {column} = $1 WHERE {column} > $1");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now.0).execute(&mut *transaction).await?;
    }
    meta::write_mark(&mut transaction, &clock.mark()).await?;
    transaction.commit().await?;
    Ok(away)
}
