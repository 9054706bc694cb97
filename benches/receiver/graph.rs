//! What a graph costs: asked for, read, drawn and packed as PNG, in this process.

use axum::{Router, body::Bytes, routing::get};
use matrix_alertmanager_receiver::{
    config::{ApiAuth, EvidenceSource},
    evidence::graph::{GraphWanted, draw},
    model::{Labels, Timestamp},
};
use serde_json::{Value, json};
use url::Url;

use super::{
    Extent,
    footprint::resident,
    poll::processor_millis,
    table::{Figures, Table},
};

const NOW: Timestamp = Timestamp(1_795_877_100_000);
const SERIES: u32 = 8;
const POINTS: u32 = 250;
const STEP: u32 = 15;
/// In a round, since processor time is counted in hundredths of a second.
const GRAPHS: u32 = 50;

pub async fn measure(extent: Extent, table: &mut Table) {
    let body = Bytes::from(answer().to_string());
    let router = Router::new().route("/api/v1/query_range", get(async || body));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let url = Url::parse(&format!("http://127.0.0.1:{port}")).expect("a URL");
    let source = EvidenceSource { url, auth: ApiAuth::None, headers: Vec::new(), ca_file: None };
    let wanted = GraphWanted {
        expr: "sum by (pod) (rate(http_requests_total[5m])) > 12".to_owned(),
        firing: vec![Labels::from([("pod".to_owned(), "pod-3".to_owned())])],
        began: Some(NOW.minus(std::time::Duration::from_mins(9))),
        now: NOW,
        timezone: "Europe/Berlin".to_owned(),
    };
    let pid = std::process::id();
    let (mut millis, mut mebibytes) = (Figures::default(), Figures::default());
    for _ in 0..extent.rounds {
        // Begins to count the most that is resident from here on.
        std::fs::write("/proc/self/clear_refs", "5").expect("our own process");
        let (before, resident_before) = (processor_millis(pid), resident(pid, "VmRSS"));
        for _ in 0..GRAPHS {
            draw(&source, &wanted).await.expect("a graph");
        }
        millis.0.push((processor_millis(pid) - before) / f64::from(GRAPHS));
        mebibytes.0.push((resident(pid, "VmHWM") - resident_before).max(0.0));
    }
    server.abort();
    let what = format!("a graph of {SERIES} series of {POINTS} points");
    table.row(&format!("{what}: ms of one core"), &millis, &"", &"", "< 30");
    table.row(&format!("{what}: memory while it is made, MiB"), &mebibytes, &"", &"", "< 20");
}

fn answer() -> Value {
    let now = f64::from(u32::try_from(NOW.0 / 1_000).expect("before 2106"));
    let series = (0..SERIES).map(|series| {
        let values = (0..POINTS).map(|point| {
            let at = now - f64::from((POINTS - 1 - point) * STEP);
            let value = f64::from(series) + 3.0 * (f64::from(point) / 9.0 + f64::from(series)).sin() + 5.0;
            json!([at, value.to_string()])
        });
        json!({ "metric": { "pod": format!("pod-{series}") }, "values": values.collect::<Vec<_>>() })
    });
    json!({ "status": "success", "data": { "resultType": "matrix", "result": series.collect::<Vec<_>>() } })
}
