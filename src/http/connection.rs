//! One connection: what it waits for, and how long its client may leave an answer unread.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::metrics::Metrics;

/// The kernel must have accepted the whole answer within this, however slowly its client reads.
const UNREAD: Duration = Duration::from_secs(30);
/// A connection of this age ends after its next answer.
const AGE: Duration = Duration::from_mins(15);
/// A connection ends after this many requests.
const REQUESTS: u32 = 1_000;
/// A connection that has posted a webhook is displaced as if it had waited this much less.
const HEAD_START: Duration = Duration::from_secs(10);

/// The state that a connection's stream, its service and the pool share.
#[derive(Debug)]
pub struct Connection {
    reserved: bool,
    opened: Instant,
    requests: AtomicU32,
    state: Mutex<State>,
    displaced: CancellationToken,
    /// Notified when the connection starts to wait for its client.
    idle: Arc<Notify>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    posted: bool,
    unread: Unread,
}

/// Bytes of a connection's answers that its client has not read, which count towards those of all connections.
#[derive(Debug)]
struct Unread {
    own: usize,
    all: Arc<AtomicUsize>,
}

impl Unread {
    fn set(&mut self, bytes: usize) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_sub(std::mem::replace(&mut self.own, bytes), Ordering::Relaxed);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head or the body of a request has not arrived, or an answer is not read.
    WaitsForClient { since: Instant },
    /// A handler works on a request.
    Busy,
    /// Its slot goes to another connection.
    Displaced,
}

impl Connection {
    pub fn new(reserved: bool, idle: Arc<Notify>, unread: Arc<AtomicUsize>, metrics: Arc<Metrics>) -> Self {
        let opened = Instant::now();
        Self {
            reserved,
            opened,
            requests: AtomicU32::new(0),
            state: Mutex::new(State {
                phase: Phase::WaitsForClient { since: opened },
                posted: false,
                unread: Unread { own: 0, all: unread },
            }),
            displaced: CancellationToken::new(),
            idle,
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_reserved(&self) -> bool {
        self.reserved
    }

    #[cfg(test)]
    pub fn is_displaced(&self) -> bool {
        self.displaced.is_cancelled()
    }

    /// How long it has waited for its client; `None` while a handler works. One that has posted a webhook has a head
    /// start.
    pub fn has_waited(&self) -> Option<Duration> {
        let state = self.state();
        let Phase::WaitsForClient { since } = state.phase else { return None };
        Some(since.elapsed().saturating_sub(if state.posted { HEAD_START } else { Duration::ZERO }))
    }

    /// Ends the connection if it waits for its client.
    pub fn displace(&self) -> bool {
        let mut state = self.state();
        if !matches!(state.phase, Phase::WaitsForClient { .. }) {
            return false;
        }
        state.phase = Phase::Displaced;
        state.unread.set(0);
        drop(state);
        self.displaced.cancel();
        self.metrics.connections.closed.with_label_values(&["displaced"]).inc();
        true
    }

    /// A handler begins; `false` if the slot already went to another connection.
    pub fn begin(&self) -> bool {
        let mut state = self.state();
        if state.phase != Phase::Displaced {
            state.phase = Phase::Busy;
        }
        state.phase == Phase::Busy
    }

    /// The connection waits for its client since `since`.
    pub fn wait(&self, since: Instant) {
        let mut state = self.state();
        if state.phase != Phase::Displaced {
            state.phase = Phase::WaitsForClient { since };
            drop(state);
            self.idle.notify_one();
        }
    }

    /// An answer of so many bytes goes to the client, for which the connection waits from now on.
    pub fn answers(&self, bytes: usize) {
        let mut state = self.state();
        if state.phase != Phase::Displaced {
            let unread = state.unread.own.saturating_add(bytes);
            state.unread.set(unread);
            drop(state);
            self.wait(Instant::now());
        }
    }

    /// Bytes of its answers that its client has not read.
    pub fn unread(&self) -> usize {
        self.state().unread.own
    }

    pub fn has_posted(&self) {
        self.state().posted = true;
    }

    /// The client read the answer, and the next request may come.
    fn was_read(&self) {
        let mut state = self.state();
        state.unread.set(0);
        if let Phase::WaitsForClient { since } = &mut state.phase {
            *since = Instant::now();
        }
    }

    /// Counts a request; returns whether its answer is the connection's last.
    pub fn is_last(&self) -> bool {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.reserved || requests >= REQUESTS || self.opened.elapsed() >= AGE
    }
}

/// A stream that can be reset.
pub trait Abort {
    /// Drops unsent bytes when the stream is dropped, in place of keeping them in the kernel for a reader.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // It fails only if the socket is gone, or then closes like any other.
        let _ = self.set_zero_linger();
    }
}

/// A connection's stream, below TLS: it fails if an answer is not read in time, or the slot goes to another connection.
#[derive(Debug)]
pub struct Stream<I> {
    io: I,
    connection: Arc<Connection>,
    displaced: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Since when bytes have been on their way to the client.
    writing: Option<Instant>,
    /// Set while the client does not accept bytes.
    timer: Option<Pin<Box<Sleep>>>,
    patience: Duration,
}

impl<I: Abort> Stream<I> {
    pub fn new(io: I, connection: Arc<Connection>) -> Self {
        let displaced = Box::pin(connection.displaced.clone().cancelled_owned());
        Self { io, connection, displaced, writing: None, timer: None, patience: UNREAD }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.displaced.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        if self.writing.is_some() {
            self.io.abort();
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the place was needed for another connection"))
    }

    /// Fails once the client has not accepted bytes for too long.
    fn unread(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let since = *self.writing.get_or_insert_with(Instant::now);
        let until = since + self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.timer = None;
        self.io.abort();
        self.connection.metrics.connections.closed.with_label_values(&["unread"]).inc();
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client did not read its answer"))
    }

    fn or_unread<T>(&mut self, done: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.unread(context).map(Err),
        }
    }
}

impl<I: AsyncRead + Abort + Unpin> AsyncRead for Stream<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_read(context, buf)
    }
}

