//! Whether the homeserver answers: asked beside a slow request, after a failed sync, and in place of syncs.

use std::time::Duration;

use tokio::time::timeout;

use super::{api::errors, context::Context, session::connection::Connection};

/// How often to probe during a request that takes long.
const INTERVAL: Duration = Duration::from_secs(8);
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Probe<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Up,
    Down,
    /// The homeserver no longer accepts the token, or there is no session.
    SessionEnded,
}

impl Probe<'_> {
    /// Asks the homeserver whose token this is, and reports whether it answers.
    pub async fn ask(&self) -> Answer {
        let (Some(token), Ok(api)) = (self.connection.token().await, self.context.api()) else {
            return Answer::SessionEnded;
        };
        match api.whoami(&token).await.map_err(|error| error.error) {
            Ok(_) => {
                self.connection.status.report_up();
                Answer::Up
            }
            Err(error) if errors::ends_session(&error) => Answer::SessionEnded,
            Err(error) => {
                self.connection.status.report_down(&error);
                Answer::Down
            }
        }
    }

    /// Runs `request` to its end, and probes meanwhile: a homeserver may accept requests and never answer. The request is
    /// not aborted, since an aborted sync could lose keys that it has received.
    pub async fn run_while<T>(&self, request: impl Future<Output = T>) -> T {
        let mut request = std::pin::pin!(request);
        loop {
            if let Ok(done) = timeout(INTERVAL, &mut request).await {
                return done;
            }
            tokio::select! {
                biased;
                done = &mut request => return done,
                asked = timeout(TIMEOUT, self.ask()) => {
                    if asked.is_err() {
                        self.connection.status.report_down(&errors::no_answer());
                    }
                }
            }
        }
    }
}
