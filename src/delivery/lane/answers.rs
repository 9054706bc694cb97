//! Answers to what people ask for in the room. They go last of all, and none of them holds the room: one that fails waits
//! by itself, and is given up when its patience is used up.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    context::RoomContext,
    evidence::Evidence,
    failures::Failures,
    recent_sends::RecentSends,
    search::{Found, search},
    turn::Turn,
};
use crate::{
    delivery::{
        gate::Permit,
        poison::{Attempt, Verdict},
        retry,
        transport::FrozenEvent,
    },
    model::{IncidentId, Scope, SendError, Timestamp, TxnId},
    pacing::SayOnce,
    render::{self, CONTENT_KEY, answer_content},
    store::{Answer, NewAnswer, StoreError},
};

/// How long an answer waits while cards of other rooms are due and sends are scarce, before it asks again.
const YIELD: Duration = Duration::from_millis(500);
/// An answer that its room refuses (the account is not in it, or may not write) is of no use later than this.
const PATIENCE: Duration = Duration::from_hours(1);

#[derive(Debug, Default)]
pub(super) struct Answers {
    /// No answer is tried before this.
    not_before: Option<Instant>,
    failures: u32,
    logged: SayOnce,
    /// What nobody asked for.
    pub evidence: Evidence,
}

impl Answers {
    /// Whether the next answer waits. Evidence never goes before what somebody waits for.
    pub fn is_paused(&self, unasked: bool) -> bool {
        self.paused().is_some() || (unasked && self.evidence.paused().is_some())
    }

