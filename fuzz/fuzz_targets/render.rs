//! Any bytes as webhooks, and every message that may come of them: in bounds, well formed, without foreign markup.

#![no_main]

use matrix_alertmanager_receiver_fuzz::{
    check::{assert_fits_encrypted, assert_sound},
    config::{Display, Links},
    model::{CardKind, Form, Incident, Note},
    play,
    render::{MessageKind, Request, Style, render},
};

libfuzzer_sys::fuzz_target!(init: {
    // Backtraces of hostile texts only slow the search down.
}, |data: &[u8]| {
    let world = play(data);
    let Some(now) = world.now.filter(|_| !world.incidents.is_empty()) else { return };
    let style = Style::new(&Display::default(), &Links::default()).expect("UTC");
    let all: Vec<&Incident> = world.incidents.iter().collect();
    let notes: Vec<&Note> = world.notes.iter().collect();
    let check = |request: &Request<'_>| {
        let message = render(&style, request).message;
        assert_sound(&message);
        assert_fits_encrypted(&message);
    };
    let digest = |kind, form| Request {
        kind,
        card: CardKind::Digest,
        incidents: &all,
        notes: &notes,
        root_at: None,
        now,
        form,
    };
    check(&digest(MessageKind::GreenNotice, Form::Full));
    for form in Form::ALL {
        for incident in &all {
            let own: Vec<&Note> = notes.iter().filter(|note| note.incident == incident.id).copied().collect();
            for kind in [MessageKind::Card { must_hold_all: true }, MessageKind::Reply] {
                check(&Request {
                    kind,
                    card: CardKind::Incident,
                    incidents: &[incident],
                    notes: &own,
                    root_at: Some(incident.opened_at),
                    now,
                    form,
                });
            }
        }
        for must_hold_all in [true, false] {
            check(&digest(MessageKind::Card { must_hold_all }, form));
        }
        check(&digest(MessageKind::Reply, form));
    }
});
