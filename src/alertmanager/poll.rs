//! One poll of one route: asks what is needed, judges, and hands the findings to the store.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    api::{ApiAlert, PeerStatus},
    client::{ApiError, Client},
    context::{ListedSilences, PollContext},
    judge::{Answers, Listed, Peer, is_conclusive, judge, unheard},
    missing::Memory,
    silences,
};
use crate::{
    clock::Clock,
    config::Config,
    intake,
    model::{AlertState, KnownSilence, PolledIncident, RouteName, Timestamp},
    pacing::SayOnce,
    store::{Applied, Judge, Judged, OpenCursor, Store, StoreError},
};

/// Failed polls after which cards say that nothing was heard.
const UNHEARD_AFTER: u32 = 2;
/// Names of inhibiting alerts that are remembered, and how often at most all alerts are listed to find more.
const NAMES: usize = 2_000;
const NAMES_EVERY: Duration = Duration::from_mins(1);
/// Without a webhook for so long, an incident stays open because Alertmanager lists it.
const REFRESH_AFTER: Duration = Duration::from_mins(10);

/// Why a poll did not end.
#[derive(Debug, thiserror::Error)]
pub(super) enum PollError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of one route between polls.
pub(super) struct RoutePoll {
    pub route: RouteName,
    pub failures: u32,
    config: Arc<Config>,
    client: Client,
    store: Store,
    clock: Clock,
    listed: mpsc::Sender<ListedSilences>,
    memory: Memory,
    /// When each peer started, by its own word, when it was asked last.
    up_since: Vec<Option<Timestamp>>,
    /// Whether each peer has listed an alert of ours.
    is_known: Vec<bool>,
    /// When Alertmanager last answered, or was first asked in vain.
    answered_at: Option<Timestamp>,
    names: HashMap<String, String>,
    names_at: Option<Timestamp>,
    say_once: SayOnce,
}

/// What one poll has asked so far, for all receivers.
#[derive(Default)]
struct Asked {
    silences: Option<Arc<HashMap<String, KnownSilence>>>,
    statuses: Option<Vec<Option<PeerStatus>>>,
}

impl RoutePoll {
    pub fn new(config: Arc<Config>, client: Client, context: &PollContext) -> Self {
        let route = client.route().clone();
        let poll = config.routes.get(&route).and_then(|route| route.alertmanager.as_ref()?.poll);
        let apart = poll.unwrap_or(Duration::from_mins(1)) / 2;
        let peers = client.peers();
        Self {
            route,
            failures: 0,
            config,
            client,
            store: context.store.clone(),
            clock: context.clock.clone(),
            listed: context.listed.clone(),
            memory: Memory::new(apart.min(Duration::from_secs(30))),
            up_since: vec![None; peers],
            is_known: vec![false; peers],
            answered_at: None,
            names: HashMap::new(),
            names_at: None,
            say_once: SayOnce::default(),
        }
    }

    /// Polls, and logs how it went.
    pub async fn run(&mut self) {
        match self.poll().await {
            Ok(applied) => {
                self.failures = 0;
                if self.say_once.clear() {
                    tracing::info!(route = %self.route, "Alertmanager answers again");
                }
                if applied.changed > 0 {
                    tracing::info!(route = %self.route, incidents = applied.changed, "poll changed incidents");
                }
            }
            Err(PollError::Store(StoreError::NotLeader)) => {}
            Err(PollError::Store(error)) => tracing::warn!(route = %self.route, %error, "poll failed; will retry"),
            Err(PollError::Api(error)) => {
                self.failures = self.failures.saturating_add(1);
                let text = error.to_string();
                if self.say_once.should_log(&text) {
                    tracing::warn!(route = %self.route, error = text, "Alertmanager does not answer; will retry");
                }
                if let Err(error) = self.note_unheard().await {
                    tracing::warn!(route = %self.route, %error, "poll failed; will retry");
                }
            }
        }
    }

