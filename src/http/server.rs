//! The listening socket. A slow client holds up nobody: headers, bodies, idle connections and answers that are not read
//! all have a time limit, and connections have a limit to their number.

use std::{
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::extract::Request;
use axum_server::{Handle, Server, accept::Accept, service::SendService};
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    admission::Admission,
    router::router,
    state::{App, Side},
    tls::Tls,
};
use crate::pacing::LogLimit;

/// The headers of a request must arrive within this; it also ends connections that are kept open and not used.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a connection that hyper keeps unparsed, thus also the most that headers may take. A flood of requests that
/// are sent ahead costs as much for each connection.
const READ_BUFFER: usize = 32 * 1024;
/// Bytes of an answer that the kernel keeps for a client that does not read; it takes twice as much.
const SEND_BUFFER: u32 = 32 * 1024;
/// Connections that the kernel has ready before they are accepted.
const BACKLOG: u32 = 1024;
/// A client that asks on a kept connection just as it is closed gets no answer. So each answer at a stop says that its
/// connection is over, and this is how long clients have to ask once more.
const LAST_ANSWERS: Duration = Duration::from_millis(400);
/// Connections still busy this long after the stop are closed.
const DRAIN: Duration = Duration::from_secs(2);

/// A socket that listens but is not served yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: std::net::TcpListener,
    pub address: SocketAddr,
    tls: Option<Tls>,
}

/// To be called within the runtime.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(listen: SocketAddr) -> std::io::Result<HttpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // What it accepts has the same.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;
    Ok(HttpListener { listener, address, tls: None })
}

impl HttpListener {
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
        let listening = self.listener.try_clone()?;
        let server = axum_server::from_tcp(self.listener)?;
        let admission = Admission::new(Arc::clone(&app), side);
        match self.tls {
            None => run(server.acceptor(admission), listening, app, side, stop).await,
            Some(tls) => run(server.acceptor(tls.acceptor(admission, &app)), listening, app, side, stop).await,
        }
    }
}

async fn run<A>(
    server: Server<SocketAddr, A>,
    listening: std::net::TcpListener,
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
    let mut server = server.handle(handle.clone()).http1_only().accept_error_handler(not_accepted(&app));
    let mut http = server.http_builder().http1();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(READ_BUFFER);
    let serving = server.serve(router(app, side).into_make_service());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = async {
            stop.cancelled().await;
            // Who comes now is refused; who has come already has not always been read from yet.
            let _ = socket2::SockRef::from(&listening).shutdown(Shutdown::Both);
            sleep(LAST_ANSWERS).await;
        } => handle.graceful_shutdown(Some(DRAIN)),
    }
    serving.await
}

/// Says why the kernel gives no connection, mostly for want of open files; it is asked again 20 times a second.
fn not_accepted(app: &Arc<App>) -> impl Fn(Option<&SocketAddr>, &std::io::Error) + Send + Sync + 'static {
    let (app, said) = (Arc::clone(app), LogLimit::default());
    move |client, error| {
        // With an address it was accepted, and is logged elsewhere.
        if client.is_none() && !app.health.is_stopping() && said.allows("", app.clock.now()) {
            tracing::warn!(%error, "accepting a connection failed");
        }
    }
}
