//! Which route a webhook takes.

use std::collections::BTreeMap;

use super::scrub::cut;
use crate::{
    config::{Config, Route},
    model::{RoomAddress, RouteName},
};

/// The length in bytes to which an unknown name is cut: strangers choose it, and it is logged.
const MAX_NAME: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("there is no route named {0:?}")]
    Unknown(String),
    #[error("no route names the receiver {0:?}, and there is no default route")]
    NoDefault(String),
    #[error("there is no route named {0:?}; set compat.room_paths = true to post by room")]
    RoomPathsOff(String),
    #[error("no route has the room {0:?}")]
    UnknownRoom(String),
    #[error("several routes have the room {0:?}, post to one of them by its name: {1}")]
    AmbiguousRoom(String, String),
}

/// How a path named its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// By the route's name.
    Route,
    /// By a name of `compat.names`.
    OldName,
    /// By the address of its room.
    Room,
}

/// `POST /alerts/{named}` takes the named route; `POST /alerts` the one whose `receivers` holds the payload's
/// receiver, else `default`.
///
/// # Errors
/// When no such route is configured.
pub fn choose_route<'a>(
    routes: &'a BTreeMap<RouteName, Route>,
    named: Option<&str>,
    receiver: &str,
) -> Result<&'a Route, RouteError> {
    match named {
        Some(name) => find(routes, name).ok_or_else(|| RouteError::Unknown(shown(name))),
        None => routes
            .values()
            .find(|route| route.receivers.iter().any(|known| known == receiver))
            .or_else(|| find(routes, "default"))
            .ok_or_else(|| RouteError::NoDefault(shown(receiver))),
    }
}

/// The route of `POST /alerts/{path}`: by its name, or as `[compat]` lets other receivers' URLs name it.
///
/// # Errors
/// When no route matches, or several do.
pub fn route_of_path<'a>(config: &'a Config, path: &str) -> Result<(&'a Route, PathKind), RouteError> {
    if let Some(route) = find(&config.routes, path) {
        return Ok((route, PathKind::Route));
    }
    if let Some(route) = config.compat.names.get(path).and_then(|name| config.routes.get(name)) {
        return Ok((route, PathKind::OldName));
    }
    match RoomAddress::parse(path) {
        Ok(room) if config.compat.room_paths => Ok((with_room(&config.routes, &room)?, PathKind::Room)),
        Ok(_) => Err(RouteError::RoomPathsOff(shown(path))),
        Err(_) => Err(RouteError::Unknown(shown(path))),
    }
}

/// The route with only this room, else the one with this room among others. Only the config decides which rooms exist:
/// a client must not choose where the bot speaks.
fn with_room<'a>(routes: &'a BTreeMap<RouteName, Route>, room: &RoomAddress) -> Result<&'a Route, RouteError> {
    let having = || routes.values().filter(|route| route.rooms.contains(room));
    let mut found: Vec<&Route> = having().filter(|route| route.rooms.len() == 1).collect();
    if found.is_empty() {
        found = having().collect();
    }
    match found.as_slice() {
        [] => Err(RouteError::UnknownRoom(shown(room.as_str()))),
        [route] => Ok(route),
        several => {
            let names: Vec<&str> = several.iter().map(|route| route.name.as_str()).collect();
            Err(RouteError::AmbiguousRoom(shown(room.as_str()), names.join(", ")))
        }
    }
}

fn find<'a>(routes: &'a BTreeMap<RouteName, Route>, name: &str) -> Option<&'a Route> {
    RouteName::parse(name).ok().and_then(|name| routes.get(&name))
}

fn shown(name: &str) -> String {
    cut(name, MAX_NAME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compat, Purpose};

    const ROUTES: &str = r##"
        [routes.ops]
        rooms = ["!ops:a"]
        [routes.both]
        rooms = ["!ops:a", "#web:a", "!three:a"]
        [routes.twin-1]
        rooms = ["!twin:a"]
        [routes.twin-2]
        rooms = ["!twin:a"]
        [routes.many]
        rooms = ["!three:a", "!x:a"]
    "##;

    fn config(compat: &str) -> Config {
        let text = format!("{ROUTES}\n[compat]\n{compat}");
        Config::parse(&text, "test", Purpose::Render).expect("a good config")
    }

    #[test]
    fn a_room_stands_for_the_one_route_that_is_meant() {
        let config = config("room_paths = true\nnames = { \"Old_Ops\" = \"ops\", \"old\" = \"both\" }");
        for (path, expected) in [
            ("ops", Ok(("ops", PathKind::Route))),
            ("Old_Ops", Ok(("ops", PathKind::OldName))),
            ("old", Ok(("both", PathKind::OldName))),
            // The route with only this room wins over the one with several.
            ("!ops:a", Ok(("ops", PathKind::Room))),
            ("#web:a", Ok(("both", PathKind::Room))),
            (
                "!twin:a",
                Err("several routes have the room \"!twin:a\", post to one of them by its name: twin-1, twin-2"),
            ),
            ("!three:a", Err("several routes have the room \"!three:a\", post to one of them by its name: both, many")),
            ("!strange:a", Err("no route has the room \"!strange:a\"")),
            ("old_ops", Err("there is no route named \"old_ops\"")),
            ("", Err("there is no route named \"\"")),
        ] {
            let found = route_of_path(&config, path).map(|(route, kind)| (route.name.as_str(), kind));
            assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{path}");
        }
    }

    #[test]
    fn without_the_setting_only_names_of_routes_count() {
        let config = config("");
        assert_eq!(config.compat, Compat::default());
        assert_eq!(route_of_path(&config, "ops").map(|(_, kind)| kind), Ok(PathKind::Route));
        for path in ["!ops:a", "#web:a"] {
            assert_eq!(route_of_path(&config, path).map(|_| ()), Err(RouteError::RoomPathsOff(path.to_owned())));
        }
        assert_eq!(route_of_path(&config, "Old_Ops").map(|_| ()), Err(RouteError::Unknown("Old_Ops".to_owned())));
        let long = format!("!{}", "x".repeat(250));
        assert_eq!(
            route_of_path(&config, &long).map(|_| ()),
            Err(RouteError::RoomPathsOff(long[..MAX_NAME].to_owned()))
        );
    }
}
