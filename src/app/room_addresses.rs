//! What a change of the config leaves in rooms that a route does not name any more: under the room's new address, if it is
//! the same room, and closed if it is none of the route's.

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

/// For how long an alias that was never looked up may turn out to be the room that is gone.
pub const LOOK_UP: Duration = Duration::from_mins(10);

/// How thoroughly to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// All addresses that are known, as opposed to those of open incidents.
    pub all: bool,
    /// Whether an alias of which nothing is known is waited for.
    pub patient: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Rooms that no route names and that have something to be told still.
    pub rooms: BTreeSet<RoomAddress>,
    /// Rooms of which it is not known yet whether a route names them by another address.
    pub waiting: BTreeSet<RoomAddress>,
    pub room_aliases: RoomAliases,
}

/// The rooms of each route.
pub fn routing(config: &Config) -> Routing {
    config.routes.iter().map(|(name, route)| (name.clone(), route.rooms.clone())).collect()
}

/// # Errors
/// When the store fails.
pub async fn room_aliases(store: &Store, config: &Config) -> Result<RoomAliases, StoreError> {
    Ok(RoomAliases::new(store.resolved_rooms().await?, &config.matrix.aliases))
}

/// `lanes`: those that run.
///
/// # Errors
/// When the store fails; what was done until then stays done.
pub async fn sort_out(
    store: &Store,
    config: &Config,
    lanes: Option<&Arc<Lanes>>,
    look: Look,
) -> Result<Found, StoreError> {
    close_moved(store, config).await?;
    let room_aliases = room_aliases(store, config).await?;
    let mut routing = routing(config);
    let left = left(store, &routing).await?;
    let mut addresses: BTreeSet<RoomAddress> = left.iter().map(|(_, room)| room.clone()).collect();
    if look.all {
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
        if is_late || (look.patient && may_be_one(&room_aliases, rooms, &room)) {
            rooms.push(room.clone());
            waiting.insert(room);
        }
    }
    let unrouted = store.close_unrouted(&routing).await?;
    if unrouted.cards > 0 || unrouted.incidents > 0 {
        tracing::info!(
            cards = unrouted.cards,
            incidents = unrouted.incidents,
            "closed what the config no longer routes: cards in rooms say so with their last edit"
        );
    }
    Ok(Found { rooms: unrouted.rooms, waiting, room_aliases })
}

/// Whether something is left of a room that one of the route's may be, which is not known yet.
///
/// # Errors
/// When the store cannot be read.
pub async fn is_open(store: &Store, config: &Config) -> Result<bool, StoreError> {
    let (room_aliases, routing) = (room_aliases(store, config).await?, routing(config));
    let left = left(store, &routing).await?;
    Ok(left.iter().any(|(route, room)| routing.get(route).is_some_and(|rooms| may_be_one(&room_aliases, rooms, room))))
}

/// What is open, or waits, in rooms that its route does not name.
async fn left(store: &Store, routing: &Routing) -> Result<Vec<(RouteName, RoomAddress)>, StoreError> {
    let mut pairs = store.pairs().await?;
    pairs.retain(|(route, room)| !routing.get(route).is_some_and(|rooms| rooms.contains(room)));
    Ok(pairs)
}

/// What came without a route in the URL, and whose receiver the config leads to another route by now.
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
                "a receiver takes another route: its incidents go on there, and their old cards say so"
            );
        }
    }
    Ok(())
}

fn may_be_one(room_aliases: &RoomAliases, rooms: &[RoomAddress], room: &RoomAddress) -> bool {
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

/// `false`: not all of it yet.
async fn change_address(
    store: &Store,
    address_change: &AddressChange,
    lanes: Option<&Arc<Lanes>>,
) -> Result<bool, StoreError> {
    if !store.has_cards_of(address_change).await? {
        return Ok(true);
    }
    // What it is sending would be sent by the other lane as well.
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
            "a room is named by another address; its cards go on under the new one"
        );
    }
    Ok(complete)
}
