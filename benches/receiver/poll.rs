//! What it costs to poll a large Alertmanager, and whether webhooks wait for it: two receivers of the same alerts, of which
//! one polls. The other one is stopped while one is measured.

use std::time::Duration;

use super::{
    Extent,
    load::{Groups, Request, TOKEN, round},
    subject::Subject,
    table::{Figures, Table, short},
};
use crate::harness::{AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Receiver, eventually};

/// Alerts of one group.
const ALERTS: usize = 10;
/// Of the webhooks that come meanwhile.
const CONNECTIONS: u64 = 8;
/// What `/proc/PID/stat` counts in: a hundredth of a second on Linux.
const TICK_MILLIS: f64 = 10.0;

pub async fn measure(subject: &Subject, extent: Extent, table: &mut Table) {
    let receiver = || subject.alone().webhook_token(TOKEN).unstarted();
    let (mut polling, mut calm) = (receiver(), receiver());
    let mut config = AlertmanagerConfig::webhook(&polling.webhook_url("default")).bearer(TOKEN);
    // What fires is notified of once, so that Alertmanager is idle but for the polls.
    config.json["route"]["group_interval"] = "1h".into();
    let webhooks = config.json["receivers"][0]["webhook_configs"].as_array_mut().expect("webhooks");
    let mut second = webhooks[0].clone();
    second["url"] = calm.webhook_url("default").into();
    webhooks.push(second);
    let alertmanager = Alertmanager::start(config).await;
    for (receiver, poll) in [(&mut polling, "1s"), (&mut calm, "never")] {
        receiver.reconfigure(&format!("[alertmanager]\nurls = [{:?}]\npoll = {poll:?}\n", alertmanager.url()));
        receiver.spawn();
        receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    }
    let alerts = fill(&alertmanager, extent.polled).await;
    for receiver in [&polling, &calm] {
        eventually("all are open", 4 * DEADLINE, async || {
            let open = receiver.metric("incidents_open", &[]).await;
            (open >= extent.polled as f64).then_some(())
        })
        .await;
    }
    cost(&mut polling, &mut calm, extent, alerts, table).await;
    delay(&mut polling, &mut calm, extent, alerts, table).await;
}

/// Has as many groups fire; returns how many alerts that is.
async fn fill(alertmanager: &Alertmanager, groups: usize) -> usize {
    let mut alerts = Vec::with_capacity(groups * ALERTS);
    for group in 0..groups {
        let name = format!("KubePodCrashLooping{group:04}");
        alerts.extend((0..ALERTS).map(|n| {
            let (pod, instance) = (format!("jellyfin-{n}"), format!("10.0.0.{n}:8080"));
            let labels = [
                ("alertname", name.as_str()),
                ("container", "server"),
                ("instance", &instance),
                ("job", "kube-state-metrics"),
                ("namespace", "media"),
                ("pod", &pod),
                ("prometheus", "monitoring/k8s"),
                ("severity", "warning"),
            ];
            AlertToPost::firing(&labels)
                .annotation("description", &format!("Pod media/{pod} (server) is in waiting state."))
                .annotation("runbook_url", "https://runbooks.example/kubernetes/kubepodcrashlooping")
        }));
    }
    alertmanager.post_alerts(&alerts).await;
    alerts.len()
}

/// The processor time of one poll: what the receiver uses while it does nothing else, without what it uses anyway.
async fn cost(polling: &mut Receiver, calm: &mut Receiver, extent: Extent, alerts: usize, table: &mut Table) {
    let (mut of_poll, mut of_none) = (Figures::default(), Figures::default());
    for _ in 0..extent.rounds {
        calm.signal("STOP");
        let before = (processor_millis(polling.pid()), polls(polling).await);
        tokio::time::sleep(2 * extent.round).await;
        let used = processor_millis(polling.pid()) - before.0;
        of_poll.0.push(used / (polls(polling).await - before.1).max(1.0));
        calm.signal("CONT");
        polling.signal("STOP");
        let before = processor_millis(calm.pid());
        tokio::time::sleep(2 * extent.round).await;
        // A poll comes once in a second.
        of_none.0.push((processor_millis(calm.pid()) - before) / (2 * extent.round).as_secs_f64());
        polling.signal("CONT");
    }
    let baseline = format!("{of_none}: a second without polls");
    table.row(&format!("poll of {alerts} alerts: processor time, ms"), &of_poll, &baseline, &"", "< 200");
}

/// Webhooks while polls go on, and without any.
async fn delay(polling: &mut Receiver, calm: &mut Receiver, extent: Extent, alerts: usize, table: &mut Table) {
    let (mut with, mut without) = (Figures::default(), Figures::default());
    let request = Request::of(ALERTS);
    let length = extent.round.max(Duration::from_secs(2));
    for _ in 0..extent.rounds {
        for is_polling in [true, false] {
            let (measured, stopped) = if is_polling { (&*polling, &mut *calm) } else { (&*calm, &mut *polling) };
            stopped.signal("STOP");
            let port = measured.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
            let round = round(port, &request, CONNECTIONS, &Groups::Same, length).await;
            let figures = if is_polling { &mut with } else { &mut without };
            figures.0.push(round.latencies.quantile(0.99));
            stopped.signal("CONT");
        }
    }
    let what =
        format!("webhooks of {ALERTS} alerts, all unchanged, while {alerts} alerts are polled each second: p99, ms");
    table.row(&what, &with, &format!("{without}: without polls"), &with.by(&without), "≤ 1.2");
    let failed = polling.metric("alertmanager_requests_total", &[("outcome", "in_doubt")]).await;
    assert!(failed < 0.5, "{} polls failed", short(failed));
}

async fn polls(receiver: &Receiver) -> f64 {
    receiver.metric("alertmanager_requests_total", &[("call", "groups"), ("outcome", "ok")]).await
}

/// What a process has used of all cores so far.
pub fn processor_millis(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name, in brackets, may hold anything.
    let (_, after) = stat.rsplit_once(") ").expect("a name");
    let ticks: Vec<f64> = after.split(' ').skip(11).take(2).map(|ticks| ticks.parse().expect("ticks")).collect();
    ticks.iter().sum::<f64>() * TICK_MILLIS
}
