//! Who took an incident: what a card reads of it, and what ends it.

use super::*;
use crate::model::Taken;

/// A taking, as the acts' worker leaves it.
pub(super) async fn take(store: &Store, incident: &IncidentId, user: &str, at: i64) {
    let (incident, user) = (incident.clone(), user.to_owned());
    store
        .write(move |connection, _| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO act (id, event_id, route, room, sender, name, kind, incident, args, state, asked_at) \
                     VALUES ($1, $1, 'default', '!room:example.org', $1, 'Name', 'take', $2, '{\"text\":\"mine\"}', 'live', $3)",
                )
                .bind(&user)
                .bind(incident.as_str())
                .bind(at)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
        .expect("committed");
}

async fn live(store: &Store) -> Vec<String> {
    sqlx::query_scalar("SELECT sender FROM act WHERE state = 'live' AND ended_at IS NULL ORDER BY sender")
        .fetch_all(&store.readers.pool)
        .await
        .expect("read")
}

async fn opened(store: &Store, group: &str) -> IncidentId {
    let ingested = store.ingest(ingest(group, "a", IncidentState::Firing)).await.expect("committed");
    ingested.incident.expect("an incident")
}

#[tokio::test]
async fn a_card_reads_the_first_five_of_each_of_its_incidents() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let (one, other) = (opened(&store, "one").await, opened(&store, "other").await);
    let digest = store.make_digest(&room()).await.expect("committed").expect("a digest");
    for n in 0..7 {
        take(&store, &one, &format!("@u{n}:x"), 2_006 - n).await;
    }
    let snapshot = store.snapshot(&digest).await.expect("read").expect("a card");
    let taken = |id: &IncidentId| {
        let (incident, _) = snapshot.incidents.iter().find(|(incident, _)| incident.id == *id).expect("shown");
        incident.taken.clone()
    };
    let users: Vec<String> = taken(&one).into_iter().map(|taken| taken.user).collect();
    assert_eq!(users, ["@u6:x", "@u5:x", "@u4:x", "@u3:x", "@u2:x"]);
    let first =
        Taken { user: "@u6:x".to_owned(), name: "Name".to_owned(), at: Timestamp(2_000), text: "mine".to_owned() };
    assert_eq!((taken(&one).first(), taken(&other)), (Some(&first), Vec::new()));
    let overview = store.overview(&[room()]).await.expect("read");
    let of_page = overview.incidents.iter().find(|open| open.seen.incident.id == one).expect("open");
    assert_eq!(of_page.seen.incident.taken, taken(&one));
}

#[tokio::test]
async fn what_ends_a_taking_does_so_in_the_same_commit() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    for group in ["flap", "new", "over", "left"] {
        take(&store, &opened(&store, group).await, group, 1).await;
    }
    assert_eq!(live(&store).await, ["flap", "left", "new", "over"]);
    store.ingest(ingest("flap", "a", IncidentState::Firing)).await.expect("committed");
    store.ingest(ingest("new", "b", IncidentState::Firing)).await.expect("committed");
    store.ingest(ingest("over", "a", IncidentState::Resolved)).await.expect("committed");
    assert_eq!(live(&store).await, ["flap", "left"]);
    clock.advance(Duration::from_hours(2));
    store.ingest(unchanged("flap")).await.expect("committed");
    let route = RouteName::parse("default").expect("a route");
    assert_eq!(store.close_stale(&route, Duration::from_hours(1)).await.expect("committed"), 2);
    assert_eq!(live(&store).await, ["flap"]);
    // A route that is gone.
    let unrouted = store.close_unrouted(&Routing::new()).await.expect("committed");
    assert_eq!((unrouted.incidents, live(&store).await), (1, Vec::new()));
}

#[tokio::test]
async fn a_receiver_that_takes_another_route_leaves_its_takings_behind() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let by_receiver = Ingest { by_receiver: true, ..ingest("g", "a", IncidentState::Firing) };
    let incident = store.ingest(by_receiver).await.expect("committed").incident.expect("an incident");
    take(&store, &incident, "@u:x", 1).await;
    let route = |name: &str| RouteName::parse(name).expect("a route");
    let moved = Move { from: route("default"), receiver: "r".to_owned(), to: route("web") };
    assert_eq!(store.close_moved(&moved).await.expect("committed"), 1);
    assert_eq!(live(&store).await, [""; 0]);
}
