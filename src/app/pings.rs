//! Passes beats on to a watcher outside (`ping_url`), as long as what comes in for their route also reaches its rooms: so
//! somebody notices when that ends, whatever the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, redirect::Policy};
use tokio::{sync::Semaphore, task::JoinSet};
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
/// Switches whose last outcome is remembered.
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
            Some(ended) = pings.running.join_next() => pings.end(ended.ok()),
        }
    }
}

struct Pings {
    app: Arc<App>,
    /// Made for the first ping: authorities take time to load, and most configs have no ping.
    client: Option<Client>,
    slots: Arc<Semaphore>,
    running: JoinSet<(SwitchKey, Outcome)>,
    /// Switches with a ping on its way.
    busy: BTreeSet<SwitchKey>,
    /// What was logged last, by switch.
    last: BTreeMap<SwitchKey, Outcome>,
}

impl Pings {
    fn new(app: Arc<App>) -> Self {
        let (slots, running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        Self { app, client: None, slots, running, busy: BTreeSet::new(), last: BTreeMap::new() }
    }

    /// A switch whose ping is still on its way waits for its next beat.
    fn begin(&mut self, beats: BTreeSet<SwitchKey>) {
        let config = self.app.config();
        for key in beats {
            let Some(route) = config.routes.get(&key.route) else { continue };
            let heartbeat = route.heartbeats.iter().find(|heartbeat| heartbeat.name == key.name);
            let Some(url) = heartbeat.and_then(|heartbeat| heartbeat.ping_url.clone()) else { continue };
            let Some(client) = self.client() else { return };
            if !self.busy.insert(key.clone()) {
                continue;
            }
            let (app, route, slots) = (Arc::clone(&self.app), route.clone(), Arc::clone(&self.slots));
            self.running.spawn(async move {
                let _slot = slots.acquire().await;
                let outcome =
                    if http::delivers(&app, &route).await { ping(&client, &url).await } else { Outcome::Withheld };
                (key, outcome)
            });
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

    fn end(&mut self, ended: Option<(SwitchKey, Outcome)>) {
        let Some((key, outcome)) = ended else {
            // A panic: which one it was is not known, and none is on its way for ever.
            tracing::error!("panic in a heartbeat ping");
            if self.running.is_empty() {
                self.busy.clear();
            }
            return;
        };
        self.busy.remove(&key);
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
        clock::Clock, evidence::tests::config, health::Health, metrics::Metrics, model::RouteName, store::Store,
    };

    async fn pings(folder: &std::path::Path, url: &str) -> Pings {
        let config = config(&format!(
            "[[routes.default.heartbeats]]\nname = \"prometheus\"\nmatch = {{ alertname = \"Watchdog\" }}\n\
             ping_url = \"{url}\"\n"
        ));
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new(&[], &[], "v", "c")));
        let health = Arc::new(Health::default());
        let store = Store::open(folder, clock.clone(), Arc::clone(&metrics), Arc::clone(&health)).await;
        Pings::new(Arc::new(App::new(config, store.expect("a store"), clock, metrics, health)))
    }

    fn key(name: &str) -> SwitchKey {
        let route = RouteName::parse("default").expect("a name");
        SwitchKey { route, name: name.to_owned(), labels: [("x".to_owned(), String::new())].into() }
    }

    #[tokio::test]
    async fn a_ping_is_withheld_while_rooms_are_not_reached_and_one_is_on_its_way_at_a_time() {
        let (folder, server) = (tempfile::tempdir().expect("a folder"), MockServer::start().await);
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let mut pings = pings(folder.path(), &server.uri()).await;
        let requests = async || server.received_requests().await.expect("recorded").len();
        let counted = |pings: &Pings, outcome| {
            pings.app.metrics.heartbeat_pings.with_label_values(&["default", "prometheus", outcome]).get()
        };
        for (connected, outcome, sent) in [(false, "withheld", 0), (true, "sent", 1), (true, "sent", 2)] {
            pings.app.health.update(|health| health.connected = connected);
            let before = counted(&pings, outcome);
            // The second beat comes while the first one's ping is on its way.
            pings.begin([key("prometheus"), key("not in the config")].into());
            pings.begin([key("prometheus")].into());
            assert_eq!(pings.running.len(), 1);
            let ended = pings.running.join_next().await.expect("one");
            pings.end(ended.ok());
            assert_eq!((counted(&pings, outcome), requests().await), (before + 1, sent), "{outcome}");
        }
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
