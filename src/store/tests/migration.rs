//! Stores that older versions made.

use super::*;
use crate::{model::CardId, store::db::open::MIGRATIONS};

/// Makes a store as 0.1.0 left it, with these rows.
pub(super) async fn store_of_0_1_0(folder: &Path, rows: &'static str) {
    let file = folder.join("receiver.sqlite3");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
    // The scan test listens for the statements of its own store.
    let options = sqlx::ConnectOptions::disable_statement_logging(options);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("a file");
    let first = MIGRATIONS.migrations.iter().take(1).cloned().collect();
    let schema = sqlx::migrate::Migrator { migrations: first, ..sqlx::migrate::Migrator::DEFAULT };
    schema.run(&mut connection).await.expect("a schema");
    sqlx::raw_sql(rows).execute(&mut connection).await.expect("rows");
    sqlx::Connection::close(connection).await.expect("closed");
}

async fn states(store: &Store) -> Vec<(String, String, Option<String>)> {
    sqlx::query_as("SELECT id, state, superseded_by FROM card ORDER BY id")
        .fetch_all(&store.readers.pool)
        .await
        .expect("read")
}

async fn state_of(store: &Store, card: &str) -> CardState {
    let card = CardId(card.to_owned());
    store.snapshot(&card).await.expect("read").expect("a card").card.state
}

/// The cards that are due for an edit, by age.
async fn edits(store: &Store) -> Vec<String> {
    let due = store.due(&room()).await.expect("due");
    due.edits.into_iter().map(|due| due.card.0).collect()
}

async fn edit(store: &Store, card: &str) {
    let snapshot = store.snapshot(&CardId(card.to_owned())).await.expect("read").expect("a card");
    let op = store.freeze(op_for(&snapshot, OpKind::Edit, &format!("edit-{card}"))).await.expect("frozen");
    store.finish(&op, &format!("$edit-{card}")).await.expect("recorded");
}

#[tokio::test]
async fn cards_and_events_of_0_1_0_keep_what_they_owe() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    store_of_0_1_0(folder.path(), include_str!("store_0_1_0_cards.sql")).await;
    let Fixture { store, .. } = open(folder.path()).await;
    let expected = [
        ("done", "retired", Some("done-next")),
        ("done-next", "live", None),
        ("live", "live", None),
        ("pending", "superseded", Some("pending-next")),
        ("pending-next", "live", None),
        ("sending", "superseded", Some("sending-next")),
        ("sending-next", "live", None),
        ("unrouted", "unrouted", None),
        ("unrouted-done", "retired", None),
        ("waiting", "superseded", Some("waiting-next")),
        ("waiting-next", "live", None),
    ];
    let expected = expected.map(|(id, state, next)| (id.to_owned(), state.to_owned(), next.map(str::to_owned)));
    assert_eq!(states(&store).await, expected);
    let revs: Vec<(String, i64)> =
        sqlx::query_as("SELECT card, shown_rev FROM card_incident WHERE card LIKE '%done' ORDER BY card")
            .fetch_all(&store.readers.pool)
            .await
            .expect("read");
    assert_eq!(revs, [("done".to_owned(), 30), ("unrouted-done".to_owned(), 50)]);
    let ops: Vec<(String, String, i64, i64)> =
        sqlx::query_as("SELECT txn_id, form, last_edit, rev FROM op ORDER BY txn_id")
            .fetch_all(&store.readers.pool)
            .await
            .expect("read");
    let expected = [
        ("counts", "counts", 1, 30),
        ("full", "full", 0, 9),
        ("last", "counts", 1, 70),
        ("one-line", "one_line", 0, 9),
    ];
    assert_eq!(ops, expected.map(|(id, form, last, rev)| (id.to_owned(), form.to_owned(), last, rev)));
}

#[tokio::test]
async fn a_store_of_0_1_0_makes_the_last_edits_that_are_left() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    store_of_0_1_0(folder.path(), include_str!("store_0_1_0_cards.sql")).await;
    let Fixture { store, .. } = open(folder.path()).await;
    assert_eq!(edits(&store).await, ["live", "pending", "unrouted"]);
    // The one on its way arrives.
    let last = store.open_ops(&room()).await.expect("read").unfinished.expect("in flight");
    assert_eq!((last.form, last.last_edit), (Form::Counts, true));
    store.finish(&last, "$last").await.expect("recorded");
    assert_eq!(state_of(&store, "sending").await, CardState::Retired);
    for card in ["pending", "unrouted"] {
        edit(&store, card).await;
        assert_eq!(state_of(&store, card).await, CardState::Retired);
    }
    edit(&store, "live").await;
    assert_eq!((edits(&store).await.len(), state_of(&store, "live").await), (0, CardState::Live));
    // The next card is posted, so that the old one can say where it goes on.
    let next = store.snapshot(&CardId("waiting-next".to_owned())).await.expect("read").expect("a card");
    let op = store.freeze(op_for(&next, OpKind::Card, "next")).await.expect("frozen");
    store.finish(&op, "$waiting-next").await.expect("recorded");
    assert_eq!(edits(&store).await, ["waiting"]);
    edit(&store, "waiting").await;
    assert_eq!((edits(&store).await.len(), state_of(&store, "waiting").await), (0, CardState::Retired));
    // A retired card shows nothing new; the one in its place does.
    store.ingest(ingest("done", "a", IncidentState::Firing)).await.expect("committed");
    let due = store.due(&room()).await.expect("due");
    let cards: Vec<&str> = due.notes.iter().map(|due| due.card.as_str()).collect();
    assert_eq!((cards, due.new.len(), due.edits.len()), (vec!["done-next"], 0, 0));
    assert_eq!(
        store.retry_dead_letter(&TxnId("one-line".to_owned())).await.expect("committed").map(|(_, f)| f),
        Some(Follows::Edit)
    );
}
