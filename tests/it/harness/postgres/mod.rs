//! A real PostgreSQL: one for all tests of a process, or a private one that a test may kill, fill, and fail over.
//!
//! What is done to the server as its administrator blocks the thread: it takes milliseconds, and works in `Drop` as well.

mod database;
mod pgbouncer;
mod program;
mod proxy;
mod small_disk;
mod wire;

use std::{
    fmt::Write as _,
    process::{Command, ExitStatus},
    sync::OnceLock,
    time::Instant,
};

pub use self::{
    database::Database,
    pgbouncer::PgBouncer,
    proxy::{PostgresProxy, Statement, StatementFault},
    small_disk::SmallDisk,
};
use self::{
    program::{as_server, chown, client, wait_until},
    small_disk::Mounted,
};
use super::{
    DEADLINE,
    process::{Process, Scratch, describe, free_port, tail},
};

/// Who owns the tests' databases, as a receiver would: not a superuser.
pub const ROLE: &str = "receiver";
/// Of the role and of the superuser; no log may hold it.
pub const PASSWORD: &str = "only-for-tests-5e0b";

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    in_memory: bool,
    /// `password` costs the debug build's client nothing; `scram-sha-256` is what a server has by default.
    auth: &'static str,
    settings: Vec<(String, String)>,
    small: Option<SmallDisk>,
}

impl PostgresConfig {
    /// A commit is on disk before it is answered.
    pub fn durable() -> Self {
        Self { in_memory: false, auth: "password", settings: Vec::new(), small: None }
    }

    /// The same with its data in memory, where there is enough of it: fast.
    pub fn fast() -> Self {
        Self { in_memory: true, ..Self::durable() }
    }

    /// Passwords are checked with SCRAM, as is the default.
    pub fn scram(mut self) -> Self {
        self.auth = "scram-sha-256";
        self
    }

    /// A setting of `postgresql.conf`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn all_settings(&self) -> Vec<(&str, &str)> {
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("max_connections", "300"),
            ("shared_buffers", "32MB"),
            ("max_wal_size", "128MB"),
            ("min_wal_size", "8MB"),
        ];
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        settings
    }

    /// Its tables, or all of it, on a disk of this size. See [`Postgres::on_small_disk`].
    fn small(mut self, disk: SmallDisk) -> Self {
        self.small = Some(disk);
        self
    }
}

#[derive(Debug)]
pub struct Postgres {
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
    small: Option<Mounted>,
}

