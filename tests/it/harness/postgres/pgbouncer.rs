//! PgBouncer before a PostgreSQL: each transaction may run in another session.

use std::{
    path::Path,
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{
    DEADLINE, PASSWORD, Postgres, ROLE,
    program::{as_server_user, chown},
};
use crate::harness::process::{Process, Scratch, describe, free_port, tail};

#[derive(Debug)]
pub struct PgBouncer {
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
}

impl PgBouncer {
    /// The one before the PostgreSQL that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PgBouncer> = OnceLock::new();
        SHARED.get_or_init(|| Self::before(Postgres::shared().port()))
    }

    /// In transaction mode, before the server on this port.
    pub fn before(postgres: u16) -> Self {
        let (scratch, port) = (Scratch::new("pgbouncer"), free_port());
        chown(scratch.path());
        let users = scratch.write("users.txt", &format!("\"{ROLE}\" \"{PASSWORD}\"\n"));
        let config = config(port, postgres, &users);
        for file in [&users, &scratch.write("pgbouncer.ini", &config)] {
            chown(file);
        }
        let mut pgbouncer = Self { process: None, scratch, port };
        pgbouncer.start();
        pgbouncer
    }

    /// Of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on its port, and waits until it accepts connections.
    pub fn start(&mut self) {
        let log = self.scratch.join("pgbouncer.log");
        let mut command: Command = as_server_user(Path::new("/usr/sbin/pgbouncer"));
        command.arg("pgbouncer.ini").current_dir(self.scratch.path());
        let mut process = Process::spawn(&mut command, &log).expect("PgBouncer starts; run `make tools`");
        let end = Instant::now() + DEADLINE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let status = process.exit_status();
            assert!(
                status.is_none() && Instant::now() < end,
                "PgBouncer did not start ({}):\n{}",
                describe(status),
                tail(&log, 30)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
    }

    /// Ends it without a word, and all connections with it.
    pub fn kill9(&mut self) {
        self.process.take().expect("PgBouncer runs").kill9();
    }
}

fn config(port: u16, postgres: u16, users: &Path) -> String {
    // Few sessions for each database, so that transactions do change them.
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={postgres}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = plain\n\
         auth_file = {}\n\
         pool_mode = transaction\n\
         default_pool_size = 4\n\
         max_client_conn = 1000\n\
         server_idle_timeout = 5\n\
         autodb_idle_timeout = 5\n\
         ignore_startup_parameters = extra_float_digits\n",
        users.display()
    )
}
