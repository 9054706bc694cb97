//! What acts and their answers need to know.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::{Connection as _, Row as _};
use tokio::sync::OwnedSemaphorePermit;

use super::rows as act_rows;
use crate::store::db::statement;
use crate::{
    model::{AlertKey, AlertState, CardId, Incident, IncidentId, RouteName, Taken, Timestamp},
    store::{
        Store, StoreError,
        db::{rows, statement::SqlBuilder},
        incidents::find::{UNRESOLVED, wanted},
        reports::{overview::SeenIncident, read_overview},
    },
};

/// Incidents that a list names.
const INCIDENTS: i64 = 20;
/// As for cards, incidents of more alerts are read one at a time.
const LARGE: i64 = 1_000;

/// An incident as a list has it.
#[derive(Clone, Debug)]
pub struct DatedIncident {
    pub seen: SeenIncident,
    /// When the first of the alerts began that matter now, as its card says.
    pub since: Timestamp,
}

/// An incident with all its alerts, read at one instant. Times are those of the wall clock. To be dropped before anything
/// is awaited that takes long: lanes wait for the place of a large one.
#[derive(Debug)]
pub struct ActIncident {
    pub incident: Incident,
    /// Held while it is in memory: a large one may be read by one at a time.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Store {
    /// # Errors
    /// When the store cannot be read.
    pub async fn incident_with_alerts(&self, id: &IncidentId) -> Result<Option<ActIncident>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let counted: i64 = statement::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM alert WHERE incident = $1 LIMIT $2) AS counted",
        )
        .bind(id.as_str())
        .bind(LARGE + 1)
        .fetch_one(&mut *connection)
        .await?;
        drop(connection);
        let turn = if counted > LARGE { Arc::clone(&self.large).acquire_owned().await.ok() } else { None };
        let mut connection = self.readers.acquire().await?;
        let mut transaction = connection.begin().await?;
        let row = statement::query("SELECT * FROM incident WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let mut incident = rows::incident(&row)?;
        incident.alerts = rows::alerts_of(&mut transaction, id).await?;
        incident.taken = taken(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(Some(ActIncident { incident: incident.shown(self.clock.ahead()), _turn: turn }))
    }

    /// The incidents of a card.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn incidents_of_card(&self, card: &CardId) -> Result<Vec<IncidentId>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let ids: Vec<String> =
            statement::query_scalar("SELECT incident FROM card_incident WHERE card = $1 ORDER BY incident")
                .bind(card.as_str())
                .fetch_all(&mut *connection)
                .await?;
        Ok(ids.into_iter().map(IncidentId).collect())
    }

    /// Those of `alerts` that other open incidents hold, by their fingerprints.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn held_elsewhere(&self, own: &IncidentId, alerts: &[AlertKey]) -> Result<BTreeSet<String>, StoreError> {
        let mut held = BTreeSet::new();
        let mut connection = self.readers.acquire().await?;
        for chunk in alerts.chunks(rows::CHUNK) {
            let mut query = wanted(chunk);
            query.push("SELECT DISTINCT alert.fingerprint").push(UNRESOLVED).push(" AND alert.incident <> ");
            query.push_bind(own.as_str());
            let found: Vec<String> = query.build_query_scalar().fetch_all(&mut *connection).await?;
            held.extend(found);
        }
        Ok(held)
    }

    /// The open incidents of these routes, firing ones first and the most severe first, with how many there are in all.
    /// Times are those of the wall clock.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_incidents(&self, routes: &[RouteName]) -> Result<(Vec<DatedIncident>, i64), StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        let mut transaction = connection.begin().await?;
        let of_routes = |select: &str, rest: &str| {
            let mut query =
                SqlBuilder::new(format!("SELECT {select} FROM incident WHERE closed_at IS NULL AND route IN ("));
            query.push_list(routes.iter().map(RouteName::as_str)).push(rest);
            query
        };
        let all: i64 = of_routes("count(*)", "").build_query_scalar().fetch_one(&mut *transaction).await?;
        let found = of_routes(
            rows::INCIDENT,
            " ORDER BY CASE state WHEN 'firing' THEN 0 ELSE 1 END, severity, opened_at, id LIMIT ",
        )
        .push_bind(INCIDENTS)
        .build()
        .fetch_all(&mut *transaction)
        .await?;
        let mut listed = Vec::with_capacity(found.len());
        for row in &found {
            let mut one = read_overview::see(&mut transaction, row).await?;
            one.incident.taken = taken(&mut transaction, &one.incident.id).await?;
            one.incident = one.incident.shown(self.clock.ahead());
            let since = began(&mut transaction, &one.incident.id).await?.unwrap_or(one.incident.opened_at);
            listed.push(DatedIncident { seen: one, since });
        }
        transaction.commit().await?;
        Ok((listed, all))
    }
}

/// When the first of the alerts began that matter now, of the first thousand; by the clock of whoever reports them. `None`:
/// none matters any more, or none says when.
async fn began(connection: &mut sqlx::AnyConnection, incident: &IncidentId) -> Result<Option<Timestamp>, StoreError> {
    let rows = statement::query(
        "SELECT state, min(CASE WHEN starts_at > 0 THEN starts_at END) AS began \
         FROM (SELECT state, starts_at FROM alert WHERE incident = $1 LIMIT $2) AS counted GROUP BY state",
    )
    .bind(incident.as_str())
    .bind(LARGE)
    .fetch_all(connection)
    .await?;
    for focus in AlertState::FOCUS {
        for row in &rows {
            if row.try_get::<&str, _>("state")? == focus.as_str() {
                return Ok(row.try_get::<Option<i64>, _>("began")?.map(Timestamp));
            }
        }
    }
    Ok(None)
}

/// Who takes care of an incident, the first one first.
async fn taken(connection: &mut sqlx::AnyConnection, incident: &IncidentId) -> Result<Vec<Taken>, StoreError> {
    let rows = statement::query(
        "SELECT * FROM act WHERE incident = $1 AND kind = 'take' AND state = 'live' ORDER BY asked_at, id",
    )
    .bind(incident.as_str())
    .fetch_all(connection)
    .await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let _: String = row.try_get("id")?;
        let act = act_rows::act(row)?.act;
        taken.push(Taken { user: act.sender, name: act.name, at: act.asked_at, text: act.args.text });
    }
    Ok(taken)
}

#[cfg(test)]
impl Store {
    /// The contents of all answers, in order.
    pub(crate) async fn test_answers(&self) -> Vec<String> {
        let mut connection = self.readers.acquire().await.expect("a connection");
        statement::query_scalar("SELECT content FROM answer ORDER BY id")
            .fetch_all(&mut *connection)
            .await
            .expect("read")
    }

    /// `kind state outcome` of all acts that events asked for, in order.
    pub(crate) async fn test_acts(&self) -> Vec<String> {
        let mut connection = self.readers.acquire().await.expect("a connection");
        let sql = "SELECT kind || ' ' || state || ' ' || coalesce(outcome, '') FROM act WHERE event_id NOT LIKE '%#%' \
             ORDER BY id";
        statement::query_scalar(sql).fetch_all(&mut *connection).await.expect("read")
    }
}
