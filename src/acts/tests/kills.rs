//! The process dies between event and answer, wherever it awaits something.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use super::{alertmanager::Fate, *};

/// Is dropped after so many polls, as a process is that is killed.
struct Killed<'a, F> {
    inner: Pin<&'a mut F>,
    left: usize,
}

impl<F: Future> Future for Killed<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.inner.as_mut().poll(context).map(Some)
    }
}

pub(super) async fn killed_after<F: Future>(polls: usize, work: F) -> Option<F::Output> {
    let work = pin!(work);
    Killed { inner: work, left: polls }.await
}

const TOML: &str = "[actions]\nallow = { power = 50 }\n";

/// One life until it is killed, then another that goes on. Returns whether the first one was killed at all.
async fn dies_after(polls: usize, commands: &[&str], fates: &[Fate]) -> bool {
    let mut world = World::with(TOML).await;
    let (_, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.event(ALICE, RoomEventContent::Other).await;
    world.alertmanager.then(fates);
    let events: Vec<RoomEvent> = commands.iter().map(|command| world.make(ALICE, in_thread(command, &card))).collect();
    let first_life = async {
        world.hears(events.clone(), false).await;
        world.works().await;
        world.clock.advance(Duration::from_secs(6));
        world.works().await;
    };
    let was_killed = killed_after(polls, first_life).await.is_none();
    let mut world = world.restarted(TOML).await;
    let missed = RoomEvents { room: room(), room_id: ROOM.to_owned(), is_encrypted: false, events, gap: false };
    let position = world.position().await;
    // The homeserver gives what came after the place that was stored.
    if position.as_deref() == Some("$event-1") {
        world.rooms.missed.lock().expect("a lock").push_back(Ok(missed));
    }
    world.listener.start().await.expect("read");
    for _ in 0..10 {
        world.listener.tick().await.expect("read");
        world.works().await;
        world.clock.advance(Duration::from_secs(6));
    }
    let (silences, answers, acts) = (world.alertmanager.silences(), world.answers().await, world.acts().await);
    let context = format!("killed after {polls}: {acts:?} {answers:?} {silences:?}");
    assert_eq!(silences.len(), 1, "{context}");
    assert_eq!(acts.len(), commands.len(), "{context}");
    assert_eq!(answers.iter().filter(|answer| *answer == "✅").count(), commands.len(), "{context}");
    assert_eq!(answers.iter().filter(|answer| answer.starts_with("🔕")).count(), 1, "{context}");
    was_killed
}

#[tokio::test]
async fn a_silence_is_made_once_wherever_it_dies() {
    for fates in [&[][..], &[Fate::AnswerLost], &[Fate::Lost, Fate::AnswerLost]] {
        let mut polls = 0;
        // Until a life is long enough to do all of it.
        while dies_after(polls, &["!silence 1h", "!ack"], fates).await {
            polls += if polls < 40 { 1 } else { 3 };
            assert!(polls < 1_000, "it never ends");
        }
        assert!(polls > 10, "it was killed {polls} times only");
    }
}
