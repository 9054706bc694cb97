//! Checks one room: whether the account is in it, and may send and mention there.

use serde_json::Value;

use super::{
    homeserver::{Answer, Homeserver},
    readers,
    report::Report,
};
use crate::{
    cli::support::output::excerpt,
    matrix::{Create, Powers},
    model::RoomAddress,
};

/// The number of upgrades that serve follows at once.
const MAX_UPGRADES: usize = 10;

/// The room and the user that are checked.
pub(super) struct RoomCheck<'a> {
    pub(super) homeserver: &'a Homeserver,
    pub(super) user: &'a str,
    pub(super) id: &'a str,
}

/// The account's membership in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    Joined,
    Invited,
    Banned,
    /// Never joined, or left.
    Out,
}

/// Resolves an address to a room id, or says what is wrong with it.
///
/// # Errors
/// When the homeserver does not answer.
pub(super) async fn resolve(homeserver: &Homeserver, address: &RoomAddress) -> Result<Result<String, String>, String> {
    if !address.is_alias() {
        return Ok(Ok(address.to_string()));
    }
    let answer = homeserver.v3(&["directory", "room", address.as_str()], &[]).await?;
    Ok(match answer.json["room_id"].as_str() {
        Some(id) if answer.is_ok() => Ok(id.to_owned()),
        _ if answer.status == 404 => Err("no room has this alias -> set the alias in the room's settings, or name \
                                          the room by its id (!…)"
            .to_owned()),
        _ => Err(format!("the alias cannot be looked up: {} -> name the room by its id (!…)", answer.refusal)),
    })
}

/// Reports on one room, and returns whether it is encrypted and joined. `mention_key` is the config key that has `@room`
/// mentioned there.
///
/// # Errors
/// When the homeserver does not answer.
pub(super) async fn check(
    room: &RoomCheck<'_>,
    title: &str,
    membership: Membership,
    mention_key: Option<&str>,
    report: &mut Report,
) -> Result<bool, String> {
    match membership {
        Membership::Joined => return check_joined(room, title, mention_key, report).await,
        Membership::Invited => {
            report.note(format!("{title}: invited; serve will join, then check again whether it may send"));
        }
        Membership::Banned => {
            let user = room.user;
            report.fault(format!(
                "{title}: {user} is banned there -> lift the ban and invite it: /unban {user}, /invite {user}"
            ));
        }
        Membership::Out => check_out(room, title, report).await?,
    }
    Ok(false)
}

async fn check_out(room: &RoomCheck<'_>, title: &str, report: &mut Report) -> Result<(), String> {
    let RoomCheck { homeserver, user, id } = room;
    // Since Matrix 1.15; without an answer the room counts as invite-only.
    let summary = homeserver.get(&["_matrix", "client", "v1", "room_summary", id], &[]).await?;
    if summary.is_ok() && summary.json["join_rule"] == "public" {
        report.note(format!("{title}: not in the room yet; anyone may join it, so serve will"));
        return Ok(());
    }
    report.fault(format!("{title}: not in the room and not invited -> invite {user} there: /invite {user}"));
    Ok(())
}

async fn check_joined(
    room: &RoomCheck<'_>,
    title: &str,
    mention_key: Option<&str>,
    report: &mut Report,
) -> Result<bool, String> {
    let RoomCheck { homeserver, user, id } = room;
    let id = match last_of(room).await? {
        Ok(Some(next)) => {
            report.note(format!("{title}: the room was upgraded to {next}, where serve follows it"));
            next
        }
        Ok(None) => (*id).to_owned(),
        Err(next) => {
            report.fault(format!(
                "{title}: the room was replaced by {next}, but the account is not in that room, or it does not name this one \
                 as its predecessor -> invite {user} to {next}, or set the right room"
            ));
            return Ok(false);
        }
    };
    let (room, id) = (&RoomCheck { id: &id, ..*room }, id.as_str());
    let levels = homeserver.state(id, "m.room.power_levels", false).await?;
    let encryption = homeserver.state(id, "m.room.encryption", false).await?;
    let (levels, encryption) = match (present(levels), present(encryption)) {
        (Ok(levels), Ok(encryption)) => (levels, encryption),
        (Err(refusal), _) | (_, Err(refusal)) => {
            report.fault(format!("{title}: its state cannot be read: {refusal} -> ask the homeserver's admin"));
            return Ok(false);
        }
    };
    let powers = Powers { create: create(room).await?, levels };
    let encrypted = encryption.is_some();
    let kind = if encrypted { "m.room.encrypted" } else { "m.room.message" };
    let (power, to_send, to_mention) = (powers.of(user), powers.to_send(kind), powers.to_mention_room());
    let mut parts = vec!["joined"];
    if power.reaches(to_send) {
        parts.push("may send");
    } else {
        report.fault(format!(
            "{title}: may not send: {user} has the power level {power} and sending needs {to_send} -> give it \
             {to_send} in the room's settings (Roles & permissions), or let everyone send messages"
        ));
    }
    match mention_key {
        Some(_) if power.reaches(to_mention) => parts.push("may mention @room"),
        Some(key) => report.fault(format!(
            "{title}: may not mention @room: {user} has the power level {power} and that needs {to_mention} -> give \
             it {to_mention} in the room's settings (Roles & permissions), or set {key} = false"
        )),
        None => {}
    }
    parts.push(if encrypted { "encrypted" } else { "not encrypted" });
    if power.reaches(to_send) && mention_key.is_none_or(|_| power.reaches(to_mention)) {
        report.ok(format!("{title}: {}", parts.join(", ")));
    } else {
        report.note(format!("{title}: {}", parts.join(", ")));
    }
    if encrypted {
        readers::check(homeserver, user, id, title, report).await?;
    }
    Ok(encrypted)
}

