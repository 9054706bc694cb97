//! The shared session against a scripted homeserver, whose logins invalidate the token before.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

use super::*;
use crate::{
    clock::Clock,
    config::{Config, Purpose},
    health::Health,
    metrics::Metrics,
};

const CLIENT: &str = "/_matrix/client/v3";

/// What the homeserver has seen and answers.
#[derive(Default)]
struct Scripted {
    /// The token that it accepts.
    token: Option<String>,
    /// The devices of all logins, in their order.
    logins: Vec<String>,
    /// Logins that are worked on and answered 500.
    lost: usize,
    /// It gives tokens that end within this, and a refresh token.
    lifetime: Option<i64>,
    refreshes: usize,
}

type Script = Arc<Mutex<Scripted>>;

fn session(script: &mut Scripted) -> Value {
    let token = format!("token-{}-{}", script.logins.len(), script.refreshes);
    script.token = Some(token.clone());
    let mut json = json!({ "access_token": token });
    if let Some(lifetime) = script.lifetime {
        json["expires_in_ms"] = lifetime.into();
        json["refresh_token"] = "refresh".into();
    }
    json
}

async fn homeserver() -> (MockServer, Script) {
    let (server, script) = (MockServer::start().await, Script::default());
    let known = Arc::clone(&script);
    let whoami = move |request: &Request| {
        let asked = request.headers["authorization"].to_str().expect("text").trim_start_matches("Bearer ").to_owned();
        let script = lock(&known);
        if script.token.as_ref() != Some(&asked) {
            return refusal();
        }
        let device = script.logins.last().cloned();
        ResponseTemplate::new(200).set_body_json(json!({ "user_id": "@a:x", "device_id": device }))
    };
    Mock::given(method("GET")).and(path(format!("{CLIENT}/account/whoami"))).respond_with(whoami).mount(&server).await;
    let known = Arc::clone(&script);
    let login = move |request: &Request| {
        let body: Value = request.body_json().expect("JSON");
        let device = body["device_id"].as_str().expect("a device").to_owned();
        let mut script = lock(&known);
        script.logins.push(device.clone());
        let mut json = session(&mut script);
        (json["user_id"], json["device_id"]) = ("@a:x".into(), device.into());
        if script.lost > 0 {
            script.lost -= 1;
            return ResponseTemplate::new(500);
        }
        ResponseTemplate::new(200).set_body_json(json)
    };
    Mock::given(method("POST")).and(path(format!("{CLIENT}/login"))).respond_with(login).mount(&server).await;
    let known = Arc::clone(&script);
    let refresh = move |_: &Request| {
        let mut script = lock(&known);
        script.refreshes += 1;
        ResponseTemplate::new(200).set_body_json(session(&mut script))
    };
    Mock::given(method("POST")).and(path(format!("{CLIENT}/refresh"))).respond_with(refresh).mount(&server).await;
    (server, script)
}

fn refusal() -> ResponseTemplate {
    ResponseTemplate::new(401).set_body_json(json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "no" }))
}

/// What all replicas have in common.
struct World {
    server: MockServer,
    script: Script,
    /// Every text that was stored; `Err`: the store is away.
    texts: Arc<Mutex<Result<Vec<String>, ()>>>,
    home: TempDir,
}

impl World {
    async fn new() -> Self {
        let (server, script) = homeserver().await;
        let home = tempfile::tempdir().expect("a folder");
        Self { server, script, texts: Arc::new(Mutex::new(Ok(Vec::new()))), home }
    }

