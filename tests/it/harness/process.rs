//! Child processes that cannot outlive the test process, their folders and their ports.
//!
//! `Drop` does not run when the test process is killed, nor for what a `static` holds. So one shell per test process,
//! the reaper, knows every child and folder; when its standard input closes, which the kernel sees to however the
//! test process ends, it kills and removes what is left.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    net::TcpListener,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use rand::Rng;
use tokio::time::Instant;

use super::DEADLINE;

/// Reads `start PID`, `end PID`, `keep DIR` and `gone DIR` until the end of input.
const REAPER: &str = r#"
trap '' INT TERM HUP
without() { gone=$1; shift; for each; do [ "$each" = "$gone" ] || printf '%s ' "$each"; done; }
pids= dirs=
while read -r verb what; do
    case $verb in
        start) pids="$pids $what" ;;
        end) pids=$(without "$what" $pids) ;;
        keep) dirs="$dirs $what" ;;
        gone) dirs=$(without "$what" $dirs) ;;
    esac
done
[ -z "$pids" ] || kill -9 $pids
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf $dirs && break
    sleep 0.2
done
"#;

struct Reaper {
    /// Never waited for: it outlives us.
    _shell: Child,
    stdin: ChildStdin,
}

fn tell_reaper(verb: &str, what: impl std::fmt::Display) {
    static SHARED: OnceLock<Mutex<Reaper>> = OnceLock::new();
    let reaper = SHARED.get_or_init(|| {
        let mut shell = Command::new("sh")
            .args(["-c", REAPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: what kills the group of the tests must not kill the one that cleans up after them.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let stdin = shell.stdin.take().expect("a piped stdin");
        Mutex::new(Reaper { _shell: shell, stdin })
    });
    let mut reaper = reaper.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(reaper.stdin, "{verb} {what}").expect("the reaper listens");
}

/// A child process with its output in a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, output appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> std::io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        tell_reaper("start", child.id());
        Ok(Self { child, ended: None })
    }

    /// As the operating system counts.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
            if self.ended.is_some() {
                // Its number may soon be somebody else's.
                tell_reaper("end", self.child.id());
            }
        }
        self.ended
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.exit_status().is_none() {
            self.child.kill().expect("our own child can be killed");
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
            tell_reaper("end", self.child.id());
        }
    }

    /// Sends `signal` ("TERM", "STOP", "CONT", "HUP").
    pub fn signal(&mut self, signal: &str) {
        if self.exit_status().is_none() {
            // std knows only SIGKILL.
            let status = Command::new("sh")
                .args(["-c", r#"kill -s "$0" "$1""#, signal, &self.pid().to_string()])
                .status()
                .expect("sh starts");
            assert!(status.success(), "cannot send SIG{signal}");
            if signal == "STOP" {
                self.wait_stopped();
            }
        }
    }

    /// The kernel stops one thread after the other.
    fn wait_stopped(&self) {
        let end = Instant::now() + DEADLINE;
        let is_stopped = || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
            threads.flatten().all(|thread| {
                fs::read_to_string(thread.path().join("stat"))
                    .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
            })
        };
        while !is_stopped() {
            assert!(Instant::now() < end, "not stopped within {DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the end; `None` at the deadline.
    pub async fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            let status = self.exit_status();
            if status.is_some() || Instant::now() >= end {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// "exit status: 0", "signal: 9 (SIGKILL)": how a process ended, for messages.
pub fn describe(status: Option<ExitStatus>) -> String {
    match status {
        None => "still running".to_owned(),
        Some(status) if status.signal().is_some() => format!("killed, {status}"),
        Some(status) => status.to_string(),
    }
}

/// A folder that is removed at the end, also by the reaper; `MAR_TEST_KEEP=1` keeps it for a look.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        Self::of(tempfile::Builder::new().prefix(&format!("mar-{name}-")).tempdir().expect("a temp folder").keep())
    }

    fn of(path: PathBuf) -> Self {
        if !kept() {
            tell_reaper("keep", path.display());
        }
        Self(path)
    }

    /// One in memory, where there is enough of it: what is written there for safety costs nothing.
    pub fn in_memory(name: &str) -> Self {
        const SHARED_MEMORY: &str = "/dev/shm";
        let free = Command::new("df").args(["--output=avail", "-k", SHARED_MEMORY]).output();
        let free =
            free.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).lines().nth(1)?.trim().parse().ok());
        if free.is_none_or(|kib: u64| kib < 2 << 20) {
            return Self::new(name);
        }
        let folder = tempfile::Builder::new().prefix(&format!("mar-{name}-")).tempdir_in(SHARED_MEMORY);
        Self::of(folder.expect("a temp folder").keep())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file into it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What fails here is tried again by the reaper.
        if !kept() && fs::remove_dir_all(&self.0).is_ok() {
            tell_reaper("gone", self.0.display());
        }
    }
}

fn kept() -> bool {
    std::env::var_os("MAR_TEST_KEEP").is_some()
}

/// A loopback port nobody listens on, below the range the kernel takes for outgoing connections, so that it is still
/// free when the server that was stopped on it starts again.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        let port = rand::rng().random_range(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// The last lines of a log file, for failure messages.
pub fn tail(log: &Path, lines: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
