//! What Synapse is started with.

use std::{path::PathBuf, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::{Value, json};

use super::process::Scratch;

/// The part of every user id behind the colon.
pub(super) const SERVER_NAME: &str = "localhost";
const SHARED_SECRET: &str = "only-for-tests";

/// Writes its files.
pub(super) fn prepare(scratch: &Scratch, port: u16) {
    let mut seed = [0_u8; 32];
    rand::Rng::fill(&mut rand::rng(), &mut seed[..]);
    scratch.write("signing.key", &format!("ed25519 a_test {}\n", STANDARD_NO_PAD.encode(seed)));
    scratch.write("log.yaml", &log_config(scratch).to_string());
    scratch.write("homeserver.yaml", &config(scratch, port).to_string());
}

/// To be run in the folder of its files.
pub(super) fn command() -> Command {
    let mut command = Command::new(python());
    command.args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml"]);
    command
}

/// Only the shared secret makes the first admin.
pub(super) fn make_admin(scratch: &Scratch, url: &str) {
    let output = Command::new(python())
        .args(["-m", "synapse._scripts.register_new_matrix_user", "-u", "admin", "-p", "admin", "--admin"])
        .args(["-c", "homeserver.yaml", url])
        .current_dir(scratch.path())
        .output()
        .expect("Synapse's python starts");
    assert!(output.status.success(), "no admin was made: {output:?}");
}

/// The interpreter that Synapse is installed for, with PyYAML and jsonschema beside it.
pub fn python() -> PathBuf {
    let python = std::env::var_os("MAR_TEST_SYNAPSE_PYTHON").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/synapse/bin/python")),
        PathBuf::from,
    );
    assert!(python.exists(), "Synapse is not installed: no {}; run `make tools`", python.display());
    python
}

/// JSON is YAML. Limits are raised except `rc_message`, which is what a bot lives under.
fn config(scratch: &Scratch, port: u16) -> Value {
    let free = json!({ "per_second": 10_000, "burst_count": 10_000 });
    json!({
        "server_name": SERVER_NAME,
        "public_baseurl": format!("http://127.0.0.1:{port}/"),
        "pid_file": scratch.join("homeserver.pid"),
        "listeners": [{
            "port": port, "type": "http", "tls": false, "bind_addresses": ["127.0.0.1"],
            "resources": [{ "names": ["client"], "compress": false }],
        }],
        "database": { "name": "sqlite3", "args": { "database": scratch.join("homeserver.db") } },
        "log_config": scratch.join("log.yaml"),
        "media_store_path": scratch.join("media"),
        "signing_key_path": scratch.join("signing.key"),
        "registration_shared_secret": SHARED_SECRET,
        "macaroon_secret_key": "only-for-tests",
        "form_secret": "only-for-tests",
        // The least that bcrypt takes: logging in is not what is tested.
        "bcrypt_rounds": 4,
        "report_stats": false,
        "trusted_key_servers": [],
        "federation_domain_whitelist": [],
        "presence": { "enabled": false },
        "url_preview_enabled": false,
        "rc_login": { "address": free, "account": free, "failed_attempts": free },
        "rc_registration": free,
        "rc_joins": { "local": free, "remote": free },
        "rc_joins_per_room": free,
        "rc_invites": { "per_room": free, "per_user": free, "per_issuer": free },
        "rc_room_creation": free,
        "rc_admin_redaction": free,
        "rc_key_requests": free,
        // Only of sessions that ask for a refresh token.
        "refreshable_access_token_lifetime": "8s",
    })
}

fn log_config(scratch: &Scratch) -> Value {
    json!({
        "version": 1,
        "formatters": { "plain": { "format": "%(asctime)s %(levelname)s %(name)s %(message)s" } },
        "handlers": { "file": {
            "class": "logging.FileHandler", "filename": scratch.join("homeserver.log"), "formatter": "plain",
        } },
        "root": { "level": "WARNING", "handlers": ["file"] },
        "disable_existing_loggers": false,
    })
}