impl<I: AsyncWrite + Abort + Unpin> AsyncWrite for Stream<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        self.writing.get_or_insert_with(Instant::now);
        let written = Pin::new(&mut self.io).poll_write(context, buf);
        self.or_unread(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        self.writing.get_or_insert_with(Instant::now);
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bufs);
        self.or_unread(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// Called only when hyper and TLS have passed on everything they had.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.timer = None;
            if self.writing.take().is_some() {
                self.connection.was_read();
            }
        }
        self.or_unread(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.or_unread(shut, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::{sleep, timeout},
    };

    use super::*;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_mins(10);
    const SHORT: Duration = Duration::from_millis(200);
    const DEADLINE: Duration = Duration::from_mins(1);
    /// More than a pipe of the tests holds.
    const ANSWER: [u8; 1_000] = [b'x'; 1_000];

    impl Abort for DuplexStream {
        fn abort(&self) {}
    }

    fn connection() -> Arc<Connection> {
        Arc::new(Connection::new(false, Arc::default(), Arc::default(), Arc::new(Metrics::new(&[], &[], "", ""))))
    }

    fn stream(patience: Duration) -> (Stream<DuplexStream>, DuplexStream, Arc<Connection>) {
        let (client, server) = duplex(64);
        let connection = connection();
        (Stream { patience, ..Stream::new(server, Arc::clone(&connection)) }, client, connection)
    }

    /// Writes an answer as hyper does: all of it, then a flush.
    async fn answer(stream: &mut Stream<DuplexStream>) -> io::Result<()> {
        stream.write_all(&ANSWER).await?;
        stream.flush().await
    }

    fn closed(connection: &Connection, reason: &str) -> u64 {
        connection.metrics.connections.closed.with_label_values(&[reason]).get()
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_ends_the_connection() {
        let (mut stream, _client, connection) = stream(SHORT);
        let ended = timeout(DEADLINE, answer(&mut stream)).await.expect("it ended");
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert_eq!(closed(&connection, "unread"), 1);
    }

    /// Slow progress does not extend the deadline.
    #[tokio::test]
    async fn an_answer_read_byte_by_byte_ends_the_connection() {
        let (mut stream, mut client, _) = stream(SHORT);
        let drips = async {
            loop {
                sleep(SHORT / 10).await;
                if client.read_u8().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let ended = tokio::select! {
            () = drips => unreachable!("it reads for ever"),
            ended = timeout(DEADLINE, answer(&mut stream)) => ended.expect("it ended"),
        };
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }

    /// The close message of TLS waits for the client as well.
    #[tokio::test]
    async fn nor_does_closing_wait_for_ever() {
        struct Stuck;
        impl Abort for Stuck {
            fn abort(&self) {}
        }
        impl AsyncWrite for Stuck {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Pending
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }
        let connection = connection();
        let stuck = || Stream { patience: SHORT, ..Stream::new(Stuck, Arc::clone(&connection)) };
        let (mut flushed, mut shut) = (stuck(), stuck());
        let (flushed, shut) = tokio::join!(timeout(DEADLINE, flushed.flush()), timeout(DEADLINE, shut.shutdown()));
        for ended in [flushed, shut] {
            assert_eq!(ended.expect("it ended").map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        }
    }

    /// Neither the time between answers nor that of the previous answer counts.
    #[tokio::test]
    async fn the_time_counts_for_each_answer_alone() {
        let (mut stream, mut client, connection) = stream(LONG);
        let begun = Instant::now();
        let mut read = [0; ANSWER.len()];
        for _ in 0..2 {
            stream.write_all(&ANSWER[..32]).await.expect("the pipe takes it");
            assert!(stream.writing.is_some_and(|since| since >= begun));
            let (written, read) = tokio::join!(stream.write_all(&ANSWER[32..]), client.read_exact(&mut read));
            written.and(read).expect("it is read");
            assert!(stream.timer.is_some(), "it had to wait");
            sleep(Duration::from_millis(5)).await;
            let waited = connection.has_waited();
            stream.flush().await.expect("all is read");
            assert!(stream.writing.is_none() && stream.timer.is_none());
            assert!(connection.has_waited() < waited, "from now on it waits for the next request");
        }
    }

    #[tokio::test]
    async fn a_slow_reader_gets_its_answer() {
        let (mut stream, mut client, _) = stream(LONG);
        let reads = async {
            for _ in 0..ANSWER.len() {
                client.read_u8().await.expect("a byte");
                tokio::task::yield_now().await;
            }
        };
        let (written, ()) = tokio::join!(answer(&mut stream), reads);
        written.expect("it was read");
    }

    #[tokio::test]
    async fn a_displaced_connection_ends_whatever_it_waits_for() {
        let (mut reading, _client, connection) = stream(LONG);
        let mut byte = [0];
        let read = timeout(DEADLINE, reading.read(&mut byte));
        let (read, displaced) = tokio::join!(read, async { connection.displace() });
        let read = read.expect("it ended");
        assert_eq!((read.map_err(|error| error.kind()), displaced), (Err(io::ErrorKind::ConnectionAborted), true));
        assert_eq!(closed(&connection, "displaced"), 1);

        let (mut writing, _client, connection) = stream(LONG);
        let written = timeout(DEADLINE, answer(&mut writing));
        let (written, displaced) = tokio::join!(written, async { connection.displace() });
        let written = written.expect("it ended");
        assert_eq!((written.map_err(|error| error.kind()), displaced), (Err(io::ErrorKind::ConnectionAborted), true));
        assert_eq!(
            writing.flush().await.map_err(|error| error.kind()),
            Err(io::ErrorKind::ConnectionAborted),
            "also what hyper polls while it works"
        );
    }

    #[tokio::test]
    async fn only_who_waits_for_the_client_can_be_displaced() {
        let connection = connection();
        assert!(connection.begin());
        assert!(connection.has_waited().is_none() && !connection.displace(), "a handler works");
        connection.wait(Instant::now());
        assert!(connection.has_waited().is_some() && connection.displace());
        assert!(!connection.displace() && !connection.begin(), "it is another's already");
    }

    #[tokio::test]
    async fn a_connection_ends_with_an_answer_by_age_number_and_place() {
        let young = connection();
        for request in 1..=REQUESTS {
            assert_eq!(young.is_last(), request == REQUESTS, "{request}");
        }
        let (Ok(old), Ok(reserved)) = (Arc::try_unwrap(connection()), Arc::try_unwrap(connection())) else {
            unreachable!("nobody else has them")
        };
        // The monotonic clock of this machine may not go back so far.
        if let Some(opened) = Instant::now().checked_sub(AGE) {
            assert!(Connection { opened, ..old }.is_last());
        }
        assert!(Connection { reserved: true, ..reserved }.is_last());
    }
}
