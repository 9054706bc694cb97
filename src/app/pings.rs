//! Passes beats on to a watcher outside (`ping_url`), as long as what comes in for their route also reaches its rooms: so
//! somebody notices when that ends, whatever the reason.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error as _,
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, redirect::Policy};
use tokio::{
    sync::Semaphore,
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Secret,
    http::{self, App},
    model::SwitchKey,
};

/// For all of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at a time, for all switches.
const AT_ONCE: usize = 8;
/// Switches with a ping on its way, and those whose last outcome is remembered. Label sets beyond the limit of switches
/// come here as well.
const MOST_KNOWN: usize = 1_000;

/// What became of a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// In words that name no URL: whoever knows it can ping it.
    Failed(String),
    /// What comes in does not reach the rooms, so that the watcher outside should notice.
    Withheld,
}

impl Outcome {
    /// The label of `heartbeat_pings_total`.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed(_) => "failed",
            Self::Withheld => "withheld",
        }
    }
}

/// Passes beats on, until `stop`.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut pings = Pings::new(Arc::clone(&app));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            beats = app.beats.take() => pings.begin(beats),
            Some(ended) = pings.running.join_next_with_id() => pings.end(ended),
        }
    }
}

struct Pings {
    app: Arc<App>,
    /// Made for the first ping: authorities take time to load, and most configs have no ping.
    client: Option<Client>,
    slots: Arc<Semaphore>,
    running: JoinSet<Outcome>,
    under_way: UnderWay,
    /// What was logged last, by switch.
    last: BTreeMap<SwitchKey, Outcome>,
}

impl Pings {
    fn new(app: Arc<App>) -> Self {
        let (slots, running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        Self { app, client: None, slots, running, under_way: UnderWay::default(), last: BTreeMap::new() }
    }

    /// A switch whose ping is still on its way gets another one after that.
    fn begin(&mut self, beats: BTreeSet<SwitchKey>) {
        let config = self.app.config();
        for key in beats {
            let Some(route) = config.routes.get(&key.route) else { continue };
            let heartbeat = route.heartbeats.iter().find(|heartbeat| heartbeat.name == key.name);
            let Some(url) = heartbeat.and_then(|heartbeat| heartbeat.ping_url.clone()) else { continue };
            let Some(client) = self.client() else { return };
            if !self.under_way.may_begin(&key) {
                continue;
            }
            let (app, route, slots) = (Arc::clone(&self.app), route.clone(), Arc::clone(&self.slots));
            let task = self.running.spawn(async move {
                let _slot = slots.acquire().await;
                if http::delivers(&app, &route).await { ping(&client, &url).await } else { Outcome::Withheld }
            });
            self.under_way.began(key, task.id());
        }
    }

    fn client(&mut self) -> Option<Client> {
        if self.client.is_none() {
            match client() {
                Ok(client) => self.client = Some(client),
                Err(error) => tracing::warn!(%error, "heartbeat pings impossible"),
            }
        }
        self.client.clone()
    }

    fn end(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (task, outcome) = ended.map_or_else(|error| (error.id(), None), |(task, outcome)| (task, Some(outcome)));
        let Some((key, beats_again)) = self.under_way.ended(task) else { return };
        if let Some(outcome) = outcome {
            self.record(key.clone(), outcome);
        } else {
            tracing::error!(route = %key.route, heartbeat = key.name, "panic in a heartbeat ping");
        }
        if beats_again {
            self.begin(BTreeSet::from([key]));
        }
    }

    fn record(&mut self, key: SwitchKey, outcome: Outcome) {
        let (route, heartbeat) = (key.route.as_str(), key.name.as_str());
        self.app.metrics.heartbeat_pings.with_label_values(&[route, heartbeat, outcome.as_str()]).inc();
        if self.last.get(&key) != Some(&outcome) {
            match &outcome {
                Outcome::Sent => tracing::info!(route, heartbeat, "heartbeat pings arrive"),
                Outcome::Failed(error) => tracing::warn!(route, heartbeat, error, "heartbeat pings fail"),
                Outcome::Withheld => {
                    tracing::warn!(route, heartbeat, "heartbeat pings withheld; rooms are not reached");
                }
            }
            if self.last.len() >= MOST_KNOWN {
                self.last.clear();
            }
            self.last.insert(key, outcome);
        }
    }
}

/// Which switches have a ping on its way.
#[derive(Debug, Default)]
struct UnderWay {
    /// Whose ping a task is, for one that panics as well.
    tasks: HashMap<Id, SwitchKey>,
    /// Whether another beat has come since the ping began.
    beats_again: BTreeMap<SwitchKey, bool>,
}

impl UnderWay {
    /// `false`: one is on its way, and this beat gets its own after it; or there are too many.
    fn may_begin(&mut self, key: &SwitchKey) -> bool {
        match self.beats_again.get_mut(key) {
            Some(beats_again) => {
                *beats_again = true;
                false
            }
            None => self.beats_again.len() < MOST_KNOWN,
        }
    }

