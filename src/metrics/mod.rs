//! Every metric of the receiver. Label values come from the config or from closed sets, never from a payload.

mod maker;
mod parts;
mod single;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use prometheus::{
    Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
    core::Collector, process_collector::ProcessCollector, proto::MetricFamily,
};

use crate::model::{ActKind, EvidenceKind, NoKeys, OpKind, Outcome, RoomName, RouteName};

pub use self::parts::{ConnectionMetrics, OfAlertmanager, OfConfig, OfLeadership, TlsMetrics};
use self::{
    maker::{Maker, forget},
    single::{escalations, evidence, heartbeat_last, heartbeat_pings, last_sync, possible_duplicates},
};
/// The prefix of every name.
pub const PREFIX: &str = "matrix_alertmanager_receiver";

/// The kind of an event that is an answer to somebody, beside those of ops.
pub const ANSWER: &str = "answer";

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `{route, outcome}`
    pub notifications: IntCounterVec,
    /// `{route, status}`: alerts as the payloads list them.
    pub alerts: IntCounterVec,
    /// `{route}`: fields of alerts that could not be read as meant.
    pub odd_fields: IntCounterVec,
    pub connections: ConnectionMetrics,
    /// `{route}`: alerts of live incidents that are no longer remembered.
    pub alerts_forgotten: IntCounterVec,
    /// `{route}`
    pub escalations: IntCounterVec,
    /// `{handler, code}`
    pub http_requests: IntCounterVec,
    /// `{shape}`: accepted by a URL that only `[compat]` lets in.
    pub compat_notifications: IntCounterVec,
    /// `{room, kind, outcome}`
    pub room_events: IntCounterVec,
    /// Seconds from the accepted notification to the acknowledged event.
    pub delivery_seconds: Histogram,
    /// `{state}`
    pub outbox_ops: IntGaugeVec,
    pub outbox_oldest_seconds: Gauge,
    pub rate_limited: IntCounter,
    /// `{route, act, outcome}`
    pub acts: IntCounterVec,
    /// `{route, kind, outcome}`
    pub evidence: IntCounterVec,
    /// `{route, name}`
    pub heartbeat_last: GaugeVec,
    /// `{route, name, outcome}`
    pub heartbeat_pings: IntCounterVec,
    /// `{route}`
    pub incidents_open: IntGaugeVec,
    pub homeserver_up: IntGauge,
    pub last_sync: Gauge,
    /// Seconds one group commit took.
    pub store_commit_seconds: Histogram,
    /// Commands that shared a transaction, summed; by `store_commit_seconds_count` it gives the mean.
    pub store_commit_commands: IntCounter,
    pub lane_panics: IntCounter,
    /// `{room, reason}`: 1 while an encrypted room cannot be written to.
    pub rooms_without_keys: IntGaugeVec,
    /// 1 while the device is signed by the account's identity.
    pub device_signed: IntGauge,
    /// `{reason}`
    pub dead_letters: IntCounterVec,
    pub possible_duplicates: IntCounter,
    /// `{link, reason}`
    pub broken_links: IntCounterVec,
    /// `{template, reason}`
    pub render_fallbacks: IntCounterVec,
    pub tls: TlsMetrics,
    pub config: OfConfig,
    pub leadership: OfLeadership,
    pub alertmanager: OfAlertmanager,
}

/// Counts since the start; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Notifications.
    pub accepted: f64,
    /// Room events.
    pub delivered: f64,
    /// What all of these took together.
    pub seconds: f64,
}

/// The custom templates, and why they may fail.
const TEMPLATES: [&str; 6] = ["card_html", "card_text", "digest_html", "digest_text", "reply_html", "reply_text"];
const FALLBACK_REASONS: [&str; 4] = ["error", "too_slow", "too_large", "empty"];
const HANDSHAKE_FAILURES: [&str; 5] = ["timeout", "closed", "not_tls", "not_trusted", "other"];
const HANDLERS: [&str; 7] = ["alerts", "status", "livez", "readyz", "healthz", "healthz_delivery", "metrics"];

impl Metrics {
    /// All metrics at zero.
    ///
    /// # Panics
    /// When two metrics have one name, which the first test to run shows.
    #[must_use]
    pub fn new(routes: &[RouteName], rooms: &[RoomName], version: &str, commit: &str) -> Self {
        let maker = Maker { registry: Registry::new() };
        // The conventional process_* metrics (memory, CPU, file descriptors, start time).
        maker.registry.register(Box::new(ProcessCollector::for_self())).expect("a metric of its own name");
        let build_info = maker.gauges("build_info", "1, with the version as labels.", &["version", "commit"]);
        build_info.with_label_values(&[version, commit]).set(1);
        let metrics = Self::all(&maker);
        metrics.start_at_zero(routes, rooms);
        metrics
    }

