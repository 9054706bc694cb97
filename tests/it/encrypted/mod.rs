//! Encrypted rooms: what others can read, what goes over the wire, and what happens where keys cannot be had.

mod before_send;
mod keys;
mod login;
mod reading;
mod secrets;
mod trust;

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use serde_json::Value;

use crate::harness::{DEADLINE, Receiver, Room, RoomView, eventually};

/// All that the bot has sent is encrypted, and nothing readable holds one of `needles`.
pub async fn assert_sealed(room: &Room, needles: &[&str]) -> RoomView {
    let raw = room.view().await;
    for event in raw.events.iter().filter(|event| event.sender == raw.bot && !event.is_state) {
        assert_eq!(event.event_type, "m.room.encrypted", "in the clear: {:#}", event.raw);
        // Decoded: what looks random as base64 has any short word in it now and then.
        let mut reported = event.raw.clone();
        let sealed = reported["content"]["ciphertext"].take();
        let sealed = BASE64_STANDARD_NO_PAD.decode(sealed.as_str().expect("a ciphertext")).expect("base64");
        let sealed = String::from_utf8_lossy(&sealed);
        for needle in needles {
            assert!(
                !reported.to_string().contains(needle) && !sealed.contains(needle),
                "{needle} is in {:#}",
                event.raw
            );
        }
    }
    raw
}

/// How many events the bot has sent.
fn sent(raw: &RoomView) -> usize {
    raw.events.iter().filter(|event| event.sender == raw.bot && event.event_type == "m.room.encrypted").count()
}

async fn health(receiver: &Receiver) -> Value {
    receiver.get("/healthz").await.json()
}

async fn wait_health(receiver: &Receiver, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, DEADLINE, async || Some(health(receiver).await).filter(|json| wanted(json))).await
}

/// Waits until `/healthz` says that the device is signed; returns what it says of encryption.
async fn wait_signed(receiver: &Receiver) -> Value {
    let signed =
        |json: &Value| json["parts"]["encryption"]["reason"] == "the device is signed by the account's identity";
    // A store with a passphrase takes seconds to open in an unoptimised build.
    eventually("a signed device", 3 * DEADLINE, async || Some(health(receiver).await).filter(signed)).await["parts"]["encryption"]
        .clone()
}
