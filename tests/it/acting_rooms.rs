//! What others do in rooms, as the account hands it on; and answers, from the store into the room. The account is the
//! library's own here, against a real Synapse: only acts know what to make of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use matrix_alertmanager_receiver::{
    acts::rooms::Rooms as _,
    clock::Clock,
    config::{Config, Purpose},
    health::Health,
    matrix::{Account, Setup},
    metrics::Metrics,
    model::{RoomAddress, RoomEvent, RoomEventContent, RoomEvents, Trust},
};
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    DEADLINE, FaultProxy, Kind, Match, NewRoom, Payload, Reader, Receiver, ReceiverBuilder, Room, RoomView, Scene,
    User, eventually, process::Scratch,
};

const QUIET: Duration = Duration::from_secs(2);

/// An account that listens to rooms.
struct Listener {
    account: Arc<Account>,
    events: mpsc::Receiver<RoomEvents>,
    health: Arc<Health>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    home: Scratch,
}

fn address(room: &str) -> RoomAddress {
    RoomAddress::parse(room).expect("a room")
}

impl Listener {
    async fn new(bot: &User, rooms: &[&str]) -> Self {
        Self::at(Scratch::new("listener"), bot, rooms, rooms).await
    }

    /// In the folder of an earlier one; people may act from some of the rooms.
    async fn at(home: Scratch, bot: &User, rooms: &[&str], acting: &[&str]) -> Self {
        let env = BTreeMap::from(
            [
                ("MATRIX_HOMESERVER", bot.homeserver.clone()),
                ("MATRIX_USER_ID", bot.user_id.clone()),
                ("MATRIX_ACCESS_TOKEN", bot.access_token.clone()),
                ("MATRIX_ROOM_ID", rooms.join(",")),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let config = Config::load(None, &env, Purpose::Serve).expect("a config");
        let health = Arc::new(Health::new(&config.rooms()));
        let cancel = CancellationToken::new();
        let (account, task) = Account::start(Setup {
            config: config.matrix.clone(),
            store_path: home.path().to_path_buf(),
            rooms: rooms.iter().map(|room| address(room)).collect(),
            resolved_rooms: HashMap::new(),
            save_resolved_room: Arc::new(|_, _| Box::pin(async { Ok(()) })),
            known_device: Some(bot.device_id.clone()),
            save_device: Arc::new(|_| Box::pin(async { Ok(()) })),
            shared: None,
            clock: Clock::system(),
            metrics: Arc::new(Metrics::new(&[], &[], "v", "c")),
            health: Arc::clone(&health),
            cancel: cancel.clone(),
        });
        account.act_in(acting.iter().map(|room| (address(room), BTreeSet::from(["!".to_owned()]))).collect());
        let events = account.room_events();
        let task = tokio::spawn(task);
        let listener = Self { account, events, health, cancel, task, home };
        eventually("a first sync", DEADLINE, async || listener.health.snapshot().last_sync.is_some().then_some(()))
            .await;
        listener
    }

    /// Stops it; returns its folder.
    async fn stop(self) -> Scratch {
        self.cancel.cancel();
        self.task.await.expect("no panic");
        self.home
    }

    /// The next batch of a room.
    async fn batch(&mut self) -> RoomEvents {
        timeout(DEADLINE, self.events.recv()).await.expect("a batch in time").expect("an open channel")
    }

    /// Everything up to the event, gaps and other things left out.
    async fn until(&mut self, event: &str) -> Vec<RoomEvent> {
        let mut events = Vec::new();
        while events.last().is_none_or(|last: &RoomEvent| last.event_id != event) {
            let batch = self.batch().await;
            events.extend(batch.events.into_iter().filter(|event| event.content != RoomEventContent::Other));
        }
        events
    }

    /// Waits until the first gap of a room is reported, from which on syncs have everything.
    async fn listening(&mut self) {
        while !self.batch().await.gap {}
    }
}

fn text(event: &RoomEvent) -> (&str, Option<&str>, Option<&str>) {
    match &event.content {
        RoomEventContent::Text { body, thread, reply_to } => (body, thread.as_deref(), reply_to.as_deref()),
        other => panic!("not a text: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_in_a_plain_room_comes_in_its_order() {
    let scene = Scene::new().await;
    let (sre, room) = (&scene.sre, &scene.room.id);
    let card = scene.bot.send_text(room, "a card").await;
    let mut listener = Listener::new(&scene.bot, &[room]).await;
    listener.listening().await;
    let reaction = sre.react(room, &card, "🔕").await;
    // What is taken back before a sync comes without its content.
    let mut events = listener.until(&reaction).await;
    sre.redact(room, &reaction).await;
    let threaded = sre.say_in_thread(room, &card, "!ack mine").await;
    sre.reply(room, &card, "!silence 2h").await;
    sre.edit(room, &threaded, "!unack").await;
    sre.send(room, json!({ "msgtype": "m.notice", "body": "!ack" })).await;
    scene.bot.send_text(room, "own events are left out").await;
    let last = sre.send_text(room, "talk").await;
    events.extend(listener.until(&last).await);
    let [reacted, undone, threaded, replied, talk] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!(reacted.content, RoomEventContent::Reaction { target: card.clone(), key: "🔕".to_owned() });
    assert_eq!(undone.content, RoomEventContent::Redaction { target: reaction });
    assert_eq!(text(threaded), ("!ack mine", Some(card.as_str()), None));
    assert_eq!(text(replied), ("!silence 2h", None, Some(card.as_str())));
    assert_eq!(text(talk), ("talk", None, None));
    for event in &events {
        assert_eq!((event.sender.as_str(), event.trust, &event.megolm), (sre.user_id.as_str(), Trust::Plain, &None));
        assert!(event.age.is_some_and(|age| age < DEADLINE), "{event:?}");
    }
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_encrypted_room_the_sender_is_proven_or_not() {
    let scene = Scene::encrypted().await;
    let (sre, room) = (&scene.sre, &scene.room);
    let signed = Reader::new(sre).await;
    let unsigned = Reader::unsigned(sre).await;
    let card = scene.bot.send_text(&room.id, "a card").await;
    let mut listener = Listener::new(&scene.bot, &[&room.id]).await;
    listener.listening().await;
    let first = signed.say_in_thread(room, &card, "!ack").await;
    let second = unsigned.say(room, "!silence").await;
    let plain = sre.send_text(&room.id, "!silence").await;
    let forged = sre.react(&room.id, &card, "🔕").await;
    let edit = signed.edit(room, &first, "!unack").await;
    let copy = sre.replay(&room.id, &first).await;
    let events = listener.until(&copy).await;
    let by_id = |id: &str| events.iter().find(|event| event.event_id == id).unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!(text(by_id(&first)), ("!ack", Some(card.as_str()), None));
    assert_eq!(by_id(&first).trust, Trust::Signed);
    assert_eq!((text(by_id(&second)).0, by_id(&second).trust), ("!silence", Trust::Unsigned));
    assert_eq!((text(by_id(&plain)).0, by_id(&plain).trust), ("!silence", Trust::Plain));
    assert_eq!(by_id(&forged).trust, Trust::Plain);
    assert!(!events.iter().any(|event| event.event_id == edit), "an edit asks for nothing");
    // The homeserver can send a ciphertext again; its place gives it away.
    assert_eq!(text(by_id(&copy)).0, "!ack");
    assert!(by_id(&first).megolm.is_some() && by_id(&first).megolm == by_id(&copy).megolm);
    assert_ne!(by_id(&first).megolm, by_id(&second).megolm);
    let again = listener.account.event(&address(&room.id), &first).await.expect("an answer").expect("the event");
    assert_eq!(again, RoomEvent { age: again.age, ..by_id(&first).clone() });
    assert_eq!(listener.account.event(&address(&room.id), "$none").await.expect("an answer"), None);
    listener.stop().await;
}

/// A device that has just been made, and whose keys no sync has brought.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_its_users_first_event() {
    let scene = Scene::encrypted().await;
    let mut listener = Listener::new(&scene.bot, &[&scene.room.id]).await;
    listener.listening().await;
    let user = scene.synapse.user("late").await;
    scene.sre.invite(&scene.room.id, &user).await;
    user.join(&scene.room.id).await;
    let reader = Reader::new(&user).await;
    let said = reader.say(&scene.room, "!ack").await;
    let events = listener.until(&said).await;
    let last = events.last().expect("one");
    assert_eq!((text(last).0, last.trust), ("!ack", Trust::Signed));
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_meanwhile_is_read_back() {
    let scene = Scene::encrypted().await;
    let (sre, room) = (&scene.sre, &scene.room);
    let reader = Reader::new(sre).await;
    let mut listener = Listener::new(&scene.bot, &[&room.id]).await;
    listener.listening().await;
    let position = reader.say(room, "before").await;
    listener.until(&position).await;
    let home = listener.stop().await;
    let mut said = Vec::new();
    for n in 0..60 {
        said.push(if n % 2 == 0 {
            reader.say(room, &format!("!ack {n}")).await
        } else {
            sre.react(&room.id, &position, &format!("{n}")).await
        });
        scene.bot.send_event(&room.id, "m.room.encrypted", &json!({ "ciphertext": "own" })).await;
    }
    let mut listener = Listener::at(home, &scene.bot, &[&room.id], &[&room.id]).await;
    listener.listening().await;
    let read = listener.account.read_since(&address(&room.id), &position).await.expect("read");
    assert!(read.is_encrypted && !read.gap && read.room_id == room.id);
    let ids: Vec<&str> = read.events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids, said, "all of it, in its order");
    assert_eq!(text(&read.events[0]), ("!ack 0", None, None));
    assert!(read.events[0].trust == Trust::Signed && read.events[0].megolm.is_some());
    let all = listener.account.read_since(&address(&room.id), "$unknown").await.expect("read");
    assert!(all.events.len() > said.len() && !all.gap, "to the beginning of the room");
    // A device that came later has no keys of what was said before.
    listener.stop().await;
    let other = scene.bot.on_a_new_device().await;
    let mut listener = Listener::new(&other, &[&room.id]).await;
    listener.listening().await;
    let read = listener.account.read_since(&address(&room.id), &position).await.expect("read");
    assert_eq!(read.events[0].content, RoomEventContent::Undecryptable);
    assert!(matches!(read.events[1].content, RoomEventContent::Reaction { .. }));
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_what_is_the_homeservers_word() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let second = scene.synapse.user("second").await;
    let old = Room::with(sre, bot, NewRoom::named("old").version("11")).await;
    let new = Room::with(sre, bot, NewRoom::named("new").version("12").encrypted()).await;
    let listener = Listener::new(bot, &[&old.id, &new.id]).await;
    let member = async |room: &Room, user: &User| {
        let asked = async || listener.account.member(&address(&room.id), &user.user_id).await.ok();
        eventually("an answer", DEADLINE, asked).await
    };
    assert_eq!(member(&old, sre).await.power, 100);
    assert_eq!(member(&new, sre).await.power, i64::MAX, "a creator");
    assert!(!member(&old, sre).await.room_is_encrypted && member(&new, sre).await.room_is_encrypted);
    let stranger = member(&old, &second).await;
    assert_eq!((stranger.is_joined, stranger.power, stranger.name.as_str()), (false, 0, ""));
    for room in [&old, &new] {
        sre.invite(&room.id, &second).await;
        assert!(!member(room, &second).await.is_joined, "only invited");
        second.join(&room.id).await;
        sre.set_power(&room.id, &second, 50).await;
        let known = member(room, &second).await;
        assert_eq!((known.is_joined, known.power, known.name.as_str()), (true, 50, second.local()));
    }
    // As it is now, and not as it was.
    sre.set_power(&old.id, &second, 0).await;
    assert_eq!(member(&old, &second).await.power, 0);
    sre.kick(&old.id, &second).await;
    assert!(!member(&old, &second).await.is_joined);
    listener.stop().await;
}

/// As `rooms::members_of_a_plain_room_are_not_kept`, with syncs that bring what people say.
#[tokio::test(flavor = "multi_thread")]
async fn members_who_speak_in_a_plain_room_are_not_kept() {
    let scene = Scene::new().await;
    let room = &scene.room.id;
    let mut users = Vec::new();
    for _ in 0..20 {
        let user = scene.synapse.user("talker").await;
        scene.sre.invite(room, &user).await;
        user.join(room).await;
        users.push(user);
    }
    // Far enough back not to be part of the first sync.
    for n in 0..12 {
        scene.sre.send_text(room, &format!("quiet {n}")).await;
    }
    let mut listener = Listener::new(&scene.bot, &[room]).await;
    listener.listening().await;
    let mut last = String::new();
    for user in &users {
        last = user.send_text(room, "talk").await;
    }
    for _ in 0..5 {
        let user = scene.synapse.user("comer").await;
        scene.sre.invite(room, &user).await;
        user.join(room).await;
        last = user.send_text(room, "hello").await;
    }
    listener.until(&last).await;
    let home = listener.stop().await;
    let file = home.join("matrix").join(&scene.bot.device_id).join("matrix-sdk-state.sqlite3");
    let options = SqliteConnectOptions::new().filename(&file).read_only(true);
    let mut store = SqliteConnection::connect_with(&options).await.expect("the SDK's store opens");
    let members: i64 = sqlx::query_scalar("SELECT count(*) FROM member").fetch_one(&mut store).await.expect("counted");
    store.close().await.expect("closed");
    assert!(members <= 11, "{members} members");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_actions_nothing_is_taken_and_a_reload_takes_effect() {
    let scene = Scene::new().await;
    let room = &scene.room.id;
    let mut listener = Listener::at(Scratch::new("listener"), &scene.bot, &[room], &[]).await;
    scene.sre.send_text(room, "!ack").await;
    assert!(timeout(QUIET, listener.events.recv()).await.is_err(), "nobody may act");
    listener.account.act_in(BTreeMap::from([(address(room), BTreeSet::from(["!".to_owned()]))]));
    let gap = listener.batch().await;
    assert!(gap.gap, "what was said before has to be read back");
    // A sync with the old filter may be under way; a change of the room ends it.
    scene.sre.set_state(room, "m.room.topic", "", json!({ "topic": "ops" })).await;
    let said = scene.sre.send_text(room, "!ack again").await;
    let found = eventually("the command, or a gap to read back", DEADLINE, async || {
        let batch = listener.events.try_recv().ok()?;
        (batch.gap || batch.events.iter().any(|event| event.event_id == said)).then_some(batch)
    });
    found.await;
    let read = listener.account.read_since(&address(room), "$unknown").await.expect("read");
    assert!(read.events.iter().any(|event| event.event_id == said));
    listener.stop().await;
}

// Answers.

/// Puts an answer into the stopped receiver's store, as acts freeze one.
async fn freeze_answer(receiver: &Receiver, room: &str, event_type: &str, content: serde_json::Value, txn: &str) {
    let mut store = receiver.store().open().await;
    let sql = "INSERT INTO answer (id, act, room, type, content, txn_id, at, state) \
         SELECT coalesce((SELECT max(ended_seq) FROM op), 0) + 1 + (SELECT count(*) FROM answer), 'act', $1, $2, $3, $4, \
         $5, 'waiting'";
    let now = jiff::Timestamp::now().as_millisecond();
    let query = sqlx::query(sql).bind(room).bind(event_type).bind(content.to_string()).bind(txn).bind(now);
    query.execute(&mut store).await.expect("inserted");
    store.close().await.expect("closed");
}

fn notice(text: &str, txn: &str) -> serde_json::Value {
    json!({ "msgtype": "m.notice", "body": text, "matrix_alertmanager_receiver": { "op": txn } })
}

/// A stopped receiver with a card in the room; returns the card's event id as well.
async fn with_a_card(scene: &Scene, builder: ReceiverBuilder) -> (Receiver, String) {
    let mut receiver = builder.start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let card = scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    let card = card.card().event_id().to_owned();
    receiver.sigterm(DEADLINE).await;
    (receiver, card)
}

fn reactions(view: &RoomView) -> usize {
    view.events.iter().filter(|event| event.event_type == "m.reaction" && event.sender == view.bot).count()
}

fn said(view: &RoomView, text: &str) -> usize {
    view.by_bot().filter(|event| event.content["body"] == text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_and_a_reaction_come_into_the_room() {
    let scene = Scene::new().await;
    let (mut receiver, card) = with_a_card(&scene, ReceiverBuilder::of(&scene)).await;
    let reaction = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": card, "key": "✅" } });
    freeze_answer(&receiver, &scene.room.id, "m.reaction", reaction, "reaction").await;
    freeze_answer(&receiver, &scene.room.id, "m.room.message", notice("refused", "notice"), "notice").await;
    receiver.restart().await;
    let view = scene.room.wait_for("the answer", DEADLINE, |view| said(view, "refused") == 1).await;
    assert_eq!(reactions(&view), 1, "{}", view.text());
    receiver.wait_metric("room_events_total", &[("kind", "answer"), ("outcome", "sent")], |sent| sent == 2.0).await;
    receiver.wait_log(&["answered in the room", "m.reaction"]).await;
    receiver.restart().await;
    scene.room.assert_settled("once", QUIET, |view| said(view, "refused") == 1).await;
}

/// The homeserver refuses a second reaction with the same key, and a relation to an event that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_answer_is_given_up_with_a_line_in_the_log() {
    let scene = Scene::new().await;
    let (mut receiver, card) = with_a_card(&scene, ReceiverBuilder::of(&scene)).await;
    let reaction = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": card, "key": "✅" } });
    for txn in ["first", "second"] {
        freeze_answer(&receiver, &scene.room.id, "m.reaction", reaction.clone(), txn).await;
    }
    freeze_answer(&receiver, &scene.room.id, "m.room.message", notice("after it", "third"), "third").await;
    receiver.restart().await;
    scene.room.wait_for("the next answer", DEADLINE, |view| said(view, "after it") == 1).await;
    receiver.wait_log(&["WARN", "answer given up", "bad_event"]).await;
    receiver.wait_metric("room_events_total", &[("kind", "answer"), ("outcome", "refused")], |n| n == 1.0).await;
    assert_eq!(receiver.get("/healthz/delivery").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_encrypted_room_messages_are_sealed_and_reactions_are_not() {
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let card = reader.reads(&scene.room, "DiskFull").await.card().event_id().to_owned();
    receiver.sigterm(DEADLINE).await;
    let reaction = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": card, "key": "✅" } });
    freeze_answer(&receiver, &scene.room.id, "m.reaction", reaction, "reaction").await;
    freeze_answer(&receiver, &scene.room.id, "m.room.message", notice("refused", "notice"), "notice").await;
    receiver.restart().await;
    reader.wait_for(&scene.room, "the answer", |view| said(view, "refused") == 1).await;
    let raw = scene.room.view().await;
    assert!(!raw.text().contains("refused"), "sealed");
    assert_eq!(reactions(&raw), 1, "{}", raw.text());
}

/// Killed after the homeserver took the answer: under its transaction id on the same device, by reading back on another.
#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_acknowledgement_an_answer_is_there_once() {
    for same_device in [true, false] {
        let scene = Scene::new().await;
        let proxy = FaultProxy::start(&scene.synapse.url()).await;
        let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url());
        let (mut receiver, _) = with_a_card(&scene, builder).await;
        freeze_answer(&receiver, &scene.room.id, "m.room.message", notice("refused", "notice"), "notice").await;
        let mut answers = proxy.hold(Match::sends());
        receiver.restart().await;
        let held = answers.next(DEADLINE).await;
        receiver.kill9();
        held.cut();
        proxy.heal();
        if !same_device {
            let token = scene.bot.on_a_new_device().await.access_token;
            receiver.reconfigure(&format!("[matrix]\naccess_token = {token:?}"));
        }
        proxy.forget();
        receiver.restart().await;
        let outcome = if same_device { "sent" } else { "adopted" };
        receiver.wait_metric("room_events_total", &[("kind", "answer"), ("outcome", outcome)], |n| n == 1.0).await;
        assert_eq!(proxy.seen(Kind::Send).len(), usize::from(same_device));
        scene.room.assert_settled("once", QUIET, |view| said(view, "refused") == 1).await;
        assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
    }
}

/// Under Synapse's own limits: a burst of ten, then one in five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_rate_limit_answers_come_after_all_cards() {
    const ANSWERS: usize = 20;
    let scene = Scene::limited().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let (mut receiver, _) = with_a_card(&scene, ReceiverBuilder::of(&scene).homeserver(&proxy.url())).await;
    for n in 0..ANSWERS {
        let txn = format!("answer-{n:02}");
        freeze_answer(&receiver, &scene.room.id, "m.room.message", notice(&txn, &txn), &txn).await;
    }
    let answers = |view: &RoomView| {
        let times =
            view.by_bot().filter(|event| event.content["body"].as_str().is_some_and(|b| b.starts_with("answer-")));
        times.map(|event| event.origin_server_ts).collect::<Vec<_>>()
    };
    proxy.down().await;
    receiver.restart().await;
    for n in 0..30 {
        receiver.accept("default", Payload::group(&format!("Storm{n:02}")).firing(&["n01"])).await;
    }
    proxy.up().await;
    receiver.wait_metric("rate_limited_total", &[], |limited| limited > 0.0).await;
    let view = scene.room.view().await;
    let storm: Vec<i64> = (0..30).filter_map(|n| view.named_at(&format!("Storm{n:02}"))).collect();
    let first = answers(&view).into_iter().min().expect("an answer within the burst");
    assert!(storm.len() == 30 && storm.iter().all(|at| *at < first), "{}", view.text());
    assert!(answers(&view).len() < ANSWERS, "the burst has to be used up:\n{}", view.text());
    // What comes now goes before the answers that wait already.
    let before = answers(&scene.room.view().await).len();
    receiver.accept("default", Payload::group("Late").firing(&["n01"])).await;
    let named = |view: &RoomView| view.named_at("Late").is_some();
    let view = scene.room.wait_for("the late card", DEADLINE, named).await;
    let late = view.named_at("Late").expect("named");
    let between = answers(&view).iter().filter(|at| **at < late).count() - before;
    assert!(between <= 1, "{between} answers went first, one of which may have been under way:\n{}", view.text());
    scene.room.wait_for("all answers", 5 * DEADLINE, |view| answers(view).len() == ANSWERS).await;
}
