//! No statement reads a whole table that grows: each one that the store runs is caught on its way to SQLite, which is
//! then asked how it finds its rows.

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock},
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::*;
use crate::{
    model::{ActArgs, ActKind, ActState, Beat, CardId, EvidenceKind, ResolvedRoom, Switch, SwitchKey},
    store::FoundRoot,
};

/// Tables with a row for each room that ever was, or a handful in all; and what a query makes itself of rows that were
/// counted before.
/// Switches are bounded for each heartbeat of the config.
const SMALL: [&str; 9] = ["lease", "meta", "room", "heartbeat", "behind", "counted", "known", "live", "wanted"];
/// What a query makes itself of rows that a limit bounds.
const LISTS: [&str; 6] = ["dead", "edits", "new", "noted", "parked", "waiting"];

fn caught() -> &'static Mutex<BTreeSet<String>> {
    static CAUGHT: OnceLock<Mutex<BTreeSet<String>>> = OnceLock::new();
    CAUGHT.get_or_init(Mutex::default)
}

/// Keeps the statements that sqlx logs at TRACE, as only the store of this test does: tests run beside each other.
struct Spy;

impl Subscriber for Spy {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query" && *metadata.level() == Level::TRACE
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut statement = Statement::default();
        event.record(&mut statement);
        // A short one is its own summary.
        let sql = if statement.whole.is_empty() { statement.summary } else { statement.whole };
        caught().lock().expect("no panic").extend(sql.split(';').map(|sql| sql.trim().to_owned()));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Statement {
    summary: String,
    whole: String,
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.trim().clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

fn noted(group: &str, kind: NoteKind, state: IncidentState, reposts: Vec<CardId>) -> Ingest {
    Ingest {
        decide: Arc::new(move |known, _| Changes {
            reposts: reposts.clone(),
            forgotten: vec!["gone".to_owned()],
            ..adding(known, "a", state, vec![NewNote { kind, args: NoteArgs::default(), cards: None }])
        }),
        ..ingest(group, "a", state)
    }
}

/// One whose content hash shows a repeat.
fn hashed(group: &str, is_new: bool) -> Ingest {
    Ingest {
        content_hash: "d".to_owned(),
        decide: Arc::new(move |known, _| Changes {
            outcome: if is_new { Outcome::Opened } else { Outcome::Unchanged },
            visible: is_new,
            doc: IncidentDoc { content_hash: "d".to_owned(), ..IncidentDoc::default() },
            ..adding(known, "a", IncidentState::Firing, Vec::new())
        }),
        ..ingest(group, "a", IncidentState::Firing)
    }
}

/// What speaks of nothing known and says nothing.
fn idle(group: &str) -> Ingest {
    Ingest {
        decide: Arc::new(|known, _| Changes {
            outcome: Outcome::Unchanged,
            write: IncidentWrite::None,
            visible: false,
            ..adding(known, "", IncidentState::Resolved, Vec::new())
        }),
        ..ingest(group, "", IncidentState::Resolved)
    }
}

async fn take(store: &Store, ingest: Ingest) {
    store.ingest(ingest).await.expect("committed");
}

async fn card_of(store: &Store, kind: OpKind) -> Snapshot {
    let due = store.due(&room()).await.expect("due");
    let list = match kind {
        OpKind::Card => &due.new,
        OpKind::Edit => &due.edits,
        _ => &due.notes,
    };
    store.snapshot(&list.first().expect("one that is due").card).await.expect("read").expect("a card")
}

async fn send(store: &Store, kind: OpKind, txn: &str) -> Op {
    let snapshot = card_of(store, kind).await;
    store.freeze(op_for(&snapshot, kind, txn)).await.expect("frozen")
}

async fn post(store: &Store, group: &str, txn: &str) -> CardId {
    take(store, ingest(group, "a", IncidentState::Firing)).await;
    let op = send(store, OpKind::Card, txn).await;
    store.finish(&op, &format!("${txn}")).await.expect("recorded");
    op.card
}

/// Calls everything that runs statements, in every way that has statements of its own.
async fn lead(store: &Store) {
    let epoch = store.take_lead("a").await.expect("committed").expect("nobody leads");
    store.leader().await.expect("read").expect("it leads");
    assert!(store.keep_lead(&epoch).await.expect("committed"));
    store.give_up_lead(&epoch).await.expect("committed");
    store.set_shared_session("{}".to_owned()).await.expect("committed");
    store.shared_session().await.expect("read");
}

async fn work(store: &Store, clock: &Clock) {
    deliver(store).await;
    answer(store).await;
    act(store).await;
    fail(store).await;
    look_on(store).await;
    escalate(store, clock).await;
    watch_heartbeats(store).await;
    lead(store).await;
    change_config(store).await;
    take(store, ingest("stale", "a", IncidentState::Firing)).await;
    clock.advance(Duration::from_hours(1_000));
    store.close_stale(&route("default"), Duration::from_hours(1)).await.expect("committed");
    store.prune(Duration::from_hours(1)).await.expect("committed");
    store.prune_acts(Duration::from_hours(1)).await.expect("committed");
}

fn route(name: &str) -> RouteName {
    RouteName::parse(name).expect("a route")
}

async fn deliver(store: &Store) {
    // Webhooks.
    take(store, hashed("repeated", true)).await;
    take(store, hashed("repeated", false)).await;
    take(store, unchanged("repeated")).await;
    take(store, idle("unknown")).await;
    take(store, idle("unknown")).await;
    let op = send(store, OpKind::Card, "first").await;
    store.snapshot_for(&op.card, &op.txn_id).await.expect("read").expect("a card");
    store.record_try(&op.txn_id, Some("D".to_owned())).await.expect("committed");
    store.open_ops(&room()).await.expect("read").unfinished.expect("one");
    store.finish(&op, "$first").await.expect("recorded");
    // Changes, in doubt, set aside, looked for and replaced.
    take(store, noted("repeated", NoteKind::NewFiring, IncidentState::Firing, Vec::new())).await;
    let op = send(store, OpKind::Reply, "reply").await;
    store.mark_in_doubt(&op.txn_id, "no answer").await.expect("committed");
    store.park(&op.txn_id, "no answer", Timestamp(0)).await.expect("committed");
    store.open_ops(&room()).await.expect("read").parked.expect("one");
    store.recorded(&room(), op.frozen_seq, op.since).await.expect("read");
    store.last_recorded(&room()).await.expect("read").expect("one");
    assert!(store.is_one_parked_unproven(&room()).await.expect("read"));
    store.search_soon(&room(), Timestamp(0)).await.expect("committed");
    store.record_no_answer(&op.txn_id, "no_answer", "no answer").await.expect("committed");
    let plainer = NewOp { txn_id: TxnId("plainer".to_owned()), ..op_for_op(&op) };
    let op = store.replace(&op, plainer, "too_large").await.expect("committed");
    store.requeue(&op).await.expect("committed");
    let snapshot = card_of(store, OpKind::Reply).await;
    store.drop_notes(&snapshot.card.id, snapshot.notes.iter().map(|note| note.id).collect()).await.expect("committed");
    store.pass_over(&snapshot.card.id, snapshot.rev()).await.expect("committed");
    store.settle_card(&snapshot.card.id).await.expect("committed");
    // A storm, and its end.
    for group in ["s1", "s2", "s3"] {
        take(store, ingest(group, "a", IncidentState::Firing)).await;
    }
    let digest = store.make_digest(&room()).await.expect("committed").expect("a digest");
    let snapshot = store.snapshot(&digest).await.expect("read").expect("a card");
    store.split_digest(&digest, vec![snapshot.incidents[2].0.id.clone()]).await.expect("committed");
    let op = send(store, OpKind::Card, "digest").await;
    let further = op_for(&card_of(store, OpKind::Card).await, OpKind::Card, "further");
    let (_, op) = store.finish_and_freeze(&op, "$digest", further).await.expect("committed");
    store.finish(&op, "$further").await.expect("recorded");
    take(store, noted("s1", NoteKind::Resolved, IncidentState::Resolved, Vec::new())).await;
    assert_eq!(store.turning_green(&room()).await.expect("read").len(), 1);
    let op = send(store, OpKind::Notice, "notice").await;
    store.said_green(&op.txn_id).await.expect("read");
    store.finish(&op, "$notice").await.expect("recorded");
    assert_eq!(store.live_cards(&room(), 1_000).await.expect("read"), 3);
    assert_eq!(store.live_cards(&room(), 1).await.expect("read"), 2, "enough");
}

async fn answer(store: &Store) {
    for txn in ["tried", "refused"] {
        let new = answers::new_answer(txn);
        store.freeze_answer(new).await.expect("committed");
    }
    assert!(store.due(&room()).await.expect("due").answer.is_some());
    store.rooms_due().await.expect("read");
    let first = store.next_answer(&room()).await.expect("read").expect("one");
    store.record_answer_try(&first, "D".to_owned()).await.expect("committed");
    store.requeue_answer(&first).await.expect("committed");
    store.finish_answer(&first, "$answer").await.expect("committed");
    let second = store.next_answer(&room()).await.expect("read").expect("one");
    store.refuse_answer(&second).await.expect("committed");
    let card = store.act_target("$first").await.expect("read").expect("a card").card;
    let (_, route) = store.only_incident(&card).await.expect("read").expect("an incident");
    let evidence = answers::new_evidence("evidence", "$first", &card, &route);
    assert!(store.freeze_evidence(evidence, EvidenceKind::Logs).await.expect("committed"));
    store.freeze_answer(answers::new_answer("picture")).await.expect("committed");
    let picture = store.next_answer(&room()).await.expect("read").expect("one");
    store.replace_answer(&picture, answers::new_answer("words")).await.expect("committed");
    let words = store.next_answer(&room()).await.expect("read").expect("one");
    store.finish_answer(&words, "$words").await.expect("committed");
    let evidence = store.next_answer(&room()).await.expect("read").expect("one");
    store.finish_answer(&evidence, "$evidence").await.expect("committed");
    store.act_target("$evidence").await.expect("read").expect("the same card");
}

fn act_of(event: &str, kind: ActKind, on: Option<&ActTarget>) -> NewAct {
    NewAct {
        event_id: event.to_owned(),
        megolm: None,
        route: route("default"),
        room: room(),
        sender: "@a:b".to_owned(),
        kind,
        incident: on.map(|on| on.incidents[0].id.clone()),
        card: on.map(|on| on.card.clone()),
        args: ActArgs { by_reaction: true, text: "text".to_owned(), ..ActArgs::default() },
        not_before: None,
    }
}

async fn due_act(store: &Store, event: &str, kind: ActKind, on: Option<&ActTarget>) -> ActEnd {
    let heard = Heard {
        room_id: "!a:b".to_owned(),
        position: Some(event.to_owned()),
        acts: vec![act_of(event, kind, on)],
        ..Heard::default()
    };
    assert_eq!(store.commit_acts(heard).await.expect("committed"), 1);
    let due = store.due_acts(&route("default")).await.expect("read");
    store.due_for_evidence(&route("default")).await.expect("read");
    let act = due.into_iter().find(|due| due.act.event_id == event).expect("due").act;
    let answer = ActAnswer { txn_id: TxnId(event.to_owned()), event_type: "m.reaction", content: "{}".to_owned() };
    ActEnd { act, state: ActState::Live, outcome: "done", name: String::new(), answers: vec![answer], is_visible: true }
}

/// What people ask for. The first incident of the store has a card, as has a digest.
async fn act(store: &Store) {
    let on = store.act_target("$first").await.expect("read").expect("a card");
    let digest = store.act_target("$digest").await.expect("read").expect("a digest");
    assert!(store.act_target("$nothing").await.expect("read").is_none());
    store.rooms_sent_to().await.expect("read");
    let (incident, default) = (on.incidents[0].id.clone(), route("default"));
    store.incident_with_alerts(&incident).await.expect("read").expect("one");
    store.held_elsewhere(&incident, &[AlertKey::of("a", &Labels::new())]).await.expect("read");
    store.open_incidents(&[default.clone(), route("web")]).await.expect("read");
    for event in ["$take", "$again"] {
        let end = due_act(store, event, ActKind::Take, Some(&on)).await;
        store.take(end, vec![incident.clone()]).await.expect("committed");
    }
    let end = due_act(store, "$untake", ActKind::Untake, Some(&on)).await;
    store.give_back(end, incident.clone()).await.expect("committed");
    let mut of_digest = act_of("$take-all", ActKind::Take, Some(&digest));
    of_digest.incident = None;
    let heard = Heard { acts: vec![of_digest], ..Heard::default() };
    store.commit_acts(heard).await.expect("committed");
    let act = store.act_of_event("$take-all").await.expect("read").expect("one").act;
    let all = store.incidents_of_card(&digest.card).await.expect("read");
    let end = ActEnd { act, ..due_act(store, "$other", ActKind::Take, None).await };
    assert_eq!(store.take(end, all).await.expect("committed"), Taking::Taken);
    let redacted = Redacted {
        event_id: "$redaction".to_owned(),
        sender: "@a:b".to_owned(),
        room: room(),
        target: "$take-all".to_owned(),
    };
    store.commit_acts(Heard { redactions: vec![redacted], ..Heard::default() }).await.expect("committed");
    let end = due_act(store, "$undo", ActKind::Undo, Some(&digest)).await;
    assert!(store.undo_taking(end, "$take-all".to_owned()).await.expect("committed") > 0);
    silence(store, &on).await;
    let notice = ActAnswer { txn_id: TxnId("cut".to_owned()), event_type: "m.room.message", content: "{}".to_owned() };
    assert!(store.commit_notice(act_of("$cut", ActKind::Unknown, None), notice).await.expect("committed"));
    store.room_position("!a:b").await.expect("read").expect("one");
    store.next_act_at(&default).await.expect("read");
    store.routes_with_acts().await.expect("read");
    store.move_acts(&room(), &room()).await.expect("committed");
}

async fn silence(store: &Store, on: &ActTarget) {
    let default = route("default");
    let end = due_act(store, "$silence", ActKind::Silence, Some(on)).await;
    let row = SilenceRow {
        act: end.act.id.clone(),
        n: 0,
        route: default.clone(),
        incident: on.incidents[0].id.clone(),
        marker: "[mar:1/0]".to_owned(),
        matchers: "[]".to_owned(),
        comment: "c".to_owned(),
        created_by: "@a:b".to_owned(),
        starts_at: Timestamp(1),
        ends_at: Timestamp(2),
        silence_id: None,
        state: SilenceRowState::InDoubt,
    };
    assert!(store.begin_silences(&row.act, vec![row.clone()], Timestamp(3)).await.expect("committed"));
    store.withdraw_silence(&row.act).await.expect("committed");
    store.postpone_act(&row.act, ActState::InDoubt, Timestamp(3), None).await.expect("committed");
    store.leave_in_doubt(&end.act, Vec::new(), Timestamp(3), "unknown").await.expect("committed");
    store.note_silence(&row, SilenceRowState::Live, Some("s".to_owned()), None).await.expect("committed");
    store.end_act(end.clone()).await.expect("committed");
    assert_eq!(store.silences_of_act(&row.act).await.expect("read").len(), 1);
    assert_eq!(store.silences_of_incident(&row.incident).await.expect("read").len(), 1);
    assert_eq!(store.silences_of_route(&default).await.expect("read").len(), 1);
    store.silence_of_marker(&row.act, 0).await.expect("read").expect("one");
    store.asker(&row.act).await.expect("read").expect("one");
    store.acts_of_silence("id").await.expect("read");
    let unsilence = due_act(store, "$unsilence", ActKind::Unsilence, Some(on)).await;
    store.end_silences(unsilence, vec![row]).await.expect("committed");
    store.end_expired_silences(&default, Timestamp(5)).await.expect("committed");
}

async fn fail(store: &Store) {
    // What is refused for good.
    take(store, ingest("refused", "a", IncidentState::Firing)).await;
    let op = send(store, OpKind::Card, "dead").await;
    store.mark_dead(&op, "too_large", None).await.expect("committed");
    assert_eq!(store.open_ops(&room()).await.expect("read").dead, None, "refused, and no fault of the homeserver");
    assert_eq!(store.dead_letters().await.expect("read").1, 1);
    store.dead_letter(&op.txn_id).await.expect("read").expect("one");
    store.retry_dead_letter(&op.txn_id).await.expect("committed").expect("one");
    let op = send(store, OpKind::Card, "dead-post").await;
    store.mark_dead(&op, "too_large", None).await.expect("committed");
    store.drop_dead_letter(&op.txn_id).await.expect("committed").expect("one");
    // First events that are gone, posted again, or found.
    let card = post(store, "lost", "lost").await;
    assert_eq!(store.root_event_of(&card).await.expect("read").as_deref(), Some("$lost"));
    assert_eq!(store.orphan_cards(&room(), vec!["$lost".to_owned()]).await.expect("committed"), [card]);
    let card = post(store, "old", "old").await;
    take(store, noted("old", NoteKind::NewFiring, IncidentState::Firing, vec![card.clone()])).await;
    let op = send(store, OpKind::Card, "again").await;
    store.finish(&op, "$again").await.expect("recorded");
    store.orphan_cards(&room(), vec!["$old".to_owned()]).await.expect("committed");
    post(store, "refused-edit", "refused-edit").await;
    take(store, noted("refused-edit", NoteKind::NewFiring, IncidentState::Firing, Vec::new())).await;
    let op = send(store, OpKind::Reply, "refused-reply").await;
    store.orphan_card_of(&op, "unknown event").await.expect("committed");
    take(store, ingest("found", "a", IncidentState::Firing)).await;
    let due = store.due(&room()).await.expect("due").new;
    for card in due {
        let incident = store.snapshot(&card.card).await.expect("read").expect("a card").incidents[0].0.id.clone();
        let found = FoundRoot { event_id: format!("$found-{incident}"), op: TxnId("unseen".to_owned()), incident };
        store.adopt_roots(&room(), vec![found]).await.expect("committed");
    }
}

async fn look_on(store: &Store) {
    // More than a list of what is due holds.
    let many: Vec<String> = (0..65).map(|n| format!("m{n}")).collect();
    for group in &many {
        take(store, ingest(group, "a", IncidentState::Firing)).await;
    }
    let listed = store.due(&room()).await.expect("due").new;
    assert!(store.new_beyond(&room(), &listed, usize::MAX).await.expect("counted") > 0);
    for group in &many {
        let op = send(store, OpKind::Card, group).await;
        store.finish(&op, &format!("${group}")).await.expect("recorded");
    }
    for group in &many {
        take(store, noted(group, NoteKind::Resolved, IncidentState::Resolved, Vec::new())).await;
    }
    assert!(store.due(&room()).await.expect("due").green_beyond > 0);
    store.stats(&[room()]).await.expect("read");
    take(store, ingest("seen", "a", IncidentState::Firing)).await;
    take(store, ingest("quiet", "a", IncidentState::Quiet)).await;
    store.overview(&[room()]).await.expect("read");
    poll(store).await;
    store
        .set_resolved_room(room(), ResolvedRoom { first: "!a:b".to_owned(), successor: None })
        .await
        .expect("committed");
    store.resolved_rooms().await.expect("read");
    store.set_device("D".to_owned()).await.expect("committed");
    store.device().await.expect("read");
}

async fn poll(store: &Store) {
    let mark = store.poll_mark().await.expect("read");
    assert!(!store.receivers_with_open(&route("default"), Timestamp(0)).await.expect("read").is_empty());
    let mut cursor = OpenCursor::default();
    let page = store.open_page(&route("default"), "r", &mut cursor).await.expect("read");
    let judged = Judged { incident: page[0].id.clone(), found: vec![found("a")], refresh: true };
    let judge: Judge = Arc::new(|_, _, _| Some(adding(None, "a", IncidentState::Firing, Vec::new())));
    assert_eq!(store.apply_found(mark, vec![judged], judge).await.expect("committed").changed, 1);
    let gone: Judge = Arc::new(|_, _, now| {
        Some(Changes { closed_at: Some(now), ..adding(None, "a", IncidentState::Gone, Vec::new()) })
    });
    let firing: Judge = Arc::new(|_, _, _| Some(adding(None, "a", IncidentState::Firing, Vec::new())));
    for judge in [gone, firing] {
        let last = crate::model::PollMark(i64::MAX);
        let judged = Judged { incident: page[0].id.clone(), found: vec![found("a")], refresh: false };
        store.apply_found(last, vec![judged], judge).await.expect("committed");
    }
    let mut cursor = OpenCursor::and_gone_since(Timestamp(0));
    while !store.open_page(&route("default"), "r", &mut cursor).await.expect("read").is_empty() {}
    store.silenced_by(&["s".to_owned()]).await.expect("read");
}

fn found(fingerprint: &str) -> crate::model::Found {
    crate::model::Found {
        fingerprint: fingerprint.to_owned(),
        conclusion: crate::model::Conclusion::Gone,
        starts_at: None,
    }
}

/// Of an incident that closed and is open again.
async fn escalate(store: &Store, clock: &Clock) {
    post(store, "nobody", "nobody").await;
    take(store, ingest("nobody", "a", IncidentState::Resolved)).await;
    take(store, ingest("nobody", "a", IncidentState::Firing)).await;
    clock.advance(Duration::from_hours(1));
    let step = EscalationStep {
        route: route("default"),
        step: 0,
        after: Duration::from_hours(1),
        min_severity: 3,
        concerns: Arc::new(|_| true),
    };
    let due = store.escalation_candidates(&step, None).await.expect("read");
    let due = due.into_iter().map(|one| one.incident).collect();
    assert!(!store.escalate(&step, due).await.expect("committed").is_empty());
}

/// One switch beats, is called over and goes missing, another is forgotten.
async fn watch_heartbeats(store: &Store) {
    let key = |name: &str| SwitchKey { route: route("default"), name: name.to_owned(), labels: Labels::new() };
    let beat = |name: &str, firing| Beat { key: key(name), firing };
    for firing in [true, true, false] {
        let beats = vec![beat("a", firing), beat("b", true)];
        take(store, Ingest { beats, ..idle("beats") }).await;
    }
    assert_eq!(store.heartbeats().await.expect("read").len(), 2);
    let graced = |switch: &Switch| Some(Switch { graced_at: Some(switch.beat_at), ..switch.clone() });
    assert_eq!(store.change_heartbeats(graced).await.expect("committed"), 2);
    for (name, is_kept) in [("a", true), ("b", false)] {
        let decide: DecideSwitch = Box::new(move |switch, known, now| {
            let switch = is_kept.then(|| Switch { missing_since: Some(now), ..switch.clone() });
            Some(SwitchChange { switch, alarm: Some(adding(known, "heartbeat", IncidentState::Firing, Vec::new())) })
        });
        store.change_heartbeat(key(name), vec![room()], decide).await.expect("committed").expect("a change");
    }
}

/// With a digest that loses a part.
async fn change_config(store: &Store) {
    take(
        store,
        Ingest { key: IncidentKey { route: route("gone"), ..key("g") }, ..ingest("g", "a", IncidentState::Firing) },
    )
    .await;
    store.make_digest(&room()).await.expect("committed").expect("a digest");
    // Another name of the room, and a receiver that takes another route.
    let to = RoomAddress::parse("#room:example.org").expect("a room");
    let address_change =
        AddressChange { from: room(), to: to.clone(), routes: [route("default")].into(), kept: [].into() };
    assert!(store.has_cards_of(&address_change).await.expect("read"));
    store.change_address(&address_change).await.expect("committed");
    let back = AddressChange { from: to, to: room(), ..address_change };
    store.change_address(&back).await.expect("committed");
    store.open_receivers().await.expect("read");
    let moved = Move { from: route("default"), receiver: "r".to_owned(), to: route("web") };
    store.close_moved(&moved).await.expect("committed");
    let routing = [(route("default"), vec![room()])].into();
    assert!(store.close_unrouted(&routing).await.expect("committed").cards > 0);
    let elsewhere = [(route("default"), Vec::new())].into();
    store.close_unrouted(&elsewhere).await.expect("committed");
    store.give_up_room(&room(), "left").await.expect("committed");
}

fn op_for_op(op: &Op) -> NewOp {
    NewOp {
        txn_id: op.txn_id.clone(),
        card: op.card.clone(),
        room: op.room.clone(),
        kind: op.kind,
        content: op.content.clone(),
        rev: op.rev,
        form: op.form.plainer().expect("a plainer form"),
        last_edit: op.last_edit,
        speaks: op.speaks,
        since: op.since,
        notification: op.notification.clone(),
        incident: op.incident.clone(),
        device: op.device.clone(),
        first_try: Timestamp(6),
        notes: Vec::new(),
        alert: None,
    }
}

/// Partial indexes that have nearly all that ever was.
const LARGE: [&str; 14] = [
    "act_incident",
    "act_megolm",
    "act_over",
    "answer_event",
    "answer_over",
    "card_root",
    "card_superseded",
    "incident_closed",
    "op_done",
    "op_done_at",
    "op_event",
    "op_over",
    "op_passed",
    "silence_id",
];

/// How a statement begins, and a step of its plan, that is right as it is.
const RIGHT: [(&str, &str); 7] = [
    // Now and then, beside the writer and the lanes.
    ("SELECT id FROM card WHERE NOT EXISTS (SELECT 1 FROM card_incident", "SCAN card"),
    // Once, when a room that is no longer routed is given up.
    ("DELETE FROM note WHERE card IN (SELECT id FROM card WHERE room = $1)", "SCAN card"),
    ("UPDATE card SET state = 'retired' WHERE room = $1", "SCAN card"),
    // The last entry of the index.
    ("SELECT max(heard_at) FROM incident WHERE state = $1", "SEARCH incident"),
    // In the order of the index, and up to a limit.
    ("SELECT event_id FROM op WHERE room = $1 AND state = 'done' AND event_id IS NOT NULL", "SEARCH op"),
    // When a room has got another address in the config, and beside the lanes.
    (
        "SELECT count(*) FROM (SELECT card.id FROM card JOIN card_incident ON card_incident.card = card.id JOIN incident",
        "SEARCH incident",
    ),
    // Any one entry will do.
    ("DELETE FROM op WHERE txn_id IN", "SEARCH later"),
];

/// What is wrong with a step of a plan.
fn problem(step: &str, partial: &BTreeSet<String>) -> Option<&'static str> {
    if step.contains("AUTOMATIC") {
        return Some("makes an index of its own each time");
    }
    if step.starts_with("SEARCH ") && !step.contains('(') && !step.contains("COVERING") {
        return Some("reads rows until one is right");
    }
    let index = step.split_once("INDEX ").map(|(_, index)| index.trim());
    let is_partial = |index: &str| partial.contains(index.split(' ').next().unwrap_or_default());
    if let Some((_, columns)) = index.filter(|index| !is_partial(index)).and_then(|index| index.split_once('(')) {
        // Few rooms, routes and states share all the rows that ever were.
        let is_coarse = ["room=?", "route=?", "state=?"].iter().any(|column| columns.starts_with(column));
        if is_coarse && columns.matches("=?").count() == 1 {
            return Some("reads all of a room, route or state");
        }
    }
    let rest = step.strip_prefix("SCAN ")?;
    let table = rest.split(' ').next().unwrap_or_default();
    let is_bounded = table.starts_with('(') || table == "CONSTANT" || SMALL.contains(&table) || LISTS.contains(&table);
    // A partial index has what is open, due or unfinished, and nothing of the rest.
    if is_bounded || index.is_some_and(is_partial) { None } else { Some("reads all of a table") }
}

async fn plain(folder: &Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("receiver.sqlite3"));
    SqliteConnection::connect_with(&options.disable_statement_logging()).await.expect("a connection")
}

