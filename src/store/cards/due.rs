//! Reads what rooms do not show yet: which cards are due, and everything about one of them.

use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::store::db::statement;
use crate::{
    model::{Card, CardId, CardKind, CardState, Incident, IncidentId, Note, NoteKind, RoomAddress, Timestamp, TxnId},
    store::{
        Store, StoreError,
        db::rows,
        incidents::{sample, takings},
        outbox::answers::NEXT_WAITING,
    },
};

/// Cards of one kind that [`Store::due`] returns at most: enough to choose from, few enough to read often.
const DUE: i64 = 64;

pub(in crate::store) const NEW: &str = "card.root_event IS NULL AND card.state = 'live'";
pub(in crate::store) const MOST_SEVERE_FIRST: &str = "card.severity, card.dirty_since";
pub(in crate::store) const OLDEST_FIRST: &str = "card.dirty_since";
/// The last edit of a superseded card has to name the event that it points to.
pub(in crate::store) const EDITS: &str = "card.root_event IS NOT NULL AND NOT EXISTS \
     (SELECT 1 FROM note WHERE note.card = card.id AND note.op IS NULL) \
     AND (card.state IN ('live', 'unrouted') OR (card.state = 'superseded' \
     AND EXISTS (SELECT 1 FROM card AS next WHERE next.id = card.superseded_by AND next.root_event IS NOT NULL)))";
const HAS_INCIDENTS: &str = "EXISTS (SELECT 1 FROM card_incident WHERE card_incident.card = card.id)";
const NOT_PARKED: &str = "NOT EXISTS (SELECT 1 FROM op WHERE op.card = card.id AND op.state = 'parked')";
/// Alerts that are read in full for what is to be said about the incidents of a digest, those of one incident at least;
/// what there is to say about the others comes in a further reply.
const IN_FULL: i64 = 2_000;
/// Bytes of the notes that are read at once, one at least; the others come in a further reply.
const NOTE_BYTES: usize = 1 << 20;
/// Cards of more alerts than this are read one at a time, to bound memory.
const LARGE: i64 = 1_000;

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
    /// How many more have something to say and nothing but that it is over.
    pub green_beyond: usize,
    /// When the next answer that waits was frozen.
    pub answer: Option<Timestamp>,
    /// Nobody asked for that answer.
    pub unasked: bool,
}

/// Everything that a card's next event is composed from, read at one instant. Times are those of the wall clock.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub card: Card,
    /// With the revision of each that the room shows. Those of a digest have few of their alerts, unless there is
    /// something to say about them; see [`Incident::left_out`].
    pub incidents: Vec<(Incident, i64)>,
    /// Not yet part of an op, oldest first; as many as are said at once.
    pub notes: Vec<Note>,
    /// The first event of the card that superseded this one.
    pub continued: Option<String>,
    /// Held while a large card is in memory.
    pub turn: Option<Arc<OwnedSemaphorePermit>>,
    /// The room of that card.
    pub continued_in: Option<String>,
    /// The route on which it goes on, where its receiver takes another one by now.
    pub rerouted_to: Option<String>,
}

impl Snapshot {
    /// The newest revision in it.
    #[must_use]
    pub fn rev(&self) -> i64 {
        self.incidents.iter().map(|(incident, _)| incident.rev).max().unwrap_or(0)
    }

    fn shown(mut self, ahead_ms: i64) -> Self {
        self.card.root_at = self.card.root_at.map(|at| at.moved(ahead_ms));
        self.incidents = self.incidents.into_iter().map(|(incident, rev)| (incident.shown(ahead_ms), rev)).collect();
        self
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
        let quiet = [NoteKind::PartlyResolved, NoteKind::Resolved].map(NoteKind::as_str);
        let rows = statement::query(sqlx::AssertSqlSafe(ALL_THAT_IS_DUE.as_str()))
            .bind(room.as_str())
            .bind(DUE)
            .bind(quiet[0])
            .bind(quiet[1])
            .fetch_all(&mut *connection)
            .await?;
        let mut due = DueCards::default();
        for row in &rows {
            let list = match row.try_get("list")? {
                "new" => &mut due.new,
                "notes" => &mut due.notes,
                "edits" => &mut due.edits,
                kind => {
                    due.answer = Some(Timestamp(row.try_get("dirty_since")?));
                    due.unasked = kind == "unasked";
                    continue;
                }
            };
            list.push(due_card(row)?);
        }
        // Nothing says in which order a union returns its rows.
        due.new.sort_by(|a, b| (a.severity, a.dirty_since, &a.card).cmp(&(b.severity, b.dirty_since, &b.card)));
        due.notes.sort_by_key(|card| (card.notes.map(|notes| notes.oldest), card.card.clone()));
        due.edits.sort_by(|a, b| (a.dirty_since, &a.card).cmp(&(b.dirty_since, &b.card)));
        if is_cut(&due.notes) {
            let listed = due.notes.iter().filter(|card| card.notes.is_some_and(|notes| notes.green)).count();
            // A moment later, on SQLite: the next look counts again.
            due.green_beyond = count_green(&mut connection, room).await?.saturating_sub(listed);
        }
        Ok(due)
    }

