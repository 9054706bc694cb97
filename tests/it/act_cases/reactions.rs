//! How clients write the same reaction.

use super::World;
use crate::harness::{DEADLINE, RoomView};

#[tokio::test(flavor = "multi_thread")]
async fn variants_and_skin_tones_count_and_the_same_one_counts_again() {
    let world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    let taken = format!("taken by {}", world.moderator.local());
    let is_taken = |view: &RoomView| view.card().has(&taken);
    for key in ["✅", "✅\u{FE0F}", "👀", "👀\u{FE0F}", "👀\u{1F3FD}", "✅"] {
        let reaction = world.moderator.react(&room, &card, key).await;
        world.wait(&format!("taken by {key:?}"), is_taken).await;
        world.moderator.redact(&room, &reaction).await;
        world.wait(&format!("{key:?} given back"), |view| !is_taken(view)).await;
    }
    world.acts_are("take", "done", 6.0).await;
    world.acts_are("undo", "done", 6.0).await;

    // A second one adds nothing, and what it did not do its removal does not undo.
    let first = world.moderator.react(&room, &card, "✅").await;
    world.wait("taken", is_taken).await;
    let second = world.moderator.react(&room, &card, "👀").await;
    world.acts_are("take", "already", 1.0).await;
    world.moderator.redact(&room, &second).await;
    for key in ["🔔", "👍", "🔕 please"] {
        world.moderator.react(&room, &card, key).await;
    }
    let command = world.oncall.say_in_thread(&room, &card, "!ack me too").await;
    world.ticked(&command).await;
    let view = world.wait("both", |view| view.card().has("and 1 other")).await;
    assert!(is_taken(&view), "{}", view.text());
    assert_eq!(world.made().await, 0);

    // Also on a reply in the thread, and on an edit.
    world.moderator.redact(&room, &first).await;
    world.wait("given back", |view| !is_taken(view)).await;
    world.fires(&["n01", "n02"]).await;
    let view =
        world.scene.room.wait_for("a reply", DEADLINE, |view| view.thread_of(&card).iter().any(|m| m.has("n02"))).await;
    let reply = view.thread_of(&card).into_iter().find(|m| m.has("n02")).expect("a reply").event_id().to_owned();
    let reaction = world.moderator.react(&room, &reply, "👀").await;
    world.wait("taken by a reaction to a reply", is_taken).await;
    world.moderator.redact(&room, &reaction).await;
    world.wait("given back", |view| !is_taken(view)).await;
    let view = world.scene.room.view().await;
    let edit = view.edits_of(&card).last().expect("an edit").event_id.clone();
    world.moderator.react(&room, &edit, "👀").await;
    world.wait("taken by a reaction to an edit", is_taken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_reactions_are_off_only_commands_act() {
    let world = World::with(crate::harness::Scene::new().await, "[actions]\nreactions = false\n").await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    for key in ["✅", "🔕"] {
        world.oncall.react(&room, &card, key).await;
    }
    let view = world.settled(&card).await;
    assert!(!view.card().has(world.oncall.local()), "{}", view.text());
    assert_eq!((world.made().await, world.all_acts().await), (0, 1.0));
}
