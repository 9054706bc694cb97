//! The client of Alertmanager's API against real ones: Debian's, and the newest where it could be built.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp as Moment};
use matrix_alertmanager_receiver::{
    alertmanager::{
        api::{ApiAlert, ApiSilence, Matcher, NewSilence, SilenceState},
        client::{ApiFault, Client},
    },
    config::{self, ApiAuth, Secret},
    metrics::Metrics,
    model::{RouteName, Timestamp},
};
use serde_json::json;
use url::Url;

use crate::harness::{AlertToPost, Alertmanager, AlertmanagerConfig, Authority, DEADLINE, Silence, eventually};

/// Nobody listens there; what is posted is of no interest here.
const NOWHERE: &str = "http://127.0.0.1:9/alerts/default";

fn settings(urls: &[String]) -> config::Alertmanager {
    config::Alertmanager {
        urls: urls.iter().map(|url| Url::parse(url).expect("a URL")).collect(),
        auth: ApiAuth::None,
        headers: Vec::new(),
        ca_file: None,
        poll: None,
    }
}

fn client_of(settings: config::Alertmanager) -> Client {
    let route = RouteName::parse("default").expect("a name");
    let metrics = Metrics::new(std::slice::from_ref(&route), &[], "v", "c");
    Client::new(Arc::new(settings), route, Arc::new(metrics))
}

fn client(alertmanagers: &[&Alertmanager]) -> Client {
    client_of(settings(&alertmanagers.iter().map(|alertmanager| alertmanager.url()).collect::<Vec<_>>()))
}

fn config(program: &Path) -> AlertmanagerConfig {
    AlertmanagerConfig::webhook(NOWHERE).run_by(program)
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp((Moment::now() + SignedDuration::from_hours(hours)).as_millisecond())
}

fn silence(id: Option<&str>, name: &str, hours: i64) -> NewSilence {
    let matcher = Matcher { name: "alertname".to_owned(), value: name.to_owned(), is_regex: false, is_equal: true };
    NewSilence {
        id: id.map(ToOwned::to_owned),
        matchers: vec![matcher],
        starts_at: in_hours(0),
        ends_at: in_hours(hours),
        created_by: "@sre:localhost".to_owned(),
        comment: "a \"reason\" [mar:1/0]".to_owned(),
    }
}

async fn found(client: &Client, expired: bool, id: &str) -> Option<ApiSilence> {
    let silences = client.silences(expired, None).await.expect("an answer");
    silences.into_iter().find(|silence| silence.id == id)
}

