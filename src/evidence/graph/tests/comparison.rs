//! Rules of kube-prometheus-stack, node-exporter, blackbox exporter and others, and what is drawn of them.

use super::super::comparison::{parsed, watched};

/// Expression, what is drawn, and the line.
const RULES: &[(&str, &str, &str)] = &[
    // Simple ones.
    ("up == 0", "up", "= 0"),
    ("x > 5", "x", "> 5"),
    ("x>=0.9", "x", "≥ 0.9"),
    ("x < -1", "x", "< -1"),
    ("x != 1", "x", "≠ 1"),
    ("x <= 10 * 60", "x", "≤ 600"),
    ("x > (1 + 2) * 2 ^ 3 - 4 % 3", "x", "> 23"),
    ("5 > x", "x", "< 5"),
    ("0.5 <= sum(x)", "sum(x)", "≥ 0.5"),
    ("x > bool 5", "x", "> 5"),
    ("x >bool(5)", "x", "> 5"),
    ("((x > 5))", "x", "> 5"),
    ("(x) > ((5))", "x", "> 5"),
    ("x{a=\"b > 1\"} > 5", "x{a=\"b > 1\"}", "> 5"),
    ("x{a=~\"(\"} > 5", "x{a=~\"(\"}", "> 5"),
    ("x{a!=\"b\\\"\"} > 5", "x{a!=\"b\\\"\"}", "> 5"),
    ("x > 5 # and y", "x", "> 5"),
    ("# a > 1\nx > 5", "# a > 1\nx", "> 5"),
    ("x > 1e3", "x", "> 1000"),
    ("x > 0x10", "x", "> 16"),
    ("-x > -5", "-x", "> -5"),
    ("x + y > 5", "x + y", "> 5"),
    // Nothing to compare, or not with a number.
    ("absent(up{job=\"x\"})", "absent(up{job=\"x\"})", ""),
    ("absent(up{job=\"x\"} == 1)", "absent(up{job=\"x\"} == 1)", ""),
    ("vector(1)", "vector(1)", ""),
    ("vector(1) > 0", "vector(1)", "> 0"),
    ("count(up == 0) > 2", "count(up == 0)", "> 2"),
    ("x > y", "x", ""),
    ("x > on (a) group_left () y", "x", ""),
    ("x > y * 5", "x", ""),
    ("x > scalar(y)", "x", ""),
    ("x > Inf", "x", ""),
    ("x == NaN", "x", ""),
    ("1 > 0", "1 > 0", ""),
    ("", "", ""),
    (")(", ")(", ""),
    ("x > ", "x >", ""),
    ("> 5", "> 5", ""),
    ("x > \"", "x", ""),
    // Several comparisons, and set operators.
    ("x > 5 and y > 3", "x", "> 5"),
    ("x > 5 or y > 3", "x", "> 5"),
    ("x or y > 3", "x or y > 3", ""),
    ("x and y > 3", "x", ""),
    ("x > 5 unless on (a) y", "x", "> 5"),
    ("x > 5 AND y", "x", "> 5"),
    ("(x > 5 and y) or (z > 3)", "x", "> 5"),
    ("(x > 5) < 10", "x", "< 10"),
    ("x > 5 < 10", "x", "< 10"),
    ("(x > y) > 3", "x", "> 3"),
    ("(x > bool 5) == 1", "x > bool 5", "= 1"),
    ("(x > bool 5) == y", "x > bool 5", ""),
    ("sum(x > bool 5) > 2", "sum(x > bool 5)", "> 2"),
    ("(x > 5) * 100", "(x > 5) * 100", ""),
    ("default > 5", "default", "> 5"),
    // VictoriaMetrics.
    ("sum(rate(x)) by (a) keep_metric_names > 1", "sum(rate(x)) by (a) keep_metric_names", "> 1"),
    ("x > 5 if y", "x", "> 5"),
    ("x > 5 default 0", "x", "> 5"),
    // kube-prometheus-stack.
    (
        "max_over_time(kube_pod_container_status_waiting_reason{reason=\"CrashLoopBackOff\", job=\"kube-state-metrics\", \
         namespace=~\".*\"}[5m]) >= 1",
        "max_over_time(kube_pod_container_status_waiting_reason{reason=\"CrashLoopBackOff\", job=\"kube-state-metrics\", \
         namespace=~\".*\"}[5m])",
        "≥ 1",
    ),
    (
        "sum by (namespace, pod, cluster) (\n  max by (namespace, pod, cluster) (\n    kube_pod_status_phase{phase=~\
         \"Pending|Unknown\"}\n  ) * on (namespace, pod, cluster) group_left(owner_kind) topk by (namespace, pod, cluster) \
         (\n    1, max by (namespace, pod, owner_kind, cluster) (kube_pod_owner{owner_kind!=\"Job\"})\n  )\n) > 0\n",
        "sum by (namespace, pod, cluster) (\n  max by (namespace, pod, cluster) (\n    kube_pod_status_phase{phase=~\
         \"Pending|Unknown\"}\n  ) * on (namespace, pod, cluster) group_left(owner_kind) topk by (namespace, pod, cluster) \
         (\n    1, max by (namespace, pod, owner_kind, cluster) (kube_pod_owner{owner_kind!=\"Job\"})\n  )\n)",
        "> 0",
    ),
    (
        "(\n  kube_deployment_spec_replicas{job=\"ksm\"}\n    >\n  kube_deployment_status_replicas_available{job=\"ksm\"}\n) \
         and (\n  changes(kube_deployment_status_replicas_updated{job=\"ksm\"}[10m])\n    ==\n  0\n)\n",
        "kube_deployment_spec_replicas{job=\"ksm\"}",
        "",
    ),
    (
        "time() - max by (namespace, job_name, cluster) (kube_job_status_start_time{job=\"ksm\"}\n  and\n\
         kube_job_status_active{job=\"ksm\"} > 0) > 43200",
        "time() - max by (namespace, job_name, cluster) (kube_job_status_start_time{job=\"ksm\"}\n  and\n\
         kube_job_status_active{job=\"ksm\"} > 0)",
        "> 43200",
    ),
    (
        "(\n  kubelet_volume_stats_available_bytes{job=\"kubelet\"}\n    /\n  kubelet_volume_stats_capacity_bytes{job=\
         \"kubelet\"}\n) < 0.03\nand\nkubelet_volume_stats_used_bytes{job=\"kubelet\"} > 0\nunless on (cluster, namespace, \
         persistentvolumeclaim)\nkube_persistentvolumeclaim_access_mode{access_mode=\"ReadOnlyMany\"} == 1\n",
        "kubelet_volume_stats_available_bytes{job=\"kubelet\"}\n    /\n  kubelet_volume_stats_capacity_bytes{job=\
         \"kubelet\"}",
        "< 0.03",
    ),
    (
        "sum by (cluster) (apiserver_request:burnrate1h) > (14.40 * 0.01000)\nand on (cluster)\n\
         sum by (cluster) (apiserver_request:burnrate5m) > (14.40 * 0.01000)",
        "sum by (cluster) (apiserver_request:burnrate1h)",
        "> 0.14400000000000002",
    ),
    (
        "histogram_quantile(0.99, sum(rate(etcd_disk_wal_fsync_duration_seconds_bucket{job=~\".*etcd.*\"}[5m])) by \
         (instance, le)) > 0.5",
        "histogram_quantile(0.99, sum(rate(etcd_disk_wal_fsync_duration_seconds_bucket{job=~\".*etcd.*\"}[5m])) by \
         (instance, le))",
        "> 0.5",
    ),
    (
        "100 * (count(up == 0) BY (cluster, job, namespace, service) / count(up) BY (cluster, job, namespace, service)) > 10",
        "100 * (count(up == 0) BY (cluster, job, namespace, service) / count(up) BY (cluster, job, namespace, service))",
        "> 10",
    ),
    (
        "((((ALERTS{severity = \"info\"} == 1)) unless on (namespace) ALERTS{alertname != \"x\"}))",
        "ALERTS{severity = \"info\"}",
        "= 1",
    ),
    (
        "kubelet_certificate_manager_client_ttl_seconds < 604800",
        "kubelet_certificate_manager_client_ttl_seconds",
        "< 604800",
    ),
    // node-exporter.
    (
        "(\n  node_filesystem_avail_bytes{job=\"node\",fstype!=\"\"} / node_filesystem_size_bytes{job=\"node\",fstype!=\"\"} \
         * 100 < 3\nand\n  node_filesystem_readonly{job=\"node\",fstype!=\"\"} == 0\n)\n",
        "node_filesystem_avail_bytes{job=\"node\",fstype!=\"\"} / node_filesystem_size_bytes{job=\"node\",fstype!=\"\"} \
         * 100",
        "< 3",
    ),
    (
        "(\n  node_timex_offset_seconds{job=\"node\"} > 0.05\nand\n  deriv(node_timex_offset_seconds{job=\"node\"}[5m]) >= \
         0\n)\nor\n(\n  node_timex_offset_seconds{job=\"node\"} < -0.05\nand\n  deriv(node_timex_offset_seconds{job=\"node\"}\
         [5m]) <= 0\n)\n",
        "node_timex_offset_seconds{job=\"node\"}",
        "> 0.05",
    ),
    (
        "(\n  node_load1{job=\"node\"}\n  / count without (cpu, mode) (node_cpu_seconds_total{job=\"node\", mode=\"idle\"}) > \
         2\n)",
        "node_load1{job=\"node\"}\n  / count without (cpu, mode) (node_cpu_seconds_total{job=\"node\", mode=\"idle\"})",
        "> 2",
    ),
    (
        "predict_linear(node_filesystem_avail_bytes[6h], 24*60*60) < 0",
        "predict_linear(node_filesystem_avail_bytes[6h], 24*60*60)",
        "< 0",
    ),
    // blackbox exporter.
    ("probe_success == 0", "probe_success", "= 0"),
    ("probe_ssl_earliest_cert_expiry - time() < 86400 * 30", "probe_ssl_earliest_cert_expiry - time()", "< 2592000"),
    (
        "0 <= round((last_over_time(probe_ssl_earliest_cert_expiry[10m]) - time()) / 86400, 0.1) < 3",
        "round((last_over_time(probe_ssl_earliest_cert_expiry[10m]) - time()) / 86400, 0.1)",
        "< 3",
    ),
    ("probe_http_status_code <= 199 OR probe_http_status_code >= 400", "probe_http_status_code", "≤ 199"),
];

#[test]
fn what_is_drawn_of_rules() {
    for (expr, drawn, line) in RULES {
        let found = watched(expr);
        let threshold = found.threshold.map(|line| format!("{} {}", line.compared, line.value)).unwrap_or_default();
        assert_eq!((found.expr.as_str(), threshold.as_str()), (*drawn, *line), "{expr}");
        if parsed(expr).is_some() {
            assert!(parsed(&found.expr).is_some(), "{expr} is PromQL, but {drawn} is not");
        }
    }
}

#[test]
fn deep_and_long_expressions_are_passed_on() {
    let deep = format!("{}x{} > 5", "(".repeat(5000), ")".repeat(5000));
    assert!(watched(&deep).expr.len() < deep.len());
    let long = format!("{} > 5", "x > ".repeat(4000) + "x");
    assert!(watched(&long).expr.len() < long.len());
    assert!(parsed(&deep).is_none());
}

proptest::proptest! {
    #[test]
    fn nothing_panics(expr in "(x|and|or|>|<|==|bool|\\(|\\)|\\{|5| |-|\"|'|#|\n|ü){0,24}") {
        let _ = watched(&expr);
    }
}
