//! The store under stress: a disk that is full, a file that cannot be written, a file that is damaged. What is answered
//! 200 is kept, nothing else is, and it passes by itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use tokio::time::Instant;

use crate::{
    commands::Ran,
    harness::{Alert, DEADLINE, Payload, Receiver, ReceiverBuilder, Scene, eventually, only_sqlite},
};

/// Longer than the writer needs to find out by itself whether it can commit again.
const PERSISTS: Duration = Duration::from_millis(2_500);

fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

/// A script in place of the binary, which does something to its process or its files first. `$STORE` is the store.
fn wrapped(builder: ReceiverBuilder, prepare: &str) -> ReceiverBuilder {
    let real = env!("CARGO_BIN_EXE_matrix-alertmanager-receiver");
    let path = PathBuf::from(builder.file("wrapped", ""));
    let store = path.with_file_name("store");
    let script = format!("#!/bin/sh\nSTORE={}\n{prepare} \"{real}\" \"$@\"\n", store.display());
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    builder.binary(path)
}

/// What the start of a receiver must do so that [`limit_files`] fails its writes, and does not end it.
const LIMITABLE: &str = "trap '' XFSZ; exec";

/// No file may grow beyond `soft` bytes ("unlimited"), so that the store cannot commit.
fn limit_files(receiver: &Receiver, soft: &str) {
    let args = ["--pid", &receiver.pid().to_string(), &format!("--fsize={soft}:unlimited")];
    assert!(run("prlimit", &args), "prlimit (util-linux) sets the limit");
}

/// A namespace of its own for the receiver's mounts, gone with it; `None` where nobody may make one.
fn own_mounts() -> Option<&'static str> {
    let ways = ["unshare -m", "unshare -Urm"];
    let found = ways.into_iter().find(|way| run("sh", &["-c", &format!("{way} mount -t tmpfs tmpfs /mnt")]));
    if found.is_none() {
        eprintln!("SKIPPED: no mount namespace can be made here, and this test needs one");
    }
    found
}

/// What has been posted, as Alertmanager keeps account of it.
struct Sender<'a> {
    receiver: &'a Receiver,
    posted: usize,
    /// The ids that came with a 200.
    accepted: Vec<String>,
}

impl<'a> Sender<'a> {
    fn new(receiver: &'a Receiver) -> Self {
        Self { receiver, posted: 0, accepted: Vec::new() }
    }

    /// Posts the next group until it is taken; whether it was, this time.
    async fn post(&mut self, bytes: usize) -> bool {
        let alert = Alert::firing("n01").annotation("description", &"x ".repeat(bytes / 2));
        let answer = self.receiver.post("default", Payload::group(&self.name()).alert(alert)).await;
        if answer.status == 200 {
            self.accepted.push(answer.json()["notification"].as_str().expect("an id").to_owned());
            self.posted += 1;
            return true;
        }
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(answer.body.contains("cannot commit"), "{}", answer.body);
        false
    }

    fn name(&self) -> String {
        format!("Group{:03}", self.posted)
    }

    /// Posts until nothing is taken any more, for longer than a moment.
    async fn until_full(&mut self) {
        for bytes in [12_000, 2_000] {
            while self.post(bytes).await {}
        }
        let mut refused = Instant::now();
        eventually("nothing is committed any more", DEADLINE, async || {
            if self.post(10).await {
                refused = Instant::now();
            }
            (refused.elapsed() > PERSISTS).then_some(())
        })
        .await;
    }
}

/// What the operator and the orchestrator see while nothing can be committed.
async fn assert_failing(receiver: &Receiver, says: &[&str]) {
    let health = receiver.get("/healthz").await;
    assert_eq!(health.status, 503, "{}", health.body);
    let json = health.json();
    assert_eq!(json["status"], "failing", "{json:#}");
    let reason = json["parts"]["store"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("webhooks cannot be committed: "), "{reason}");
    assert!(says.iter().any(|says| reason.contains(says)), "{says:?} in {reason}");
    assert_eq!(receiver.get("/healthz/delivery").await.status, 503);
    // A restart would not help, and Alertmanager is to keep trying here.
    assert_eq!((receiver.get("/livez").await.status, receiver.get("/readyz").await.status), (200, 200));
    assert!(receiver.metric("http_requests_total", &[("handler", "alerts"), ("code", "503")]).await >= 1.0);
}

