//! Encrypted rooms: who will be able to read, and whether clients will trust what they read.

use serde_json::{Map, Value, json};

use super::{homeserver::Homeserver, report::Report};
use crate::{
    config::Config,
    matrix::{self, StoredSession},
};

/// Members whose keys are requested at once.
const AT_ONCE: usize = 200;
const MEGOLM: &str = "m.megolm.v1.aes-sha2";

/// The devices in a room.
#[derive(Debug, Default, PartialEq, Eq)]
struct Readers {
    members: usize,
    devices: usize,
    /// Devices without the keys that room keys are sent to.
    keyless: usize,
    /// Devices that their owner's identity has not signed.
    unsigned: usize,
    /// Members none of whose devices can read.
    blind: usize,
    /// Homeservers that did not answer.
    silent: usize,
}

/// Reports who will read an encrypted room.
///
/// # Errors
/// When the homeserver does not answer.
pub(super) async fn check(
    homeserver: &Homeserver,
    user: &str,
    room: &str,
    title: &str,
    report: &mut Report,
) -> Result<(), String> {
    let answer = homeserver.v3(&["rooms", room, "joined_members"], &[]).await?;
    let Some(joined) = answer.json["joined"].as_object().filter(|_| answer.is_ok()) else {
        report.note(format!("{title}: its members cannot be listed: {}", answer.refusal));
        return Ok(());
    };
    let members: Vec<&str> = joined.keys().map(String::as_str).filter(|member| *member != user).collect();
    let mut readers = Readers::default();
    for members in members.chunks(AT_ONCE) {
        let keys = query(homeserver, members).await?;
        if !keys.is_object() {
            report.note(format!("{title}: the homeserver does not return the keys of its members"));
            return Ok(());
        }
        readers.silent += keys["failures"].as_object().map_or(0, Map::len);
        for member in members {
            count(&keys, member, &mut readers);
        }
    }
    report.note(format!("{title}: {}", readers.summary()));
    Ok(())
}

async fn query(homeserver: &Homeserver, users: &[&str]) -> Result<Value, String> {
    let wanted: Map<String, Value> = users.iter().map(|user| ((*user).to_owned(), json!([]))).collect();
    let path = ["_matrix", "client", "v3", "keys", "query"];
    let answer = homeserver.post(&path, &json!({ "device_keys": wanted, "timeout": 8000 })).await?;
    Ok(if answer.is_ok() { answer.json } else { Value::Null })
}

fn count(keys: &Value, member: &str, readers: &mut Readers) {
    readers.members += 1;
    let mut can_read = false;
    for (id, device) in keys["device_keys"][member].as_object().into_iter().flatten() {
        readers.devices += 1;
        let algorithms = device["algorithms"].as_array().into_iter().flatten();
        let megolm = algorithms.into_iter().any(|algorithm| algorithm == MEGOLM);
        if megolm && device["keys"][format!("curve25519:{id}")].is_string() {
            can_read = true;
        } else {
            readers.keyless += 1;
        }
        readers.unsigned += usize::from(!is_signed(keys, member, device));
    }
    readers.blind += usize::from(!can_read);
}

/// Whether the owner's identity has signed the device. The signature itself is not verified.
fn is_signed(keys: &Value, owner: &str, device: &Value) -> bool {
    let signing = keys["self_signing_keys"][owner]["keys"].as_object();
    signing.into_iter().flat_map(Map::keys).any(|key| device["signatures"][owner][key].is_string())
}

impl Readers {
    fn summary(&self) -> String {
        let Self { members, devices, keyless, unsigned, blind, silent } = self;
        let mut parts =
            vec![format!("{} of {devices} devices of {members} other members will be able to read", devices - keyless)];
        if *keyless > 0 {
            parts.push(format!("{keyless} without keys will not"));
        }
        if *blind > 0 {
            parts.push(format!("{blind} of the members have no device that can"));
        }
        if *unsigned > 0 {
            parts.push(format!("{unsigned} are not verified by their owners, and some clients shut such devices out"));
        }
        if *silent > 0 {
            parts.push(format!("{silent} other homeservers did not answer"));
        }
        parts.join("; ")
    }
}

