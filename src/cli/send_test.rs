//! `send-test ROUTE`: posts a test incident to the running receiver, to see whether alerts arrive.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use url::Url;

use super::support::{
    http_client::{self, Trust},
    output,
};
use crate::{
    clock::Clock,
    config::{Auth, Config, Purpose, parse_duration},
    lifecycle::Terminations,
    model::{RouteName, Timestamp},
};

/// As long as Alertmanager waits at least.
const TIMEOUT: Duration = Duration::from_secs(10);
const ALERTNAME: &str = "ReceiverTest";

/// Sends a test incident to the running receiver, as Alertmanager would: firing, then resolved.
///
/// A card appears in the rooms of the route and turns green after a while. Address and credentials come from http.listen
/// and http.auth of the config, which must be the config of the running receiver. On the same machine only the
/// certificate of http.tls is trusted, whatever name is in it. Exits with 1 and the reason if the receiver does not
/// accept it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver send-test default
  matrix-alertmanager-receiver send-test team-a --for 1m
  matrix-alertmanager-receiver send-test default \\
    --url https://alerts.example.org")]
pub struct SendTest {
    /// The route to test: the name in [routes.NAME], such as default.
    #[arg(value_parser = RouteName::parse)]
    route: RouteName,
    /// How long the test fires before it is resolved.
    #[arg(long = "for", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    lasts: Duration,
    #[arg(long, value_parser = http_client::receiver_url, help = "\
        The address of the receiver if it differs from http.listen, such as https://alerts.example.org")]
    url: Option<Url>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 5s, 90s or 2m".to_owned())
}

impl SendTest {
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config, &crate::config::environment(), Purpose::Webhook)?;
        let base = match &self.url {
            Some(url) => url.clone(),
            None => http_client::local_url(&config.http)?,
        };
        let ours = self.url.is_none() || http_client::is_loopback(&base);
        let trust = match &config.http.tls {
            Some(tls) if ours => Trust::Only(&tls.cert_file),
            _ => Trust::System,
        };
        let webhook = Webhook {
            client: http_client::client(&base, TIMEOUT, trust, ours)?,
            url: http_client::below(&base, &["alerts", self.route.as_str()]),
            auth: &config.http.auth,
        };
        http_client::block_on(self.send(&webhook, &config))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn send(&self, webhook: &Webhook<'_>, config: &Config) -> anyhow::Result<()> {
        let incident = TestIncident::new(Clock::system().wall(), self.lasts);
        // From before it fires: an interrupt counts also while the webhook is under way.
        let interrupts = Terminations::new()?;
        let id = webhook.post(&incident.firing()).await.context("firing: not accepted")?;
        println!("firing: accepted by {} as notification {id}", webhook.url);
        println!("  look for: a card that says {ALERTNAME}, in {}", self.rooms(config));
        println!("  if none comes: {id} in the receiver's log says why");
        self.wait(interrupts).await;
        let resolved = webhook.post(&incident.resolved(Clock::system().wall())).await;
        let id = resolved.context("resolved: not accepted, the card stays as it is")?;
        println!("resolved: accepted as notification {id}");
        println!("  look for: the same card, now green and RESOLVED");
        Ok(())
    }

    fn rooms(&self, config: &Config) -> String {
        match config.routes.get(&self.route) {
            // The receiver at --url may have other rooms for the route.
            Some(route) if self.url.is_none() && !route.rooms.is_empty() => {
                route.rooms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            _ => format!("the rooms of route {}", self.route),
        }
    }

    /// Waits, but not after an interrupt: the test must not fire on.
    async fn wait(&self, mut interrupts: Terminations) {
        println!("waiting {:?}, to be seen", self.lasts);
        tokio::select! {
            () = tokio::time::sleep(self.lasts) => {}
            signal = interrupts.next() => println!("{signal}: resolving it now"),
        }
    }
}

/// The webhook URL and its credentials.
struct Webhook<'a> {
    client: Client,
    url: Url,
    auth: &'a Auth,
}

