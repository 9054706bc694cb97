//! Evidence among a room's answers. Nobody waits for it: it has one try, and is dropped where it would come late or cost
//! others something. None of its failures holds anything else, and it is never in the room twice.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    context::RoomContext,
    failures::Failures,
    search::{Found, search},
    turn::Turn,
};
use crate::{
    delivery::{gate::Permit, retry, transport::FrozenEvent},
    model::{Reason, Scope, SendError},
    store::{Answer, StoreError, Unasked},
};

/// How long an answer of the homeserver to a piece is waited for. Cards wait behind it, so that it is much shorter than for
/// what they are made of; after that the piece is in doubt.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// None is tried before this.
    not_before: Option<Instant>,
    failures: u32,
}

impl Evidence {
    /// How long the room's evidence waits although nothing else is due.
    pub fn paused(&self) -> Option<Duration> {
        self.not_before.map(|at| at.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Sends evidence once, drops it, or finds out that its only try has arrived.
    pub async fn send(
        &mut self,
        context: &RoomContext,
        failures: &mut Failures,
        answer: &Answer,
        unasked: &Unasked,
        permit: &Permit,
        is_storm: bool,
    ) -> Result<Turn, StoreError> {
        let piece = Piece { context, answer, unasked };
        let now = Now {
            is_late: context.clock.now() > unasked.until,
            is_limited: permit.limited || context.gate.is_limited(),
            is_storm,
        };
        if let Some(outcome) = now.why_dropped(answer.in_doubt) {
            self.reset();
            return piece.drop(outcome, None).await;
        }
        let device = match context.transport.connected(&context.room).await {
            Ok(device) => device,
            // Nothing was tried.
            Err(error) => return Ok(self.wait(&error)),
        };
        if answer.in_doubt && !failures.remembers(context, answer, &device) {
            match search(context, &answer.txn_id, answer.id, answer.at).await? {
                Ok(Found::Event(event)) => {
                    self.reset();
                    context.gate.open(permit);
                    context.count_answer("adopted");
                    return piece.finish(&event).await;
                }
                Ok(Found::Absent) => {}
                // Better none than two.
                Ok(Found::Unknown) => {
                    self.reset();
                    return piece.drop("failed", None).await;
                }
                Err(error) => return Ok(self.wait(&error)),
            }
        }
        context.store.record_answer_try(answer, device).await?;
        let event = FrozenEvent::of_answer(answer);
        let sent = timeout(PATIENCE, context.transport.send(&context.room, event)).await;
        match sent.unwrap_or_else(|_| Err(no_answer())) {
            Ok(event) => {
                self.reset();
                context.gate.passed(permit);
                failures.record_delivery(context);
                context.count_answer("sent");
                piece.finish(&event).await
            }
            Err(error) => self.after_failure(&piece, &error).await,
        }
    }

    /// What surely did not arrive is given up; what is in doubt is sent again under its transaction id until it is late.
    async fn after_failure(&mut self, piece: &Piece<'_>, error: &SendError) -> Result<Turn, StoreError> {
        let in_doubt = piece.answer.in_doubt || error.reason.in_doubt();
        if in_doubt && error.reason.scope() != Scope::Event {
            piece.context.count_answer("failed");
            return Ok(self.wait(error));
        }
        self.reset();
        piece.context.count_answer("refused");
        let outcome = if error.reason == Reason::RateLimited { "limited" } else { "failed" };
        piece.drop(outcome, Some(error)).await
    }

    fn wait(&mut self, error: &SendError) -> Turn {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + retry::wait(error, self.failures, rand::random()));
        Turn::Again
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

fn no_answer() -> SendError {
    SendError { reason: Reason::NoAnswer, retry_after: None, detail: "no answer within 3 s".to_owned() }
}

/// What decides whether evidence still goes out.
#[derive(Clone, Copy)]
struct Now {
    is_late: bool,
    is_limited: bool,
    is_storm: bool,
}

impl Now {
    /// Why evidence is not sent (any more); `None`: it is sent. What is in doubt may be in the room: all that is known of it
    /// is that its try failed.
    fn why_dropped(self, in_doubt: bool) -> Option<&'static str> {
        let over = self.is_late || self.is_limited;
        match self {
            _ if in_doubt => over.then_some("failed"),
            Self { is_late: true, .. } => Some("late"),
            Self { is_limited: true, .. } => Some("limited"),
            Self { is_storm: true, .. } => Some("storm"),
            _ => None,
        }
    }
}

/// One piece of evidence at its end.
struct Piece<'a> {
    context: &'a RoomContext,
    answer: &'a Answer,
    unasked: &'a Unasked,
}

impl Piece<'_> {
    async fn finish(&self, event: &str) -> Result<Turn, StoreError> {
        self.context.store.finish_answer(self.answer, event).await?;
        self.count("sent");
        tracing::info!(
            room = %self.context.name, kind = self.unasked.kind.as_str(), card_event = self.answer.act, event,
            "evidence shown in the room"
        );
        Ok(Turn::Again)
    }

    async fn drop(&self, outcome: &'static str, error: Option<&SendError>) -> Result<Turn, StoreError> {
        self.context.store.refuse_answer(self.answer).await?;
        self.count(outcome);
        let reason = error.map(tracing::field::display);
        tracing::info!(
            room = %self.context.name, kind = self.unasked.kind.as_str(), card_event = self.answer.act, outcome, reason,
            "evidence not shown"
        );
        Ok(Turn::Again)
    }

    fn count(&self, outcome: &str) {
        let labels = [self.unasked.route.as_str(), self.unasked.kind.as_str(), outcome];
        self.context.metrics.evidence.with_label_values(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::Now;

    #[test]
    fn what_is_late_or_would_cost_others_is_dropped() {
        for (is_late, is_limited, is_storm, in_doubt, expected) in [
            (false, false, false, false, None),
            (true, true, true, false, Some("late")),
            (false, true, true, false, Some("limited")),
            (false, false, true, false, Some("storm")),
            (false, false, false, true, None),
            (false, false, true, true, None),
            (true, false, false, true, Some("failed")),
            (false, true, false, true, Some("failed")),
        ] {
            let found = Now { is_late, is_limited, is_storm }.why_dropped(in_doubt);
            assert_eq!(found, expected, "{is_late} {is_limited} {is_storm} {in_doubt}");
        }
    }
}
