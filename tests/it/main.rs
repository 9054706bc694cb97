//! The one integration binary: the receiver as a process, against a real Synapse, Alertmanager and Prometheus.

#![expect(clippy::disallowed_methods, reason = "real servers run on real time")]
#![expect(clippy::float_cmp, reason = "metrics that count are whole numbers")]
#![expect(clippy::similar_names, reason = "a room has a root")]

mod act_cases;
mod acting_rooms;
mod acts;
mod alertmanager_api;
mod chaos;
mod clock_jumps;
mod commands;
mod dead_letters;
mod dendrite;
mod deploy_compose;
mod deploy_grafana;
mod deploy_kubernetes;
mod deploy_rules;
mod deploy_systemd;
mod docs;
mod encrypted;
mod escalation;
mod evidence;
mod grafana;
mod harness;
mod harness_selftest;
mod heartbeats;
mod hostile;
mod import;
mod in_doubt;
mod incidents;
mod know;
mod life;
mod limits;
mod logs;
mod memory;
mod observe;
mod postgres_selftest;
mod presentation;
mod proxy_selftest;
mod quiet;
mod reach;
mod readers;
mod release;
mod reload;
mod reminders;
mod render_command;
mod replicas;
mod rooms;
mod routing_edits;
mod serve;
mod shared_session;
mod spine;
mod status;
mod store_stress;
mod storm;
mod templates;
mod tls;
mod tokens;
mod twins;
mod webhook;