/// The alert of this name, once `good` says so.
async fn alert_that(client: &Client, name: &str, good: impl Fn(&ApiAlert) -> bool) -> ApiAlert {
    eventually(name, DEADLINE, async || {
        let (_, alerts) = client.alerts_of_receiver("matrix", None).await.ok()?;
        alerts.into_iter().find(|alert| alert.labels.get("alertname").is_some_and(|found| found == name) && good(alert))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_say_what_suppresses_them() {
    for program in Alertmanager::versions() {
        let mut config = config(&program);
        config.json["inhibit_rules"] =
            json!([{ "source_match": { "alertname": "Cause" }, "target_match": { "alertname": "Effect" } }]);
        config.json["time_intervals"] = json!([{ "name": "always", "time_intervals": [{ "years": ["2020:2100"] }] }]);
        config.json["route"]["routes"] = json!([{ "matchers": ["alertname=\"Muted\""], "receiver": "matrix", "mute_time_intervals": ["always"] },
                   { "matchers": ["alertname=\"Elsewhere\""], "receiver": "matrixX" }]);
        config.json["receivers"].as_array_mut().expect("receivers").push(json!({ "name": "matrixX" }));
        let alertmanager = Alertmanager::start(config).await;
        let client = client(&[&alertmanager]);
        let names = ["Plain", "Cause", "Effect", "Silenced", "Muted", "Elsewhere"];
        let alerts = names.map(|name| AlertToPost::firing(&[("alertname", name), ("instance", "a\\b\"c\nd")]));
        alertmanager.post_alerts(&alerts).await;
        let id = alertmanager.silence(Silence::of(&[("alertname", "Silenced")])).await;

        let plain = alert_that(&client, "Plain", |_| true).await;
        assert_eq!((plain.receivers.as_slice(), plain.fingerprint.len()), (&["matrix".to_owned()][..], 16));
        assert!(plain.starts_at.is_some() && plain.silenced_by.is_empty() && plain.inhibited_by.is_empty());
        let silenced = alert_that(&client, "Silenced", |alert| !alert.silenced_by.is_empty()).await;
        assert_eq!(silenced.silenced_by, [id]);
        let cause = alert_that(&client, "Cause", |_| true).await;
        let effect = alert_that(&client, "Effect", |alert| !alert.inhibited_by.is_empty()).await;
        assert_eq!(effect.inhibited_by, [cause.fingerprint]);
        // 0.25 has no such field: the alert is there, and nothing says that it is muted.
        let newest = Alertmanager::newest().is_some_and(|newest| newest == program);
        let muted = alert_that(&client, "Muted", |alert| !newest || !alert.muted_by.is_empty()).await;
        assert_eq!(muted.muted_by, if newest { vec!["always".to_owned()] } else { Vec::new() });

        let (_, all) = client.alerts_of_receiver("matrix", Some(0)).await.expect("an answer");
        assert_eq!(all.len(), 5, "{all:#?}");
        assert!(client.alerts_of_receiver("matri.", None).await.expect("an answer").1.is_empty());
        let labels =
            [("alertname".to_owned(), "Elsewhere".to_owned()), ("instance".to_owned(), "a\\b\"c\nd".to_owned())];
        let elsewhere = client.alerts_with(&labels).await.expect("an answer");
        assert_eq!((elsewhere.len(), elsewhere[0].receivers.as_slice()), (1, &["matrixX".to_owned()][..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_is_made_extended_and_expired() {
    for program in Alertmanager::versions() {
        let alertmanager = Alertmanager::start(config(&program)).await;
        let client = client(&[&alertmanager]);
        let id = client.post_silence(&silence(None, "X", 1)).await.expect("made");
        let made = found(&client, false, &id).await.expect("listed");
        assert_eq!((made.state, made.created_by.as_str()), (SilenceState::Active, "@sre:localhost"));
        assert_eq!(made.comment, "a \"reason\" [mar:1/0]");
        assert_eq!(made.matchers, silence(None, "X", 1).matchers);

        // With its own start it keeps its id; with another it gets a new one, and the old one is over.
        let longer = NewSilence { starts_at: made.starts_at, ..silence(Some(&id), "X", 3) };
        let extended = client.post_silence(&longer).await.expect("extended");
        assert_eq!(extended, id);
        let after = found(&client, false, &id).await.expect("listed");
        assert!(after.ends_at.since(made.ends_at) > Duration::from_mins(100), "{after:?}");
        let renamed = client.post_silence(&silence(Some(&id), "Y", 3)).await.expect("another");
        assert_ne!(renamed, id);
        assert_eq!(found(&client, true, &id).await.map(|old| old.state), Some(SilenceState::Expired));
        assert_eq!(found(&client, false, &id).await, None);

        for _ in 0..2 {
            client.expire_silence(&renamed).await.expect("expired, also when it is over");
        }
        assert_eq!(found(&client, false, &renamed).await, None);
        let unknown = "00000000-0000-4000-8000-000000000000";
        client.expire_silence(unknown).await.expect("unknown is over");
        let error = client.post_silence(&silence(Some(unknown), "X", 1)).await.unwrap_err();
        assert_eq!((error.kind, error.detail.contains("silence not found")), (ApiFault::NotFound, true), "{error}");
        let past = client.post_silence(&silence(None, "X", -1)).await.unwrap_err();
        assert_eq!(past.kind, ApiFault::Refused, "{past}");
        let nobody = client.post_silence(&NewSilence { matchers: Vec::new(), ..silence(None, "X", 1) }).await;
        assert_eq!(nobody.unwrap_err().kind, ApiFault::Refused);

        let status = client.status(0).await.expect("an answer");
        assert!(!status.version.is_empty() && status.up_since.is_some(), "{status:?}");
        assert_eq!(status.cluster, "disabled");
        assert!(status.config.contains("receiver: matrix"), "{}", status.config);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_answers_while_one_peer_is_lost() {
    for program in Alertmanager::versions() {
        let mut first = Alertmanager::start(config(&program).clustered()).await;
        let second = Alertmanager::start(config(&program).peer_of(&first)).await;
        eventually("a cluster of two", DEADLINE, async || (second.cluster_size().await == 2).then_some(())).await;
        let client = client(&[&first, &second]);
        let id = client.post_silence(&silence(None, "X", 1)).await.expect("made");
        eventually("the silence is on both", DEADLINE, async || {
            let silences = client.silences(false, Some(1)).await.ok()?;
            silences.iter().any(|silence| silence.id == id).then_some(())
        })
        .await;
        first.kill9();
        assert_eq!(client.alerts_of_receiver("matrix", None).await.expect("an answer").0, 1);
        let error = client.status(0).await.unwrap_err();
        assert_eq!((error.kind, error.detail.contains("cannot connect")), (ApiFault::NotSent, true), "{error}");
        client.post_silence(&silence(None, "Y", 1)).await.expect("made by the other");
        client.expire_silence(&id).await.expect("expired by the other");
        assert_eq!(found(&client, false, &id).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_alertmanager_below_a_prefix() {
    // "receiver" by bcrypt.
    let hash = "$2b$04$KqyM3ABkQJQmvPKxoJ/BfOzhDCTDwgOyvYbSqbIZsGn2l2BFT0QO.";
    for program in Alertmanager::versions() {
        let authority = Authority::new();
        let leaf = authority.leaf("alertmanager", &["localhost"], 2);
        let web = json!({
            "basic_auth_users": { "mar": hash },
            "tls_server_config": { "cert_file": leaf.cert, "key_file": leaf.key },
        });
        let alertmanager = Alertmanager::start(config(&program).prefix("/alertmanager").web(web)).await;
        let url = alertmanager.url().replace("http://", "https://");
        let good = || config::Alertmanager {
            auth: ApiAuth::Basic { username: "mar".to_owned(), password: Secret::new("receiver") },
            ca_file: Some(authority.file().into()),
            ..settings(std::slice::from_ref(&url))
        };
        let id = client_of(good()).post_silence(&silence(None, "X", 1)).await.expect("made");
        client_of(good()).expire_silence(&id).await.expect("expired");

        let wrong = ApiAuth::Basic { username: "mar".to_owned(), password: Secret::new("pa55-word") };
        let error = client_of(config::Alertmanager { auth: wrong, ..good() }).status(0).await.unwrap_err();
        assert_eq!(error.kind, ApiFault::Unauthorized, "{error}");
        assert!(!error.detail.contains("pa55-word"), "{error}");
        let untrusted = client_of(config::Alertmanager { ca_file: None, ..good() }).status(0).await.unwrap_err();
        assert_eq!(untrusted.kind, ApiFault::NotSent, "{untrusted}");
        let elsewhere = settings(&[url.replace("/alertmanager", "/other")]);
        let elsewhere = client_of(config::Alertmanager { urls: elsewhere.urls, ..good() });
        assert_eq!(elsewhere.status(0).await.unwrap_err().kind, ApiFault::NotFound);
        let wrong_path = elsewhere.expire_silence(&id).await.unwrap_err();
        assert_eq!(wrong_path.kind, ApiFault::Refused, "{wrong_path}");
    }
}
