//! Metrics whose help is long.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec};

use super::maker::Maker;

pub(super) fn evidence(maker: &Maker) -> IntCounterVec {
    let help = "Log lines and graphs for card threads, by what became of them.";
    maker.counters("evidence_total", help, &["route", "kind", "outcome"])
}

pub(super) fn possible_duplicates(maker: &Maker) -> IntCounter {
    let help = "Events sent again without knowing whether the first try had arrived.";
    maker.counter("possible_duplicates_total", help)
}

pub(super) fn last_sync(maker: &Maker) -> Gauge {
    maker.gauge("last_sync_timestamp_seconds", "Unix time in seconds of the last successful sync.")
}

pub(super) fn heartbeat_last(maker: &Maker) -> GaugeVec {
    let help = "Seconds since the last beat; of several switches of one name, that of the one that waits longest.";
    maker.float_gauges("heartbeat_last_seconds", help, &["route", "name"])
}

pub(super) fn heartbeat_pings(maker: &Maker) -> IntCounterVec {
    let help = "Requests to ping URLs that follow beats.";
    maker.counters("heartbeat_pings_total", help, &["route", "name", "outcome"])
}

pub(super) fn escalations(maker: &Maker) -> IntCounterVec {
    let help = "Incidents that nobody took within the time of a step of routes.X.escalate.";
    maker.counters("escalations_total", help, &["route"])
}
