//! Clients that ask for the metrics again and again and read no answer.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{interval, timeout},
};

/// More than the receiver serves and lets wait.
const READERS: usize = 700;
/// So many answers are more than a kernel keeps.
const REQUESTS: usize = 300;
/// How often one that was cut off, or found nobody, is back.
const AGAIN: Duration = Duration::from_secs(2);

/// They go when this is dropped.
#[derive(Debug)]
pub struct Readers {
    _all: JoinSet<()>,
}

impl Readers {
    /// Each of them comes again while it is cut off.
    pub fn begin(address: &str) -> Self {
        let mut all = JoinSet::new();
        for _ in 0..READERS {
            let address = address.to_owned();
            all.spawn(async move {
                let mut again = interval(AGAIN);
                loop {
                    again.tick().await;
                    let Ok(mut stream) = connect(&address).await else { continue };
                    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(REQUESTS);
                    let _ = stream.write_all(requests.as_bytes()).await;
                    // Not a byte is read: this is over once the other side says that the connection is.
                    while timeout(AGAIN, stream.writable()).await.is_ok_and(|ready| ready.is_ok()) {
                        if stream.try_write(b"\r\n").is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
                        {
                            break;
                        }
                        again.tick().await;
                    }
                }
            });
        }
        Self { _all: all }
    }
}

/// A connection whose own side holds next to nothing.
async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(address.parse().map_err(std::io::Error::other)?).await
}
