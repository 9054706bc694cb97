//! SQLite's write-ahead log is copied into the file beside the writer.

use super::{retention::noise, *};

const PAGE: u64 = 4_096;

fn bytes(folder: &Path, name: &str) -> u64 {
    std::fs::metadata(folder.join(name)).map_or(0, |file| file.len())
}

/// How often the log was begun again: a number in its head.
fn beginnings(folder: &Path) -> u32 {
    let log = std::fs::read(folder.join("receiver.sqlite3-wal")).expect("a log");
    u32::from_be_bytes(log[12..16].try_into().expect("four bytes"))
}

/// About nine pages.
async fn write(store: &Store, group: usize) {
    let webhook = Ingest { body: noise(20_000), ..ingest(&format!("g{group}"), "a", IncidentState::Firing) };
    store.ingest(webhook).await.expect("committed");
}

#[tokio::test]
async fn what_is_committed_reaches_the_file_long_before_the_writer_would_copy_it() {
    // It looks at SQLite's files.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let before = bytes(folder.path(), "receiver.sqlite3");
    for n in 0..100 {
        write(&store, n).await;
    }
    for _ in 0..1_000 {
        if bytes(folder.path(), "receiver.sqlite3") >= before + 300 * PAGE {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still {} bytes", bytes(folder.path(), "receiver.sqlite3") - before);
}

#[tokio::test]
async fn the_log_begins_again_while_webhooks_keep_coming() {
    // It looks at SQLite's files.
    if is_shared() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    write(&store, 0).await;
    let before = beginnings(folder.path());
    // Not as many pages as those from which on SQLite makes the writer copy them.
    for n in 1..400 {
        write(&store, n).await;
        if beginnings(folder.path()) != before {
            assert!(bytes(folder.path(), "receiver.sqlite3-wal") < 4_000 * PAGE);
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the log has {} bytes", bytes(folder.path(), "receiver.sqlite3-wal"));
}
