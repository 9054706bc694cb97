#!/usr/bin/env python3
"""Holds what deploy/ has for Kubernetes against a real API server: each overlay is taken as it is, twice, in the ways in
which people and Argo CD apply it, and nothing differs afterwards; pods are admitted; each file of deploy/helm/tests/ can be
installed, upgraded and uninstalled; the READMEs' commands work; and faults that are put in are found.

    cluster.py PROGRAMS CRDS HELM

One line for each thing, one for each fault, and exit code 1. scripts/cluster makes the programs. Needs PyYAML."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import yaml
from apiserver import Cluster, wait_for
from strict_yaml import Loader

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
OURS, NAMESPACE = "matrix-alertmanager-receiver", "monitoring"
CHART, VALUES = DEPLOY / "helm" / OURS, DEPLOY / "helm/tests"
KUSTOMIZATIONS = [*sorted((DEPLOY / "kubernetes/overlays").iterdir()), DEPLOY / "grafana", DEPLOY / "prometheus"]
READMES = [DEPLOY / "kubernetes/README.md", CHART / "README.md"]
NEEDS_NODE = ("exec", "rollout", "test")
# What some values files take for granted.
GIVEN = [("namespace", "grafana"), ("serviceaccount", "receiver", "--namespace", NAMESPACE)]
# An overlay, what is broken in its rendering, and words that must be said of it.
FAULTS = [
    ("plain-secret", "        seccompProfile:\n          type: RuntimeDefault\n", "",
     ["dry-run=server: Deployment/", "would violate PodSecurity", "a pod is refused", "seccompProfile"]),
    ("replicated", "runAsNonRoot: true", "runAsNonRoot: false",
     ["StatefulSet/", "would violate PodSecurity", "a pod is refused", "runAsNonRoot"]),
    ("replicated", "      volumeMode: Filesystem\n", "",
     [f"StatefulSet/{OURS}: ", "conflict with", ".spec.volumeClaimTemplates"]),
    ("plain-secret", "enableServiceLinks:", "enableServiceLink:",
     [f"Deployment/{OURS}: ", "enableServiceLink: field not declared"]),
    ("plain-secret", "namespace: monitoring", "namespace: monitor", ['namespaces "monitor" not found']),
    ("external-secrets", "      conversionStrategy: Default\n", "",
     [f"ExternalSecret/{OURS}-secrets: ", "spec.data is not kept as it is written", "conflict with"]),
    ("external-secrets", "interval: 30s", "interval: 30",
     [f"ServiceMonitor/{OURS}: ", "spec.endpoints[0].interval", "expected string"]),
]
# The same of the chart: a values file, what is set beside it, and words.
CHART_FAULTS = [
    ("default", ["--set", "securityContext.allowPrivilegeEscalation=true"],
     ["would violate PodSecurity", "a pod is refused", f"Pod/{OURS}-test: "]),
    ("default", ["--set", "networkPolicy.from[0].ipBlock.cidr=nowhere"], ["NetworkPolicy", "ipBlock.cidr"]),
]


class Refused(Exception):
    """After it nothing more can be said of that thing."""


def say(text):
    print(f"cluster: {text}", flush=True)


class Manifests:
    def __init__(self, text):
        self.text = text
        self.documents = [document for document in yaml.load_all(text, Loader) if document is not None]
        # deploy/grafana and deploy/prometheus leave the namespace to whoever takes them.
        named = all("namespace" in document["metadata"] for document in self.documents)
        self.where = [] if named else [f"--namespace={NAMESPACE}"]

    def of_kind(self, *kinds):
        return [document for document in self.documents if document["kind"] in kinds]


def name_of(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def is_custom(document):
    group = document["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def merged(live, written):
    """A JSON merge patch, of which a list is taken as a whole."""
    if not isinstance(live, dict) or not isinstance(written, dict):
        return written
    return {**live, **{key: merged(live.get(key), value) for key, value in written.items()}}


def commands(readme):
    """What a page has people type in a cluster, apart from what needs a node."""
    language, found = None, []
    for line in readme.read_text().replace("\\\n", " ").splitlines():
        if line.strip().startswith("```"):
            language = line.strip()[3:] if language is None else None
        elif language == "" and line.split()[:1] in (["kubectl"], ["helm"]) and not set(line.split()) & set(NEEDS_NODE):
            found.append(line.strip())
    return found


class Checks:
    """Each check yields its faults, and leaves the namespace as empty as it was."""

    def __init__(self, cluster):
        self.cluster = cluster

    def done(self, *command, given=None):
        """A step that is not what is checked."""
        output = self.cluster.run(*command, given=given)
        if output.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {output.stderr}")
        return output.stdout

    def apply(self, given, *options):
        options = ["apply", "--validate=strict", *options, *given.where]
        output = self.cluster.kubectl(*options, "--filename=-", given=given.text)
        if not output.returncode and not output.stderr:
            return
        # Which of them it was is not always said: one by one, without effect.
        alone = [(document, self.said_of(document, options)) for document in given.documents]
        faults = [f"{' '.join(options)}: {name_of(document)}: {said}" for document, said in alone if said]
        faults = faults or [f"{' '.join(options)}: {output.stderr.strip()}"]
        if output.returncode:
            raise Refused("\n".join(faults))
        yield from faults

    def said_of(self, document, options):
        dry = [option for option in options if not option.startswith("--dry-run")] + ["--dry-run=server"]
        return self.cluster.kubectl(*dry, "--filename=-", given=json.dumps(document)).stderr.strip()

    def differences(self, given, *options):
        output = self.cluster.kubectl("diff", *options, *given.where, "--filename=-", given=given.text)
        if output.returncode or output.stderr:
            yield f"diff {' '.join(options)} is not empty: {output.stdout[-2000:]}{output.stderr[-500:]}"

    def drift(self, given):
        """Argo CD's comparison of custom resources: what the server fills in within a list is a difference for ever."""
        output = self.done("kubectl", "get", "--output=json", *given.where, "--filename=-", given=given.text)
        answer = json.loads(output)
        live = {name_of(found): found for found in answer.get("items", [answer])}
        for document in filter(is_custom, given.documents):
            kept = live[name_of(document)]["spec"]
            for field, value in document["spec"].items():
                if merged(kept.get(field), value) != kept.get(field):
                    said = json.dumps(kept.get(field))[:300]
                    yield f"{name_of(document)}: spec.{field} is not kept as it is written: {said}"

    def pods(self, given):
        """The controllers make as many pods as are meant, which admission lets in."""
        for workload in given.of_kind("Deployment", "StatefulSet"):
            meant, labels = workload["spec"]["replicas"], workload["spec"]["selector"]["matchLabels"]
            try:
                refusal = wait_for("pod", lambda: self.refusal() or self.pod_count(labels) == meant, 20)
            except TimeoutError:
                refusal = f"there are {self.pod_count(labels)} of {meant}; " + "; ".join(self.warnings())
            if refusal is not True:
                yield f"{name_of(workload)}: a pod is refused: {refusal}"

    def items(self, kind, api="api/v1"):
        return self.cluster.items(f"/{api}/namespaces/{NAMESPACE}/{kind}")

    def pod_count(self, labels):
        return sum(labels.items() <= pod["metadata"]["labels"].items() for pod in self.items("pods"))

    def warnings(self):
        """About what is there: events of what was deleted may still arrive."""
        there = self.items("replicasets", "apis/apps/v1") + self.items("statefulsets", "apis/apps/v1")
        uids = {found["metadata"]["uid"] for found in there}
        events = [event for event in self.items("events") if event["involvedObject"].get("uid") in uids]
        return [event["message"] for event in events if event["type"] == "Warning"]

    def refusal(self):
        return next((message for message in self.warnings() if "violates PodSecurity" in message), None)

    def clear(self, given):
        if given.documents:
            options = ["--ignore-not-found", "--cascade=foreground", "--timeout=60s", *given.where]
            output = self.cluster.kubectl("delete", *options, "--filename=-", given=given.text)
            if output.returncode:
                raise RuntimeError(f"cannot be deleted: {output.stderr}")
        wait_for("namespace without pods", lambda: not self.items("pods"))
        self.done("kubectl", "delete", "persistentvolumeclaims,events", "--all", "--namespace", NAMESPACE)

    def manifests(self, given):
        """As Argo CD applies it, and as the README does."""
        server, argocd = "--server-side", "--field-manager=argocd-controller"
        try:
            yield from self.apply(given, server, "--dry-run=server")
            yield from self.apply(given, server)
            yield from self.pods(given)
            yield from self.drift(given)
            yield from self.apply(given, server)
            yield from self.differences(given, server)
            self.clear(given)
            yield from self.apply(given)
            yield from self.pods(given)
            yield from self.apply(given)
            yield from self.differences(given)
            # Who comes second need not force anything: kubectl takes over what was its own, others do not.
            yield from self.apply(given, server)
            yield from self.differences(given, server)
            self.clear(given)
            yield from self.apply(given)
            yield from self.apply(given, server, argocd)
            yield from self.differences(given, server, argocd)
        finally:
            self.clear(given)

    def helm(self, *arguments):
        output = self.cluster.run("helm", *arguments, "--namespace", NAMESPACE)
        if output.returncode:
            raise Refused(f"helm {arguments[0]}: {output.stderr.strip()}")
        if output.stderr:
            yield f"helm {arguments[0]}: {output.stderr.strip()}"
        return output.stdout

    def chart(self, values, *options):
        release = [OURS, CHART, "--values", VALUES / f"{values}.yaml", *options]
        manifest = Manifests("")
        try:
            yield from self.helm("install", *release)
            manifest = Manifests((yield from self.helm("get", "manifest", OURS)))
            yield from self.pods(manifest)
            yield from self.drift(manifest)
            before = self.state(manifest)
            yield from self.helm("upgrade", *release)
            yield from self.helm("upgrade", *release)
            yield from self.differences(manifest)
            if self.state(manifest) != before:
                yield f"an upgrade to the same changes what runs: {before}, {self.state(manifest)}"
            tests = Manifests((yield from self.helm("get", "hooks", OURS)))
            yield from self.apply(tests, "--dry-run=server")
            yield from self.uninstalled(manifest)
            # It takes the volume back that it left.
            yield from self.helm("install", *release)
            yield from self.pods(manifest)
        finally:
            self.cluster.run("helm", "uninstall", OURS, "--ignore-not-found", "--namespace", NAMESPACE)
            self.clear(manifest)

    def state(self, manifest):
        """What an upgrade that changes nothing must leave alone."""
        (workload,) = manifest.of_kind("Deployment", "StatefulSet")
        ask = ["kubectl", "get", name_of(workload), "--namespace", NAMESPACE, "--output=jsonpath={.metadata.generation}"]
        return self.done(*ask), sorted(pod["metadata"]["name"] for pod in self.items("pods"))

    def uninstalled(self, manifest):
        yield from self.helm("uninstall", OURS)
        wait_for("namespace without pods", lambda: not self.items("pods"))
        claims = {found["metadata"]["name"] for found in manifest.of_kind("PersistentVolumeClaim")}
        for lost in claims - {found["metadata"]["name"] for found in self.items("persistentvolumeclaims")}:
            yield f"PersistentVolumeClaim/{lost}: helm uninstall deleted it"
        left = self.cluster.kubectl("get", "--ignore-not-found", "--output=name", "--filename=-", given=manifest.text)
        for name in left.stdout.split():
            if not name.startswith("persistentvolumeclaim/"):
                yield f"{name}: helm uninstall left it"

    def taken_over(self, overlay):
        """From the overlay to the chart, as the chart's README says."""
        try:
            yield from self.apply(overlay)
            self.done("kubectl", "delete", f"deployment/{OURS}", "--namespace", NAMESPACE)
            yield from self.helm("install", OURS, CHART, "--take-ownership")
            yield from self.pods(Manifests((yield from self.helm("get", "manifest", OURS))))
        finally:
            self.cluster.run("helm", "uninstall", OURS, "--ignore-not-found", "--namespace", NAMESPACE)
            self.clear(overlay)

    def readme(self, page, folder):
        """In a namespace that is not there yet, as on the page."""
        lines = commands(page)
        if len(lines) < 3 or not lines[0].startswith("kubectl create namespace "):
            yield f"only {lines} were found, or no namespace is made first"
        for line in lines:
            output = self.cluster.run("bash", "-o", "pipefail", "-c", line, folder=folder)
            if output.returncode or output.stderr:
                yield f"{line}: {output.stderr.strip() or output.returncode}"
        self.done("kubectl", "delete", "namespace", NAMESPACE)

    def must_find(self, words, faults):
        said = "\n".join(faults)
        for word in words:
            if word not in said:
                yield f"{word!r} is not said of it: {said[:1500] or 'nothing is'}"