/// Reports whether clients will trust what the account sends to encrypted rooms.
///
/// # Errors
/// When the homeserver does not answer.
pub(super) async fn check_trust(homeserver: &Homeserver, config: &Config, report: &mut Report) -> Result<(), String> {
    let (user, store) = (config.matrix.user_id.as_str(), config.store.path.as_path());
    let is_replica = config.store.database_url.is_some();
    let id = if is_replica {
        // The device of all replicas never has keys; each encrypts with its own.
        let own = StoredSession::read(&StoredSession::path(store)).ok().flatten();
        own.filter(|stored| stored.is_of(&config.matrix)).map(|stored| stored.device_id)
    } else {
        let owner = homeserver.v3(&["account", "whoami"], &[]).await?;
        owner.json["device_id"].as_str().map(ToOwned::to_owned)
    };
    let Some(id) = id else {
        // A token without a device is reported already.
        if is_replica {
            report.note(
                "trust: this replica has no device besides the shared one, so encrypted rooms are held and nobody can \
                 act from rooms -> run login on this replica, or set matrix.password_file in place of the token",
            );
        }
        return Ok(());
    };
    let id = id.as_str();
    let keys = query(homeserver, &[user]).await?;
    let device = &keys["device_keys"][user][id];
    if device.is_null() {
        report.note("trust: the device has no keys yet; serve creates them, then check again");
        return Ok(());
    }
    if !matrix::has_keys(store, id) {
        report.fault(format!(
            "trust: the device {id} has keys that are not in store.path: they are another client's, or the store was \
             lost, so encrypted rooms will be held -> run login to create a device for the receiver"
        ));
        return Ok(());
    }
    if is_signed(&keys, user, device) {
        report.ok("trust: the device is signed by the account's identity, clients show no warning");
    } else {
        report.fault(
            "trust: the device is not signed by the account's identity, so clients show a warning -> start serve, and \
             name the account's recovery key in matrix.recovery_key_file if it has one",
        );
    }
    let backup = homeserver.v3(&["room_keys", "version"], &[]).await?;
    let secrets = homeserver.v3(&["user", user, "account_data", "m.secret_storage.default_key"], &[]).await?;
    match (backup.is_ok(), secrets.is_ok()) {
        (true, true) => report.ok("trust: there is a key backup, and a recovery key opens it"),
        (backup, _) => report.note(format!(
            "trust: {}, so a new device of the account will not be trusted by itself; serve sets that up for an identity \
             that it created",
            if backup { "there is no recovery key" } else { "there is no key backup" }
        )),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_read() {
        let device = |id: &str, keys: bool, signed: bool| {
            let mut device = json!({ "algorithms": [MEGOLM], "keys": {}, "signatures": { "@a:x": {} } });
            if keys {
                device["keys"][format!("curve25519:{id}")] = "key".into();
            }
            if signed {
                device["signatures"]["@a:x"]["ed25519:identity"] = "signature".into();
            }
            device
        };
        let keys = json!({
            "device_keys": { "@a:x": {
                "GOOD": device("GOOD", true, true), "UNSIGNED": device("UNSIGNED", true, false),
                "OTHERS": device("GOOD", true, true), "KEYLESS": device("KEYLESS", false, true),
            } },
            "self_signing_keys": { "@a:x": { "keys": { "ed25519:identity": "identity" } } },
        });
        let mut readers = Readers::default();
        count(&keys, "@a:x", &mut readers);
        count(&keys, "@nobody:x", &mut readers);
        assert_eq!(readers, Readers { members: 2, devices: 4, keyless: 2, unsigned: 1, blind: 1, silent: 0 });
        assert!(
            readers.summary().starts_with("2 of 4 devices of 2 other members will be able to read; 2 without keys")
        );
    }
}
