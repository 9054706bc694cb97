//! Opening a store: its lock, and damage.

use super::*;

async fn try_open(folder: &Path) -> Result<Store, StoreError> {
    let metrics = Arc::new(Metrics::new(&[], &[], "v", "c"));
    Store::open(folder, Clock::manual(Timestamp(1_000_000)), metrics, Arc::new(Health::default())).await
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let _first = open(folder.path()).await;
    let second = try_open(folder.path()).await;
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_left_alone() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("receiver.sqlite3");
    std::fs::write(&file, b"this is no database, but whatever it is, it is not ours to replace").expect("written");
    let opened = try_open(folder.path()).await;
    let error = opened.expect_err("not a database").to_string();
    assert!(error.contains("receiver.sqlite3") && error.contains("not a database"), "{error}");
    assert!(std::fs::read(&file).expect("still there").starts_with(b"this is no database"));
}

#[tokio::test]
async fn damage_of_after_a_stop_is_reported_and_what_was_closed_is_not_read_through() {
    // It looks at SQLite's file.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("receiver.sqlite3");
    let Fixture { store, .. } = open(folder.path()).await;
    for n in 0..200 {
        store.ingest(ingest(&format!("g{n}"), "a", IncidentState::Firing)).await.expect("committed");
    }
    store.close().await;
    drop(store);
    assert_eq!(std::fs::read_to_string(folder.path().join("lock")).expect("a note").lines().count(), 1);
    let pages = std::fs::read(&file).expect("a file");
    let mut damaged = pages.clone();
    damaged[pages.len() / 2..].fill(0xaa);
    std::fs::write(&file, damaged).expect("written");
    let opened = try_open(folder.path()).await;
    assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{opened:?}");
    std::fs::write(&file, pages).expect("written");
    let Fixture { store, .. } = open(folder.path()).await;
    assert_eq!(std::fs::read(folder.path().join("lock")).expect("a lock"), b"", "it is open");
    store.close().await;
}
