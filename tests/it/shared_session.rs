//! Replicas of one account: a device that all of them share for plain rooms, and one of each for encrypted ones. The
//! accounts are the library's own here, and a text in memory stands for the store that replicas share.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Arc, Mutex},
};

use matrix_alertmanager_receiver::{
    clock::Clock,
    config::{Config, Purpose},
    delivery::{CONTENT_KEY, FrozenEvent, MESSAGE, Search, Transport as _},
    health::{Health, Trust},
    matrix::{Account, Setup, SharedSetup},
    metrics::Metrics,
    model::{NoKeys, Reason, RoomAddress, SendError, TxnId},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::harness::{DEADLINE, Homeserver, NewRoom, Reader, Room, Scene, User, eventually, process::Scratch};

/// The text that replicas share.
#[derive(Clone, Default)]
struct SharedText(Arc<Mutex<Option<String>>>);

impl SharedText {
    fn json(&self) -> Value {
        let text = self.0.lock().expect("a lock").clone();
        text.map(|text| serde_json::from_str(&text).expect("JSON")).unwrap_or_default()
    }

    fn token(&self) -> String {
        self.json()["access_token"].as_str().unwrap_or_default().to_owned()
    }

    fn setup(&self, leads: watch::Receiver<bool>) -> SharedSetup {
        let (from, to) = (Arc::clone(&self.0), Arc::clone(&self.0));
        SharedSetup {
            load: Arc::new(move || {
                let text = from.lock().expect("a lock").clone();
                Box::pin(async move { Ok(text) })
            }),
            save: Arc::new(move |text| {
                *to.lock().expect("a lock") = Some(text);
                Box::pin(async { Ok(()) })
            }),
            leads,
        }
    }
}

struct Replica {
    account: Arc<Account>,
    health: Arc<Health>,
    leads: watch::Sender<bool>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    home: Scratch,
}

impl Replica {
    /// `keys`: of the config's table `matrix`.
    fn start(bot: &User, rooms: &[&Room], keys: &[(&str, &str)], text: &SharedText, leads: bool) -> Self {
        Self::start_in(Scratch::new("replica"), bot, rooms, keys, text, leads)
    }

    /// In the folder of an earlier one.
    fn start_in(
        home: Scratch,
        bot: &User,
        rooms: &[&Room],
        keys: &[(&str, &str)],
        text: &SharedText,
        leads: bool,
    ) -> Self {
        let mut env = BTreeMap::from([
            ("MATRIX_HOMESERVER".to_owned(), bot.homeserver.clone()),
            ("MATRIX_USER_ID".to_owned(), bot.user_id.clone()),
            ("MATRIX_ROOM_ID".to_owned(), rooms.iter().map(|room| room.id.as_str()).collect::<Vec<_>>().join(",")),
        ]);
        env.extend(keys.iter().map(|(key, value)| (format!("MAR_MATRIX__{key}"), (*value).to_owned())));
        let config = Config::load(None, &env, Purpose::Serve).expect("a config");
        let health = Arc::new(Health::new(&config.rooms()));
        let (leads, leading) = watch::channel(leads);
        let cancel = CancellationToken::new();
        let (account, task) = Account::start(Setup {
            config: config.matrix.clone(),
            store_path: home.path().to_path_buf(),
            rooms: rooms.iter().map(|room| address(room)).collect(),
            resolved_rooms: HashMap::new(),
            save_resolved_room: Arc::new(|_, _| Box::pin(async { Ok(()) })),
            known_device: None,
            save_device: Arc::new(|_| panic!("the device of a replica is not in the shared store")),
            shared: Some(text.setup(leading)),
            clock: Clock::system(),
            metrics: Arc::new(Metrics::new(&[], &[], "v", "c")),
            health: Arc::clone(&health),
            cancel: cancel.clone(),
        });
        Self { account, health, leads, cancel, task: tokio::spawn(task), home }
    }

    /// Waits until it can send to the room, and returns the device that would.
    async fn ready(&self, room: &Room) -> String {
        eventually("a replica is ready", DEADLINE, async || self.account.connected(&address(room)).await.ok()).await
    }

    async fn signed(&self) {
        eventually("a signed device", DEADLINE, async || {
            matches!(self.health.snapshot().trust, Trust::Signed { .. }).then_some(())
        })
        .await;
    }

    /// The session of this replica's device.
    fn session(&self) -> Value {
        let text = fs::read_to_string(self.home.path().join("session.json")).expect("a session");
        serde_json::from_str(&text).expect("JSON")
    }

    fn own_device(&self) -> String {
        self.session()["device_id"].as_str().expect("a device").to_owned()
    }

    async fn send(&self, room: &Room, txn: &str, text: &str) -> Result<String, SendError> {
        let content = json!({ "msgtype": "m.notice", "body": text, CONTENT_KEY: { "op": txn, "incident": "i" } });
        self.send_as(room, MESSAGE, txn, &content).await
    }

    async fn send_as(&self, room: &Room, event_type: &str, txn: &str, content: &Value) -> Result<String, SendError> {
        let (txn_id, content) = (TxnId(txn.to_owned()), content.to_string());
        let event = FrozenEvent { event_type, txn_id: &txn_id, content: &content, asked_since: None };
        self.account.send(&address(room), event).await
    }

    /// Whether it finds its own account's event of this transaction id, readable.
    async fn finds(&self, room: &Room, txn: &str) -> bool {
        let wanted = TxnId(txn.to_owned());
        let search = Search { wanted: Some(&wanted), after: None, older_than: DEADLINE * 10 };
        let read = self.account.read_back(&address(room), search).await.expect("a room that can be read");
        read.events.iter().any(|event| event.op.as_ref() == Some(&wanted))
    }

    async fn stop(self) -> Scratch {
        self.cancel.cancel();
        self.task.await.expect("no panic");
        self.home
    }
}

fn address(room: &Room) -> RoomAddress {
    RoomAddress::parse(&room.id).expect("a room")
}

/// The lead passes from one to the other.
fn hand_over(from: &Replica, to: &Replica) {
    from.leads.send_replace(false);
    to.leads.send_replace(true);
}

fn password(bot: &User) -> [(&str, &str); 1] {
    [("PASSWORD", &bot.password)]
}

/// The devices of `of` that have keys on the homeserver.
async fn devices_with_keys(asker: &User, of: &User) -> Vec<String> {
    let body = json!({ "device_keys": { of.user_id.as_str(): [] } });
    let answer = asker.call(Method::POST, "/v3/keys/query", Some(&body)).await.expect_ok("keys/query");
    let devices = answer["device_keys"][&of.user_id].as_object().cloned().unwrap_or_default();
    devices.into_iter().map(|(device, _)| device).collect()
}

/// Logs a device out without the account's help, as an administrator does.
async fn remove_device(synapse: &Homeserver, user: &User, device: &str) {
    let path = format!("/_synapse/admin/v2/users/{}/devices/{device}", user.user_id);
    synapse.admin(Method::DELETE, &path, json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_has_sent_to_a_plain_room_another_repeats_as_the_same_event() {
    let scene = Scene::new().await;
    let (room, text) = (&scene.room, SharedText::default());
    let first = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, true);
    let second = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, false);
    let shared = first.ready(room).await;
    assert!(shared.starts_with("MAR-SHARED-"), "{shared}");
    assert_eq!(second.ready(room).await, shared, "the follower has the leader's");
    assert_eq!(first.account.device(&address(room)), Some(shared.clone()));
    assert!(first.account.remembers_transactions());
    let token = text.token();

    let event = first.send(room, "op", "one").await.expect("sent");
    let reaction = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": "✅" } });
    let reacted = first.send_as(room, "m.reaction", "op2", &reaction).await.expect("sent");
    hand_over(&first, &second);
    assert_eq!(second.send(room, "op", "one").await.expect("sent"), event);
    assert_eq!(second.send_as(room, "m.reaction", "op2", &reaction).await.expect("sent"), reacted);
    let view = room.view().await;
    let messages = view.by_bot().filter(|event| event.raw["type"] == MESSAGE).count();
    assert_eq!(messages, 1, "{}", view.text());
    assert_eq!(text.token(), token, "the new leader logs nobody in while the token is good");

    // Each has a device besides, and those have the keys.
    let own = [first.own_device(), second.own_device()];
    assert!(own[0] != own[1] && !own.contains(&shared), "{own:?}");
    let with_keys = eventually("both have keys", DEADLINE, async || {
        let with_keys = devices_with_keys(&scene.sre, &scene.bot).await;
        own.iter().all(|device| with_keys.contains(device)).then_some(with_keys)
    });
    assert!(!with_keys.await.contains(&shared), "the shared device has no keys");
    let devices = scene.bot.get("/v3/devices").await;
    let name = devices["devices"].as_array().expect("devices").iter().find(|one| one["device_id"] == shared.as_str());
    let name = name.expect("the shared device")["display_name"].to_string();
    assert!(name.contains("shared by all replicas"), "{name}");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_encrypted_room_each_replica_reads_what_the_other_sent_and_readers_see_no_warning() {
    let scene = Scene::encrypted().await;
    let (room, text) = (&scene.room, SharedText::default());
    let reader = Reader::new(&scene.sre).await;
    let first = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, true);
    first.ready(room).await;
    first.signed().await;
    let key = first.home.path().join("recovery-key");
    let keys = [("PASSWORD", scene.bot.password.as_str()), ("RECOVERY_KEY_FILE", key.to_str().expect("a path"))];
    let second = Replica::start(&scene.bot, &[room], &keys, &text, false);
    let devices = [first.ready(room).await, second.ready(room).await];
    assert_eq!(devices, [first.own_device(), second.own_device()], "each sends with its own");
    second.signed().await;
    for device in &devices {
        assert!(reader.sees_signed(&scene.bot.user_id, device).await, "{device}");
    }

    let event = first.send(room, "op", "by the first").await.expect("sent");
    let reads = async |text: &str| {
        reader.wait_for(room, text, |view| view.by_bot().any(|event| event.raw["content"]["body"] == text)).await;
    };
    reads("by the first").await;
    eventually("the second reads it", DEADLINE, async || second.finds(room, "op").await.then_some(())).await;
    let reaction = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": "✅" } });
    first.send_as(room, "m.reaction", "op2", &reaction).await.expect("sent");
    hand_over(&first, &second);
    second.send(room, "op3", "by the second").await.expect("sent");
    reads("by the second").await;
    eventually("the first reads it", DEADLINE, async || first.finds(room, "op3").await.then_some(())).await;
    assert!(!devices_with_keys(&scene.sre, &scene.bot).await.iter().any(|device| device.starts_with("MAR-SHARED")));
    for shields in reader.shields(room).await {
        assert_eq!(shields.lax, matrix_sdk::deserialized_responses::ShieldState::None);
    }
    first.stop().await;
    second.stop().await;
}

/// Only the leader creates the account's identity: two at once would replace each other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_waits_for_the_leader_to_create_the_identity() {
    let scene = Scene::encrypted().await;
    let (room, text) = (&scene.room, SharedText::default());
    let follower = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, false);
    let waits = |trust: &Trust| matches!(trust, Trust::Unsigned(why) if why.contains("the leader creates it"));
    eventually("it waits", DEADLINE, async || waits(&follower.health.snapshot().trust).then_some(())).await;
    assert!(!follower.home.path().join("recovery-key").exists());
    let leader = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, true);
    leader.signed().await;
    assert!(leader.home.path().join("recovery-key").exists());
    leader.stop().await;
    follower.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_device_that_was_logged_out_is_logged_in_again_by_the_leader_alone() {
    let scene = Scene::new().await;
    let (room, text) = (&scene.room, SharedText::default());
    let leader = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, true);
    let follower = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, false);
    let (shared, _) = (leader.ready(room).await, follower.ready(room).await);
    let (token, own) = (text.token(), [leader.session(), follower.session()]);
    remove_device(scene.synapse, &scene.bot, &shared).await;

    // The follower notices first, and leaves it to the leader.
    let refused = follower.send(room, "by-follower", "refused").await.expect_err("the token has ended");
    assert_eq!(refused.reason, Reason::TokenRejected, "{refused}");
    eventually("it waits for the leader", DEADLINE, async || {
        let fault = follower.health.snapshot().shared_fault.unwrap_or_default();
        fault.contains("the leader gets the next token").then_some(())
    })
    .await;
    assert_eq!(text.token(), token);

    let refused = leader.send(room, "op", "text").await.expect_err("the token has ended");
    assert_eq!(refused.reason, Reason::TokenRejected, "{refused}");
    let event = eventually("sent", DEADLINE, async || leader.send(room, "op", "text").await.ok()).await;
    let renewed = text.token();
    assert_ne!(renewed, token);
    // The device is back under its name, and Synapse's database has lost what it sent: lanes must take it for another one.
    assert_eq!(text.json()["device_id"], shared.as_str());
    let now = leader.ready(room).await;
    assert!(now.starts_with(&shared) && now != shared, "{now}");
    hand_over(&leader, &follower);
    let repeated = eventually("sent", DEADLINE, async || follower.send(room, "op", "text").await.ok()).await;
    assert_eq!((repeated, follower.ready(room).await), (event, now));
    assert_eq!(text.token(), renewed, "one login was enough");
    assert_eq!([leader.session(), follower.session()], own, "nobody's own session was touched");
    assert_eq!(leader.health.snapshot().shared_fault, None);
    leader.stop().await;
    follower.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_in_the_config_that_is_the_shared_device_and_encrypted_rooms_wait_for_a_login() {
    let scene = Scene::new().await;
    let secret = Room::with(&scene.sre, &scene.bot, NewRoom::named("secret").encrypted()).await;
    let (room, text) = (&scene.room, SharedText::default());
    let file = scene_file(&scene.bot.access_token);
    let keys = [("ACCESS_TOKEN_FILE", file.1.as_str())];
    let replica = Replica::start(&scene.bot, &[room, &secret], &keys, &text, true);
    assert_eq!(replica.ready(room).await, scene.bot.device_id);
    replica.send(room, "op", "text").await.expect("sent");
    let held = replica.send(&secret, "op2", "text").await.expect_err("no keys");
    assert_eq!(held.reason, Reason::KeysNotReady, "{held}");
    assert!(held.detail.contains("run the command login on it") && held.detail.contains("matrix.password_file"));
    assert_eq!(replica.health.snapshot().no_keys, Some(NoKeys::NoOwnDevice));
    assert!(devices_with_keys(&scene.sre, &scene.bot).await.is_empty(), "the shared device gets no keys");

    // Another token in the file: another device, and nothing is refused meanwhile.
    let next = scene.bot.on_a_new_device().await;
    fs::write(&file.1, &next.access_token).expect("written");
    eventually("the new device", DEADLINE, async || {
        replica.send(room, "op3", "text").await.expect("sent");
        (replica.account.connected(&address(room)).await.ok()? == next.device_id).then_some(())
    })
    .await;
    scene.bot.logout().await;
    replica.send(room, "op4", "text").await.expect("sent");
    // Rounds go on with the new token as well.
    eventually("no fault", DEADLINE, async || {
        let health = replica.health.snapshot();
        (health.homeserver_fault.is_none() && health.shared_fault.is_none()).then_some(())
    })
    .await;
    // A token that is refused says what to do.
    next.logout().await;
    replica.send(room, "op5", "text").await.expect_err("both have ended");
    eventually("advice", DEADLINE, async || {
        let error = replica.send(room, "op5", "text").await.expect_err("both have ended");
        (error.reason == Reason::TokenRejected && error.detail.contains("matrix.access_token_file")).then_some(())
    })
    .await;
    replica.stop().await;
}

