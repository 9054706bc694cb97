//! What the receiver takes of memory when much comes at once: less than the 128 MiB that the shipped units give it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_util::StreamExt as _;

use crate::harness::{
    Alert, DEADLINE, Fault, FaultProxy, Match, Payload, Receiver, ReceiverBuilder, RoomView, Scene, view::Message,
};

/// Of the 128 MiB; the rest is for the pages of the program itself, which a cgroup counts too, but can give up.
pub const MOST_KIB: u64 = 88 * 1024;
/// Alertmanagers that post at once.
const SENDERS: usize = 8;

/// Watches how much memory of its own a process holds; the pages of its file are not part of it, and the debug build's
/// are many times those of what is shipped.
pub struct Watch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub fn on(receiver: &Receiver) -> Self {
        let path = format!("/proc/{}/status", receiver.pid());
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (peak, stop) = (Arc::clone(&peak), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let status = std::fs::read_to_string(&path).unwrap_or_default();
                    let held = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
                    let kib = held.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
                    peak.fetch_max(kib.unwrap_or(0), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Self { peak, stop, thread }
    }

    /// The most that was held, in KiB.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        self.peak.load(Ordering::Relaxed)
    }

    /// It still runs, as the process that it was, and stayed below the bound.
    fn assert_bounded(self, what: &str, receiver: &mut Receiver) {
        assert_eq!(receiver.exit_status(), None, "{what}: it runs on");
        let peak = self.end();
        eprintln!("{what}: at most {} MiB held", peak / 1024);
        assert!(peak > 0, "it was watched");
        assert!(peak < MOST_KIB, "{what}: {} MiB of {} MiB", peak / 1024, MOST_KIB / 1024);
    }
}

fn name(n: usize) -> String {
    format!("Large{n:03}")
}

fn group(n: usize, alerts: usize, firing: bool) -> Payload {
    let long = "replicas are not what the deployment asks for, and have not been for a quarter of an hour; ".repeat(2);
    (0..alerts).fold(Payload::group(&name(n)), |payload, nth| {
        let instance = format!("node{nth:04}.of-a-large-cluster.example:9100");
        let alert = if firing { Alert::firing(&instance) } else { Alert::resolved(&instance) };
        let alert = alert
            .label("namespace", &format!("team-{}", nth % 40))
            .label("pod", &format!("workload-{n}-{nth:04}-7f9c8d"))
            .label("prometheus", "monitoring/prometheus-operated")
            .annotation("description", &long);
        payload.alert(if n.is_multiple_of(20) && nth == alerts / 2 { alert.critical() } else { alert })
    })
}

/// Posts until it is taken, as Alertmanager does.
async fn insist(receiver: &Receiver, body: &str) {
    for _ in 0..200 {
        let request = receiver.request(reqwest::Method::POST, "/alerts/default").body(body.to_owned());
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(200) => return,
            Ok(503) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Ok(other) => panic!("answered {other}\n{}", receiver.log_tail()),
        }
    }
    panic!("never taken\n{}", receiver.log_tail());
}

async fn post_all(receiver: &Receiver, groups: usize, alerts: usize, firing: bool) {
    let posts = futures_util::stream::iter((0..groups).map(|n| async move {
        insist(receiver, &group(n, alerts, firing).json().to_string()).await;
    }));
    posts.buffer_unordered(SENDERS).collect::<Vec<()>>().await;
}

fn named(view: &RoomView, groups: usize) -> usize {
    (0..groups).filter(|n| view.named_at(&name(*n)).is_some()).count()
}

