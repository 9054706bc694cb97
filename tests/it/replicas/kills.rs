//! The leader is killed under load, and the database is restarted: nothing is lost, and nothing is repeated.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use super::load::{Load, PATIENCE, repeats, wall_ms};
use crate::{
    chaos::faults,
    harness::{
        DEADLINE, Fault, FaultProxy, Match, Payload, Postgres, Reader, ReceiverBuilder, RoomView, Scene,
        replicas::Replicas,
    },
};

/// From a kill until the room shows what was accepted until [`TAKE_OVER`] after it.
const IN_STEP: Duration = Duration::from_secs(10);
/// The same, on a machine that runs other tests.
const IN_STEP_UNDER_LOAD: Duration = Duration::from_secs(40);
/// Others lead by then.
const TAKE_OVER: Duration = Duration::from_secs(5);
/// How long a room is watched for what must not come any more.
const QUIET: Duration = Duration::from_secs(3);
const MOST_DEAD_MS: u64 = 3_000;

/// How much of everything.
struct Extent {
    replicas: usize,
    kills: usize,
    database_restarts: usize,
    /// Groups that are on their way at once.
    senders: usize,
    in_step: Duration,
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

    fn scene(&self) -> &Scene {
        match self {
            Self::Plain(scene) | Self::Encrypted(scene, _) => scene,
        }
    }

    /// Waits until the last of what was sent is shown, and nothing more comes; then all is as it last was, and once.
    async fn settled(&self, load: &Load, deadline: Duration) -> RoomView {
        let began = Instant::now();
        let mut events = 0;
        let view = loop {
            let view = self.view().await;
            let lost = load.shown_by(&view, i64::MAX).err();
            if lost.is_none() && view.events.len() == events {
                break view;
            }
            assert!(began.elapsed() < deadline, "not within {deadline:?}: {lost:?}");
            events = view.events.len();
            sleep(QUIET).await;
        };
        // In encrypted rooms repeats are judged by their number.
        let faults = if matches!(self, Self::Plain(_)) { faults(0, &view, &load.sent()) } else { Vec::new() };
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
        view
    }
}

/// What the next leader can find out about a send whose answer was lost.
#[derive(Clone, Copy, PartialEq)]
enum Doubt {
    /// It finds the event in the room.
    Readable,
    /// It may not read the room, and sends again.
    Unreadable,
}

/// What happens to the replicas and their database.
struct Trouble {
    replicas: Replicas,
    postgres: Postgres,
    proxy: FaultProxy,
    random: StdRng,
    /// What was killed, and when, in milliseconds since the epoch.
    kills: Vec<(String, i64)>,
    /// `possible_duplicates_total` of the processes that are gone.
    possible: f64,
}

impl Trouble {
    /// `doubt`: in the middle of a send that has arrived.
    async fn kill_leader(&mut self, and_database: bool, doubt: Option<Doubt>) {
        self.proxy.heal();
        let leader = self.replicas.leader().await;
        let mut held = doubt.map(|_| self.proxy.hold(Match::sends()));
        let held = match &mut held {
            Some(held) => Some(held.next(DEADLINE).await),
            None => None,
        };
        self.possible += self.replicas.all[leader].metric("possible_duplicates_total", &[]).await;
        self.replicas.all[leader].kill9();
        drop(held);
        self.proxy.heal();
        if doubt == Some(Doubt::Unreadable) {
            let history = Match::when(|request| request.path.ends_with("/messages"));
            self.proxy.fault(history, Fault::error(403, "M_FORBIDDEN"));
        }
        let and = if and_database { " and the database" } else { "" };
        self.kills.push((format!("replica-{leader}{and}"), wall_ms()));
        if and_database {
            self.postgres.kill9();
            self.postgres.start();
        }
        sleep(Duration::from_millis(self.random.random_range(0..MOST_DEAD_MS))).await;
        self.replicas.all[leader].spawn();
        self.replicas.all[leader].ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    }

    fn kill_database(&mut self) {
        self.postgres.kill9();
        self.kills.push(("the database".to_owned(), wall_ms()));
        self.postgres.start();
    }

    /// Until the room must be in step after the last kill, and a random while longer.
    async fn rest(&mut self) {
        let since = self.kills.last().map_or(0, |(_, at)| wall_ms() - at);
        let left = IN_STEP.saturating_sub(Duration::from_millis(u64::try_from(since).unwrap_or_default()));
        sleep(left + Duration::from_millis(self.random.random_range(0..3_000))).await;
    }

    /// How often a replica has said that an event may be in the room twice.
    async fn possible_duplicates(&self) -> f64 {
        let mut possible = self.possible;
        for replica in &self.replicas.all {
            possible += replica.metric("possible_duplicates_total", &[]).await;
        }
        possible
    }
}

