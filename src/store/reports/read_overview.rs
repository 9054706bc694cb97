//! Reads the overview. What is read for it is bounded, as are its lists.

use std::sync::Arc;

use sqlx::{AnyConnection, Connection as _, Row as _, any::AnyRow};

use super::overview::{OpenIncident, Overview, PlacedCard, SeenIncident, WaitingCard};
use crate::store::db::statement;
use crate::{
    model::{
        AlertState, CardKind, Finding, Incident, IncidentId, IncidentState, KnownSilence, RoomAddress, Seen, Timestamp,
    },
    store::{Store, StoreError, db::rows, incidents::takings, outbox::dead_letters},
};

/// How many of each are listed.
const INCIDENTS: i64 = 50;
const WAITING: usize = 5;
const DEAD_LETTERS: i64 = 20;
/// Cards that wait for a room, among them those of rooms that the config no longer names.
const BEHIND_READ: i64 = 1000;
/// Alerts of an incident from which its name is made, and those that are counted.
const SAMPLE: i64 = 4;
const COUNTED: i64 = 1000;

/// Firing before what is silent, the most severe first, then the oldest.
const OPEN: &str = "FROM incident WHERE closed_at IS NULL \
     ORDER BY CASE state WHEN 'firing' THEN 0 ELSE 1 END, severity, opened_at, id LIMIT $1";
/// As in the statistics, a card is behind while it is due, and while its op is not acknowledged. The second condition on
/// the state is that of the index.
const BEHIND: &str = "SELECT id, room, min(since) AS since FROM (\
       SELECT id, room, dirty_since AS since FROM card WHERE dirty_since IS NOT NULL \
       UNION ALL SELECT card, room, since FROM op \
       WHERE state IN ('in_flight', 'in_doubt', 'parked') AND state NOT IN ('done', 'refused')\
     ) AS behind GROUP BY id, room ORDER BY since, id LIMIT $1";

impl Store {
    /// As it was a second ago or later; what waits is that of these rooms.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn overview(&self, rooms: &[RoomAddress]) -> Result<Arc<Overview>, StoreError> {
        let (pool, rooms) = (self.monitoring.clone(), rooms.to_vec());
        let of = rooms.clone();
        let read = async move {
            let mut connection = pool.acquire().await?;
            // One transaction, so that all of it is of one instant.
            let mut transaction = connection.begin().await?;
            let overview = read(&mut transaction, &rooms).await?;
            transaction.commit().await?;
            Ok(overview)
        };
        self.overview.get(of, &self.commits, read).await
    }
}

async fn read(connection: &mut AnyConnection, rooms: &[RoomAddress]) -> Result<Overview, StoreError> {
    let (last_accepted, waiting) = (last_accepted(connection).await?, waiting(connection, rooms).await?);
    let mut overview = Overview { last_accepted, waiting, ..Overview::default() };
    let sql = format!("SELECT {} {OPEN}", rows::INCIDENT);
    // Made of literals only, here and below.
    for row in &statement::query(sqlx::AssertSqlSafe(sql)).bind(INCIDENTS).fetch_all(&mut *connection).await? {
        let seen = see(connection, row).await?;
        let cards = cards(connection, &seen.incident.id).await?;
        overview.incidents.push(OpenIncident { seen, cards });
    }
    (overview.dead_letters, overview.dead_letters_in_all) = dead_letters::newest(connection, DEAD_LETTERS).await?;
    Ok(overview)
}

/// A repeat leaves no row of its own, but its incident remembers it. One question for each state: that is what the index
/// is made for.
async fn last_accepted(connection: &mut AnyConnection) -> Result<Option<Timestamp>, StoreError> {
    let mut newest: Option<i64> =
        statement::query_scalar("SELECT max(at) FROM notification").fetch_one(&mut *connection).await?;
    for state in IncidentState::ALL {
        let last_accepted: Option<i64> = statement::query_scalar("SELECT max(heard_at) FROM incident WHERE state = $1")
            .bind(state.as_str())
            .fetch_one(&mut *connection)
            .await?;
        newest = newest.max(last_accepted);
    }
    Ok(newest.map(Timestamp))
}

