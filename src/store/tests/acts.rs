//! What people ask for: kept once, carried out once, pruned when it is over.

use super::*;
use crate::model::{ActArgs, ActKind, ActState};

const HOUR: Duration = Duration::from_hours(1);

fn asked(event: &str, megolm: Option<&str>) -> NewAct {
    NewAct {
        event_id: event.to_owned(),
        megolm: megolm.map(ToOwned::to_owned),
        route: key("g").route,
        room: room(),
        sender: "@a:b".to_owned(),
        kind: ActKind::Take,
        incident: None,
        card: None,
        args: ActArgs { by_reaction: true, ..ActArgs::default() },
        not_before: None,
    }
}

async fn hear(store: &Store, position: &str, acts: Vec<NewAct>) -> usize {
    let heard = Heard { room_id: "!r".to_owned(), position: Some(position.to_owned()), acts, ..Heard::default() };
    store.commit_acts(heard).await.expect("committed")
}

async fn end(store: &Store, event: &str, state: ActState) -> bool {
    let act = store.act_of_event(event).await.expect("read").expect("an act").act;
    let answers = Vec::new();
    let end = ActEnd { act, state, outcome: "done", name: "A".to_owned(), answers, is_visible: false };
    store.end_act(end).await.expect("committed")
}

#[tokio::test]
async fn an_event_asks_once_and_acts_keep_their_order() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let events: Vec<String> = (0..20).map(|n| format!("${n}")).collect();
    let acts: Vec<NewAct> = events.iter().map(|event| asked(event, None)).collect();
    assert_eq!(hear(&store, "$19", acts.clone()).await, 20);
    assert_eq!(hear(&store, "$20", acts).await, 0, "the same events again");
    assert_eq!(hear(&store, "$21", vec![asked("$a", Some("s/1")), asked("$b", Some("s/1"))]).await, 1, "a copy");
    assert_eq!(store.room_position("!r").await.expect("read").map(|(event, _)| event).as_deref(), Some("$21"));
    let due = store.due_acts(&key("g").route).await.expect("read");
    let order: Vec<&str> = due.iter().map(|due| due.act.event_id.as_str()).take(20).collect();
    assert_eq!(order, events);
    let later = clock.now().plus(HOUR);
    hear(&store, "$22", vec![NewAct { not_before: Some(later), ..asked("$later", None) }]).await;
    assert_eq!(store.due_acts(&key("g").route).await.expect("read").len(), 21);
    clock.advance(HOUR);
    assert_eq!(store.due_acts(&key("g").route).await.expect("read").len(), 22);
}

#[tokio::test]
async fn an_act_ends_once() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    hear(&store, "$1", vec![asked("$1", None)]).await;
    assert!(end(&store, "$1", ActState::Done).await);
    assert!(!end(&store, "$1", ActState::Refused).await);
    assert!(store.due_acts(&key("g").route).await.expect("read").is_empty());
}

#[tokio::test]
async fn what_is_over_is_pruned_after_a_day_and_what_is_live_stays() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    hear(&store, "$3", ["$done", "$live", "$asked"].map(|event| asked(event, None)).to_vec()).await;
    end(&store, "$done", ActState::Done).await;
    end(&store, "$live", ActState::Live).await;
    clock.advance(23 * HOUR);
    assert_eq!(store.prune_acts(HOUR).await.expect("pruned"), 0, "an event may still be read again");
    clock.advance(2 * HOUR);
    assert_eq!(store.prune_acts(50 * HOUR).await.expect("pruned"), 0, "the retention is longer");
    assert_eq!(store.prune_acts(HOUR).await.expect("pruned"), 1);
    assert_eq!(store.test_acts().await, ["take live done", "take asked "]);
}
