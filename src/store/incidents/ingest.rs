//! One accepted webhook: reconciled and applied inside the writer's transaction, so that webhooks cannot race.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;

use super::{
    escalations,
    find::{newest_incident, with_unresolved},
    rerouted, takings,
};
use crate::store::db::statement;
use crate::{
    model::{
        AlertKey, AlertState, Beat, Changes, Incident, IncidentId, IncidentKey, IncidentWrite, Known, NotificationId,
        Outcome, RoomAddress, Timestamp,
    },
    store::{
        Store, StoreError,
        cards::{
            save::{CardWriter, live_cards},
            severity,
        },
        db::{bodies, common::Common, json::to_json, rows, statement::Together, writer::WriteContext},
        heartbeats::beats,
    },
};

/// Other incidents that one transaction settles.
const SETTLED: usize = 50;

type Decide = Arc<dyn Fn(Option<&Known>, Timestamp) -> Changes + Send + Sync>;
type Settle = Box<dyn Fn(&Known, Timestamp) -> Option<Changes> + Send + Sync>;

/// A webhook that has been read and routed, on its way into the store.
pub struct Ingest {
    pub key: IncidentKey,
    /// As it came over the wire; kept, packed, for `store.retention`.
    pub body: Vec<u8>,
    /// Of all that the notification says. An open incident that keeps the same one is handed to `decide` as repeated,
    /// without its alerts. Empty: never.
    pub content_hash: String,
    /// Whether the config's `receivers` chose its route.
    pub by_receiver: bool,
    /// The rooms of its route.
    pub rooms: Vec<RoomAddress>,
    /// The rules: what is known -> what changes. Asked a second time if the first answer was given too early.
    pub decide: Decide,
    /// The alerts that it reports as resolved.
    pub resolved: Vec<AlertKey>,
    /// The rules for another open incident of the route that holds some of them.
    pub settle: Settle,
    /// What it says of dead man's switches; one for each.
    pub beats: Vec<Beat>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingested {
    pub notification: NotificationId,
    /// `None`: it spoke of nothing.
    pub incident: Option<IncidentId>,
    pub outcome: Outcome,
    /// Alerts that the incident no longer remembers.
    pub forgotten: usize,
    /// Other incidents in which alerts were resolved.
    pub elsewhere: usize,
    /// Whether it left an alert absent.
    pub left_absent: bool,
    /// Beats that armed no switch, because their heartbeat has as many as it may have.
    pub unarmed: usize,
}

impl Ingested {
    /// What concerns nothing but its own incident.
    pub(super) fn alone(notification: NotificationId, incident: IncidentId, outcome: Outcome) -> Self {
        Self {
            notification,
            incident: Some(incident),
            outcome,
            forgotten: 0,
            elsewhere: 0,
            left_absent: false,
            unarmed: 0,
        }
    }
}

/// What is seen beside the writer.
pub(super) enum LookAhead {
    /// A mere repeat, which is written.
    Repeated(Ingested),
    /// Nothing is known of the group.
    Unknown,
    /// To be decided inside the writer's transaction.
    Other,
}

impl Store {
    /// Returns once the notification is on disk.
    ///
    /// # Errors
    /// When it cannot be committed, or not in time. It may have been committed all the same, if it was merely late.
    pub async fn ingest(&self, mut ingest: Ingest) -> Result<Ingested, StoreError> {
        let clock = self.clock.clone();
        let (group, route) = (hash(ingest.key.group_key.as_bytes()), ingest.key.route.clone());
        // Whether something is known of a new group the writer sees; only what repeats or changes is read up first.
        let is_new = !ingest.content_hash.is_empty() && !self.met.meet(&ingest.key);
        if is_new {
            self.announce(&ingest.rooms);
        }
        let may_open = is_new
            || match self.look_ahead(&ingest, &group, clock.now()).await? {
                LookAhead::Repeated(ingested) => return Ok(ingested),
                LookAhead::Unknown => true,
                LookAhead::Other => false,
            };
        let (hashes, by_receiver) = (Hashes { group, body: hash(&ingest.body) }, Some(ingest.by_receiver));
        let may_open = may_open && ingest.may_be_opening();
        ingest.body = bodies::packed(ingest.body);
        if may_open && let Some(ingested) = self.try_opening(&mut ingest, &hashes, clock.now()).await? {
            return Ok(ingested);
        }
        let (mut ingested, mut rest) = self
            .writer
            .write(move |connection, context| {
                Box::pin(async move {
                    Ingestion { connection, context, hashes, by_receiver, now: clock.now() }.run(ingest).await
                })
            })
            .await?;
        if ingested.left_absent {
            self.notify_absent(route.as_str()).await;
            self.absences.send_modify(|absences| *absences.entry(route).or_default() += 1);
        }
        // Should one of these fail, the webhook is not answered 200 and comes again.
        while let Some(others) = rest.take() {
            let now = self.clock.now();
            let (settled, left) = self
                .writer
                .write(move |connection, context| {
                    let hashes = Hashes::default();
                    Box::pin(async move {
                        Ingestion { connection, context, hashes, by_receiver: None, now }.settle(others).await
                    })
                })
                .await?;
            ingested.elsewhere += settled;
            rest = left;
        }
        Ok(ingested)
    }
}

/// Other incidents of the route that hold alerts which a notification reports as resolved.
struct Others {
    incidents: Vec<IncidentId>,
    settle: Settle,
    rooms: Vec<RoomAddress>,
    notification: NotificationId,
}

/// What `decide` makes of an incident of the receiver's own, which no webhook brings; applied as if one had.
pub(in crate::store) async fn apply_own(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    key: &IncidentKey,
    rooms: &[RoomAddress],
    now: Timestamp,
    decide: impl FnOnce(Option<&Known>) -> Option<Changes>,
) -> Result<Option<IncidentId>, StoreError> {
    let hashes = Hashes { group: hash(key.group_key.as_bytes()), body: hash(key.group_key.as_bytes()) };
    let mut ingestion = Ingestion { connection, context, hashes, by_receiver: None, now };
    let known = ingestion.known(key, "").await?;
    let Some(changes) = decide(known.as_ref()) else { return Ok(None) };
    let existing = known.as_ref().map(|known| &known.incident);
    let says = changes.visible || !changes.notes.is_empty();
    let (notification, incident) =
        ingestion.write(key, key.group_key.as_bytes(), existing, &changes, changes.visible).await?;
    if let Some(incident) = &incident
        && says
    {
        ingestion.cards().save(incident, rooms, &changes, &notification).await?;
    }
    Ok(incident)
}

#[derive(Default)]
pub(super) struct Hashes {
    pub group: String,
    pub body: String,
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..16])
}

