//! The cards and notes that one notification makes or changes.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::store::db::statement;
use crate::{
    model::{
        CardId, CardKind, Changes, IncidentId, IncidentWrite, LiveCard, NewNote, NotificationId, RoomAddress,
        RoomAliases, Timestamp,
    },
    store::{
        StoreError,
        db::{json::to_json, statement::Together, writer::WriteContext},
        rooms::addresses,
    },
};

/// How many notes may wait on one card. The oldest ones beyond are dropped; the card's state and its alerts' times still
/// show what they said.
pub(in crate::store) const NOTES: i64 = 1_000;

/// Makes and changes the cards of one notification, inside the writer's transaction.
pub(in crate::store) struct CardWriter<'c> {
    pub(in crate::store) connection: &'c mut AnyConnection,
    pub(in crate::store) context: &'c mut WriteContext,
    pub(in crate::store) now: Timestamp,
}

impl CardWriter<'_> {
    /// Makes sure that every room of the route has a card, and marks as due those that must show or say something.
    pub(in crate::store) async fn save(
        &mut self,
        incident: &IncidentId,
        rooms: &[RoomAddress],
        changes: &Changes,
        notification: &NotificationId,
    ) -> Result<(), StoreError> {
        // An incident that was made just now has no cards.
        let is_new = changes.write == IncidentWrite::Insert;
        let cards = if is_new { Vec::new() } else { live_cards(self.connection, incident).await? };
        let room_aliases = self.aliases_for(rooms, &cards).await?;
        // The same room by another address: while a new config comes into force, or named twice.
        let is_same = |one: &str, room: &RoomAddress| {
            room_aliases
                .as_ref()
                .is_some_and(|known| RoomAddress::parse(one).is_ok_and(|one| known.are_one(&one, room)))
        };
        for (n, room) in rooms.iter().enumerate() {
            let exact = cards.iter().find(|(_, known)| known == room.as_str());
            if exact.is_none() && rooms[..n].iter().any(|before| is_same(before.as_str(), room)) {
                continue;
            }
            let (card, of) = match exact.or_else(|| cards.iter().find(|(_, known)| is_same(known, room))) {
                Some((card, _)) if changes.reposts.contains(&card.id) => {
                    self.repost(&card.id, incident, room, changes.severity).await?;
                    continue;
                }
                Some((card, known)) => (card.id.clone(), known.as_str()),
                None => (self.insert_card(incident, room, changes.severity, changes.visible).await?, room.as_str()),
            };
            let says = |note: &&NewNote| note.cards.as_ref().is_none_or(|only| only.contains(&card));
            let notes: Vec<&NewNote> = changes.notes.iter().filter(says).collect();
            if changes.visible || !notes.is_empty() {
                self.context.behind.add(of);
            }
            if (changes.visible && !is_new) || !notes.is_empty() {
                statement::query("UPDATE card SET dirty_since = coalesce(dirty_since, $2) WHERE id = $1")
                    .bind(card.as_str())
                    .bind(self.now.0)
                    .execute(&mut *self.connection)
                    .await?;
            }
            for note in notes {
                self.insert_note(&card, incident, note, notification).await?;
            }
        }
        Ok(())
    }

    /// Has every live card of an incident say something.
    pub(in crate::store) async fn say(
        &mut self,
        incident: &IncidentId,
        note: &NewNote,
        notification: &NotificationId,
    ) -> Result<(), StoreError> {
        for (card, room) in live_cards(self.connection, incident).await? {
            statement::query("UPDATE card SET dirty_since = coalesce(dirty_since, $2) WHERE id = $1")
                .bind(card.id.as_str())
                .bind(self.now.0)
                .execute(&mut *self.connection)
                .await?;
            self.insert_note(&card.id, incident, note, notification).await?;
            self.context.behind.add(&room);
        }
        Ok(())
    }

    /// Aliases are only needed if a room has no card by its address or may be named twice.
    async fn aliases_for(
        &mut self,
        rooms: &[RoomAddress],
        cards: &[(LiveCard, String)],
    ) -> Result<Option<RoomAliases>, StoreError> {
        let is_shown = |room: &RoomAddress| cards.iter().any(|(_, known)| known == room.as_str());
        if rooms.len() < 2 && (cards.is_empty() || rooms.iter().all(is_shown)) {
            return Ok(None);
        }
        addresses::room_aliases(self.connection).await.map(Some)
    }

    async fn insert_card(
        &mut self,
        incident: &IncidentId,
        room: &RoomAddress,
        severity: u32,
        is_due: bool,
    ) -> Result<CardId, StoreError> {
        let id = CardId(ulid::Ulid::new().to_string());
        // Both in one call: each costs a trip to the database's thread and back.
        Together::new(
            "INSERT INTO card (id, room, kind, dirty_since, severity) VALUES ($1, $2, $3, $4, $6); \
             INSERT INTO card_incident (card, incident, shown_rev) VALUES ($1, $5, 0)",
        )
        .bind(id.as_str())
        .bind(room.as_str())
        .bind(CardKind::Incident.as_str())
        .bind(is_due.then_some(self.now.0))
        .bind(incident.as_str())
        .bind(i64::from(severity))
        .execute(&mut *self.connection)
        .await?;
        Ok(id)
    }

    /// A new card takes the place of an old one. It shows and says all there is, so that nothing is left to say on the
    /// old one but where it goes on, once that is known.
    async fn repost(
        &mut self,
        old: &CardId,
        incident: &IncidentId,
        room: &RoomAddress,
        severity: u32,
    ) -> Result<(), StoreError> {
        let new = self.insert_card(incident, room, severity, true).await?;
        statement::query("UPDATE card SET state = 'superseded', superseded_by = $2, dirty_since = NULL WHERE id = $1")
            .bind(old.as_str())
            .bind(new.as_str())
            .execute(&mut *self.connection)
            .await?;
        // But for whom to call: the first event of a card mentions those of the route only.
        move_escalations(self.connection, old, &new).await?;
        statement::query("DELETE FROM note WHERE card = $1 AND op IS NULL")
            .bind(old.as_str())
            .execute(&mut *self.connection)
            .await?;
        self.context.behind.add_all();
        Ok(())
    }

    async fn insert_note(
        &mut self,
        card: &CardId,
        incident: &IncidentId,
        note: &NewNote,
        notification: &NotificationId,
    ) -> Result<(), StoreError> {
        // Both in one call, as above. A room that cannot be reached for weeks must not grow what its first reply is made of.
        Together::new(
            "INSERT INTO note (id, card, incident, kind, at, notification, args) VALUES ($1, $2, $3, $4, $5, $6, $7); \
             DELETE FROM note WHERE card = $2 AND op IS NULL AND kind <> 'escalation' AND id <= \
             (SELECT id FROM note WHERE card = $2 AND op IS NULL ORDER BY id DESC LIMIT 1 OFFSET $8)",
        )
        .bind(self.context.next())
        .bind(card.as_str())
        .bind(incident.as_str())
        .bind(note.kind.as_str())
        .bind(self.now.0)
        .bind(notification.as_str())
        .bind(to_json(&note.args)?)
        .bind(NOTES)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }
}