    fn all(maker: &Maker) -> Self {
        Self {
            notifications: maker.counters(
                "notifications_total",
                "Webhooks that were accepted, by what they changed.",
                &["route", "outcome"],
            ),
            alerts: maker.counters("alerts_total", "Alerts listed in accepted webhooks.", &["route", "status"]),
            odd_fields: maker.counters(
                "odd_fields_total",
                "Fields of alerts in accepted webhooks that could not be read as meant and were shown as far as readable.",
                &["route"],
            ),
            connections: ConnectionMetrics::new(maker),
            alerts_forgotten: maker.counters(
                "alerts_forgotten_total",
                "Alerts of live incidents that are no longer remembered because the incident had too many.",
                &["route"],
            ),
            acts: maker.counters("acts_total", "What people asked for in rooms.", &["route", "act", "outcome"]),
            evidence: evidence(maker),
            heartbeat_last: heartbeat_last(maker),
            heartbeat_pings: heartbeat_pings(maker),
            escalations: escalations(maker),
            http_requests: maker.counters("http_requests_total", "HTTP requests answered.", &["handler", "code"]),
            compat_notifications: maker.counters("compat_notifications_total", "Webhooks by an old URL.", &["shape"]),
            room_events: maker.counters(
                "room_events_total",
                "Sends of events to rooms, by what became of each try.",
                &["room", "kind", "outcome"],
            ),
            delivery_seconds: maker.histogram(
                "delivery_seconds",
                "Seconds from the oldest accepted change that an event shows to its acknowledgement by the homeserver.",
                &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0],
            ),
            outbox_ops: maker.gauges(
                "outbox_ops",
                "Cards whose room is behind (waiting) and frozen events that are not acknowledged, by state.",
                &["state"],
            ),
            outbox_oldest_seconds: maker.gauge(
                "outbox_oldest_seconds",
                "Age in seconds of the oldest accepted change that a room does not show yet.",
            ),
            rate_limited: maker.counter("rate_limited_total", "Answers with status 429 from the homeserver."),
            incidents_open: maker.gauges("incidents_open", "Incidents that are not over.", &["route"]),
            homeserver_up: maker.int_gauge(
                "homeserver_up",
                "1 while the homeserver answers and takes the access token, else 0.",
            ),
            last_sync: last_sync(maker),
            store_commit_seconds: maker.histogram(
                "store_commit_seconds",
                "Seconds that a commit of the store took, which several commands may share.",
                &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0],
            ),
            store_commit_commands: maker.counter("store_commit_commands_total", "Commands that the store committed."),
            rooms_without_keys: maker.gauges(
                "rooms_without_keys",
                "1 while a room is encrypted and nothing can be encrypted for it, by reason.",
                &["room", "reason"],
            ),
            device_signed: maker.int_gauge(
                "device_signed",
                "1 while the device is signed by the account's identity, so that clients show no warning; 0 also while no \
                 room is encrypted.",
            ),
            dead_letters: maker.counters(
                "dead_letters_total",
                "Events that the homeserver refused in every form, by the last refusal.",
                &["reason"],
            ),
            possible_duplicates: possible_duplicates(maker),
            render_fallbacks: maker.counters(
                "render_fallbacks_total",
                "Messages for which a built-in template took the place of one of the operator's own, which failed.",
                &["template", "reason"],
            ),
            broken_links: maker.counters(
                "broken_links_total",
                "Links that a card or an edit of it left out because no working link could be made of them.",
                &["link", "reason"],
            ),
            tls: TlsMetrics::new(maker),
            config: OfConfig::new(maker),
            leadership: OfLeadership::new(maker),
            alertmanager: OfAlertmanager::new(maker),
            lane_panics: maker.counter("lane_panics_total", "Panics caught in the task that serves a room."),
            registry: maker.registry.clone(),
        }
    }

    /// Sets how long each heartbeat has been silent, by route and name; no others are left.
    pub fn heartbeats_last(&self, silent: &BTreeMap<(&str, &str), Duration>) {
        for family in self.heartbeat_last.collect() {
            for metric in family.get_metric() {
                let labels: HashMap<&str, &str> =
                    metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
                let of = |label| labels.get(label).copied().unwrap_or_default();
                if !silent.contains_key(&(of("route"), of("name"))) {
                    let _ = self.heartbeat_last.remove(&labels);
                }
            }
        }
        for ((route, name), silent) in silent {
            self.heartbeat_last.with_label_values(&[*route, *name]).set(silent.as_secs_f64());
        }
    }

    /// Serves these routes and rooms from now on. Metrics of others are removed; those of new ones start at zero.
    pub fn serve(&self, routes: &[RouteName], rooms: &[RoomName]) {
        let is_route = |name: &str| routes.iter().any(|route| route.as_str() == name);
        let unrouted = RoomName::unrouted();
        let is_room = |name: &str| rooms.iter().chain([&unrouted]).any(|room| room.as_str() == name);
        let of_routes = [
            &self.notifications,
            &self.alerts,
            &self.odd_fields,
            &self.alerts_forgotten,
            &self.acts,
            &self.escalations,
            &self.evidence,
        ];
        for counters in of_routes {
            forget(counters, "route", is_route);
        }
        forget(&self.incidents_open, "route", is_route);
        forget(&self.heartbeat_pings, "route", is_route);
        forget(&self.room_events, "room", is_room);
        forget(&self.rooms_without_keys, "room", is_room);
        self.start_at_zero(routes, rooms);
    }

    /// A counter that appears only with its first event cannot be alerted on; all that can be known is there from the
    /// start.
    fn start_at_zero(&self, routes: &[RouteName], rooms: &[RoomName]) {
        for route in routes {
            for outcome in Outcome::ALL {
                self.notifications.with_label_values(&[route.as_str(), outcome.as_str()]);
            }
            for status in ["firing", "resolved"] {
                self.alerts.with_label_values(&[route.as_str(), status]);
            }
            for act in ActKind::ALL {
                for outcome in ["done", "refused", "denied", "failed"] {
                    self.acts.with_label_values(&[route.as_str(), act.as_str(), outcome]);
                }
            }
            for kind in EvidenceKind::ALL {
                for outcome in ["sent", "failed", "timeout"] {
                    self.evidence.with_label_values(&[route.as_str(), kind.as_str(), outcome]);
                }
            }
            self.odd_fields.with_label_values(&[route.as_str()]);
            self.alerts_forgotten.with_label_values(&[route.as_str()]);
            self.escalations.with_label_values(&[route.as_str()]);
            self.incidents_open.with_label_values(&[route.as_str()]);
        }
        for room in rooms {
            for reason in NoKeys::ALL {
                self.rooms_without_keys.with_label_values(&[room.as_str(), reason.as_str()]);
            }
            for kind in OpKind::ALL {
                for outcome in ["sent", "failed", "refused", "parked", "adopted"] {
                    self.room_events.with_label_values(&[room.as_str(), kind.as_str(), outcome]);
                }
            }
            for outcome in ["sent", "failed", "refused", "adopted"] {
                self.room_events.with_label_values(&[room.as_str(), ANSWER, outcome]);
            }
            self.room_events.with_label_values(&[room.as_str(), OpKind::Card.as_str(), "lost"]);
        }
        for state in ["waiting", "in_flight", "in_doubt", "parked", "dead"] {
            self.outbox_ops.with_label_values(&[state]);
        }
        for reason in ["too_large", "bad_event", "server_error"] {
            self.dead_letters.with_label_values(&[reason]);
        }
        for template in TEMPLATES {
            for reason in FALLBACK_REASONS {
                self.render_fallbacks.with_label_values(&[template, reason]);
            }
        }
        for reason in ["not_a_url", "too_long", "not_json", "wrong_shape"] {
            self.broken_links.with_label_values(&["logs", reason]);
        }
        for link in ["runbook", "dashboard", "panel"] {
            for reason in ["not_a_url", "several"] {
                self.broken_links.with_label_values(&[link, reason]);
            }
        }
        for reason in ["not_a_url", "too_long", "template_failed"] {
            self.broken_links.with_label_values(&["extra", reason]);
        }
        for reason in HANDSHAKE_FAILURES {
            self.tls.handshakes_failed.with_label_values(&[reason]);
        }
        for shape in ["room_path", "name", "query_secret"] {
            self.compat_notifications.with_label_values(&[shape]);
        }
        for handler in HANDLERS {
            self.http_requests.with_label_values(&[handler, "200"]);
        }
        for reason in ["displaced", "unread"] {
            self.connections.closed.with_label_values(&[reason]);
        }
        for code in ["400", "401", "404", "405", "413", "503"] {
            self.http_requests.with_label_values(&["alerts", code]);
        }
    }

    /// The counts since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let accepted = self.notifications.collect();
        let accepted = accepted.iter().flat_map(MetricFamily::get_metric);
        Totals {
            accepted: accepted.map(|metric| metric.get_counter().get_value()).sum(),
            delivered: self.delivery_seconds.get_sample_count() as f64,
            seconds: self.delivery_seconds.get_sample_sum(),
        }
    }

    /// The text exposition format, version 0.0.4.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_named_is_no_longer_counted() {
        let routes = ["default", "ops"].map(|name| RouteName::parse(name).expect("a name"));
        let rooms = ["default/1", "ops/1"].map(|name| RoomName(name.to_owned()));
        let metrics = Metrics::new(&routes, &rooms, "v", "c");
        metrics.notifications.with_label_values(&["default", "opened"]).inc();
        metrics.room_events.with_label_values(&["unrouted", "edit", "sent"]).inc();
        metrics.serve(&routes[..1], &rooms[..1]);
        let text = metrics.encode().expect("text");
        assert!(!text.contains("\"ops\"") && !text.contains("ops/1"), "{text}");
        assert!(text.contains("notifications_total{outcome=\"opened\",route=\"default\"} 1"), "{text}");
        assert!(text.contains("room=\"unrouted\""), "{text}");
        metrics.serve(&routes, &rooms);
        let text = metrics.encode().expect("text");
        for metric in ["incidents_open{route=\"ops\"} 0", "rooms_without_keys{reason=\"no_device\",room=\"ops/1\"} 0"] {
            assert!(text.contains(metric), "{metric}\n{text}");
        }
    }
}
