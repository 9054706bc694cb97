//! Graphs of many kinds. `MAR_TEST_PICTURES=folder` writes them, to be looked at.

use std::{f64::consts::TAU, fs, path::Path};

use serde_json::{Value, json};
use tiny_skia::Pixmap;

use super::super::{
    super::{NoEvidence, Picture},
    GraphWanted,
    comparison::watched,
    picture_of,
    query::Span,
};
use crate::model::{Labels, Timestamp};

/// Sat 2026-11-28 14:45 UTC.
const NOW: i64 = 1_795_877_100_000;
const MINUTE: i64 = 60_000;

/// A graph as it would be asked for.
struct Sample {
    name: &'static str,
    expr: &'static str,
    /// Minutes before now.
    began: Option<i64>,
    firing: Vec<Value>,
    zone: &'static str,
    now: i64,
    series: Vec<(Value, Vec<(f64, Value)>)>,
}

impl Sample {
    fn new(name: &'static str, expr: &'static str) -> Self {
        Self { name, expr, began: None, firing: Vec::new(), zone: "UTC", now: NOW, series: Vec::new() }
    }

    fn began(mut self, minutes: i64) -> Self {
        self.began = Some(minutes);
        self
    }

    fn fires(mut self, labels: Value) -> Self {
        self.firing.push(labels);
        self
    }

    fn at(mut self, zone: &'static str, now: i64) -> Self {
        (self.zone, self.now) = (zone, now);
        self
    }

    /// Values by how far in time it is, from 0 to 1; NaN is a gap.
    fn line(mut self, labels: Value, value: impl Fn(f64) -> f64) -> Self {
        let span = self.span();
        let (from, to) = (span.from.0 as f64 / 1e3, span.to.0 as f64 / 1e3);
        let mut points = Vec::new();
        let mut at = from;
        while at <= to {
            let value = value((at - from) / (to - from));
            if !value.is_nan() {
                points.push((at, json!(value.to_string())));
            }
            at += span.step as f64;
        }
        self.series.push((labels, points));
        self
    }

    fn wanted(&self) -> GraphWanted {
        let labels = |value: &Value| serde_json::from_value::<Labels>(value.clone()).unwrap();
        GraphWanted {
            expr: self.expr.to_owned(),
            firing: self.firing.iter().map(labels).collect(),
            began: self.began.map(|minutes| Timestamp(self.now - minutes * MINUTE)),
            now: Timestamp(self.now),
            timezone: self.zone.to_owned(),
        }
    }

    fn span(&self) -> Span {
        let wanted = self.wanted();
        Span::of(wanted.began, wanted.now)
    }

    fn picture(&self) -> Result<Picture, NoEvidence> {
        let result: Vec<Value> =
            self.series.iter().map(|(metric, values)| json!({"metric": metric, "values": values})).collect();
        let body = json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string();
        picture_of(body.as_bytes(), &self.wanted(), &watched(self.expr), self.span())
    }
}

/// A number between 0 and 1 that looks random.
fn noise(at: f64, seed: f64) -> f64 {
    ((at * 12_989.8 + seed * 78.233).sin() * 43_758.545).fract().abs()
}