    fn replica(&self, password: Option<&str>, leads: bool) -> (Shared, watch::Sender<bool>) {
        let mut env = BTreeMap::from([
            ("MATRIX_HOMESERVER".to_owned(), self.server.uri()),
            ("MATRIX_USER_ID".to_owned(), "@a:x".to_owned()),
            ("MATRIX_ROOM_ID".to_owned(), "!a:x".to_owned()),
        ]);
        env.extend(password.map(|password| ("MATRIX_PASSWORD".to_owned(), password.to_owned())));
        let context = Context {
            config: Config::load(None, &env, Purpose::Serve).expect("a config").matrix,
            store_path: self.home.path().to_owned(),
            clock: Clock::system(),
            metrics: Arc::new(Metrics::new(&[], &[], "v", "c")),
            health: Arc::new(Health::default()),
            cancel: CancellationToken::new(),
            api: OnceCell::new(),
        };
        let (leads, leading) = watch::channel(leads);
        let (from, to) = (Arc::clone(&self.texts), Arc::clone(&self.texts));
        let away = || anyhow::anyhow!("the database is away");
        let setup = SharedSetup {
            load: Arc::new(move || {
                let text = lock(&from).as_ref().map(|texts| texts.last().cloned()).map_err(|()| away());
                Box::pin(async move { text })
            }),
            save: Arc::new(move |text| {
                let saved = lock(&to).as_mut().map(|texts| texts.push(text)).map_err(|()| away());
                Box::pin(async move { saved })
            }),
            leads: leading,
        };
        (Shared::new(&Arc::new(context), setup), leads)
    }

    fn logins(&self) -> Vec<String> {
        lock(&self.script).logins.clone()
    }

    fn texts(&self) -> Vec<StoredSession> {
        let texts = lock(&self.texts).clone().expect("the store");
        texts.iter().map(|text| StoredSession::parse(text).expect("a session")).collect()
    }
}

