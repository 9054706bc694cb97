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
    /// Cancelled when tasks are given up wherever they wait.
    give_up: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The lifecycle of a part that may end earlier. Its tasks begin nothing new once this one stops; whoever made the part
    /// waits for them.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { stop: self.stop.child_token(), ..Self::default() }
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
        let give_up = self.give_up.clone();
        self.tasks.spawn(async move {
            give_up.run_until_cancelled(task).await;
        });
    }

    /// Stops all tasks and waits for them; returns `false` if one did not end in time.
    pub async fn finish(&self) -> bool {
        self.stop.cancel();
        self.tasks.close();
        timeout(GRACE, self.tasks.wait()).await.is_ok()
    }

    /// Stops all tasks, and drops those that have not ended after `patience`. Returns `false` if there were any.
    pub async fn finish_or_give_up(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let ended = timeout(patience, self.tasks.wait()).await.is_ok();
        self.give_up.cancel();
        self.tasks.wait().await;
        ended
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

/// SIGTERM and SIGINT, which end the process. Once this exists, they no longer do so by themselves.
#[derive(Debug)]
pub struct Terminations {
    terminate: Signal,
    interrupt: Signal,
}

impl Terminations {
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal and returns its name; one that arrived since the last call counts.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_given_up_as_a_whole_and_nothing_else_with_it() {
        let all = Lifecycle::new();
        let part = all.part();
        let (stop, held) = (part.stop(), std::sync::Arc::new(()));
        part.spawn(async move { stop.cancelled().await });
        let kept = std::sync::Arc::clone(&held);
        part.spawn(async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        assert!(!part.finish_or_give_up(Duration::from_millis(20)).await, "one does not end by itself");
        assert_eq!(std::sync::Arc::strong_count(&held), 1, "it was dropped");
        assert!(!all.stop().is_cancelled());
        let part = all.part();
        all.stop().cancel();
        assert!(part.stop().is_cancelled(), "a part stops with the whole");
    }
}