impl Webhook<'_> {
    /// Returns the notification's id.
    async fn post(&self, payload: &Value) -> anyhow::Result<String> {
        let request = self.authorized(self.client.post(self.url.clone())).json(payload);
        let answer = http_client::ask(request).await;
        let answer = answer.map_err(|why| anyhow::anyhow!("{}: {why}; does the receiver run there?", self.url))?;
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if answer.status == 200 {
            return match body["notification"].as_str() {
                Some(id) if body["status"] == "accepted" => Ok(output::excerpt(id)),
                _ => bail!("{}: 200, but not an answer of the receiver; check what listens there", self.url),
            };
        }
        let said = output::excerpt(body["error"].as_str().unwrap_or(&answer.body));
        let advice = self.advice(answer.status, answer.location.as_deref());
        bail!("{}: {} {said}; {advice}", self.url, answer.status)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match self.auth {
            Auth::None => request,
            Auth::Bearer(token) => request.bearer_auth(token.expose()),
            Auth::Basic { username, password } => request.basic_auth(username, Some(password.expose())),
        }
    }

    fn advice(&self, status: u16, location: Option<&str>) -> String {
        match status {
            401 if matches!(self.auth, Auth::None) => {
                "the running receiver needs credentials, and this config has none: use the config that it runs with"
                    .to_owned()
            }
            401 => "the running receiver has other credentials than http.auth of this config: was it started with \
                    this config, and before a change of it?"
                .to_owned(),
            404 => "the running receiver has no such route: was it started before the route was added, or is the \
                    address not the receiver's?"
                .to_owned(),
            300..=399 => format!("redirected to {}: use that address", location.unwrap_or("an unnamed address")),
            503 => "it cannot accept alerts at present; Alertmanager would retry".to_owned(),
            _ => "that is not an answer that Alertmanager should get: look at the receiver's log".to_owned(),
        }
    }
}

/// A test incident as Alertmanager would send it. Each run has a new group, and so gets a new card.
struct TestIncident {
    group_key: String,
    started: Timestamp,
    lasts: Duration,
}

impl TestIncident {
    fn new(now: Timestamp, lasts: Duration) -> Self {
        let run = ulid::Ulid::new();
        Self { group_key: format!("{{}}:{{alertname=\"{ALERTNAME}\", run=\"{run}\"}}"), started: now, lasts }
    }

    fn firing(&self) -> Value {
        self.payload("firing", None)
    }

    fn resolved(&self, now: Timestamp) -> Value {
        self.payload("resolved", Some(now))
    }

    fn payload(&self, status: &str, ended: Option<Timestamp>) -> Value {
        let labels = json!({ "alertname": ALERTNAME, "severity": "info" });
        let annotations = json!({
            "summary": "this is a test, nothing is wrong",
            "description": format!(
                "Sent by hand with the command send-test, to see whether alerts arrive. Turns green after {:?}.",
                self.lasts
            ),
        });
        json!({
            "version": "4",
            "receiver": "send-test",
            "status": status,
            "groupKey": self.group_key,
            "truncatedAlerts": 0,
            "groupLabels": { "alertname": ALERTNAME },
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": "",
            "alerts": [{
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": rfc3339(self.started),
                // Go's zero time.
                "endsAt": ended.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339),
                "generatorURL": "",
                // Any value does, since the group has a single alert.
                "fingerprint": "5e4d7e577e577e57",
            }],
        })
    }
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake;

    #[test]
    fn the_receiver_decodes_it() {
        let incident = TestIncident::new(Timestamp(1_700_000_000_000), Duration::from_secs(5));
        let read = |payload: Value| intake::decode(payload.to_string().as_bytes()).expect("a webhook payload");
        let (firing, resolved) = (read(incident.firing()), read(incident.resolved(Timestamp(1_700_000_005_000))));
        assert_eq!((firing.odd, resolved.odd), (0, 0));
        assert_eq!(firing.group_key, resolved.group_key);
        assert_eq!(firing.alerts[0].starts_at, Some(Timestamp(1_700_000_000_000)));
        assert_eq!(resolved.alerts[0].ends_at, Some(Timestamp(1_700_000_005_000)));
        assert!(firing.alerts[0].firing && !resolved.alerts[0].firing);
        let other = TestIncident::new(Timestamp(1_700_000_000_000), Duration::from_secs(5));
        assert_ne!(read(other.firing()).group_key, firing.group_key);
    }
}
