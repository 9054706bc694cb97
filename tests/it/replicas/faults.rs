//! Faults of the database: away, failed over, read-only, full, slow, and an answer to a commit that is lost.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;

use crate::harness::{
    DEADLINE, Database, FaultProxy, Match, Payload, Postgres, PostgresProxy, Receiver, ReceiverBuilder, RoomView,
    Scene, SmallDisk, Statement, StatementFault, eventually,
    http::{Answer, client},
};

/// How long a room is watched for a second message that must not come.
const QUIET: Duration = Duration::from_secs(3);
/// Longer than a lease, so that the receiver no longer leads when its database is back.
const AWAY: Duration = Duration::from_secs(8);
/// What fits into a small disk's free pages ends before this.
const MANY: usize = 500;

/// A receiver whose database is reached through a proxy, and what it has answered.
struct Site {
    scene: Scene,
    database: Arc<Database>,
    proxy: PostgresProxy,
    receiver: Receiver,
    posted: Vec<String>,
    accepted: BTreeSet<String>,
}

impl Site {
    async fn on(postgres: &Postgres, scene: Scene, builder: ReceiverBuilder) -> Self {
        let database = Arc::new(postgres.database());
        let proxy = PostgresProxy::before(postgres.port()).await;
        let receiver = builder.on(&database, &database.url_at(proxy.port())).start().await;
        Self { scene, database, proxy, receiver, posted: Vec::new(), accepted: BTreeSet::new() }
    }

    async fn start(postgres: &Postgres) -> Self {
        let scene = Scene::new().await;
        let builder = ReceiverBuilder::of(&scene);
        Self::on(postgres, scene, builder).await
    }

    /// A new group, with a name that is part of no other.
    fn name(&mut self) -> String {
        self.posted.push(format!("Fault{:04}", self.posted.len()));
        self.posted[self.posted.len() - 1].clone()
    }

    /// Posts what may not be accepted; whether it was.
    async fn post(&mut self, name: &str) -> bool {
        let request = self.receiver.request(Method::POST, "/alerts/default");
        let answer = Answer::to(request.json(&payload(name)).timeout(DEADLINE)).await.expect("an answer");
        self.note(name, &answer)
    }

    fn note(&mut self, name: &str, answer: &Answer) -> bool {
        if answer.status == 200 {
            self.accepted.insert(name.to_owned());
            return true;
        }
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.body);
        false
    }

    async fn post_new(&mut self) -> bool {
        let name = self.name();
        self.post(&name).await
    }

    /// Posts until one is refused and health says so, for this reason.
    async fn refuses(&mut self, reason: &str) {
        for _ in 0..MANY {
            if self.post_new().await {
                continue;
            }
            assert_eq!(self.receiver.get("/livez").await.status, 200);
            let (health, ready) = (self.receiver.get("/healthz").await, self.receiver.get("/readyz").await);
            let says = |body: &str| body.contains("webhooks cannot be committed") && body.contains(reason);
            // What fits into the free space of a page is committed in between.
            if [&health, &ready].iter().all(|answer| answer.status == 503 && says(&answer.body)) {
                return;
            }
        }
        panic!("health never said {reason:?}");
    }

    /// Posts again whatever was refused, as Alertmanager does, until all is accepted; then all is in the store and shown
    /// once in the room.
    async fn recovers(&mut self, postgres: &Postgres) {
        let end = Instant::now() + 2 * DEADLINE;
        for name in self.posted.clone() {
            while !self.accepted.contains(&name) {
                assert!(Instant::now() < end, "{name} is not accepted");
                self.post(&name).await;
            }
        }
        for name in &self.accepted {
            assert_eq!(stored(postgres, &self.database, name), 1, "{name}");
        }
        let all = |view: &RoomView| self.posted.iter().all(|name| view.cards_with(name).len() == 1);
        self.scene.room.wait_for("each in one card", 3 * DEADLINE, all).await;
        self.scene.room.assert_settled("nothing twice", QUIET, all).await;
        eventually("all well", DEADLINE, async || {
            let ready = self.receiver.get("/readyz").await.status == 200;
            (ready && self.receiver.get("/healthz").await.json()["status"] == "ok").then_some(())
        })
        .await;
    }

    /// What was answered 200 by now is in the store.
    fn kept(&self, postgres: &Postgres) {
        for name in &self.accepted {
            assert_eq!(stored(postgres, &self.database, name), 1, "{name} was answered 200");
        }
    }
}

