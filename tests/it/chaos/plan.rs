//! What will happen, drawn from a seed before anything begins: the same seed is the same plan.

use std::{collections::HashSet, mem::discriminant, ops::Range, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::harness::{Alert, at};

/// Each route with the numbers of its rooms.
pub const ROUTES: [(&str, &[usize]); 4] = [("default", &[0]), ("team", &[1]), ("both", &[0, 1]), ("sealed", &[SEALED])];
/// The room that is encrypted.
pub const SEALED: usize = 2;
/// Alerts of a group at most. Beyond the first two no more than three, since a reply names no more of them.
const ALERTS: usize = 5;
/// Every so many groups one is large, with so many alerts more.
const LARGE: (usize, usize) = (12, 400);
/// Seconds between the beginnings and ends of one step and those of the next, as the alerts tell them.
const STEP: i64 = 20;

#[derive(Debug)]
pub struct Plan {
    pub groups: Vec<Group>,
    /// Sorted by time.
    pub deeds: Vec<(Duration, Deed)>,
}

#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    /// Index into [`ROUTES`].
    pub route: usize,
    pub critical: bool,
    /// Alerts beside the planned ones, which fire as long as any of those does: what makes a group large.
    pub ballast: usize,
    pub steps: Vec<Step>,
}

/// How a group is from `at` on.
#[derive(Debug, Clone)]
pub struct Step {
    pub at: Duration,
    pub alerts: Vec<Planned>,
}

#[derive(Debug, Clone)]
pub struct Planned {
    pub instance: String,
    since: i64,
    ended: Option<i64>,
    /// Has been resolved before.
    pub again: bool,
}

impl Planned {
    pub fn firing(&self) -> bool {
        self.ended.is_none()
    }

    pub fn alert(&self, critical: bool) -> Alert {
        let alert = Alert::firing(&self.instance).started(at(self.since));
        let alert = if critical { alert.critical() } else { alert };
        self.ended.map_or(alert.clone(), |end| alert.ended(at(end)))
    }
}

impl Group {
    /// One that others send, on the first route.
    pub fn of(name: &str, steps: Vec<Step>) -> Self {
        Self { name: name.to_owned(), route: 0, critical: false, ballast: 0, steps }
    }

    /// What makes it large, as it is at a step.
    pub fn ballast(&self, step: &Step) -> impl Iterator<Item = Alert> {
        let end = step.alerts.iter().filter_map(|alert| alert.ended).max().filter(|_| step.count(true) == 0);
        (0..self.ballast).map(move |number| {
            let alert = Alert::firing(&format!("ballast-{number:04}")).started(at(0));
            end.map_or(alert.clone(), |end| alert.ended(at(end)))
        })
    }

    /// How many of its alerts fire at a step, or do not.
    pub fn count(&self, step: &Step, firing: bool) -> usize {
        let same = (step.count(true) > 0) == firing;
        step.count(firing) + if same { self.ballast } else { 0 }
    }
}

impl Step {
    /// One that others send: the alerts, and whether each fires.
    pub fn of(alerts: &[(&str, bool)]) -> Self {
        let planned = |(instance, firing): &(&str, bool)| Planned {
            instance: (*instance).to_owned(),
            since: 0,
            ended: (!firing).then_some(STEP),
            again: false,
        };
        Self { at: Duration::ZERO, alerts: alerts.iter().map(planned).collect() }
    }

    pub fn count(&self, firing: bool) -> usize {
        self.alerts.iter().filter(|alert| alert.firing() == firing).count()
    }
}

#[derive(Debug, Clone)]
pub enum Deed {
    /// SIGKILL, and a new process at once.
    Kill,
    /// The wall clock of the machine is so many seconds ahead from now on.
    SetClock(i64),
    Begin(Trouble),
    End(Trouble),
    /// Clients that ask the receiver for its metrics, more of them than it has places, and never read an answer; false:
    /// they go.
    Unread(bool),
}

/// What a homeserver, or the way to it, does for a while.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    pub what: What,
    pub whom: Whom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Connections are refused, and open ones closed.
    Refuse,
    Cut,
    /// The homeserver does it, its answer is cut.
    CutAfter,
    Hang,
    HangAfter,
    /// 429 for so many milliseconds.
    Limit(u64),
    Fail,
    FailAfter,
    Gateway,
    GarbageAfter,
    /// 400.
    Reject,
}

