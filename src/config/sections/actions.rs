//! `[actions]` and `routes.X.actions`: who may act from a room, and how.

use std::time::Duration;

use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Actions, Allow},
    values::{DURATION, boolean, duration, off, text, user_id},
};

const TABLE: &str = "a table such as { allow = { power = 50 } }, or false";
const LEVEL: &str = "a power level such as 50";
const MAX_PREFIX: usize = 8;

impl Default for Actions {
    fn default() -> Self {
        Self {
            allow: Allow { power: Some(50), users: Vec::new() },
            read: 0,
            prefix: "!".to_owned(),
            silence: Duration::from_hours(2),
            max_silence: Duration::from_hours(24),
            reactions: true,
            trust_reactions: false,
            trust_power: false,
        }
    }
}

/// `base` is what a route inherits that has no table of its own; `false` in place of the table stands for none.
pub(super) fn read(parent: &Section<'_>, base: Option<&Actions>) -> Option<Actions> {
    let Some(item) = parent.item("actions") else {
        // The keys of an absent table are read as well, which makes them known.
        table(&parent.absent("actions"));
        return base.cloned();
    };
    if let Ok(section) = item.section() {
        return Some(table(&section));
    }
    table(&parent.absent("actions"));
    item.read(TABLE, off);
    None
}

fn table(section: &Section<'_>) -> Actions {
    let default = Actions::default();
    let allow = section.section("allow");
    let power = allow.read("power", &format!("{LEVEL}, or \"never\""), level_or_never);
    let users = allow.list("users", "a user id such as \"@oncall:example.org\"", user_id);
    let read = section.section("read").read("power", LEVEL, level);
    let prefix = "a sign or a word such as \"!\", at most 8 characters, without blanks";
    let switch = |key| section.read(key, "true or false", boolean);
    let silence = section.read("silence", DURATION, duration);
    let max_silence = section.read("max_silence", DURATION, duration);
    let actions = Actions {
        allow: Allow { power: power.unwrap_or(default.allow.power), users: users.unwrap_or_default() },
        read: read.unwrap_or(default.read),
        prefix: section.read("prefix", prefix, self::prefix).unwrap_or(default.prefix),
        silence: silence.unwrap_or(default.silence),
        max_silence: max_silence.unwrap_or(default.max_silence),
        reactions: switch("reactions").unwrap_or(default.reactions),
        trust_reactions: switch("trust_reactions").unwrap_or(default.trust_reactions),
        trust_power: switch("trust_power").unwrap_or(default.trust_power),
    };
    if actions.silence > actions.max_silence {
        // The one that was set is the one to change; with both it is the first.
        let (key, advice) = match silence {
            Some(_) => ("silence", "is longer than max_silence"),
            None => ("max_silence", "is shorter than silence, which is 2h unless set"),
        };
        section.item(key).iter().for_each(|item| {
            item.fault(format!("found {}, which {advice}: no silence may last longer than max_silence", item.found()));
        });
    }
    actions
}

fn level(item: &Item<'_>) -> Result<i64, BadValue> {
    item.integer().ok_or(BadValue::Unexpected)
}

fn level_or_never(item: &Item<'_>) -> Result<Option<i64>, BadValue> {
    if item.text() == Some("never") { Ok(None) } else { level(item).map(Some) }
}

fn prefix(item: &Item<'_>) -> Result<String, BadValue> {
    let prefix = text(item)?;
    if prefix.starts_with('/') {
        let advice = "clients take what begins with / for a command of their own and never send it: choose another";
        return Err(BadValue::Because(format!("found {}, {advice}", item.found())));
    }
    let good = prefix.chars().count() <= MAX_PREFIX && !prefix.contains(char::is_whitespace);
    if good { Ok(prefix) } else { Err(BadValue::Unexpected) }
}
