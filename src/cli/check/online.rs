//! `check --online`: the homeserver, the account, then room by room.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    account,
    homeserver::Homeserver,
    readers,
    report::Report,
    room::{self, Membership},
    shared_session,
};
use crate::{
    cli::support::http_client,
    config::{Config, Credential},
    model::{RoomAddress, RoomName},
};

/// Runs all checks; the first request without an answer ends them.
pub(super) async fn check(config: &Config, report: &mut Report) {
    if let Err(no_answer) = ask_all(config, report).await {
        report.fault(no_answer);
    }
}

async fn ask_all(config: &Config, report: &mut Report) -> Result<(), String> {
    let mut homeserver = Homeserver::new(&config.matrix).await?;
    if !answers(&homeserver, report).await? {
        return Ok(());
    }
    homeserver.token = account::token(config);
    let accepted = homeserver.token.is_some() && is_our_account(config, &mut homeserver, report).await?;
    let shared = shared_session::check(config, &homeserver, report).await?;
    if !accepted {
        if shared.is_none() {
            if homeserver.token.is_none() && matches!(config.matrix.credential, Some(Credential::Password(_))) {
                check_login(&homeserver, report).await?;
            }
            return Ok(());
        }
        homeserver.token = shared;
    }
    rooms(config, &homeserver, report).await
}

async fn answers(homeserver: &Homeserver, report: &mut Report) -> Result<bool, String> {
    let base = &homeserver.base;
    let path = ["_matrix", "client", "versions"];
    let answer = homeserver.get(&path, &[]).await?;
    if answer.is_ok() && answer.json["versions"].is_array() {
        report.ok(format!("homeserver: {base} answers"));
        return Ok(true);
    }
    let well_known = homeserver.get(&[".well-known", "matrix", "client"], &[]).await?;
    let advice = match well_known.json["m.homeserver"]["base_url"].as_str() {
        Some(url) => format!("it names another address, set matrix.homeserver = {url:?}"),
        None => "set matrix.homeserver to the base URL of the client API, the one that Matrix clients use".to_owned(),
    };
    report.fault(format!("homeserver: {}: {} -> {advice}", http_client::below(base, &path), answer.refusal));
    Ok(false)
}

/// Checks the login flows. The password is not tried, since a login would create a device.
async fn check_login(homeserver: &Homeserver, report: &mut Report) -> Result<(), String> {
    let answer = homeserver.v3(&["login"], &[]).await?;
    let mut flows = answer.json["flows"].as_array().into_iter().flatten();
    if answer.is_ok() && !flows.any(|flow| flow["type"] == "m.login.password") {
        report.fault(
            "account: the homeserver accepts no passwords -> create an access token with a Matrix client and set \
             matrix.access_token_file",
        );
        return Ok(());
    }
    report.unchecked(
        "account: password and rooms were not checked, since a login creates a device -> start the receiver once, \
         then check again with the session that it stores",
    );
    Ok(())
}

/// Checks whose token it is. Drops a stored token that is no longer accepted if there is a password to get another.
async fn is_our_account(config: &Config, homeserver: &mut Homeserver, report: &mut Report) -> Result<bool, String> {
    let user = &config.matrix.user_id;
    let answer = homeserver.v3(&["account", "whoami"], &[]).await?;
    if !answer.is_ok() {
        if answer.status == 401 && matches!(config.matrix.credential, Some(Credential::Password(_))) {
            report.note("account: the stored session is no longer accepted; the receiver will log in again");
            homeserver.token = None;
            return Ok(false);
        }
        let advice = match answer.errcode() {
            "M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN" => "create a new access token by a new login, and keep that session",
            "M_USER_LOCKED" | "M_USER_SUSPENDED" | "M_USER_DEACTIVATED" => "ask the homeserver's admin for the account",
            _ => "ask the homeserver's admin",
        };
        report.fault(format!("account: the access token is refused: {} -> {advice}", answer.refusal));
        return Ok(false);
    }
    let owner = answer.json["user_id"].as_str().unwrap_or_default();
    if owner != user {
        report.fault(format!(
            "account: the access token belongs to {owner}, matrix.user_id says {user} -> set the right user, \
             and its token"
        ));
        return Ok(false);
    }
    match answer.json["device_id"].as_str() {
        Some(device) => report.ok(format!("account: the access token is of {user}, device {device}")),
        None => report.fault(
            "account: the access token has no device, so nothing can be sent to encrypted rooms -> run login, or \
             create a token by logging in, not through an admin API",
        ),
    }
    Ok(true)
}