    /// How many cards of `room` are not in it yet beyond those that [`Store::due`] returned, which are `listed`. They are
    /// counted until there are more than `enough` with these.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn new_beyond(&self, room: &RoomAddress, listed: &[DueCard], enough: usize) -> Result<usize, StoreError> {
        if !is_cut(listed) || listed.len() > enough {
            return Ok(0);
        }
        let sql = format!("SELECT count(*) FROM ({}) AS counted", sql_of_due(NEW, MOST_SEVERE_FIRST));
        let mut connection = self.readers.acquire().await?;
        // Made of literals only.
        let all: i64 = statement::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(room.as_str())
            .bind(i64::try_from(enough).unwrap_or(i64::MAX).saturating_add(1))
            .fetch_one(&mut *connection)
            .await?;
        Ok(usize::try_from(all).unwrap_or(0).saturating_sub(listed.len()))
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot(&self, card: &CardId) -> Result<Option<Snapshot>, StoreError> {
        self.read_card(card, None).await
    }

    /// Like [`Store::snapshot`], with the notes of an op in place of the waiting ones.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot_for(&self, card: &CardId, op: &TxnId) -> Result<Option<Snapshot>, StoreError> {
        self.read_card(card, Some(op)).await
    }

    async fn read_card(&self, card: &CardId, op: Option<&TxnId>) -> Result<Option<Snapshot>, StoreError> {
        let (mut turn, mut may_wait) = (None, true);
        loop {
            let mut connection = self.readers.snapshot().await?;
            // Its alerts are not counted to the end.
            let row = statement::query(
                "SELECT *, (SELECT count(*) FROM (SELECT 1 FROM card_incident \
                 JOIN alert ON alert.incident = card_incident.incident \
                 WHERE card_incident.card = $1 LIMIT $2) AS counted) AS alerts FROM card WHERE id = $1",
            )
            .bind(card.as_str())
            .bind(LARGE + 1)
            .fetch_optional(&mut *connection)
            .await?;
            let Some(row) = row else { return Ok(None) };
            if may_wait && row.try_get::<i64, _>("alerts")? > LARGE {
                // Others read meanwhile, and what is read afterwards is of one instant.
                drop(connection);
                (turn, may_wait) = (Arc::clone(&self.large).acquire_owned().await.ok().map(Arc::new), false);
                continue;
            }
            let snapshot = read_snapshot(&mut connection, rows::card(&row)?, op).await?;
            return Ok(Some(Snapshot { turn, ..snapshot.shown(self.clock.ahead()) }));
        }
    }
}

fn is_cut(list: &[DueCard]) -> bool {
    i64::try_from(list.len()).is_ok_and(|len| len >= DUE)
}

/// Cards with something to say and nothing that rings, as in [`NOTED`].
async fn count_green(connection: &mut AnyConnection, room: &RoomAddress) -> Result<usize, StoreError> {
    let quiet = [NoteKind::PartlyResolved, NoteKind::Resolved].map(NoteKind::as_str);
    let green: i64 = statement::query_scalar(
        "SELECT count(*) FROM card WHERE card.room = $1 AND card.dirty_since IS NOT NULL AND card.root_event IS NOT NULL \
         AND card.state = 'live' \
         AND EXISTS (SELECT 1 FROM note WHERE note.card = card.id AND note.op IS NULL AND note.kind = $3) \
         AND NOT EXISTS (SELECT 1 FROM note WHERE note.card = card.id AND note.op IS NULL AND note.kind NOT IN ($2, $3))",
    )
    .bind(room.as_str())
    .bind(quiet[0])
    .bind(quiet[1])
    .fetch_one(connection)
    .await?;
    Ok(usize::try_from(green).unwrap_or(0))
}

/// The order is that of an index, so that no more is read than is returned.
pub(in crate::store) fn sql_of_due(which: &str, order: &str) -> String {
    format!(
        "SELECT card.id, card.dirty_since, card.severity FROM card \
         WHERE card.room = $1 AND card.dirty_since IS NOT NULL AND {which} AND {HAS_INCIDENTS} AND {NOT_PARKED} \
         ORDER BY {order}, card.id LIMIT $2"
    )
}

/// The lists of [`DueCards`] and the next answer, in one statement: each costs a trip to the database.
static ALL_THAT_IS_DUE: LazyLock<String> = LazyLock::new(|| {
    let (new, edits) = (sql_of_due(NEW, MOST_SEVERE_FIRST), sql_of_due(EDITS, OLDEST_FIRST));
    format!(
        "SELECT 'new' AS list, id, severity, dirty_since, 0 AS oldest, 0 AS loud, 0 AS green FROM ({new}) AS new \
         UNION ALL SELECT 'notes', id, severity, dirty_since, oldest, loud, green FROM ({NOTED}) AS noted \
         UNION ALL SELECT 'edits', id, severity, dirty_since, 0, 0, 0 FROM ({edits}) AS edits \
         UNION ALL SELECT CASE WHEN until IS NULL THEN 'asked' ELSE 'unasked' END, '', 0, at, 0, 0, 0 \
         FROM ({NEXT_WAITING}) AS waiting"
    )
});

