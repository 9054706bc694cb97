//! When to look who leads, to take the lead, to keep it and to end it. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How often a follower looks who leads.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the leader renews its lease, from the start of one renewal to that of the next.
const KEEP_EVERY: Duration = Duration::from_millis(1_500);
/// How soon a renewal that failed is tried again.
const KEEP_AGAIN: Duration = Duration::from_millis(250);
/// How long after the start of the last successful renewal the leader may send. The lease itself lasts for 5 s, which
/// leaves 2 s for what is on its way then.
pub const LEADS_FOR: Duration = Duration::from_secs(3);
/// A replica that cannot reach the homeserver leaves the lead to others for so long.
const HANDICAP: Duration = Duration::from_secs(3);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look who leads.
    Look,
    Take,
    Keep,
    /// The time of the last renewal is over: end the term.
    End,
    Wait(Instant),
}

/// How this replica stands.
#[derive(Clone, Debug)]
pub struct Campaign {
    role: Role,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Follows {
        next: Instant,
        /// Since when nobody leads, as far as the store has said.
        nobody_since: Option<Instant>,
        /// The last look found that nobody leads, and nothing was tried since.
        is_free: bool,
    },
    Leads {
        /// Nothing is sent from then on.
        until: Instant,
        keep_at: Instant,
    },
}

impl Campaign {
    pub fn new(now: Instant) -> Self {
        Self { role: Role::Follows { next: now, nobody_since: None, is_free: false } }
    }

    /// `can_deliver`: the homeserver is reached.
    pub fn next(&self, now: Instant, can_deliver: bool) -> Step {
        match self.role {
            Role::Leads { until, .. } if now >= until => Step::End,
            Role::Leads { keep_at, .. } if now >= keep_at => Step::Keep,
            Role::Leads { until, keep_at } => Step::Wait(keep_at.min(until)),
            Role::Follows { nobody_since, is_free: true, .. }
                if can_deliver || nobody_since.is_some_and(|since| now >= since + HANDICAP) =>
            {
                Step::Take
            }
            Role::Follows { next, .. } if now >= next => Step::Look,
            Role::Follows { next, .. } => Step::Wait(next),
        }
    }

    /// A look has found out for how long somebody's lease lasts; `None`: nobody leads.
    pub fn looked(&mut self, now: Instant, left: Option<Duration>) {
        let Role::Follows { nobody_since, .. } = self.role else { return };
        let next = now + left.map_or(LOOK_EVERY, |left| left.clamp(KEEP_AGAIN / 5, LOOK_EVERY));
        let nobody_since = left.is_none().then(|| nobody_since.unwrap_or(now));
        self.role = Role::Follows { next, nobody_since, is_free: left.is_none() };
    }

    /// The answer to a try to take the lead that began at `asked`.
    pub fn took(&mut self, asked: Instant, now: Instant, is_ours: bool) {
        let Role::Follows { nobody_since, .. } = self.role else { return };
        self.role = if is_ours {
            Role::leads(asked)
        } else {
            // Somebody else was faster, and is known with the next look.
            Role::Follows { next: now, nobody_since, is_free: false }
        };
    }

    /// A renewal that began at `asked` has succeeded.
    pub fn kept(&mut self, asked: Instant) {
        if matches!(self.role, Role::Leads { .. }) {
            self.role = Role::leads(asked);
        }
    }

    /// The store did not answer.
    pub fn failed(&mut self, now: Instant) {
        self.role = match self.role {
            Role::Follows { nobody_since, .. } => {
                Role::Follows { next: now + LOOK_EVERY, nobody_since, is_free: false }
            }
            Role::Leads { until, .. } => Role::Leads { until, keep_at: now + KEEP_AGAIN },
        };
    }

