//! `kill -9` anywhere between an event and its answer, and answers of Alertmanager that never arrive.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Method;

use super::{QUIET, Stage, done, in_force, is_ticked, mark, matchers, start};
use crate::harness::{
    AlertToPost, DEADLINE, Exchange, Fault, FaultProxy, Match, Outcome, ReceiverBuilder, RoomView, Scene,
};

const KILLS: usize = 20;
/// In milliseconds; from the event to the answer takes less.
const LONGEST: u64 = 1_000;
const LATE: Duration = Duration::from_secs(4);

/// One thing that was asked for, of one card.
struct Asked {
    card: String,
    event: String,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Command,
    Bell,
    Ack,
}

impl Asked {
    fn is_answered(&self, view: &RoomView) -> bool {
        match self.how {
            How::Command => done(view, &self.event).is_some(),
            How::Ack => is_ticked(view, &self.event),
            How::Bell => {
                let told =
                    view.thread_of(&self.card).iter().filter(|reply| reply.first_line().starts_with("🔕")).count();
                assert!(told <= 1, "answered twice:\n{}", view.text());
                told == 1
            }
        }
    }
}

/// Has each of `KILLS` alerts fire; returns the ids of their cards.
async fn cards(stage: &Stage) -> Vec<String> {
    let names: Vec<String> = (0..KILLS).map(|n| format!("Disk{n:02}")).collect();
    let alerts: Vec<AlertToPost> =
        names.iter().map(|name| AlertToPost::firing(&[("alertname", name), ("instance", "n01")])).collect();
    stage.alertmanager.post_alerts(&alerts).await;
    let all = |view: &RoomView| names.iter().all(|name| view.cards_with(name).len() == 1);
    let view = stage.scene.room.wait_for("all cards", DEADLINE, all).await;
    names.iter().map(|name| view.cards_with(name)[0].event_id().to_owned()).collect()
}

/// Cuts the answers to a third of the requests for silences off. Half of the others arrive so late that what died meanwhile
/// looks for its silence before.
fn cut_a_third(proxy: &FaultProxy, seed: u64) {
    for (parts, fault, seed) in [(2, Fault::Late(LATE), !seed), (3, Fault::CutAfter, seed)] {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        let chosen = move |request: &Exchange| {
            request.method == Method::POST && rng.lock().expect("a lock").random_ratio(1, parts)
        };
        proxy.fault(Match::when(chosen), fault);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_every_silence_is_made_once_and_every_command_answered() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let scene = Scene::new().await;
    // So many cards that none is put into a digest.
    let builder = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 200);
    let mut stage = Stage::of(scene, builder, |config| config).await;
    let proxy = FaultProxy::start(&stage.alertmanager.url()).await;
    start(&mut stage.receiver, &[proxy.url()]).await;
    let cards = cards(&stage).await;
    cut_a_third(&proxy, seed);

    let mut all: Vec<Asked> = Vec::new();
    for (n, card) in cards.iter().enumerate() {
        let how = if n % 4 == 3 { How::Bell } else { How::Command };
        let event = match how {
            How::Bell => stage.oncall.react(&stage.scene.room.id, card, "🔕").await,
            _ => stage.says(&stage.oncall, card, "!silence 1h").await,
        };
        let wait = rng.random_range(0..LONGEST);
        all.push(Asked { card: card.clone(), event, how });
        if n % 5 == 0 {
            let event = stage.says(&stage.scene.sre, card, "!ack").await;
            all.push(Asked { card: card.clone(), event, how: How::Ack });
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
        stage.receiver.kill9();
        stage.receiver.restart().await;
    }
    let left = AtomicUsize::new(0);
    let answered = |view: &RoomView| {
        left.store(all.iter().filter(|asked| !asked.is_answered(view)).count(), Ordering::Relaxed);
        left.load(Ordering::Relaxed) == 0
    };
    stage.scene.room.wait_for("all are answered", 4 * DEADLINE, answered).await;
    let view = stage.scene.room.assert_settled("once", 2 * QUIET, answered).await;

    let posts: Vec<Exchange> = proxy.exchanges().into_iter().filter(|request| request.method == Method::POST).collect();
    let ended = |outcome| posts.iter().filter(|post| post.outcome == outcome).count();
    let silences = in_force(&stage.alertmanager).await;
    eprintln!(
        "{KILLS} kills, {} of them before Alertmanager's answer; {} requests for silences, {} answers cut off; {} silences, {} expired",
        ended(Outcome::Gone),
        posts.len(),
        ended(Outcome::Cut),
        silences.len(),
        stage.alertmanager.silences().await.as_array().map_or(0, Vec::len) - silences.len(),
    );
    let mut by_mark: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_matchers: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for silence in &silences {
        *by_mark.entry(mark(silence)).or_default() += 1;
        *by_matchers.entry(matchers(silence)).or_default() += 1;
    }
    assert!(by_mark.values().chain(by_matchers.values()).all(|n| *n == 1), "{by_mark:?} {by_matchers:?}");
    assert_eq!(by_matchers.len(), KILLS, "{by_matchers:?}\n{}", view.text());
}
