//! Who leads.

use super::*;
use crate::store::Epoch;

#[tokio::test]
async fn one_leads_until_it_gives_back_and_only_the_holder_renews() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    assert_eq!(store.leader().await.expect("read"), None);
    let epoch = store.take_lead("a").await.expect("committed").expect("nobody led");
    assert_eq!(store.take_lead("b").await.expect("committed"), None, "a leads");
    let leader = store.leader().await.expect("read").expect("a leads");
    assert_eq!((leader.replica.as_str(), &leader.epoch), ("a", &epoch));
    assert!(leader.left > Duration::from_secs(1) && leader.left <= Duration::from_secs(5), "{leader:?}");
    assert!(store.keep_lead(&epoch).await.expect("committed"));
    assert!(!store.keep_lead(&Epoch::new("another")).await.expect("committed"));
    store.give_up_lead(&epoch).await.expect("committed");
    assert_eq!(store.leader().await.expect("read"), None);
    assert!(!store.keep_lead(&epoch).await.expect("committed"), "what was given back is not renewed");
    let next = store.take_lead("b").await.expect("committed").expect("nobody leads");
    assert_ne!(next, epoch);
}

#[tokio::test]
async fn a_lease_ends_by_the_databases_clock_and_one_from_a_clock_set_back_does_not_last() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.take_lead("a").await.expect("committed").expect("nobody led");
    for sql in ["UPDATE lease SET until = until - 6000", "UPDATE lease SET until = until + 3600000"] {
        store.run_sql(sql).await;
        assert_eq!(store.leader().await.expect("read"), None, "{sql}");
        assert!(store.take_lead("b").await.expect("committed").is_some(), "{sql}");
    }
}

#[tokio::test]
async fn no_commit_of_a_leader_comes_after_it_was_replaced() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let epoch = store.take_lead("a").await.expect("committed").expect("nobody led");
    let stale = store.as_leader(epoch);
    // SQLite has no replicas: nobody asks who leads there.
    if !store.is_shared() {
        return;
    }
    stale.set_device("of a".to_owned()).await.expect("a leads");
    store.run_sql("UPDATE lease SET until = 0").await;
    stale.set_device("still of a".to_owned()).await.expect("nobody has replaced it");
    store.take_lead("b").await.expect("committed").expect("the lease had ended");
    let refused = stale.set_device("too late".to_owned()).await;
    assert!(matches!(refused, Err(StoreError::NotLeader)), "{refused:?}");
    assert_eq!(store.device().await.expect("read").as_deref(), Some("still of a"));
    store.set_device("of anybody".to_owned()).await.expect("webhooks need no lease");
}
