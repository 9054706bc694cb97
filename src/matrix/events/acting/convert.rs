//! From an event's JSON to what it can ask for. Pure. Everything in an event is the word of a stranger.

use std::{collections::BTreeSet, time::Duration};

use matrix_sdk::deserialized_responses::{VerificationLevel, VerificationState};
use serde_json::Value;

use crate::{
    matrix::rooms::observed::redacted_by,
    model::{RoomEvent, RoomEventContent, Timestamp, Trust},
};

/// The longest body that is looked at; no command is as long.
const BODY: usize = 4 * 1024;
/// The longest id that the specification allows, and the longest key of a reaction that means something.
const ID: usize = 255;

/// How an event came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sealed {
    /// In the clear.
    Plain,
    /// Encrypted and read. `megolm`: its session and index, if they are known.
    Read { trust: Trust, megolm: Option<String> },
    /// Encrypted, and not read.
    Unread,
}

/// How far the SDK's word proves the sender. Only one who has signed the device with the identity that the account knows
/// them by counts, verified or not.
pub(super) fn trust_of(state: &VerificationState) -> Trust {
    match state {
        VerificationState::Verified | VerificationState::Unverified(VerificationLevel::UnverifiedIdentity) => {
            Trust::Signed
        }
        VerificationState::Unverified(VerificationLevel::UnsignedDevice | VerificationLevel::None(_)) => {
            Trust::Unsigned
        }
        VerificationState::Unverified(
            VerificationLevel::MismatchedSender | VerificationLevel::VerificationViolation,
        ) => Trust::Violated,
    }
}

/// How old an event is. Only for a homeserver that does not say (Dendrite) is its clock compared with ours.
pub(super) fn age_of(json: &Value, wall: Timestamp) -> Option<Duration> {
    let said = json["unsigned"]["age"].as_u64().map(Duration::from_millis);
    said.or_else(|| json["origin_server_ts"].as_i64().map(|at| wall.since(Timestamp(at))))
}

/// What an event says; `None`: it has no id or sender, or is the account's own. `wall`: what our clock shows.
pub(super) fn room_event(json: &Value, own: &str, sealed: Sealed, wall: Timestamp) -> Option<RoomEvent> {
    let event_id = id(&json["event_id"])?;
    let sender = id(&json["sender"]).filter(|sender| sender != own)?;
    let age = age_of(json, wall);
    let content = content_of(json, &sealed);
    let (trust, megolm) = match sealed {
        Sealed::Plain => (Trust::Plain, None),
        Sealed::Read { trust, megolm } => (trust, megolm),
        Sealed::Unread => (Trust::Unsigned, None),
    };
    Some(RoomEvent { event_id, sender, age, trust, megolm, content })
}

fn content_of(json: &Value, sealed: &Sealed) -> RoomEventContent {
    let content = &json["content"];
    let is_redacted =
        content.as_object().is_none_or(serde_json::Map::is_empty) || json["unsigned"].get("redacted_because").is_some();
    let kind = json["type"].as_str().unwrap_or_default();
    // A redaction may have empty content: before room version 11 its target is beside it. One that was encrypted has
    // redacted nothing.
    if kind == "m.room.redaction" {
        let target = redacted_by(json).filter(|target| target.len() <= ID && *sealed == Sealed::Plain);
        return target.map_or(RoomEventContent::Other, |target| RoomEventContent::Redaction { target });
    }
    if is_redacted || json.get("state_key").is_some() {
        return RoomEventContent::Other;
    }
    match kind {
        _ if *sealed == Sealed::Unread => RoomEventContent::Undecryptable,
        "m.reaction" => reaction(content),
        "m.room.message" => text(content),
        _ => RoomEventContent::Other,
    }
}

fn reaction(content: &Value) -> RoomEventContent {
    let relation = &content["m.relates_to"];
    let key = relation["key"].as_str().filter(|key| key.len() <= ID);
    match (relation["rel_type"].as_str(), id(&relation["event_id"]), key) {
        (Some("m.annotation"), Some(target), Some(key)) => RoomEventContent::Reaction { target, key: key.to_owned() },
        _ => RoomEventContent::Other,
    }
}

