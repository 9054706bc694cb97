//! The leader is killed under load, and the database is restarted: nothing is lost, and nothing is repeated.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use crate::harness::{
    Payload, Postgres, Reader, Receiver, ReceiverBuilder, RoomView, Scene,
    http::{Answer, client},
    replicas::Replicas,
};

/// From a kill until the room shows what is accepted after it: ten seconds on an idle machine, which is printed; a loaded
/// one takes longer.
const IN_STEP: Duration = Duration::from_secs(40);
/// Alertmanager gives a webhook ten seconds at least.
const PATIENCE: Duration = Duration::from_secs(10);
const BACKOFF: Duration = Duration::from_millis(300);

/// How much of everything.
struct Extent {
    replicas: usize,
    kills: usize,
    database_restarts: usize,
    /// Groups that are on their way at once.
    senders: usize,
}

/// One after the other, each at the next replica, until one takes it.
struct Sender {
    urls: Vec<String>,
    next: AtomicUsize,
    unavailable: AtomicUsize,
}

impl Sender {
    fn to(replicas: &[Receiver]) -> Arc<Self> {
        let urls = replicas.iter().map(|replica| replica.webhook_url("default")).collect();
        Arc::new(Self { urls, next: AtomicUsize::new(0), unavailable: AtomicUsize::new(0) })
    }

    async fn accept(&self, payload: Payload) {
        let body = payload.json();
        loop {
            let url = &self.urls[self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
            match Answer::to(client().post(url).timeout(PATIENCE).json(&body)).await {
                Ok(answer) if answer.status == 200 => return,
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.body),
                Err(_) => {}
            }
            self.unavailable.fetch_add(1, Ordering::Relaxed);
            sleep(BACKOFF).await;
        }
    }

    /// Groups that fire, grow and end, until `stop`; returns their names.
    async fn groups(self: Arc<Self>, sender: usize, stop: Arc<AtomicBool>) -> Vec<String> {
        let mut names = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let name = format!("Load{sender:02}x{:04}", names.len());
            self.accept(Payload::group(&name).firing(&["n01"])).await;
            self.accept(Payload::group(&name).firing(&["n01", "n02"])).await;
            sleep(BACKOFF).await;
            self.accept(Payload::group(&name).resolved(&["n01", "n02"])).await;
            names.push(name);
        }
        names
    }
}

/// Reads the room as somebody else does.
enum Eyes {
    Plain(Scene),
    Encrypted(Scene, Box<Reader>),
}

impl Eyes {
    async fn view(&self) -> RoomView {
        match self {
            Self::Plain(scene) => scene.room.view().await,
            Self::Encrypted(scene, reader) => {
                // Brings keys.
                reader.sync().await;
                reader.view(&scene.room).await
            }
        }
    }

