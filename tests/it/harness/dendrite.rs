//! A second kind of homeserver: what Synapse does and another does not must not be taken for granted. `scripts/dendrite`
//! builds it.

use std::{fs, path::PathBuf, process::Command};

use serde_json::json;

use super::{
    Homeserver, NewRoom, Room, User,
    http::{Answer, client},
    process::Scratch,
};

/// Of requests that are not messages: those are not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    Off,
    /// As it is set up by default, for all but the readers, of whom a test would run into limits by watching.
    Default,
}

/// The first user of this name is a reader.
const READER: &str = "sre";

/// As [`super::Scene`], on a private Dendrite with its default limits.
#[derive(Debug)]
pub struct DendriteScene {
    pub dendrite: Homeserver,
    pub bot: User,
    pub sre: User,
    pub room: Room,
}

impl DendriteScene {
    /// With `room` as it is to be made.
    pub async fn with(room: NewRoom) -> Self {
        let dendrite = Homeserver::dendrite(Limits::Default).await;
        let url = dendrite.url();
        let (bot, sre) =
            (register(&url, "alerts", "password of alerts").await, register(&url, READER, "password of sre").await);
        let room = Room::with(&sre, &bot, room).await;
        Self { dendrite, bot, sre, room }
    }
}

/// Writes its files.
pub(super) fn prepare(scratch: &Scratch, limits: Limits) {
    let run = |name: &str, arguments: &[&str]| {
        let output = Command::new(binary(name)).args(arguments).current_dir(scratch.path()).output();
        let output = output.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        assert!(output.status.success(), "{name}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let mut config = run("generate-config", &["-server", "localhost", "-db", "file:dendrite.db", "-dir", "."]);
    let (threshold, exempt) = match limits {
        // As many requests at once as no test makes.
        Limits::Off => ("threshold: 1000000", "exempt_user_ids: []".to_owned()),
        Limits::Default => ("threshold: 5", format!("exempt_user_ids: [\"@{READER}:localhost\"]")),
    };
    for (made, wanted) in [
        ("disable_federation: false", "disable_federation: true"),
        ("registration_disabled: true", "registration_disabled: false"),
        ("threshold: 5", threshold),
        ("exempt_user_ids: []", &exempt),
        // The least that bcrypt takes: logging in is not what is tested.
        ("bcrypt_cost: 10", "bcrypt_cost: 4"),
    ] {
        assert_eq!(config.matches(made).count(), 1, "{made} in:\n{config}");
        config = config.replace(made, wanted);
    }
    scratch.write("dendrite.yaml", &config);
    run("generate-keys", &["-private-key", "matrix_key.pem"]);
}

/// To be run in the folder of its files.
pub(super) fn command(port: u16) -> Command {
    let mut command = Command::new(binary("dendrite"));
    command.args(["-config", "dendrite.yaml", "-http-bind-address", &format!("127.0.0.1:{port}")]);
    command.arg("-really-enable-open-registration");
    command
}

/// A new user, logged in.
pub(super) async fn register(url: &str, name: &str, password: &str) -> User {
    let body = json!({ "username": name, "password": password, "auth": { "type": "m.login.dummy" } });
    let request = client().post(format!("{url}/_matrix/client/v3/register")).json(&body);
    let json = Answer::to(request).await.expect("Dendrite answers").expect_ok("register");
    let text = |key: &str| json[key].as_str().expect("an answer to a registration").to_owned();
    User {
        user_id: text("user_id"),
        access_token: text("access_token"),
        device_id: text("device_id"),
        password: password.to_owned(),
        homeserver: url.to_owned(),
    }
}

fn binary(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/dendrite")).join(name);
    assert!(fs::exists(&path).unwrap_or(false), "Dendrite is not here: no {}; run scripts/dendrite", path.display());
    path
}
