//! Tasks and signals: what must end before the process does.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long webhooks and sends in flight may take after SIGTERM: less than the 10 s after which `docker stop` kills. Unfinished
/// work is in the store and resumes at the next start.
pub const GRACE: Duration = Duration::from_secs(7);

#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// Cancelled in the first stage of a stop, in which nothing new begins.
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

    /// Stops all tasks and waits for them; returns `false` if one did not end in time.
    pub async fn finish(&self) -> bool {
        self.stop.cancel();
        self.tasks.close();
        timeout(GRACE, self.tasks.wait()).await.is_ok()
    }
}

/// SIGHUP, which reloads the config. Once this exists, the signal no longer ends the process.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// # Errors
    /// When the handler cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for the next signal, or returns at once if one arrived since the last call.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for SIGTERM or SIGINT and returns its name.
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
