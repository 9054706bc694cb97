//! What polls of Alertmanager need to know of open incidents, and the place where their findings are applied.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{escalations, takings};

use crate::store::db::statement;
use crate::{
    model::{
        Changes, Found, HEARTBEATS, Incident, IncidentId, PollMark, PolledAlert, PolledIncident, RouteName, Timestamp,
    },
    store::{
        Store, StoreError,
        cards::{
            save::{live_cards, mark_live_due},
            severity,
        },
        db::{common::Common, json::to_json, meta, rows, statement::SqlBuilder, writer::WriteContext},
    },
};

/// Incidents that one reading looks at, and alerts after which it ends early.
const PAGE: i64 = 200;
const PAGE_ALERTS: usize = 20_000;
/// Incidents and alerts that one transaction changes, so that webhooks are served in between.
const BATCH: usize = 50;
const BATCH_ALERTS: usize = 2_000;

/// The rules: what findings change in an incident.
pub type Judge = Arc<dyn Fn(&Incident, &[Found], Timestamp) -> Option<Changes> + Send + Sync>;

/// How far the open incidents of a receiver have been read.
#[derive(Debug, Default)]
pub struct OpenCursor {
    after: String,
    waiting: BTreeMap<String, (i64, Timestamp)>,
    gone_since: Option<Timestamp>,
}

impl OpenCursor {
    /// After those that are open come the ones that were closed as gone since then.
    #[must_use]
    pub fn and_gone_since(since: Timestamp) -> Self {
        Self { gone_since: Some(since), ..Self::default() }
    }
}

/// What a poll concludes about one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub incident: IncidentId,
    pub found: Vec<Found>,
    /// Alertmanager has some of it, and no webhook has said so for long.
    pub refresh: bool,
}

/// What became of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub changed: usize,
    /// A webhook came in between.
    pub dropped: usize,
}

