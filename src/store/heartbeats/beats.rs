//! What a notification says of dead man's switches, inside its own transaction.

use sqlx::AnyConnection;

use crate::store::db::statement;
use crate::{
    model::{Beat, Timestamp},
    store::{StoreError, db::json::to_json},
};

/// Switches of one heartbeat: their labels come from alerts, and nothing that others send may grow without bound.
const SWITCHES: i64 = 200;

/// Notes beats, and alerts that are over. Returns how many switches were not armed because there are too many.
pub(in crate::store) async fn save(
    connection: &mut AnyConnection,
    beats: &[Beat],
    now: Timestamp,
) -> Result<usize, StoreError> {
    let mut unarmed = 0;
    for beat in beats {
        if !beat.firing {
            is_over(connection, beat, now).await?;
        } else if !beats_again(connection, beat, now).await? && !arm(connection, beat, now).await? {
            unarmed += 1;
        }
    }
    Ok(unarmed)
}

/// The first word of it counts, until a beat comes.
async fn is_over(connection: &mut AnyConnection, beat: &Beat, now: Timestamp) -> Result<(), StoreError> {
    statement::query(
        "UPDATE heartbeat SET resolved_at = coalesce(resolved_at, $4) WHERE route = $1 AND name = $2 AND labels = $3",
    )
    .bind(beat.key.route.as_str())
    .bind(&beat.key.name)
    .bind(to_json(&beat.key.labels)?)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

async fn beats_again(connection: &mut AnyConnection, beat: &Beat, now: Timestamp) -> Result<bool, StoreError> {
    let updated = statement::query(
        "UPDATE heartbeat SET beat_at = $4, graced_at = NULL, resolved_at = NULL \
         WHERE route = $1 AND name = $2 AND labels = $3",
    )
    .bind(beat.key.route.as_str())
    .bind(&beat.key.name)
    .bind(to_json(&beat.key.labels)?)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(updated.rows_affected() > 0)
}

async fn arm(connection: &mut AnyConnection, beat: &Beat, now: Timestamp) -> Result<bool, StoreError> {
    let known: i64 = statement::query_scalar("SELECT count(*) FROM heartbeat WHERE route = $1 AND name = $2")
        .bind(beat.key.route.as_str())
        .bind(&beat.key.name)
        .fetch_one(&mut *connection)
        .await?;
    if known >= SWITCHES {
        return Ok(false);
    }
    statement::query("INSERT INTO heartbeat (route, name, labels, armed_at, beat_at) VALUES ($1, $2, $3, $4, $4)")
        .bind(beat.key.route.as_str())
        .bind(&beat.key.name)
        .bind(to_json(&beat.key.labels)?)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(true)
}
