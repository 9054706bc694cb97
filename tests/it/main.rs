//! The one integration binary: the receiver as a process, against a real Synapse, Alertmanager and Prometheus.

mod commands;
mod harness;
mod harness_selftest;
mod proxy_selftest;
mod serve;
mod spine;
mod webhook;