fn text(content: &Value) -> RoomEventContent {
    let relation = &content["m.relates_to"];
    let rel_type = relation["rel_type"].as_str();
    // An edit changes what was said; what was asked for has been done by then.
    let is_edit = rel_type == Some("m.replace") || content.get("m.new_content").is_some();
    let (Some(body), false, Some("m.text")) = (content["body"].as_str(), is_edit, content["msgtype"].as_str()) else {
        return RoomEventContent::Other;
    };
    let thread = if rel_type == Some("m.thread") { id(&relation["event_id"]) } else { None };
    let is_fallback = thread.is_some() && relation["is_falling_back"].as_bool() == Some(true);
    let reply_to = id(&relation["m.in_reply_to"]["event_id"]).filter(|_| !is_fallback);
    let body = if reply_to.is_some() { without_quote(body) } else { body };
    RoomEventContent::Text { body: bounded(body), thread, reply_to }
}

/// Clients put what a reply answers before it, as lines that begin with `>`, and an empty line (until Matrix 1.13).
fn without_quote(body: &str) -> &str {
    if !body.starts_with("> ") {
        return body;
    }
    let mut rest = body;
    while rest.starts_with('>') {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.strip_prefix('\n').unwrap_or(rest)
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(BODY);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn id(value: &Value) -> Option<String> {
    value.as_str().filter(|id| (1..=ID).contains(&id.len())).map(ToOwned::to_owned)
}

/// Whether an event may be a command. What begins with no prefix is talk.
pub(super) fn may_be_command(event: &RoomEvent, prefixes: &BTreeSet<String>) -> bool {
    let RoomEventContent::Text { body, .. } = &event.content else { return false };
    prefixes.iter().any(|prefix| body.trim_start().starts_with(prefix.as_str()))
}

#[cfg(test)]
mod tests {
    use matrix_sdk::deserialized_responses::DeviceLinkProblem;
    use serde_json::json;

    use super::*;

    const BOT: &str = "@bot:x";
    const WALL: Timestamp = Timestamp(1_800_000_000_000);

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals reads better without references")]
    fn event(kind: &str, content: Value) -> Value {
        json!({
            "type": kind, "event_id": "$1", "sender": "@a:x", "content": content, "unsigned": { "age": 1_500 }
        })
    }

    fn said(json: &Value) -> RoomEventContent {
        room_event(json, BOT, Sealed::Plain, WALL).expect("an event").content
    }

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals reads better without references")]
    fn message(content: Value) -> RoomEventContent {
        let mut whole = json!({ "msgtype": "m.text", "body": "!ack" });
        whole.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
        said(&event("m.room.message", whole))
    }

    fn ack(thread: Option<&str>, reply_to: Option<&str>) -> RoomEventContent {
        let owned = |id: Option<&str>| id.map(ToOwned::to_owned);
        RoomEventContent::Text { body: "!ack".to_owned(), thread: owned(thread), reply_to: owned(reply_to) }
    }

    #[test]
    fn what_a_message_says_and_where() {
        use RoomEventContent::Other;
        let in_reply_to = json!({ "event_id": "$r" });
        for (name, content, expected) in [
            ("in the room", json!({}), ack(None, None)),
            ("a reply", json!({ "m.relates_to": { "m.in_reply_to": in_reply_to } }), ack(None, Some("$r"))),
            (
                "in a thread",
                json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": "$t" } }),
                ack(Some("$t"), None),
            ),
            (
                "in a thread, with the fallback for others",
                json!({ "m.relates_to": {
                    "rel_type": "m.thread", "event_id": "$t", "is_falling_back": true, "m.in_reply_to": in_reply_to
                } }),
                ack(Some("$t"), None),
            ),
            (
                "a reply in a thread",
                json!({ "m.relates_to": {
                    "rel_type": "m.thread", "event_id": "$t", "is_falling_back": false, "m.in_reply_to": in_reply_to
                } }),
                ack(Some("$t"), Some("$r")),
            ),
            (
                "a reply that claims to be a fallback of no thread",
                json!({ "m.relates_to": { "is_falling_back": true, "m.in_reply_to": in_reply_to } }),
                ack(None, Some("$r")),
            ),
            ("an edit", json!({ "m.relates_to": { "rel_type": "m.replace", "event_id": "$m" } }), Other),
            ("what looks like an edit", json!({ "m.new_content": {} }), Other),
            ("a notice", json!({ "msgtype": "m.notice" }), Other),
            ("an emote", json!({ "msgtype": "m.emote" }), Other),
            ("no type", json!({ "msgtype": null }), Other),
            ("no text", json!({ "body": 7 }), Other),
            ("an odd relation", json!({ "m.relates_to": "x" }), ack(None, None)),
        ] {
            assert_eq!(message(content), expected, "{name}");
        }
    }

    #[test]
    fn a_quote_before_a_reply_is_left_out() {
        let reply = json!({ "m.in_reply_to": { "event_id": "$r" } });
        for (body, expected) in [
            ("> <@bot:x> card\n> more\n\n!ack", "!ack"),
            ("> <@bot:x> card\n\n!ack\n> this", "!ack\n> this"),
            ("> only a quote", ""),
            (">no quote", ">no quote"),
            ("!ack", "!ack"),
        ] {
            let RoomEventContent::Text { body, .. } = message(json!({ "body": body, "m.relates_to": reply })) else {
                panic!("a text");
            };
            assert_eq!(body, expected);
        }
        let RoomEventContent::Text { body, .. } = message(json!({ "body": "> quoted\n\n!ack" })) else {
            panic!("a text");
        };
        assert_eq!(body, "> quoted\n\n!ack", "not a reply");
    }

    #[test]
    fn a_long_body_is_cut_between_two_characters() {
        let RoomEventContent::Text { body, .. } = message(json!({ "body": "ä".repeat(BODY) })) else {
            panic!("a text");
        };
        assert_eq!(body.len(), BODY);
        let RoomEventContent::Text { body, .. } = message(json!({ "body": format!("x{}", "ä".repeat(BODY)) })) else {
            panic!("a text");
        };
        assert_eq!(body.len(), BODY - 1);
    }

    #[test]
    fn reactions_and_redactions() {
        let reacts = |relation: Value| said(&event("m.reaction", json!({ "m.relates_to": relation })));
        let silences = RoomEventContent::Reaction { target: "$c".to_owned(), key: "🔕".to_owned() };
        assert_eq!(reacts(json!({ "rel_type": "m.annotation", "event_id": "$c", "key": "🔕" })), silences);
        for odd in [
            json!({ "rel_type": "m.thread", "event_id": "$c", "key": "🔕" }),
            json!({ "rel_type": "m.annotation", "key": "🔕" }),
            json!({ "rel_type": "m.annotation", "event_id": "$c" }),
            json!({ "rel_type": "m.annotation", "event_id": "$c", "key": "x".repeat(256) }),
            json!(7),
        ] {
            assert_eq!(reacts(odd.clone()), RoomEventContent::Other, "{odd}");
        }
        let redaction = RoomEventContent::Redaction { target: "$c".to_owned() };
        let mut old = event("m.room.redaction", json!({}));
        old["redacts"] = "$c".into();
        assert_eq!(said(&old), redaction, "before room version 11");
        assert_eq!(said(&event("m.room.redaction", json!({ "redacts": "$c" }))), redaction);
        assert_eq!(said(&event("m.room.redaction", json!({}))), RoomEventContent::Other);
        let sealed = Sealed::Read { trust: Trust::Signed, megolm: None };
        let in_secret = event("m.room.redaction", json!({ "redacts": "$c" }));
        let in_secret = room_event(&in_secret, BOT, sealed, WALL).expect("an event");
        assert_eq!(in_secret.content, RoomEventContent::Other, "the homeserver has redacted nothing");
    }

    #[test]
    fn what_is_redacted_or_state_asks_for_nothing() {
        let text = json!({ "msgtype": "m.text", "body": "!ack" });
        let mut redacted = event("m.room.message", text.clone());
        redacted["unsigned"]["redacted_because"] = json!({});
        let mut state = event("m.room.message", text);
        state["state_key"] = "".into();
        let closed = |content: Value| room_event(&event("m.room.encrypted", content), BOT, Sealed::Unread, WALL);
        for (name, content) in [
            ("a redacted message", said(&redacted)),
            ("an empty message", said(&event("m.room.message", json!({})))),
            ("a redacted reaction", said(&event("m.reaction", json!({})))),
            ("a redacted secret", closed(json!({})).expect("an event").content),
            ("state", said(&state)),
            ("a sticker", said(&event("m.sticker", json!({ "body": "!ack" })))),
        ] {
            assert_eq!(content, RoomEventContent::Other, "{name}");
        }
        let closed = closed(json!({ "ciphertext": "x" })).expect("an event");
        assert_eq!((closed.content, closed.trust), (RoomEventContent::Undecryptable, Trust::Unsigned));
    }

    #[test]
    fn own_and_nameless_events_are_left_out() {
        let text = json!({ "msgtype": "m.text", "body": "!ack" });
        let good = event("m.room.message", text);
        let read = room_event(&good, BOT, Sealed::Plain, WALL).expect("an event");
        assert_eq!((read.age, read.trust, read.megolm), (Some(Duration::from_millis(1_500)), Trust::Plain, None));
        for (key, value) in [("sender", json!(BOT)), ("sender", json!(null)), ("event_id", json!("x".repeat(256)))] {
            let mut odd = good.clone();
            odd[key] = value;
            assert_eq!(room_event(&odd, BOT, Sealed::Plain, WALL), None, "{odd}");
        }
        let mut ageless = good;
        ageless["unsigned"] = json!({ "age": -7 });
        assert_eq!(room_event(&ageless, BOT, Sealed::Plain, WALL).expect("an event").age, None);
    }

    #[test]
    fn an_event_of_which_the_homeserver_says_no_age_has_one_by_its_date() {
        let aged = |sent: Value| age_of(&json!({ "origin_server_ts": sent, "unsigned": {} }), WALL);
        assert_eq!(aged(json!(WALL.0 - 60_000)), Some(Duration::from_mins(1)));
        assert_eq!(aged(json!(WALL.0 + 1)), Some(Duration::ZERO), "its clock is ahead of ours");
        assert_eq!(aged(json!(i64::MAX)), Some(Duration::ZERO));
        assert!(aged(json!(i64::MIN)) > Some(Duration::from_hours(1)));
        assert_eq!((aged(json!("1")), aged(json!(1.5)), aged(json!(null))), (None, None, None));
        let said = json!({ "origin_server_ts": WALL.0 - 60_000, "unsigned": { "age": 5 } });
        assert_eq!(age_of(&said, WALL), Some(Duration::from_millis(5)));
    }

    #[test]
    fn only_a_device_that_its_owner_has_signed_counts() {
        use VerificationLevel::{MismatchedSender, UnsignedDevice, UnverifiedIdentity, VerificationViolation};
        let unverified = |level| trust_of(&VerificationState::Unverified(level));
        assert_eq!(trust_of(&VerificationState::Verified), Trust::Signed);
        assert_eq!(unverified(UnverifiedIdentity), Trust::Signed);
        assert_eq!(unverified(UnsignedDevice), Trust::Unsigned);
        for problem in [DeviceLinkProblem::MissingDevice, DeviceLinkProblem::InsecureSource] {
            assert_eq!(unverified(VerificationLevel::None(problem)), Trust::Unsigned);
        }
        assert_eq!(unverified(MismatchedSender), Trust::Violated);
        assert_eq!(unverified(VerificationViolation), Trust::Violated);
    }

    #[test]
    fn what_may_be_a_command() {
        let prefixes = BTreeSet::from(["!".to_owned(), "bot:".to_owned()]);
        for (body, expected) in
            [("!ack", true), ("  !ack", true), ("bot: ack", true), ("well, !ack", false), ("", false)]
        {
            let text = event("m.room.message", json!({ "msgtype": "m.text", "body": body }));
            let text = room_event(&text, BOT, Sealed::Plain, WALL).expect("an event");
            assert_eq!(may_be_command(&text, &prefixes), expected, "{body}");
        }
    }
}