async fn run(eyes: Eyes, extent: &Extent) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("SEED={seed}");
    let postgres = Postgres::private();
    let proxy = FaultProxy::start(&eyes.scene().synapse.url()).await;
    let builder = ReceiverBuilder::of(eyes.scene()).homeserver(&proxy.url()).set("routes.default.digest_above", 0);
    let replicas = Replicas::start(builder, extent.replicas, postgres.database()).await;
    let load = Arc::new(Load::on(&replicas.all));
    let random = StdRng::seed_from_u64(seed);
    let mut trouble = Trouble { replicas, postgres, proxy, random, kills: Vec::new(), possible: 0.0 };
    let mut senders = JoinSet::new();
    for number in 0..extent.senders {
        let load = Arc::clone(&load);
        senders.spawn(async move { load.run(number).await });
    }
    let mut restarts = 0;
    for kill in 0..extent.kills {
        trouble.rest().await;
        // Every other one at the same moment as the leader.
        let restarts_now = (kill + 1) * extent.database_restarts / extent.kills != restarts;
        restarts += usize::from(restarts_now);
        let together = restarts_now && restarts % 2 == 1;
        if restarts_now && !together {
            trouble.kill_database();
            trouble.rest().await;
        }
        let odd = kill % 2 == 1;
        let doubt = match eyes {
            // The homeserver answers by the transaction id.
            Eyes::Plain(_) => odd.then_some(Doubt::Readable),
            Eyes::Encrypted(..) if odd => Some(Doubt::Unreadable),
            Eyes::Encrypted(..) => Some(Doubt::Readable),
        };
        trouble.kill_leader(together, doubt).await;
    }
    trouble.rest().await;
    trouble.proxy.heal();
    load.stop.store(true, Ordering::Relaxed);
    senders.join_all().await;
    let view = eyes.settled(&load, 3 * IN_STEP_UNDER_LOAD).await;
    judge(&eyes, extent, &trouble, &load, &view).await;
}

async fn judge(eyes: &Eyes, extent: &Extent, trouble: &Trouble, load: &Load, view: &RoomView) {
    let mut late = Vec::new();
    for (what, at) in &trouble.kills {
        let take_over = i64::try_from(TAKE_OVER.as_millis()).expect("seconds");
        let shown = load.shown_by(view, at + take_over).unwrap_or_else(|lost| panic!("{lost}"));
        let after = Duration::from_millis(u64::try_from(shown - at).unwrap_or_default());
        eprintln!("{what} killed: in step after {after:?}");
        if after > extent.in_step {
            late.push(format!("{what}: {after:?}"));
        }
    }
    let (groups, possible, repeats) = (load.sent().len(), trouble.possible_duplicates().await, repeats(view));
    let unavailable = load.unavailable.load(Ordering::Relaxed);
    eprintln!(
        "{} replicas, {} kills, {groups} groups, {} events, {unavailable} tries not taken, {repeats} repeats, \
         possible_duplicates_total {possible}",
        extent.replicas,
        trouble.kills.len(),
        view.by_bot().count()
    );
    assert!(groups >= extent.kills, "there was no load");
    assert!(late.is_empty(), "not in step within {:?}: {late:?}", extent.in_step);
    match eyes {
        Eyes::Plain(_) => assert_eq!((repeats, possible), (0, 0.0)),
        Eyes::Encrypted(..) => assert_eq!(repeats as f64, possible, "repeats, and those that were said"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_the_leader_is_killed_under_load() {
    let extent = Extent { replicas: 2, kills: 3, database_restarts: 1, senders: 3, in_step: IN_STEP_UNDER_LOAD };
    run(Eyes::Plain(Scene::new().await), &extent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_encrypted_room_the_leader_is_killed_under_load() {
    let extent = Extent { replicas: 2, kills: 3, database_restarts: 0, senders: 1, in_step: IN_STEP_UNDER_LOAD };
    run(encrypted().await, &extent).await;
}

async fn encrypted() -> Eyes {
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    Eyes::Encrypted(scene, Box::new(reader))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make chaos"]
async fn for_long_two_and_three_replicas_lose_their_leader_and_their_database() {
    for replicas in [2, 3] {
        let extent = Extent { replicas, kills: 20, database_restarts: 5, senders: 4, in_step: IN_STEP };
        run(Eyes::Plain(Scene::new().await), &extent).await;
    }
    let extent = Extent { replicas: 2, kills: 10, database_restarts: 2, senders: 2, in_step: IN_STEP };
    run(encrypted().await, &extent).await;
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
    // The sessions that have written something and are not done, each with the beginning of its transaction.
    let in_transaction = || {
        let sql = format!(
            "SELECT pid, xact_start FROM pg_stat_activity WHERE datname = '{name}' AND state = 'idle in transaction' \
             AND backend_xid IS NOT NULL"
        );
        let rows = postgres.sql("postgres", &sql);
        rows.lines().map(str::trim).filter(|row| !row.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let load = Arc::new(Load::on(&replicas.all[follower..=follower]));
    let mut senders = JoinSet::new();
    for number in 0..8 {
        let load = Arc::clone(&load);
        senders.spawn(async move { load.run(number).await });
    }
    let began = Instant::now();
    let open = loop {
        replicas.all[follower].signal("STOP");
        // The leader's own transactions take milliseconds.
        let mut open = in_transaction();
        for _ in 0..2 {
            open = open.intersection(&in_transaction()).cloned().collect();
        }
        if !open.is_empty() {
            break open;
        }
        replicas.all[follower].signal("CONT");
        assert!(began.elapsed() < 2 * IN_STEP_UNDER_LOAD, "never stopped inside a transaction");
        sleep(Duration::from_millis(7)).await;
    };
    let stopped = Instant::now();
    let other = Load::on(&replicas.all[1 - follower..=1 - follower]);
    other.accept(Payload::group("HostDown").firing(&["n01"])).await;
    let waited = stopped.elapsed();
    eprintln!("accepted {waited:?} after the stop");
    // Three seconds, and what the tries after a 503 take.
    assert!(waited < PATIENCE, "{waited:?}");
    scene.room.wait_for("the card", IN_STEP_UNDER_LOAD, |view| !view.cards_with("HostDown").is_empty()).await;
    assert!(in_transaction().is_disjoint(&open), "PostgreSQL has ended the session");
    replicas.all[follower].signal("CONT");
    load.stop.store(true, Ordering::Relaxed);
    senders.join_all().await;
    Eyes::Plain(scene).settled(&load, 3 * IN_STEP_UNDER_LOAD).await;
}