pub(crate) async fn see(connection: &mut AnyConnection, row: &AnyRow) -> Result<SeenIncident, StoreError> {
    let mut incident = rows::incident(row)?;
    incident.alerts = rows::some_alerts_of(connection, &incident.id, SAMPLE).await?;
    incident.taken = takings::of_incident(connection, &incident.id).await?;
    let silence = shared_silence(connection, &incident).await?;
    let counted = statement::query(
        "SELECT state, count(*) FROM (SELECT state FROM alert WHERE incident = $1 LIMIT $2) AS counted GROUP BY state",
    )
    .bind(incident.id.as_str())
    .bind(COUNTED)
    .fetch_all(&mut *connection)
    .await?;
    let mut counts: Vec<(AlertState, i64)> = Vec::new();
    for row in &counted {
        if let Some(state) = AlertState::parse(row.try_get(0)?) {
            counts.push((state, row.try_get(1)?));
        }
    }
    let has_more = counts.iter().map(|(_, count)| count).sum::<i64>() >= COUNTED;
    Ok(SeenIncident { incident, counts, silence: silence.filter(|_| !has_more), has_more })
}

/// What is said of alerts under one silence is the same word for word.
async fn shared_silence(
    connection: &mut AnyConnection,
    incident: &Incident,
) -> Result<Option<KnownSilence>, StoreError> {
    if incident.state != IncidentState::Quiet {
        return Ok(None);
    }
    let seen: Vec<Option<String>> = statement::query_scalar(
        "SELECT seen FROM (SELECT seen FROM alert WHERE incident = $1 AND state = 'absent' LIMIT $2) AS counted \
         GROUP BY seen LIMIT 2",
    )
    .bind(incident.id.as_str())
    .bind(COUNTED)
    .fetch_all(connection)
    .await?;
    let [Some(seen)] = &seen[..] else { return Ok(None) };
    let seen: Option<Seen> = serde_json::from_str(seen).ok();
    Ok(match seen.map(|seen| seen.finding) {
        Some(Finding::Silenced { silences }) => silences.into_iter().next(),
        _ => None,
    })
}

async fn cards(connection: &mut AnyConnection, incident: &IncidentId) -> Result<Vec<PlacedCard>, StoreError> {
    let found = statement::query(
        "SELECT card.room, card.kind, card.root_event FROM card_incident JOIN card ON card.id = card_incident.card \
         WHERE card_incident.incident = $1 AND card.state = 'live' ORDER BY card.id",
    )
    .bind(incident.as_str())
    .fetch_all(connection)
    .await?;
    let mut cards = Vec::new();
    for row in &found {
        let (Ok(room), Some(kind)) = (RoomAddress::parse(row.try_get(0)?), CardKind::parse(row.try_get(1)?)) else {
            continue;
        };
        cards.push(PlacedCard { room, kind, event: row.try_get(2)? });
    }
    Ok(cards)
}

async fn waiting(connection: &mut AnyConnection, rooms: &[RoomAddress]) -> Result<Vec<WaitingCard>, StoreError> {
    let mut waiting = Vec::new();
    for row in &statement::query(BEHIND).bind(BEHIND_READ).fetch_all(&mut *connection).await? {
        if waiting.len() == WAITING {
            break;
        }
        let (card, room): (String, &str) = (row.try_get("id")?, row.try_get("room")?);
        let Some(room) = rooms.iter().find(|served| served.as_str() == room).cloned() else { continue };
        let sql = format!(
            "SELECT {} FROM incident JOIN card_incident ON card_incident.incident = incident.id \
             WHERE card_incident.card = $1 ORDER BY severity, opened_at, id LIMIT 1",
            rows::INCIDENT
        );
        let leads = statement::query(sqlx::AssertSqlSafe(sql)).bind(&card).fetch_optional(&mut *connection).await?;
        let Some(leads) = leads else { continue };
        let leads = see(connection, &leads).await?;
        let shown: i64 = statement::query_scalar("SELECT count(*) FROM card_incident WHERE card = $1")
            .bind(&card)
            .fetch_one(&mut *connection)
            .await?;
        waiting.push(WaitingCard { room, since: Timestamp(row.try_get("since")?), leads, others: shown - 1 });
    }
    Ok(waiting)
}