def collected(faults):
    found = []
    try:
        for fault in faults:
            found.append(fault)
    except (Refused, RuntimeError, TimeoutError) as error:
        found.append(str(error))
    return found


class Report:
    def __init__(self):
        self.failed = False

    def check(self, name, faults):
        since = time.monotonic()
        found = collected(faults)
        for fault in found:
            print(f"cluster: FAULT: {name}: {fault}", file=sys.stderr, flush=True)
        if not found:
            say(f"{name}: holds ({time.monotonic() - since:.1f} s)")
        self.failed = self.failed or bool(found)


def typing_place(folder, helm):
    """Where the READMEs' commands find what they name."""
    place = folder / "typed"
    place.mkdir()
    (place / "deploy").symlink_to(DEPLOY)
    (place / "helm").symlink_to(helm)
    (place / "token.txt").write_text("syt_token")
    (place / "values.yaml").write_text("{}\n")
    return place


def install_crds(cluster, folder):
    output = cluster.kubectl("apply", "--server-side", f"--filename={folder}")
    if output.returncode:
        raise RuntimeError(f"custom resource definitions: {output.stderr}")
    established = ["wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=30s"]
    # Right after they were made it may fail.
    wait_for("custom resource", lambda: cluster.kubectl(*established).returncode == 0)


