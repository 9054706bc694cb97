//! What rooms do not show yet, read for the lanes: which cards are due, and all there is to know about one.

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{Store, StoreError, rows};
use crate::model::{Card, CardId, Incident, Note, NoteKind, RoomAddress, Timestamp};

/// Cards of one kind that [`Store::due`] returns at most: enough to choose from, few enough to read often.
const DUE: i64 = 64;

/// The revision that a card shows for good once it tells that it goes on elsewhere.
pub(super) const SUPERSEDED: i64 = i64::MAX;

/// A card whose room is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueCard {
    pub card: CardId,
    /// Of its most severe incident; 0 is the most severe.
    pub severity: u32,
    pub dirty_since: Timestamp,
    /// What waits to be said in its thread.
    pub notes: Option<DueNotes>,
}

/// The notes of a card in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueNotes {
    /// One of them makes phones ring.
    pub loud: bool,
    /// They only say that it is over.
    pub green: bool,
    pub oldest: Timestamp,
}

/// The due cards of one room by what they need next, each in the order in which they should go out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueCards {
    /// Not in the room yet.
    pub new: Vec<DueCard>,
    /// Something to say in the thread.
    pub notes: Vec<DueCard>,
    /// Only an edit.
    pub edits: Vec<DueCard>,
}

/// All that is needed to write a card's next event, read at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub card: Card,
    /// With the revision of each that the room shows.
    pub incidents: Vec<(Incident, i64)>,
    /// Not yet part of an op, oldest first.
    pub notes: Vec<Note>,
    /// The first event of the card that took this one's place.
    pub continued: Option<String>,
    /// The room of that card.
    pub continued_in: Option<String>,
    /// The route on which it goes on, where its receiver takes another one by now.
    pub moved_to: Option<String>,
}

impl Snapshot {
    /// The newest revision in it.
    #[must_use]
    pub fn rev(&self) -> i64 {
        if self.card.superseded_by.is_some() {
            return SUPERSEDED;
        }
        self.incidents.iter().map(|(incident, _)| incident.rev).max().unwrap_or(0)
    }

    /// Whether the room shows less than the newest revision.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.incidents.iter().any(|(incident, shown)| incident.rev > *shown)
    }
}

impl Store {
    /// What `room` needs next; a card of which an op is parked waits for that. Subscribe to [`Store::wake_ups`] first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due(&self, room: &RoomAddress) -> Result<DueCards, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let mut transaction = connection.begin().await?;
        let due = DueCards {
            new: due_cards(&mut transaction, room, "card.root_event IS NULL AND card.superseded_by IS NULL", "severity, card.dirty_since").await?,
            notes: noted_cards(&mut transaction, room).await?,
            edits: due_cards(
                &mut transaction,
                room,
                "card.root_event IS NOT NULL AND NOT EXISTS \
                 (SELECT 1 FROM note WHERE note.card = card.id AND note.op IS NULL) AND (card.superseded_by IS NULL \
                 OR EXISTS (SELECT 1 FROM card AS next WHERE next.id = card.superseded_by AND next.root_event IS NOT NULL))",
                "card.dirty_since",
            )
            .await?,
        };
        transaction.commit().await?;
        Ok(due)
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot(&self, card: &CardId) -> Result<Option<Snapshot>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        // One transaction, so that incidents and notes are of one instant.
        let mut transaction = connection.begin().await?;
        let snapshot = read_snapshot(&mut transaction, card).await?;
        transaction.commit().await?;
        Ok(snapshot)
    }
}

async fn due_cards(
    connection: &mut SqliteConnection,
    room: &RoomAddress,
    which: &'static str,
    order: &'static str,
) -> Result<Vec<DueCard>, StoreError> {
    let sql = format!(
        "SELECT card.id, card.dirty_since, min(incident.severity) AS severity FROM card \
         JOIN card_incident ON card_incident.card = card.id JOIN incident ON incident.id = card_incident.incident \
         WHERE card.room = $1 AND card.dirty_since IS NOT NULL AND {which} \
         AND NOT EXISTS (SELECT 1 FROM op WHERE op.card = card.id AND op.state = 'parked') \
         GROUP BY card.id, card.dirty_since ORDER BY {order}, card.id LIMIT $2"
    );
    // Made of literals only.
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(room.as_str())
        .bind(DUE)
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| {
            Ok(DueCard {
                card: CardId(row.try_get("id")?),
                severity: u32::try_from(row.try_get::<i64, _>("severity")?).unwrap_or(u32::MAX),
                dirty_since: Timestamp(row.try_get("dirty_since")?),
                notes: None,
            })
        })
        .collect()
}

