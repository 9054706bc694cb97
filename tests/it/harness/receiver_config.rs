//! What a receiver is started with: its config file, its environment, its folder.

use std::{path::PathBuf, process::Command, sync::Arc};

use serde_json::json;
use toml::{Table, Value};

use super::{
    Authority, Database, Leaf, Receiver, Scene, Software, StartFailure, User, WallClock,
    http::trusting,
    postgres,
    process::{Scratch, free_port},
    store::{Look, database_of},
};

/// A receiver before its start.
#[derive(Debug)]
pub struct ReceiverBuilder {
    pub(super) config: Table,
    pub(super) env: Vec<(String, String)>,
    pub(super) binary: PathBuf,
    pub(super) port: u16,
    pub(super) bearer: Option<String>,
    /// What the log must never hold.
    pub(super) forbidden: Vec<String>,
    pub(super) scratch: Scratch,
    /// What a receiver with TLS is asked with.
    pub(super) trusting: Option<reqwest::Client>,
    /// Where its store is, if not in a file of `store.path`.
    pub(super) database: Option<Arc<Database>>,
    pub(super) bot: User,
    /// The device that is this replica's alone, once it is logged in.
    pub(super) own_device: Option<User>,
}

impl ReceiverBuilder {
    /// One that talks as `bot` to `bot.homeserver`, on a free port, with a store of its own and no routes.
    pub fn new(bot: &User) -> Self {
        let (scratch, port) = (Scratch::new("receiver"), free_port());
        let builder = Self {
            config: Table::new(),
            env: Vec::new(),
            binary: PathBuf::from(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver")),
            port,
            bearer: None,
            forbidden: vec![
                "panicked at".to_owned(),
                bot.access_token.clone(),
                bot.password.clone(),
                postgres::PASSWORD.to_owned(),
            ],
            scratch,
            trusting: None,
            database: None,
            bot: bot.clone(),
            own_device: None,
        };
        builder
            .at_home()
            .set("matrix.homeserver", bot.homeserver.as_str())
            .set("matrix.user_id", bot.user_id.as_str())
            .set("matrix.access_token", bot.access_token.as_str())
            .set("log.filter", "info,matrix_alertmanager_receiver=debug")
    }

    /// Its own port and folder.
    fn at_home(self) -> Self {
        let (listen, store) = (format!("127.0.0.1:{}", self.port), self.scratch.join("store"));
        self.set("http.listen", listen).set("store.path", store.to_str().expect("a UTF-8 path"))
    }

    /// Keeps its store in this database, which it reaches by `url`.
    pub fn on(mut self, database: &Arc<Database>, url: &str) -> Self {
        self.database = Some(Arc::clone(database));
        self.with_database_url(url)
    }

    fn with_database_url(self, url: &str) -> Self {
        let file = self.file("database-url", url);
        self.set("store.database_url_file", file)
    }

    /// Another one of the same config and, on PostgreSQL, the same database, with its own port and `store.path`. Files of
    /// the first are the first's, and go with it.
    pub fn replica(&self, name: &str) -> Self {
        let replica = Self {
            config: self.config.clone(),
            env: self.env.clone(),
            binary: self.binary.clone(),
            port: free_port(),
            bearer: self.bearer.clone(),
            forbidden: self.forbidden.clone(),
            scratch: Scratch::new("receiver"),
            trusting: self.trusting.clone(),
            database: self.database.clone(),
            bot: self.bot.clone(),
            own_device: None,
        };
        replica.at_home().set("store.replica", name)
    }

    /// Where the run's receivers have their stores, unless the test has chosen.
    pub(super) fn with_store_of_this_run(mut self) -> Self {
        let Some(Value::Table(store)) = self.config.get("store") else { return self };
        if store.contains_key("database_url") || store.contains_key("database_url_file") {
            return self;
        }
        let Some((database, url)) = store.get("path").and_then(Value::as_str).and_then(database_of) else {
            return self;
        };
        self.database = Some(database);
        self.with_database_url(&url)
    }

    /// With a store that replicas can share, the access token is the device of them all, which hears nothing: what the
    /// command `login` leaves in `store.path` is put there, as an operator would have done before.
    pub(super) fn log_in_own_device(&mut self) {
        // Without one the account comes from the environment.
        let Some(matrix) = self.config.get("matrix").and_then(Value::as_table) else { return };
        let text = |key: &str| matrix.get(key).and_then(Value::as_str);
        let by_token = matrix.contains_key("access_token") || matrix.contains_key("access_token_file");
        if self.database.is_none() || !by_token || text("user_id") != Some(&self.bot.user_id) {
            return;
        }
        let Some(store) = self.config["store"].get("path").and_then(Value::as_str).map(PathBuf::from) else { return };
        let file = store.join("session.json");
        if self.own_device.is_none() && file.exists() {
            return;
        }
        let homeserver = format!("{}/", text("homeserver").unwrap_or_default().trim_end_matches('/'));
        let own = self.own_device.get_or_insert_with(|| on_a_new_device(&self.bot));
        self.forbidden.push(own.access_token.clone());
        let session = json!({
            "user_id": own.user_id, "device_id": own.device_id, "access_token": own.access_token,
            "homeserver": homeserver,
        });
        std::fs::create_dir_all(&store).expect("a folder");
        std::fs::write(file, session.to_string()).expect("written");
    }

    pub(super) fn look(&self) -> Look {
        self.database.clone().map_or_else(|| Look::at_file(&self.scratch.join("store")), Look::Postgres)
    }

    /// Route `default` into the scene's room. Where that is encrypted, the account can get its identity.
    pub fn of(scene: &Scene) -> Self {
        let builder = Self::new(&scene.bot).route("default", &[&scene.room.id]);
        if scene.encrypted { builder.for_an_identity() } else { builder }
    }

    /// With the account's password in place of the token, if the homeserver takes an account's first identity with nothing
    /// less.
    pub fn for_an_identity(self) -> Self {
        if !Software::of_this_run().wants_a_password_for_an_identity() {
            return self;
        }
        let password = self.file("account-password", &self.bot.password);
        self.without("matrix.access_token").set("matrix.password_file", password)
    }

    /// With the token, whatever the homeserver wants for an identity.
    pub fn by_token(self) -> Self {
        let token = self.bot.access_token.clone();
        self.without("matrix.password_file").set("matrix.access_token", token)
    }

    /// With neither token nor password: for the command `login`.
    pub fn without_credentials(self) -> Self {
        self.without("matrix.access_token").without("matrix.password_file")
    }

    /// Where the receiver finds its homeserver: a proxy's URL.
    pub fn homeserver(self, url: &str) -> Self {
        self.set("matrix.homeserver", url)
    }

    /// A route into rooms, given as ids or aliases.
    pub fn route(self, name: &str, rooms: &[&str]) -> Self {
        let rooms = rooms.iter().map(|room| Value::from(*room)).collect::<Vec<_>>();
        self.set(&format!("routes.{name}.rooms"), rooms)
    }

    /// Demands this bearer token of webhooks, and sends it with [`Receiver::post`].
    pub fn webhook_token(mut self, token: &str) -> Self {
        self.bearer = Some(token.to_owned());
        self.forbidden.push(token.to_owned());
        self.set("http.auth.bearer_token", token)
    }

    /// Serves HTTPS with these files, and is asked as one that `authority` answers for.
    pub fn tls(mut self, authority: &Authority, leaf: &Leaf) -> Self {
        self.trusting = Some(trusting(&authority.file()));
        let path = |path: &PathBuf| path.to_str().expect("a UTF-8 path").to_owned();
        self.set("http.tls.cert_file", path(&leaf.cert)).set("http.tls.key_file", path(&leaf.key))
    }

    /// Listens on every address of this machine.
    pub fn everywhere(self) -> Self {
        let listen = format!("0.0.0.0:{}", self.port);
        self.set("http.listen", listen)
    }

    /// Serves the status page on a port of its own, for `user` and `password`; returns its address as well.
    pub fn admin(mut self, user: &str, password: &str) -> (Self, String) {
        let address = format!("127.0.0.1:{}", free_port());
        self.forbidden.push(password.to_owned());
        let builder = self
            .set("http.admin.listen", address.as_str())
            .set("http.admin.username", user)
            .set("http.admin.password", password);
        (builder, address)
    }

    /// One key, by its path.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut keys: Vec<&str> = path.split('.').collect();
        let last = keys.pop().expect("a key");
        table_at(&mut self.config, &keys).insert(last.to_owned(), value.into());
        self
    }