/// The store is whole, and holds what was answered 200 and nothing else.
async fn assert_kept(store: &Path, sender: &Sender<'_>) {
    let copy = tempfile::tempdir().expect("a folder");
    let mut folder = store;
    if store.starts_with("/proc") {
        // SQLite resolves the path, which then leads nowhere.
        for name in ["receiver.sqlite3", "receiver.sqlite3-wal"] {
            fs::copy(store.join(name), copy.path().join(name)).expect("copied");
        }
        folder = copy.path();
    }
    let mut file =
        SqliteConnection::connect(&folder.join("receiver.sqlite3").display().to_string()).await.expect("the store");
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut file).await.expect("checked");
    assert_eq!(whole, "ok");
    let kept: Vec<String> =
        sqlx::query_scalar("SELECT id FROM notification ORDER BY id").fetch_all(&mut file).await.expect("read");
    let mut accepted = sender.accepted.clone();
    accepted.sort();
    assert_eq!(kept, accepted, "what was answered 200 and what is kept");
    for orphans in [
        "SELECT count(*) FROM alert WHERE incident NOT IN (SELECT id FROM incident)",
        "SELECT count(*) FROM incident WHERE id NOT IN (SELECT incident FROM alert)",
        "SELECT count(*) FROM incident WHERE id NOT IN (SELECT incident FROM card_incident)",
        "SELECT count(*) FROM card WHERE id NOT IN (SELECT card FROM card_incident)",
    ] {
        let count: i64 = sqlx::query_scalar(orphans).fetch_one(&mut file).await.expect("counted");
        assert_eq!(count, 0, "{orphans}");
    }
}

/// From the first webhook to the last card. `cause` and `mend` make the fault and end it.
async fn survives(
    scene: &Scene,
    receiver: &Receiver,
    store: &Path,
    says: &[&str],
    cause: impl FnOnce(&Receiver),
    repair: impl FnOnce(&Receiver),
) {
    let mut sender = Sender::new(receiver);
    assert!(sender.post(10).await);
    scene.room.wait_for("the first card", DEADLINE, |view| view.cards().len() == 1).await;
    cause(receiver);
    sender.until_full().await;
    assert_failing(receiver, says).await;
    receiver.wait_log(&["the store cannot commit; webhooks are answered 503", "reason"]).await;
    assert_kept(store, &sender).await;
    repair(receiver);
    eventually("health recovers without any webhook", DEADLINE, async || {
        (receiver.get("/healthz").await.status == 200).then_some(())
    })
    .await;
    receiver.wait_log(&["the store commits again"]).await;
    assert!(sender.post(10).await, "Alertmanager's next try is taken");
    assert!(sender.post(300_000).await, "there is room for more");
    let count = sender.posted;
    let all = |view: &crate::harness::RoomView| {
        view.cards().len() == count && (0..count).all(|n| view.cards_with(&format!("Group{n:03}")).len() == 1)
    };
    scene.room.wait_for("every group, once", DEADLINE * 2, all).await;
    for state in ["waiting", "in_flight", "in_doubt"] {
        receiver.wait_metric("outbox_ops", &[("state", state)], |left| left == 0.0).await;
    }
    assert_kept(store, &sender).await;
}

fn builder(scene: &Scene) -> ReceiverBuilder {
    ReceiverBuilder::of(scene).set("routes.default.digest_above", 0)
}