    async fn poll(&mut self) -> Result<Applied, PollError> {
        let mark = self.store.poll_mark().await?;
        let (mut asked, mut applied) = (Asked::default(), Applied::default());
        self.memory.begin();
        let gone_since = self.gone_since();
        let receivers = self.store.receivers_with_open(&self.route, gone_since).await?;
        let is_idle = receivers.is_empty();
        for receiver in receivers {
            let (first, listed) = self.client.alerts_of_receiver(&receiver, None).await?;
            let mut answers = Answers {
                peers: vec![Peer::default(); self.client.peers()],
                names: self.names.clone(),
                ..Answers::default()
            };
            Self::note_listed(&mut answers, first, listed);
            let mut cursor = OpenCursor::and_gone_since(gone_since);
            loop {
                let page = self.store.open_page(&self.route, &receiver, &mut cursor).await?;
                if page.is_empty() {
                    break;
                }
                self.ask_more(&mut answers, &mut asked, &receiver, &page).await;
                let judged = self.judge_page(&page, &answers);
                let done = self.store.apply_found(mark, judged, self.judge()).await?;
                applied.changed += done.changed;
                applied.dropped += done.dropped;
            }
        }
        self.memory.end();
        if !is_idle {
            self.answered_at = Some(self.clock.now());
        }
        Ok(applied)
    }

    /// What was closed as gone since then is still looked for: until its route would call it stale.
    fn gone_since(&self) -> Timestamp {
        let stale_after = self.config.routes.get(&self.route).map_or(Duration::ZERO, |route| route.stale_after);
        self.clock.now().minus(stale_after)
    }

    fn judge(&self) -> Judge {
        let config = Arc::clone(&self.config);
        let clock = self.clock.clone();
        Arc::new(move |incident, findings, now| intake::found(incident, findings, &config.display, clock.ahead(), now))
    }

    fn judge_page(&mut self, page: &[PolledIncident], answers: &Answers) -> Vec<Judged> {
        let now = self.clock.now();
        let judged = page.iter().filter_map(|incident| {
            let found = judge(incident, answers, &mut self.memory, now);
            let is_old = now.since(incident.heard_at) >= REFRESH_AFTER;
            let refresh = is_old && answers.knows_some_of(std::slice::from_ref(incident));
            (refresh || !found.is_empty()).then(|| Judged { incident: incident.id.clone(), found, refresh })
        });
        judged.collect()
    }

    fn note_listed(answers: &mut Answers, peer: usize, listed: Vec<ApiAlert>) {
        let named = |alert: &ApiAlert| Some((alert.fingerprint.clone(), alert.labels.get("alertname")?.clone()));
        answers.names.extend(listed.iter().filter_map(named));
        let listed: Listed = listed.into_iter().map(|alert| (alert.fingerprint.clone(), alert)).collect();
        if let Some(peer) = answers.peers.get_mut(peer) {
            peer.listed = Some(Arc::new(listed));
        }
    }

    /// Asks for what is needed to judge this page and was not asked before. What cannot be had stays unknown.
    async fn ask_more(&mut self, answers: &mut Answers, asked: &mut Asked, receiver: &str, page: &[PolledIncident]) {
        for (peer, is_known) in answers.peers.iter().zip(&mut self.is_known) {
            let lists = |alert: &str| peer.listed.as_ref().is_some_and(|listed| listed.contains_key(alert));
            *is_known |= page.iter().flat_map(|incident| &incident.alerts).any(|alert| lists(&alert.fingerprint));
        }
        if answers.needs(page).others && answers.peers.iter().any(|peer| peer.listed.is_none()) {
            self.ask_others(answers, receiver).await;
        }
        let needs = answers.needs(page);
        if needs.others {
            self.ask_statuses(answers, asked, receiver).await;
        }
        if !needs.silences.is_empty() {
            if asked.silences.is_none() {
                asked.silences = Some(Arc::new(self.ask_silences().await));
            }
            answers.silences = asked.silences.clone().unwrap_or_default();
        }
        if !needs.names.is_empty() {
            self.ask_names(answers, &needs.names).await;
        }
    }

    async fn ask_others(&mut self, answers: &mut Answers, receiver: &str) {
        for peer in 0..answers.peers.len() {
            if answers.peers[peer].listed.is_some() {
                continue;
            }
            match self.client.alerts_of_receiver(receiver, Some(peer)).await {
                Ok((_, listed)) => Self::note_listed(answers, peer, listed),
                Err(error) => tracing::debug!(route = %self.route, peer, %error, "peer does not answer"),
            }
        }
    }

