//! New cards in the place of old ones.

use sqlx::SqliteConnection;

use crate::{
    model::{CardId, IncidentId, RoomAddress, Timestamp},
    store::{StoreError, db::writer::Context, incidents::ingest::Job},
};

impl Job<'_> {
    /// A new card takes the place of an old one. It shows and says all there is, so that nothing is left to say on the
    /// old one but where it goes on, once that is known.
    pub(crate) async fn repost(
        &mut self,
        old: &CardId,
        incident: &IncidentId,
        room: &RoomAddress,
    ) -> Result<(), StoreError> {
        let new = self.insert_card(incident, room, true).await?;
        sqlx::query("UPDATE card SET state = 'superseded', superseded_by = $2, dirty_since = NULL WHERE id = $1")
            .bind(old.as_str())
            .bind(new.as_str())
            .execute(&mut *self.connection)
            .await?;
        sqlx::query("DELETE FROM note WHERE card = $1 AND op IS NULL")
            .bind(old.as_str())
            .execute(&mut *self.connection)
            .await?;
        self.context.wake = true;
        Ok(())
    }
}

/// The cards whose place this one took can now tell where they go on.
pub(crate) async fn point_to(
    connection: &mut SqliteConnection,
    context: &mut Context,
    card: &CardId,
    since: Timestamp,
) -> Result<(), StoreError> {
    let due = sqlx::query(
        "UPDATE card SET state = 'superseded', dirty_since = $2 WHERE superseded_by = $1 AND root_event IS NOT NULL",
    )
    .bind(card.as_str())
    .bind(since.0)
    .execute(connection)
    .await?;
    // They may be in other rooms than the one that has just been served.
    context.wake |= due.rows_affected() > 0;
    Ok(())
}
