//! Any bytes as webhooks: decoded and reconciled without a panic, and what must hold of incidents holds.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = matrix_alertmanager_receiver_fuzz::play(data);
});
