//! Which card and incident an event of ours belongs to.

use sqlx::{AnyConnection, Row as _};

use crate::store::db::statement;
use crate::{
    model::{CardId, CardKind, IncidentId, RoomAddress, RouteName},
    store::{Store, StoreError, db::rows},
};

/// Incidents of a digest that are looked at; it has 200 at most.
const INCIDENTS: i64 = 250;
/// Alerts of an incident of a digest from which its names are read.
const NAMES: i64 = 8;

/// The conditions that say nothing new are those of the indexes. A notice is about many cards.
const SENT_TO: &str = "SELECT room FROM op WHERE state IN ('in_flight', 'in_doubt', 'parked') \
     AND state NOT IN ('done', 'refused') AND kind <> 'notice' \
     UNION ALL SELECT room FROM answer WHERE state IN ('waiting', 'in_doubt') AND state = 'in_doubt' \
     AND card IS NOT NULL AND type <> 'm.reaction'";

/// What somebody reacts or replies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActTarget {
    pub card: CardId,
    pub room: RoomAddress,
    pub kind: CardKind,
    /// The root of the card's thread.
    pub root_event: Option<String>,
    /// The only alert that the event is about, by its fingerprint.
    pub alert: Option<String>,
    /// One, or those of a digest.
    pub incidents: Vec<TargetIncident>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetIncident {
    pub id: IncidentId,
    pub route: RouteName,
    pub is_open: bool,
    /// Of a digest's incidents: what their alerts are called.
    pub alertnames: Vec<String>,
}

impl Store {
    /// What an event of ours is about; `None`: it is none of ours, or about many cards.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn act_target(&self, event_id: &str) -> Result<Option<ActTarget>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let Some((card, alert, only)) = place_of(&mut connection, event_id).await? else { return Ok(None) };
        let row =
            statement::query("SELECT * FROM card WHERE id = $1").bind(&card).fetch_optional(&mut *connection).await?;
        let Some(row) = row else { return Ok(None) };
        let card = rows::card(&row)?;
        let incidents = incidents_of(&mut connection, &card.id, card.kind, only.as_deref()).await?;
        let (kind, room, root_event) = (card.kind, card.room, card.root_event);
        Ok(Some(ActTarget { card: card.id, room, kind, root_event, alert, incidents }))
    }

    /// The rooms that may have an event of ours whose id is not known: its send is not answered yet, in doubt or set aside. A
    /// room may be named more than once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rooms_sent_to(&self) -> Result<Vec<RoomAddress>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let rooms: Vec<String> = statement::query_scalar(SENT_TO).fetch_all(&mut *connection).await?;
        Ok(rooms.iter().filter_map(|room| RoomAddress::parse(room).ok()).collect())
    }
}

/// Card, alert, and the only incident, of an event of ours.
async fn place_of(
    connection: &mut AnyConnection,
    event_id: &str,
) -> Result<Option<(String, Option<String>, Option<String>)>, StoreError> {
    let op = statement::query("SELECT card, alert FROM op WHERE event_id = $1 AND kind <> 'notice'")
        .bind(event_id)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(op) = op {
        return Ok(Some((op.try_get("card")?, op.try_get("alert")?, None)));
    }
    // One that was found in the room, and whose op an older store has never seen.
    let card: Option<String> = statement::query_scalar("SELECT id FROM card WHERE root_event = $1")
        .bind(event_id)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(card) = card {
        return Ok(Some((card, None, None)));
    }
    let answer = statement::query(
        "SELECT answer.card, act.incident FROM answer LEFT JOIN act ON act.id = answer.act \
         WHERE answer.event_id = $1 AND answer.card IS NOT NULL",
    )
    .bind(event_id)
    .fetch_optional(&mut *connection)
    .await?;
    match answer {
        Some(answer) => Ok(Some((answer.try_get("card")?, None, answer.try_get("incident")?))),
        None => Ok(None),
    }
}

async fn incidents_of(
    connection: &mut AnyConnection,
    card: &CardId,
    kind: CardKind,
    only: Option<&str>,
) -> Result<Vec<TargetIncident>, StoreError> {
    let found = statement::query(
        "SELECT incident.id, incident.route, incident.closed_at FROM incident \
         JOIN card_incident ON card_incident.incident = incident.id WHERE card_incident.card = $1 \
         ORDER BY incident.id LIMIT $2",
    )
    .bind(card.as_str())
    .bind(INCIDENTS)
    .fetch_all(&mut *connection)
    .await?;
    let mut incidents = Vec::with_capacity(found.len());
    for row in &found {
        let id = IncidentId(row.try_get("id")?);
        let Ok(route) = RouteName::parse(row.try_get("route")?) else { continue };
        if only.is_some_and(|only| only != id.as_str()) {
            continue;
        }
        let alertnames = if kind == CardKind::Digest { alertnames(connection, &id).await? } else { Vec::new() };
        let is_open = row.try_get::<Option<i64>, _>("closed_at")?.is_none();
        incidents.push(TargetIncident { id, route, is_open, alertnames });
    }
    Ok(incidents)
}

async fn alertnames(connection: &mut AnyConnection, incident: &IncidentId) -> Result<Vec<String>, StoreError> {
    let alerts = rows::some_alerts_of(connection, incident, NAMES).await?;
    let mut names: Vec<String> =
        alerts.into_iter().filter_map(|mut alert| alert.doc.labels.remove("alertname")).collect();
    names.sort();
    names.dedup();
    Ok(names)
}
