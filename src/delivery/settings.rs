//! The config as lanes see it. A lane takes it once per turn, so that a turn never sees two.

use std::sync::Arc;

use crate::{
    config::Config,
    model::{RoomAddress, RoomName},
    render::Style,
};

/// What is in force until a reload puts another in its place, as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Arc<Config>,
    pub style: Arc<Style>,
    /// The rooms that have a lane, and their names in log and metrics.
    rooms: Vec<(RoomAddress, RoomName)>,
}

impl Settings {
    /// With the rooms that the config names.
    #[must_use]
    pub fn new(config: Arc<Config>, style: Arc<Style>) -> Self {
        let rooms = config.rooms();
        Self { config, style, rooms }
    }

    /// With these rooms as well: their lanes are not to end yet.
    #[must_use]
    pub fn and_rooms(mut self, rooms: impl IntoIterator<Item = RoomAddress>) -> Self {
        for room in rooms {
            if !self.serves(&room) {
                self.rooms.push((room, RoomName::unrouted()));
            }
        }
        self
    }

    /// Whether the room's lane goes on, as opposed to ending once the room has been told all there is to tell.
    #[must_use]
    pub fn serves(&self, room: &RoomAddress) -> bool {
        self.rooms.iter().any(|(known, _)| known == room)
    }

    /// `<route>/<n>`, or what a room is called that no route names.
    #[must_use]
    pub fn name_of(&self, room: &RoomAddress) -> RoomName {
        let known = self.rooms.iter().find(|(known, _)| known == room);
        known.map_or_else(RoomName::unrouted, |(_, name)| name.clone())
    }

    /// Routes that share a room may differ: the smallest bound counts, and "never" only if all of them say so.
    pub(super) fn digest_above(&self, room: &RoomAddress) -> usize {
        let routes = self.config.routes.values().filter(|route| route.rooms.contains(room));
        routes.map(|route| route.digest_above).filter(|above| *above > 0).min().unwrap_or(0)
    }
}
