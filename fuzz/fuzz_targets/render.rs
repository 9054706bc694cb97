//! Any bytes as webhooks, and every message that may come of them: in bounds, well formed, without foreign markup.

#![no_main]

use matrix_alertmanager_receiver_fuzz::{
    check::{assert_fits_encrypted, assert_sound},
    config::{Display, Links},
    model::{Form, Incident, Note},
    play,
    render::{Style, card, digest, digest_reply, green_notice, reply},
};

libfuzzer_sys::fuzz_target!(init: {
    // Backtraces of hostile texts only slow the search down.
}, |data: &[u8]| {
    let world = play(data);
    let Some(now) = world.now.filter(|_| !world.incidents.is_empty()) else { return };
    let style = Style::new(&Display::default(), &Links::default()).expect("UTC");
    let all: Vec<&Incident> = world.incidents.iter().collect();
    let notes: Vec<&Note> = world.notes.iter().collect();
    let mut messages = vec![green_notice(&style, &all, now)];
    for form in Form::ALL {
        for incident in &all {
            messages.push(card(&style, incident, Some(incident.opened_at), now, form));
            let own: Vec<&Note> = notes.iter().filter(|note| note.incident == incident.id).copied().collect();
            messages.push(reply(&style, incident, &own, Some(incident.opened_at), now, form));
        }
        for must_hold_all in [true, false] {
            messages.push(digest(&style, &all, None, now, form, must_hold_all).message);
        }
        messages.push(digest_reply(&style, &all, &notes, None, now, form));
    }
    for message in &messages {
        assert_sound(message);
        assert_fits_encrypted(message);
    }
});
