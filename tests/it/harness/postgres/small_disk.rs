//! A disk so small that a test can fill it: a tmpfs in a mount namespace that ends with the server.

use std::{path::Path, process::Command};

use super::{
    Postgres,
    program::{as_server, is_root},
};

/// Where it is mounted, in the server's folder.
pub(super) const MOUNT: &str = "small";
const TABLESPACE: &str = "small";

/// What is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallDisk {
    /// The tables and indexes of the databases: once it is full, statements that need more space fail.
    Tables,
    /// All that the server has: once it is full, the server ends its sessions and starts again, over and over.
    Everything,
}

impl SmallDisk {
    /// More than any of them holds.
    pub(super) const MOST_BYTES: usize = 256 << 20;

    fn size(self) -> &'static str {
        match self {
            Self::Tables => "size=32m",
            // A new cluster has about 40 MB.
            Self::Everything => "size=96m",
        }
    }
}

/// Whether one can be mounted here; says so where not.
pub(super) fn possible() -> bool {
    let mount = ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    let possible =
        is_root() && Command::new("unshare").args(mount).output().is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("SKIPPED: a small disk needs root and a mount namespace");
    }
    possible
}

#[derive(Debug)]
pub(super) struct Mounted(SmallDisk);

impl Mounted {
    pub(super) fn new(disk: SmallDisk) -> Self {
        Self(disk)
    }

    /// The server's data folder.
    pub(super) fn data(&self) -> &'static str {
        match self.0 {
            SmallDisk::Tables => "data",
            SmallDisk::Everything => MOUNT,
        }
    }

    /// The server's command up to its arguments, which mounts the disk first. The process stays the same.
    pub(super) fn server(&self, folder: &Path) -> Command {
        let small = folder.join(MOUNT);
        std::fs::create_dir_all(&small).expect("a folder");
        let copy = match self.0 {
            SmallDisk::Tables => "",
            SmallDisk::Everything => "cp -a data/. small &&",
        };
        let script = format!(
            "mount -t tmpfs -o {},mode=700,uid=$(id -u postgres),gid=$(id -g postgres) tmpfs small && {copy} exec \"$0\" \"$@\"",
            self.0.size()
        );
        let server = as_server("postgres");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).arg(server.get_program()).args(server.get_args());
        for (name, _) in server.get_envs() {
            command.env_remove(name);
        }
        command
    }

    pub(super) fn tablespace(&self) -> Option<&'static str> {
        (self.0 == SmallDisk::Tables).then_some(TABLESPACE)
    }

    /// After the first start.
    pub(super) fn prepare(&self, postgres: &Postgres) {
        if let Some(name) = self.tablespace() {
            let place = postgres.scratch.join(MOUNT);
            postgres.sql("postgres", &format!("CREATE TABLESPACE {name} LOCATION '{}'", place.display()));
        }
    }
}
