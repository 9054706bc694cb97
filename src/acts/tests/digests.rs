//! Many incidents on one card.

use super::*;

async fn digest(world: &World, names: &[&str]) -> (Vec<IncidentId>, String) {
    let mut incidents = Vec::new();
    for name in names {
        let group = format!("{name}-{}", incidents.len());
        let one = alert(&group, &[("alertname", name), ("pod", &group)]);
        world.alertmanager.fires(&one.fingerprint, "matrix", &one.doc.labels);
        incidents.push(world.notify(&group, &[one], IncidentState::Firing).await);
    }
    world.store().make_digest(&room()).await.expect("committed").expect("a digest");
    (incidents, world.post_card("digest").await.1)
}

#[tokio::test]
async fn a_command_names_its_incident() {
    let mut world = World::new().await;
    let (incidents, card) = digest(&world, &["Down", "Slow", "Full", "Full"]).await;
    world.rooms.power(ALICE, 50);
    world.says(ALICE, "!ack slow", &card).await;
    world.works().await;
    assert_eq!(world.taken_by(&incidents[1]).await, [ALICE]);
    assert!(world.taken_by(&incidents[0]).await.is_empty());
    for (command, refusal) in [
        ("!ack", "❌ Say which alert of this message: !ack ALERTNAME"),
        ("!ack Full", "❌ 2 groups here are called Full: act on them in Alertmanager, or on their own cards"),
        ("!silence Other 2h", "❌ Nothing here is called Other; there are: Down, Full, Slow"),
    ] {
        world.says(ALICE, command, &card).await;
        world.works().await;
        assert_eq!(world.answers().await.last().map(String::as_str), Some(refusal));
    }
    assert!(world.alertmanager.silences().is_empty());
    world.reacts(ALICE, "🔕", &card).await;
    world.works().await;
    let hint = "❌ Say which alert of this message: !silence Down";
    assert_eq!(world.answers().await.last().map(String::as_str), Some(hint));
}

#[tokio::test]
async fn a_reaction_takes_all_of_it_and_its_removal_gives_all_back() {
    let mut world = World::new().await;
    let (incidents, card) = digest(&world, &["Down", "Slow", "Full"]).await;
    world.rooms.power(ALICE, 50);
    world.rooms.power(BOB, 50);
    world.says(BOB, "!ack Slow", &card).await;
    world.works().await;
    let reaction = world.reacts(ALICE, "👀", &card).await;
    world.works().await;
    for (incident, by) in incidents.iter().zip([vec![ALICE], vec![BOB, ALICE], vec![ALICE]]) {
        assert_eq!(world.taken_by(incident).await, by);
    }
    world.redacts(ALICE, &reaction).await;
    world.works().await;
    for (incident, by) in incidents.iter().zip([vec![], vec![BOB], vec![]]) {
        assert_eq!(world.taken_by(incident).await, by);
    }
}