fn samples() -> Vec<Sample> {
    vec![
        Sample::new("flat", "up{job=\"api\"}").line(json!({"__name__": "up", "instance": "10.0.3.7:9100"}), |_| 1.0),
        Sample::new("down", "up == 0").began(14).fires(json!({"alertname": "Down", "instance": "db-1:9187", "job": "db"})).line(
            json!({"__name__": "up", "instance": "db-1:9187", "job": "db"}),
            |t| f64::from(t < 0.76),
        ),
        Sample::new("spike", "sum(rate(http_requests_total{code=~\"5..\"}[5m])) > 40")
            .line(json!({}), |t| 3.0 + 2.0 * noise(t, 1.0) + if (t - 0.6).abs() < 0.02 { 90.0 } else { 0.0 }),
        eight(),
        Sample::new("gaps", "node_load1 > 8").line(json!({"instance": "worker-3"}), |t| {
            if (0.2..0.3).contains(&t) || (0.62..0.64).contains(&t) || (0.7..0.704).contains(&t) { f64::NAN } else { 4.0 + 3.0 * (t * 9.0).sin() }
        }),
        Sample::new("infinite", "a / b > 1.5").line(json!({"pod": "x"}), |t| match t {
            t if t < 0.2 => f64::INFINITY,
            t if (0.5..0.6).contains(&t) => f64::NEG_INFINITY,
            t => t,
        }),
        Sample::new("huge", "prometheus_tsdb_head_samples_appended > 9e13")
            .line(json!({"instance": "prometheus-0"}), |t| 1e13 + 8.5e13 * t * t),
        Sample::new("enormous", "x").line(json!({"a": "b"}), |t| 1e30 * (1.0 + t)).line(json!({"a": "c"}), |t| -1e30 * t),
        Sample::new("tiny", "clock_error > 0.00005").line(json!({"node": "n1"}), |t| 0.00002 + 0.00004 * noise(t, 3.0)),
        Sample::new("negative", "node_hwmon_temp_celsius < -18").began(20).line(json!({"sensor": "freezer"}), |t| -12.0 - 9.0 * t),
        Sample::new("bytes", "node_filesystem_avail_bytes < 5 * 1024 ^ 3").began(9)
            .fires(json!({"mountpoint": "/var/lib/postgresql", "device": "/dev/sda2", "severity": "critical"}))
            .line(json!({"mountpoint": "/var/lib/postgresql", "device": "/dev/sda2"}), |t| 5.4e10 * (1.0 - t) + 8e8)
            .line(json!({"mountpoint": "/", "device": "/dev/sda1"}), |t| 2.3e10 + 1e9 * (t * 5.0).sin()),
        Sample::new("latency", "histogram_quantile(0.99, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m]))) > 0.5")
            .began(6)
            .fires(json!({"handler": "/api/v1/orders", "alertname": "Slow"}))
            .line(json!({"handler": "/api/v1/orders"}), |t| 0.12 + 0.05 * noise(t, 1.0) + if t > 0.88 { 0.9 } else { 0.0 })
            .line(json!({"handler": "/api/v1/users"}), |t| 0.08 + 0.03 * noise(t, 2.0))
            .line(json!({"handler": "/healthz"}), |t| 0.005 + 0.002 * noise(t, 5.0)),
        Sample::new("uptime", "time() - node_boot_time_seconds < 600").line(json!({"instance": "a"}), |t| 86_400.0 * 9.0 + 3_600.0 * t),
        Sample::new("ratio", "sum by (job) (rate(errors_total[5m])) / sum by (job) (rate(requests_total[5m])) > 0.05")
            .began(22)
            .fires(json!({"job": "checkout"}))
            .line(json!({"job": "checkout"}), |t| if t > 0.6 { 0.06 + 0.05 * noise(t, 2.0) } else { 0.01 * noise(t, 4.0) })
            .line(json!({"job": "search"}), |t| 0.004 + 0.003 * noise(t, 7.0)),
        Sample::new("percent", "100 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])) * 100 > 90")
            .line(json!({"instance": "node-7"}), |t| 35.0 + 60.0 * t + 4.0 * noise(t, 1.0)),
        Sample::new("counter", "http_requests_total").line(json!({"__name__": "http_requests_total", "pod": "api-1"}), |t| {
            if t < 0.55 { 1_204_000.0 + 90_000.0 * t } else { 60_000.0 * (t - 0.55) }
        }),
        Sample::new("midnight", "node_load15 > 12").at("Europe/Berlin", 1_795_825_800_000).began(70)
            .line(json!({"instance": "batch-1"}), |t| 6.0 + 9.0 * t + noise(t, 1.0)),
        Sample::new("day", "kube_deployment_status_replicas_unavailable > 0").began(26 * 60)
            .fires(json!({"deployment": "web"}))
            .line(json!({"deployment": "web", "namespace": "shop"}), |t| f64::from(t > 0.1 && !(0.4..0.5).contains(&t)) * 2.0),
        Sample::new("long", "sum by (namespace, pod, container) (container_memory_working_set_bytes{container!=\"\", image!=\"\"}) / sum by (namespace, pod, container) (kube_pod_container_resource_limits{resource=\"memory\"}) > 0.9")
            .line(json!({"namespace": "observability", "pod": "prometheus-kube-prometheus-stack-prometheus-0", "container": "prometheus"}), |t| 0.5 + 0.45 * t)
            .line(json!({"namespace": "observability", "pod": "prometheus-kube-prometheus-stack-prometheus-1", "container": "prometheus"}), |t| 0.55 + 0.3 * t)
            .line(json!({"namespace": "observability", "pod": "alertmanager-kube-prometheus-stack-alertmanager-0", "container": "config-reloader"}), |_| 0.2),
        Sample::new("point", "job_duration_seconds > 300").line(json!({"job": "backup"}), |t| if (0.7..0.704).contains(&t) { 214.0 } else { f64::NAN }),
        Sample::new("far", "queue_length > 10000").line(json!({"queue": "mail"}), |t| 20.0 + 9.0 * noise(t, 1.0)),
        Sample::new("zero", "errors > 0").line(json!({"service": "login"}), |t| f64::from(t > 0.8) * (t - 0.8) * 40.0),
        Sample::new("below-zero", "predict_linear(node_filesystem_avail_bytes[6h], 24*60*60) < 0").began(5)
            .line(json!({"mountpoint": "/data"}), |t| 4e9 - 4.6e9 * t),
        Sample::new("equal", "kube_deployment_spec_replicas != kube_deployment_status_replicas")
            .line(json!({"deployment": "web"}), |t| 3.0 + f64::from(t > 0.5))
            .line(json!({"deployment": "api"}), |t| 3.0 + f64::from(t > 0.5))
            .line(json!({"deployment": "db"}), |t| 2.0 - t),
        Sample::new("noisy", "rate(node_network_receive_bytes_total[1m]) > 1.2e8")
            .line(json!({"device": "eth0"}), |t| 1.3e8 * noise(t, 1.0))
            .line(json!({"device": "eth1"}), |t| 0.7e8 * noise(t, 9.0)),
        Sample::new("steps", "kube_job_failed").line(json!({"job_name": "backup"}), |t| (t * 6.0).floor()),
        Sample::new("scripts", "x > 5").line(json!({"service": "бэкенд"}), |t| t).line(json!({"service": "Größe-αβγ"}), |t| 2.0 * t)
            .line(json!({"service": "データベース"}), |t| 3.0 * t),
    ]
}