#[derive(Debug, Clone, Copy)]
pub enum Whom {
    All,
    Sends,
    /// Every so many sends.
    Some(usize),
    Room(usize),
    /// What goes before a send to an encrypted room, and nothing else.
    Keys,
}

/// A run that is this long has its long trouble as well: sends alone fail, for this long at most.
const LONG: Duration = Duration::from_mins(2);
const NO_SENDS: Duration = Duration::from_mins(6);

impl Plan {
    /// For so long webhooks and troubles begin; `groups` of them.
    pub fn of(seed: u64, load: Duration, groups: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let groups = (0..groups).map(|number| group(&mut rng, number, load)).collect();
        let mut deeds = troubles(&mut rng, load);
        if load >= LONG {
            no_sends(&mut deeds, load);
        }
        let (kills, piles) = (kills(&mut rng, load), piles(&mut rng, load));
        // A new process would be rid of a pile, and prove nothing about it.
        let in_pile = |at: &Duration| piles.iter().any(|(begin, end)| (*begin..*end).contains(at));
        deeds.extend(kills.into_iter().filter(|(at, _)| !in_pile(at)));
        deeds.extend(piles.iter().map(|(begin, _)| (*begin, Deed::Unread(true))));
        deeds.extend(piles.iter().map(|(_, end)| (*end, Deed::Unread(false))));
        deeds.extend(jumps(&mut rng, load));
        deeds.sort_by_key(|(at, _)| *at);
        Self { groups, deeds }
    }

    pub fn piles(&self) -> usize {
        self.deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Unread(true))).count()
    }

    pub fn kills(&self) -> usize {
        self.deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Kill)).count()
    }
}

