//! Webhooks by the hundred, from a client that costs next to nothing: it shares the cores with what it measures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::table::Figures;
use crate::harness::{Alert, Payload};

/// What receiver and baseline ask of a webhook.
pub const TOKEN: &str = "bench-token";
/// What groups are called, before the number.
const NAME: &str = "KubePodCrashLooping";
/// Stands for the number of a group.
const MARK: &str = "00000000";

/// A whole request in which the group's number can be changed in place.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Vec<u8>,
    marks: Vec<usize>,
    pub body_len: usize,
}

impl Request {
    /// A group of `alerts` firing alerts, as Alertmanager repeats it, each with what a Kubernetes alert usually carries.
    pub fn of(alerts: usize) -> Self {
        Self::to("default", (0..alerts).map(alert))
    }

    /// The same for the route of this name.
    pub fn in_route(route: &str, alerts: usize, critical: bool) -> Self {
        Self::to(route, (0..alerts).map(|n| if critical { alert(n).critical() } else { alert(n) }))
    }

    /// What group number `group` is called.
    pub fn name(group: u64) -> String {
        format!("{NAME}{group:08}")
    }

    /// A group of one alert that says where its log lines are.
    pub fn with_logs(route: &str) -> Self {
        let state = r#"{"datasource":"loki","queries":[{"refId":"A","expr":"{namespace=\"media\"}"}]}"#;
        let url = format!("https://grafana.example/explore?left={}", urlencoding::encode(state));
        Self::to(route, std::iter::once(alert(0).annotation("logs_url", &url)))
    }

    fn to(route: &str, alerts: impl Iterator<Item = Alert>) -> Self {
        let name = format!("{NAME}{MARK}");
        let group = Payload::group(&name).group_label("namespace", "media").reason("repeat interval elapsed");
        let body = alerts.fold(group, Payload::alert).json().to_string();
        let head = format!(
            "POST /alerts/{route} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let text = format!("{head}{body}");
        let marks = text.match_indices(&name).map(|(at, _)| at + name.len() - MARK.len()).collect();
        Self { bytes: text.into_bytes(), marks, body_len: body.len() }
    }

    /// The same about group number `group`.
    pub fn about(&mut self, group: u64) -> &[u8] {
        let digits = format!("{group:08}");
        for at in &self.marks {
            self.bytes[*at..*at + MARK.len()].copy_from_slice(&digits.as_bytes()[..MARK.len()]);
        }
        &self.bytes
    }
}

fn alert(n: usize) -> Alert {
    Alert::firing(&format!("10.0.0.{n}:8080"))
        .label("container", "server")
        .label("job", "kube-state-metrics")
        .label("namespace", "media")
        .label("pod", &format!("jellyfin-{n}"))
        .label("prometheus", "monitoring/k8s")
        .annotation("description", &format!("Pod media/jellyfin-{n} (server) is in waiting state (CrashLoopBackOff)."))
        .annotation("runbook_url", "https://runbooks.example/kubernetes/kubepodcrashlooping")
}

/// A connection that is kept open, one request at a time.
pub struct Connection {
    port: u16,
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub async fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { port, stream, answer: Vec::with_capacity(1024) }
    }

    /// # Panics
    /// On any answer but 200.
    pub async fn accepted(&mut self, request: &[u8]) {
        // The receiver ends a connection after a thousand requests, and says so.
        if String::from_utf8_lossy(&self.answer).to_ascii_lowercase().contains("\r\nconnection: close") {
            *self = Self::to(self.port).await;
        }
        self.stream.write_all(request).await.expect("the server reads");
        self.answer.clear();
        while !self.is_whole() {
            let read = self.stream.read_buf(&mut self.answer).await.expect("the server answers");
            assert!(read > 0, "cut off: {}", String::from_utf8_lossy(&self.answer));
        }
        assert!(self.answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.answer));
    }

    fn is_whole(&self) -> bool {
        let text = String::from_utf8_lossy(&self.answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        body.len() >= length.unwrap_or(0_usize)
    }
}

/// What one round of load gave.
pub struct Round {
    pub per_second: f64,
    /// Milliseconds.
    pub latencies: Figures,
}

/// Which groups a round posts about.
#[derive(Clone)]
pub enum Groups {
    /// A new one each time.
    New(Arc<AtomicU64>),
    /// Each connection one of its own, again and again.
    Same,
}

impl Groups {
    fn next(&self, connection: u64) -> u64 {
        match self {
            Self::New(counter) => counter.fetch_add(1, Ordering::Relaxed),
            Self::Same => connection,
        }
    }
}

/// Posts for `length` over `connections` at once.
pub async fn round(port: u16, request: &Request, connections: u64, groups: &Groups, length: Duration) -> Round {
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let (mut request, groups) = (request.clone(), groups.clone());
        let mut connection = Connection::to(port).await;
        tasks.spawn(async move {
            let (started, mut latencies) = (Instant::now(), Figures::default());
            while started.elapsed() < length {
                let sent = Instant::now();
                connection.accepted(request.about(groups.next(number))).await;
                latencies.push_millis(sent.elapsed());
            }
            latencies
        });
    }
    let started = Instant::now();
    let latencies: Vec<f64> = tasks.join_all().await.into_iter().flat_map(|figures| figures.0).collect();
    Round { per_second: latencies.len() as f64 / started.elapsed().as_secs_f64(), latencies: Figures(latencies) }
}