    fn began(&mut self, key: SwitchKey, task: Id) {
        self.tasks.insert(task, key.clone());
        self.beats_again.insert(key, false);
    }

    /// Whose ping it was, and whether another beat has come since it began.
    fn ended(&mut self, task: Id) -> Option<(SwitchKey, bool)> {
        let key = self.tasks.remove(&task)?;
        let beats_again = self.beats_again.remove(&key).unwrap_or_default();
        Some((key, beats_again))
    }
}

/// Follows no redirects: a token must not go elsewhere.
fn client() -> reqwest::Result<Client> {
    let agent = concat!("matrix-alertmanager-receiver/", env!("CARGO_PKG_VERSION"));
    Client::builder().user_agent(agent).redirect(Policy::none()).timeout(TIMEOUT).pool_max_idle_per_host(0).build()
}

async fn ping(client: &Client, url: &Secret) -> Outcome {
    match client.get(url.expose()).send().await {
        Ok(answer) if answer.status().is_success() => Outcome::Sent,
        Ok(answer) => Outcome::Failed(format!("answered {}", answer.status().as_u16())),
        Err(error) => Outcome::Failed(fault(&error)),
    }
}

/// Without the words of the client, which may quote the URL.
fn fault(error: &reqwest::Error) -> String {
    let (mut next, mut io) = (error.source(), None);
    while let (Some(error), None) = (next, io) {
        io = error.downcast_ref::<std::io::Error>();
        next = error.source();
    }
    match io {
        _ if error.is_timeout() => "no answer within 10 s".to_owned(),
        Some(io) if error.is_connect() => format!("cannot connect: {}", io.kind()),
        _ if error.is_connect() => "cannot connect".to_owned(),
        _ if error.is_builder() => "not a URL".to_owned(),
        _ => "the request failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

    use super::*;
    use crate::{
        clock::Clock,
        evidence::tests::config,
        health::Health,
        metrics::Metrics,
        model::{Labels, RouteName},
        store::Store,
    };

    async fn pings(folder: &std::path::Path, url: &str) -> Pings {
        let config = config(&format!(
            "[[routes.default.heartbeats]]\nname = \"prometheus\"\nmatch = {{ alertname = \"Watchdog\" }}\n\
             ping_url = \"{url}\"\n"
        ));
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new(&[], &[], "v", "c")));
        let health = Arc::new(Health::default());
        let store = Store::open(folder, clock.clone(), Arc::clone(&metrics), Arc::clone(&health)).await;
        Pings::new(Arc::new(App::new(
            Arc::new(http::Front::new(config, clock, metrics, health)),
            store.expect("a store"),
        )))
    }