impl Store {
    /// # Errors
    /// When the store cannot be read.
    pub async fn poll_mark(&self) -> Result<PollMark, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        meta::read_seq(&mut connection).await.map(PollMark)
    }

    /// The receivers of a route that have an open incident, or one that was closed as gone since then. Missing heartbeats are
    /// not Alertmanager's to judge.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn receivers_with_open(
        &self,
        route: &RouteName,
        gone_since: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        // The first bound makes SQLite choose the index of what is open.
        let sql = "SELECT receiver FROM incident WHERE closed_at IS NULL AND route = $1 AND heard_at > 0 \
             UNION SELECT receiver FROM incident WHERE state = 'gone' AND route = $1 AND closed_at > $2";
        let all = statement::query_scalar(sql).bind(route.as_str()).bind(gone_since.0).fetch_all(&mut *connection);
        let mut receivers: Vec<String> = all.await?;
        receivers.retain(|receiver| receiver != HEARTBEATS);
        Ok(receivers)
    }

    /// The next open incidents of a receiver; empty when all have been read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_page(
        &self,
        route: &RouteName,
        receiver: &str,
        cursor: &mut OpenCursor,
    ) -> Result<Vec<PolledIncident>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        if cursor.waiting.is_empty() {
            let heads = statement::query(
                "SELECT id, rev, group_hash, heard_at, listed_at FROM incident WHERE route = $1 AND receiver = $2 \
                 AND closed_at IS NULL AND group_hash > $3 ORDER BY group_hash LIMIT $4",
            )
            .bind(route.as_str())
            .bind(receiver)
            .bind(&cursor.after)
            .bind(PAGE)
            .fetch_all(&mut *connection)
            .await?;
            let gone = if heads.is_empty() { cursor.gone_since.take() } else { None };
            let heads = match gone {
                None => heads,
                Some(since) => gone_heads(&mut connection, route, receiver, since).await?,
            };
            for row in &heads {
                let heard_at: i64 = row.try_get("heard_at")?;
                let listed_at: Option<i64> = row.try_get("listed_at")?;
                let heard_at = Timestamp(listed_at.map_or(heard_at, |listed_at| heard_at.max(listed_at)));
                cursor.waiting.insert(row.try_get("id")?, (row.try_get("rev")?, heard_at));
                cursor.after = row.try_get("group_hash")?;
            }
        }
        read_alerts(&mut connection, cursor).await
    }

    /// Whom each of these silences belongs to, if they were made from a room: display names by id. Of several who want one it
    /// is the first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn silenced_by(&self, ids: &[String]) -> Result<BTreeMap<String, String>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        let mut found: BTreeMap<String, ((bool, String), String)> = BTreeMap::new();
        for chunk in ids.chunks(rows::CHUNK) {
            let mut query = SqlBuilder::new(
                "SELECT silence.silence_id, silence.state, silence.act, act.name, act.sender FROM silence CROSS JOIN act \
                 WHERE act.id = silence.act AND silence.silence_id IN (",
            );
            query.push_list(chunk.iter().map(String::as_str));
            for row in query.build().fetch_all(&mut *connection).await? {
                let (name, sender): (String, String) = (row.try_get("name")?, row.try_get("sender")?);
                let rank = (row.try_get::<&str, _>("state")? != "live", row.try_get::<String, _>("act")?);
                let by = (rank, if name.is_empty() { sender } else { name });
                match found.entry(row.try_get("silence_id")?) {
                    Entry::Vacant(entry) => drop(entry.insert(by)),
                    Entry::Occupied(mut entry) if by.0 < entry.get().0 => drop(entry.insert(by)),
                    Entry::Occupied(_) => {}
                }
            }
        }
        Ok(found.into_iter().map(|(id, (_, name))| (id, name)).collect())
    }

    /// Applies what a poll found, incident by incident, unless a webhook has changed it since the poll began.
    ///
    /// # Errors
    /// When it cannot be committed; what was applied until then stays.
    pub async fn apply_found(
        &self,
        mark: PollMark,
        mut judged: Vec<Judged>,
        judge: Judge,
    ) -> Result<Applied, StoreError> {
        let mut applied = Applied::default();
        while !judged.is_empty() {
            let mut alerts = 0;
            let fits = judged.iter().take(BATCH).take_while(|one| {
                alerts += one.found.len();
                alerts <= BATCH_ALERTS
            });
            let rest = judged.split_off(fits.count().max(1));
            let batch = std::mem::replace(&mut judged, rest);
            let (judge, now) = (Arc::clone(&judge), self.clock.now());
            let done = self
                .writer
                .write(move |connection, context| Box::pin(apply(connection, context, mark, batch, judge, now)))
                .await?;
            applied.changed += done.changed;
            applied.dropped += done.dropped;
        }
        Ok(applied)
    }
}

/// The newest incidents that were closed as gone, if they are their groups' newest.
async fn gone_heads(
    connection: &mut AnyConnection,
    route: &RouteName,
    receiver: &str,
    since: Timestamp,
) -> Result<Vec<AnyRow>, StoreError> {
    let sql = "SELECT id, rev, group_hash, heard_at, listed_at FROM incident WHERE state = 'gone' AND route = $1 \
         AND receiver = $2 AND closed_at > $3 AND NOT EXISTS (SELECT 1 FROM incident AS newer \
         WHERE newer.route = incident.route AND newer.receiver = incident.receiver \
         AND newer.group_hash = incident.group_hash AND newer.rev > incident.rev) ORDER BY closed_at DESC LIMIT $4";
    let heads = statement::query(sql).bind(route.as_str()).bind(receiver).bind(since.0).bind(PAGE);
    Ok(heads.fetch_all(connection).await?)
}

