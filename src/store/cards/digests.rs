//! Digests put several incidents on one card, green notices many cards into one message: both keep a storm readable.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::store::db::statement;
use crate::{
    model::{CardId, CardKind, Incident, IncidentId, Note, RoomAddress, TxnId},
    store::{
        Store, StoreError,
        cards::{save::move_escalations, severity},
        db::rows,
        incidents::sample,
    },
};

/// How many incidents one digest takes; the rest make further ones.
const DIGEST: i64 = 200;
/// How many cards one green notice names.
const GREEN: i64 = 300;

impl Store {
    /// Puts all incidents that `room` knows nothing of yet on one new card, the most severe first; `None`: fewer than
    /// two were waiting.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn make_digest(&self, room: &RoomAddress) -> Result<Option<CardId>, StoreError> {
        let room = room.clone();
        self.writer
            .write(move |connection, _| {
                Box::pin(async move {
                    let waiting = unposted(connection, &room).await?;
                    if waiting.len() < 2 {
                        return Ok(None);
                    }
                    let digest =
                        insert_digest(connection, &room, waiting.iter().map(|(_, since)| *since).min()).await?;
                    for (card, _) in &waiting {
                        move_incidents(connection, card, &digest).await?;
                    }
                    severity::set(connection, &digest).await?;
                    Ok(Some(digest))
                })
            })
            .await
    }

    /// Moves what does not fit into a digest, which is not in the room yet, to a further one.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn split_digest(&self, digest: &CardId, rest: Vec<IncidentId>) -> Result<(), StoreError> {
        let digest = digest.clone();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let row = statement::query("SELECT room, dirty_since FROM card WHERE id = $1")
                        .bind(digest.as_str())
                        .fetch_one(&mut *connection)
                        .await?;
                    let Ok(room) = RoomAddress::parse(row.try_get("room")?) else { return Ok(()) };
                    let further = insert_digest(connection, &room, row.try_get("dirty_since")?).await?;
                    for incident in rest {
                        // An old card whose place the digest took goes on where its incident does.
                        statement::query(
                            "UPDATE card SET superseded_by = $2 WHERE superseded_by = $1 AND id IN \
                             (SELECT card FROM card_incident WHERE incident = $3)",
                        )
                        .bind(digest.as_str())
                        .bind(further.as_str())
                        .bind(incident.as_str())
                        .execute(&mut *connection)
                        .await?;
                        statement::query("UPDATE card_incident SET card = $2 WHERE card = $1 AND incident = $3")
                            .bind(digest.as_str())
                            .bind(further.as_str())
                            .bind(incident.as_str())
                            .execute(&mut *connection)
                            .await?;
                        statement::query("UPDATE note SET card = $2 WHERE card = $1 AND incident = $3")
                            .bind(digest.as_str())
                            .bind(further.as_str())
                            .bind(incident.as_str())
                            .execute(&mut *connection)
                            .await?;
                    }
                    for card in [&digest, &further] {
                        severity::set(connection, card).await?;
                    }
                    context.behind.add_all();
                    Ok(())
                })
            })
            .await
    }

    /// The resolved notes that wait in `room`, each with its incident: what one notice can say for all of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn turning_green(&self, room: &RoomAddress) -> Result<Vec<(Incident, Note)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let notes = statement::query(
            "SELECT note.* FROM note JOIN card ON card.id = note.card WHERE card.room = $1 AND note.kind = 'resolved' \
             AND card.state = 'live' AND note.op IS NULL AND card.root_event IS NOT NULL AND card.dirty_since IS NOT NULL ORDER BY note.id LIMIT $2",
        )
        .bind(room.as_str())
        .bind(GREEN)
        .fetch_all(&mut *connection)
        .await?;
        Ok(self.shown(with_incidents(&mut connection, &notes).await?))
    }

    /// The resolved notes that an op says, each with its incident.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn said_green(&self, txn_id: &TxnId) -> Result<Vec<(Incident, Note)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let notes = statement::query("SELECT * FROM note WHERE op = $1 ORDER BY id")
            .bind(txn_id.as_str())
            .fetch_all(&mut *connection)
            .await?;
        Ok(self.shown(with_incidents(&mut connection, &notes).await?))
    }

    fn shown(&self, green: Vec<(Incident, Note)>) -> Vec<(Incident, Note)> {
        let ahead = self.clock.ahead();
        green.into_iter().map(|(incident, note)| (incident.shown(ahead), note)).collect()
    }

    /// How many cards in `room` show an open incident, since as many could turn green at once; they are counted until there
    /// are more than `enough`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn live_cards(&self, room: &RoomAddress, enough: usize) -> Result<usize, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let live: i64 = statement::query_scalar(
            // Left, so that what is open comes first and not all that the room ever saw.
            "SELECT count(*) FROM (SELECT DISTINCT id FROM (SELECT card.id FROM incident \
               LEFT JOIN card_incident ON card_incident.incident = incident.id \
               LEFT JOIN card ON card.id = card_incident.card AND card.room = $1 AND card.root_event IS NOT NULL \
               AND card.state = 'live' WHERE incident.closed_at IS NULL \
               UNION ALL SELECT id FROM card WHERE room = $1 AND dirty_since IS NOT NULL AND root_event IS NOT NULL \
               AND state = 'live') AS live WHERE id IS NOT NULL LIMIT $2) AS counted",
        )
        .bind(room.as_str())
        .bind(i64::try_from(enough).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_one(&mut *connection)
        .await?;
        Ok(usize::try_from(live).unwrap_or(0))
    }
}

