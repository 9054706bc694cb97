//! The one integration binary: the receiver as a process, against a real Synapse, Alertmanager and Prometheus.

mod grafana;
mod harness;
mod harness_selftest;
mod hostile;
mod incidents;
mod presentation;
mod proxy_selftest;
mod reminders;
mod render_command;
mod serve;
mod spine;
mod twins;
mod webhook;
