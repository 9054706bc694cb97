//! Whether the room is plain, asked when a webhook with something new comes: beside its commit, so that the first event need
//! not wait for the answer.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::Instant};

use super::context::RoomContext;

/// For so long an event can do with the answer: half of the time for which it counts, since the event needs some itself.
const FRESH: Duration = Duration::from_millis(125);

/// The last such question.
#[derive(Debug, Default)]
pub(super) struct EarlyQuestion {
    asked_at: Option<Instant>,
    /// Until the next event waits for the answer.
    asking: Option<JoinHandle<()>>,
}

impl EarlyQuestion {
    /// Asks, unless it did a moment ago or nothing can be sent now.
    pub fn ask(&mut self, context: &RoomContext) {
        let is_recent = self.asked_at.is_some_and(|at| at.elapsed() < FRESH);
        if is_recent || !context.gate.is_open() {
            return;
        }
        let (transport, room) = (Arc::clone(&context.transport), context.room.clone());
        self.asked_at = Some(Instant::now());
        self.asking = Some(tokio::spawn(async move { transport.ask_ahead(&room, None).await }));
    }

    /// Waits for the answer and returns when the question was asked. `None`: it was not, or the answer may be too old when
    /// the event is ready.
    pub async fn answered(asked: Option<(Instant, JoinHandle<()>)>) -> Option<Instant> {
        let (at, asking) = asked?;
        // Where there is no answer it is asked again.
        asking.await.ok();
        Some(at)
    }

    /// The question for the next event, if it is new enough.
    pub fn take(&mut self) -> Option<(Instant, JoinHandle<()>)> {
        let asking = self.asking.take()?;
        let at = self.asked_at.filter(|at| at.elapsed() < FRESH)?;
        Some((at, asking))
    }
}