    /// The term is over.
    pub fn ended(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Somebody gave the lead back.
    pub fn woken(&mut self, now: Instant) {
        if let Role::Follows { next, .. } = &mut self.role {
            *next = now;
        }
    }

    /// Until when the term may send; `None`: there is none.
    pub fn until(&self) -> Option<Instant> {
        match self.role {
            Role::Leads { until, .. } => Some(until),
            Role::Follows { .. } => None,
        }
    }
}

impl Role {
    fn leads(asked: Instant) -> Self {
        Self::Leads { until: asked + LEADS_FOR, keep_at: asked + KEEP_EVERY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_follower_looks_each_half_second_or_when_the_lease_ends() {
        let start = Instant::now();
        for (left, next) in [(4_000, 500), (500, 500), (200, 200), (0, 50)] {
            let mut campaign = Campaign::new(start);
            assert_eq!(campaign.next(start, true), Step::Look);
            campaign.looked(start, Some(ms(left)));
            assert_eq!(campaign.next(start, true), Step::Wait(start + ms(next)), "{left}");
            assert_eq!(campaign.next(start + ms(next), true), Step::Look, "{left}");
        }
        let mut campaign = Campaign::new(start);
        campaign.failed(start);
        assert_eq!(campaign.next(start, true), Step::Wait(start + ms(500)), "a store that is away");
        campaign.woken(start + ms(10));
        assert_eq!(campaign.next(start + ms(10), true), Step::Look, "somebody gave it back");
    }

    #[test]
    fn it_takes_what_nobody_has_at_once_and_later_if_it_cannot_deliver() {
        let start = Instant::now();
        let mut campaign = Campaign::new(start);
        campaign.looked(start, None);
        assert_eq!(campaign.next(start, true), Step::Take);
        assert_eq!(campaign.next(start, false), Step::Wait(start + ms(500)));
        for at in [500, 1_000, 1_500, 2_000, 2_500] {
            assert_eq!(campaign.next(start + ms(at), false), Step::Look, "{at}");
            campaign.looked(start + ms(at), None);
            assert_eq!(campaign.next(start + ms(at), false), Step::Wait(start + ms(at + 500)), "{at}");
        }
        assert_eq!(campaign.next(start + ms(3_000), false), Step::Take, "better than nobody");
        campaign.took(start + ms(3_000), start + ms(3_010), false);
        assert_eq!(campaign.next(start + ms(3_010), true), Step::Look, "somebody was faster");
        campaign.looked(start + ms(3_020), Some(ms(5_000)));
        campaign.looked(start + ms(9_000), None);
        assert_eq!(campaign.next(start + ms(9_000), false), Step::Wait(start + ms(9_500)), "counted from now on");
    }

    #[test]
    fn the_leader_keeps_each_one_and_a_half_seconds_and_ends_after_three_without() {
        let start = Instant::now();
        let mut campaign = Campaign::new(start);
        campaign.looked(start, None);
        // The answer took a second: the time counts from the question.
        campaign.took(start, start + ms(1_000), true);
        assert_eq!(campaign.until(), Some(start + ms(3_000)));
        for (at, expected) in [
            (1_000, Step::Wait(start + ms(1_500))),
            (1_500, Step::Keep),
            (2_999, Step::Keep),
            (3_000, Step::End),
            (33_000, Step::End),
        ] {
            assert_eq!(campaign.next(start + ms(at), true), expected, "{at}");
        }
        campaign.kept(start + ms(1_500));
        assert_eq!(campaign.next(start + ms(1_600), true), Step::Wait(start + ms(3_000)));
        campaign.failed(start + ms(3_100));
        assert_eq!(campaign.next(start + ms(3_100), true), Step::Wait(start + ms(3_350)), "tried again soon");
        campaign.failed(start + ms(4_400));
        assert_eq!(
            campaign.next(start + ms(4_400), true),
            Step::Wait(start + ms(4_500)),
            "but no failure lengthens it"
        );
        assert_eq!(campaign.next(start + ms(4_500), true), Step::End);
        campaign.ended(start + ms(4_500));
        assert_eq!((campaign.until(), campaign.next(start + ms(4_500), true)), (None, Step::Look));
    }
}
