//! Everything fails while alerts come: the network in every way, the receiver itself by SIGKILL, and the clock. What was answered
//! 200 is in the room all the same, once and as it last was.

mod plan;
mod readers;
mod rolling;
mod sender;
mod verdict;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

use self::{
    plan::{Deed, Plan, Trouble, What, Whom},
    readers::Readers,
};
pub use self::{
    plan::{Group, Step},
    sender::Sent,
    verdict::faults,
};
use crate::{
    harness::{
        DEADLINE, Fault, FaultProxy, Kind, Match, NewRoom, Reader, Receiver, ReceiverBuilder, Reply, Room, RoomEvent,
        Scene, WallClock, eventually, http::Answer, open_files,
    },
    memory::{MOST_KIB, Watch},
};

/// How long a room is watched for what must not come any more.
const QUIET: Duration = Duration::from_secs(2);

/// Sends that did not get the homeserver's answer, at least, or the run proves nothing.
const FAILED: usize = 3;

/// Any seed must do; this one has every trouble in it.
const SEED: u64 = 25_542;
const LOAD: Duration = Duration::from_secs(20);
const GROUPS: usize = 50;

/// Each loads the machine so much that the other would no longer be about what it is about.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_in_the_room_once_whatever_fails() {
    run(SEED, LOAD, GROUPS).await;
}

/// `make chaos`; `SECONDS` and `SEED` say for how long and which.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make chaos"]
async fn for_long() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seconds: u64 = number("SECONDS").unwrap_or(600);
    run(
        number("SEED").unwrap_or_else(rand::random),
        Duration::from_secs(seconds),
        usize::try_from(seconds).expect("a number") / 2,
    )
    .await;
}

/// Says how to repeat a run that failed.
struct Repro(String);

impl Drop for Repro {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("chaos failed; the same plan again: {}", self.0);
        }
    }
}

async fn run(seed: u64, load: Duration, groups: usize) {
    let _turn = TURN.lock().await;
    let reported = Repro(format!("make chaos SEED={seed} SECONDS={}", load.as_secs()));
    let plan = Plan::of(seed, load, groups);
    eprintln!(
        "{}: {groups} groups, {} kills, {} piles of readers that do not read",
        reported.0,
        plan.kills(),
        plan.piles()
    );
    assert!(plan.piles() > 0 || load < Duration::from_secs(12), "each plan has one");
    open_files();
    let scene = Scene::new().await;
    let (rooms, reader) = rooms(&scene).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let clock = WallClock::new();
    let mut receiver = builder(&scene, &rooms).homeserver(&proxy.url()).wall_clock(&clock).start().await;
    let began = Instant::now();
    let senders = sender::send_all(&plan.groups, &receiver, began);
    let mut held = Held { watch: Watch::on(&receiver), most: 0 };
    perform(&plan, &proxy, &rooms, &clock, &mut receiver, &mut held, began).await;
    receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    let sent = senders.join_all().await;
    settled(&receiver).await;
    let held = held.end();
    let faults = judge(&rooms, &reader, &sent).await;
    report(&receiver, &rooms, &sent, began).await;
    let (sends, answered) = proxy.sends();
    eprintln!("{sends} sends, of which {answered} were answered as the homeserver did");
    eprintln!("at most {} MiB held", held / 1024);
    assert!(held < MOST_KIB, "{} MiB held of {} MiB", held / 1024, MOST_KIB / 1024);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(sends >= answered + FAILED, "hardly anything failed");
}

/// The rooms of the plan, and who can read the encrypted one.
async fn rooms(scene: &Scene) -> ([Room; 3], Reader) {
    // A new key with every event, so that there are always requests for keys to fail.
    let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 1 });
    let state = json!([{ "type": "m.room.encryption", "state_key": "", "content": encryption }]);
    let sealed = NewRoom::named("sealed").with("initial_state", state);
    let sealed = Room::with(&scene.sre, &scene.bot, sealed).await;
    ([scene.room.clone(), scene.another_room("team").await, sealed], Reader::new(&scene.sre).await)
}

fn builder(scene: &Scene, rooms: &[Room]) -> ReceiverBuilder {
    let builder = plan::ROUTES.iter().fold(ReceiverBuilder::new(&scene.bot), |builder, (name, of)| {
        let ids: Vec<&str> = of.iter().map(|room| rooms[*room].id.as_str()).collect();
        builder.route(name, &ids)
    });
    // One of the rooms never has digests, so that there is more to send.
    builder.set("routes.team.digest_above", 0).set("routes.both.digest_above", 0)
}

/// What the processes took of memory, one after the other.
struct Held {
    watch: Watch,
    most: u64,
}

impl Held {
    fn next(&mut self, receiver: &Receiver) {
        let before = std::mem::replace(&mut self.watch, Watch::on(receiver));
        self.most = self.most.max(before.end());
    }

    fn end(self) -> u64 {
        self.most.max(self.watch.end())
    }
}

