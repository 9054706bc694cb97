//! Sends for one term only.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use tokio::time::Instant;

use super::Deadline;
use crate::{
    delivery::{BoxFuture, EventPresence, FrozenEvent, ReadBack, RoomChanges, Search, Transport},
    model::{RoomAddress, SendError},
};

/// A transport that sends nothing once the time of the term is over. Such a send has no answer: its op stays in flight until
/// the term's tasks are dropped, and whoever leads next repeats it under its transaction id.
pub struct TermTransport {
    inner: Arc<dyn Transport>,
    deadline: Deadline,
}

impl TermTransport {
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, deadline: Deadline) -> Self {
        Self { inner, deadline }
    }

    /// The deadline is checked each time before anything goes on: a process that was stopped for half a minute wakes up in
    /// the middle of a send.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|task| if self.deadline.has_passed() { Poll::Pending } else { work.as_mut().poll(task) }).await
    }
}

impl Transport for TermTransport {
    fn send<'a>(&'a self, room: &'a RoomAddress, event: FrozenEvent<'a>) -> BoxFuture<'a, Result<String, SendError>> {
        Box::pin(self.in_time(self.inner.send(room, event)))
    }

    fn read_back<'a>(
        &'a self,
        room: &'a RoomAddress,
        search: Search<'a>,
    ) -> BoxFuture<'a, Result<ReadBack, SendError>> {
        self.inner.read_back(room, search)
    }

    fn event_presence<'a>(
        &'a self,
        room: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<EventPresence, SendError>> {
        self.inner.event_presence(room, event)
    }

    fn take_room_changes(&self, room: &RoomAddress) -> RoomChanges {
        self.inner.take_room_changes(room)
    }

    fn has_room_changes(&self, room: &RoomAddress) -> bool {
        self.inner.has_room_changes(room)
    }

    fn joined<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        self.inner.joined(room)
    }

    fn remembers_transactions(&self) -> bool {
        self.inner.remembers_transactions()
    }

    fn device(&self, room: &RoomAddress) -> Option<String> {
        self.inner.device(room)
    }

    fn prepare<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        self.inner.prepare(room)
    }

    fn ask_ahead<'a>(&'a self, room: &'a RoomAddress, enough: Option<Instant>) -> BoxFuture<'a, ()> {
        self.inner.ask_ahead(room, enough)
    }

    fn connected<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, Result<String, SendError>> {
        self.inner.connected(room)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use tokio::{
        sync::watch,
        time::{sleep, timeout},
    };

    use super::*;
    use crate::model::TxnId;

    /// A homeserver that takes its time.
    struct Slow {
        begun: Arc<AtomicU32>,
        takes: Duration,
    }

    impl Transport for Slow {
        fn send<'a>(&'a self, _: &'a RoomAddress, _: FrozenEvent<'a>) -> BoxFuture<'a, Result<String, SendError>> {
            Box::pin(async move {
                self.begun.fetch_add(1, Ordering::Relaxed);
                sleep(self.takes).await;
                Ok("$event".to_owned())
            })
        }

        fn read_back<'a>(&'a self, _: &'a RoomAddress, _: Search<'a>) -> BoxFuture<'a, Result<ReadBack, SendError>> {
            Box::pin(async { Ok(ReadBack::default()) })
        }

        fn event_presence<'a>(
            &'a self,
            _: &'a RoomAddress,
            _: &'a str,
        ) -> BoxFuture<'a, Result<EventPresence, SendError>> {
            Box::pin(async { Ok(EventPresence::Unknown) })
        }

        fn take_room_changes(&self, _: &RoomAddress) -> RoomChanges {
            RoomChanges::default()
        }

        fn has_room_changes(&self, _: &RoomAddress) -> bool {
            false
        }

        fn remembers_transactions(&self) -> bool {
            true
        }

        fn device(&self, _: &RoomAddress) -> Option<String> {
            None
        }

        fn connected<'a>(&'a self, _: &'a RoomAddress) -> BoxFuture<'a, Result<String, SendError>> {
            Box::pin(async { Ok("DEVICE".to_owned()) })
        }
    }

    #[tokio::test]
    async fn no_send_begins_or_ends_after_the_deadline() {
        let hour = Duration::from_hours(1);
        let short = Duration::from_millis(50);
        // How long the term still lasts when the send begins, how long that takes: whether it begins, and has an answer.
        for (left, takes, expected) in [
            (hour, Duration::ZERO, (1, true)),
            (Duration::ZERO, Duration::ZERO, (0, false)),
            (short, short * 4, (1, false)),
        ] {
            let begun = Arc::new(AtomicU32::new(0));
            let until = watch::Sender::new(Instant::now() + left);
            let slow = Arc::new(Slow { begun: Arc::clone(&begun), takes });
            let transport = TermTransport::new(slow, Deadline(until.subscribe()));
            let (room, txn_id) = (RoomAddress::parse("!a:x").expect("a room"), TxnId("1".to_owned()));
            let event = FrozenEvent { event_type: "m.room.message", txn_id: &txn_id, content: "{}", asked_since: None };
            let answered = timeout(short * 20, transport.send(&room, event)).await.is_ok();
            assert_eq!((begun.load(Ordering::Relaxed), answered), expected, "{left:?} {takes:?}");
        }
    }
}
