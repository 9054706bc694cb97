//! What became of an act: its state, its answers and what it changes are one commit.

use sqlx::AnyConnection;

use super::rows::{self, ActAnswer, DueAct};
use crate::store::db::statement;
use crate::{
    model::{Act, ActArgs, ActKind, ActState, CardId, IncidentId, Timestamp},
    store::{
        Store, StoreError,
        db::{json::to_json, writer::WriteContext},
    },
};

/// How an act ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActEnd {
    pub act: Act,
    pub state: ActState,
    /// Fit for a metric label.
    pub outcome: &'static str,
    /// The sender's display name.
    pub name: String,
    pub answers: Vec<ActAnswer>,
    /// Its rooms must show it.
    pub is_visible: bool,
}

/// What became of a taking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    Taken,
    /// The sender has taken it before.
    Already,
    /// The incident is over.
    Closed,
    /// The event was redacted meanwhile.
    Withdrawn,
}

impl Store {
    /// Ends an act, unless it was withdrawn meanwhile; returns whether it did.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn end_act(&self, end: ActEnd) -> Result<bool, StoreError> {
        let now = self.clock.now();
        self.writer
            .write(move |connection, context| Box::pin(async move { end_one(connection, context, &end, now).await }))
            .await
    }

    /// Takes the incident, or all that are open of `incidents` where the act is about a digest. With a text it becomes what
    /// the sender says of a taking of before.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn take(&self, end: ActEnd, incidents: Vec<IncidentId>) -> Result<Taking, StoreError> {
        let now = self.clock.now();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move { take(connection, context, end, &incidents, now).await })
            })
            .await
    }

    /// Gives an incident back: for the sender if they took it, else for all. Returns how many takings ended; with none, the
    /// act is not ended either.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn give_back(&self, end: ActEnd, incident: IncidentId) -> Result<u64, StoreError> {
        let now = self.clock.now();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let own = end_takings(connection, &incident, Some(&end.act.sender), now).await?;
                    let ended = if own > 0 { own } else { end_takings(connection, &incident, None, now).await? };
                    if ended > 0 {
                        end_one(connection, context, &end, now).await?;
                    }
                    Ok(ended)
                })
            })
            .await
    }

    /// Ends what the reaction `event_id` took; returns how many incidents that concerns. The act ends in any case.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn undo_taking(&self, end: ActEnd, event_id: String) -> Result<usize, StoreError> {
        let now = self.clock.now();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    // Those that a reaction to a digest made carry its id and a number.
                    let incidents: Vec<String> = statement::query_scalar(
                        "UPDATE act SET state = 'ended', outcome = 'undone', ended_at = $4 \
                         WHERE (event_id = $1 OR (event_id >= $2 AND event_id < $3)) AND kind = 'take' \
                         AND state = 'live' AND incident IS NOT NULL RETURNING incident",
                    )
                    .bind(&event_id)
                    .bind(format!("{event_id}#"))
                    .bind(format!("{event_id}$"))
                    .bind(now.0)
                    .fetch_all(&mut *connection)
                    .await?;
                    for incident in &incidents {
                        rows::show(connection, context, &IncidentId(incident.clone()), now).await?;
                    }
                    end_one(connection, context, &end, now).await?;
                    Ok(incidents.len())
                })
            })
            .await
    }

    /// The act that an event asked for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn act_of_event(&self, event_id: &str) -> Result<Option<DueAct>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let row = statement::query("SELECT * FROM act WHERE event_id = $1")
            .bind(event_id)
            .fetch_optional(&mut *connection)
            .await?;
        row.as_ref().map(rows::act).transpose()
    }
}