def check_all(cluster, place, report):
    checks = Checks(cluster)
    for readme in READMES:
        report.check(f"commands of {readme.relative_to(ROOT)}", checks.readme(readme, place))
    for namespace in (NAMESPACE, "argocd"):
        checks.done("kubectl", "create", "namespace", namespace)
    rendered = {}
    for folder in KUSTOMIZATIONS:
        rendered[folder.name] = Manifests(checks.done("kubectl", "kustomize", folder))
        report.check(folder.relative_to(ROOT), checks.manifests(rendered[folder.name]))
    for file in sorted((DEPLOY / "kubernetes/argocd").iterdir()):
        report.check(file.relative_to(ROOT), checks.manifests(Manifests(file.read_text())))
    for given in GIVEN:
        checks.done("kubectl", "create", *given)
    for file in sorted(VALUES.glob("*.yaml")):
        report.check(f"chart with {file.relative_to(ROOT)}", checks.chart(file.stem))
    report.check("chart in place of the overlay plain-secret", checks.taken_over(rendered["plain-secret"]))
    for overlay, old, new, words in FAULTS:
        text, name = rendered[overlay].text, f"{overlay} with {' '.join(new.split()) or 'less'} for {' '.join(old.split())}"
        broken = collected(checks.manifests(Manifests(text.replace(old, new)))) if old in text else []
        report.check(f"fault found: {name}", checks.must_find(words, broken))
    for values, options, words in CHART_FAULTS:
        broken = collected(checks.chart(values, *options))
        report.check(f"fault found: chart with {options[1]}", checks.must_find(words, broken))


def main():
    programs, crds, helm = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cluster-"))
    cluster, report, since = Cluster(programs, folder), Report(), time.monotonic()
    try:
        place = typing_place(folder, helm)
        cluster.environment["PATH"] = f"{place}:{cluster.environment['PATH']}"
        cluster.start()
        install_crds(cluster, crds)
        say(f"{cluster.kubectl('version').stdout.splitlines()[-1]}, ready after {time.monotonic() - since:.1f} s")
        check_all(cluster, place, report)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(f"cluster: FAULT: {cluster.ended() or error}", file=sys.stderr)
        report.failed = True
    finally:
        cluster.stop()
    if report.failed:
        print(f"cluster: the servers' logs are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    say(f"all that was checked took {time.monotonic() - since:.0f} s")
    return 0


sys.exit(main())