    /// Takes one key away, by its path.
    pub fn without(mut self, path: &str) -> Self {
        without(&mut self.config, path);
        self
    }

    /// Any TOML text, laid over what is there.
    pub fn toml(mut self, text: &str) -> Self {
        merge(&mut self.config, parse(text));
        self
    }

    /// A variable of the receiver's environment; apart from these it inherits none of its own.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sees this wall clock.
    pub fn wall_clock(mut self, clock: &WallClock) -> Self {
        self.env.extend(clock.env());
        self
    }

    /// Another program in its place: an older release that wrote the store.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = path.into();
        self
    }

    /// For a test that makes the receiver log `text`, which the check at the end would not accept ("panicked at").
    pub fn may_log(mut self, text: &str) -> Self {
        self.forbidden.retain(|forbidden| forbidden != text);
        self
    }

    /// A file beside the config: templates, secrets. Returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        self.scratch.write(name, text).to_str().expect("a UTF-8 path").to_owned()
    }

    /// Starts it and waits until `/readyz` says 200.
    ///
    /// # Panics
    /// When it does not get ready, with its log.
    pub async fn start(self) -> Receiver {
        self.try_start().await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Starts it and waits until it is ready or has ended.
    pub async fn try_start(self) -> Result<Receiver, StartFailure> {
        let mut receiver = self.unstarted();
        receiver.launch().await?;
        Ok(receiver)
    }

    /// Writes the config and starts nothing: for other commands than `serve`.
    pub fn unstarted(self) -> Receiver {
        Receiver::new(self.with_store_of_this_run())
    }
}

/// On a separate thread, since whoever starts a process does not wait.
fn on_a_new_device(bot: &User) -> User {
    let bot = bot.clone();
    let logged_in = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(bot.on_a_new_device())
    });
    logged_in.join().expect("logged in")
}

/// `program` without what the shell of the developer or the CI would have it read as its config.
pub(super) fn clean_command(program: &PathBuf, env: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours = ["MAR_", "MATRIX_", "WEBHOOK_", "PG"].iter().any(|prefix| name.starts_with(prefix));
        if ours || name == "RUST_LOG" || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(&*name);
        }
    }
    command.env("RUST_BACKTRACE", "1").envs(env.iter().map(|(name, value)| (name, value)));
    command
}

pub(super) fn parse(text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("not TOML: {error}\n{text}"))
}

/// Lays `over` over `base`: tables key by key, all else replaced.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

pub(super) fn without(config: &mut Table, path: &str) {
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().expect("a key");
    table_at(config, &keys).remove(last);
}

fn table_at<'a>(mut table: &'a mut Table, keys: &[&str]) -> &'a mut Table {
    for key in keys {
        let entry = table.entry((*key).to_owned()).or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut().unwrap_or_else(|| panic!("{key} is not a table"));
    }
    table
}