async fn end_takings(
    connection: &mut AnyConnection,
    incident: &IncidentId,
    sender: Option<&str>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let done = statement::query(
        "UPDATE act SET state = 'ended', outcome = 'given_back', ended_at = $3 \
         WHERE incident = $1 AND kind = 'take' AND state = 'live' AND ($2 IS NULL OR sender = $2)",
    )
    .bind(incident.as_str())
    .bind(sender)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(crate) async fn end_one(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    end: &ActEnd,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let is_over = end.state != ActState::Live;
    let ended = statement::query(
        "UPDATE act SET state = $2, outcome = $3, name = $4, next_try = NULL, ended_at = $5 \
         WHERE id = $1 AND state IN ('asked', 'in_doubt')",
    )
    .bind(&end.act.id)
    .bind(end.state.as_str())
    .bind(end.outcome)
    .bind(&end.name)
    .bind(is_over.then_some(now.0))
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if ended == 0 {
        return Ok(false);
    }
    let of = (end.act.id.as_str(), end.act.room.as_str(), end.act.card.as_ref().map(CardId::as_str));
    rows::insert_answers(connection, context, of, &end.answers, now).await?;
    if let Some(incident) = end.act.incident.as_ref().filter(|_| end.is_visible) {
        rows::show(connection, context, incident, now).await?;
    }
    Ok(true)
}

async fn take(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    end: ActEnd,
    incidents: &[IncidentId],
    now: Timestamp,
) -> Result<Taking, StoreError> {
    let mut open = Vec::with_capacity(incidents.len());
    for incident in incidents {
        let is_open: Option<i64> =
            statement::query_scalar("SELECT 1 FROM incident WHERE id = $1 AND closed_at IS NULL")
                .bind(incident.as_str())
                .fetch_optional(&mut *connection)
                .await?;
        open.extend(is_open.map(|_| incident));
    }
    if open.is_empty() {
        return Ok(Taking::Closed);
    }
    let mut fresh = Vec::with_capacity(open.len());
    for incident in open {
        if !is_taken_by(connection, incident, &end.act).await? {
            fresh.push(incident);
        }
    }
    let is_new = !fresh.is_empty();
    let is_one = end.act.incident.is_some();
    let state = if is_new && is_one { ActState::Live } else { ActState::Done };
    let outcome = if is_new { end.outcome } else { "already" };
    let end = ActEnd { state, outcome, is_visible: is_one, ..end };
    if !end_one(connection, context, &end, now).await? {
        return Ok(Taking::Withdrawn);
    }
    if !is_one {
        for (n, incident) in fresh.into_iter().enumerate() {
            take_of_digest(connection, &end, incident, n, now).await?;
            rows::show(connection, context, incident, now).await?;
        }
    }
    Ok(if is_new { Taking::Taken } else { Taking::Already })
}

/// Whether the sender has taken it. What they say now takes the place of what they said then.
async fn is_taken_by(connection: &mut AnyConnection, incident: &IncidentId, act: &Act) -> Result<bool, StoreError> {
    let row =
        statement::query("SELECT * FROM act WHERE incident = $1 AND kind = 'take' AND state = 'live' AND sender = $2")
            .bind(incident.as_str())
            .bind(&act.sender)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(row) = row else { return Ok(false) };
    if !act.args.text.is_empty() {
        let before = rows::act(&row)?.act;
        let args = ActArgs { text: act.args.text.clone(), ..before.args };
        statement::query("UPDATE act SET args = $2 WHERE id = $1")
            .bind(&before.id)
            .bind(to_json(&args)?)
            .execute(connection)
            .await?;
    }
    Ok(true)
}

/// A reaction to a digest is a taking of each of its incidents, so that each can end by itself.
async fn take_of_digest(
    connection: &mut AnyConnection,
    end: &ActEnd,
    incident: &IncidentId,
    n: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    statement::query(
        "INSERT INTO act (id, event_id, route, room, sender, name, kind, incident, card, args, state, outcome, asked_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'live', $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(ulid::Ulid::new().to_string())
    .bind(format!("{}#{n}", end.act.event_id))
    .bind(end.act.route.as_str())
    .bind(end.act.room.as_str())
    .bind(&end.act.sender)
    .bind(&end.name)
    .bind(ActKind::Take.as_str())
    .bind(incident.as_str())
    .bind(end.act.card.as_ref().map(CardId::as_str))
    .bind(to_json(&end.act.args)?)
    .bind(end.outcome)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}