fn millis(rng: &mut StdRng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

fn group(rng: &mut StdRng, number: usize, load: Duration) -> Group {
    let name = format!("Chaos{number:04}");
    // Some of them come in bursts, so that digests are made as well.
    let mut at = millis(rng, 0..u64::try_from(load.as_millis()).expect("a time") * 3 / 4);
    if rng.random_bool(0.3) {
        at = Duration::from_secs(at.as_secs() / 6 * 6) + millis(rng, 0..400);
    }
    let mut alerts = vec![fresh(number, 0, 0), fresh(number, 1, 0)];
    let mut steps = vec![Step { at, alerts: alerts.clone() }];
    for step in 1..=rng.random_range(1..=4_i64) {
        at += millis(rng, 500..4_000);
        if at >= load {
            break;
        }
        change(rng, number, &mut alerts, step * STEP);
        steps.push(Step { at, alerts: alerts.clone() });
    }
    let ballast = if number % LARGE.0 == 5 { LARGE.1 } else { 0 };
    Group { name, route: rng.random_range(0..ROUTES.len()), critical: rng.random_bool(0.2), ballast, steps }
}

fn fresh(group: usize, alert: usize, since: i64) -> Planned {
    Planned { instance: format!("g{group:04}-n{alert}"), since, ended: None, again: false }
}

/// One more fires, one is resolved, all are, or one that was fires again.
fn change(rng: &mut StdRng, group: usize, alerts: &mut Vec<Planned>, now: i64) {
    let firing: Vec<usize> = (0..alerts.len()).filter(|index| alerts[*index].firing()).collect();
    let choice = rng.random_range(0..6);
    if firing.is_empty() || (choice == 0 && firing.len() < alerts.len()) {
        let over: Vec<usize> = (0..alerts.len()).filter(|index| !firing.contains(index)).collect();
        let index = over[rng.random_range(0..over.len())];
        alerts[index] = Planned { since: now, ended: None, again: true, ..alerts[index].clone() };
    } else if choice < 3 && alerts.len() < ALERTS {
        alerts.push(fresh(group, alerts.len(), now));
    } else if choice < 5 && firing.len() > 1 {
        alerts[firing[rng.random_range(0..firing.len())]].ended = Some(now);
    } else {
        for index in firing {
            alerts[index].ended = Some(now);
        }
    }
}

fn troubles(rng: &mut StdRng, load: Duration) -> Vec<(Duration, Deed)> {
    let (mut deeds, mut now) = (Vec::new(), Duration::ZERO);
    loop {
        now += millis(rng, 300..1_500);
        let end = now + millis(rng, 100..1_600);
        if end >= load {
            return deeds;
        }
        let trouble = trouble(rng);
        deeds.extend([(now, Deed::Begin(trouble)), (end, Deed::End(trouble))]);
        now = end;
    }
}

/// Sends alone fail, for longer than there is patience for one event: a homeserver whose database is read-only, say.
fn no_sends(deeds: &mut Vec<(Duration, Deed)>, load: Duration) {
    let (begin, end) = (load / 4, load / 4 + (load / 3).min(NO_SENDS));
    // A trouble that begins before it ends before it; what would overlap is left out.
    deeds.retain(|(at, _)| *at + Duration::from_secs(4) < begin || *at > end + Duration::from_secs(4));
    let open = deeds.iter().rposition(|(at, deed)| *at < begin && matches!(deed, Deed::Begin(_)));
    if let Some(open) = open
        && !deeds[open..].iter().any(|(at, deed)| *at < begin && matches!(deed, Deed::End(_)))
    {
        deeds.remove(open);
    }
    let first_after = deeds.iter().position(|(at, _)| *at > end);
    if let Some(first) = first_after.filter(|first| matches!(deeds[*first].1, Deed::End(_))) {
        deeds.remove(first);
    }
    let trouble = Trouble { what: What::Fail, whom: Whom::Sends };
    deeds.extend([(begin, Deed::Begin(trouble)), (end, Deed::End(trouble))]);
}

fn trouble(rng: &mut StdRng) -> Trouble {
    let what = match rng.random_range(0..12) {
        0 => What::Refuse,
        1 => What::Cut,
        // The one that makes duplicates.
        2..=4 => What::CutAfter,
        5 => What::Hang,
        6 => What::HangAfter,
        7 => What::Limit(rng.random_range(100..2_000)),
        8 => What::Fail,
        9 => What::FailAfter,
        10 => What::Gateway,
        _ => What::GarbageAfter,
    };
    let whom = match rng.random_range(0..6) {
        0 => Whom::All,
        1 => Whom::Sends,
        2 => Whom::Room(rng.random_range(0..3)),
        3 => return keys_alone(rng),
        _ => Whom::Some(rng.random_range(2..5)),
    };
    Trouble { what, whom }
}

fn keys_alone(rng: &mut StdRng) -> Trouble {
    let what = [What::Reject, What::Fail, What::Hang, What::Cut, What::CutAfter, What::Gateway];
    Trouble { what: what[rng.random_range(0..what.len())], whom: Whom::Keys }
}

fn kills(rng: &mut StdRng, load: Duration) -> Vec<(Duration, Deed)> {
    let (mut deeds, mut now) = (Vec::new(), Duration::ZERO);
    loop {
        now += millis(rng, 700..4_000);
        if now >= load {
            return deeds;
        }
        deeds.push((now, Deed::Kill));
    }
}

/// One early, so that each plan has it, and then now and again; each with its begin and its end.
fn piles(rng: &mut StdRng, load: Duration) -> Vec<(Duration, Duration)> {
    let (mut piles, mut now) = (Vec::new(), Duration::ZERO);
    loop {
        now += millis(rng, 1_000..6_000);
        let end = now + millis(rng, 3_000..6_000);
        if end >= load {
            return piles;
        }
        piles.push((now, end));
        now = end + millis(rng, 5_000..30_000);
    }
}

/// So that the run of every day proves something of each.
#[test]
fn the_seed_has_every_trouble_in_it() {
    assert!(has_every_trouble(&Plan::of(super::SEED, super::LOAD, super::GROUPS)));
}

fn has_every_trouble(plan: &Plan) -> bool {
    let troubles = || {
        plan.deeds.iter().filter_map(|(_, deed)| match deed {
            Deed::Begin(trouble) => Some(*trouble),
            Deed::Kill | Deed::End(_) | Deed::Unread(_) | Deed::SetClock(_) => None,
        })
    };
    let kinds: HashSet<_> = troubles().map(|trouble| discriminant(&trouble.what)).collect();
    let keys = troubles().filter(|trouble| matches!(trouble.whom, Whom::Keys)).count();
    // Those of `What`, and requests for keys alone that fail.
    kinds.len() == 11 && keys >= 2
}

fn jumps(rng: &mut StdRng, load: Duration) -> Vec<(Duration, Deed)> {
    const MINUTE: i64 = 60;
    const DAY: i64 = 86_400;
    let (mut deeds, mut now) = (Vec::new(), Duration::ZERO);
    loop {
        now += millis(rng, 700..5_000);
        if now >= load {
            return deeds;
        }
        let ahead = [0, 10 * DAY, -10 * DAY, DAY, -MINUTE, 5 * MINUTE][rng.random_range(0..6)];
        deeds.push((now, Deed::SetClock(ahead)));
    }
}
