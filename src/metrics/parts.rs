//! Metrics of parts of the receiver.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::maker::{Maker, forget};
use crate::model::{RouteName, Timestamp};

const ALERTMANAGER_CALLS: [&str; 6] = ["groups", "alerts", "silences", "status", "post_silence", "delete_silence"];
const ALERTMANAGER_OUTCOMES: [&str; 6] = ["ok", "not_sent", "in_doubt", "refused", "unauthorized", "not_found"];

/// What came of asking Alertmanager's API.
#[derive(Debug)]
pub struct OfAlertmanager {
    /// `{route}`: 1 while a peer of the route's Alertmanager answers; no sample before it was asked.
    pub up: IntGaugeVec,
    /// `{route, call, outcome}`
    pub requests: IntCounterVec,
}

impl OfAlertmanager {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            up: maker.gauges(
                "alertmanager_up",
                "1 while the API of the route's Alertmanager answers, or that of one of its peers, else 0; absent without \
                 an Alertmanager, and until it is asked.",
                &["route"],
            ),
            requests: maker.counters(
                "alertmanager_requests_total",
                "Requests to Alertmanager's API, each peer counted for itself.",
                &["route", "call", "outcome"],
            ),
        }
    }

    /// These routes have an Alertmanager from now on.
    pub fn serve(&self, routes: &[RouteName]) {
        let is_route = |name: &str| routes.iter().any(|route| route.as_str() == name);
        forget(&self.up, "route", is_route);
        forget(&self.requests, "route", is_route);
        for route in routes {
            for call in ALERTMANAGER_CALLS {
                for outcome in ALERTMANAGER_OUTCOMES {
                    self.requests.with_label_values(&[route.as_str(), call, outcome]);
                }
            }
        }
    }
}

#[derive(Debug)]
pub struct ConnectionMetrics {
    /// Closed unanswered because as many as are served at once were open.
    pub refused: IntCounter,
    /// `{reason}`: ended by the receiver although their clients had not.
    pub closed: IntCounterVec,
}

impl ConnectionMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            refused: maker.counter(
                "http_connections_refused_total",
                "Connections closed unanswered because as many as are served at once were open.",
            ),
            closed: maker.counters(
                "http_connections_closed_total",
                "Connections ended because their place, or the memory of an unread answer, was needed and they waited longest \
                 for their clients (displaced), or \
                 because an answer was not read in time (unread).",
                &["reason"],
            ),
        }
    }
}

#[derive(Debug)]
pub struct TlsMetrics {
    /// No sample without `http.tls`: a certificate that ends at 0 would set off whatever watches it.
    pub(super) not_after: IntGaugeVec,
    /// As above.
    pub(super) reloaded: IntGaugeVec,
    /// `{reason}`
    pub handshakes_failed: IntCounterVec,
}

impl TlsMetrics {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            not_after: maker.gauges(
                "tls_certificate_not_after_timestamp_seconds",
                "Unix time in seconds at which the certificate in use ends; absent without http.tls.",
                &[],
            ),
            reloaded: maker.gauges(
                "tls_certificate_last_reload_successful",
                "1 while the certificate in use is the one in the files, 0 while that is refused; absent without http.tls.",
                &[],
            ),
            handshakes_failed: maker.counters(
                "tls_handshakes_failed_total",
                "Connections that ended before TLS was agreed on.",
                &["reason"],
            ),
        }
    }

    /// The certificate in use, and whether it is the one in the files.
    pub fn certificate(&self, not_after: Timestamp, reloaded: bool) {
        self.not_after.with_label_values::<&str>(&[]).set(not_after.0 / 1000);
        self.reloaded.with_label_values::<&str>(&[]).set(i64::from(reloaded));
    }
}

/// What came of reading the config.
#[derive(Debug)]
pub struct OfConfig {
    /// 1 while the config that was read last is in force.
    pub last_reload_successful: IntGauge,
    /// Unix time in seconds.
    pub last_reload_success: Gauge,
    /// 1 while something of the config waits for a restart.
    pub restart_required: IntGauge,
}

impl OfConfig {
    pub(super) fn new(maker: &Maker) -> Self {
        Self {
            last_reload_successful: maker.int_gauge(
                "config_last_reload_successful",
                "1 if the config that was read last is good and in force, 0 if it was refused and the one before goes on.",
            ),
            last_reload_success: maker.gauge(
                "config_last_reload_success_timestamp_seconds",
                "Unix time in seconds when a config was last read and put in force.",
            ),
            restart_required: maker.int_gauge(
                "config_restart_required",
                "1 while the config says something that only a restart puts in force.",
            ),
        }
    }
}

/// Who leads, where several replicas share a store.
#[derive(Debug)]
pub struct OfLeadership {
    /// `{replica}`; always 1 where no other replica shares the store.
    leader: IntGaugeVec,
    /// Changes that this process saw.
    pub changes: IntCounter,
}

impl OfLeadership {
    pub(super) fn new(maker: &Maker) -> Self {
        let leader = "1 while this replica leads, so that it alone posts into rooms, else 0; always 1 without \
                      store.database_url.";
        let changes = "Changes of the leading replica that this one saw.";
        Self {
            leader: maker.gauges("leader", leader, &["replica"]),
            changes: maker.counter("leader_changes_total", changes),
        }
    }

    /// Whether the replica of this process leads.
    pub fn leads(&self, replica: &str, leads: bool) {
        self.leader.with_label_values(&[replica]).set(i64::from(leads));
    }
}
