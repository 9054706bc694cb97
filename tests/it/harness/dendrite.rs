//! A second kind of homeserver: what Synapse does and another does not must not be taken for granted. `scripts/dendrite`
//! builds it.

use std::{fs, path::PathBuf, process::Command};

use serde_json::json;

use super::{
    DEADLINE, NewRoom, Room, User, eventually,
    http::{Answer, client},
    process::{Process, Scratch, describe, free_port, tail},
};

/// Not under Dendrite's limits, which count what a test reads as well; everybody else is.
const READER: &str = "sre";

#[derive(Debug)]
pub struct Dendrite {
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
}

/// As [`super::Scene`], on a homeserver of its own.
#[derive(Debug)]
pub struct DendriteScene {
    pub dendrite: Dendrite,
    pub bot: User,
    pub sre: User,
    pub room: Room,
}

impl DendriteScene {
    /// With `room` as it is to be made.
    pub async fn with(room: NewRoom) -> Self {
        let dendrite = Dendrite::start_new().await;
        let (bot, sre) = (dendrite.user("alerts").await, dendrite.user(READER).await);
        let room = Room::with(&sre, &bot, room).await;
        Self { dendrite, bot, sre, room }
    }
}

impl Dendrite {
    async fn start_new() -> Self {
        let scratch = Scratch::new("dendrite");
        let run = |name: &str, arguments: &[&str]| {
            let output = Command::new(binary(name)).args(arguments).current_dir(scratch.path()).output();
            let output = output.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
            assert!(output.status.success(), "{name}: {output:?}");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let mut config = run("generate-config", &["-server", "localhost", "-db", "file:dendrite.db", "-dir", "."]);
        for (made, wanted) in [
            ("disable_federation: false", "disable_federation: true"),
            ("registration_disabled: true", "registration_disabled: false"),
            ("exempt_user_ids: []", &format!("exempt_user_ids: [\"@{READER}:localhost\"]")),
            // The least that bcrypt takes: logging in is not what is tested.
            ("bcrypt_cost: 10", "bcrypt_cost: 4"),
        ] {
            assert!(config.contains(made), "{made} in:\n{config}");
            config = config.replace(made, wanted);
        }
        scratch.write("dendrite.yaml", &config);
        run("generate-keys", &["-private-key", "matrix_key.pem"]);
        let mut dendrite = Self { process: None, scratch, port: free_port() };
        dendrite.start().await;
        dendrite
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it on its port and its data, and waits until it answers.
    pub async fn start(&mut self) {
        let log = self.scratch.join("output.log");
        let mut command = Command::new(binary("dendrite"));
        let listen = format!("127.0.0.1:{}", self.port);
        command.args(["-config", "dendrite.yaml", "-http-bind-address", &listen]);
        command.arg("-really-enable-open-registration").current_dir(self.scratch.path());
        let mut process = Process::spawn(&mut command, &log).expect("Dendrite starts");
        let versions = format!("{}/_matrix/client/versions", self.url());
        eventually("Dendrite answers", DEADLINE, async || {
            let status = process.exit_status();
            assert!(status.is_none(), "Dendrite did not start ({}):\n{}", describe(status), tail(&log, 30));
            client().get(&versions).send().await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
        self.process = Some(process);
    }

    /// SIGTERM, and waits for the end. With it go all transaction ids.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("Dendrite runs");
        process.signal("TERM");
        process.wait(DEADLINE).await.expect("Dendrite ends after SIGTERM");
    }

    /// A new user, logged in.
    async fn user(&self, name: &str) -> User {
        let password = format!("password of {name}");
        let body = json!({ "username": name, "password": password, "auth": { "type": "m.login.dummy" } });
        let request = client().post(format!("{}/_matrix/client/v3/register", self.url())).json(&body);
        let json = Answer::to(request).await.expect("Dendrite answers").expect_ok("register");
        let text = |key: &str| json[key].as_str().expect("an answer to a registration").to_owned();
        User {
            user_id: text("user_id"),
            access_token: text("access_token"),
            device_id: text("device_id"),
            password,
            homeserver: self.url(),
        }
    }
}

fn binary(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/dendrite")).join(name);
    assert!(fs::exists(&path).unwrap_or(false), "Dendrite is not here: no {}; run scripts/dendrite", path.display());
    path
}
