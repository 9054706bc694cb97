//! The config as lanes see it. A lane reads it once per turn, so that a turn never sees two.

use std::sync::Arc;

use crate::{
    config::Config,
    model::{RoomAddress, RoomName},
    render::Style,
};

/// The active config; a reload replaces it as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Arc<Config>,
    pub style: Arc<Style>,
    /// The rooms that have a lane, and their names in log and metrics.
    rooms: Vec<(RoomAddress, RoomName)>,
}

impl Settings {
    /// The settings of a config and its rooms.
    #[must_use]
    pub fn new(config: Arc<Config>, style: Arc<Style>) -> Self {
        let rooms = config.rooms();
        Self { config, style, rooms }
    }

    /// Adds rooms that the config does not name, so that their lanes do not end yet.
    #[must_use]
    pub fn and_rooms(mut self, rooms: impl IntoIterator<Item = RoomAddress>) -> Self {
        for room in rooms {
            if !self.serves(&room) {
                self.rooms.push((room, RoomName::unrouted()));
            }
        }
        self
    }

    /// Whether the room's lane goes on, as opposed to draining.
    #[must_use]
    pub fn serves(&self, room: &RoomAddress) -> bool {
        self.rooms.iter().any(|(known, _)| known == room)
    }

    /// The room's name in log and metrics: `<route>/<n>`, or `unrouted` if no route names it.
    #[must_use]
    pub fn name_of(&self, room: &RoomAddress) -> RoomName {
        let known = self.rooms.iter().find(|(known, _)| known == room);
        known.map_or_else(RoomName::unrouted, |(_, name)| name.clone())
    }

    /// Routes that share a room may differ: the smallest bound counts, and 0 (never) only if all of them say so.
    pub(super) fn digest_above(&self, room: &RoomAddress) -> usize {
        let routes = self.config.routes.values().filter(|route| route.rooms.contains(room));
        routes.map(|route| route.digest_above).filter(|above| *above > 0).min().unwrap_or(0)
    }
}
