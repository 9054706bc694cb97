//! `[compat]`: URLs of other receivers.

use std::collections::BTreeMap;

use crate::{
    config::{
        reader::{BadValue, Section},
        schema::{Auth, Compat, Http, Route},
        values::boolean,
    },
    model::RouteName,
};

pub(super) fn read(compat: &Section<'_>, http: &Http, routes: &BTreeMap<RouteName, Route>) -> Compat {
    let switch = |key| compat.read(key, "true or false", boolean).unwrap_or(false);
    let query_secret = switch("query_secret");
    if query_secret && matches!(http.auth, Auth::None) && compat.reader.purpose.needs_rooms() {
        compat.item("query_secret").iter().for_each(|item| {
            item.fault("http.auth is \"none\", so there is no secret to compare with: set http.auth or WEBHOOK_TOKEN");
        });
    }
    Compat { room_paths: switch("room_paths"), names: names(&compat.section("names"), routes), query_secret }
}

fn names(names: &Section<'_>, routes: &BTreeMap<RouteName, Route>) -> BTreeMap<String, RouteName> {
    let mut known = BTreeMap::new();
    for name in names.names() {
        let route = names.read(name, "the name of a route", |item| {
            let route = item.text().and_then(|text| RouteName::parse(text).ok()).ok_or(BadValue::Unexpected)?;
            if !routes.contains_key(&route) {
                return Err(BadValue::Because(format!("there is no route named \"{route}\"")));
            }
            if let Some(why) = refused(name, routes) {
                return Err(BadValue::Because(why.to_owned()));
            }
            Ok(route)
        });
        known.extend(route.map(|route| (name.to_owned(), route)));
    }
    known
}

/// Why `name` cannot be an additional name of a route.
fn refused(name: &str, routes: &BTreeMap<RouteName, Route>) -> Option<&'static str> {
    if name.is_empty() || name.contains(|c: char| c == '/' || c.is_control()) {
        Some("the name on the left cannot be part of a URL's path: it is empty, or holds a / or a control character")
    } else if name.starts_with(['!', '#']) {
        Some("the name on the left is a room: use compat.room_paths = true")
    } else if RouteName::parse(name).is_ok_and(|name| routes.contains_key(&name)) {
        Some("the name on the left is a route already")
    } else {
        None
    }
}
