//! A real homeserver: one for all tests of a process, or a private one that a test may stop and start.

use std::{
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::OnceCell;

use super::{
    DEADLINE, User,
    http::{Answer, client},
    process::{Process, Scratch, describe, free_port, tail},
    user::login,
};

/// The part of every user id behind the colon.
const SERVER_NAME: &str = "localhost";
const SHARED_SECRET: &str = "only-for-tests";

#[derive(Debug)]
pub struct Synapse {
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
    /// Makes users and lifts limits.
    admin_token: String,
}

impl Synapse {
    /// The homeserver that the tests of this process share; the first one to ask waits for its start.
    ///
    /// Rooms and users are every test's own, so that nothing else of it is shared.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Synapse> = OnceCell::const_new();
        SHARED.get_or_init(Self::private).await
    }

    /// A homeserver of its own, for outages. Costs some seconds.
    pub async fn private() -> Self {
        let scratch = Scratch::new("synapse");
        let port = free_port();
        let mut seed = [0_u8; 32];
        rand::Rng::fill(&mut rand::rng(), &mut seed[..]);
        scratch.write("signing.key", &format!("ed25519 a_test {}\n", STANDARD_NO_PAD.encode(seed)));
        scratch.write("log.yaml", &log_config(&scratch).to_string());
        scratch.write("homeserver.yaml", &config(&scratch, port).to_string());
        let mut synapse = Self { port, scratch, process: None, admin_token: String::new() };
        synapse.start().await;
        synapse.make_admin();
        let admin = login(&synapse.url(), "admin", "admin").await;
        synapse.admin_token = admin.access_token;
        synapse
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it on its port and its data, and waits until it answers.
    pub async fn start(&mut self) {
        let log = self.scratch.join("output.log");
        let mut command = Command::new(python());
        command.args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml"]).current_dir(self.scratch.path());
        let mut process = Process::spawn(&mut command, &log).expect("Synapse's python starts");
        let health = format!("{}/health", self.url());
        let end = tokio::time::Instant::now() + 2 * DEADLINE;
        while !matches!(client().get(&health).send().await, Ok(answer) if answer.status() == 200) {
            let status = process.exit_status();
            assert!(
                status.is_none() && tokio::time::Instant::now() < end,
                "Synapse did not start ({}):\n{}\n{}",
                describe(status),
                tail(&log, 30),
                tail(&self.scratch.join("homeserver.log"), 30)
            );
            tokio::time::sleep(super::POLL).await;
        }
        self.process = Some(process);
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("Synapse runs");
        process.signal("TERM");
        process.wait(DEADLINE).await.expect("Synapse ends after SIGTERM")
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.take().expect("Synapse runs").kill9();
    }

    /// Forgets which events it has made for which transaction ids, as it does by itself after a day; restarts for it.
    pub async fn forget_transactions(&mut self) {
        self.stop().await;
        let options = SqliteConnectOptions::new().filename(self.scratch.join("homeserver.db"));
        let mut database = SqliteConnection::connect_with(&options).await.expect("Synapse's database opens");
        let forgotten = sqlx::query("DELETE FROM event_txn_id_device_id").execute(&mut database).await;
        assert!(forgotten.expect("Synapse's table").rows_affected() > 0, "there was nothing to forget");
        database.close().await.expect("closed");
        self.start().await;
    }

    /// Frozen, until [`Synapse::thaw`]: connections are accepted by the kernel and never answered.
    pub fn freeze(&mut self) {
        self.process.as_mut().expect("Synapse runs").signal("STOP");
    }

    pub fn thaw(&mut self) {
        self.process.as_mut().expect("Synapse runs").signal("CONT");
    }

    /// A new user whose id starts with `name`, logged in on a device of its own, free of rate limits.
    pub async fn user(&self, name: &str) -> User {
        let user = self.limited_user(name).await;
        self.set_ratelimit(&user, Some((0, 0))).await;
        user
    }

    /// A new user under Synapse's default limits: ten messages at once, then one every five seconds. Joining a room counts
    /// as a message.
    pub async fn limited_user(&self, name: &str) -> User {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let local = format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let password = format!("password of {local}");
        let path = format!("/_synapse/admin/v2/users/@{local}:{SERVER_NAME}");
        self.admin(Method::PUT, &path, json!({ "password": password, "admin": false })).await;
        login(&self.url(), &local, &password).await
    }

    /// Messages a second and burst, (0, 0) for no limit at all; `None` puts the default back.
    pub async fn set_ratelimit(&self, user: &User, limit: Option<(u32, u32)>) {
        let path = format!("/_synapse/admin/v1/users/{}/override_ratelimit", user.user_id);
        match limit {
            None => self.admin(Method::DELETE, &path, json!({})).await,
            Some((rate, burst)) => {
                self.admin(Method::POST, &path, json!({ "messages_per_second": rate, "burst_count": burst })).await
            }
        };
    }

    /// Switches the account off: its tokens end and it leaves its rooms.
    pub async fn deactivate(&self, user: &User) {
        let path = format!("/_synapse/admin/v1/deactivate/{}", user.user_id);
        self.admin(Method::POST, &path, json!({})).await;
    }

    /// Any call of the admin API.
    pub async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let request = client().request(method, format!("{}{path}", self.url()));
        let answer = Answer::to(request.bearer_auth(&self.admin_token).json(&body)).await.expect("Synapse answers");
        answer.expect_ok(path)
    }

    /// Whether any file of it has this text in the clear.
    pub fn holds(&self, text: &str) -> bool {
        let found = Command::new("grep").args(["-rqaF", "--", text]).arg(self.scratch.path()).status();
        found.expect("grep").success()
    }

    /// Only the shared secret makes the first admin.
    fn make_admin(&self) {
        let output = Command::new(python())
            .args(["-m", "synapse._scripts.register_new_matrix_user", "-u", "admin", "-p", "admin", "--admin"])
            .args(["-c", "homeserver.yaml", &self.url()])
            .current_dir(self.scratch.path())
            .output()
            .expect("Synapse's python starts");
        assert!(output.status.success(), "no admin was made: {output:?}");
    }
}

/// The interpreter of the environment that Synapse is installed in.
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