    /// Asks every peer since when it runs. One that has started since it was asked last makes all that was missing count
    /// from now.
    async fn ask_statuses(&mut self, answers: &mut Answers, asked: &mut Asked, receiver: &str) {
        if asked.statuses.is_none() {
            let mut statuses = Vec::with_capacity(answers.peers.len());
            for peer in 0..answers.peers.len() {
                statuses.push(self.client.status(peer).await.ok());
            }
            let up_since: Vec<_> = statuses.iter().map(|status| status.as_ref()?.up_since).collect();
            let has_restarted = up_since
                .iter()
                .zip(&self.up_since)
                .any(|(now, before)| now.is_some() && before.is_some() && now != before);
            if has_restarted {
                self.memory.clear();
            }
            for (known, now) in self.up_since.iter_mut().zip(up_since) {
                *known = now.or(*known);
            }
            asked.statuses = Some(statuses);
        }
        let wall = self.clock.wall();
        let statuses = asked.statuses.iter().flatten();
        for ((peer, status), is_known) in answers.peers.iter_mut().zip(statuses).zip(&self.is_known) {
            peer.is_conclusive = status.as_ref().is_some_and(|status| is_conclusive(status, receiver, *is_known, wall));
        }
    }

    async fn ask_silences(&self) -> HashMap<String, KnownSilence> {
        let listed = match self.client.silences(false, None).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(route = %self.route, %error, "silences cannot be read");
                return HashMap::new();
            }
        };
        let _ = self.listed.try_send(ListedSilences { client: self.client.clone(), silences: listed.clone() });
        let ids: Vec<String> = listed.iter().map(|silence| silence.id.clone()).collect();
        let names = self.store.silenced_by(&ids).await.unwrap_or_default();
        silences::known(listed, &names)
    }

    /// Finds the names of inhibiting alerts that are routed to other receivers, by listing all alerts now and then.
    async fn ask_names(&mut self, answers: &mut Answers, unnamed: &BTreeSet<String>) {
        let now = self.clock.now();
        if self.names_at.is_some_and(|at| now.since(at) < NAMES_EVERY) {
            return;
        }
        self.names_at = Some(now);
        match self.client.alerts_with(&[]).await {
            Ok(alerts) => {
                if self.names.len() + unnamed.len() > NAMES {
                    self.names.clear();
                }
                for alert in alerts.into_iter().filter(|alert| unnamed.contains(&alert.fingerprint)).take(NAMES) {
                    let name = alert.labels.get("alertname").cloned().unwrap_or_default();
                    self.names.insert(alert.fingerprint.clone(), name.clone());
                    answers.names.insert(alert.fingerprint, name);
                }
            }
            Err(error) => tracing::debug!(route = %self.route, %error, "inhibiting alerts cannot be read"),
        }
    }

    /// After some failures, cards say of alerts that do not notify since when nothing is known.
    async fn note_unheard(&mut self) -> Result<(), StoreError> {
        let since = *self.answered_at.get_or_insert(self.clock.now());
        if self.failures < UNHEARD_AFTER {
            return Ok(());
        }
        let mark = self.store.poll_mark().await?;
        for receiver in self.store.receivers_with_open(&self.route, self.clock.now()).await? {
            let mut cursor = OpenCursor::default();
            loop {
                let page = self.store.open_page(&self.route, &receiver, &mut cursor).await?;
                if page.is_empty() {
                    break;
                }
                let judged = page.iter().filter_map(|incident| {
                    // Never before it became absent, should that be later.
                    let absent = incident.alerts.iter().filter(|alert| alert.state == AlertState::Absent);
                    let since = absent.filter_map(|alert| alert.absent_since).max().map_or(since, |at| at.max(since));
                    let found = unheard(incident, since);
                    (!found.is_empty()).then(|| Judged { incident: incident.id.clone(), found, refresh: false })
                });
                self.store.apply_found(mark, judged.collect(), self.judge()).await?;
            }
        }
        Ok(())
    }
}
