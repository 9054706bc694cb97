//! PostgreSQL's own programs, and as whom they run.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{DEADLINE, PASSWORD};

/// Where the newest server's programs are: Debian puts none of them in PATH but the clients.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("MAR_TEST_POSTGRES_BIN") {
            return folder.into();
        }
        let releases = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = releases
            .map(|release| release.path())
            .filter(|path| path.join("bin/postgres").exists())
            .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        newest.expect("a PostgreSQL in /usr/lib/postgresql; run `make tools`").join("bin")
    })
}

/// A command of PostgreSQL's, free of what the developer's shell says about servers.
pub(super) fn client(program: &str) -> Command {
    let mut command = Command::new(folder().join(program));
    without_settings(&mut command);
    command
}

/// A program of the server's, which root may not run.
pub(super) fn as_server(program: &str) -> Command {
    as_server_user(&folder().join(program))
}

/// Any program, as the user whom the server runs as.
pub(super) fn as_server_user(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    without_settings(&mut command);
    command
}

fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Gives a file or folder to the user whom the server runs as.
pub(super) fn chown(path: &Path) {
    if is_root() {
        let given = Command::new("chown").arg("postgres:postgres").arg(path).status();
        assert!(given.is_ok_and(|status| status.success()), "there is a user postgres; run `make tools`");
    }
}

/// Statements by the superuser, each by itself; their rows.
pub(super) fn psql(port: u16, database: &str, sql: &str) -> Result<String, String> {
    let output = client("psql")
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
        .args(["-p", &port.to_string(), "-d", database, "-c", sql])
        .env("PGPASSWORD", PASSWORD)
        .env("PGCONNECT_TIMEOUT", "10")
        .output()
        .expect("psql starts; run `make tools`");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }
}

/// The processes that `pid` has started and that still run.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("Linux").flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|child| parent_and_state(*child).is_some_and(|(parent, _)| parent == pid)).collect()
}

/// Whether it runs, or stands: what has ended and waits for its parent does not.
pub(super) fn is_running(pid: u32) -> bool {
    parent_and_state(pid).is_some_and(|(_, state)| state != "Z" && state != "X")
}

fn parent_and_state(pid: u32) -> Option<(u32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.to_owned();
    Some((fields.next()?.parse().ok()?, state))
}

/// Waits on this thread.
///
/// # Panics
/// At the deadline.
pub(super) fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !met() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
