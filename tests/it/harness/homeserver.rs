//! A real homeserver: one for all tests of a process, or a private one that a test may stop and start. It is a Synapse, or
//! with `MAR_TEST_HOMESERVER=dendrite` a Dendrite.

use std::{
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::OnceCell;

use super::{
    DEADLINE, User,
    dendrite::{self, Limits},
    http::{Answer, client},
    process::{Process, Scratch, describe, free_port, tail},
    synapse::{self, SERVER_NAME},
    user::login,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    Synapse,
    Dendrite,
}

impl Software {
    /// Of the tests that do not choose one.
    ///
    /// # Panics
    /// When `MAR_TEST_HOMESERVER` names none.
    pub fn of_this_run() -> Self {
        match std::env::var("MAR_TEST_HOMESERVER").as_deref() {
            Err(_) | Ok("" | "synapse") => Self::Synapse,
            Ok("dendrite") => Self::Dendrite,
            Ok(other) => panic!("MAR_TEST_HOMESERVER={other}: expected synapse or dendrite"),
        }
    }

    /// Whether the receiver relies on its memory of transaction ids. Where it does not, it reads the room back before it
    /// sends an event in doubt again.
    pub fn remembers_transactions(self) -> bool {
        self == Self::Synapse
    }

    /// What the log says of an event whose answer was lost, once it is known to be in the room.
    pub fn settles_doubt_by(self) -> &'static str {
        if self.remembers_transactions() { "shown in the room" } else { "found in the room" }
    }

    /// Whether an account's first identity is taken only with the account's password.
    pub fn wants_a_password_for_an_identity(self) -> bool {
        self == Self::Dendrite
    }
}

#[derive(Debug)]
pub struct Homeserver {
    software: Software,
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
    /// Makes Synapse's users and lifts their limits.
    admin_token: String,
}

impl Homeserver {
    /// The homeserver that the tests of this process share; the first one to ask waits for its start.
    ///
    /// Rooms and users are every test's own, so that nothing else of it is shared.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Homeserver> = OnceCell::const_new();
        SHARED.get_or_init(Self::private).await
    }

    /// One for a single test, for outages. Costs some seconds.
    pub async fn private() -> Self {
        match Software::of_this_run() {
            Software::Synapse => Self::synapse().await,
            Software::Dendrite => Self::dendrite(Limits::Off).await,
        }
    }

    async fn synapse() -> Self {
        let (scratch, port) = (Scratch::new("synapse"), free_port());
        synapse::prepare(&scratch, port);
        let mut homeserver = Self::stopped(Software::Synapse, scratch, port);
        homeserver.start().await;
        synapse::make_admin(&homeserver.scratch, &homeserver.url());
        homeserver.admin_token = login(&homeserver.url(), "admin", "admin").await.access_token;
        homeserver
    }

    /// A Dendrite, whatever the tests of this run are on.
    pub async fn dendrite(limits: Limits) -> Self {
        let (scratch, port) = (Scratch::new("dendrite"), free_port());
        dendrite::prepare(&scratch, limits);
        let mut homeserver = Self::stopped(Software::Dendrite, scratch, port);
        homeserver.start().await;
        homeserver
    }

    fn stopped(software: Software, scratch: Scratch, port: u16) -> Self {
        Self { software, process: None, scratch, port, admin_token: String::new() }
    }

    pub fn software(&self) -> Software {
        self.software
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it on its port and its data, and waits until it answers.
    pub async fn start(&mut self) {
        let log = self.scratch.join("output.log");
        let (mut command, path) = match self.software {
            Software::Synapse => (synapse::command(), "/health"),
            Software::Dendrite => (dendrite::command(self.port), "/_matrix/client/versions"),
        };
        let mut process = Process::spawn(command.current_dir(self.scratch.path()), &log).expect("its program starts");
        let answering = format!("{}{path}", self.url());
        let end = tokio::time::Instant::now() + 2 * DEADLINE;
        while !matches!(client().get(&answering).send().await, Ok(answer) if answer.status() == 200) {
            let status = process.exit_status();
            assert!(
                status.is_none() && tokio::time::Instant::now() < end,
                "{:?} did not start ({}):\n{}\n{}",
                self.software,
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
        let mut process = self.process.take().expect("the homeserver runs");
        process.signal("TERM");
        process.wait(DEADLINE).await.expect("the homeserver ends after SIGTERM")
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.take().expect("the homeserver runs").kill9();
    }

    /// Forgets which events it has made for which transaction ids, as Synapse does by itself after a day, and Dendrite with
    /// every restart; restarts for it.
    pub async fn forget_transactions(&mut self) {
        self.stop().await;
        if self.software == Software::Synapse {
            let options = SqliteConnectOptions::new().filename(self.scratch.join("homeserver.db"));
            let mut database = SqliteConnection::connect_with(&options).await.expect("Synapse's database opens");
            let forgotten = sqlx::query("DELETE FROM event_txn_id_device_id").execute(&mut database).await;
            assert!(forgotten.expect("Synapse's table").rows_affected() > 0, "there was nothing to forget");
            database.close().await.expect("closed");
        }
        self.start().await;
    }

    /// Frozen, until [`Homeserver::thaw`]: connections are accepted by the kernel and never answered.
    pub fn freeze(&mut self) {
        self.process.as_mut().expect("the homeserver runs").signal("STOP");
    }

    pub fn thaw(&mut self) {
        self.process.as_mut().expect("the homeserver runs").signal("CONT");
    }

    /// A new user whose id starts with `name`, logged in on a new device, free of rate limits.
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
        if self.software == Software::Dendrite {
            return dendrite::register(&self.url(), &local, &password).await;
        }
        let path = format!("/_synapse/admin/v2/users/@{local}:{SERVER_NAME}");
        self.admin(Method::PUT, &path, json!({ "password": password, "admin": false })).await;
        login(&self.url(), &local, &password).await
    }

    /// Messages a second and burst, (0, 0) for no limit at all; `None` puts the default back. Dendrite has no limit for
    /// messages.
    pub async fn set_ratelimit(&self, user: &User, limit: Option<(u32, u32)>) {
        if self.software == Software::Dendrite {
            return;
        }
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

    /// Any call of Synapse's admin API.
    ///
    /// # Panics
    /// On another homeserver: a test that needs it is not for that one (`scripts/dendrite`).
    pub async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        assert_eq!(self.software, Software::Synapse, "only Synapse has {path}");
        let request = client().request(method, format!("{}{path}", self.url()));
        let answer = Answer::to(request.bearer_auth(&self.admin_token).json(&body)).await.expect("Synapse answers");
        answer.expect_ok(path)
    }

    /// Whether any file of it has this text in the clear.
    pub fn holds(&self, text: &str) -> bool {
        let found = Command::new("grep").args(["-rqaF", "--", text]).arg(self.scratch.path()).status();
        found.expect("grep").success()
    }
}