#[tokio::test]
async fn no_statement_reads_a_whole_table_that_grows() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    tracing::subscriber::set_global_default(Spy).expect("no other");
    let folder = TempDir::new().expect("a folder");
    let clock = Clock::manual(Timestamp(1_000_000));
    let metrics = Arc::new(Metrics::new(&[], &[], "v", "c"));
    let logged = |options: sqlx::any::AnyConnectOptions| {
        // From the first moment on each counts as slow.
        options.log_slow_statements("trace".parse().expect("a level"), Duration::ZERO)
    };
    let store = Store::open_as(folder.path(), clock.clone(), metrics, Arc::default(), logged).await.expect("a store");
    caught().lock().expect("no panic").clear();
    work(&store, &clock).await;
    store.close().await;
    let statements = std::mem::take(&mut *caught().lock().expect("no panic"));

    let mut connection = plain(folder.path()).await;
    let partial = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'")
        .fetch_all(&mut connection)
        .await
        .expect("indexes");
    let partial: BTreeSet<String> =
        partial.into_iter().filter(|name: &String| !LARGE.contains(&name.as_str())).collect();
    let (mut faults, mut looked_at) = (Vec::new(), 0);
    // What goes to SQLite in one call is several statements.
    for sql in statements.iter().flat_map(|sql| sql.split("; ")) {
        if !["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| sql.starts_with(verb)) {
            continue;
        }
        looked_at += 1;
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&mut connection).await;
        for row in plan.unwrap_or_else(|error| panic!("{sql}: {error}")) {
            let step: String = row.get("detail");
            if RIGHT.iter().any(|(start, right)| sql.starts_with(start) && step.starts_with(right)) {
                continue;
            }
            if let Some(fault) = problem(&step, &partial) {
                faults.push(format!("{step}: {fault}\n    {}", sql.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} statements were caught");
    assert!(faults.is_empty(), "{} steps\n{}", faults.len(), faults.join("\n"));
}

/// Or the statements of some function would go unseen.
#[test]
fn every_function_of_the_store_is_called_above() {
    let work = include_str!("scans.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut missing = Vec::new();
    for file in source_files(&folder) {
        // The writer's are those of every piece of work.
        if ["writer.rs", "database.rs", "readers.rs", "statement.rs"].iter().any(|plumbing| file.ends_with(plumbing)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("read");
        let functions = text.lines().filter_map(|line| line.strip_prefix("    pub async fn "));
        let names = functions.map(|rest| rest.split(['(', '<']).next().unwrap_or_default());
        missing.extend(
            names
                .filter(|name| !["open", "open_as_configured"].contains(name) && !work.contains(&format!(".{name}(")))
                .map(str::to_owned),
        );
    }
    assert!(missing.is_empty(), "call these in `work`, so that their statements are looked at: {missing:?}");
}

/// Source files below `folder`, without those of tests.
fn source_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for path in std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path()) {
        match path.is_dir() {
            true if path.ends_with("tests") => {}
            true => files.extend(source_files(&path)),
            false => files.push(path),
        }
    }
    files
}

/// A row that is deleted is looked for in every table that may refer to it.
#[tokio::test]
async fn what_refers_to_a_row_is_found_by_an_index() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    open(folder.path()).await.store.close().await;
    let mut connection = plain(folder.path()).await;
    let references: Vec<(String, String)> = sqlx::query_as(
        "SELECT child.name, key.\"from\" FROM sqlite_master AS child JOIN pragma_foreign_key_list(child.name) AS key \
         WHERE child.type = 'table'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("references");
    assert!(references.len() >= 6, "{references:?}");
    let mut bare = Vec::new();
    for (table, column) in references {
        let indexed: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pragma_index_list($1) AS list JOIN pragma_index_info(list.name) AS info \
             WHERE list.partial = 0 AND info.seqno = 0 AND info.name = $2",
        )
        .bind(&table)
        .bind(&column)
        .fetch_one(&mut connection)
        .await
        .expect("indexes");
        if indexed == 0 {
            bare.push(format!("{table}.{column}"));
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}
