use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::super::{
    comparison::{Compared, Threshold},
    picture::{
        number::one,
        time_axis::ticks,
        value_axis::{Place, ValueAxis},
    },
    unit::Unit,
};
use crate::model::Timestamp;

#[test]
fn numbers_have_three_digits_and_a_unit() {
    for (unit, value, expected) in [
        (Unit::Plain, 0.0, "0"),
        (Unit::Plain, -0.0, "0"),
        (Unit::Plain, 1.0, "1"),
        (Unit::Plain, -21.456, "−21.5"),
        (Unit::Plain, 9_990.0, "9990"),
        (Unit::Plain, 12_345.0, "12.3k"),
        (Unit::Plain, 999_999.0, "1M"),
        (Unit::Plain, 1.5e9, "1.5G"),
        (Unit::Plain, 2e30, "2e30"),
        (Unit::Plain, 0.05, "0.05"),
        (Unit::Plain, 0.000_032_9, "32.9µ"),
        (Unit::Plain, 1.5e-12, "1.5e−12"),
        (Unit::PerSecond, 4.46, "4.46/s"),
        (Unit::PerSecond, 45_000.0, "45k/s"),
        (Unit::PerSecond, 2e30, "2e30/s"),
        (Unit::Bytes, 512.0, "512 B"),
        (Unit::Bytes, 1536.0, "1.5 KiB"),
        (Unit::Bytes, -6e8, "−572 MiB"),
        (Unit::Bytes, 5.0 * 1024.0 * 1024.0 * 1024.0, "5 GiB"),
        (Unit::BytesPerSecond, 1.2e8, "114 MiB/s"),
        (Unit::Seconds, 0.25, "250 ms"),
        (Unit::Seconds, 0.000_25, "250 µs"),
        (Unit::Seconds, 1.06, "1.06 s"),
        (Unit::Seconds, 300.0, "5 min"),
        (Unit::Seconds, 43_200.0, "12 h"),
        (Unit::Seconds, 2_592_000.0, "30 d"),
        (Unit::Ratio, 0.9, "90%"),
        (Unit::Ratio, 0.005_92, "0.592%"),
        (Unit::Percent, 97.94, "97.9%"),
    ] {
        assert_eq!(one(unit, value), expected, "{unit:?} {value}");
    }
}

fn axis(least: f64, most: f64, line: Option<f64>, unit: Unit) -> (Vec<String>, Option<Place>) {
    let threshold = line.map(|value| Threshold { compared: Compared::Above, value });
    let axis = ValueAxis::new(least, most, threshold, unit);
    (axis.ticks.into_iter().map(|(_, label)| label).collect(), axis.threshold)
}

#[test]
fn ticks_are_round() {
    for (least, most, line, unit, expected, place) in [
        (0.0, 100.0, None, Unit::Plain, "0 50 100", None),
        (1.0, 1.0, None, Unit::Plain, "0 1 2", None),
        (0.0, 0.0, None, Unit::Plain, "0 1", None),
        (0.0, 1.0, Some(0.0), Unit::Plain, "0 1", Some(Place::Shown)),
        (0.42, 0.42, None, Unit::Ratio, "35% 40% 45% 50%", None),
        (20.0, 29.0, Some(1e4), Unit::Plain, "20 25", Some(Place::AboveAll)),
        (20.0, 29.0, Some(-1e4), Unit::Plain, "20 25", Some(Place::BelowAll)),
        (2e9, 4e9, None, Unit::Bytes, "2 GiB 2.5 GiB 3 GiB 3.5 GiB", None),
        (0.0, 0.004, None, Unit::Seconds, "0 1 ms 2 ms 3 ms 4 ms", None),
        (-3.0, 5.0, None, Unit::Plain, "−2 0 2 4", None),
        (5.0, 57.0, None, Unit::Ratio, "0 20 40 60", None),
        (1.795e9, 1.796e9, None, Unit::Seconds, "1.795G 1.7955G 1.796G", None),
    ] {
        let (ticks, found) = axis(least, most, line, unit);
        assert_eq!((ticks.join(" ").as_str(), found), (expected, place), "{least} to {most}");
    }
}

fn times(from: &str, minutes: i64, zone: &str, most: usize) -> String {
    let from = Timestamp(from.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let zone = TimeZone::get(zone).unwrap();
    let labels = ticks(from, from.moved(minutes * 60_000), &zone, most);
    labels.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(", ")
}

#[test]
fn times_are_round_in_their_zone() {
    for (from, minutes, zone, most, expected) in [
        ("2026-11-28T13:45:00Z", 60, "UTC", 6, "13:50, 14:00, 14:10, 14:20, 14:30, 14:40"),
        ("2026-11-28T13:45:00Z", 60, "UTC", 4, "13:45, 14:00, 14:15, 14:30, 14:45"),
        ("2026-11-28T13:45:00Z", 60, "Asia/Kolkata", 4, "19:15, 19:30, 19:45, 20:00, 20:15"),
        ("2026-11-28T14:45:00Z", 1440, "UTC", 6, "Sat 16:00, 20:00, Sun 00:00, 04:00, 08:00, 12:00"),
        // The night in which clocks are set back, and the one in which they are set forward.
        ("2026-10-24T20:00:00Z", 720, "Europe/Berlin", 6, "Sat 22:00, Sun 00:00, 02:00, 04:00, 06:00, 08:00"),
        (
            "2026-03-28T21:00:00Z",
            480,
            "Europe/Berlin",
            8,
            "Sat 22:00, 23:00, Sun 00:00, 01:00, 03:00, 04:00, 05:00, 06:00, 07:00",
        ),
        ("2026-11-01T00:00:00Z", 43_200, "UTC", 6, "1 Nov, 8 Nov, 15 Nov, 22 Nov, 29 Nov"),
        ("2026-11-28T13:45:20Z", 0, "UTC", 6, ""),
    ] {
        assert_eq!(times(from, minutes, zone, most), expected, "{from} {minutes}");
    }
}

proptest! {
    #[test]
    fn no_number_breaks_an_axis(least in any::<f64>(), range in 0.0..1e308_f64, line in any::<f64>()) {
        prop_assume!(least.is_finite() && line.is_finite());
        for unit in [Unit::Plain, Unit::Bytes, Unit::Seconds, Unit::Ratio] {
            let most = (least + range).min(f64::MAX);
            let threshold = Some(Threshold { compared: Compared::Above, value: line });
            let axis = ValueAxis::new(least, most, threshold, unit);
            prop_assert!(axis.low < axis.high && (axis.high - axis.low).is_finite());
            prop_assert!(axis.ticks.len() <= 12 && axis.ticks.iter().all(|(_, label)| label.chars().count() < 16));
            prop_assert!((0.0..=1.0).contains(&axis.share(least)));
            let _ = one(unit, line);
        }
    }
}
