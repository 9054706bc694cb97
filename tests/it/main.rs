//! The one integration binary: the receiver as a process, against a real Synapse, Alertmanager and Prometheus.

#![expect(clippy::disallowed_methods, reason = "real servers run on real time")]
#![expect(clippy::float_cmp, reason = "metrics that count are whole numbers")]

mod harness;
mod harness_selftest;
mod in_doubt;
mod observe;
mod proxy_selftest;
mod serve;
mod spine;
mod webhook;
