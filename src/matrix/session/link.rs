//! Whether sends can go out, and the wait for it.

use std::time::Duration;

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{matrix::api::errors, model::SendError};

/// How long a send waits for the connection attempt that it requested.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The link to the homeserver. It is set after each connection attempt, also when nothing changed.
pub(crate) struct Link {
    state: watch::Sender<State>,
    /// Ends the pause before the next attempt.
    wake: Notify,
}

#[derive(Clone)]
enum State {
    Up,
    Down {
        error: SendError,
        /// A new attempt may help now, as opposed to a refusal that an operator must resolve.
        retryable: bool,
    },
}

impl Link {
    pub fn new() -> Self {
        let state = State::Down { error: errors::not_connected(), retryable: true };
        Self { state: watch::Sender::new(state), wake: Notify::new() }
    }

    pub fn set_up(&self) {
        self.state.send_replace(State::Up);
    }

    pub fn set_down(&self, error: SendError, retryable: bool) {
        self.state.send_replace(State::Down { error, retryable });
    }

    /// Requests a connection attempt if the link is down, and waits for its outcome.
    pub async fn wait_until_up(&self, cancel: &CancellationToken) -> Result<(), SendError> {
        let mut state = self.state.subscribe();
        let retryable = matches!(&*state.borrow_and_update(), State::Down { retryable: true, .. });
        if retryable {
            self.wake();
            // Nothing connects any more once the receiver stops.
            tokio::select! {
                _ = timeout(TIMEOUT, state.changed()) => {}
                () = cancel.cancelled() => {}
            }
        }
        match &*state.borrow() {
            State::Up => Ok(()),
            State::Down { error, .. } => Err(error.clone()),
        }
    }

    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns when something needs the link now, at the latest after `pause`.
    pub async fn sleep(&self, pause: Duration) {
        let _ = timeout(pause, self.wake.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    #[tokio::test]
    async fn a_send_requests_an_attempt_and_gets_its_outcome() {
        let (link, cancel) = (Link::new(), CancellationToken::new());
        let attempt = async {
            link.sleep(Duration::from_mins(1)).await;
            link.set_up();
        };
        let (sent, ()) = tokio::join!(link.wait_until_up(&cancel), attempt);
        assert_eq!(sent, Ok(()));
        assert_eq!(link.wait_until_up(&cancel).await, Ok(()));
    }

    #[tokio::test]
    async fn a_send_does_not_wait_for_a_refusal_or_while_stopping() {
        let (link, cancel) = (Link::new(), CancellationToken::new());
        let refused = errors::send_error(Reason::TokenRejected, "refused");
        link.set_down(refused.clone(), false);
        assert_eq!(link.wait_until_up(&cancel).await, Err(refused.clone()));
        link.set_down(refused.clone(), true);
        cancel.cancel();
        assert_eq!(link.wait_until_up(&cancel).await, Err(refused));
    }
}
