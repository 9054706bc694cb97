//! metio's names of rooms as routes.

use std::collections::HashSet;

use super::{
    draft::{Draft, accepted, quoted},
    keys::{Key, Keys, ROOMS},
    report::Report,
    values::{self, Value},
};
use crate::model::RouteName;

/// What stands before a name or a room in a URL, here as there unless metio's config says otherwise.
pub(super) const PREFIX: &str = "/alerts/";

/// A route for each name, and what `compat.names` needs for those that cannot stay. `prefix` is metio's [`PREFIX`].
pub(super) fn routes(keys: &Keys, prefix: &str, draft: &mut Draft, report: &mut Report) -> Vec<String> {
    let entries: Vec<&Key> = keys.entries(ROOMS).collect();
    if entries.is_empty() {
        let text = "there are no names of rooms: add a route for each room id that Alertmanager's URLs have";
        report.unset(ROOMS, "routes", text);
        draft.remark("routes.default", "A route for each room that Alertmanager posts to; the name is free.");
        draft.example("routes.default", "rooms = [\"!abc:example.org\"]");
    }
    let names: Vec<&str> = entries.iter().map(|key| key.name.as_str()).collect();
    let mut old_names = Vec::new();
    for (key, route) in entries.iter().zip(route_names(&names)) {
        let (old, new) = (key.name.as_str(), route.as_str());
        let name = Name::of(old, new);
        if name == Name::Mapped {
            old_names.push(format!("{} = {}", quoted(old), quoted(new)));
        }
        let twin = entries.iter().any(|other| other.path != key.path && other.value == key.value);
        match rooms(key, new, draft) {
            Err(fault) => {
                draft.remark(&format!("routes.{new}"), "The id of a room belongs here.");
                draft.example(&format!("routes.{new}"), "rooms = [\"!abc:example.org\"]");
                report.hand(key, Some(&format!("routes.{new}.rooms")), &fault);
            }
            Ok(()) => tell(key, new, name, twin, report),
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
    /// It is the route's.
    Same,
    /// `compat.names` leads to the route.
    Mapped,
    /// No key of `compat.names` can be made of it.
    Lost,
}

impl Name {
    fn of(old: &str, new: &str) -> Self {
        if old == new {
            Self::Same
        } else if values::variable(old).is_some()
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

/// Writes the rooms of a route.
fn rooms(key: &Key, route: &str, draft: &mut Draft) -> Result<(), String> {
    match &key.value {
        Value::Text(room) => {
            let (table, rooms) = (format!("routes.{route}"), format!("[{}]", quoted(room)));
            accepted(&table, "rooms", &rooms).map_err(|fault| format!("is not taken: {fault}"))?;
            draft.set(&table, "rooms", &rooms);
            Ok(())
        }
        Value::Nothing => Err("names no room; metio does not start with it".to_owned()),
        Value::Tag => {
            Err("a room id needs quotes: YAML takes what begins with ! for a tag, and metio gets nothing".to_owned())
        }
        Value::Variable(name) | Value::Mixed(name) => Err(format!("holds ${{{name}}}: write the room's id")),
    }
}

/// `twin`: another name has the same room.
fn tell(key: &Key, route: &str, name: Name, twin: bool, report: &mut Report) {
    let mut told = match name {
        Name::Same => Vec::new(),
        Name::Mapped => vec![format!("the route is named {route}; the URL with the old name is taken by compat.names")],
        Name::Lost => vec![format!("the route is named {route}, and the old name cannot be taken: change the URL")],
    };
    if twin {
        told.push("another route has this room as well, so that a URL with the room's id is answered 404".to_owned());
    }
    let to = format!("routes.{route}.rooms");
    match (name, told.is_empty()) {
        (_, true) => report.kept(key, &to),
        (Name::Lost, _) => report.hand(key, Some(&to), &told.join("; ")),
        _ if twin => report.hand(key, Some(&to), &told.join("; ")),
        (Name::Same | Name::Mapped, false) => report.changes(key, &to, &told.join("; ")),
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
    fn each_name_becomes_one_of_its_own() {
        let names = ["Ops_Team", "ops-team", "OPS TEAM", "a.b", "_a_", "a", "Übersicht", "日本", "", "x--y"];
        let routes = route_names(&names);
        let routes: Vec<&str> = routes.iter().map(RouteName::as_str).collect();
        assert_eq!(
            routes,
            ["ops-team-2", "ops-team", "ops-team-3", "a-b", "a-2", "a", "bersicht", "room", "room-2", "x--y"]
        );
    }
}
