//! Starting, stopping, and what must end before the process does.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long webhooks and sends under way may take to finish after SIGTERM: less than the 10 s after which `docker stop`
/// kills. What does not finish is in the store and goes on at the next start.
pub const GRACE: Duration = Duration::from_secs(7);

#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// First stage: nothing new is begun.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the receiver should begin nothing new.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task that [`Lifecycle::finish`] waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Stops everything and waits for it; `false`: something did not end in time.
    pub async fn finish(&self) -> bool {
        self.stop.cancel();
        self.tasks.close();
        timeout(GRACE, self.tasks.wait()).await.is_ok()
    }
}

/// SIGHUP, which asks for the config to be read again. From the making of this on it ends the process no more.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// # Errors
    /// When the handler cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Returns on the next one, also if it came before this was asked.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns on SIGTERM or SIGINT, with its name.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn termination() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
