//! What the power levels of a room allow a user (Matrix client-server API, `m.room.power_levels`; room version 12, where
//! creators stand above all levels: MSC4289).
//!
//! ruma's power levels know only published room versions, and reject a whole event for one odd value in it.

use std::fmt;

use serde_json::Value;

/// Room versions in which creators stand above all levels, beside the numbers from 12 up.
const EARLY_VERSION_12: &str = "org.matrix.hydra.11";
const FIRST_WITH_CREATORS: u64 = 12;

/// A user's power. A creator of a room of version 12 or later has more than any level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Power {
    Level(i64),
    Creator,
}

impl Power {
    pub(crate) fn reaches(self, level: i64) -> bool {
        self >= Self::Level(level)
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(level) => write!(f, "{level}"),
            Self::Creator => f.write_str("all"),
        }
    }
}

/// `m.room.create`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Create {
    /// `None` if the homeserver did not return it.
    pub(crate) sender: Option<String>,
    pub(crate) content: Value,
}

impl Create {
    /// Whether creators stand above all levels.
    pub(crate) fn creators_rule(&self) -> bool {
        let version = self.content["room_version"].as_str().unwrap_or("1");
        version == EARLY_VERSION_12 || version.parse::<u64>().is_ok_and(|number| number >= FIRST_WITH_CREATORS)
    }

    fn is_creator(&self, user: &str) -> bool {
        // Before version 11 the content named the creator.
        let is_sender = self.sender.as_deref().or(self.content["creator"].as_str()) == Some(user);
        let mut added = self.content["additional_creators"].as_array().into_iter().flatten();
        is_sender || (self.creators_rule() && added.any(|creator| creator == user))
    }
}

/// Who may do what in one room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Powers {
    pub(crate) create: Create,
    /// The content of `m.room.power_levels`; `None` without that event, which has different defaults.
    pub(crate) levels: Option<Value>,
}

impl Powers {
    pub(crate) fn of(&self, user: &str) -> Power {
        if self.create.creators_rule() && self.create.is_creator(user) {
            return Power::Creator;
        }
        let Some(levels) = &self.levels else {
            return Power::Level(if self.create.is_creator(user) { 100 } else { 0 });
        };
        let own = integer(&levels["users"][user]).or_else(|| integer(&levels["users_default"]));
        Power::Level(own.unwrap_or(0))
    }

    /// The level that sending a message event of this type needs.
    pub(crate) fn to_send(&self, event_type: &str) -> i64 {
        let Some(levels) = &self.levels else { return 0 };
        integer(&levels["events"][event_type]).or_else(|| integer(&levels["events_default"])).unwrap_or(0)
    }

    /// The level that `@room` needs to notify anybody.
    pub(crate) fn to_mention_room(&self) -> i64 {
        self.levels.as_ref().and_then(|levels| integer(&levels["notifications"]["room"])).unwrap_or(50)
    }
}

/// Before room version 10 levels could be strings.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BOT: &str = "@bot:x";

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals reads better without references")]
    fn powers(version: &str, create: Value, levels: Option<Value>) -> Powers {
        let mut content = json!({ "room_version": version });
        content.as_object_mut().unwrap().extend(create.as_object().unwrap().clone());
        let sender = content["sender"].as_str().map(ToOwned::to_owned);
        Powers { create: Create { sender, content }, levels }
    }

    #[test]
    fn what_a_user_has() {
        let levels = |users: Value| Some(json!({ "users": users, "users_default": 5 }));
        for (name, room, has) in [
            ("named", powers("10", json!({}), levels(json!({ BOT: 50 }))), Power::Level(50)),
            ("named below the default", powers("10", json!({}), levels(json!({ BOT: -1 }))), Power::Level(-1)),
            ("a string", powers("9", json!({}), levels(json!({ BOT: " 50 " }))), Power::Level(50)),
            ("others named", powers("10", json!({}), levels(json!({ "@a:x": 50 }))), Power::Level(5)),
            ("no default", powers("10", json!({}), Some(json!({}))), Power::Level(0)),
            ("nobody named", powers("10", json!({}), Some(json!({ "users_default": 7 }))), Power::Level(7)),
            ("an old creator is a user", powers("11", json!({ "sender": BOT }), levels(json!({}))), Power::Level(5)),
            ("no levels", powers("11", json!({ "sender": "@a:x" }), None), Power::Level(0)),
            ("no levels, sender", powers("11", json!({ "sender": BOT }), None), Power::Level(100)),
            ("no levels, creator", powers("5", json!({ "creator": BOT }), None), Power::Level(100)),
            ("no version", Powers { levels: levels(json!({})), ..Powers::default() }, Power::Level(5)),
            ("a creator", powers("12", json!({ "sender": BOT }), levels(json!({}))), Power::Creator),
            ("an early creator", powers(EARLY_VERSION_12, json!({ "sender": BOT }), None), Power::Creator),
            ("a later version", powers("13", json!({ "sender": BOT }), levels(json!({}))), Power::Creator),
            (
                "an added creator",
                powers("12", json!({ "sender": "@a:x", "additional_creators": ["@b:x", BOT] }), levels(json!({}))),
                Power::Creator,
            ),
            (
                "none was added before 12",
                powers("11", json!({ "sender": "@a:x", "additional_creators": [BOT] }), levels(json!({}))),
                Power::Level(5),
            ),
            ("not the creator", powers("12", json!({ "sender": "@a:x" }), levels(json!({}))), Power::Level(5)),
            ("no sender known", powers("12", json!({}), levels(json!({}))), Power::Level(5)),
        ] {
            assert_eq!(room.of(BOT), has, "{name}");
        }
    }

    #[test]
    fn what_an_action_needs() {
        for (name, levels, send, encrypted, room) in [
            ("no levels", None, 0, 0, 50),
            ("empty", Some(json!({})), 0, 0, 50),
            ("a default", Some(json!({ "events_default": 25 })), 25, 25, 50),
            ("the type", Some(json!({ "events_default": 25, "events": { "m.room.message": 0 } })), 0, 25, 50),
            ("the other type", Some(json!({ "events": { "m.room.encrypted": 60 } })), 0, 60, 50),
            ("the room", Some(json!({ "notifications": { "room": 0 } })), 0, 0, 0),
            ("strings", Some(json!({ "events_default": "10", "notifications": { "room": "20" } })), 10, 10, 20),
            ("state is another matter", Some(json!({ "state_default": 99 })), 0, 0, 50),
        ] {
            let powers = Powers { levels, ..Powers::default() };
            let needs =
                (powers.to_send("m.room.message"), powers.to_send("m.room.encrypted"), powers.to_mention_room());
            assert_eq!(needs, (send, encrypted, room), "{name}");
        }
    }

    #[test]
    fn a_creator_reaches_all() {
        assert!(Power::Creator.reaches(i64::MAX));
        assert!(Power::Level(50).reaches(50));
        assert!(!Power::Level(49).reaches(50));
    }
}