    async fn wait_for(&self, what: &str, deadline: Duration, condition: impl Fn(&RoomView) -> bool) -> RoomView {
        let began = Instant::now();
        loop {
            let view = self.view().await;
            if condition(&view) {
                return view;
            }
            assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}, in:\n{}", view.text());
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn scene(&self) -> &Scene {
        match self {
            Self::Plain(scene) | Self::Encrypted(scene, _) => scene,
        }
    }
}

/// Events that say what another one says, by the op that each names.
fn repeats(view: &RoomView) -> usize {
    let mut ops = BTreeSet::new();
    let op = |event: &crate::harness::RoomEvent| {
        event.content["matrix_alertmanager_receiver"]["op"].as_str().unwrap_or_default().to_owned()
    };
    view.by_bot().map(op).filter(|op| !op.is_empty() && !ops.insert(op.clone())).count()
}

async fn run(eyes: Eyes, mut postgres: Postgres, extent: &Extent) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let builder = ReceiverBuilder::of(eyes.scene()).set("routes.default.digest_above", 0);
    let mut replicas = Replicas::start(builder, extent.replicas, postgres.database()).await;
    let (sender, stop) = (Sender::to(&replicas.all), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    for number in 0..extent.senders {
        senders.spawn(Arc::clone(&sender).groups(number, Arc::clone(&stop)));
    }
    let mut probes = Vec::new();
    for kill in 0..extent.kills {
        sleep(Duration::from_millis(random.random_range(300..3_000))).await;
        let leader = replicas.leader().await;
        replicas.all[leader].kill9();
        let killed = Instant::now();
        if kill * extent.database_restarts / extent.kills != (kill + 1) * extent.database_restarts / extent.kills {
            postgres.kill9();
            postgres.start();
        }
        let probe = format!("Probe{kill:02}");
        sender.accept(Payload::group(&probe).firing(&["n01"])).await;
        let accepted = killed.elapsed();
        eyes.wait_for("the room is in step", IN_STEP, |view| !view.cards_with(&probe).is_empty()).await;
        eprintln!("kill {kill}: replica-{leader}, accepted after {accepted:?}, in step after {:?}", killed.elapsed());
        probes.push(probe);
        replicas.all[leader].spawn();
        replicas.all[leader].ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    }
    stop.store(true, Ordering::Relaxed);
    let names: Vec<String> = senders.join_all().await.into_iter().flatten().collect();
    let is_over = |view: &RoomView| {
        names.iter().all(|name| view.cards_with(name).iter().any(|card| card.has("RESOLVED")))
            && probes.iter().all(|probe| !view.cards_with(probe).is_empty())
    };
    let view = eyes.wait_for("every group is shown as it is", 3 * IN_STEP, is_over).await;
    for name in names.iter().chain(&probes) {
        let cards = view.cards_with(name).len();
        assert!(cards == 1 || matches!(eyes, Eyes::Encrypted(..)), "{name} has {cards} cards");
    }
    let said_again: usize =
        replicas.all.iter().map(|replica| replica.logs().matches("may be in the room twice").count()).sum();
    let (repeats, unavailable) = (repeats(&view), sender.unavailable.load(Ordering::Relaxed));
    eprintln!("{} groups, {unavailable} tries refused, {repeats} repeats, {said_again} said", names.len());
    assert!(names.len() >= extent.kills, "there was no load");
    match eyes {
        Eyes::Plain(_) => assert_eq!(repeats, 0, "{}", view.text()),
        // What was sent again may have arrived the first time, or not.
        Eyes::Encrypted(..) => assert!(repeats <= said_again, "{repeats} repeats, {said_again} said"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_the_leader_is_killed_under_load() {
    let extent = Extent { replicas: 2, kills: 4, database_restarts: 1, senders: 3 };
    run(Eyes::Plain(Scene::new().await), Postgres::private(), &extent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_encrypted_room_the_leader_is_killed_under_load() {
    let extent = Extent { replicas: 2, kills: 3, database_restarts: 0, senders: 1 };
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    run(Eyes::Encrypted(scene, Box::new(reader)), Postgres::private(), &extent).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make chaos"]
async fn for_long_two_and_three_replicas_lose_their_leader_and_their_database() {
    for replicas in [2, 3] {
        let extent = Extent { replicas, kills: 20, database_restarts: 5, senders: 4 };
        run(Eyes::Plain(Scene::new().await), Postgres::private(), &extent).await;
    }
}

/// A replica that stands still inside a transaction holds the lock that every writer needs. PostgreSQL ends its session.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_stopped_in_a_transaction_holds_up_nobody_for_long() {
    let scene = Scene::new().await;
    let postgres = Postgres::private();
    let builder = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 0);
    let mut replicas = Replicas::start(builder, 2, postgres.database()).await;
    let follower = 1 - replicas.leader().await;
    let name = replicas.database.name().to_owned();
    let in_transaction = || {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state = 'idle in transaction' \
             AND backend_xid IS NOT NULL"
        );
        postgres.sql("postgres", &sql).trim() != "0"
    };
    let (sender, stop) = (Sender::to(&replicas.all[follower..=follower]), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    for number in 0..8 {
        senders.spawn(Arc::clone(&sender).groups(number, Arc::clone(&stop)));
    }
    let began = Instant::now();
    loop {
        replicas.all[follower].signal("STOP");
        // The leader's own transactions take milliseconds.
        if in_transaction() && in_transaction() && in_transaction() {
            break;
        }
        replicas.all[follower].signal("CONT");
        assert!(began.elapsed() < 2 * IN_STEP, "never stopped inside a transaction");
        sleep(Duration::from_millis(7)).await;
    }
    let stopped = Instant::now();
    let other = Sender::to(&replicas.all[1 - follower..=1 - follower]);
    other.accept(Payload::group("HostDown").firing(&["n01"])).await;
    let waited = stopped.elapsed();
    eprintln!("accepted {waited:?} after the stop");
    // Three seconds, and what the tries after a 503 take.
    assert!(waited < PATIENCE, "{waited:?}");
    scene.room.wait_for("the card", IN_STEP, |view| !view.cards_with("HostDown").is_empty()).await;
    assert!(!in_transaction(), "PostgreSQL has ended the session");
    replicas.all[follower].signal("CONT");
    stop.store(true, Ordering::Relaxed);
    let names: Vec<String> = senders.join_all().await.into_iter().flatten().collect();
    let is_over = |view: &RoomView| names.iter().all(|name| view.cards_with(name).len() == 1);
    let view = scene.room.wait_for("nothing is lost", 3 * IN_STEP, is_over).await;
    assert_eq!(repeats(&view), 0, "{}", view.text());
}
