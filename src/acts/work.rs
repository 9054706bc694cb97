//! One act while it is carried out: how it ends, and that this is counted and logged once.

use std::time::Duration;

use super::{
    answers::content,
    context::{ActContext, ActSettings},
};
use crate::{
    alertmanager::client::Client,
    config::{Route, Updates},
    model::{Act, ActKind, ActState, Timestamp},
    render::answer::Answer,
    store::{ActAnswer, ActEnd, DueAct, StoreError},
};

/// What is done later is refused: by then somebody has done something else.
pub const TOO_OLD: Duration = Duration::from_mins(10);
/// How long Alertmanager is asked again. The last try may take half a minute, and after two the room has its answer.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Work<'a> {
    pub context: &'a ActContext,
    pub settings: &'a ActSettings,
    pub route: &'a Route,
    pub due: &'a DueAct,
    /// The sender's display name; empty if there is none or it is not known.
    pub name: String,
}

impl Work<'_> {
    #[must_use]
    pub fn act(&self) -> &Act {
        &self.due.act
    }

    #[must_use]
    pub fn client(&self) -> Option<Client> {
        (self.context.clients)(&self.route.name)
    }

    /// How long ago it was asked for.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.context.clock.now().since(self.act().asked_at)
    }

    #[must_use]
    pub fn in_(&self, wait: Duration) -> Timestamp {
        self.context.clock.now().plus(wait)
    }

    #[must_use]
    pub fn notice(&self, answer: &Answer) -> ActAnswer {
        content::notice(self.act(), answer)
    }

    /// The mark on a command that is done. Where cards are not edited, a reaction is answered in words.
    #[must_use]
    pub fn done(&self, words: &str) -> Vec<ActAnswer> {
        match content::tick(self.act()) {
            Some(tick) => vec![tick],
            None if self.route.updates == Updates::Post => vec![self.notice(&Answer::new("ℹ️", words))],
            None => Vec::new(),
        }
    }

    /// Who asked, for people.
    #[must_use]
    pub fn who(&self) -> &str {
        if self.name.is_empty() { &self.act().sender } else { &self.name }
    }

    #[must_use]
    pub fn ending(&self, state: ActState, outcome: &'static str, answers: Vec<ActAnswer>) -> ActEnd {
        // A silence is shown when Alertmanager is seen to have it, by the poll that follows.
        let is_shown = matches!(self.act().kind, ActKind::Take | ActKind::Untake | ActKind::Undo);
        let is_visible = matches!(state, ActState::Live | ActState::Done) && is_shown;
        ActEnd { act: self.act().clone(), state, outcome, name: self.name.clone(), answers, is_visible }
    }

    /// # Errors
    /// When it cannot be committed.
    pub async fn end(&self, state: ActState, outcome: &'static str, answers: Vec<ActAnswer>) -> Result<(), StoreError> {
        if self.context.store.end_act(self.ending(state, outcome, answers)).await? {
            self.report(outcome);
        }
        Ok(())
    }

    /// # Errors
    /// When it cannot be committed.
    pub async fn refuse(&self, answer: &Answer) -> Result<(), StoreError> {
        self.end(ActState::Refused, "refused", vec![self.notice(answer)]).await
    }

    /// What Alertmanager or the homeserver prevented.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn fail(&self, answer: &Answer) -> Result<(), StoreError> {
        self.end(ActState::Refused, "failed", vec![self.notice(answer)]).await
    }

    /// # Errors
    /// When it cannot be committed.
    pub async fn later(&self, wait: Duration) -> Result<(), StoreError> {
        self.context.store.postpone_act(&self.act().id, self.act().state, self.in_(wait), None).await
    }

    /// Counts and logs what became of it.
    pub fn report(&self, outcome: &'static str) {
        let act = self.act();
        self.context.count(&self.route.name, act.kind, outcome);
        let incident = act.incident.as_ref().map(tracing::field::display);
        tracing::info!(
            act = %act.id, kind = act.kind.as_str(), who = %act.sender, route = %act.route, room = %act.room, incident,
            outcome, "act ended"
        );
    }

    /// Whether it is about silences, so that Alertmanager decides when it ends.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        self.act().kind == ActKind::Silence
    }
}
