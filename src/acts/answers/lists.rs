//! The answers to `!why`, `!alerts` and `!silences`.

use std::collections::BTreeMap;

use crate::{
    acts::{context::ActSettings, silence::matchers},
    clock::Clock,
    model::{Finding, IncidentId, RoomAddress, RoomAliases, RouteName},
    render::answer::{self, Answer, ListedIncident, ListedSilence},
    store::{DatedIncident, Store, StoreError},
};

/// Silences that a list names.
const SILENCES: usize = 20;

/// The routes that lead into a room and on which people may act.
#[must_use]
pub fn routes_of(settings: &ActSettings, room: &RoomAddress) -> Vec<RouteName> {
    let routes = settings.config.routes.values().filter(|route| route.actions.is_some() && route.rooms.contains(room));
    routes.map(|route| route.name.clone()).collect()
}

/// All routes that lead into a room, by whatever address: what is open there is open whether people may act on it or not.
async fn all_routes_of(
    store: &Store,
    settings: &ActSettings,
    room: &RoomAddress,
) -> Result<Vec<RouteName>, StoreError> {
    let aliases = RoomAliases::new(store.resolved_rooms().await?, &settings.config.matrix.aliases);
    let routes = settings.config.routes.values().filter(|route| aliases.among(&route.rooms, room).is_some());
    Ok(routes.map(|route| route.name.clone()).collect())
}

/// # Errors
/// When the store cannot be read.
pub async fn why(
    store: &Store,
    clock: &Clock,
    settings: &ActSettings,
    incident: &IncidentId,
) -> Result<Option<Answer>, StoreError> {
    let Some(read) = store.incident_with_alerts(incident).await? else { return Ok(None) };
    let route = settings.config.routes.get(&read.incident.key.route);
    let knows = route.is_some_and(|route| route.alertmanager.is_some());
    Ok(Some(answer::why(&settings.style, &read.incident, knows, clock.wall())))
}

/// # Errors
/// When the store cannot be read.
pub async fn alerts(
    store: &Store,
    clock: &Clock,
    settings: &ActSettings,
    room: &RoomAddress,
) -> Result<Answer, StoreError> {
    let (open, all) = store.open_incidents(&all_routes_of(store, settings, room).await?).await?;
    let listed: Vec<_> = open.iter().map(listed).collect();
    Ok(answer::alerts(&settings.style, &listed, usize::try_from(all).unwrap_or(0), clock.wall()))
}

fn listed(open: &DatedIncident) -> ListedIncident<'_> {
    let DatedIncident { seen, since } = open;
    ListedIncident { incident: &seen.incident, counts: &seen.counts, has_more: seen.has_more, since: *since }
}

/// Those that were made from here, and those of which Alertmanager says that they silence something that is open.
///
/// # Errors
/// When the store cannot be read.
pub async fn silences(
    store: &Store,
    clock: &Clock,
    settings: &ActSettings,
    room: &RoomAddress,
) -> Result<Answer, StoreError> {
    let (routes, now) = (all_routes_of(store, settings, room).await?, clock.wall());
    let mut found: BTreeMap<String, ListedSilence> = BTreeMap::new();
    for route in &routes {
        for row in store.silences_of_route(route).await? {
            let Some(id) = row.silence_id else { continue };
            let asker = store.asker(&row.act).await?;
            let by = asker.map(|(user, name)| if name.is_empty() { user } else { name }).unwrap_or(row.created_by);
            let matchers = serde_json::from_str::<Vec<_>>(&row.matchers).unwrap_or_default();
            let comment = crate::alertmanager::marker::reason(&row.comment).to_owned();
            let matchers = matchers::words(&matchers);
            // Of several who want it, the row that ends last comes first.
            found.entry(id).or_insert(ListedSilence { by, until: row.ends_at, comment, matchers });
        }
    }
    for one in &store.open_incidents(&routes).await?.0 {
        for alert in &one.seen.incident.alerts {
            let Some(Finding::Silenced { silences }) = alert.seen.as_ref().map(|seen| &seen.finding) else { continue };
            for known in silences {
                found.entry(known.id.clone()).or_insert_with(|| ListedSilence {
                    by: known.by.clone(),
                    until: known.until,
                    comment: known.comment.clone(),
                    matchers: String::new(),
                });
            }
        }
    }
    let mut list: Vec<ListedSilence> = found.into_values().filter(|silence| silence.until > now).collect();
    list.sort_by_key(|silence| std::cmp::Reverse(silence.until));
    list.truncate(SILENCES);
    Ok(answer::silences(&settings.style, &list, now))
}
