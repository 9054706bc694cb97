//! New incidents, written for many notifications at once: each statement is a trip to the database's thread and back.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use sqlx::{AnyConnection, Row as _};

use super::{
    rows::{self, AlertRow},
    statement::{self, SqlBuilder},
};
use crate::model::{CardId, CardKind, IncidentId, IncidentKey, IncidentState, NotificationId, RoomAddress, Timestamp};

/// The first notification of a group that nothing is known of.
pub(crate) struct Opening {
    pub key: IncidentKey,
    pub group_hash: String,
    pub body: Arc<Vec<u8>>,
    pub body_hash: String,
    pub by_receiver: bool,
    pub at: Timestamp,
    pub notification: NotificationId,
    pub incident: IncidentId,
    pub state: IncidentState,
    pub severity: u32,
    pub closed_at: Option<Timestamp>,
    /// JSON.
    pub doc: String,
    /// JSON.
    pub common: Option<String>,
    pub alerts: Vec<AlertRow>,
    /// At most one room: whether two are the same is known inside the transaction only.
    pub card: Option<(CardId, RoomAddress)>,
    /// Goes with it: the share of the memory that bodies may take.
    pub _held: Box<dyn Send + Sync>,
}

impl Opening {
    fn group(&self) -> (&str, &str, &str) {
        (self.key.route.as_str(), &self.key.receiver, &self.group_hash)
    }
}

/// Writes what nothing is known of, and says of each whether it was written. The second of two about one group is not, nor
/// what a moved receiver left on another route. `next` is the store's counter.
pub(crate) async fn save(
    connection: &mut AnyConnection,
    openings: &[&Opening],
    mut next: impl FnMut() -> i64,
) -> Result<Vec<bool>, sqlx::Error> {
    let mut seen = known(connection, openings).await?;
    let is_new: Vec<bool> = openings
        .iter()
        .map(|opening| {
            let (route, receiver, hash) = opening.group();
            seen.insert((route.to_owned(), receiver.to_owned(), hash.to_owned()))
        })
        .collect();
    let new = openings.iter().zip(&is_new).filter(|(_, is_new)| **is_new);
    let new: Vec<(&Opening, i64)> = new.map(|(opening, _)| (*opening, next())).collect();
    for part in statement::parts(&new) {
        let mut insert = vec![notifications(part), incidents(part)];
        let cards: Vec<_> = part.iter().filter_map(|(opening, _)| Some((*opening, opening.card.as_ref()?))).collect();
        // Nearly always all of them, so that the statement is a known one.
        if !cards.is_empty() {
            insert.extend(shown(&cards));
        }
        SqlBuilder::execute_all(insert, connection).await?;
    }
    let alerts: Vec<(&IncidentId, &AlertRow)> = new
        .iter()
        .flat_map(|(opening, _)| opening.alerts.iter().map(move |alert| (&opening.incident, alert)))
        .collect();
    for part in statement::parts(&alerts) {
        rows::insert_alerts(connection, part).await?;
    }
    Ok(is_new)
}

/// The groups of these that have an incident, or had one on another route.
async fn known(
    connection: &mut AnyConnection,
    openings: &[&Opening],
) -> Result<HashSet<(String, String, String)>, sqlx::Error> {
    let mut hashes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for opening in openings {
        let (route, receiver, hash) = opening.group();
        hashes.entry((route, receiver)).or_default().push(hash);
    }
    let mut known = HashSet::new();
    for ((route, receiver), hashes) in hashes {
        for part in statement::parts(&hashes) {
            let mut query = SqlBuilder::new("");
            for (n, of) in ["route", "moved_to"].into_iter().enumerate() {
                query.push(if n == 0 { "" } else { " UNION ALL " });
                query.push("SELECT group_hash FROM incident WHERE ").push(of).push(" = ").push_bind(route);
                query.push(" AND receiver = ").push_bind(receiver).push(" AND group_hash IN (");
                query.push_list(part.iter().copied());
            }
            for row in query.build().fetch_all(&mut *connection).await? {
                known.insert((route.to_owned(), receiver.to_owned(), row.try_get("group_hash")?));
            }
        }
    }
    Ok(known)
}

fn notifications(openings: &[(&Opening, i64)]) -> SqlBuilder {
    let mut insert = SqlBuilder::new("INSERT INTO notification (id, at, route, group_hash, body_hash, body) VALUES ");
    for (n, (opening, _)) in openings.iter().enumerate() {
        insert.push(if n == 0 { "(" } else { ", (" }).push_bind(opening.notification.as_str());
        insert.push(", ").push_bind(opening.at.0);
        insert.push(", ").push_bind(opening.key.route.as_str());
        insert.push(", ").push_bind(opening.group_hash.as_str());
        insert.push(", ").push_bind(opening.body_hash.as_str());
        insert.push(", ").push_bind(opening.body.as_slice()).push(")");
    }
    insert
}

fn incidents(openings: &[(&Opening, i64)]) -> SqlBuilder {
    let mut insert = SqlBuilder::new(
        "INSERT INTO incident (id, route, receiver, group_key, group_hash, state, severity, opened_at, heard_at, \
         fired_at, closed_at, flaps, rev, notification, doc, common, by_receiver) VALUES ",
    );
    for (n, (opening, rev)) in openings.iter().enumerate() {
        insert.push(if n == 0 { "(" } else { ", (" }).push_bind(opening.incident.as_str());
        let key = &opening.key;
        for text in [key.route.as_str(), &key.receiver, &key.group_key, &opening.group_hash, opening.state.as_str()] {
            insert.push(", ").push_bind(text);
        }
        insert.push(", ").push_bind(i64::from(opening.severity));
        // Opened, heard of, fired.
        for at in [opening.at; 3] {
            insert.push(", ").push_bind(at.0);
        }
        insert.push(", ").push_bind(opening.closed_at.map(|at| at.0)).push(", 0");
        insert.push(", ").push_bind(*rev);
        insert.push(", ").push_bind(opening.notification.as_str());
        insert.push(", ").push_bind(opening.doc.as_str());
        insert.push(", ").push_bind(opening.common.as_deref());
        insert.push(", ").push_bind(i64::from(opening.by_receiver)).push(")");
    }
    insert
}

/// Their cards, and what these show.
fn shown(cards: &[(&Opening, &(CardId, RoomAddress))]) -> [SqlBuilder; 2] {
    let mut card = SqlBuilder::new("INSERT INTO card (id, room, kind, dirty_since, severity) VALUES ");
    let mut shown = SqlBuilder::new("INSERT INTO card_incident (card, incident, shown_rev) VALUES ");
    for (n, (opening, (id, room))) in cards.iter().enumerate() {
        let open = if n == 0 { "(" } else { ", (" };
        card.push(open).push_bind(id.as_str()).push(", ").push_bind(room.as_str());
        card.push(", ").push_bind(CardKind::Incident.as_str()).push(", ").push_bind(opening.at.0);
        card.push(", ").push_bind(i64::from(opening.severity)).push(")");
        shown.push(open).push_bind(id.as_str()).push(", ").push_bind(opening.incident.as_str()).push(", 0)");
    }
    [card, shown]
}
