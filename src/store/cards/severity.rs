//! The severity of a card is that of its most severe incident. It is kept with the card, so that the most severe of many that
//! wait are found by an index.

use sqlx::AnyConnection;

use crate::{
    model::{CardId, IncidentId},
    store::{StoreError, db::statement},
};

/// Without incidents it stays as it is; such a card is never due.
const SET: &str = "UPDATE card SET severity = coalesce((SELECT min(incident.severity) FROM card_incident \
     JOIN incident ON incident.id = card_incident.incident WHERE card_incident.card = card.id), severity) WHERE id";

/// For a card that other incidents are on now.
pub(in crate::store) async fn set(connection: &mut AnyConnection, card: &CardId) -> Result<(), StoreError> {
    let sql = format!("{SET} = $1");
    // Made of literals only, here and below.
    statement::query(sqlx::AssertSqlSafe(sql)).bind(card.as_str()).execute(connection).await?;
    Ok(())
}

/// For all cards of an incident whose severity is another one now.
pub(in crate::store) async fn set_all_of(
    connection: &mut AnyConnection,
    incident: &IncidentId,
) -> Result<(), StoreError> {
    let sql = format!("{SET} IN (SELECT card FROM card_incident WHERE incident = $1)");
    statement::query(sqlx::AssertSqlSafe(sql)).bind(incident.as_str()).execute(connection).await?;
    Ok(())
}
