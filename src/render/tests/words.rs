//! Text, times and durations.

use std::time::Duration;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::samples::at;
use crate::{
    model::Timestamp,
    render::{
        text,
        time::{TimeFormat, words},
    },
};

#[test]
fn durations() {
    let cases = [
        (0, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (14 * 60 + 59, "14 min"),
        (3600, "1 h"),
        (3 * 3600 + 5 * 60, "3 h 5 min"),
        (24 * 3600, "1 d"),
        (2 * 86400 + 4 * 3600 + 59 * 60, "2 d 4 h"),
    ];
    for (seconds, wanted) in cases {
        assert_eq!(words(Duration::from_secs(seconds)), wanted);
    }
    assert_eq!(words(at(12, 0).since(at(12, 1))), "0 s", "never negative");
}

#[test]
fn a_day_is_told_unless_it_is_that_of_the_card() {
    let day = |days: i64| Timestamp(at(12, 3).0 + days * 86_400_000);
    let utc = TimeZone::UTC;
    let times = TimeFormat::new(&utc, at(0, 0));
    assert_eq!(times.with_zone(at(12, 3)), "12:03 UTC");
    assert_eq!(times.with_zone(day(-1)), "21 Nov 12:03 UTC");
    assert_eq!(times.with_zone(day(-400)), "18 Oct 2025 12:03 UTC");
    assert_eq!(times.range(at(12, 3), at(12, 25)), "12:03–12:25 UTC");
    assert_eq!(times.range(day(-1), at(12, 25)), "21 Nov 12:03 – 12:25 UTC");
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    // The clocks went back at 01:00 UTC on 25 October 2026.
    let night = Timestamp(at(0, 30).0 - 28 * 86_400_000);
    let times = TimeFormat::new(&berlin, night);
    assert_eq!(times.range(night, night.plus(Duration::from_hours(1))), "02:30 CEST – 02:30 CET");
    for odd in [i64::MIN, i64::MAX, 0] {
        assert!(!times.with_zone(Timestamp(odd)).is_empty());
    }
}

#[test]
fn cuts_fall_between_words() {
    assert_eq!(text::cut("short", 5), "short");
    assert_eq!(text::cut("one two three four", 14), "one two…");
    assert_eq!(text::cut("one two, three four", 12), "one two…");
    assert_eq!(text::cut("onetwothreefour", 8), "onetwo…");
    assert_eq!(text::cut("a verylongwordthatgoeson", 12), "a verylong…");
    assert_eq!(text::cut("abcde\u{301}fgh", 7), "abcd…", "an accent stays with its letter");
}

#[test]
fn a_value_is_named_as_a_whole() {
    assert!(text::names("Pod media/jellyfin-0 is crash looping", "jellyfin-0"));
    assert!(text::names("Node N1: down", "n1"));
    assert!(!text::names("node n10 down", "n1"));
    assert!(!text::names("pod web-1-x", "web-1"));
}

#[test]
fn what_adds_nothing() {
    assert!(!text::adds("KubeAPI is down.", "kubeapi is down"));
    assert!(!text::adds("is down", "KubeAPI is down."));
    assert!(!text::adds("", "x"));
    assert!(text::adds("KubeAPI is down for 5 min", "KubeAPI is down"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cut_is_too_long(raw in ".{0,60}", max in 3_usize..50) {
        let clean = text::clean(&raw);
        prop_assert_eq!(&text::clean(&clean), &clean);
        prop_assert!(text::cut(&clean, max).chars().count() <= max);
        prop_assert!(text::show(&clean, max).chars().count() <= max + 2);
    }
}
