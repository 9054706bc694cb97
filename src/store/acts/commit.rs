//! What was asked for, committed together with the place in the room up to which it was read.

use sqlx::{AnyConnection, Row as _};

use super::rows::{self, ActAnswer};
use crate::store::db::statement;
use crate::{
    model::{ActArgs, ActKind, CardId, IncidentId, RoomAddress, RouteName, Timestamp},
    store::{Store, StoreError, db::json::to_json},
};

/// Something that an event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAct {
    pub event_id: String,
    pub megolm: Option<String>,
    pub route: RouteName,
    pub room: RoomAddress,
    pub sender: String,
    pub kind: ActKind,
    pub incident: Option<IncidentId>,
    pub card: Option<CardId>,
    pub args: ActArgs,
    /// Not before this; `None`: at once.
    pub not_before: Option<Timestamp>,
}

/// An event that somebody redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// The redaction.
    pub event_id: String,
    pub sender: String,
    pub room: RoomAddress,
    pub target: String,
}

/// What was read of one room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub room_id: String,
    /// The last event that need not be read again; `None`: it stays.
    pub position: Option<String>,
    pub acts: Vec<NewAct>,
    pub redactions: Vec<Redacted>,
}

impl Store {
    /// Commits what a room asks for, each event once: one that is known already, by its id or as the same encrypted
    /// event, is ignored. Returns how many are new.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn commit_acts(&self, heard: Heard) -> Result<usize, StoreError> {
        let now = self.clock.now();
        self.writer
            .write(move |connection, _| {
                Box::pin(async move {
                    // In the order of the room, also within a millisecond.
                    let mut ids = ulid::Generator::new();
                    let mut id = move || ids.generate().unwrap_or_else(|_| ulid::Ulid::new()).to_string();
                    let mut new = 0;
                    for act in &heard.acts {
                        new += insert(connection, &id(), act, now).await?;
                    }
                    for redacted in &heard.redactions {
                        new += redact(connection, &id(), redacted, now).await?;
                    }
                    if let Some(position) = &heard.position {
                        set_position(connection, &heard.room_id, position, now).await?;
                    }
                    Ok(new)
                })
            })
            .await
    }

    /// Answers what nobody asked for, once for each `event_id`: that a part of the room was not read.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn commit_notice(&self, act: NewAct, answer: ActAnswer) -> Result<bool, StoreError> {
        let now = self.clock.now();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let id = ulid::Ulid::new().to_string();
                    if insert(connection, &id, &act, now).await? == 0 {
                        return Ok(false);
                    }
                    statement::query("UPDATE act SET state = 'done', next_try = NULL, ended_at = $2 WHERE id = $1")
                        .bind(&id)
                        .bind(now.0)
                        .execute(&mut *connection)
                        .await?;
                    let of = (id.as_str(), act.room.as_str(), None);
                    rows::insert_answers(connection, context, of, &[answer], now).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// The last event of a room that was looked at, and when that was stored. An empty one: since then people may act
    /// from the room, and nothing has been said.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn room_position(&self, room_id: &str) -> Result<Option<(String, Timestamp)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let row: Option<(String, i64)> = sqlx::query_as("SELECT event_id, at FROM room_position WHERE room_id = $1")
            .bind(room_id)
            .fetch_optional(&mut *connection)
            .await?;
        Ok(row.map(|(event, at)| (event, Timestamp(at))))
    }
}

impl Store {
    /// The room has got another address in the config: what is not over belongs to that one. What is over stays as it is.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn move_acts(&self, from: &RoomAddress, to: &RoomAddress) -> Result<(), StoreError> {
        let (from, to) = (from.clone(), to.clone());
        self.write(move |connection, _| {
            Box::pin(async move {
                for sql in [
                    "UPDATE act SET room = $2 WHERE room = $1 AND state IN ('asked', 'in_doubt')",
                    "UPDATE act SET room = $2 WHERE room = $1 AND state = 'live'",
                ] {
                    statement::query(sql).bind(from.as_str()).bind(to.as_str()).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

async fn set_position(
    connection: &mut AnyConnection,
    room_id: &str,
    position: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    statement::query(
        "INSERT INTO room_position (room_id, event_id, at) VALUES ($1, $2, $3) \
         ON CONFLICT (room_id) DO UPDATE SET event_id = excluded.event_id, at = excluded.at",
    )
    .bind(room_id)
    .bind(position)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert(connection: &mut AnyConnection, id: &str, act: &NewAct, now: Timestamp) -> Result<usize, StoreError> {
    let done = statement::query(
        "INSERT INTO act (id, event_id, megolm, route, room, sender, kind, incident, card, args, state, asked_at, \
         next_try) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'asked', $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(&act.event_id)
    .bind(&act.megolm)
    .bind(act.route.as_str())
    .bind(act.room.as_str())
    .bind(&act.sender)
    .bind(act.kind.as_str())
    .bind(act.incident.as_ref().map(IncidentId::as_str))
    .bind(act.card.as_ref().map(CardId::as_str))
    .bind(to_json(&act.args)?)
    .bind(now.0)
    .bind(act.not_before.unwrap_or(now).0)
    .execute(connection)
    .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(0))
}

/// What was not carried out yet never is. What a reaction did is undone; a command that is done stays done.
async fn redact(
    connection: &mut AnyConnection,
    id: &str,
    redacted: &Redacted,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let row = statement::query("SELECT * FROM act WHERE event_id = $1 AND room = $2")
        .bind(&redacted.target)
        .bind(redacted.room.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(0) };
    let state: String = row.try_get("state")?;
    if state == "asked" {
        let done = statement::query(
            "UPDATE act SET state = 'ended', outcome = 'withdrawn', next_try = NULL, ended_at = $2 \
             WHERE id = $1 AND state = 'asked'",
        )
        .bind(row.try_get::<String, _>("id")?)
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
        return Ok(usize::try_from(done.rows_affected()).unwrap_or(0));
    }
    let target = rows::act(&row)?.act;
    let is_of_digest = target.kind == ActKind::Take && target.incident.is_none() && state == "done";
    if !target.args.by_reaction || !(is_of_digest || state == "live" || state == "in_doubt") {
        return Ok(0);
    }
    let args = ActArgs {
        by_reaction: true,
        in_thread: true,
        undoes: Some(redacted.target.clone()),
        thread: target.args.thread,
        ..ActArgs::default()
    };
    let undo = NewAct {
        event_id: redacted.event_id.clone(),
        megolm: None,
        route: target.route,
        room: target.room,
        sender: redacted.sender.clone(),
        kind: ActKind::Undo,
        incident: target.incident,
        card: target.card,
        args,
        not_before: None,
    };
    insert(connection, id, &undo, now).await
}