/// As many groups with as many alerts each, all of which must be named; by the first words of what names them they must
/// also be counted right.
async fn storm(scene: &Scene, groups: usize, alerts: usize, deadline: Duration) -> Receiver {
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = ReceiverBuilder::of(scene).homeserver(&proxy.url()).start().await;
    let watch = Watch::on(&receiver);
    // Nothing gets out until all of it is in: what gathers behind a limit is looked at as a whole.
    proxy.fault(Match::sends(), Fault::limited(Duration::from_secs(1)));
    post_all(&receiver, groups, alerts, true).await;
    proxy.heal();
    let view = scene.room.wait_for("all of them named", deadline, |view| named(view, groups) == groups).await;
    receiver.wait_metric("outbox_ops", &[("state", "waiting")], |left| left == 0.0).await;
    watch.assert_bounded(&format!("{groups} groups of {alerts}"), &mut receiver);
    let counted = format!("{alerts} firing");
    for n in 0..groups {
        let cards = view.cards_with(&name(n));
        let line =
            cards.iter().flat_map(Message::own_lines).find(|line| line.contains(&name(n)) && line.contains(&counted));
        assert!(line.is_some(), "{} is shown with {counted}:\n{}", name(n), view.text());
    }
    receiver
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_groups_of_five_hundred_behind_a_rate_limit() {
    let scene = Scene::limited().await;
    storm(&scene, 200, 500, DEADLINE * 6).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn two_hundred_groups_of_five_hundred_without_a_limit() {
    let scene = Scene::new().await;
    storm(&scene, 200, 500, DEADLINE * 10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn a_hundred_groups_of_two_thousand() {
    let scene = Scene::limited().await;
    storm(&scene, 100, 2_000, DEADLINE * 10).await;
}

/// So many cards of 500 alerts each turn green at once: one notice names them all, and each card is edited.
async fn resolve_together(groups: usize) {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url());
    let mut receiver = builder.set("routes.default.digest_above", 0).start().await;
    let deadline = DEADLINE * 20;
    let watch = Watch::on(&receiver);
    post_all(&receiver, groups, 500, true).await;
    scene.room.wait_for("a card each", deadline, |view| view.cards().len() == groups).await;
    watch.assert_bounded(&format!("{groups} cards of 500"), &mut receiver);
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    receiver.reconfigure("[routes.default]\ndigest_above = 8");
    receiver.restart().await;
    let watch = Watch::on(&receiver);
    // However slow they come, they are looked at together.
    proxy.fault(Match::sends(), Fault::limited(Duration::from_secs(1)));
    post_all(&receiver, groups, 500, false).await;
    proxy.heal();
    let green = |view: &RoomView| view.cards().iter().all(|card| card.first_line().starts_with('🟢'));
    let view = scene.room.wait_for("everything green", deadline, green).await;
    watch.assert_bounded(&format!("{groups} cards of 500 turn green"), &mut receiver);
    let notices = view.cards().into_iter().filter(|card| card.msgtype() == "m.notice" && card.edits == 0).count();
    assert!(notices >= 1, "{}", view.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_of_five_hundred_resolve_together() {
    resolve_together(24).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn three_hundred_cards_of_five_hundred_resolve_together() {
    resolve_together(300).await;
}

/// JSON that takes many times its size where it is read as a whole.
fn made_to_hurt(kind: usize, bytes: usize) -> String {
    let alerts = match kind {
        0 => vec!["{}"; bytes / 3].join(","),
        1 => {
            let labels: Vec<String> = (0..100).map(|n| format!("\"l{n}\":\"\"")).collect();
            let alert = format!("{{\"labels\":{{{}}}}}", labels.join(","));
            vec![alert.as_str(); bytes / (alert.len() + 1)].join(",")
        }
        2 => format!("{{\"labels\":{{\"a\":[{}]}}}}", vec!["1"; bytes / 2].join(",")),
        _ => format!("{{\"labels\":{{}},\"annotations\":{{\"summary\":\"{}\"}}}}", "x".repeat(bytes)),
    };
    format!("{{\"receiver\":\"matrix\",\"groupKey\":\"hurt{kind}\",\"alerts\":[{alerts}]}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_the_largest_bodies_on_64_connections() {
    let scene = Scene::new().await;
    let mut receiver =
        ReceiverBuilder::of(&scene).set("routes.default.rooms", vec![scene.room.id.clone()]).start().await;
    let watch = Watch::on(&receiver);
    let bodies: Vec<String> = (0..4).map(|kind| made_to_hurt(kind, 4 * 1024 * 1024 - 512)).collect();
    let posts = (0..64).map(|n| {
        let (receiver, body) = (&receiver, bodies[n % bodies.len()].clone());
        async move {
            let request = receiver.request(reqwest::Method::POST, "/alerts/default").body(body);
            request.send().await.map_or(503, |answer| answer.status().as_u16())
        }
    });
    let answers = futures_util::future::join_all(posts).await;
    assert!(answers.contains(&200) && answers.iter().all(|status| [200, 503].contains(status)), "{answers:?}");
    // What was answered 503 may still be written.
    insist(&receiver, &Payload::group("After").firing(&["n01"]).json().to_string()).await;
    scene.room.wait_for("the card of what came after", DEADLINE * 2, |view| view.named_at("After").is_some()).await;
    watch.assert_bounded("64 bodies of 4 MiB", &mut receiver);
}
