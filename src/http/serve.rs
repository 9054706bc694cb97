//! The listening socket. A slow client holds up nobody: headers, bodies and idle connections all have a time limit, and
//! connections have a limit to their number.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::extract::Request;
use axum_server::{Handle, Server, accept::Accept, service::SendService};
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{App, places::Door, router, tls::Tls};

/// The headers of a request must arrive within this; it also ends connections that are kept open and not used.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections still busy this long after the stop are closed.
const DRAIN: Duration = Duration::from_secs(2);

/// A socket that listens but is not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
    pub address: SocketAddr,
    tls: Option<Tls>,
}

/// # Errors
/// When the address cannot be bound.
pub fn bind(listen: SocketAddr) -> std::io::Result<Bound> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address, tls: None })
}

/// What is served on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Webhooks, health and metrics; the status page as well, unless it `has_admin` to have it.
    Main { address: SocketAddr, has_admin: bool },
    /// All but webhooks, for who knows user name and password.
    Admin,
}

impl Bound {
    /// HTTPS in place of HTTP.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Serves until `stop`, then lets requests under way finish.
    ///
    /// # Errors
    /// When the socket cannot be served.
    pub async fn serve(self, app: Arc<App>, side: Side, stop: CancellationToken) -> std::io::Result<()> {
        let server = axum_server::from_tcp(self.listener)?;
        let door = Door::new(Arc::clone(&app), side);
        match self.tls {
            None => run(server.acceptor(door), app, side, stop).await,
            Some(tls) => run(server.acceptor(tls.acceptor(door, &app)), app, side, stop).await,
        }
    }
}

async fn run<A>(
    server: Server<SocketAddr, A>,
    app: Arc<App>,
    side: Side,
    stop: CancellationToken,
) -> std::io::Result<()>
where
    A: Accept<TcpStream, axum::Router> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let handle = Handle::new();
    // Without this it would first find out the version, and wait for that without a limit.
    let mut server = server.handle(handle.clone()).http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let serving = server.serve(router(app, side).into_make_service());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = stop.cancelled() => handle.graceful_shutdown(Some(DRAIN)),
    }
    serving.await
}
