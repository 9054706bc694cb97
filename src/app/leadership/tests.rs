//! A scripted lease, and terms that note what happens to them.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use super::*;

/// What happened, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().expect("no panic").push(what.into());
}

/// The lease of a store in which only one other replica may be.
#[derive(Clone, Default)]
struct Scripted {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    log: Log,
}

#[derive(Default)]
struct State {
    /// Who has it.
    holder: Option<u32>,
    is_away: bool,
    taken: u32,
}

const OTHER: u32 = 1_000;

impl Scripted {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no panic"));
    }

    fn ask<T>(&self, ask: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let mut state = self.state.lock().expect("no panic");
        if state.is_away { Err(StoreError::Stopped) } else { Ok(ask(&mut state)) }
    }
}

impl Lease for Scripted {
    type Epoch = u32;

    async fn leader(&self) -> Result<Option<Leader<u32>>, StoreError> {
        self.ask(|state| {
            let leader = |epoch| Leader { replica: "B".to_owned(), epoch, left: Duration::from_secs(5) };
            state.holder.map(leader)
        })
    }

    async fn take(&self) -> Result<Option<u32>, StoreError> {
        self.ask(|state| {
            state.holder.is_none().then(|| {
                state.taken += 1;
                state.holder = Some(state.taken);
                state.taken
            })
        })
    }

    async fn keep(&self, epoch: &u32) -> Result<bool, StoreError> {
        self.ask(|state| state.holder == Some(*epoch))
    }

    async fn give_up(&self, epoch: &u32) -> Result<(), StoreError> {
        note(&self.log, format!("give up {epoch}"));
        self.ask(|state| {
            state.holder.take_if(|holder| holder == epoch);
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Noted {
    log: Log,
    /// Whether a task of the term ignores its stop.
    hangs: Arc<AtomicBool>,
}

impl Terms for Noted {
    type Epoch = u32;

    fn begin(&self, epoch: u32, deadline: Deadline, lifecycle: &Lifecycle) {
        note(&self.log, format!("begin {epoch}"));
        let (log, stop, hangs) = (Arc::clone(&self.log), lifecycle.stop(), Arc::clone(&self.hangs));
        lifecycle.spawn(async move {
            assert!(!deadline.has_passed());
            stop.cancelled().await;
            if hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            note(&log, "task ended");
        });
    }

    fn ended(&self) {
        note(&self.log, "ended");
    }

    fn saw(&self, seen: Seen<'_>) {
        let seen = format!("{seen:?}");
        if self.log.lock().expect("no panic").last() != Some(&seen) {
            note(&self.log, seen);
        }
    }

    fn changed(&self) {
        note(&self.log, "changed");
    }

    fn can_deliver(&self) -> bool {
        true
    }
}

struct Scene {
    lease: Scripted,
    hangs: Arc<AtomicBool>,
    lifecycle: Lifecycle,
}

impl Scene {
    fn start(lease: Scripted) -> Self {
        let (lifecycle, hangs) = (Lifecycle::new(), Arc::new(AtomicBool::new(false)));
        let terms = Noted { log: Arc::clone(&lease.log), hangs: Arc::clone(&hangs) };
        lifecycle.spawn(Leadership::new("A".to_owned(), lease.clone(), terms).run(lifecycle.clone()));
        Self { lease, hangs, lifecycle }
    }

    fn log(&self) -> Vec<String> {
        self.lease.log.lock().expect("no panic").clone()
    }

    /// Waits until this has happened.
    async fn until(&self, what: &str) {
        let seen = async {
            while !self.log().iter().any(|happened| happened == what) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), seen).await.unwrap_or_else(|_| panic!("no {what}: {:?}", self.log()));
    }
}

#[tokio::test]
async fn at_a_stop_the_term_ends_before_the_lease_is_given_back() {
    let scene = Scene::start(Scripted::default());
    scene.until("begin 1").await;
    assert!(scene.lifecycle.finish().await);
    assert_eq!(scene.log(), ["Nobody", "Us", "begin 1", "task ended", "ended", "give up 1", "Unknown"]);
}

#[tokio::test]
async fn a_send_that_hangs_holds_up_no_stop() {
    let scene = Scene::start(Scripted::default());
    scene.hangs.store(true, Ordering::Relaxed);
    scene.until("begin 1").await;
    assert!(scene.lifecycle.finish().await);
    assert_eq!(scene.log()[2..], ["begin 1", "ended", "give up 1", "Unknown"]);
}

#[tokio::test]
async fn a_follower_leads_as_soon_as_the_lease_is_given_back() {
    let lease = Scripted::default();
    lease.change(|state| state.holder = Some(OTHER));
    let scene = Scene::start(lease);
    scene.until("Other(\"B\")").await;
    scene.lease.change(|state| state.holder = None);
    scene.lease.changes.send_modify(|changes| *changes += 1);
    scene.until("begin 1").await;
    assert_eq!(scene.log(), ["Other(\"B\")", "Nobody", "changed", "Us", "begin 1"]);
    // Somebody else has taken it meanwhile, which the next renewal finds.
    scene.lease.change(|state| state.holder = Some(OTHER + 1));
    scene.until("ended").await;
    scene.until("Other(\"B\")").await;
    assert!(scene.lifecycle.finish().await);
}

#[tokio::test]
async fn without_a_renewal_the_term_ends_and_a_new_one_begins_when_the_store_is_back() {
    let scene = Scene::start(Scripted::default());
    scene.hangs.store(true, Ordering::Relaxed);
    scene.until("begin 1").await;
    let began = Instant::now();
    scene.lease.change(|state| state.is_away = true);
    scene.until("ended").await;
    assert!(began.elapsed() + Duration::from_millis(200) >= LEADS_FOR, "not before its time");
    scene.lease.change(|state| (state.is_away, state.holder) = (false, None));
    scene.until("begin 2").await;
    assert!(scene.lifecycle.finish().await);
    let log = scene.log();
    assert_eq!(log[..6], ["Nobody", "Us", "begin 1", "ended", "give up 1", "Unknown"], "{log:?}");
}