/// The last room of a chain of upgrades: `None` without an upgrade, `Err` for a room that cannot be followed.
async fn last_of(room: &RoomCheck<'_>) -> Result<Result<Option<String>, String>, String> {
    let mut last: Option<String> = None;
    for _ in 0..MAX_UPGRADES {
        let id = last.as_deref().unwrap_or(room.id);
        let tombstone = room.homeserver.state(id, "m.room.tombstone", false).await?;
        let Some(next) = tombstone.json["replacement_room"].as_str().filter(|_| tombstone.is_ok()) else { break };
        let create = room.homeserver.state(next, "m.room.create", false).await?;
        if !create.is_ok() || create.json["predecessor"]["room_id"] != id {
            return Ok(Err(excerpt(next)));
        }
        last = Some(next.to_owned());
    }
    Ok(Ok(last))
}

/// A state event that may be absent.
fn present(answer: Answer) -> Result<Option<Value>, String> {
    match answer.status {
        200 => Ok(Some(answer.json)),
        404 => Ok(None),
        _ => Err(answer.refusal),
    }
}

/// Who created the room; since room version 12 creators have all power.
async fn create(room: &RoomCheck<'_>) -> Result<Create, String> {
    let answer = room.homeserver.state(room.id, "m.room.create", true).await?;
    if answer.json["content"].is_object() {
        return Ok(whole(&answer.json));
    }
    // Before Matrix 1.16 homeservers return the content alone.
    let create = Create { sender: None, content: answer.json };
    if !create.creators_rule() {
        return Ok(create);
    }
    let state = room.homeserver.v3(&["rooms", room.id, "state"], &[]).await?;
    let mut events = state.json.as_array().into_iter().flatten();
    Ok(events.find(|event| event["type"] == "m.room.create").map_or(create, whole))
}

fn whole(event: &Value) -> Create {
    Create { sender: event["sender"].as_str().map(ToOwned::to_owned), content: event["content"].clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use url::Url;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{header, method, path},
    };

    use super::*;

    /// Synapse returns the sender at once; other homeservers may not.
    #[tokio::test]
    async fn a_homeserver_that_gives_the_content_alone() {
        for (version, sender) in [("12", Some("@bot:x")), ("11", None)] {
            let server = MockServer::start().await;
            let content = json!({ "room_version": version });
            let event = json!({ "type": "m.room.create", "sender": "@bot:x", "content": content });
            for (below, answer) in [
                ("/state/m.room.create/", content.clone()),
                ("/state", json!([{ "type": "m.room.name", "sender": "@other:x", "content": {} }, event])),
            ] {
                Mock::given(method("GET"))
                    .and(path(format!("/base/_matrix/client/v3/rooms/!a/{}", &below[1..])))
                    .and(header("authorization", "Bearer syt_token"))
                    .respond_with(ResponseTemplate::new(200).set_body_json(answer))
                    .mount(&server)
                    .await;
            }
            let base = Url::parse(&format!("{}/base", server.uri())).unwrap();
            let mut homeserver = Homeserver::at(base);
            homeserver.token = Some("syt_token".to_owned());
            let create = create(&RoomCheck { homeserver: &homeserver, user: "@bot:x", id: "!a" }).await.unwrap();
            assert_eq!((create.sender.as_deref(), create.content), (sender, content), "{version}");
        }
    }

    #[tokio::test]
    async fn a_token_that_a_server_repeats_is_not_shown() {
        let server = MockServer::start().await;
        let answer = json!({ "errcode": "M_UNKNOWN", "error": "no such token: syt_token\u{1b}[2J" });
        let template = ResponseTemplate::new(401).set_body_json(answer);
        Mock::given(method("GET")).respond_with(template).mount(&server).await;
        let mut homeserver = Homeserver::at(Url::parse(&server.uri()).unwrap());
        homeserver.token = Some("syt_token".to_owned());
        let answer = homeserver.v3(&["account", "whoami"], &[]).await.unwrap();
        assert_eq!(answer.refusal, "401 M_UNKNOWN no such token: *** [2J");
    }
}
