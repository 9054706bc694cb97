//! The last edit of a card that no route leads into its room any more.

use super::rendered::superseded;
use super::{
    check::assert_sound,
    samples::{api_down, crash_loop, style},
};
use crate::render::Superseded;

#[test]
fn whose_card_it_was_and_no_state() {
    let (one, other) = (crash_loop(), api_down());
    for (incidents, expected) in [
        (&[&one][..], "🔌 PodCrashLooping: no longer routed here, and no longer updated"),
        (&[&one, &other], "🔌 PodCrashLooping and 1 more: no longer routed here, and no longer updated"),
    ] {
        let message = superseded(&style(), incidents, Superseded::Unrouted);
        assert_sound(&message);
        assert_eq!(message.body, expected);
    }
}

#[test]
fn where_it_goes_on() {
    let (one, other) = (crash_loop(), api_down());
    let words = "goes on with the route web, and is no longer updated here";
    let message = superseded(&style(), &[&one], Superseded::Moved { route: "web", to: None });
    assert_sound(&message);
    assert_eq!(message.body, format!("⏩ PodCrashLooping: {words}"));
    let to = "https://matrix.to/#/!room:example.org/$event";
    let message = superseded(&style(), &[&one, &other], Superseded::Moved { route: "web", to: Some(to) });
    assert_sound(&message);
    assert_eq!(message.body, format!("⏩ PodCrashLooping and 1 more: {words}\nContinued: {to}"));
    assert!(message.html.contains(to), "{}", message.html);
}
