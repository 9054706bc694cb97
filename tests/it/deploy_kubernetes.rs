//! What lies in `deploy/kubernetes/`: kustomize renders it, the published schemas take it, strictly, and the receiver takes
//! the config and the secret files that the pod gives it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::harness::{process::Scratch, synapse::python};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn folder() -> PathBuf {
    Path::new(ROOT).join("deploy/kubernetes")
}

fn stdout(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn render(directory: &Path) -> String {
    let program = Path::new(ROOT).join(".tools/kustomize-build");
    assert!(program.exists(), "kustomize is not installed: no {}; run `make tools`", program.display());
    stdout(Command::new(program).arg(directory).output().expect("kustomize starts"))
}

/// Runs the check on `text`.
fn validate(options: &[&str], text: &str) -> Output {
    let script = Path::new(ROOT).join("tests/deploy/validate.py");
    let mut command = Command::new(python());
    command.arg("-B").arg(script).args(options).arg("-");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("python starts");
    let mut stdin = child.stdin.take().expect("a piped stdin");
    stdin.write_all(text.as_bytes()).expect("the check reads");
    drop(stdin);
    child.wait_with_output().expect("a child can be waited for")
}

fn assert_valid(text: &str) {
    stdout(validate(&[], text));
}

fn overlays() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join("overlays")).expect("a folder");
    let mut overlays: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    overlays.sort();
    assert!(overlays.len() >= 3, "{overlays:?}");
    overlays
}