/// One notification inside the writer's transaction; [`CardWriter`] does what it changes on cards.
struct Ingestion<'c> {
    connection: &'c mut AnyConnection,
    context: &'c mut WriteContext,
    hashes: Hashes,
    /// See [`Ingest::by_receiver`].
    by_receiver: Option<bool>,
    now: Timestamp,
}

impl Ingestion<'_> {
    async fn run(mut self, ingest: Ingest) -> Result<(Ingested, Option<Others>), StoreError> {
        let Ingest { key, body, content_hash, by_receiver, rooms, decide, resolved, settle, beats } = ingest;
        let unarmed = beats::save(self.connection, &beats, self.now).await?;
        let known = self.known(&key, &content_hash).await?;
        let changes = decide(known.as_ref(), self.now);
        let existing = known.as_ref().map(|known| &known.incident);
        let incidents = self.others(&key, existing, &resolved, &settle).await?;
        let outcome = if incidents.is_empty() { changes.outcome } else { changes.outcome.with_change() };
        let says = changes.visible || !changes.notes.is_empty();
        let visible = says || !incidents.is_empty();
        let (notification, incident) = self.write(&key, &body, existing, &changes, visible).await?;
        if let Some(incident) = &incident
            && says
        {
            self.cards().save(incident, &rooms, &changes, &notification).await?;
        }
        if let (Some(incident), IncidentWrite::Insert, true) = (&incident, changes.write, by_receiver) {
            rerouted::go_on(self.connection, &key, &self.hashes.group, incident, self.now).await?;
        }
        let forgotten = changes.forgotten.len();
        let left_absent =
            changes.alerts.iter().any(|alert| alert.state == AlertState::Absent && alert.changed_at == self.now);
        let others = Others { incidents, settle, rooms, notification: notification.clone() };
        let (elsewhere, rest) = self.settle(others).await?;
        Ok((Ingested { notification, incident, outcome, forgotten, elsewhere, left_absent, unarmed }, rest))
    }

    /// Writes the notification and its incident. `visible`: its body is kept, since rooms show what it says.
    async fn write(
        &mut self,
        key: &IncidentKey,
        body: &[u8],
        existing: Option<&Incident>,
        changes: &Changes,
        visible: bool,
    ) -> Result<(NotificationId, Option<IncidentId>), StoreError> {
        let repeated = if visible { None } else { self.repeat(existing).await? };
        let notification = match (repeated, changes.write) {
            (Some(notification), _) => notification,
            // Together with its incident.
            (None, IncidentWrite::Insert) => NotificationId(ulid::Ulid::new().to_string()),
            (None, _) => self.insert_notification(key, visible.then_some(body)).await?,
        };
        let incident = match changes.write {
            IncidentWrite::None => None,
            IncidentWrite::Insert => Some(self.insert_incident(key, changes, &notification, body).await?),
            IncidentWrite::Update => {
                let incident = existing.ok_or(StoreError::Database("no incident to update".to_owned()))?;
                Some(self.update_incident(incident, changes, &notification, self.now, self.by_receiver).await?)
            }
        };
        Ok((notification, incident))
    }

    /// The other open incidents of the route in which something of what is resolved is so from now on.
    async fn others(
        &mut self,
        key: &IncidentKey,
        own: Option<&Incident>,
        resolved: &[AlertKey],
        settle: &Settle,
    ) -> Result<Vec<IncidentId>, StoreError> {
        let mut held = with_unresolved(self.connection, &key.route, own.map(|own| &own.id), resolved).await?;
        // Mostly one or two, of which an earlier firing may be all that it tells; of many it is taken for granted.
        if held.len() <= SETTLED {
            let mut changed = Vec::with_capacity(held.len());
            for id in held {
                let known = self.open_incident(&id).await?;
                if known.is_some_and(|known| settle(&known, self.now).is_some()) {
                    changed.push(id);
                }
            }
            held = changed;
        }
        Ok(held)
    }

    /// Applies the rules to some of them; how many changed, and what is left for further transactions, so that the writer
    /// serves others in between.
    async fn settle(&mut self, mut others: Others) -> Result<(usize, Option<Others>), StoreError> {
        let left = others.incidents.split_off(others.incidents.len().min(SETTLED));
        let mut settled = 0;
        for id in std::mem::replace(&mut others.incidents, left) {
            // It may have changed since it was found.
            let Some(known) = self.open_incident(&id).await? else { continue };
            let Some(changes) = (others.settle)(&known, self.now) else { continue };
            // When its own group was heard of stays as it is: nothing was said of its other alerts.
            self.update_incident(
                &known.incident,
                &changes,
                &others.notification,
                known.incident.last_notified_at,
                None,
            )
            .await?;
            self.cards().save(&id, &others.rooms, &changes, &others.notification).await?;
            settled += 1;
        }
        Ok((settled, (!others.incidents.is_empty()).then_some(others)))
    }

    fn cards(&mut self) -> CardWriter<'_> {
        CardWriter { connection: self.connection, context: self.context, now: self.now }
    }

    async fn open_incident(&mut self, id: &IncidentId) -> Result<Option<Known>, StoreError> {
        let row = statement::query("SELECT * FROM incident WHERE id = $1 AND closed_at IS NULL")
            .bind(id.as_str())
            .fetch_optional(&mut *self.connection)
            .await?;
        match row {
            Some(row) => self.with_all(rows::incident(&row)?).await.map(Some),
            None => Ok(None),
        }
    }

    async fn with_all(&mut self, mut incident: Incident) -> Result<Known, StoreError> {
        incident.alerts = rows::alerts_of(self.connection, &incident.id).await?;
        let cards = live_cards(self.connection, &incident.id).await?.into_iter().map(|(state, _)| state).collect();
        let taken = takings::is_taken(self.connection, &incident.id).await?;
        Ok(Known { incident, cards, repeated: false, taken })
    }

    /// The newest incident of the group with its live cards and, unless it is repeated by `content_hash`, its alerts: reading
    /// those of a large group costs more than all the rest.
    async fn known(&mut self, key: &IncidentKey, content_hash: &str) -> Result<Option<Known>, StoreError> {
        let Some(incident) = newest_incident(self.connection, key, &self.hashes.group).await? else {
            return Ok(None);
        };
        if !incident.is_repeated_by(content_hash) {
            return self.with_all(incident).await.map(Some);
        }
        let cards = live_cards(self.connection, &incident.id).await?.into_iter().map(|(state, _)| state).collect();
        let taken = takings::is_taken(self.connection, &incident.id).await?;
        Ok(Some(Known { incident, cards, repeated: true, taken }))
    }

    /// Counts the notification as a repeat of the one that last changed the incident.
    async fn repeat(&mut self, incident: Option<&Incident>) -> Result<Option<NotificationId>, StoreError> {
        let repeated = match incident {
            Some(incident) => {
                statement::query_scalar("UPDATE notification SET repeats = repeats + 1 WHERE id = $1 RETURNING id")
                    .bind(incident.notification.as_str())
            }
            None => statement::query_scalar(
                "UPDATE notification SET repeats = repeats + 1 WHERE id = \
                 (SELECT id FROM notification WHERE group_hash = $1 AND body_hash = $2 ORDER BY at DESC, id DESC LIMIT 1) \
                 RETURNING id",
            )
            .bind(&self.hashes.group)
            .bind(&self.hashes.body),
        };
        Ok(repeated.fetch_optional(&mut *self.connection).await?.map(NotificationId))
    }

    async fn insert_notification(
        &mut self,
        key: &IncidentKey,
        body: Option<&[u8]>,
    ) -> Result<NotificationId, StoreError> {
        let id = NotificationId(ulid::Ulid::new().to_string());
        statement::query(
            "INSERT INTO notification (id, at, route, group_hash, body_hash, body) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id.as_str())
        .bind(self.now.0)
        .bind(key.route.as_str())
        .bind(&self.hashes.group)
        .bind(&self.hashes.body)
        .bind(body)
        .execute(&mut *self.connection)
        .await?;
        Ok(id)
    }

    /// With the notification that opens it. Both in one call: each costs a trip to the database's thread and back.
    async fn insert_incident(
        &mut self,
        key: &IncidentKey,
        changes: &Changes,
        notification: &NotificationId,
        body: &[u8],
    ) -> Result<IncidentId, StoreError> {
        let id = IncidentId(ulid::Ulid::new().to_string());
        let common = Common::of(&changes.alerts);
        Together::new(
            "INSERT INTO notification (id, at, route, group_hash, body_hash, body) \
             VALUES ($13, $8, $2, $5, $15, $16) ON CONFLICT (id) DO NOTHING; \
             INSERT INTO incident (id, route, receiver, group_key, group_hash, state, severity, opened_at, heard_at, \
             closed_at, flaps, rev, notification, doc, by_receiver, fired_at, common) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $17, $8, $18)",
        )
        .bind(id.as_str())
        .bind(key.route.as_str())
        .bind(&key.receiver)
        .bind(&key.group_key)
        .bind(&self.hashes.group)
        .bind(changes.state.as_str())
        .bind(i64::from(changes.severity))
        .bind(self.now.0)
        .bind(self.now.0)
        .bind(changes.closed_at.map(|at| at.0))
        .bind(i64::from(changes.flaps))
        .bind(self.context.next())
        .bind(notification.as_str())
        .bind(to_json(&changes.doc)?)
        .bind(&self.hashes.body)
        .bind(body)
        .bind(i64::from(self.by_receiver == Some(true)))
        .bind(common.to_json()?)
        .execute(&mut *self.connection)
        .await?;
        rows::save_alerts(self.connection, &id, &common, &changes.alerts).await?;
        Ok(id)
    }

    async fn update_incident(
        &mut self,
        incident: &Incident,
        changes: &Changes,
        notification: &NotificationId,
        last_notified_at: Timestamp,
        by_receiver: Option<bool>,
    ) -> Result<IncidentId, StoreError> {
        let rev = if changes.visible { self.context.next() } else { incident.rev };
        let shown = if changes.visible { notification } else { &incident.notification };
        let common: Option<String> = statement::query_scalar(
            "UPDATE incident SET state = $2, severity = $3, heard_at = $4, closed_at = $5, flaps = $6, rev = $7, \
             notification = $8, doc = $9, by_receiver = coalesce($10, by_receiver), \
             fired_at = CASE WHEN $11 = 1 THEN $12 ELSE fired_at END WHERE id = $1 RETURNING common",
        )
        .bind(incident.id.as_str())
        .bind(changes.state.as_str())
        .bind(i64::from(changes.severity))
        .bind(last_notified_at.0)
        .bind(changes.closed_at.map(|at| at.0))
        .bind(i64::from(changes.flaps))
        .bind(rev)
        .bind(shown.as_str())
        .bind(to_json(&changes.doc)?)
        .bind(by_receiver.map(i64::from))
        .bind(i64::from(changes.reopens(incident)))
        .bind(self.now.0)
        .fetch_one(&mut *self.connection)
        .await?;
        if changes.severity != incident.severity {
            severity::set_all_of(self.connection, &incident.id).await?;
        }
        if changes.ends_taking(incident) {
            takings::end(self.connection, &incident.id, self.now).await?;
        }
        if changes.reopens(incident) {
            escalations::forget(self.connection, &incident.id).await?;
        }
        for fingerprint in &changes.forgotten {
            statement::query("DELETE FROM alert WHERE incident = $1 AND fingerprint = $2")
                .bind(incident.id.as_str())
                .bind(fingerprint)
                .execute(&mut *self.connection)
                .await?;
        }
        let common = Common::from_json(common.as_deref())?;
        rows::save_alerts(self.connection, &incident.id, &common, &changes.alerts).await?;
        Ok(incident.id.clone())
    }
}
