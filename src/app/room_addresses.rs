//! What a config change leaves in rooms that a route no longer names: cards move to the room's new address if it is the
//! same room, and are closed otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::lanes::Lanes;
use crate::{
    config::Config,
    intake,
    model::{RoomAddress, RoomAliases, RouteName},
    store::{AddressChange, Move, Routing, Store, StoreError},
};

/// How long after a reload an alias that was never resolved may still turn out to be a removed room.
pub const ALIAS_PATIENCE: Duration = Duration::from_mins(10);

/// How thoroughly to look.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Looks at all known addresses, not just those of open incidents.
    pub all_addresses: bool,
    /// Keeps cards open as long as an unresolved alias of their route may stand for their room.
    pub await_aliases: bool,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Swept {
    /// Rooms that no route names and that still have messages to be sent.
    pub rooms: BTreeSet<RoomAddress>,
    /// Rooms that a route may name by an address that is not resolved yet.
    pub waiting: BTreeSet<RoomAddress>,
    pub room_aliases: RoomAliases,
}

/// The rooms of each route.
fn routing(config: &Config) -> Routing {
    config.routes.iter().map(|(name, route)| (name.clone(), route.rooms.clone())).collect()
}

async fn room_aliases(store: &Store, config: &Config) -> Result<RoomAliases, StoreError> {
    Ok(RoomAliases::new(store.resolved_rooms().await?, &config.matrix.aliases))
}

impl Sweep {
    /// Moves and closes what `config` no longer routes. `lanes` are those that run.
    ///
    /// # Errors
    /// When the store fails; what was done until then stays done.
    pub async fn run(self, store: &Store, config: &Config, lanes: Option<&Arc<Lanes>>) -> Result<Swept, StoreError> {
        close_moved(store, config).await?;
        let room_aliases = room_aliases(store, config).await?;
        let mut routing = routing(config);
        let left = left(store, &routing).await?;
        let mut addresses: BTreeSet<RoomAddress> = left.iter().map(|(_, room)| room.clone()).collect();
        if self.all_addresses {
            addresses.extend(room_aliases.addresses().cloned());
        }
        let mut late = BTreeSet::new();
        for address_change in address_changes(&routing, &room_aliases, &addresses) {
            if !change_address(store, &address_change, lanes).await? {
                late.insert(address_change.from);
            }
        }
        let mut waiting = BTreeSet::new();
        for (route, room) in left {
            let Some(rooms) = routing.get_mut(&route) else { continue };
            let is_late = late.contains(&room) && room_aliases.among(rooms, &room).is_some();
            if is_late || (self.await_aliases && may_name(&room_aliases, rooms, &room)) {
                rooms.push(room.clone());
                waiting.insert(room);
            }
        }
        let unrouted = store.close_unrouted(&routing).await?;
        if unrouted.cards > 0 || unrouted.incidents > 0 {
            tracing::info!(
                cards = unrouted.cards,
                incidents = unrouted.incidents,
                "closed incidents that are no longer routed"
            );
        }
        Ok(Swept { rooms: unrouted.rooms, waiting, room_aliases })
    }
}

/// Whether a room with open cards may be one that its route names by an unresolved alias.
///
/// # Errors
/// When the store cannot be read.
pub async fn awaits_alias(store: &Store, config: &Config) -> Result<bool, StoreError> {
    let (room_aliases, routing) = (room_aliases(store, config).await?, routing(config));
    let left = left(store, &routing).await?;
    Ok(left.iter().any(|(route, room)| routing.get(route).is_some_and(|rooms| may_name(&room_aliases, rooms, room))))
}

/// Open or waiting cards in rooms that their route does not name.
async fn left(store: &Store, routing: &Routing) -> Result<Vec<(RouteName, RoomAddress)>, StoreError> {
    let mut pairs = store.pairs().await?;
    pairs.retain(|(route, room)| !routing.get(route).is_some_and(|rooms| rooms.contains(room)));
    Ok(pairs)
}

/// Closes incidents that came without a route in the URL, and whose receiver now belongs to another route.
async fn close_moved(store: &Store, config: &Config) -> Result<(), StoreError> {
    for (from, receiver) in store.open_receivers().await? {
        let Ok(route) = intake::choose_route(&config.routes, None, &receiver) else { continue };
        if route.name == from {
            continue;
        }
        let moved = Move { from, receiver, to: route.name.clone() };
        let incidents = store.close_moved(&moved).await?;
        if incidents > 0 {
            tracing::info!(
                from = %moved.from, to = %moved.to, receiver = %moved.receiver, incidents,
                "incidents moved with their receiver to another route"
            );
        }
    }
    Ok(())
}

fn may_name(room_aliases: &RoomAliases, rooms: &[RoomAddress], room: &RoomAddress) -> bool {
    room_aliases.among(rooms, room).is_none() && rooms.iter().any(|known| !room_aliases.knows(known))
}

fn address_changes(
    routing: &Routing,
    room_aliases: &RoomAliases,
    addresses: &BTreeSet<RoomAddress>,
) -> Vec<AddressChange> {
    let mut found: BTreeMap<(RoomAddress, RoomAddress), BTreeSet<RouteName>> = BTreeMap::new();
    for (route, rooms) in routing {
        for from in addresses.iter().filter(|from| !rooms.contains(from)) {
            if let Some(to) = room_aliases.among(rooms, from) {
                found.entry((from.clone(), to.clone())).or_default().insert(route.clone());
            }
        }
    }
    let address_change = |((from, to), routes): ((RoomAddress, RoomAddress), _)| {
        let kept = routing.iter().filter(|(_, rooms)| rooms.contains(&from)).map(|(route, _)| route.clone());
        AddressChange { kept: kept.collect(), from, to, routes }
    };
    found.into_iter().map(address_change).collect()
}

/// Returns `false` if some cards are still to be moved.
async fn change_address(
    store: &Store,
    address_change: &AddressChange,
    lanes: Option<&Arc<Lanes>>,
) -> Result<bool, StoreError> {
    if !store.has_cards_of(address_change).await? {
        return Ok(true);
    }
    // The lane of the new address would send again what this lane is sending.
    if let Some(lanes) = lanes
        && !lanes.end(&address_change.from).await
    {
        return Ok(false);
    }
    let moved = store.change_address(address_change).await;
    if let Some(lanes) = lanes
        && (!address_change.kept.is_empty() || !matches!(moved, Ok((_, true))))
    {
        lanes.ensure([address_change.from.clone()]);
    }
    let (cards, complete) = moved?;
    if cards > 0 {
        tracing::info!(
            from = %address_change.from, to = %address_change.to, cards,
            "cards moved to the room's new address"
        );
    }
    Ok(complete)
}
