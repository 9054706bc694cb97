//! Limits how many connections are served at once. A client that is slow to send its request or to read the answer
//! holds up no other.

use std::{future::Future, io, pin::Pin, sync::Arc};

use axum_server::accept::Accept;
use tokio::net::TcpStream;

use super::{
    connection::Stream,
    pool::{Permit, Pool},
    service::ConnectionService,
    state::{Front, Side},
};
use crate::pacing::LogLimit;

/// Connections for any request. Together with the reserved and the queued ones they stay well below 1,024, the usual
/// limit of open files.
const CONNECTIONS: usize = 448;
/// Further connections, for webhooks and `/livez` only.
const RESERVED: usize = 64;
/// Connections of the admin listener: a few people with browsers, and no webhooks.
const ADMIN_CONNECTIONS: usize = 32;
/// Connections that wait for a slot; one more is closed at once.
const WAITING: usize = 128;
/// Gives each connection a slot. Where none is free, it closes the connection that has waited longest for its client;
/// while handlers work on all of them, new ones get a reserved slot, then queue.
#[derive(Clone)]
pub struct Admission {
    front: Arc<Front>,
    pool: Arc<Pool>,
    displaced: Arc<LogLimit>,
}

impl Admission {
    pub fn new(front: Arc<Front>, side: Side) -> Self {
        let pool = match side {
            Side::Main { .. } => Pool::new(CONNECTIONS, RESERVED, WAITING),
            Side::Admin => Pool::new(ADMIN_CONNECTIONS, 0, ADMIN_CONNECTIONS),
        };
        Self { front, pool: Arc::new(pool), displaced: Arc::default() }
    }

    async fn admit(&self) -> io::Result<Permit> {
        let Ok(permit) = self.pool.permit().await else {
            self.front.metrics.connections.refused.inc();
            if self.front.log_limits.connections.allows("", self.front.clock.now()) {
                tracing::warn!(connections = self.pool.size, "all connection slots busy; rejecting connections");
            }
            return Err(io::Error::other("too many connections"));
        };
        if permit.displaced && self.displaced.allows("", self.front.clock.now()) {
            tracing::warn!(connections = self.pool.size, "all connection slots taken; closing idle connections");
        }
        Ok(permit)
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Admission {
    type Stream = Stream<TcpStream>;
    type Service = ConnectionService<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admission = self.clone();
        Box::pin(async move {
            let permit = admission.admit().await?;
            let (connection, place) = admission.pool.open(permit, Arc::clone(&admission.front.metrics));
            let stream = Stream::new(stream, Arc::clone(&connection));
            Ok((stream, ConnectionService::new(service, admission.front, connection, place)))
        })
    }
}
