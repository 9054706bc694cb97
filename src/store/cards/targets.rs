//! Which card an event of ours belongs to: what somebody reacts or replies to.

use sqlx::{Row as _, SqliteConnection};

use crate::{
    model::{CardId, IncidentId, RoomAddress},
    store::{Store, StoreError},
};

/// What an event of ours speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub card: CardId,
    /// The incidents that the card shows, by id; several on a digest.
    pub incidents: Vec<IncidentId>,
    /// The only alert that the event is about, by its fingerprint.
    pub alert: Option<String>,
    /// The card's first event, which its thread hangs from.
    pub root_event: Option<String>,
}

/// Incidents that a target names at most: more than a digest takes.
const INCIDENTS: i64 = 512;

impl Store {
    /// What the event is about, if it is one of ours: a card's first event, any later event of a card, or an answer that
    /// belongs to one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn event_target(&self, room: &RoomAddress, event_id: &str) -> Result<Option<Target>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let Some((card, alert)) = card_of_event(&mut connection, room, event_id).await? else { return Ok(None) };
        let root_event: Option<Option<String>> = sqlx::query_scalar("SELECT root_event FROM card WHERE id = $1")
            .bind(card.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        let incidents: Vec<String> =
            sqlx::query_scalar("SELECT incident FROM card_incident WHERE card = $1 ORDER BY incident LIMIT $2")
                .bind(card.as_str())
                .bind(INCIDENTS)
                .fetch_all(&mut *connection)
                .await?;
        let incidents = incidents.into_iter().map(IncidentId).collect();
        Ok(Some(Target { card, incidents, alert, root_event: root_event.flatten() }))
    }
}

async fn card_of_event(
    connection: &mut SqliteConnection,
    room: &RoomAddress,
    event_id: &str,
) -> Result<Option<(CardId, Option<String>)>, StoreError> {
    for event in [
        "SELECT card AS id, alert FROM op WHERE event_id = $1 AND event_id IS NOT NULL",
        "SELECT id, NULL AS alert FROM card WHERE root_event = $1 AND root_event IS NOT NULL",
        "SELECT card AS id, NULL AS alert FROM answer WHERE event_id = $1 AND event_id IS NOT NULL",
    ] {
        // The card may be in the same room by another address; an event of another room means nothing in this one.
        let sql = format!(
            "SELECT card.id, event.alert FROM ({event}) AS event JOIN card ON card.id = event.id \
             WHERE card.room = $2 OR EXISTS (SELECT 1 FROM room AS here JOIN room AS there \
             ON coalesce(here.successor, here.room_id) = coalesce(there.successor, there.room_id) \
             WHERE here.name = $2 AND there.name = card.room)"
        );
        // Made of literals only.
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(event_id).bind(room.as_str());
        if let Some(row) = query.fetch_optional(&mut *connection).await? {
            return Ok(Some((CardId(row.try_get("id")?), row.try_get("alert")?)));
        }
    }
    Ok(None)
}
