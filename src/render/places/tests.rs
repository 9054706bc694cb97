//! Which thing an alert is about, by the labels that rules really give.

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const STATE_METRICS: [(&str, &str); 7] = [
    ("container", "kube-state-metrics"),
    ("endpoint", "http"),
    ("instance", "10.0.0.7:8080"),
    ("job", "kube-state-metrics"),
    ("pod", "mon-kube-state-metrics-abc-1"),
    ("service", "mon-kube-state-metrics"),
    ("prometheus", "monitoring/mon-prometheus"),
];

fn name(own: &[(&str, &str)], exporter: &[(&str, &str)]) -> String {
    let all = labels(&[exporter, own].concat());
    alone(&labels_of_thing(&all, &[]), &[]).map(|thing| thing.name).unwrap_or_default()
}

#[test]
fn an_alert_names_its_thing_and_not_its_exporter() {
    let shop = ("namespace", "shop");
    for (own, expected) in [
        (vec![shop, ("deployment", "cart")], "shop/cart"),
        (vec![shop, ("statefulset", "db")], "shop/db"),
        (vec![shop, ("daemonset", "log")], "shop/log"),
        (vec![shop, ("job_name", "nightly-29401")], "shop/nightly-29401"),
        (vec![shop, ("cronjob", "nightly")], "shop/nightly"),
        (vec![shop, ("persistentvolumeclaim", "data")], "shop/data"),
        (vec![shop, ("horizontalpodautoscaler", "cart")], "shop/cart"),
        (vec![shop, ("ingress", "web")], "shop/web"),
        (vec![shop, ("pod", "cart-1"), ("container", "app")], "shop/cart-1"),
        (vec![("node", "worker-3")], "worker-3"),
        (vec![shop], "shop"),
        (vec![("exported_namespace", "shop"), ("exported_pod", "cart-1"), ("namespace", "monitoring")], "shop/cart-1"),
    ] {
        assert_eq!(name(&own, &STATE_METRICS), expected, "{own:?}");
    }
    let own = [("alertname", "KubePodCrashLooping"), ("namespace", "monitoring")];
    assert_eq!(name(&own, &STATE_METRICS), "monitoring/mon-kube-state-metrics-abc-1", "its own crash loop");
}

#[test]
fn an_exporter_speaks_of_the_machine_it_looks_at() {
    let exporter = [("namespace", "monitoring"), ("pod", "node-exporter-x"), ("job", "node-exporter")];
    assert_eq!(name(&[("instance", "10.0.0.4:9100")], &exporter), "10.0.0.4:9100");
    assert_eq!(name(&[("instance", "10.0.0.4:9100"), ("node", "worker-1")], &exporter), "worker-1");
    let app = [("namespace", "shop"), ("pod", "csv-exporter-1"), ("container", "app"), ("job", "kubelet")];
    assert_eq!(name(&[], &app), "shop/csv-exporter-1", "a workload may be called so");
    let kubelet = [("job", "kubelet"), ("instance", "10.0.0.4:10250"), ("service", "mon-kubelet")];
    let claim = [("namespace", "shop"), ("persistentvolumeclaim", "cart-data"), ("node", "worker-3")];
    assert_eq!(name(&claim, &kubelet), "shop/cart-data");
}

#[test]
fn labels_of_the_target_give_way_only_to_what_says_which_thing_it_is() {
    let app = [("namespace", "shop"), ("pod", "cart-1"), ("container", "app"), ("job", "cart")];
    for (own, expected) in [
        (("exported_endpoint", "/pay"), "shop/cart-1"),
        (("exported_bytes", "7"), "shop/cart-1"),
        (("exported_container", "main"), "shop/cart-1"),
        (("exported_service", "shop-web"), "shop-web"),
        (("exported_pod", "db-0"), "db-0"),
        (("exported_job", "nightly"), "nightly"),
    ] {
        assert_eq!(name(&[own], &app), expected, "{own:?}");
    }
    let down = [("alertname", "TargetDown"), ("namespace", "monitoring")];
    let scraped = [("job", "kube-state-metrics"), ("service", "mon-kube-state-metrics")];
    assert_eq!(name(&down, &scraped), "monitoring/kube-state-metrics", "the target is the thing");
}

#[test]
fn long_names_differ_where_they_are_shown() {
    let pod = |end: &str| {
        let pod = format!("opentelemetry-collector-gateway-production-eu-west-6c9f7d8b5c-{end}");
        labels(&[("namespace", "shop"), ("pod", &pod)])
    };
    let (one, other) = (pod("x2k4p"), pod("q9z7m"));
    let places = Places::new(&[(&one, &one), (&other, &other)], &[]);
    assert_eq!(places.parts.len(), 1);
    assert!(places.of(&one, &one).ends_with("-x2k4p") && places.of(&other, &other).ends_with("-q9z7m"));
}

/// Beyond what anybody sends, and far from a minute: each label is looked at a few times.
#[test]
fn many_labels_cost_no_square() {
    let many: Labels = (0..50_000).map(|n| (format!("label_{n}"), "x".to_owned())).collect();
    let few = labels(&[("alertname", "A")]);
    assert_eq!(Places::new(&[(&few, &many), (&few, &few)], &[]).parts.len(), 1);
}

#[test]
fn one_alert_alone_names_its_thing() {
    for (own, expected) in [
        (vec![("device", "d-17"), ("site", "north")], "device=d-17"),
        (vec![("queue", "mail"), ("instance", "mq:9419")], "queue=mail"),
        (vec![("host", "h1"), ("grafana_folder", "Edge")], "h1"),
        (vec![("namespace", "shop"), ("job", "cart"), ("service", "cart")], "shop/cart"),
        (vec![("service.name", "cart"), ("service.namespace", "shop"), ("host.name", "worker-1")], "shop/cart"),
        (vec![("host.name", "worker-1")], "worker-1"),
        (vec![("vehicle", "v1"), ("wheel", "left"), ("zone", "a")], "vehicle=v1 wheel=left"),
        (vec![("alertname", "A"), ("__uid__", "x")], ""),
    ] {
        assert_eq!(name(&own, &[]), expected, "{own:?}");
    }
    let rules = [vec!["site".to_owned(), "device".to_owned()]];
    let thing = alone(&labels(&[("device", "d-17"), ("site", "north"), ("pod", "p")]), &rules).expect("a thing");
    assert_eq!(thing, Thing { name: "north/d-17".to_owned(), labels: rules[0].clone(), is_known: true });
}

#[test]
fn only_what_is_surely_named_is_said_already() {
    for (text, value, said) in [
        ("Pod media/jellyfin-0 is crash looping", "jellyfin-0", true),
        ("Memory of web-1:9100 is nearly used up", "web-1:9100", true),
        ("Memory of web-1 is nearly used up.", "web-1:9100", true),
        ("Memory of web-1.", "web-1", true),
        ("Memory of web-10 is nearly used up", "web-1:9100", false),
        ("Memory of my-web-1 is nearly used up", "web-1", false),
        ("web-1.example.org is down", "web-1", false),
        ("HTTPS probe failed", "https://shop.example.org", false),
        ("shop.example.org does not answer", "https://shop.example.org/health", true),
        ("No master answers", "master", false),
        ("A node is down", "node", false),
        ("3 replicas are missing", "3", false),
    ] {
        assert_eq!(is_said(text, "node", value), said, "{text} {value}");
    }
    assert!(is_said("checkout is slow", "service", "checkout") && !is_said("out", "service", "checkout"));
}