/// Whether it is open, or closed as gone, the newest of its group and still shown.
async fn may_change(connection: &mut AnyConnection, id: &IncidentId) -> Result<Option<Incident>, StoreError> {
    let row = statement::query(
        "SELECT * FROM incident WHERE id = $1 AND (closed_at IS NULL OR (state = 'gone' AND NOT EXISTS \
         (SELECT 1 FROM incident AS newer WHERE newer.route = incident.route AND newer.receiver = incident.receiver \
         AND newer.group_hash = incident.group_hash AND newer.rev > incident.rev)))",
    )
    .bind(id.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(incident) = row.as_ref().map(rows::incident).transpose()? else { return Ok(None) };
    let is_shown = incident.state.is_open() || !live_cards(connection, id).await?.is_empty();
    Ok(Some(incident).filter(|_| is_shown))
}

/// Reads the alerts of the incidents that wait, until there are enough.
async fn read_alerts(
    connection: &mut AnyConnection,
    cursor: &mut OpenCursor,
) -> Result<Vec<PolledIncident>, StoreError> {
    let ids: Vec<String> = cursor.waiting.keys().cloned().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = SqlBuilder::new(
        "SELECT incident, fingerprint, state, seen, absent_since, starts_at FROM alert \
         WHERE state <> 'resolved' AND incident IN (",
    );
    query.push_list(ids.iter().map(String::as_str));
    query.push(" ORDER BY incident, fingerprint");
    let mut alerts: BTreeMap<String, Vec<PolledAlert>> = BTreeMap::new();
    let (mut count, mut unread_from) = (0, None);
    let mut stream = query.build().fetch(&mut *connection);
    while let Some(row) = stream.try_next().await? {
        let incident: &str = row.try_get("incident")?;
        if count >= PAGE_ALERTS && !alerts.contains_key(incident) {
            unread_from = Some(incident.to_owned());
            break;
        }
        count += 1;
        let alert = rows::polled_alert(&row)?;
        match alerts.get_mut(incident) {
            Some(list) => list.push(alert),
            None => drop(alerts.insert(incident.to_owned(), vec![alert])),
        }
    }
    drop(stream);
    let rest = unread_from.map(|id| cursor.waiting.split_off(&id)).unwrap_or_default();
    let read = std::mem::replace(&mut cursor.waiting, rest);
    let open = read.into_iter().map(|(id, (rev, heard_at))| {
        let alerts = alerts.remove(&id).unwrap_or_default();
        PolledIncident { id: IncidentId(id), heard_at, alerts, rev }
    });
    Ok(open.collect())
}

async fn apply(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    mark: PollMark,
    batch: Vec<Judged>,
    judge: Judge,
    now: Timestamp,
) -> Result<Applied, StoreError> {
    let mut applied = Applied::default();
    for judged in batch {
        let Some(mut incident) = may_change(connection, &judged.incident).await? else {
            applied.dropped += 1;
            continue;
        };
        if incident.rev > mark.0 {
            applied.dropped += 1;
            continue;
        }
        if judged.refresh {
            statement::query("UPDATE incident SET listed_at = $2 WHERE id = $1")
                .bind(incident.id.as_str())
                .bind(now.0)
                .execute(&mut *connection)
                .await?;
        }
        if judged.found.is_empty() {
            continue;
        }
        incident.alerts = rows::alerts_of(connection, &incident.id).await?;
        let Some(changes) = judge(&incident, &judged.found, now) else { continue };
        save(connection, context, &incident, &changes, now).await?;
        applied.changed += 1;
    }
    Ok(applied)
}

/// When its group was heard of, and by which notification it last changed, stays as it is: a poll is not a notification.
async fn save(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    incident: &Incident,
    changes: &Changes,
    now: Timestamp,
) -> Result<(), StoreError> {
    let rev = if changes.visible { context.next() } else { incident.rev };
    let common: Option<String> = statement::query_scalar(
        "UPDATE incident SET state = $2, severity = $3, closed_at = $4, rev = $5, doc = $6 WHERE id = $1 RETURNING common",
    )
    .bind(incident.id.as_str())
    .bind(changes.state.as_str())
    .bind(i64::from(changes.severity))
    .bind(changes.closed_at.map(|at| at.0))
    .bind(rev)
    .bind(to_json(&changes.doc)?)
    .fetch_one(&mut *connection)
    .await?;
    if changes.severity != incident.severity {
        severity::set_all_of(connection, &incident.id).await?;
    }
    if changes.ends_taking(incident) {
        takings::end(connection, &incident.id, now).await?;
    }
    if changes.reopens(incident) {
        // Whoever is called when nobody takes it is called for this outage, too.
        statement::query("UPDATE incident SET fired_at = $2 WHERE id = $1")
            .bind(incident.id.as_str())
            .bind(now.0)
            .execute(&mut *connection)
            .await?;
        escalations::forget(connection, &incident.id).await?;
    }
    rows::save_alerts(connection, &incident.id, &Common::from_json(common.as_deref())?, &changes.alerts).await?;
    if changes.visible {
        mark_live_due(connection, context, incident.id.as_str(), now).await?;
    }
    Ok(())
}