impl Postgres {
    /// The server that the tests of this process share; each test makes databases for itself. Whoever asks first waits a
    /// second or two for its start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::with(&PostgresConfig::fast()))
    }

    /// A server for one test, which may kill it: a commit that was answered is on disk.
    pub fn private() -> Self {
        Self::with(&PostgresConfig::durable())
    }

    pub fn with(config: &PostgresConfig) -> Self {
        let scratch = if config.in_memory { Scratch::in_memory("postgres") } else { Scratch::new("postgres") };
        chown(scratch.path());
        let mut postgres = Self { process: None, scratch, port: free_port(), small: config.small.map(Mounted::new) };
        postgres.initialise(config);
        postgres.start();
        let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'");
        postgres.sql("postgres", &role);
        if let Some(small) = &postgres.small {
            small.prepare(&postgres);
        }
        postgres
    }

    /// A server whose tables, or all of it, are on a disk that [`Postgres::fill_disk`] fills. `None` where nobody may mount
    /// one: that takes root and a mount namespace. Its disk is gone when it ends.
    pub fn on_small_disk(disk: SmallDisk) -> Option<Self> {
        small_disk::possible().then(|| Self::with(&PostgresConfig::durable().small(disk)))
    }

    fn initialise(&self, config: &PostgresConfig) {
        // Sorted as people of one language do, which is what most servers have: whoever needs the order of bytes says so.
        let password = self.scratch.write("password", PASSWORD);
        chown(&password);
        let mut command = as_server("initdb");
        command.args(["--no-sync", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
        command.args(["--locale-provider=icu", "--icu-locale=en-US", "--wal-segsize=1"]);
        command.arg(format!("--auth={}", config.auth)).arg(format!("--pwfile={}", password.display()));
        command.arg("--pgdata").arg(self.scratch.join("data")).current_dir(self.scratch.path());
        let output = command.output().expect("initdb starts; run `make tools`");
        assert!(output.status.success(), "no cluster was made: {output:?}");
        let mut lines = String::new();
        for (name, value) in config.all_settings() {
            let _ = writeln!(lines, "{name} = '{value}'");
        }
        let file = self.scratch.join("data/postgresql.conf");
        std::fs::write(&file, lines).expect("written");
    }

    /// Of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on its port and its data, and waits until it answers.
    ///
    /// # Panics
    /// When it does not, with its log.
    pub fn start(&mut self) {
        let log = self.scratch.join("postgres.log");
        let mut command = match &self.small {
            None => as_server("postgres"),
            Some(small) => small.server(self.scratch.path()),
        };
        let data = self.small.as_ref().map_or("data", Mounted::data);
        command.arg("-D").arg(self.scratch.join(data)).args(["-p", &self.port.to_string()]);
        command.current_dir(self.scratch.path());
        let mut process = Process::spawn(&mut command, &log).expect("PostgreSQL starts; run `make tools`");
        let port = self.port.to_string();
        let end = Instant::now() + DEADLINE;
        while !client("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port]).status().is_ok_and(|is| is.success()) {
            let status = process.exit_status();
            assert!(
                status.is_none() && Instant::now() < end,
                "PostgreSQL did not start ({}):\n{}",
                describe(status),
                tail(&log, 30)
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.process = Some(process);
    }

    /// Ends all sessions and writes everything out, as an administrator's restart does.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("PostgreSQL runs");
        process.signal("INT");
        process.wait(DEADLINE).await.expect("PostgreSQL ends after SIGINT")
    }

    /// Kills all of its processes at once, as the end of a machine does.
    pub fn kill9(&mut self) {
        let mut process = self.process.take().expect("PostgreSQL runs");
        let sessions = program::children(process.pid());
        process.kill9();
        for session in &sessions {
            // It may have ended by itself: they watch the first one.
            let _ = Command::new("kill").args(["-9", &session.to_string()]).output();
        }
        let gone = || sessions.iter().all(|session| !program::is_running(*session));
        wait_until("its sessions are gone", gone);
    }

    /// Frozen, until [`Postgres::thaw`]: a machine that hangs. Connections are accepted by the kernel and never answered.
    pub fn freeze(&mut self) {
        self.signal_all("STOP");
    }

    pub fn thaw(&mut self) {
        self.signal_all("CONT");
    }

    fn signal_all(&mut self, signal: &str) {
        let process = self.process.as_mut().expect("PostgreSQL runs");
        process.signal(signal);
        for session in program::children(process.pid()) {
            let _ = Command::new("kill").args(["-s", signal, &session.to_string()]).output();
        }
    }

    /// Statements by the superuser; their rows, columns separated by `|`.
    ///
    /// # Panics
    /// When one fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// [`Postgres::sql`] that may fail, with what psql says.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        program::psql(self.port, database, sql)
    }

    /// Changes a setting of the running server; one that takes a restart holds from then on.
    pub fn set(&self, name: &str, value: &str) {
        self.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Lets nobody write, as an administrator or a fail-over tool makes a server that is to be left alone.
    pub fn read_only(&self, read_only: bool) {
        // The server takes it up when its first process has read the file, its sessions somewhat later.
        self.set("default_transaction_read_only", if read_only { "on" } else { "off" });
        let wanted = if read_only { "on" } else { "off" };
        wait_until("new sessions have it", || self.sql("postgres", "SHOW default_transaction_read_only") == wanted);
    }

    /// Ends all sessions but those of the superuser, as `pg_terminate_backend` does; returns how many.
    pub fn end_sessions(&self) -> usize {
        let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{ROLE}'");
        self.sql("postgres", &sql).parse().expect("a number")
    }

    /// A new, empty database of the role, which is dropped with the value.
    pub fn database(&self) -> Database {
        Database::create(self.port, None, self.small.as_ref().and_then(Mounted::tablespace))
    }

    /// A standby that streams from here, with all that is here by now.
    pub fn standby(&self) -> Self {
        let scratch = Scratch::new("postgres");
        chown(scratch.path());
        let source =
            format!("host=127.0.0.1 port={} user=postgres password={PASSWORD} application_name=standby", self.port);
        let output = as_server("pg_basebackup")
            .args(["--dbname", &source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"])
            .arg(scratch.join("data"))
            .current_dir(scratch.path())
            .output()
            .expect("pg_basebackup starts; run `make tools`");
        assert!(output.status.success(), "no standby was made: {output:?}");
        let mut standby = Self { process: None, scratch, port: free_port(), small: None };
        standby.start();
        let streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        wait_until("the standby streams", || self.sql("postgres", streams) != "0");
        standby
    }

    /// Whether a commit waits until a standby has it on disk, too.
    pub fn synchronous(&self, synchronous: bool) {
        self.set("synchronous_standby_names", if synchronous { "*" } else { "" });
        if synchronous {
            let sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            wait_until("the standby is synchronous", || self.sql("postgres", sync) != "0");
        }
    }

    /// Makes a standby the one that is written to.
    pub fn promote(&self) {
        // Nothing of it is synchronous any more; it would wait for a standby that is not there.
        self.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
        assert_eq!(self.sql("postgres", "SELECT pg_promote(true)"), "t", "promoted within a minute");
    }

    /// Fills the small disk to the last block.
    pub fn fill_disk(&self) {
        let filler = self.filler();
        // Ends with an error, since it fills the disk.
        assert!(std::fs::write(filler, vec![0; SmallDisk::MOST_BYTES]).is_err(), "the disk is small");
    }

    /// Takes away what [`Postgres::fill_disk`] put there.
    pub fn free_disk(&self) {
        std::fs::remove_file(self.filler()).expect("removed");
    }

    fn filler(&self) -> std::path::PathBuf {
        assert!(self.small.is_some(), "it has a small disk");
        let pid = self.process.as_ref().expect("PostgreSQL runs").pid();
        format!("/proc/{pid}/root{}/filler", self.scratch.join(small_disk::MOUNT).display()).into()
    }

    /// The end of its log, for failure messages.
    pub fn log_tail(&self) -> String {
        tail(&self.scratch.join("postgres.log"), 80)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL's log\n{}\n---", self.log_tail());
        }
        if self.process.is_some() {
            self.kill9();
        }
    }
}