/// The notes whose incident is still resolved, each with it.
async fn with_incidents(connection: &mut AnyConnection, notes: &[AnyRow]) -> Result<Vec<(Incident, Note)>, StoreError> {
    let mut green = Vec::with_capacity(notes.len());
    for row in notes {
        let note = rows::note(row)?;
        let found = statement::query("SELECT * FROM incident WHERE id = $1 AND state = 'resolved'")
            .bind(note.incident.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(found) = found else { continue };
        let mut incident = rows::incident(&found)?;
        sample::take(connection, &mut incident).await?;
        green.push((incident, note));
    }
    Ok(green)
}

/// Cards that are due and have no event in the room, nor one on its way, the most severe first; as many as have room on
/// one digest. A digest that waits itself counts with all it holds: an outage must not make one of thousands.
async fn unposted(connection: &mut AnyConnection, room: &RoomAddress) -> Result<Vec<(CardId, i64)>, StoreError> {
    let rows = statement::query(
        "SELECT card.id, card.dirty_since, \
         (SELECT count(*) FROM card_incident WHERE card_incident.card = card.id) AS incidents FROM card \
         WHERE card.room = $1 AND card.dirty_since IS NOT NULL AND card.root_event IS NULL AND card.state = 'live' AND NOT EXISTS \
         (SELECT 1 FROM op WHERE op.card = card.id AND op.state IN ('in_flight', 'in_doubt', 'parked')) \
         AND EXISTS (SELECT 1 FROM card_incident WHERE card_incident.card = card.id) \
         ORDER BY card.severity, card.dirty_since, card.id LIMIT $2",
    )
    .bind(room.as_str())
    .bind(DIGEST)
    .fetch_all(connection)
    .await?;
    let (mut left, mut taken) = (DIGEST, Vec::new());
    for row in &rows {
        let incidents: i64 = row.try_get("incidents")?;
        if incidents <= left {
            left -= incidents;
            taken.push((CardId(row.try_get("id")?), row.try_get("dirty_since")?));
        }
    }
    Ok(taken)
}

async fn insert_digest(
    connection: &mut AnyConnection,
    room: &RoomAddress,
    dirty_since: Option<i64>,
) -> Result<CardId, StoreError> {
    let id = CardId(ulid::Ulid::new().to_string());
    statement::query("INSERT INTO card (id, room, kind, dirty_since) VALUES ($1, $2, $3, $4)")
        .bind(id.as_str())
        .bind(room.as_str())
        .bind(CardKind::Digest.as_str())
        .bind(dirty_since)
        .execute(connection)
        .await?;
    Ok(id)
}

/// What was to be said about them goes with the card: the digest's first event shows it all, but calls nobody.
async fn move_incidents(connection: &mut AnyConnection, from: &CardId, to: &CardId) -> Result<(), StoreError> {
    statement::query("UPDATE card_incident SET card = $2 WHERE card = $1")
        .bind(from.as_str())
        .bind(to.as_str())
        .execute(&mut *connection)
        .await?;
    statement::query("UPDATE op SET card = $2 WHERE card = $1")
        .bind(from.as_str())
        .bind(to.as_str())
        .execute(&mut *connection)
        .await?;
    statement::query("UPDATE card SET superseded_by = $2 WHERE superseded_by = $1")
        .bind(from.as_str())
        .bind(to.as_str())
        .execute(&mut *connection)
        .await?;
    move_escalations(connection, from, to).await?;
    statement::query("DELETE FROM card WHERE id = $1").bind(from.as_str()).execute(connection).await?;
    Ok(())
}
