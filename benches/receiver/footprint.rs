//! Memory and starts, of the built binary with a real homeserver.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Extent,
    bare::{Bare, Reading},
    load::{Connection, Request, TOKEN},
    subject::Subject,
    table::{Figures, Table, short},
};
use crate::harness::{DEADLINE, Homeserver, NewRoom, Receiver, Room, eventually};

const ALERTS: usize = 20;
/// After its first sync, before its memory counts as idle.
const SETTLE: Duration = Duration::from_secs(3);

pub async fn measure(subject: &Subject, synapse: &Homeserver, extent: Extent, table: &mut Table) {
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("memory")).await;
    // Digests as by default: a card for each of thousands would only measure the homeserver's patience.
    let builder = subject.receiver(&bot, &room.id).set("routes.default.digest_above", 8);
    let mut receiver = builder.webhook_token(TOKEN).start().await;
    memory(&receiver, extent, table).await;
    starts(subject, &mut receiver, extent, table).await;
}

async fn memory(receiver: &Receiver, extent: Extent, table: &mut Table) {
    receiver.wait_metric("last_sync_timestamp_seconds", &[], |at| at > 0.0).await;
    tokio::time::sleep(SETTLE).await;
    let bare = Bare::start(&receiver.config_path(), Reading::Same).await;
    let least = (resident(bare.pid(), "VmRSS"), private(bare.pid()));
    let mut row = |what: &str, mebibytes: f64, least: f64, wanted: &str| {
        let baseline = format!("{} (server without store and SDK, idle)", short(least));
        table.row(what, &short(mebibytes), &baseline, &short(mebibytes / least), wanted);
    };
    row("memory, idle after start and sync, MiB", resident(receiver.pid(), "VmRSS"), least.0, "< 32");
    row("private memory, idle after start and sync, MiB", private(receiver.pid()), least.1, "< 15");
    post(receiver, extent.groups).await;
    let alerts = extent.groups * ALERTS;
    let what = |when: &str| format!("memory, {alerts} alerts in {} groups {when}, MiB", extent.groups);
    row(&what("accepted, delivery under way"), resident(receiver.pid(), "VmRSS"), least.0, "");
    eventually("all is delivered", 10 * DEADLINE, async || {
        let left = receiver.metric("outbox_ops", &[("state", "waiting")]).await;
        (left < 0.5).then_some(())
    })
    .await;
    row(&what("delivered, all open"), resident(receiver.pid(), "VmRSS"), least.0, "< 96");
    row(&format!("private {}", what("delivered, all open")), private(receiver.pid()), least.1, "");
    row(&what("delivered: the peak"), resident(receiver.pid(), "VmHWM"), least.0, "< 128");
}

async fn post(receiver: &Receiver, groups: usize) {
    let mut connection = Connection::to(port_of(receiver)).await;
    let mut request = Request::of(ALERTS);
    for group in 0..groups {
        connection.accepted(request.about(group as u64)).await;
    }
}

async fn starts(subject: &Subject, receiver: &mut Receiver, extent: Extent, table: &mut Table) {
    let (mut ours, mut version) = (Figures::default(), Figures::default());
    for _ in 0..extent.starts {
        receiver.sigterm(DEADLINE).await;
        let started = Instant::now();
        receiver.spawn();
        while !is_ready(port_of(receiver)).await {
            assert!(started.elapsed() < DEADLINE, "not ready:\n{}", receiver.log_tail());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ours.push_millis(started.elapsed());
        let started = Instant::now();
        let output = Command::new(&subject.binary).arg("--version").output().expect("the binary starts");
        version.push_millis(started.elapsed());
        assert!(output.status.success());
    }
    let what = format!("start to /readyz with a store of {} alerts, ms", extent.groups * ALERTS);
    table.row(&what, &ours, &format!("{version}: --version"), &ours.by(&version), "< 75");
}

async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask.await.unwrap_or(false)
}

fn port_of(receiver: &Receiver) -> u16 {
    receiver.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// A line of `/proc/PID/status`, in MiB.
pub fn resident(pid: u32, line: &str) -> f64 {
    mebibytes(pid, "status", line)
}

/// What the process has written, in MiB: the kernel cannot take it back, unlike pages of the program file.
fn private(pid: u32) -> f64 {
    mebibytes(pid, "smaps_rollup", "Private_Dirty")
}

fn mebibytes(pid: u32, file: &str, line: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
    let found = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.strip_suffix("kB"));
    found.and_then(|text| text.trim().parse::<f64>().ok()).expect("a size in kB") / 1024.0
}