fn eight() -> Sample {
    let mut sample = Sample::new("eight", "sum by (pod) (rate(container_cpu_usage_seconds_total[5m])) > 1.5")
        .began(12)
        .fires(json!({"pod": "api-7d9f8c5b4-x2k9p", "namespace": "shop"}));
    for pod in 0..13 {
        let name =
            ["x2k9p", "b7qwz", "m4c8d", "t9vfj", "k2l5n", "p8r3s", "w6h1g", "z5y7x", "q1", "q2", "q3", "q4", "q5"][pod];
        let seed = pod as f64;
        sample = sample.line(json!({"pod": format!("api-7d9f8c5b4-{name}")}), move |t| {
            let base = 0.3 + 0.08 * seed + 0.05 * (t * TAU * 2.0 + seed).sin() + 0.03 * noise(t, seed);
            if pod == 0 && t > 0.75 { base + 1.6 * (t - 0.75) * 4.0 } else { base }
        });
    }
    sample
}

/// What can be seen of the pixels alone.
fn look(sample: &Sample, picture: &Picture) {
    let pixels = Pixmap::decode_png(&picture.png).unwrap();
    assert_eq!((pixels.width(), pixels.height()), (1200, 420), "{}", sample.name);
    let is = |x: u32, y: u32, color: (u8, u8, u8)| {
        let found = pixels.pixel(x, y).unwrap();
        assert_eq!(found.alpha(), 255, "{}: it is opaque", sample.name);
        (found.red(), found.green(), found.blue()) == color
    };
    let rows = |color: (u8, u8, u8)| (0..420).filter(|y| (0..1200).any(|x| is(x, *y, color))).collect::<Vec<u32>>();
    let (background, alert, first) = ((0x1F, 0x24, 0x2C), (0xFF, 0x7B, 0x72), (0x56, 0xB4, 0xE9));
    assert!(is(0, 0, background) && is(1199, 419, background), "{}", sample.name);
    let has_alert = sample.began.is_some() || watched(sample.expr).threshold.is_some();
    assert_eq!(!rows(alert).is_empty(), has_alert, "{}: red is for the alert", sample.name);
    // The line, below the title.
    let line: Vec<u32> = rows(first).into_iter().filter(|y| *y > 60).collect();
    match sample.name {
        "flat" => assert!(line.iter().all(|y| (209..=217).contains(y)), "{line:?}"),
        "point" => assert!(line.len() < 20, "{line:?}"),
        "gaps" => {
            let columns = (200..1100).filter(|x| (61..366).all(|y| !is(*x, y, first))).count();
            assert!((90..160).contains(&columns), "{columns} columns without a line");
        }
        _ => assert!(!line.is_empty(), "{}", sample.name),
    }
}

#[test]
fn graphs_of_many_kinds() {
    let folder = std::env::var_os("MAR_TEST_PICTURES");
    for sample in samples() {
        let picture = sample.picture().unwrap_or_else(|fault| panic!("{}: {fault}", sample.name));
        assert_eq!((picture.width, picture.height), (1200, 420), "{}", sample.name);
        assert_eq!(&picture.png[1..4], b"PNG", "{}", sample.name);
        assert!(picture.png.len() < 200_000, "{}: {} bytes", sample.name, picture.png.len());
        assert!(picture.alt.chars().count() <= 300 && !picture.alt.contains('\n'), "{}: {}", sample.name, picture.alt);
        look(&sample, &picture);
        if let Some(folder) = &folder {
            fs::write(Path::new(folder).join(format!("{}.png", sample.name)), &picture.png).unwrap();
            fs::write(Path::new(folder).join(format!("{}.txt", sample.name)), &picture.alt).unwrap();
        }
    }
}
