//! The network between the members of an Alertmanager cluster, which a test can cut.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use super::free_port;

/// The way to one member's gossip port: the others know only the port of the link, which passes TCP and UDP on. Two
/// members are parted once the links to both are cut.
#[derive(Debug)]
pub struct ClusterLink {
    /// What the member tells the others.
    pub(super) advertised: u16,
    /// Where the member really listens.
    pub(super) target: u16,
    /// Own all sockets; `None` once it is cut.
    tasks: Option<JoinSet<()>>,
}

impl ClusterLink {
    pub async fn start() -> Self {
        let (advertised, target) = (free_port(), free_port());
        let listener = TcpListener::bind(("127.0.0.1", advertised)).await.expect("a free port");
        let socket = UdpSocket::bind(("127.0.0.1", advertised)).await.expect("a free port");
        let mut tasks = JoinSet::new();
        tasks.spawn(streams(listener, target));
        tasks.spawn(packets(Arc::new(socket), target));
        Self { advertised, target, tasks: Some(tasks) }
    }

    /// From now on nothing reaches the member this way, and connections are refused.
    pub async fn cut(&mut self) {
        if let Some(mut tasks) = self.tasks.take() {
            tasks.shutdown().await;
        }
    }
}

async fn streams(listener: TcpListener, target: u16) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

/// Each sender gets a socket of its own, so that answers find their way back.
async fn packets(socket: Arc<UdpSocket>, target: u16) {
    let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut packet = vec![0; 65_536];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        let own = match senders.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let own = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port"));
                own.connect(("127.0.0.1", target)).await.expect("UDP needs no answer to connect");
                answers.spawn(send_back(own.clone(), socket.clone(), from));
                unknown.insert(own)
            }
        };
        // What the member does not take (it may be down) is lost, as on any network.
        let _ = own.send(&packet[..length]).await;
    }
}

async fn send_back(from: Arc<UdpSocket>, socket: Arc<UdpSocket>, to: SocketAddr) {
    let mut packet = vec![0; 65_536];
    while let Ok(length) = from.recv(&mut packet).await {
        let _ = socket.send_to(&packet[..length], to).await;
    }
}
