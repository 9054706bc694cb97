//! Rows <-> acts and silences.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::store::db::statement;
use crate::{
    model::{Act, ActKind, ActState, CardId, IncidentId, RoomAddress, RouteName, Timestamp, TxnId},
    store::{StoreError, db::writer::WriteContext},
};

/// An act and what is known of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueAct {
    pub act: Act,
    pub outcome: Option<String>,
}

/// One silence that an act makes. Times are those of the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilenceRow {
    pub act: String,
    pub n: i64,
    pub route: RouteName,
    pub incident: IncidentId,
    pub marker: String,
    /// JSON.
    pub matchers: String,
    pub comment: String,
    pub created_by: String,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub silence_id: Option<String>,
    pub state: SilenceRowState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceRowState {
    /// Surely not made yet.
    Wanted,
    /// It may have been made.
    InDoubt,
    Live,
    Ended,
    /// Surely not made, and it will not be.
    Failed,
}

impl SilenceRowState {
    const ALL: [Self; 5] = [Self::Wanted, Self::InDoubt, Self::Live, Self::Ended, Self::Failed];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::InDoubt => "in_doubt",
            Self::Live => "live",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// What a room is answered, frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActAnswer {
    pub txn_id: TxnId,
    /// `m.room.message` or `m.reaction`.
    pub event_type: &'static str,
    pub content: String,
}

fn bad(what: &str, value: &str) -> StoreError {
    StoreError::Database(format!("the store holds an unknown {what}: {value:?}"))
}

fn word<T>(row: &AnyRow, column: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    parse(text).ok_or_else(|| bad(column, text))
}

pub(crate) fn act(row: &AnyRow) -> Result<DueAct, StoreError> {
    let args: &str = row.try_get("args")?;
    let act = Act {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        megolm: row.try_get("megolm")?,
        route: word(row, "route", |text| RouteName::parse(text).ok())?,
        room: word(row, "room", |text| RoomAddress::parse(text).ok())?,
        sender: row.try_get("sender")?,
        name: row.try_get("name")?,
        kind: word(row, "kind", ActKind::parse)?,
        incident: row.try_get::<Option<String>, _>("incident")?.map(IncidentId),
        card: row.try_get::<Option<String>, _>("card")?.map(CardId),
        args: serde_json::from_str(args).map_err(|_| bad("act", args))?,
        state: word(row, "state", ActState::parse)?,
        asked_at: Timestamp(row.try_get("asked_at")?),
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
    };
    Ok(DueAct { act, outcome: row.try_get("outcome")? })
}

pub(crate) fn silence(row: &AnyRow) -> Result<SilenceRow, StoreError> {
    Ok(SilenceRow {
        act: row.try_get("act")?,
        n: row.try_get("n")?,
        route: word(row, "route", |text| RouteName::parse(text).ok())?,
        incident: IncidentId(row.try_get("incident")?),
        marker: row.try_get("marker")?,
        matchers: row.try_get("matchers")?,
        comment: row.try_get("comment")?,
        created_by: row.try_get("created_by")?,
        starts_at: Timestamp(row.try_get("starts_at")?),
        ends_at: Timestamp(row.try_get("ends_at")?),
        silence_id: row.try_get("silence_id")?,
        state: word(row, "state", |text| SilenceRowState::ALL.into_iter().find(|state| state.as_str() == text))?,
    })
}

/// The incident has changed in a way that its rooms must show.
pub(crate) async fn show(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    incident: &IncidentId,
    now: Timestamp,
) -> Result<(), StoreError> {
    statement::query("UPDATE incident SET rev = $2 WHERE id = $1")
        .bind(incident.as_str())
        .bind(context.next())
        .execute(&mut *connection)
        .await?;
    statement::query(
        "UPDATE card SET dirty_since = coalesce(dirty_since, $2) WHERE state = 'live' AND id IN \
         (SELECT card FROM card_incident WHERE incident = $1)",
    )
    .bind(incident.as_str())
    .bind(now.0)
    .execute(&mut *connection)
    .await?;
    context.behind.add_all();
    Ok(())
}

pub(crate) async fn insert_answers(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    act: (&str, &str, Option<&str>),
    answers: &[ActAnswer],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (act, room, card) = act;
    for answer in answers {
        statement::query(
            "INSERT INTO answer (id, act, room, card, type, content, txn_id, at, state) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting')",
        )
        .bind(context.next())
        .bind(act)
        .bind(room)
        .bind(card)
        .bind(answer.event_type)
        .bind(&answer.content)
        .bind(answer.txn_id.as_str())
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
        context.behind.add_all();
    }
    Ok(())
}