/// Cards with something to say, oldest first.
async fn noted_cards(connection: &mut SqliteConnection, room: &RoomAddress) -> Result<Vec<DueCard>, StoreError> {
    let quiet = [NoteKind::PartlyResolved, NoteKind::Resolved].map(NoteKind::as_str);
    sqlx::query(
        "SELECT card.id, card.dirty_since, min(note.at) AS oldest, min(incident.severity) AS severity, \
         sum(CASE WHEN note.kind IN ($2, $3) THEN 0 ELSE 1 END) AS loud, \
         sum(CASE WHEN note.kind = $3 THEN 1 ELSE 0 END) AS green \
         FROM card JOIN note ON note.card = card.id AND note.op IS NULL JOIN incident ON incident.id = note.incident \
         WHERE card.room = $1 AND card.dirty_since IS NOT NULL AND card.root_event IS NOT NULL \
         AND (card.superseded_by IS NULL OR card.superseded_by <> card.id) \
         GROUP BY card.id, card.dirty_since ORDER BY oldest, card.id LIMIT $4",
    )
    .bind(room.as_str())
    .bind(quiet[0])
    .bind(quiet[1])
    .bind(DUE)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        let loud = row.try_get::<i64, _>("loud")? > 0;
        let notes = DueNotes {
            loud,
            green: !loud && row.try_get::<i64, _>("green")? > 0,
            oldest: Timestamp(row.try_get("oldest")?),
        };
        Ok(DueCard {
            card: CardId(row.try_get("id")?),
            severity: u32::try_from(row.try_get::<i64, _>("severity")?).unwrap_or(u32::MAX),
            dirty_since: Timestamp(row.try_get("dirty_since")?),
            notes: Some(notes),
        })
    })
    .collect()
}

async fn read_snapshot(connection: &mut SqliteConnection, card: &CardId) -> Result<Option<Snapshot>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM card WHERE id = $1").bind(card.as_str()).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(None) };
    let sql = format!(
        "SELECT {}, shown_rev FROM incident JOIN card_incident ON card_incident.incident = incident.id \
         WHERE card_incident.card = $1 ORDER BY incident.id",
        rows::INCIDENT
    );
    let incident_rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(card.as_str()).fetch_all(&mut *connection).await?;
    let mut incidents = Vec::with_capacity(incident_rows.len());
    for row in &incident_rows {
        let mut incident = rows::incident(row)?;
        incident.alerts = rows::alerts_of(connection, &incident.id).await?;
        incidents.push((incident, row.try_get("shown_rev")?));
    }
    let notes = sqlx::query("SELECT * FROM note WHERE card = $1 AND op IS NULL ORDER BY id")
        .bind(card.as_str())
        .fetch_all(&mut *connection)
        .await?
        .iter()
        .map(rows::note)
        .collect::<Result<_, _>>()?;
    let card = rows::card(&row)?;
    let (mut continued, mut continued_in, mut moved_to) = (None, None, None);
    if let Some(next) = &card.superseded_by {
        if let Some(row) = sqlx::query("SELECT room, root_event FROM card WHERE id = $1")
            .bind(next.as_str())
            .fetch_optional(&mut *connection)
            .await?
        {
            (continued, continued_in) = (row.try_get("root_event")?, Some(row.try_get("room")?));
        }
        moved_to = sqlx::query_scalar(
            "SELECT moved_to FROM incident JOIN card_incident ON card_incident.incident = incident.id \
             WHERE card_incident.card = $1 AND moved_to IS NOT NULL LIMIT 1",
        )
        .bind(card.id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    }
    Ok(Some(Snapshot { card, incidents, notes, continued, continued_in, moved_to }))
}