    #[tokio::test]
    async fn a_ping_is_withheld_while_rooms_are_not_reached_and_one_is_on_its_way_at_a_time() {
        let (folder, server) = (tempfile::tempdir().expect("a folder"), MockServer::start().await);
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let mut pings = pings(folder.path(), &server.uri()).await;
        let counted = |pings: &Pings, outcome| {
            pings.app.metrics.heartbeat_pings.with_label_values(&["default", "prometheus", outcome]).get()
        };
        for (connected, outcome, sent) in [(false, "withheld", 0), (true, "sent", 2)] {
            pings.app.health.update(|health| health.connected = connected);
            // The second beat comes while the first one's ping is on its way, and gets its own after it.
            pings.begin([key("prometheus"), key("not in the config")].into());
            pings.begin([key("prometheus")].into());
            for _ in 0..2 {
                assert_eq!(pings.running.len(), 1, "{outcome}");
                let ended = pings.running.join_next_with_id().await.expect("one");
                pings.end(ended);
            }
            assert_eq!(pings.running.len(), 0, "{outcome}");
            let received = server.received_requests().await.expect("recorded").len();
            assert_eq!((counted(&pings, outcome), received), (2, sent), "{outcome}");
        }
    }

    fn key(name: &str) -> SwitchKey {
        let route = RouteName::parse("default").expect("a name");
        SwitchKey { route, name: name.to_owned(), labels: Labels::new() }
    }

    #[tokio::test]
    async fn a_beat_during_a_ping_gets_its_own_and_a_panic_blocks_no_switch() {
        let (mut under_way, mut running) = (UnderWay::default(), JoinSet::new());
        let (quick, panics, hangs) = (key("quick"), key("panics"), key("hangs"));
        assert!([&quick, &panics, &hangs].into_iter().all(|key| under_way.may_begin(key)));
        under_way.began(quick.clone(), running.spawn(async {}).id());
        assert!(!under_way.may_begin(&quick));
        under_way.began(panics.clone(), running.spawn(async { panic!("on purpose") }).id());
        under_way.began(hangs.clone(), running.spawn(std::future::pending()).id());
        let mut ended = Vec::new();
        for _ in 0..2 {
            let task = running.join_next_with_id().await.expect("one ends");
            let task = task.map_or_else(|error| error.id(), |(task, ())| task);
            ended.extend(under_way.ended(task));
        }
        ended.sort();
        assert_eq!(ended, [(panics.clone(), false), (quick.clone(), true)]);
        assert!(under_way.may_begin(&quick) && under_way.may_begin(&panics) && !under_way.may_begin(&hangs));
    }

    #[tokio::test]
    async fn pings_on_their_way_are_bounded() {
        let (mut under_way, mut running) = (UnderWay::default(), JoinSet::<()>::new());
        for number in 0..MOST_KNOWN {
            let key = key(&number.to_string());
            assert!(under_way.may_begin(&key));
            under_way.began(key, running.spawn(std::future::pending()).id());
        }
        assert!(!under_way.may_begin(&key("another")));
    }

    #[tokio::test]
    async fn what_became_of_a_ping_names_no_url() {
        let server = MockServer::start().await;
        let elsewhere = MockServer::start().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&elsewhere).await;
        let client = client().expect("a client");
        for (status, expected) in [
            (200, Outcome::Sent),
            (204, Outcome::Sent),
            (302, Outcome::Failed("answered 302".to_owned())),
            (404, Outcome::Failed("answered 404".to_owned())),
        ] {
            server.reset().await;
            let answer = ResponseTemplate::new(status).insert_header("location", elsewhere.uri());
            Mock::given(any()).respond_with(answer).mount(&server).await;
            let url = Secret::new(format!("{}/secret-token", server.uri()));
            assert_eq!(ping(&client, &url).await, expected, "{status}");
        }
        assert!(elsewhere.received_requests().await.expect("recorded").is_empty(), "redirects are not followed");
        for url in ["http://127.0.0.1:1/secret-token", "http://no-such-host.invalid/secret-token", "secret-token"] {
            let Outcome::Failed(error) = ping(&client, &Secret::new(url)).await else { panic!("{url} was reached") };
            assert!(!error.contains("secret") && !error.is_empty(), "{error}");
        }
    }
}
