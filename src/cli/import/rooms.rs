//! Turns metio's room names into routes.

use std::collections::HashSet;

use super::{
    draft::{Draft, accepted, quoted},
    keys::{Key, Keys, ROOMS},
    report::Report,
    values::{self, Value},
};
use crate::model::RouteName;

/// The URL path before a name or a room, here and, by default, in metio.
pub(super) const PREFIX: &str = "/alerts/";
const EXAMPLE: &str = "rooms = [\"!abc:example.org\"]";

/// Adds a route for each name, and returns the entries of `compat.names` for those that cannot stay. `prefix` is metio's
/// [`PREFIX`].
pub(super) fn routes(keys: &Keys, prefix: &str, draft: &mut Draft, report: &mut Report) -> Vec<String> {
    let entries: Vec<&Key> = keys.entries(ROOMS).collect();
    if entries.is_empty() {
        let text = "there are no names of rooms: add a route for each room id that Alertmanager's URLs have";
        report.unset(ROOMS, "routes", text);
        draft.remark("routes.default", "A route for each room that Alertmanager posts to; the name is free.");
        draft.example("routes.default", EXAMPLE);
    }
    let names: Vec<&str> = entries.iter().map(|key| key.name.as_str()).collect();
    let mut old_names = Vec::new();
    for (key, route) in entries.iter().zip(route_names(&names)) {
        let (old, new) = (key.name.as_str(), route.as_str());
        let name = Name::of(old, new);
        if name == Name::Mapped {
            old_names.push(format!("{} = {}", quoted(old), quoted(new)));
        }
        let table = format!("routes.{new}");
        match rooms(key, &table) {
            Ok(rooms) => {
                draft.set(&table, "rooms", &rooms);
                let duplicate = entries.iter().any(|other| other.path != key.path && other.value == key.value);
                report_name(key, new, name, duplicate, report);
            }
            Err(fault) => {
                draft.remark(&table, "The id of a room belongs here.");
                draft.example(&table, EXAMPLE);
                report.hand(key, &format!("{table}.rooms"), &fault);
            }
        }
        let (was, is) = (format!("url: …{prefix}{old}"), format!("…{PREFIX}{new}"));
        report.url(match (prefix == PREFIX, name) {
            (true, Name::Same) => format!("in alertmanager.yml: {was} stays"),
            (true, Name::Mapped) => format!("in alertmanager.yml: {was} may stay, {is} is better"),
            _ => format!("in alertmanager.yml: {was} must become {is}"),
        });
    }
    let by_id = format!("in alertmanager.yml: url: …{prefix}!ROOM");
    report.url(if prefix == PREFIX {
        format!("{by_id} may stay where a route has that room, the name of the route is better")
    } else {
        format!("{by_id} must become …{PREFIX} and the name of the route that has that room")
    });
    old_names
}

/// What becomes of a name in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// The route has the same name.
    Same,
    /// `compat.names` maps it to the route.
    Mapped,
    /// It cannot be a key of `compat.names`.
    Lost,
}

impl Name {
    fn of(old: &str, new: &str) -> Self {
        if old == new {
            Self::Same
        } else if values::find_variable(old).is_some()
            || old.is_empty()
            || old.starts_with(['!', '#'])
            || old.contains(|c: char| c == '/' || c.is_control())
        {
            Self::Lost
        } else {
            Self::Mapped
        }
    }
}

/// The rooms of a route in TOML, or what is wrong with them.
fn rooms(key: &Key, table: &str) -> Result<String, String> {
    match &key.value {
        Value::Text(room) => {
            let rooms = format!("[{}]", quoted(room));
            accepted(table, "rooms", &rooms).map_err(|fault| format!("is not taken: {fault}"))?;
            Ok(rooms)
        }
        Value::Nothing => Err("names no room; metio does not start with it".to_owned()),
        Value::Tag => {
            Err("a room id needs quotes: YAML takes what begins with ! for a tag, and metio gets nothing".to_owned())
        }
        Value::Variable(name) | Value::Mixed(name) => Err(format!("holds ${{{name}}}: write the room's id")),
    }
}

/// `duplicate`: another name has the same room.
fn report_name(key: &Key, route: &str, name: Name, duplicate: bool, report: &mut Report) {
    let mut texts = Vec::from_iter(match name {
        Name::Same => None,
        Name::Mapped => Some(format!("the route is named {route}; the URL with the old name is taken by compat.names")),
        Name::Lost => Some(format!("the route is named {route}, and the old name cannot be taken: change the URL")),
    });
    if duplicate {
        let text = "another route has this room as well, so that a URL with the room's id is answered 404";
        texts.push(text.to_owned());
    }
    let (to, text) = (format!("routes.{route}.rooms"), texts.join("; "));
    match name {
        Name::Lost => report.hand(key, &to, &text),
        _ if duplicate => report.hand(key, &to, &text),
        Name::Same => report.kept(key, &to),
        Name::Mapped => report.changes(key, &to, &text),
    }
}

/// The name of a route for each of `names`, in their order. Names that are good stay as they are, whichever comes first.
fn route_names(names: &[&str]) -> Vec<RouteName> {
    let mut taken: HashSet<String> = names.iter().filter(|name| is_route(name)).map(ToString::to_string).collect();
    let mut routes = Vec::new();
    for name in names {
        let route = if is_route(name) { (*name).to_owned() } else { free(&near(name), &taken) };
        taken.insert(route.clone());
        routes.extend(RouteName::parse(&route));
    }
    routes
}

fn is_route(name: &str) -> bool {
    RouteName::parse(name).is_ok()
}

/// `Old_Name` -> `old-name`: the nearest name that a route may have.
fn near(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let near: String = lower.chars().map(kept).collect();
    let near = near.trim_matches('-');
    if near.is_empty() { "room".to_owned() } else { near.to_owned() }
}

/// `name`, or the first of `name-2`, `name-3`, … that is not taken.
fn free(name: &str, taken: &HashSet<String>) -> String {
    let numbered = (2..).map(|number: u64| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_becomes_a_different_route() {
        let names = ["Ops_Team", "ops-team", "OPS TEAM", "a.b", "_a_", "a", "Übersicht", "日本", "", "x--y"];
        let routes = route_names(&names);
        let routes: Vec<&str> = routes.iter().map(RouteName::as_str).collect();
        assert_eq!(
            routes,
            ["ops-team-2", "ops-team", "ops-team-3", "a-b", "a-2", "a", "bersicht", "room", "room-2", "x--y"]
        );
    }
}
