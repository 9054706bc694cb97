//! The room behind an address.

use std::collections::BTreeMap;

use super::ids::RoomAddress;

/// What an address stands for. An alias keeps the room that it led to first: whoever can move an alias must not be able
/// to lead alerts elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRoom {
    /// The id of the room that the alias led to when it was looked up first, or that the config names.
    pub first: String,
    /// The room that stands in its place by now, after one upgrade or several.
    pub successor: Option<String>,
}

impl ResolvedRoom {
    #[must_use]
    pub fn new(first: impl Into<String>) -> Self {
        Self { first: first.into(), successor: None }
    }

    /// The room that events go to.
    #[must_use]
    pub fn current(&self) -> &str {
        self.successor.as_deref().unwrap_or(&self.first)
    }
}

/// What is known of addresses: which of them stand for the same room.
#[derive(Clone, Debug, Default)]
pub struct RoomAliases(BTreeMap<RoomAddress, ResolvedRoom>);

impl RoomAliases {
    /// `pins`: what the operator says about aliases, which counts for more.
    #[must_use]
    pub fn new(
        places: impl IntoIterator<Item = (RoomAddress, ResolvedRoom)>,
        pins: &BTreeMap<RoomAddress, RoomAddress>,
    ) -> Self {
        let mut places: BTreeMap<_, _> = places.into_iter().collect();
        for (alias, id) in pins {
            let is_there = |place: &ResolvedRoom| place.first == id.as_str() || place.current() == id.as_str();
            if !places.get(alias).is_some_and(is_there) {
                places.insert(alias.clone(), ResolvedRoom::new(id.as_str()));
            }
        }
        Self(places)
    }

    /// Whether it is known which room it is. An id says so itself.
    #[must_use]
    pub fn knows(&self, address: &RoomAddress) -> bool {
        !address.is_alias() || self.0.contains_key(address)
    }

    /// The addresses of which something is known.
    pub fn addresses(&self) -> impl Iterator<Item = &RoomAddress> {
        self.0.keys()
    }

    /// Whether both stand for one room, or for one that took the other's place.
    #[must_use]
    pub fn are_one(&self, one: &RoomAddress, other: &RoomAddress) -> bool {
        one == other || self.ids(one).any(|id| self.ids(other).any(|other| other == id))
    }

    /// The one of `rooms` that stands for the same room.
    #[must_use]
    pub fn among<'a>(&self, rooms: &'a [RoomAddress], address: &RoomAddress) -> Option<&'a RoomAddress> {
        rooms.iter().find(|room| self.are_one(room, address))
    }

    fn ids<'a>(&'a self, address: &'a RoomAddress) -> impl Iterator<Item = &'a str> {
        let place = self.0.get(address);
        let named = (!address.is_alias()).then(|| address.as_str());
        named.into_iter().chain(place.into_iter().flat_map(|place| [place.first.as_str(), place.current()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(address: &str) -> RoomAddress {
        RoomAddress::parse(address).expect("an address")
    }

    #[test]
    fn addresses_of_one_room_are_known_by_its_ids() {
        let upgraded = ResolvedRoom { successor: Some("!2:a".to_owned()), ..ResolvedRoom::new("!1:a") };
        let places = [
            (room("#ops:a"), upgraded),
            (room("#web:a"), ResolvedRoom::new("!3:a")),
            (room("!2:a"), ResolvedRoom::new("!2:a")),
        ];
        let pins = BTreeMap::from([(room("#pinned:a"), room("!1:a")), (room("#web:a"), room("!9:a"))]);
        let room_aliases = RoomAliases::new(places, &pins);
        for (one, other, expected) in [
            ("#ops:a", "!1:a", true),
            ("!2:a", "#ops:a", true),
            ("#ops:a", "#pinned:a", true),
            // The pin counts for more than what was found out.
            ("#web:a", "!9:a", true),
            ("#web:a", "!3:a", false),
            ("#ops:a", "!3:a", false),
            ("#never:a", "!1:a", false),
            ("#never:a", "#never:a", true),
        ] {
            assert_eq!(room_aliases.are_one(&room(one), &room(other)), expected, "{one} {other}");
        }
        assert_eq!((room_aliases.knows(&room("#never:a")), room_aliases.knows(&room("!new:a"))), (false, true));
    }
}