#[tokio::test]
async fn the_leader_logs_in_once_under_a_name_that_was_stored_before() {
    let world = World::new().await;
    let ((leader, _leads), (follower, _follows)) = (world.replica(Some("p"), true), world.replica(Some("p"), false));
    let waits = follower.attempt().await.err().expect("nothing to use");
    assert_eq!((waits.reason, waits.detail.as_str()), (Reason::NotReady, attempt::WAITING));
    let session = leader.attempt().await.expect("a session");
    let texts = world.texts();
    let [named, stored] = texts.as_slice() else { panic!("stored {} times", texts.len()) };
    assert_eq!((named.access_token.as_str(), named.device_id.as_str()), ("", stored.device_id.as_str()));
    assert_eq!(session.device.as_ref(), Some(&stored.device_id));
    assert!(follower.attempt().await.expect("a session") == session);
    assert!(leader.attempt().await.expect("a session") == session);
    assert_eq!(world.logins().len(), 1);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_by_the_leader_alone_on_the_same_device() {
    let world = World::new().await;
    let ((leader, _leads), (follower, leads)) = (world.replica(Some("p"), true), world.replica(Some("p"), false));
    let before = leader.attempt().await.expect("a session");
    leader.set_up(&before);
    let known = leader.device();
    assert_eq!(known, before.device, "its own name");
    lock(&world.script).token = None;
    assert_eq!(follower.attempt().await.err().expect("rejected").detail, attempt::WAITING);
    assert_eq!(world.logins().len(), 1);
    let after = leader.attempt().await.expect("a session");
    assert!(after.token != before.token && after.device == before.device);
    assert_eq!(follower.attempt().await.expect("a session").token, after.token);
    // What was sent before is not remembered for certain: the device may have been deleted.
    for replica in [&leader, &follower] {
        replica.set_up(&after);
        assert!(replica.device().is_some_and(|device| Some(&device) != known.as_ref()), "{:?}", replica.device());
    }
    assert_eq!(leader.device(), follower.device());
    // The one that takes over does what the leader did.
    lock(&world.script).token = None;
    leads.send_replace(true);
    assert_eq!(follower.attempt().await.expect("a session").device, before.device);
    assert_eq!(world.logins().len(), 3);
}

#[tokio::test]
async fn a_login_whose_answer_is_lost_makes_no_second_device() {
    let world = World::new().await;
    lock(&world.script).lost = 2;
    let (leader, _leads) = world.replica(Some("p"), true);
    for _ in 0..2 {
        assert_eq!(leader.attempt().await.err().expect("lost").reason, Reason::ServerError);
    }
    leader.attempt().await.expect("a session");
    let logins = world.logins();
    assert!(logins.len() == 3 && logins.iter().all(|device| *device == logins[0]), "{logins:?}");
}

#[tokio::test]
async fn without_a_password_only_login_helps() {
    let world = World::new().await;
    let (leader, _leads) = world.replica(None, true);
    let missing = leader.attempt().await.err().expect("nothing to use");
    assert_eq!(missing.reason, Reason::NotReady);
    for words in ["run login", "matrix.password_file", "matrix.access_token_file"] {
        assert!(missing.detail.contains(words), "{missing}");
    }
    let (other, _) = world.replica(Some("p"), true);
    other.attempt().await.expect("a session");
    leader.attempt().await.expect("the stored one");
    lock(&world.script).token = None;
    let rejected = leader.attempt().await.err().expect("rejected");
    assert_eq!(rejected.reason, Reason::TokenRejected);
    let advised = with_advice(rejected, leader.credential(), "run login --shared");
    assert!(advised.detail.contains("run login --shared"), "{advised}");
    assert_eq!(world.logins().len(), 1);
}

#[tokio::test]
async fn only_the_leader_renews_a_token_that_ends_and_stores_it_before_its_use() {
    let world = World::new().await;
    lock(&world.script).lifetime = Some(30_000);
    let ((leader, _leads), (follower, _follows)) = (world.replica(Some("p"), true), world.replica(Some("p"), false));
    let first = leader.attempt().await.expect("a session");
    assert!(first.expires.is_some());
    assert_eq!(follower.attempt().await.expect("a session").token, first.token);
    assert_eq!(lock(&world.script).refreshes, 0);
    lock(&world.script).lifetime = Some(3_600_000);
    let second = leader.attempt().await.expect("a session");
    assert!(second.token != first.token && lock(&world.script).refreshes == 1);
    assert_eq!(world.texts().last().expect("stored").access_token, second.token);
    assert_eq!((follower.attempt().await.expect("a session").token, world.logins().len()), (second.token, 1));
}

#[tokio::test]
async fn a_session_of_another_account_is_not_used_and_a_store_that_is_away_is_named() {
    let world = World::new().await;
    let (leader, _leads) = world.replica(Some("p"), true);
    let other = r#"{"user_id":"@b:x","device_id":"D","access_token":"t","homeserver":"https://y/"}"#;
    for text in [other, "damaged"] {
        *lock(&world.texts) = Ok(vec![text.to_owned()]);
        assert!(leader.attempt().await.expect("a session").device.is_some_and(|device| device != "D"));
    }
    assert_eq!(world.logins().len(), 2);
    *lock(&world.texts) = Err(());
    let away = leader.attempt().await.err().expect("no store");
    assert_eq!(away.reason, Reason::NotReady);
    assert!(away.detail.contains("the database is away"), "{away}");
}

#[tokio::test]
async fn sends_get_the_session_and_a_rejected_one_is_checked_at_once() {
    let world = World::new().await;
    let (leader, _leads) = world.replica(Some("p"), true);
    let rejected: Result<(), SendError> = Err(errors::send_error(Reason::TokenRejected, "401"));
    let work = async {
        assert_eq!(leader.device(), None, "not known yet");
        let first = leader.session().await.expect("a session");
        assert_eq!(leader.device(), first.device);
        assert!(leader.is(first.device.as_deref().expect("a device")).await && !leader.is("OTHER").await);
        lock(&world.script).token = None;
        leader.note_rejection(rejected).unwrap_err();
        leader.replaced(&first.token).await;
        let second = leader.session().await.expect("a session");
        assert!(second.token != first.token && second.device == first.device);
        assert_eq!(leader.context.health.snapshot().shared_fault, None);
    };
    tokio::select! {
        () = leader.keep() => unreachable!("it never ends"),
        done = timeout(Duration::from_secs(30), work) => done.expect("in time"),
    }
}

/// As for the replica's own session: homeservers forget the transaction ids of such a token when they restart.
#[tokio::test]
async fn a_token_without_a_device_counts_as_another_with_each_send() {
    let world = World::new().await;
    let (shared, _leads) = world.replica(Some("p"), true);
    shared.set_up(&Session { device: None, token: "t".to_owned(), expires: None });
    let before = shared.confirmed_device().await.expect("a session");
    shared.count_send();
    assert_ne!(shared.confirmed_device().await.expect("a session"), before);
}