/// The limit on the size of files fails every write beyond it, those of the log as well: it works everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_fail_are_503_until_they_succeed() {
    if !only_sqlite("the store's files cannot grow") {
        return;
    }
    let scene = Scene::new().await;
    let receiver = wrapped(builder(&scene), LIMITABLE).start().await;
    let store = receiver.store_path();
    // The log cannot be written meanwhile, so that its words are not asked for before.
    let mut sender = Sender::new(&receiver);
    assert!(sender.post(10).await);
    scene.room.wait_for("the first card", DEADLINE, |view| view.cards().len() == 1).await;
    limit_files(&receiver, "4096");
    sender.until_full().await;
    assert_failing(&receiver, &["disk I/O error", "full"]).await;
    assert_kept(&store, &sender).await;
    limit_files(&receiver, "unlimited");
    eventually("health recovers without any webhook", DEADLINE, async || {
        (receiver.get("/healthz").await.status == 200).then_some(())
    })
    .await;
    receiver.wait_log(&["the store commits again"]).await;
    assert!(sender.post(300_000).await);
    assert_kept(&store, &sender).await;
    let count = sender.posted;
    scene.room.wait_for("every group, once", DEADLINE, |view| view.cards().len() == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_until_there_is_space() {
    if !only_sqlite("the store's disk is full") {
        return;
    }
    let Some(own) = own_mounts() else { return };
    let scene = Scene::new().await;
    let prepare = format!(
        "mkdir -p \"$STORE\"\nexec {own} sh -c 'mount -t tmpfs -o size=16m,mode=700 tmpfs \"$0\" && exec \"$@\"' \"$STORE\""
    );
    let receiver = wrapped(builder(&scene), &prepare).start().await;
    let inside = format!("/proc/{}/root{}", receiver.pid(), receiver.store_path().display());
    let store = PathBuf::from(inside);
    assert!(store.join("receiver.sqlite3").exists(), "the store is on the small disk");
    let filler = store.join("filler");
    let fill = |_: &Receiver| {
        // Ends with an error, since it fills the disk.
        assert!(fs::write(&filler, vec![0; 32 << 20]).is_err(), "the disk is small");
    };
    let repair = |_: &Receiver| fs::remove_file(&filler).expect("removed");
    survives(&scene, &receiver, &store, &["database or disk is full"], fill, repair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_turns_read_only_is_503_until_it_is_writable() {
    if !only_sqlite("the store's file is read-only") {
        return;
    }
    let scene = Scene::new().await;
    let receiver = builder(&scene).start().await;
    let store = receiver.store_path();
    let files = ["receiver.sqlite3", "receiver.sqlite3-wal"].map(|name| store.join(name).display().to_string());
    let attribute = |change: &str| files.iter().all(|file| run("chattr", &[change, file]));
    if !attribute("+i") {
        attribute("-i");
        eprintln!("SKIPPED: files cannot be made immutable here (needs root and ext4, xfs or btrfs)");
        return;
    }
    assert!(attribute("-i"));
    let cause = |_: &Receiver| assert!(attribute("+i"));
    let repair = |_: &Receiver| assert!(attribute("-i"));
    survives(&scene, &receiver, &store, &["disk I/O error", "readonly", "permitted"], cause, repair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_folder_is_told_and_nothing_starts() {
    let scene = Scene::new().await;
    let builder = builder(&scene);
    let store = PathBuf::from(builder.file("unused", "")).with_file_name("store");
    fs::create_dir(&store).expect("made");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o555)).expect("read-only");
    // Permissions do not bind root; a mount does.
    let builder = if fs::write(store.join("probe"), "").is_err() {
        builder
    } else {
        let Some(own) = own_mounts() else { return };
        let bind = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
        wrapped(builder, &format!("exec {own} sh -c '{bind}' \"$STORE\""))
    };
    let failure = builder.try_start().await.expect_err("it must not start");
    assert!(failure.status.is_some_and(|status| status.code() == Some(1)), "{failure}");
    assert!(failure.log.contains(&format!("cannot use {}", store.display())), "{failure}");
    assert!(["Read-only", "Permission denied"].iter().any(|says| failure.log.contains(says)), "{failure}");
}

/// Nothing but `store.path` can be written: no /tmp, no working directory. SQLite needs a file of its own for nearly every
/// webhook.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_folder_needs_to_be_writable() {
    let Some(own) = own_mounts() else { return };
    let scene = Scene::new().await;
    let read_only = "mkdir -p \"$0\"; for folder in /tmp /var/tmp /usr/tmp; do if [ -d $folder ]; then \
         mount --bind $folder $folder && mount -o remount,bind,ro $folder || exit 9; fi; done; \
         mount --bind \"$0\" \"$0\" && mount -o remount,bind,rw \"$0\" && cd /tmp && ! touch probe 2> /dev/null && exec \"$@\"";
    let sealed = scene.another_room("sealed").await;
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    scene.sre.set_state(&sealed.id, "m.room.encryption", "", algorithm).await;
    let builder = builder(&scene).route("sealed", &[&sealed.id]);
    let builder = wrapped(builder, &format!("exec {own} sh -c '{read_only}' \"$STORE\""));
    let receiver = builder.env("TMPDIR", "/nonexistent").env("SQLITE_TMPDIR", "/nonexistent").start().await;
    let mut sender = Sender::new(&receiver);
    for bytes in [10, 300_000] {
        assert!(sender.post(bytes).await, "it is committed");
    }
    scene.room.wait_for("both cards", DEADLINE, |view| view.cards().len() == 2).await;
    // The SDK's own stores as well.
    receiver.accept("sealed", Payload::group("Sealed").firing(&["n01"])).await;
    let sent = [("room", "sealed/1"), ("kind", "card"), ("outcome", "sent")];
    receiver.wait_metric("room_events_total", &sent, |sent| sent == 1.0).await;
    let left: Vec<_> =
        fs::read_dir(receiver.store_path()).expect("a folder").flatten().map(|file| file.path()).collect();
    assert!(left.iter().all(|path| !path.display().to_string().contains("etilqs")), "{left:?}");
    Ran::of(receiver.cli(&["check"]).await, &[]).says(0, &[&["ok", "store", "can be written"]]);
}

/// A small file can be written, but not what the store needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_used_is_found_by_check_and_ends_the_start() {
    if !only_sqlite("the store's file cannot be written") {
        return;
    }
    let scene = Scene::new().await;
    let builder = wrapped(builder(&scene), "trap '' XFSZ; mkdir -p \"$STORE\"; ulimit -f 8; exec");
    let unstarted = builder.unstarted();
    let found = Ran::of(unstarted.cli(&["check"]).await, &[]);
    found.says(1, &[&["FAULT", "store", "a trial run of the store fails"]]);
    assert_eq!(fs::read_dir(unstarted.store_path()).expect("a folder").count(), 0, "nothing is left of the try");
    drop(unstarted);
    let builder = wrapped(self::builder(&scene), "trap '' XFSZ; ulimit -f 8; exec");
    let failure = builder.try_start().await.expect_err("it must not start");
    assert!(failure.status.is_some_and(|status| status.code() == Some(1)), "{failure}");
    assert!(failure.log.contains("store") && failure.log.contains("disk I/O error"), "{failure}");
}

/// A receiver that has been stopped, with enough in its store to have a middle; its file, and what is in it.
async fn stopped_with_a_store(scene: &Scene) -> (Receiver, PathBuf, Vec<u8>) {
    let mut receiver = builder(scene).start().await;
    for n in 0..20 {
        let alert = Alert::firing("n01").annotation("description", &"x ".repeat(10_000));
        receiver.accept("default", Payload::group(&format!("Group{n}")).alert(alert)).await;
    }
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    let file = receiver.store_path().join("receiver.sqlite3");
    let bytes = fs::read(&file).expect("the store");
    assert!(bytes.len() > 400_000, "{} bytes", bytes.len());
    (receiver, file, bytes)
}

async fn assert_refuses(receiver: &mut Receiver, file: &Path, says: &[&str]) {
    let damaged = fs::read(file).expect("the store");
    receiver.spawn();
    let failure = receiver.ready().await.expect_err("it must not start");
    assert!(failure.status.is_some_and(|status| status.code() == Some(1)), "{failure}");
    let line = failure.log.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{failure}"));
    let path = file.display().to_string();
    for says in [path.as_str(), "is damaged", "was left as it is", "backup", "-wal"].iter().chain(says) {
        assert!(line.contains(says), "{says:?} in {line}");
    }
    assert!(fs::read(file).expect("the store") == damaged, "it was not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_told_and_never_replaced() {
    if !only_sqlite("the store's file is damaged") {
        return;
    }
    let scene = Scene::new().await;
    let (mut receiver, file, good) = stopped_with_a_store(&scene).await;
    let garbage: Vec<u8> = (0..8192_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();

    let mut header = good.clone();
    header[..100].copy_from_slice(&garbage[..100]);
    fs::write(&file, &header).expect("written");
    assert_refuses(&mut receiver, &file, &["file is not a database"]).await;

    let mut middle = good.clone();
    for at in (4096 * 4..good.len() - 8192).step_by(4096 * 3) {
        middle[at..at + 4096].copy_from_slice(&garbage[..4096]);
    }
    fs::write(&file, &middle).expect("written");
    assert_refuses(&mut receiver, &file, &[]).await;

    fs::write(&file, &good[..good.len() / 2]).expect("cut off");
    assert_refuses(&mut receiver, &file, &[]).await;

    fs::write(&file, &good).expect("restored");
    receiver.spawn();
    receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    scene.room.wait_for("all is shown", DEADLINE, |view| view.cards().len() == 20).await;
}

/// With a short retention, incidents that come and go leave the file as large as it was.
#[tokio::test(flavor = "multi_thread")]
async fn retention_keeps_the_file_bounded() {
    let scene = Scene::new().await;
    let receiver = builder(&scene).set("store.retention", "1s").set("routes.default.updates", "edit").start().await;
    let mut file = receiver.store().open().await;
    let mut sizes = Vec::new();
    for round in 0..6 {
        let payload = |n: usize, alert: Alert| {
            // What is packed gets no smaller by it.
            let mut noise = vec![0; 20_000];
            rand::fill(&mut noise[..]);
            let alert = alert.annotation("description", &hex::encode(noise));
            Payload::group(&format!("Round{round}Group{n}")).alert(alert)
        };
        for n in 0..20 {
            receiver.accept("default", payload(n, Alert::firing("n01"))).await;
            for _ in 0..5 {
                receiver.accept("default", payload(n, Alert::firing("n01"))).await;
            }
        }
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM notification WHERE body IS NOT NULL")
            .fetch_one(&mut file)
            .await
            .expect("counted");
        assert!((20..=41).contains(&kept), "repeats keep no body: {kept}");
        for n in 0..20 {
            receiver.accept("default", payload(n, Alert::resolved("n01"))).await;
        }
        eventually("all is shown and forgotten", DEADLINE * 2, async || {
            let left: i64 = sqlx::query_scalar(
                "SELECT (SELECT count(*) FROM incident) + (SELECT count(*) FROM op) + (SELECT count(*) FROM card) + \
                 (SELECT count(*) FROM notification)",
            )
            .fetch_one(&mut file)
            .await
            .expect("counted");
            (left == 0).then_some(())
        })
        .await;
        if !only_sqlite("the size of the store's file") {
            continue;
        }
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut file).await.expect("counted");
        let log = fs::metadata(receiver.store_path().join("receiver.sqlite3-wal")).map_or(0, |file| file.len());
        assert!(log <= 17 << 20, "the log has {log} bytes");
        sizes.push(pages * 4_096);
    }
    if sizes.is_empty() {
        return;
    }
    // A round writes 1.6 MB of bodies alone; how much of it is there at once is a matter of timing.
    assert!(sizes[5] < sizes[0] + 1_600_000, "it still grows: {sizes:?}");
}