/// Cards with something to say, oldest first.
const NOTED: &str = "SELECT card.id, card.dirty_since, min(note.at) AS oldest, min(incident.severity) AS severity, \
     sum(CASE WHEN note.kind IN ($3, $4) THEN 0 ELSE 1 END) AS loud, \
     sum(CASE WHEN note.kind = $4 THEN 1 ELSE 0 END) AS green \
     FROM card JOIN note ON note.card = card.id AND note.op IS NULL JOIN incident ON incident.id = note.incident \
     WHERE card.room = $1 AND card.dirty_since IS NOT NULL AND card.root_event IS NOT NULL \
     AND card.state = 'live' \
     GROUP BY card.id, card.dirty_since ORDER BY oldest, card.id LIMIT $2";

fn due_card(row: &AnyRow) -> Result<DueCard, StoreError> {
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
        notes: (row.try_get::<&str, _>("list")? == "notes").then_some(notes),
    })
}

async fn read_snapshot(connection: &mut AnyConnection, card: Card, op: Option<&TxnId>) -> Result<Snapshot, StoreError> {
    let sql = format!(
        "SELECT {}, shown_rev FROM incident JOIN card_incident ON card_incident.incident = incident.id \
         WHERE card_incident.card = $1 ORDER BY incident.id",
        rows::INCIDENT
    );
    let incident_rows =
        statement::query(sqlx::AssertSqlSafe(sql)).bind(card.id.as_str()).fetch_all(&mut *connection).await?;
    let mut notes = read_notes(connection, &card.id, op).await?;
    // A digest that is not in the room yet shows all of its incidents, and says nothing about any.
    let full = match (card.kind, &card.root_event) {
        (CardKind::Digest, None) => Some(BTreeSet::new()),
        (CardKind::Digest, Some(_)) => Some(spoken_of(connection, &mut notes, op.is_some()).await?),
        (CardKind::Incident, _) => None,
    };
    let mut takings = takings::of_card(connection, &card.id).await?;
    let mut incidents = Vec::with_capacity(incident_rows.len());
    for row in &incident_rows {
        let mut incident = rows::incident(row)?;
        incident.taken = takings.remove(&incident.id).unwrap_or_default();
        if full.as_ref().is_none_or(|full| full.contains(&incident.id)) {
            incident.alerts = rows::alerts_of(connection, &incident.id).await?;
        } else {
            sample::take(connection, &mut incident).await?;
        }
        incidents.push((incident, row.try_get("shown_rev")?));
    }
    let (mut continued, mut continued_in, mut rerouted_to) = (None, None, None);
    if let Some(next) = &card.superseded_by
        && let Some(row) = statement::query("SELECT room, root_event FROM card WHERE id = $1")
            .bind(next.as_str())
            .fetch_optional(&mut *connection)
            .await?
    {
        (continued, continued_in) = (row.try_get("root_event")?, Some(row.try_get("room")?));
    }
    if card.state != CardState::Live {
        rerouted_to = statement::query_scalar(
            "SELECT moved_to FROM incident JOIN card_incident ON card_incident.incident = incident.id \
             WHERE card_incident.card = $1 AND moved_to IS NOT NULL LIMIT 1",
        )
        .bind(card.id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    }
    Ok(Snapshot { card, incidents, notes, continued, continued_in, rerouted_to, turn: None })
}

/// Those of the op, or as many of those that wait as are said at once.
async fn read_notes(
    connection: &mut AnyConnection,
    card: &CardId,
    op: Option<&TxnId>,
) -> Result<Vec<Note>, StoreError> {
    let mut rows = match op {
        Some(op) => statement::query("SELECT * FROM note WHERE op = $1 ORDER BY id").bind(op.as_str().to_owned()),
        None => statement::query("SELECT * FROM note WHERE card = $1 AND op IS NULL ORDER BY id")
            .bind(card.as_str().to_owned()),
    }
    .fetch(connection);
    let (mut notes, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        bytes += row.try_get::<&str, _>("args")?.len();
        if bytes > NOTE_BYTES && !notes.is_empty() {
            break;
        }
        notes.push(rows::note(&row)?);
    }
    Ok(notes)
}

/// The incidents that the notes are about; notes of more alerts than are read in full are left for later, unless
/// `all` must be said.
async fn spoken_of(
    connection: &mut AnyConnection,
    notes: &mut Vec<Note>,
    all: bool,
) -> Result<BTreeSet<IncidentId>, StoreError> {
    let (mut full, mut later, mut left) = (BTreeSet::new(), BTreeSet::new(), IN_FULL);
    for note in notes.iter() {
        if full.contains(&note.incident) || later.contains(&note.incident) {
            continue;
        }
        let alerts: i64 = statement::query_scalar("SELECT count(*) FROM alert WHERE incident = $1")
            .bind(note.incident.as_str())
            .fetch_one(&mut *connection)
            .await?;
        left -= alerts;
        let chosen = if left >= 0 || full.is_empty() || all { &mut full } else { &mut later };
        chosen.insert(note.incident.clone());
    }
    notes.retain(|note| !later.contains(&note.incident));
    Ok(full)
}