async fn rooms(config: &Config, homeserver: &Homeserver, report: &mut Report) -> Result<(), String> {
    let answer = homeserver.v3(&["joined_rooms"], &[]).await?;
    if !answer.is_ok() {
        report.fault(format!("rooms: cannot be listed: {} -> ask the homeserver's admin", answer.refusal));
        return Ok(());
    }
    let joined: BTreeSet<&str> = texts(&answer.json["joined_rooms"]).collect();
    let mut known = BTreeMap::new();
    let mut listed = Vec::new();
    for (address, name) in config.rooms() {
        let id = room::resolve(homeserver, &address).await?;
        if let Ok(id) = &id {
            known.insert(address.clone(), (name.clone(), id.clone()));
        }
        listed.push((format!("{name} {address}"), address, id));
    }
    let others = known.values().map(|(_, id)| id.as_str()).filter(|id| !joined.contains(id)).collect();
    let unjoined = UnjoinedRooms::ask(homeserver, &config.matrix.user_id, others).await?;
    let mut encrypted = false;
    for (title, address, id) in &listed {
        let id = match id {
            Ok(id) => id.as_str(),
            Err(fault) => {
                report.fault(format!("{title}: {fault}"));
                continue;
            }
        };
        let check = room::RoomCheck { homeserver, user: &config.matrix.user_id, id };
        let membership = if joined.contains(id) { Membership::Joined } else { unjoined.membership(id) };
        if let Some(pin) = config.matrix.aliases.get(address).filter(|pin| pin.as_str() != id) {
            report.note(format!("{title}: the alias leads to {id}, matrix.aliases says {pin}"));
        }
        encrypted |= room::check(&check, title, membership, mention_key(config, address).as_deref(), report).await?;
    }
    if encrypted {
        readers::check_trust(homeserver, config, report).await?;
    }
    report_duplicates(config, &known, report);
    Ok(())
}

/// The config key that has `@room` mentioned in the room, if one does.
fn mention_key(config: &Config, address: &RoomAddress) -> Option<String> {
    let route = config.routes.values().find(|route| route.mentions.room && route.rooms.contains(address))?;
    Some(format!("routes.{}.mentions.room", route.name))
}

/// Reports rooms that a route names twice, by an alias and an id: they would show everything twice.
fn report_duplicates(config: &Config, known: &BTreeMap<RoomAddress, (RoomName, String)>, report: &mut Report) {
    for route in config.routes.values() {
        let mut seen: BTreeMap<&str, &RoomAddress> = BTreeMap::new();
        for address in &route.rooms {
            let Some((name, id)) = known.get(address) else { continue };
            if let Some(first) = seen.insert(id, address) {
                report.fault(format!(
                    "{name} {address}: is the same room as {first}, so every alert would be shown there twice -> keep \
                     one of them in routes.{}.rooms",
                    route.name
                ));
            }
        }
    }
}

/// The account's membership in the rooms that it has not joined.
struct UnjoinedRooms {
    sync: Value,
    user: String,
}

impl UnjoinedRooms {
    /// Asks with a sync, the only request that returns this. Without a `since` it does not affect the receiver's own sync.
    async fn ask(homeserver: &Homeserver, user: &str, rooms: BTreeSet<&str>) -> Result<Self, String> {
        let user = user.to_owned();
        if rooms.is_empty() {
            return Ok(Self { sync: Value::Null, user });
        }
        let nothing = json!({ "types": [] });
        let filter = json!({
            "presence": nothing,
            "account_data": nothing,
            "room": {
                "rooms": rooms,
                // A ban is a leave whose last member event is the ban.
                "include_leave": true,
                "timeline": { "types": ["m.room.member"], "limit": 1 },
                "state": nothing,
                "ephemeral": nothing,
                "account_data": nothing,
            },
        });
        let query = [("timeout", "0"), ("set_presence", "offline"), ("filter", &filter.to_string())];
        Ok(Self { sync: homeserver.v3(&["sync"], &query).await?.json, user })
    }

    fn membership(&self, room: &str) -> Membership {
        let rooms = &self.sync["rooms"];
        if rooms["invite"].get(room).is_some() {
            return Membership::Invited;
        }
        let mut events = rooms["leave"][room]["timeline"]["events"].as_array().into_iter().flatten();
        let is_ban = |event: &Value| {
            event["content"]["membership"] == "ban" && event["state_key"].as_str() == Some(self.user.as_str())
        };
        if events.any(is_ban) { Membership::Banned } else { Membership::Out }
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
