//! Who leads, where several replicas share a store.

use std::time::Duration;

use crate::health::report::{Input, Part};

/// A take-over takes as long as a lease (5 s) and a little more; after this something prevents it.
const TAKE_OVER: Duration = Duration::from_secs(15);

impl Input {
    /// `None`: no other replica shares the store.
    pub(super) fn replica(&self) -> Option<Part> {
        let replica = self.state.replica.as_ref()?;
        let name = &replica.name;
        Some(match &replica.leader {
            _ if replica.leads => Part::ok(format!("replica {name} leads")),
            Some(leader) if leader == name => {
                Part::ok(format!("replica {name}, leader is an earlier run of it, or another replica of this name"))
            }
            Some(leader) => Part::ok(format!("replica {name}, leader is {leader}")),
            None => self.leaderless().map_or_else(
                || Part::ok(format!("replica {name}, leader is not known")),
                |reason| Part::degraded(format!("replica {name}, {reason}")),
            ),
        })
    }

    /// Why nothing gets into rooms although the store is there, if nobody has led for too long.
    pub(super) fn leaderless(&self) -> Option<String> {
        let since = self.state.replica.as_ref().filter(|replica| !replica.leads)?.nobody_since?;
        let ago = self.now.since(since);
        (ago > TAKE_OVER).then(|| format!("nobody has led for {} s, so that nothing gets into rooms", ago.as_secs()))
    }
}
