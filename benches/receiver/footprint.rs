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
    bare::Bare,
    load::{Connection, Request, TOKEN},
    subject::Subject,
    table::{Figures, Table, short},
};
use crate::harness::{DEADLINE, NewRoom, Receiver, Room, Synapse, eventually};

const ALERTS: usize = 20;
/// After its first sync, before its memory counts as idle.
const SETTLE: Duration = Duration::from_secs(3);

pub async fn measure(subject: &Subject, synapse: &Synapse, extent: Extent, table: &mut Table) {
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
    let bare = Bare::start(&receiver.config_path()).await;
    let (idle, least) = (resident(receiver.pid(), "VmRSS"), resident(bare.pid(), "VmRSS"));
    let ratio = |mebibytes: f64| short(mebibytes / least);
    let baseline = format!("{} (server without store and SDK, idle)", short(least));
    table.row("memory, idle after start and sync, MiB", &short(idle), &baseline, &ratio(idle), "< 40");
    post(receiver, extent.groups).await;
    let alerts = extent.groups * ALERTS;
    let accepted = resident(receiver.pid(), "VmRSS");
    let what = |when: &str| format!("memory, {alerts} alerts in {} groups {when}, MiB", extent.groups);
    table.row(&what("accepted, delivery under way"), &short(accepted), &baseline, &ratio(accepted), "");
    eventually("all is delivered", 10 * DEADLINE, async || {
        let left = receiver.metric("outbox_ops", &[("state", "waiting")]).await;
        (left < 0.5).then_some(())
    })
    .await;
    let delivered = resident(receiver.pid(), "VmRSS");
    table.row(&what("delivered, all open"), &short(delivered), &baseline, &ratio(delivered), "< 96");
    let peak = resident(receiver.pid(), "VmHWM");
    table.row(&what("delivered: the peak"), &short(peak), &baseline, &ratio(peak), "< 96");
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
    table.row(&what, &ours, &format!("{version}: --version"), &ours.by(&version), "");
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
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.strip_suffix("kB"));
    found.and_then(|text| text.trim().parse::<f64>().ok()).expect("a size in kB") / 1024.0
}
