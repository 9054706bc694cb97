//! Superseded cards: another card took their place.

use sqlx::AnyConnection;

use crate::store::db::statement;
use crate::{
    model::{CardId, Timestamp},
    store::{StoreError, db::writer::WriteContext},
};

/// Makes the cards that this one superseded due for their last edit, which can name its event now.
pub(crate) async fn point_to(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    card: &CardId,
    since: Timestamp,
) -> Result<(), StoreError> {
    let due = statement::query(
        "UPDATE card SET state = 'superseded', dirty_since = $2 WHERE superseded_by = $1 AND root_event IS NOT NULL",
    )
    .bind(card.as_str())
    .bind(since.0)
    .execute(connection)
    .await?;
    // They may be in other rooms than the one that has just been served.
    if due.rows_affected() > 0 {
        context.behind.add_all();
    }
    Ok(())
}
