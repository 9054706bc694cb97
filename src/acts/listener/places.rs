//! Up to where a room was looked at.

use std::time::Duration;

use crate::{
    model::{RoomAddress, Timestamp},
    pacing::Growth,
};

/// Events that lack their keys follow this one; `None`: they are the first that were read in this run.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(pub Option<String>);

/// One room.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub room: RoomAddress,
    /// The last event that was looked at; `None`: none yet.
    position: Option<String>,
    /// While events lack their keys: the last event before the first of them, from where they would be read again.
    held: Option<Held>,
    stored: Option<String>,
    stored_at: Option<Timestamp>,
    /// Something after `position` was left out.
    is_behind: bool,
    /// Nothing counts that was said before: since then people may act from the room.
    since: Option<Timestamp>,
    failures: u32,
    try_at: Option<Timestamp>,
}

impl Place {
    /// A room that was looked at up to `position`, which is empty as long as nothing was said in it; `at`: when that was
    /// stored.
    pub fn left_at(room: RoomAddress, position: String, at: Timestamp) -> Self {
        Self {
            room,
            since: position.is_empty().then_some(at),
            stored: Some(position.clone()),
            position: Some(position),
            held: None,
            stored_at: None,
            is_behind: true,
            failures: 0,
            try_at: None,
        }
    }

    /// A room from which people may act from now on.
    pub fn fresh(room: RoomAddress, now: Timestamp) -> Self {
        Self { is_behind: false, ..Self::left_at(room, String::new(), now) }
    }

    /// Whether something of this age was said before anybody could act from the room.
    pub fn is_before(&self, age: Option<Duration>, now: Timestamp) -> bool {
        self.since.is_some_and(|since| age.is_none_or(|age| age > now.since(since)))
    }

    pub fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    pub fn fall_behind(&mut self) {
        self.is_behind = self.position.is_some();
    }

    pub fn is_to_be_read(&self, now: Timestamp) -> bool {
        self.is_behind && self.try_at.is_none_or(|at| at <= now)
    }

    pub fn try_again(&mut self, now: Timestamp, growth: Growth) {
        self.failures = self.failures.saturating_add(1);
        self.try_at = Some(now.plus(growth.exact(self.failures)));
    }

    pub fn caught_up(&mut self) {
        (self.is_behind, self.failures, self.try_at) = (false, 0, None);
    }

    /// Events up to `last` were looked at. `held`: some of them lack their keys, after that one.
    pub fn move_to(&mut self, last: Option<String>, held: Option<Held>) {
        // What is missing would never be read if the place went on.
        if self.is_behind {
            return;
        }
        if self.held.is_none()
            && let Some(Held(before)) = held
        {
            self.held = Some(Held(before.or_else(|| self.position.clone())));
        }
        self.position = last.or(self.position.take());
    }

    /// Nothing lacks its key any more.
    pub fn release(&mut self) {
        self.held = None;
    }

    /// The place from where everything would be read again that is not done.
    pub fn to_be_stored(&self) -> Option<String> {
        match &self.held {
            _ if self.is_behind => None,
            Some(Held(before)) => before.clone(),
            None => self.position.clone(),
        }
    }

    pub fn is_to_be_stored(&self, now: Timestamp, every: Duration) -> bool {
        let to_be_stored = self.to_be_stored();
        to_be_stored.is_some()
            && to_be_stored != self.stored
            && self.stored_at.is_none_or(|at| now.since(at) >= every || now < at)
    }

    pub fn stored(&mut self, position: Option<String>, now: Timestamp) {
        if position.is_some() {
            (self.stored, self.stored_at) = (position, Some(now));
        }
    }

    /// Whether nothing is to be done for it.
    pub fn is_settled(&self) -> bool {
        !self.is_behind && self.to_be_stored() == self.stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    fn room() -> RoomAddress {
        RoomAddress::parse("!r:a").expect("a room")
    }

    /// A place as the tests write it.
    fn id(text: impl Into<Option<&'static str>>) -> Option<String> {
        text.into().map(ToOwned::to_owned)
    }

    #[test]
    fn a_place_is_stored_now_and_then() {
        let mut place = Place::fresh(room(), Timestamp(0));
        assert!(place.is_settled() && !place.is_to_be_stored(Timestamp(0), EVERY));
        place.move_to(id("$1"), None);
        assert!(place.is_to_be_stored(Timestamp(0), EVERY), "the first one at once");
        place.stored(place.to_be_stored(), Timestamp(0));
        place.move_to(id("$2"), None);
        assert!(!place.is_to_be_stored(Timestamp(29_999), EVERY) && place.is_to_be_stored(Timestamp(30_000), EVERY));
    }

    #[test]
    fn nothing_counts_from_before() {
        let at = |ms| Timestamp(ms);
        let fresh = Place::fresh(room(), at(1_000));
        let old = Place::left_at(room(), String::new(), at(1_000));
        for place in [fresh, old] {
            assert!(!place.is_before(Some(Duration::from_millis(500)), at(1_500)));
            assert!(place.is_before(Some(Duration::from_millis(501)), at(1_500)) && place.is_before(None, at(1_500)));
        }
        let read = Place::left_at(room(), "$1".to_owned(), at(1_000));
        assert!(!read.is_before(Some(Duration::from_hours(1)), at(1_500)) && !read.is_before(None, at(1_500)));
    }

    #[test]
    fn a_place_does_not_pass_what_is_missing() {
        let mut place = Place::left_at(room(), "$1".to_owned(), Timestamp(0));
        assert!(place.is_to_be_read(Timestamp(0)));
        place.move_to(id("$9"), None);
        assert_eq!((place.position(), place.to_be_stored()), (Some("$1"), None));
        place.try_again(Timestamp(0), Growth { first: EVERY, last: EVERY });
        assert!(!place.is_to_be_read(Timestamp(1)) && place.is_to_be_read(Timestamp(30_000)));
        place.caught_up();
        place.move_to(id("$9"), None);
        assert_eq!(place.to_be_stored(), id("$9"));
    }

    #[test]
    fn what_lacks_its_key_would_be_read_again() {
        let mut place = Place::left_at(room(), "$1".to_owned(), Timestamp(0));
        place.caught_up();
        place.move_to(id("$4"), Some(Held(id("$2"))));
        place.move_to(id("$6"), Some(Held(id("$5"))));
        assert_eq!((place.position(), place.to_be_stored()), (Some("$6"), id("$2")));
        place.release();
        assert_eq!(place.to_be_stored(), id("$6"));
        place.move_to(id("$7"), Some(Held(None)));
        assert_eq!(place.to_be_stored(), id("$6"), "it was the first of its sync");
    }
}
