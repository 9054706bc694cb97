//! The content of room events.

use serde_json::Value;

use crate::{
    config::Mentions,
    model::{IncidentId, TxnId},
    render::{Envelope, Message, Relation, card_content, edit_content, reply_content},
};

fn message() -> Message {
    Message { body: "🔴 X \"quoted\"\nsince".to_owned(), html: "🔴 <strong>X</strong>".to_owned() }
}

fn ids() -> (TxnId, IncidentId) {
    (TxnId("mar-1".to_owned()), IncidentId("01INCIDENT".to_owned()))
}

fn read(content: &str) -> Value {
    serde_json::from_str(content).unwrap()
}

#[test]
fn a_card() {
    let (op, incident) = ids();
    let mentions = Mentions { min_severity: Some(0), users: vec!["@oncall:example.org".to_owned()], room: true };
    let envelope = Envelope { op: &op, incident: &incident, notice: false, mentions: Some(&mentions) };
    insta::assert_json_snapshot!(read(&card_content(&message(), &envelope)), @r#"
    {
      "msgtype": "m.text",
      "body": "🔴 X \"quoted\"\nsince",
      "format": "org.matrix.custom.html",
      "formatted_body": "🔴 <strong>X</strong>",
      "m.mentions": {
        "user_ids": [
          "@oncall:example.org"
        ],
        "room": true
      },
      "matrix_alertmanager_receiver": {
        "op": "mar-1",
        "incident": "01INCIDENT"
      }
    }
    "#);
    let nobody = Envelope { notice: true, mentions: None, ..envelope };
    let content = read(&card_content(&message(), &nobody));
    assert_eq!(content["m.mentions"], serde_json::json!({}), "always there");
    assert_eq!(content["msgtype"], "m.notice");
}

#[test]
fn an_edit() {
    let (op, incident) = ids();
    let mentions = Mentions { min_severity: Some(0), users: vec!["@oncall:example.org".to_owned()], room: false };
    let envelope = Envelope { op: &op, incident: &incident, notice: false, mentions: Some(&mentions) };
    insta::assert_json_snapshot!(read(&edit_content(&message(), "$root", &envelope)), @r#"
    {
      "msgtype": "m.text",
      "body": "* 🔴 X \"quoted\"\nsince",
      "format": "org.matrix.custom.html",
      "formatted_body": "* 🔴 <strong>X</strong>",
      "m.mentions": {},
      "m.new_content": {
        "msgtype": "m.text",
        "body": "🔴 X \"quoted\"\nsince",
        "format": "org.matrix.custom.html",
        "formatted_body": "🔴 <strong>X</strong>",
        "m.mentions": {
          "user_ids": [
            "@oncall:example.org"
          ]
        }
      },
      "m.relates_to": {
        "rel_type": "m.replace",
        "event_id": "$root"
      },
      "matrix_alertmanager_receiver": {
        "op": "mar-1",
        "incident": "01INCIDENT"
      }
    }
    "#);
}

#[test]
fn a_reply() {
    let (op, incident) = ids();
    let envelope = Envelope { op: &op, incident: &incident, notice: true, mentions: None };
    let thread = |last_reply| read(&reply_content(&message(), "$root", Relation::Thread { last_reply }, &envelope));
    insta::assert_json_snapshot!(thread(Some("$last")), @r#"
    {
      "msgtype": "m.notice",
      "body": "🔴 X \"quoted\"\nsince",
      "format": "org.matrix.custom.html",
      "formatted_body": "🔴 <strong>X</strong>",
      "m.mentions": {},
      "m.relates_to": {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": true,
        "m.in_reply_to": {
          "event_id": "$last"
        }
      },
      "matrix_alertmanager_receiver": {
        "op": "mar-1",
        "incident": "01INCIDENT"
      }
    }
    "#);
    assert_eq!(thread(None)["m.relates_to"]["m.in_reply_to"]["event_id"], "$root");
    let plain = read(&reply_content(&message(), "$root", Relation::Reply, &envelope));
    assert_eq!(plain["m.relates_to"], serde_json::json!({ "m.in_reply_to": { "event_id": "$root" } }));
}

/// What [`crate::render::MAX_BYTES`] promises: Megolm ciphertext is base64 (4/3), and the whole event stays below 65,536.
#[test]
fn an_edit_of_the_largest_message_can_be_encrypted() {
    let half = crate::render::MAX_BYTES / 2 - 2;
    let message = Message { body: "x".repeat(half), html: "y".repeat(half) };
    assert!(message.bytes() <= crate::render::MAX_BYTES);
    super::check::assert_fits_encrypted(&message);
}
