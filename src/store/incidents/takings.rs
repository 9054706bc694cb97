//! Who has taken an incident. A taking is an act that lasts until the incident closes or reopens, until something fires
//! that it had not known, or until it is given back.

use std::collections::HashMap;

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::store::db::statement;
use crate::{
    model::{ActArgs, CardId, IncidentId, MAX_TAKEN, Taken, Timestamp},
    store::StoreError,
};

/// The first to take it comes first; further ones than [`MAX_TAKEN`] are not read.
pub(crate) async fn of_incident(
    connection: &mut AnyConnection,
    incident: &IncidentId,
) -> Result<Vec<Taken>, StoreError> {
    let most = i64::try_from(MAX_TAKEN).unwrap_or(i64::MAX);
    statement::query(
        "SELECT sender, name, asked_at, args FROM act WHERE incident = $1 AND kind = 'take' AND state = 'live' \
         ORDER BY asked_at, id LIMIT $2",
    )
    .bind(incident.as_str())
    .bind(most)
    .fetch_all(connection)
    .await?
    .iter()
    .map(taken)
    .collect()
}

/// The same for all incidents of a card; those that nobody took are left out.
pub(crate) async fn of_card(
    connection: &mut AnyConnection,
    card: &CardId,
) -> Result<HashMap<IncidentId, Vec<Taken>>, StoreError> {
    let rows = statement::query(
        "SELECT act.incident, act.sender, act.name, act.asked_at, act.args FROM card_incident \
         JOIN act ON act.incident = card_incident.incident AND act.kind = 'take' AND act.state = 'live' \
         WHERE card_incident.card = $1 ORDER BY act.asked_at, act.id",
    )
    .bind(card.as_str())
    .fetch_all(connection)
    .await?;
    let mut all: HashMap<IncidentId, Vec<Taken>> = HashMap::new();
    for row in &rows {
        let of_one = all.entry(IncidentId(row.try_get("incident")?)).or_default();
        if of_one.len() < MAX_TAKEN {
            of_one.push(taken(row)?);
        }
    }
    Ok(all)
}

fn taken(row: &AnyRow) -> Result<Taken, StoreError> {
    // What was said with it is not worth a card that cannot be made.
    let args: ActArgs = serde_json::from_str(row.try_get("args")?).unwrap_or_default();
    Ok(Taken {
        user: row.try_get("sender")?,
        name: row.try_get("name")?,
        at: Timestamp(row.try_get("asked_at")?),
        text: args.text,
    })
}

pub(crate) async fn is_taken(connection: &mut AnyConnection, incident: &IncidentId) -> Result<bool, StoreError> {
    let live: i64 = statement::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM act WHERE incident = $1 AND kind = 'take' AND state = 'live' LIMIT 1) \
         AS live",
    )
    .bind(incident.as_str())
    .fetch_one(connection)
    .await?;
    Ok(live > 0)
}

/// Ends all takings of an incident.
pub(crate) async fn end(
    connection: &mut AnyConnection,
    incident: &IncidentId,
    now: Timestamp,
) -> Result<(), StoreError> {
    statement::query(
        "UPDATE act SET state = 'ended', ended_at = $2 WHERE incident = $1 AND kind = 'take' AND state = 'live'",
    )
    .bind(incident.as_str())
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}
