//! The listening socket. A slow client holds up no other: headers, bodies, idle connections and unread answers have
//! time limits, and the number of connections is limited.

use std::{
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::extract::Request;
use axum_server::{Handle, Server, accept::Accept, service::SendService};
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockFilter, SockRef};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    admission::Admission,
    router::Routes,
    state::{Front, Side},
    tls::Tls,
};
use crate::pacing::LogLimit;

/// The headers of a request must arrive within this; it also closes idle connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The bytes of a connection that hyper buffers, which also limits the headers. A client that pipelines requests can
/// fill as much.
const READ_BUFFER: usize = 32 * 1024;
/// The kernel's buffer for an answer that the client does not read; the kernel doubles it.
const SEND_BUFFER: u32 = 32 * 1024;
/// The most bytes in one packet of an answer. Over loopback a packet can be as large as the buffer; then only one is on its
/// way at a time, and the client puts off confirming it for 40 ms. Other networks have smaller packets anyway.
const PACKET: u32 = 16 * 1024;
/// Connections that the kernel holds before they are accepted.
const BACKLOG: u32 = 1024;
/// A request that is sent just as its kept-alive connection closes gets no answer. So at a stop each answer announces
/// the end of its connection, and clients have this long for a last request.
const LAST_ANSWERS: Duration = Duration::from_millis(400);
/// How long the connections that the kernel holds at a stop may take to be accepted.
const LAST_ACCEPTED: Duration = Duration::from_secs(1);
/// How often the kernel is asked whether it still holds one.
const MOMENT: Duration = Duration::from_millis(2);
/// A packet filter (`BPF_RET | BPF_K`) that lets nothing through: each packet is cut to 0 bytes.
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);
/// Connections still busy this long after the stop are closed.
const DRAIN: Duration = Duration::from_secs(2);

/// A socket that is bound but not served yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: std::net::TcpListener,
    pub address: SocketAddr,
    tls: Option<Tls>,
}

/// Must be called within the runtime.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(listen: SocketAddr) -> std::io::Result<HttpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    SockRef::from(&socket).set_tcp_mss(PACKET)?;
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;
    Ok(HttpListener { listener, address, tls: None })
}

impl HttpListener {
    /// Serves HTTPS instead of HTTP.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Serves until `stop`, then lets requests in flight finish.
    ///
    /// # Errors
    /// When the socket cannot be served.
    pub async fn serve(
        self,
        front: Arc<Front>,
        side: Side,
        routes: Routes,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let listening = self.listener.try_clone()?;
        let server = axum_server::from_tcp(self.listener)?;
        let admission = Admission::new(Arc::clone(&front), side);
        match self.tls {
            None => run(server.acceptor(admission), listening, front, routes, stop).await,
            Some(tls) => run(server.acceptor(tls.acceptor(admission, &front)), listening, front, routes, stop).await,
        }
    }
}

async fn run<A>(
    server: Server<SocketAddr, A>,
    listening: std::net::TcpListener,
    front: Arc<Front>,
    routes: Routes,
    stop: CancellationToken,
) -> std::io::Result<()>
where
    A: Accept<TcpStream, axum::Router> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let handle = Handle::new();
    // Otherwise it would first detect the HTTP version, without a time limit.
    let mut server = server.handle(handle.clone()).http1_only().accept_error_handler(not_accepted(&front));
    let mut http = server.http_builder().http1();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(READ_BUFFER);
    let serving = server.serve(axum::Router::new().fallback_service(routes).into_make_service());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = async {
            stop.cancelled().await;
            refuse_clients(&listening).await;
            // Connections that are already accepted may not have been read yet.
            sleep(LAST_ANSWERS).await;
        } => handle.graceful_shutdown(Some(DRAIN)),
    }
    serving.await
}

/// Ends the listening socket. The kernel would reset the connections that it holds for us, perhaps after their clients
/// have sent a request: so first no more of them arrive, and those that are there are accepted.
async fn refuse_clients(listening: &std::net::TcpListener) {
    let socket = SockRef::from(listening);
    // Where the kernel takes no filter, connections that arrive in the last moment are reset as they ever were.
    let _ = socket.attach_filter(&[DROP_ALL]);
    let accepted = async {
        while let Ok(1..) = poll(&mut [PollFd::new(listening, PollFlags::IN)], Some(&Timespec::default())) {
            sleep(MOMENT).await;
        }
    };
    let _ = timeout(LAST_ACCEPTED, accepted).await;
    let _ = socket.shutdown(Shutdown::Both);
}

/// Logs why the kernel gives no connection, mostly because of too many open files; accepting is retried 20 times a
/// second.
fn not_accepted(front: &Arc<Front>) -> impl Fn(Option<&SocketAddr>, &std::io::Error) + Send + Sync + 'static {
    let (front, said) = (Arc::clone(front), LogLimit::default());
    move |client, error| {
        // With an address the connection was accepted, and its error is logged elsewhere.
        if client.is_none() && !front.health.is_stopping() && said.allows("", front.clock.now()) {
            tracing::warn!(%error, "accepting a connection failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn several_packets_of_an_answer_fit_into_the_kernels_buffer() {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let client = std::net::TcpStream::connect(listener.address).expect("a connection");
        let accept = async {
            loop {
                match listener.listener.accept() {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
                    accepted => return accepted.expect("a connection").0,
                }
            }
        };
        let socket = accept.await;
        let socket = SockRef::from(&socket);
        let (packet, buffer) = (socket.tcp_mss().expect("an option"), socket.send_buffer_size().expect("an option"));
        assert!(packet as usize * 4 <= buffer, "{packet} of {buffer}");
        drop(client);
    }
}
