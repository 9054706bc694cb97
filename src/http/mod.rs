//! The HTTP side: webhooks in, probes and metrics out. Nothing here waits for the homeserver.

mod admission;
mod answer;
mod auth;
mod body_budget;
mod certificate;
mod connection;
mod control_socket;
mod health;
pub mod heartbeats;
mod misdirected;
mod pool;
mod probes;
mod router;
mod server;
mod service;
mod state;
mod status;
mod tls;
mod waiting;
mod webhook;

pub use self::{
    certificate::Pair,
    control_socket::{CONTROL_SOCKET, ControlSocket},
    health::delivers,
    router::Routes,
    server::{HttpListener, bind},
    state::{App, Front, Settings, Side},
    status::sample,
    tls::Tls,
};