fn payload(name: &str) -> serde_json::Value {
    Payload::group(name).firing(&["n01"]).json()
}

/// How many incidents of this name the server holds.
fn stored(postgres: &Postgres, database: &Database, name: &str) -> usize {
    let sql = format!("SELECT count(*) FROM incident WHERE group_key LIKE '%{name}%'");
    postgres.sql(database.name(), &sql).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_a_while_loses_and_repeats_nothing() {
    let mut postgres = Postgres::private();
    let scene = Scene::new().await;
    let homeserver = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&homeserver.url());
    let mut site = Site::on(&postgres, scene, builder).await;
    assert!(site.post_new().await);
    site.scene.room.wait_for("the first", DEADLINE, |view| view.cards().len() == 1).await;

    // One card is in the room and its answer on the way, another has not been sent yet.
    let mut answers = homeserver.hold(Match::sends_with("Fault0001"));
    for _ in 0..2 {
        assert!(site.post_new().await);
    }
    let held = answers.next(DEADLINE).await;
    postgres.stop().await;
    homeserver.heal();
    held.release();
    let since = Instant::now();
    while since.elapsed() < AWAY {
        site.refuses("").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(site.accepted.len(), 3, "nothing was accepted without a database");
    postgres.start();
    site.receiver.wait_log(&["the store commits again"]).await;
    site.recovers(&postgres).await;
    assert!(!site.receiver.logs().contains("may be in the room twice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_to_a_synchronous_standby_keeps_all_that_was_accepted() {
    let mut postgres = Postgres::private();
    let mut standby = postgres.standby();
    postgres.synchronous(true);
    let mut site = Site::start(&postgres).await;
    for _ in 0..5 {
        assert!(site.post_new().await);
    }
    // The standby goes first: a commit is on the primary alone, and an administrator ends the wait for the standby.
    standby.kill9();
    let name = site.name();
    let request = site.receiver.request(Method::POST, "/alerts/default").json(&payload(&name)).timeout(DEADLINE);
    let answer = tokio::spawn(Answer::to(request));
    eventually("it waits for the standby", DEADLINE, async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        (postgres.sql("postgres", waiting) != "0").then_some(())
    })
    .await;
    postgres.end_sessions();
    let answer = answer.await.expect("no panic").expect("an answer");
    assert!(!site.note(&name, &answer), "no standby has it: {}", answer.body);
    postgres.kill9();
    assert!(!site.post_new().await);

    standby.start();
    standby.promote();
    site.proxy.lead_to(standby.port());
    site.kept(&standby);
    site.receiver.wait_log(&["the store commits again"]).await;
    for _ in 0..3 {
        site.post_new().await;
    }
    site.recovers(&standby).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_under_load_keeps_all_that_was_accepted() {
    let mut postgres = Postgres::private();
    let standby = postgres.standby();
    postgres.synchronous(true);
    let mut site = Site::start(&postgres).await;
    let url = site.receiver.webhook_url("default");
    let names: Vec<String> = (0..20).map(|_| site.name()).collect();
    let load = tokio::spawn({
        let names = names.clone();
        async move {
            let client = client();
            let mut accepted = Vec::new();
            for name in names {
                let answer = client.post(&url).json(&payload(&name)).timeout(DEADLINE).send().await.expect("an answer");
                assert!([200, 503].contains(&answer.status().as_u16()), "{answer:?}");
                if answer.status() == 200 {
                    accepted.push(name);
                }
            }
            accepted
        }
    });
    eventually("some are stored", DEADLINE, async || (stored(&postgres, &site.database, "Fault") >= 5).then_some(()))
        .await;
    postgres.kill9();
    standby.promote();
    site.proxy.lead_to(standby.port());
    site.accepted.extend(load.await.expect("no panic"));
    assert!(site.accepted.len() >= 4, "{:?}", site.accepted);
    site.kept(&standby);
    site.recovers(&standby).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_waited_for() {
    let postgres = Postgres::private();
    let mut site = Site::start(&postgres).await;
    assert!(site.post_new().await);
    postgres.read_only(true);
    site.refuses("read-only").await;
    site.kept(&postgres);
    postgres.read_only(false);
    site.receiver.wait_log(&["the store commits again"]).await;
    site.recovers(&postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_is_waited_for() {
    let Some(postgres) = Postgres::on_small_disk(SmallDisk::Tables) else { return };
    let mut site = Site::start(&postgres).await;
    assert!(site.post_new().await);
    postgres.fill_disk();
    // What fits into the free space of a page is committed, more is not.
    while site.post_new().await {
        assert!(site.posted.len() < MANY, "the disk is full");
    }
    site.receiver.wait_log(&["answered 503", "SQLSTATE 53100"]).await;
    site.kept(&postgres);
    let receiver = &site.receiver;
    let status = async |path: &str| receiver.get(path).await.status;
    eventually("health says so", DEADLINE, async || {
        (status("/readyz").await == 503 && status("/healthz").await == 503).then_some(())
    })
    .await;
    // And goes on saying so while nobody posts: what finds out whether it is over needs room itself.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(status("/readyz").await, 503);
    }
    postgres.free_disk();
    site.recovers(&postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_accepts_only_what_it_commits() {
    let postgres = Postgres::private();
    let mut site = Site::start(&postgres).await;
    assert!(site.post_new().await);
    site.proxy.fault(Statement::all(), StatementFault::Slow(Duration::from_secs(2)));
    for _ in 0..4 {
        site.post_new().await;
        site.kept(&postgres);
        assert_eq!(site.receiver.get("/livez").await.status, 200);
    }
    site.proxy.heal();
    site.recovers(&postgres).await;
}

/// The commit of a webhook, which wakes other replicas.
fn webhooks_commit() -> Statement {
    Statement::when(|said| said.writes && said.sql.contains("mar_wake") && said.sql.contains("COMMIT"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_commit_is_looked_up() {
    let postgres = Postgres::private();
    let mut site = Site::start(&postgres).await;
    assert!(site.post_new().await);
    site.scene.room.wait_for("the first", DEADLINE, |view| view.cards().len() == 1).await;
    let found = async |receiver: &Receiver, committed: &str, times: usize| {
        eventually("the log says what was found", DEADLINE, async || {
            let logs = receiver.logs();
            let lines = logs.lines().filter(|line| line.contains("answer of a commit was lost, looked up"));
            (lines.filter(|line| line.contains(committed)).count() == times).then_some(())
        })
        .await;
    };

    site.proxy.fault_times(1, webhooks_commit(), StatementFault::CutAfter);
    let name = site.name();
    assert!(site.post(&name).await, "it is committed");
    assert_eq!(stored(&postgres, &site.database, &name), 1);
    found(&site.receiver, "committed=true", 1).await;

    site.scene.room.wait_for("the second", DEADLINE, |view| view.cards_with(&name).len() == 1).await;
    site.proxy.fault_times(1, webhooks_commit(), StatementFault::Cut);
    let name = site.name();
    assert!(!site.post(&name).await, "it is not committed");
    assert_eq!(stored(&postgres, &site.database, &name), 0);
    found(&site.receiver, "committed=false", 1).await;
    assert!(site.post(&name).await, "and can be posted again");

    // Found too late for the webhook: the repeat finds it in the store.
    site.scene.room.wait_for("the third", DEADLINE, |view| view.cards_with(&name).len() == 1).await;
    site.proxy.fault_times(1, webhooks_commit(), StatementFault::HangAfter);
    let name = site.name();
    assert!(!site.post(&name).await, "nobody knows yet");
    found(&site.receiver, "committed=true", 2).await;
    site.recovers(&postgres).await;
}
