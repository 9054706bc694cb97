//! Any bytes as answers of Alertmanager's API: read without a panic, twice the same, and nothing that was not asked for.

#![no_main]

use matrix_alertmanager_receiver_fuzz::alertmanager::parse;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let alerts = parse::groups(data, "matrix");
    assert_eq!(alerts, parse::groups(data, "matrix"), "read twice, the same");
    for alert in alerts.into_iter().flatten() {
        assert!(alert.receivers.iter().any(|name| name == "matrix"), "{alert:?}");
    }
    let _ = parse::alerts(data);
    for silence in parse::silences(data).into_iter().flatten() {
        assert!(!silence.id.is_empty(), "{silence:?}");
    }
    let _ = parse::status(data);
    assert!(parse::silence_id(data).is_none_or(|id| !id.trim().is_empty()));
    let _ = parse::message(data);
});