/// Marks the live cards of an incident as due.
pub(in crate::store) async fn mark_live_due(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    incident: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    statement::query(
        "UPDATE card SET dirty_since = coalesce(dirty_since, $2) WHERE state = 'live' AND id IN \
         (SELECT card FROM card_incident WHERE incident = $1)",
    )
    .bind(incident)
    .bind(now.0)
    .execute(connection)
    .await?;
    context.behind.add_all();
    Ok(())
}

/// Has another card say whom the notes of this one call, unless an op on its way gets through.
pub(in crate::store) async fn move_escalations(
    connection: &mut AnyConnection,
    from: &CardId,
    to: &CardId,
) -> Result<(), StoreError> {
    statement::query("UPDATE note SET card = $2 WHERE card = $1 AND kind = 'escalation'")
        .bind(from.as_str())
        .bind(to.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// The live cards of an incident, with the room of each.
pub(in crate::store) async fn live_cards(
    connection: &mut AnyConnection,
    incident: &IncidentId,
) -> Result<Vec<(LiveCard, String)>, StoreError> {
    statement::query(
        "SELECT card.id, card.room, card.spoke_at, \
         CASE WHEN card.kind = 'incident' AND card.root_event IS NOT NULL THEN card.root_at END AS posted_at, \
         CASE WHEN EXISTS (SELECT 1 FROM note WHERE note.card = card.id) THEN 1 ELSE 0 END AS notes_waiting \
         FROM card JOIN card_incident ON card_incident.card = card.id \
         WHERE card_incident.incident = $1 AND card.state = 'live'",
    )
    .bind(incident.as_str())
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        let state = live_card(row, CardId(row.try_get("id")?))?;
        Ok((state, row.try_get("room")?))
    })
    .collect()
}

pub(in crate::store) fn live_card(row: &AnyRow, id: CardId) -> Result<LiveCard, StoreError> {
    Ok(LiveCard {
        id,
        spoke_at: row.try_get::<Option<i64>, _>("spoke_at")?.map(Timestamp),
        posted_at: row.try_get::<Option<i64>, _>("posted_at")?.map(Timestamp),
        notes_waiting: row.try_get::<i64, _>("notes_waiting")? != 0,
    })
}