    /// How long the room's answers wait although nothing else is due.
    pub fn paused(&self) -> Option<Duration> {
        self.not_before.map(|at| at.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    fn pause(&mut self, wait: Duration) -> Turn {
        self.not_before = Some(Instant::now() + wait);
        Turn::Again
    }

    /// Sends the room's next answer, or finds out that an earlier try of it has arrived.
    pub async fn send_next(
        &mut self,
        context: &RoomContext,
        failures: &mut Failures,
        recent: &RecentSends,
        permit: &Permit,
    ) -> Result<Turn, StoreError> {
        let Some(answer) = context.store.next_answer(&context.room).await? else { return Ok(Turn::Again) };
        if let Some(unasked) = &answer.unasked {
            return self.evidence.send(context, failures, &answer, unasked, permit, recent.is_storm()).await;
        }
        if (permit.limited || context.gate.is_limited()) && is_card_due(context).await? {
            return Ok(self.pause(YIELD));
        }
        let device = match context.transport.connected(&context.room).await {
            Ok(device) => device,
            Err(error) => return self.after_failure(context, failures, &answer, &error, permit).await,
        };
        if answer.in_doubt && !failures.remembers(context, &answer, &device) && !answer.is_reaction() {
            match search(context, &answer.txn_id, answer.id, answer.at).await? {
                Ok(Found::Event(event)) => return self.adopt(context, &answer, &event, permit).await,
                Ok(Found::Absent) => {}
                Ok(Found::Unknown) => {
                    context.metrics.possible_duplicates.inc();
                    tracing::warn!(act = answer.act, room = %context.name, "sending again; may be in the room twice");
                }
                Err(error) => return self.after_failure(context, failures, &answer, &error, permit).await,
            }
        }
        context.store.record_answer_try(&answer, device).await?;
        let event = FrozenEvent::of_answer(&answer);
        match context.transport.send(&context.room, event).await {
            Ok(event) => self.finish(context, failures, &answer, &event, permit).await,
            Err(error) => {
                if !error.reason.in_doubt() && !answer.in_doubt {
                    context.store.requeue_answer(&answer).await?;
                }
                self.after_failure(context, failures, &answer, &error, permit).await
            }
        }
    }

    /// The homeserver acknowledged the answer.
    async fn finish(
        &mut self,
        context: &RoomContext,
        failures: &mut Failures,
        answer: &Answer,
        event: &str,
        permit: &Permit,
    ) -> Result<Turn, StoreError> {
        context.gate.passed(permit);
        // A reaction proves nothing about messages.
        if !answer.is_reaction() {
            failures.record_delivery(context);
        }
        context.count_answer("sent");
        context.store.finish_answer(answer, event).await?;
        self.reset();
        tracing::info!(
            act = answer.act, room = %context.name, kind = answer.event_type, event, attempts = answer.attempts + 1,
            "answered in the room"
        );
        Ok(Turn::Again)
    }

    /// An earlier try of the answer arrived.
    async fn adopt(
        &mut self,
        context: &RoomContext,
        answer: &Answer,
        event: &str,
        permit: &Permit,
    ) -> Result<Turn, StoreError> {
        context.gate.open(permit);
        context.count_answer("adopted");
        context.store.finish_answer(answer, event).await?;
        self.reset();
        tracing::info!(act = answer.act, room = %context.name, event, "answer found in the room");
        Ok(Turn::Again)
    }

    /// Decides what follows a failure: the answer is given up, or waits. Only what surely concerns the whole account closes
    /// the gate.
    async fn after_failure(
        &mut self,
        context: &RoomContext,
        failures: &mut Failures,
        answer: &Answer,
        error: &SendError,
        permit: &Permit,
    ) -> Result<Turn, StoreError> {
        let verdict = failures.verdict(context, &Attempt::Answer(answer.txn_id.clone()), error);
        self.failures = self.failures.saturating_add(1);
        let too_late = context.clock.now().since(answer.at) >= PATIENCE;
        match (error.reason.scope(), verdict) {
            (Scope::Event, _) => {
                context.gate.open(permit);
                if let Some(words) = in_words(answer, TxnId(ulid::Ulid::new().to_string()), context.clock.now()) {
                    return self.say_instead(context, answer, words, error).await;
                }
                return self.give_up(context, answer, error).await;
            }
            (Scope::Room, _) if too_late => {
                context.gate.open(permit);
                return self.give_up(context, answer, error).await;
            }
            (_, Verdict::Poisoned) => return self.give_up(context, answer, error).await,
            _ => {}
        }
        context.count_answer("failed");
        let wait = match (error.reason.scope(), verdict) {
            // The next try waits at the gate, behind whatever cards need.
            (Scope::Account, _) => {
                context.gate.close(error);
                return Ok(Turn::Again);
            }
            (Scope::Server, Verdict::Own) => retry::wait_alone(self.failures, rand::random()),
            // The gate is left alone: whether the homeserver fails on cards as well, a card finds out.
            (Scope::Server, Verdict::Homeserver | Verdict::Poisoned) => {
                retry::wait(error, self.failures, rand::random())
            }
            (Scope::Room | Scope::Event, _) => {
                context.gate.open(permit);
                retry::wait(error, self.failures, rand::random())
            }
        };
        if self.logged.should_log(&error.to_string()) {
            tracing::warn!(act = answer.act, room = %context.name, reason = %error, "not answered yet, will try again");
        }
        Ok(self.pause(wait))
    }

    /// Answers in words in place of a picture that cannot be sent.
    async fn say_instead(
        &mut self,
        context: &RoomContext,
        answer: &Answer,
        words: NewAnswer,
        error: &SendError,
    ) -> Result<Turn, StoreError> {
        context.count_answer("refused");
        context.store.replace_answer(answer, words).await?;
        self.reset();
        tracing::warn!(act = answer.act, room = %context.name, reason = %error, "picture refused; answering in words");
        Ok(Turn::Again)
    }

    async fn give_up(&mut self, context: &RoomContext, answer: &Answer, error: &SendError) -> Result<Turn, StoreError> {
        context.count_answer("refused");
        context.store.refuse_answer(answer).await?;
        self.reset();
        if answer.is_reaction() && answer.in_doubt {
            // The earlier try has arrived: an account reacts once with the same key.
            tracing::debug!(act = answer.act, room = %context.name, reason = %error, "reaction is there, or refused");
        } else {
            tracing::warn!(
                act = answer.act, room = %context.name, kind = answer.event_type, reason = %error,
                attempts = answer.attempts + 1, "answer given up"
            );
        }
        Ok(Turn::Again)
    }

    fn reset(&mut self) {
        (self.not_before, self.failures) = (None, 0);
        self.logged.clear();
    }
}

/// Whether a card is due in a room that accepts events: a send must go to that first.
async fn is_card_due(context: &RoomContext) -> Result<bool, StoreError> {
    let health = context.health.snapshot();
    let is_held = |room| health.rooms.get(room).is_some_and(|room| room.hold.is_some() || room.no_keys.is_some());
    Ok(context.store.rooms_due().await?.iter().any(|room| !is_held(room)))
}

/// What is said in place of a picture that somebody asked for and the room does not take; `None`: it is not a picture.
fn in_words(answer: &Answer, txn_id: TxnId, now: Timestamp) -> Option<NewAnswer> {
    let content: Value = serde_json::from_str(&answer.content).ok()?;
    if content["msgtype"] != "m.image" {
        return None;
    }
    let relation = &content["m.relates_to"];
    let (root, reply_to) = (relation["event_id"].as_str()?, relation["m.in_reply_to"]["event_id"].as_str()?);
    let incident = content[CONTENT_KEY]["incident"].as_str().map(|id| IncidentId(id.to_owned()));
    let words =
        render::answer::Answer::new("❌", "The picture could not be sent to this room").line("Ask for it again.");
    Some(NewAnswer {
        act: answer.act.clone(),
        room: answer.room.clone(),
        card: answer.card.clone(),
        event_type: answer.event_type.clone(),
        content: answer_content(&words.message(), Some((root, reply_to)), &txn_id, incident.as_ref()),
        txn_id,
        at: now,
        unasked: None,
    })
}
