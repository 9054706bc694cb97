//! Any text as a message in a room, or as the key of a reaction: what is read of it is bounded and on one line.

#![no_main]

use matrix_alertmanager_receiver_fuzz::acts::{
    command::{MAX_TEXT, parse},
    reaction,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = reaction::parse(&text);
    for (prefix, in_digest) in [("!", false), ("!", true), ("mar", false), ("\u{1F514}", true)] {
        for body in [text.to_string(), format!("{prefix}{text}"), format!("{prefix}silence {text}")] {
            let Some(command) = parse(&body, prefix, in_digest) else { continue };
            assert_eq!(parse(&body, prefix, in_digest).as_ref(), Some(&command), "read twice, the same");
            for part in [Some(&command.text), command.alertname.as_ref()].into_iter().flatten() {
                assert!(part.chars().count() <= MAX_TEXT + 1 && !part.contains(char::is_control), "{part:?}");
            }
            assert!(command.duration.is_none_or(|duration| !duration.is_zero()));
        }
    }
});