async fn perform(
    plan: &Plan,
    proxy: &FaultProxy,
    rooms: &[Room],
    clock: &WallClock,
    receiver: &mut Receiver,
    held: &mut Held,
    began: Instant,
) {
    let mut unread = None;
    for (at, deed) in &plan.deeds {
        sleep_until(began + *at).await;
        match deed {
            Deed::Kill => {
                let status = receiver.exit_status();
                assert!(status.is_none(), "it ended by itself: {status:?}\n{}", receiver.log_tail());
                receiver.kill9();
                receiver.spawn();
                held.next(receiver);
            }
            Deed::SetClock(ahead) => clock.set(*ahead),
            Deed::Begin(trouble) => begin(*trouble, proxy, rooms).await,
            Deed::End(trouble) => end(*trouble, proxy).await,
            Deed::Unread(true) => unread = Some(Readers::begin(&receiver.address())),
            Deed::Unread(false) => {
                eventually("an answer among those that nobody reads", DEADLINE, async || {
                    let request = receiver.request(reqwest::Method::GET, "/livez").timeout(Duration::from_secs(5));
                    (Answer::to(request).await.ok()?.status == 200).then_some(())
                })
                .await;
                unread = None;
            }
        }
    }
    drop(unread);
}

async fn begin(trouble: Trouble, proxy: &FaultProxy, rooms: &[Room]) {
    let fault = match trouble.what {
        What::Refuse => return proxy.down().await,
        What::Cut => Fault::Cut,
        What::CutAfter => Fault::CutAfter,
        What::Hang => Fault::Hang,
        What::HangAfter => Fault::HangAfter,
        What::Limit(millis) => Fault::limited(Duration::from_millis(millis)),
        What::Fail => Fault::error(500, "M_UNKNOWN"),
        What::FailAfter => Fault::RespondAfter(Reply::error(500, "M_UNKNOWN")),
        What::Gateway => Fault::bad_gateway(),
        What::GarbageAfter => Fault::RespondAfter(Reply::garbage()),
        What::Reject => Fault::error(400, "M_BAD_JSON"),
    };
    let requests = match trouble.whom {
        Whom::Keys => Match::when(|request| request.kind == Kind::Keys || request.path.ends_with("/members")),
        Whom::All => Match::all(),
        Whom::Sends => Match::sends(),
        Whom::Room(number) => Match::sends_to(&rooms[number].id),
        Whom::Some(every) => {
            let seen = AtomicUsize::new(0);
            Match::when(move |request| {
                request.kind == Kind::Send && seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(every)
            })
        }
    };
    proxy.fault(requests, fault);
}

async fn end(trouble: Trouble, proxy: &FaultProxy) {
    proxy.heal();
    match trouble.what {
        What::Refuse => proxy.up().await,
        // What hangs is let go, or it would take the receiver's whole patience.
        What::Hang | What::HangAfter => {
            proxy.down().await;
            proxy.up().await;
        }
        _ => {}
    }
}

/// Waits until nothing is left to deliver.
async fn settled(receiver: &Receiver) {
    eventually("nothing left to deliver", 4 * DEADLINE, async || {
        let metrics = receiver.metrics().await;
        let left: f64 = ["waiting", "in_flight", "in_doubt", "parked"]
            .iter()
            .map(|state| metrics.sum("outbox_ops", &[("state", state)]))
            .sum();
        (left == 0.0).then_some(())
    })
    .await;
}

async fn judge(rooms: &[Room], reader: &Reader, sent: &[Sent]) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, room) in rooms.iter().enumerate() {
        let before = room.view().await.events.len();
        let mut view = room.assert_settled("nothing more", QUIET, |view| view.events.len() == before).await;
        if number == plan::SEALED {
            let sealed = |event: &RoomEvent| event.sender == room.bot && event.event_type == "m.room.encrypted";
            assert!(view.by_bot().next().is_none() && view.events.iter().any(sealed), "in the clear, or nothing");
            view = reader.wait_for(room, "all is read", |view| !view.events.iter().any(sealed)).await;
        }
        let wrong = verdict::faults(number, &view, sent);
        if !wrong.is_empty() {
            eprintln!("--- room {number}\n{}---", view.text());
        }
        faults.extend(wrong);
    }
    faults
}

async fn report(receiver: &Receiver, rooms: &[Room], sent: &[Sent], began: Instant) {
    let accepted = sent.iter().filter(|sent| sent.accepted.is_some()).count();
    let retries: usize = sent.iter().map(|sent| sent.refused + sent.unavailable + sent.broken.len()).sum();
    let mut events = 0;
    for room in rooms {
        events += room.view().await.by_bot().count();
    }
    let logs = receiver.logs();
    let said = |words: &str| logs.lines().filter(|line| line.contains(words)).count();
    // Counters start again with each process; the log has them all.
    let (doubtful, dead) = (said("may be in the room twice"), said("refused in every form"));
    eprintln!(
        "{accepted} of {} groups accepted after {retries} failed tries, {events} events in {} rooms, {:?}; \
         possible_duplicates_total {doubtful}, dead letters {dead}",
        sent.len(),
        rooms.len(),
        began.elapsed()
    );
    assert_eq!(dead, 0, "dead letters");
    assert!(accepted > sent.len() / 2, "hardly anything was accepted");
    let odd: Vec<&String> =
        sent.iter().flat_map(|sent| &sent.broken).filter(|text| text.starts_with(['2', '3', '4', '5'])).collect();
    assert!(odd.is_empty(), "answers that are neither 200 nor 503: {odd:?}");
}