fn kinds(manifests: &str) -> Vec<&str> {
    let mut kinds: Vec<_> = manifests.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn each_overlay_renders_and_is_valid() {
    for overlay in overlays() {
        let manifests = render(&overlay);
        assert_valid(&manifests);
        for kind in ["ConfigMap", "NetworkPolicy", "Service"] {
            assert!(kinds(&manifests).contains(&kind), "{}: no {kind}", overlay.display());
        }
        let replicated = overlay.ends_with("replicated");
        for (kind, expected) in
            [("Deployment", !replicated), ("PersistentVolumeClaim", !replicated), ("StatefulSet", replicated)]
        {
            assert_eq!(kinds(&manifests).contains(&kind), expected, "{}: {kind}", overlay.display());
        }
    }
}

#[test]
fn each_overlay_holds_what_its_name_says() {
    let more = |overlay: &str| {
        let manifests = render(&folder().join("overlays").join(overlay));
        let base = ["ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service"];
        kinds(&manifests).into_iter().filter(|kind| !base.contains(kind)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(more("plain-secret"), ["Secret"]);
    assert_eq!(more("external-secrets"), ["ExternalSecret", "PrometheusRule", "ServiceMonitor"]);
    let homelab = ["AlertmanagerConfig", "ExternalSecret", "PrometheusRule", "ServiceMonitor"];
    assert_eq!(more("homelab"), homelab);
    assert_eq!(more("homelab-https"), [&homelab[..1], &["Certificate"], &homelab[1..]].concat());
    let replicated = ["ExternalSecret", "PodDisruptionBudget", "PrometheusRule", "ServiceMonitor", "StatefulSet"];
    assert_eq!(more("replicated"), replicated);
}

/// An operator's overlay: a resource of ours with components of ours.
fn replicated(scratch: &Scratch, resource: &str, components: &[&str]) -> PathBuf {
    // Kustomize takes relative paths alone.
    let here = scratch.path().canonicalize().expect("a folder");
    let up = "../".repeat(here.components().count() - 1);
    let base = format!("{up}{}", folder().strip_prefix("/").expect("an absolute path").display());
    let components: Vec<_> = components.iter().map(|name| format!("{base}/components/{name}")).collect();
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: monitoring\n\
         resources: [{base}/{resource}]\ncomponents: [{}]\n",
        components.join(", ")
    );
    scratch.write("kustomization.yaml", &text);
    here
}

/// The component goes with any way to keep the secret, and with HTTPS.
#[test]
fn replicas_go_with_a_plain_secret_and_with_https() {
    for (resource, components) in
        [("overlays/plain-secret", &["replicated"][..]), ("overlays/homelab", &["replicated", "tls"])]
    {
        let scratch = Scratch::new("replicated");
        let manifests = render(&replicated(&scratch, resource, components));
        assert!(kinds(&manifests).contains(&"StatefulSet") && manifests.contains("DATABASE_URL"), "{manifests}");
        assert_valid(&manifests);
    }
}

#[test]
fn replicas_that_do_not_stand_in_for_each_other_are_found() {
    let faults = [
        ("replicas: 2", "replicas: 1", "fewer than two"),
        ("replicas: 2", "replica: 2", "replica"),
        ("podManagementPolicy: Parallel", "podManagementPolicy: OrderedReady", "keeps the others away"),
        ("type: RollingUpdate", "type: OnDelete", "not rolling"),
        ("clusterIP: None", "clusterIP: 10.0.0.9", "not headless"),
        ("maxUnavailable: 1", "maxUnavailable: 2", "more than one"),
        ("maxUnavailable: 1", "minUnavailable: 1", "minUnavailable"),
        ("name: MAR_STORE__DATABASE_URL_FILE", "name: MAR_STORE__REPLICA", "one name"),
        ("receiver/DATABASE_URL", "receiver/URL", "nothing puts a file"),
        ("secretKey: DATABASE_URL", "secretKey: DATABASE", "the secret has"),
        ("port: 5432", "port: 3306", "keeps it from the database"),
        ("topologyKey: kubernetes.io/hostname", "topologyKey: kubernetes.io/os", "on one node"),
        ("operator: DoesNotExist", "operator: Exists", "by 2 services"),
        ("terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 1", "not that of the base"),
        ("name: store\n    spec:", "name: data\n    spec:", "mounted are"),
    ];
    are_found(&render(&folder().join("overlays/replicated")), &faults);
}

#[test]
fn argo_cd_resources_are_valid() {
    for file in ["application.yaml", "addons.yaml"] {
        let text = fs::read_to_string(folder().join("argocd").join(file)).expect("a file");
        assert_valid(&text);
        let path = text.lines().find_map(|line| line.trim().strip_prefix("path: deploy/kubernetes/")).expect("a path");
        assert!(folder().join(path).is_dir(), "{path}");
    }
}

/// Whoever calls it has to know, by the right name and authority.
#[test]
fn https_on_one_side_alone_is_found() {
    let faults = [
        ("scheme: HTTPS", "scheme: HTTP", "livenessProbe asks by HTTP"),
        ("scheme: https", "scheme: http", "scrapes by http"),
        ("url: https://matrix", "url: http://matrix", "does not post by https"),
        ("key: ca.crt\n              name", "key: tls.crt\n              name", "does not post by https"),
        ("serverName: matrix-alertmanager-receiver.monitoring.svc", "serverName: other", "does not have"),
        ("- matrix-alertmanager-receiver.monitoring.svc\n", "- other\n", "does not have"),
        ("secretName: matrix-alertmanager-receiver-tls\n  usages", "secretName: other\n  usages", "no Certificate"),
        ("matrix-alertmanager-receiver-tls/tls.key", "matrix-alertmanager-receiver-tls/key.pem", "nothing puts a file"),
        ("rotationPolicy: Always", "rotationPolicy: Sometimes", "Sometimes"),
    ];
    are_found(&render(&folder().join("overlays/homelab-https")), &faults);
}

/// A check that takes everything would be none. What is replaced, by what, and a word of the fault.
#[test]
fn what_is_wrong_is_found() {
    let faults = [
        // Unknown to the schemas: a field of a built-in kind, of custom ones, and of a nested route.
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "readOnlyRootFileSystem"),
        ("secretStoreRef:", "secretStoreRefs:", "secretStoreRefs"),
        ("sendResolved: true", "sendresolved: true", "sendresolved"),
        ("interval: 30s", "interval: often", "often"),
        ("repeatInterval: 24h", "repeat_interval: 24h", "repeat_interval"),
        ("replicas: 1", "replicas: 1\n  replicas: 2", "given twice"),
        ("replicas: 1", "replicas: one", "'one'"),
        // Known to the schemas, and wrong all the same.
        ("path: /livez", "path: /healthz/delivery", "/healthz"),
        ("type: Recreate", "type: RollingUpdate", "Recreate"),
        ("targetPort: http", "targetPort: web", "web"),
        ("claimName: matrix", "claimName: other", "PersistentVolumeClaim other"),
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: true", "token"),
        ("secretKey: WEBHOOK_TOKEN", "secretKey: WEBHOOK", "the secret has"),
        ("      decodingStrategy: None\n", "", "leaves the default decodingStrategy"),
        ("receiver/MATRIX_ROOM_ID", "receiver/ROOM", "nothing puts a file"),
        ("groupInterval: 1m", "groupInterval: 5m", "not that of the values"),
        ("key: WEBHOOK_TOKEN", "key: MATRIX_ACCESS_TOKEN", "does not post as"),
    ];
    are_found(&render(&folder().join("overlays/homelab")), &faults);
}

fn are_found(good: &str, faults: &[(&str, &str, &str)]) {
    for (from, to, word) in faults {
        assert!(good.contains(from), "{from}");
        let output = validate(&[], &good.replacen(from, to, 1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(word), "{from} -> {to}: {stderr:?}");
        assert!(!stderr.contains("Traceback"), "{from} -> {to}: {stderr}");
    }
}

#[test]
fn the_image_is_named_in_one_place() {
    let mut named = Vec::new();
    let mut todo = vec![folder()];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "yaml")
            && fs::read_to_string(&path).expect("a file").contains("ghcr.io/")
        {
            named.push(path);
        }
    }
    assert_eq!(named, [folder().join("base/kustomization.yaml")]);
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("image: ghcr.io/example/matrix-alertmanager-receiver:{version}\n");
    assert!(render(&folder().join("overlays/plain-secret")).contains(&image));
}

