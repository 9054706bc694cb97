//! What is measured: a copy of the built binary, which no build that runs meanwhile can replace.

use std::{fs, path::PathBuf, process::Command, thread::available_parallelism};

use crate::harness::{
    ReceiverBuilder, User,
    process::{Scratch, free_port},
};

/// Which of cargo's profiles made the binary, as far as can be seen here.
pub const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

pub struct Subject {
    /// Holds the copy.
    _scratch: Scratch,
    pub binary: PathBuf,
}

impl Subject {
    /// # Panics
    /// When the binary is not of this build.
    pub fn new() -> Self {
        let scratch = Scratch::new("bench");
        let binary = scratch.join("receiver");
        fs::copy(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"), &binary).expect("the built binary");
        // Pages that are not on disk yet would count as private memory of the process.
        fs::File::open(&binary).and_then(|file| file.sync_all()).expect("on disk");
        let version = Command::new(&binary).arg("--version").output().expect("the binary starts").stdout;
        let version = String::from_utf8_lossy(&version).into_owned();
        let expected = matrix_alertmanager_receiver::LONG_VERSION;
        assert!(version.contains(expected), "the binary says {version:?}, the library is {expected:?}: build again");
        Self { _scratch: scratch, binary }
    }

    /// A receiver of this binary, quiet as in production, with every event a card of its own.
    pub fn receiver(&self, bot: &User, room: &str) -> ReceiverBuilder {
        ReceiverBuilder::new(bot)
            .binary(&self.binary)
            .route("default", &[room])
            .set("routes.default.digest_above", 0)
            .set("log.filter", "info")
    }

    /// A receiver whose homeserver refuses connections: it accepts, and cannot deliver.
    pub fn alone(&self) -> ReceiverBuilder {
        let bot = User {
            user_id: "@alerts:localhost".to_owned(),
            access_token: "no-such-token".to_owned(),
            device_id: "NONE".to_owned(),
            password: "no-such-password".to_owned(),
            homeserver: format!("http://127.0.0.1:{}", free_port()),
        };
        self.receiver(&bot, "!nowhere:localhost")
    }

    /// The machine and the build, for the head of the tables.
    pub fn facts(&self, quick: bool) -> String {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cores = available_parallelism().map_or(0, std::num::NonZero::get);
        let profile = if cfg!(debug_assertions) { "dev: NOT optimised, for trying out only" } else { PROFILE };
        let bytes = fs::metadata(&self.binary).map_or(0, |file| file.len());
        format!(
            "{}{cores} cores, kernel {}, load {} at the start; profile {profile}, version {}, binary {} MiB",
            if quick { "QUICK RUN, figures mean little. " } else { "" },
            read("/proc/sys/kernel/osrelease"),
            read("/proc/loadavg").split(' ').next().unwrap_or_default(),
            matrix_alertmanager_receiver::LONG_VERSION,
            bytes / (1024 * 1024),
        )
    }
}
