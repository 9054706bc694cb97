//! `[routes.X]`

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{actions, alertmanager, evidence, grafana, heartbeats, mentions, templates};
use crate::{
    config::{
        reader::{BadValue, Item, Section},
        schema::{Actions, Alertmanager, Display, ExtraLink, Links, Mentions, Route, Updates},
        templates::Templates,
        values::{DURATION, duration, duration_or_never, duration_or_zero, number, text, word},
    },
    model::{RoomAddress, RouteName},
};

/// The route of receivers that no other route names.
const DEFAULT: &str = "default";

const ROOM: &str = "a room id such as \"!abc:example.org\" or an alias such as \"#ops:example.org\"";
const UPDATES: [(&str, Updates); 4] =
    [("thread", Updates::Thread), ("reply", Updates::Reply), ("edit", Updates::Edit), ("post", Updates::Post)];

/// Where each receiver was named.
type Receivers<'r> = BTreeMap<String, Item<'r>>;

impl Route {
    /// A route of that name with every key at its default, and no room yet.
    #[must_use]
    pub fn with_defaults(name: RouteName) -> Self {
        Self {
            name,
            rooms: Vec::new(),
            receivers: Vec::new(),
            updates: Updates::Thread,
            remind_after: Some(Duration::from_mins(30)),
            reopen_after: Duration::from_mins(15),
            stale_after: Duration::from_hours(5 * 24),
            repost_after: Some(Duration::from_hours(24)),
            digest_above: 8,
            mentions: Mentions::default(),
            grafana: None,
            links: Vec::new(),
            templates: Templates::new(),
            alertmanager: None,
            actions: None,
            escalate: Vec::new(),
            evidence: None,
            heartbeats: Vec::new(),
        }
    }
}

/// What routes inherit.
pub(super) struct Common<'a> {
    pub(super) display: &'a Display,
    pub(super) links: &'a Links,
    pub(super) templates: &'a Templates,
    pub(super) alertmanager: Option<Arc<Alertmanager>>,
    pub(super) actions: Option<Actions>,
    /// The sources of evidence that the config names.
    pub(super) sources: evidence::Named,
}

pub(super) fn read(routes: &Section<'_>, common: &Common<'_>) -> BTreeMap<RouteName, Route> {
    let mut names: Vec<&str> = routes.names().collect();
    if names.is_empty() {
        // Its missing rooms are the error to report; where no rooms are needed, it is a route to render for.
        names.push(DEFAULT);
    }
    let mut receivers = Receivers::new();
    let mut read = BTreeMap::new();
    for key in names {
        let name = RouteName::parse(key).or_else(|error| {
            routes.item(key).iter().for_each(|item| item.fault(&error));
            // The route is read nevertheless, to check its keys.
            RouteName::parse(DEFAULT)
        });
        if let Ok(name) = name {
            let section = routes.section(key);
            let mut route = route(&section, name.clone(), common.display, &mut receivers);
            route.grafana = grafana::read(&section, common.links.grafana.as_ref());
            route.alertmanager = alertmanager::read(&section, common.alertmanager.as_ref());
            route.actions = actions::read(&section, common.actions.as_ref());
            route.evidence = evidence::of_route(&section, common.sources, common.display);
            route.templates = common.templates.clone();
            route.templates.extend(templates::read(&section.section("templates")));
            read.insert(name, route);
        }
    }
    read
}