/// A session file that names the shared device must not give it keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_shared_device_is_never_taken_for_a_replicas_own() {
    let scene = Scene::new().await;
    let (room, text) = (&scene.room, SharedText::default());
    let first = Replica::start(&scene.bot, &[room], &password(&scene.bot), &text, true);
    let shared = first.ready(room).await;
    let session = text.json().to_string();
    let home = first.stop().await;
    fs::write(home.path().join("session.json"), session).expect("written");
    fs::write(home.path().join("device"), &shared).expect("written");
    let second = Replica::start_in(home, &scene.bot, &[room], &[], &text, true);
    assert_eq!(second.ready(room).await, shared);
    second.send(room, "op", "text").await.expect("sent");
    eventually("no keys", DEADLINE, async || second.health.snapshot().no_keys).await;
    assert_eq!(second.health.snapshot().no_keys, Some(NoKeys::NoOwnDevice));
    assert!(!devices_with_keys(&scene.sre, &scene.bot).await.contains(&shared));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_shared_session_plain_rooms_wait_and_say_what_to_do() {
    let scene = Scene::new().await;
    let (room, text) = (&scene.room, SharedText::default());
    let replica = Replica::start(&scene.bot, &[room], &[], &text, true);
    let error = eventually("refused", DEADLINE, async || {
        let error = replica.send(room, "op", "text").await.expect_err("no session");
        error.detail.contains("run login").then_some(error)
    });
    assert_eq!(error.await.reason, Reason::NotReady);
    // As the command login stores it, on whichever replica.
    let session = scene.bot.on_a_new_device().await;
    *text.0.lock().expect("a lock") = Some(
        json!({
            "user_id": session.user_id, "device_id": session.device_id, "access_token": session.access_token,
            "homeserver": format!("{}/", session.homeserver),
        })
        .to_string(),
    );
    assert_eq!(replica.ready(room).await, session.device_id);
    replica.send(room, "op", "text").await.expect("sent");
    replica.stop().await;
}

/// A file with a secret, and its path.
fn scene_file(text: &str) -> (Scratch, String) {
    let folder = Scratch::new("secret");
    let path = folder.join("token");
    fs::write(&path, text).expect("written");
    let path = path.to_str().expect("a path").to_owned();
    (folder, path)
}