/// The variables and the files that the pod would have, with the secret's placeholders in them.
#[test]
fn the_receiver_takes_what_the_pod_gives_it() {
    let (alone, files) = checked(&render(&folder().join("overlays/plain-secret")));
    assert!(files == 6 && !alone.contains("PostgreSQL"), "{files}: {alone}");
    let scratch = Scratch::new("replicated");
    let (replica, files) = checked(&render(&replicated(&scratch, "overlays/plain-secret", &["replicated"])));
    assert!(files == 7 && replica.contains("store: shared in PostgreSQL; this replica is "), "{files}: {replica}");
}

/// What `check` says in a pod of these manifests, and how many files its variables name.
fn checked(manifests: &str) -> (String, usize) {
    let scratch = Scratch::new("kubernetes");
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
    command.arg("check").env_clear().env("MAR_STORE__PATH", scratch.join("store"));
    // What the image presets.
    command.env("MAR_HTTP__LISTEN", "0.0.0.0:9088");
    let lines: Vec<_> = manifests.lines().map(|line| line.trim_start_matches([' ', '-'])).collect();
    let mut files = 0;
    for pair in lines.windows(2) {
        let (Some(name), Some(path)) = (pair[0].strip_prefix("name: "), pair[1].strip_prefix("value: /")) else {
            continue;
        };
        let key = path.rsplit('/').next().expect("a name");
        let text = if name == "MAR_CONFIG" {
            fs::read_to_string(folder().join("base").join(key)).expect("a file")
        } else {
            let found = lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            found.unwrap_or_else(|| panic!("{key} is not in the secret")).trim_matches(['"', '\'']).to_owned()
        };
        command.env(name, scratch.write(key, &text));
        files += 1;
    }
    let output = command.output().expect("the receiver's binary starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    (said, files)
}

#[test]
fn the_charts_values_route_alertmanager_here() {
    let values = |file: &str| fs::read_to_string(folder().join("kube-prometheus-stack").join(file)).expect("a file");
    stdout(validate(&["--values"], &values("values-alertmanagerconfig.yaml")));
    let good = values("values.yaml");
    let config = stdout(validate(&["--values"], &good));
    let scratch = Scratch::new("values");
    let path = scratch.write("alertmanager.yml", &config);
    let amtool = |args: &[&str]| stdout(Command::new("amtool").args(args).output().expect("amtool starts"));
    let file = format!("--config.file={}", path.display());
    amtool(&["check-config", path.to_str().expect("UTF-8")]);
    let routed = |labels: &[&str]| amtool(&[&["config", "routes", "test", &file], labels].concat());
    assert_eq!(routed(&["alertname=Watchdog", "severity=none"]), "dead-mans-switch\n");
    assert_eq!(routed(&["alertname=ReceiverDown", "severity=critical", "notify=out-of-band"]), "out-of-band,matrix\n");
    assert_eq!(routed(&["alertname=KubePodNotReady", "severity=warning"]), "matrix\n");
    assert_eq!(routed(&["alertname=InfoInhibitor", "severity=none"]), "null\n");

    for (from, to, word) in [
        ("volumeMounts:", "volumeMount:", "volumeMount"),
        ("path: WEBHOOK_TOKEN", "path: token", "nothing puts a file"),
    ] {
        let output = validate(&["--values"], &good.replacen(from, to, 1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(word), "{from} -> {to}: {stderr:?}");
    }
}