fn route<'r>(section: &Section<'r>, name: RouteName, display: &Display, receivers: &mut Receivers<'r>) -> Route {
    let defaults = Route::with_defaults(name.clone());
    let updates = "\"thread\", \"reply\", \"edit\" or \"post\"";
    let number_of_incidents = "a whole number of incidents, 0 for never";
    Route {
        rooms: rooms(section),
        receivers: own_receivers(section, receivers),
        updates: section.read("updates", updates, |item| word(item, &UPDATES)).unwrap_or(defaults.updates),
        remind_after: section
            .read("remind_after", &format!("{DURATION}, or \"never\""), duration_or_never)
            .unwrap_or(defaults.remind_after),
        reopen_after: section.read("reopen_after", DURATION, duration_or_zero).unwrap_or(defaults.reopen_after),
        stale_after: section.read("stale_after", DURATION, duration).unwrap_or(defaults.stale_after),
        repost_after: section
            .read("repost_after", &format!("{DURATION}, or \"never\""), duration_or_never)
            .unwrap_or(defaults.repost_after),
        digest_above: section
            .read("digest_above", number_of_incidents, |item| number(item, 0))
            .unwrap_or(defaults.digest_above),
        mentions: mentions::read(&section.section("mentions"), display),
        grafana: None,
        links: extra_links(section),
        templates: defaults.templates,
        alertmanager: None,
        actions: None,
        escalate: mentions::escalations(section, display),
        evidence: None,
        heartbeats: heartbeats::read(section),
        name,
    }
}

fn rooms(section: &Section<'_>) -> Vec<RoomAddress> {
    let parse = |item: &Item<'_>| {
        let room = item.text().and_then(|text| RoomAddress::parse(text).ok());
        room.ok_or(BadValue::Unexpected)
    };
    let Some(item) = section.item("rooms") else {
        if section.reader.purpose.needs_rooms() {
            section.missing("rooms", &format!("a list of at least one room, {ROOM}"));
        }
        return Vec::new();
    };
    if item.items().is_ok_and(|items| items.is_empty()) {
        item.fault(format!("found an empty list, expected at least one room, {ROOM}"));
    }
    let mut rooms: Vec<RoomAddress> = Vec::new();
    for room in section.list("rooms", ROOM, parse).unwrap_or_default() {
        if rooms.contains(&room) {
            item.fault(format!("names {room} twice, expected every room once"));
        } else {
            rooms.push(room);
        }
    }
    rooms
}

/// A payload has one receiver, and `POST /alerts` must know the one route it goes to.
fn own_receivers<'r>(section: &Section<'r>, taken: &mut Receivers<'r>) -> Vec<String> {
    let each = "the name of an Alertmanager receiver";
    let items = section.list("receivers", each, |item| Ok((text(item)?, item.clone()))).unwrap_or_default();
    let mut own = Vec::new();
    for (receiver, item) in items {
        match taken.get(&receiver) {
            Some(other) if other.path != item.path => {
                item.fault(format!("{receiver:?} is named by {} as well, keep it in one route", other.place()));
            }
            Some(_) => {}
            None => {
                taken.insert(receiver.clone(), item);
                own.push(receiver);
            }
        }
    }
    own
}

/// A line of a card has no room for more links.
const MAX_LINKS: usize = 8;
const MAX_LABEL: usize = 30;

/// Templates of links are checked where they are compiled.
fn extra_links(section: &Section<'_>) -> Vec<ExtraLink> {
    let each = "a table such as { label = \"Dashboard\", url = \"https://grafana.example.org/d/x?var-ns=\
                {{ labels.namespace | urlencode }}\" }";
    let links = section.list("links", each, extra_link).unwrap_or_default();
    if links.len() > MAX_LINKS {
        section.item("links").iter().for_each(|item| {
            item.fault(format!("found {} entries, expected {MAX_LINKS} or fewer", links.len()));
        });
    }
    links
}

fn extra_link(item: &Item<'_>) -> Result<ExtraLink, BadValue> {
    let entry = item.section()?;
    for key in ["label", "url"] {
        if entry.item(key).is_none() {
            item.fault(format!("an entry without {key}, expected both label and url"));
        }
    }
    let short = |item: &Item<'_>| {
        text(item).and_then(|t| if t.chars().count() > MAX_LABEL { Err(BadValue::Unexpected) } else { Ok(t) })
    };
    Ok(ExtraLink {
        label: entry.read("label", "a word or two, at most 30 characters", short).unwrap_or_default(),
        url: entry.read("url", "a template of a URL", text).unwrap_or_default(),
        when: entry.read("when", "an expression such as \"labels.namespace\"", text),
    })
}
