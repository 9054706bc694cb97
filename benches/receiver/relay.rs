//! A wire between the receiver and Synapse that notes when a send was acknowledged, and can hold sends back.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::timeout,
};

const DEADLINE: Duration = Duration::from_mins(1);

pub struct Relay {
    port: u16,
    acks: mpsc::UnboundedReceiver<Exchange>,
    open: watch::Sender<bool>,
}

/// A send and its acknowledgement.
pub struct Exchange {
    pub sent: Instant,
    pub acked: Instant,
}

impl Relay {
    /// In front of the homeserver at `url`.
    pub async fn start(url: &str) -> Self {
        let target: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (acked, acks) = mpsc::unbounded_channel();
        let open = watch::Sender::new(true);
        let gate = open.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target, gate.clone(), acked.clone()));
            }
        });
        Self { port, acks, open }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends wait here from now on, or no longer.
    pub fn hold(&self, hold: bool) {
        self.open.send_replace(!hold);
    }

    /// When the next send was acknowledged.
    pub async fn ack(&mut self) -> Instant {
        self.exchange().await.acked
    }

    pub async fn exchange(&mut self) -> Exchange {
        timeout(DEADLINE, self.acks.recv()).await.expect("a send is acknowledged").expect("the relay runs")
    }

    /// Forgets what was acknowledged so far.
    pub fn forget(&mut self) {
        while self.acks.try_recv().is_ok() {}
    }
}

async fn connect(client: TcpStream, target: u16, gate: watch::Receiver<bool>, acked: mpsc::UnboundedSender<Exchange>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a TCP socket");
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let pending = Arc::new(Mutex::new(None));
    tokio::select! {
        () = up(from_client, to_server, gate, Arc::clone(&pending)) => {}
        () = down(from_server, to_client, &pending, acked) => {}
    }
}

async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: watch::Receiver<bool>,
    pending: Arc<Mutex<Option<Instant>>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..read];
        // A client sends its next request only after the last answer, so that a request begins a chunk.
        if chunk.starts_with(b"PUT ") && chunk.windows(6).any(|part| part == b"/send/") {
            let _ = gate.wait_for(|open| *open).await;
            // What stands in a thread is beside a card, which alone counts.
            let is_card = !chunk.windows(8).any(|part| part == b"m.thread");
            *pending.lock().expect("a lock") = is_card.then(Instant::now);
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pending: &Mutex<Option<Instant>>,
    acked: mpsc::UnboundedSender<Exchange>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..read];
        let sent = pending.lock().expect("a lock").take().filter(|_| chunk.starts_with(b"HTTP/1.1 200"));
        if let Some(sent) = sent {
            let _ = acked.send(Exchange { sent, acked: Instant::now() });
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
    }
}
