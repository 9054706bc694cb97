#!/usr/bin/env python3
"""Checks the Helm chart: it lints; each file of deploy/helm/tests/ renders to manifests that fit together; where chart and
kustomize say the same, they say it in the same words; and each file of deploy/helm/tests/refused/ is refused in the words
of its first line. Needs PyYAML; with jsonschema each document is held against the published schemas as well.

    chart.py HELM KUSTOMIZE

One line for each fault, and exit code 1."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import yaml
from strict_yaml import Loader

try:
    from jsonschema import Draft202012Validator
except ImportError:
    Draft202012Validator = None

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY, SCHEMAS = ROOT / "deploy", ROOT / "tests/deploy/schemas"
OURS = "matrix-alertmanager-receiver"
CHART, VALUES = DEPLOY / "helm" / OURS, DEPLOY / "helm/tests"
NAMESPACE, KUBERNETES = "monitoring", "1.34.0"
COPIES = {"files/rules.yaml": DEPLOY / "prometheus/rules.yaml", "files/dashboard.json": DEPLOY / "grafana/dashboard.json"}
# Values file: the overlay that it stands for.
TWINS = {"default": "plain-secret", "external-secrets": "external-secrets", "homelab": "homelab",
         "homelab-https": "homelab-https", "replicated": "replicated"}
# What the chart leaves to others: the secret's values, and Alertmanager's routing.
NOT_IN_CHART = {"Secret", "AlertmanagerConfig"}
# What is broken, in a rendering of which values, and a word of the fault.
FAULTS = [
    ("default", "path: /readyz, port", "path: /healthz, port", "is not that of the overlay"),
    ("default", "failureThreshold: 6", "failureThreshold: 3", "is not that of the overlay"),
    ("default", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    ("default", "name: WEBHOOK_TOKEN_FILE", "name: WEBHOOK_TOKENS_FILE", "is not that of the overlay"),
    ("default", "claimName: matrix", "claimName: other", "PersistentVolumeClaim/other"),
    ("default", "receiver-test\n    app", "receiver\n    app", "leads to the test's pod"),
    ("default", "updates = ", "update = ", "is not that of the overlay"),
    ("default", "mountPath: /run/secrets/", "mountPath: /run/secret/", "nothing is mounted"),
    ("default", "type: Recreate", "type: RollingUpdate", "is not that of the overlay"),
    ("external-secrets", "for: 5m", "for: 6m", "is not that of the overlay"),
    ("external-secrets", "conversionStrategy: Default", "conversionStrategy: Unicode", "is not that of the overlay"),
    ("external-secrets", "secretKey: WEBHOOK_TOKEN", "secretKey: WEBHOOK", "the ExternalSecret has no"),
    ("replicated", "operator: DoesNotExist", "operator: Exists", "is not that of the overlay"),
    ("replicated", "kind: PodDisruptionBudget", "kind: PodDisruption", "there is no PodDisruptionBudget"),
    ("replicated", "port: 5432", "port: 5433", "is not that of the overlay"),
]
# NOTES.txt as a manifest.
NOTES = '{{- define "notes" }}%s{{ end }}\nnotes: {{ include "notes" . | quote }}\n'


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def documents(text):
    return [document for document in yaml.load_all(text, Loader) if document is not None]


def name_of(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def normal(value):
    """Without what the two tell apart on purpose: labels by which each finds its pods, and the hash in a name."""
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, str):
        return re.sub(rf"^({OURS}-config)-[a-z0-9]{{10}}$", r"\1", value)
    if not isinstance(value, dict):
        return value
    if value == {"app": OURS} or value == {"app.kubernetes.io/name": OURS, "app.kubernetes.io/instance": OURS}:
        return "the receiver's pods"
    return {key: normal(item) for key, item in value.items()}


def content(document):
    """What is compared of it."""
    if document["kind"] == "ConfigMap":
        return {key: tomllib.loads(text) if key.endswith(".toml") else text for key, text in document["data"].items()}
    spec = normal(document["spec"])
    # What the API server fills in.
    if document["kind"] == "Service" and spec.get("type") == "ClusterIP":
        del spec["type"]
    template = spec.get("template")
    if template:
        container = template["spec"]["containers"][0]
        container.pop("imagePullPolicy", None)
        template["metadata"] = {"annotations": {"kubectl.kubernetes.io/default-container": "receiver"}}
    for claim in spec.get("volumeClaimTemplates", []):
        claim["metadata"] = {"name": claim["metadata"]["name"]}
    if document["kind"] == "NetworkPolicy":
        # The chart's own test asks as well.
        spec["ingress"][0]["from"] = [peer for peer in spec["ingress"][0]["from"] if f"{OURS}-test" not in json.dumps(peer)]
    return spec


def differences(ours, theirs, path=""):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            yield from differences(ours.get(key), theirs.get(key), f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f"{path}/{index}")
    elif ours != theirs:
        yield f"{path} is not that of the overlay: {str(ours)[:200]}, {str(theirs)[:200]}"


class Rendering:
    def __init__(self, text):
        self.documents = documents(text)

    def all(self, *kinds):
        return [document for document in self.documents if document["kind"] in kinds]

    def faults(self):
        names = [(name_of(document), document["metadata"].get("namespace")) for document in self.documents]
        for name, namespace in names:
            if names.count((name, namespace)) > 1:
                yield f"{name} is there twice"
            if namespace != NAMESPACE and not (name.startswith("ConfigMap/") and "dashboard" in name):
                yield f"{name} is in namespace {namespace}"
        for document in self.documents:
            yield from self.of_schema(document)
            for label, value in document["metadata"]["labels"].items():
                if not re.fullmatch(r"([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?", str(value)):
                    yield f"{name_of(document)}: label {label} is {value!r}"
        workloads, tests = self.all("Deployment", "StatefulSet"), self.all("Pod")
        if len(workloads) != 1 or len(tests) != 1:
            yield f"{len(workloads)} workloads and {len(tests)} pods, one of each is meant"
            return
        template = workloads[0]["spec"]["template"]
        yield from self.selectors(workloads[0], tests[0])
        for pod in (template["spec"], tests[0]["spec"]):
            yield from self.locked_down(pod)
        yield from self.volumes(workloads[0], template["spec"])
        if workloads[0]["kind"] == "StatefulSet":
            if not self.all("PodDisruptionBudget"):
                yield "there is no PodDisruptionBudget"
            if workloads[0]["spec"]["serviceName"] not in [service["metadata"]["name"] for service in self.all("Service")]:
                yield "the governing Service is not there"

    def of_schema(self, document):
        if Draft202012Validator is None:
            return
        schema, instance = f"{document['apiVersion'].replace('/', '_')}_{document['kind']}.json", document
        if document["kind"] == "Pod":
            definitions = json.loads((SCHEMAS / "apps_v1_Deployment.json").read_text())["$defs"]
            name = next(name for name in definitions if name.endswith("PodSpec"))
            schema, instance = {"$ref": f"#/$defs/{name}", "$defs": definitions}, document["spec"]
        elif (SCHEMAS / schema).exists():
            schema = json.loads((SCHEMAS / schema).read_text())
        else:
            yield f"{name_of(document)}: there is no schema {schema}"
            return
        for error in Draft202012Validator(schema).iter_errors(instance):
            yield f"{name_of(document)}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"

    def selectors(self, workload, test):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        selectors = {name_of(workload): workload["spec"]["selector"]["matchLabels"]}
        for service in self.all("Service"):
            selectors[name_of(service)] = service["spec"]["selector"]
            if service["spec"]["selector"].items() <= test["metadata"]["labels"].items():
                yield f"{name_of(service)}: leads to the test's pod"
        for policy in self.all("NetworkPolicy"):
            selectors[name_of(policy)] = policy["spec"]["podSelector"]["matchLabels"]
            allowed = [peer.get("podSelector", {}).get("matchLabels") for peer in policy["spec"]["ingress"][0]["from"]]
            if test["metadata"]["labels"] not in allowed:
                yield f"{name_of(policy)}: keeps the test's pod out"
        for budget in self.all("PodDisruptionBudget"):
            selectors[name_of(budget)] = budget["spec"]["selector"]["matchLabels"]
        for name, selector in selectors.items():
            if not selector.items() <= labels.items():
                yield f"{name}: selects {selector}, the pod has {labels}"
        services = [service["metadata"]["labels"] for service in self.all("Service")]
        for monitor in self.all("ServiceMonitor"):
            selector = monitor["spec"]["selector"]
            absent = [rule["key"] for rule in selector.get("matchExpressions", []) if rule["operator"] == "DoesNotExist"]
            found = [service for service in services if selector["matchLabels"].items() <= service.items()]
            if len([service for service in found if not service.keys() & set(absent)]) != 1:
                yield f"{name_of(monitor)}: does not find one Service"

    def locked_down(self, pod):
        (container,) = pod["containers"]
        if pod["securityContext"].get("runAsNonRoot") is not True:
            yield f"{container['name']}: runAsNonRoot is not true"
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        if container["securityContext"] != wanted or pod["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{container['name']}: Pod Security `restricted` would refuse it, or its root can be written"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{container['name']}: gets a service account token"
        if not re.fullmatch(r"\S+/\S+(:[\w.-]+|@sha256:[0-9a-f]{64})", container["image"]):
            yield f"{container['name']}: the image is {container['image']}"

    def volumes(self, workload, pod):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = [volume["name"] for volume in pod["volumes"]]
        volumes += [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
        if sorted(mounts) != sorted(volumes):
            yield f"mounted are {sorted(mounts)}, volumes {sorted(volumes)}"
        claims = [name_of(claim) for claim in self.all("PersistentVolumeClaim")]
        for volume in pod["volumes"]:
            name = f"PersistentVolumeClaim/{volume.get('persistentVolumeClaim', {}).get('claimName')}"
            if claims and "persistentVolumeClaim" in volume and name not in claims:
                yield f"there is no {name}"
        variables = [variable["name"] for variable in container["env"]]
        if len(variables) != len(set(variables)):
            yield f"a variable is set twice: {variables}"
        keys = {entry["secretKey"] for secret in self.all("ExternalSecret") for entry in secret["spec"]["data"]}
        for variable in container["env"]:
            if not variable["name"].endswith("_FILE"):
                continue
            path = pathlib.PurePosixPath(variable["value"])
            if str(path.parent) not in mounts.values():
                yield f"{variable['name']}: nothing is mounted at {path.parent}"
            if keys and path.parent.name == OURS and path.name not in keys:
                yield f"{variable['name']}: the ExternalSecret has no {path.name}"

    def compared(self, overlay):
        ours = {normal(name_of(document).split("/")[1]) + document["kind"]: document for document in self.documents}
        for theirs in overlay:
            if theirs["kind"] in NOT_IN_CHART:
                continue
            found = ours.get(normal(theirs["metadata"]["name"]) + theirs["kind"])
            if found is None:
                yield f"there is no {name_of(theirs)}, which the overlay has"
                continue
            for difference in differences(content(found), content(theirs)):
                yield f"{name_of(found)}: {difference}"
            labels = {**theirs["metadata"].get("labels", {})}
            labels.pop("app", None)
            for label, value in labels.items():
                if found["metadata"]["labels"].get(label) != value:
                    yield f"{name_of(found)}: label {label} is not that of the overlay"
            for note, value in theirs["metadata"].get("annotations", {}).items():
                if found["metadata"].get("annotations", {}).get(note) != value:
                    yield f"{name_of(found)}: annotation {note} is not that of the overlay"


def same_keys(values, schema, path=""):
    """Each value has a schema, and each key of the schema a default with words beside it."""
    properties = schema.get("properties", {})
    if not isinstance(values, dict) or not properties:
        return
    for key in sorted({*values, *properties} - {"global"}):
        if key not in values or key not in properties:
            yield f"{path}{key} is not in both of values.yaml and values.schema.json"
        else:
            yield from same_keys(values[key], properties[key], f"{path}{key}.")


class Chart:
    def __init__(self, helm, kustomize):
        self.helm, self.kustomize, self.counted = helm, kustomize, {}

    def template(self, file, chart=CHART, *options):
        where = ["--namespace", NAMESPACE, "--kube-version", KUBERNETES]
        return run(self.helm, "template", OURS, chart, *where, "--values", file, *options)

    def count(self, what):
        self.counted[what] = self.counted.get(what, 0) + 1

    def faults(self):
        for copy, source in COPIES.items():
            if (CHART / copy).read_bytes() != source.read_bytes():
                yield f"{copy} of the chart is not {source.relative_to(ROOT)}; run `make rules`"
        chart = yaml.load((CHART / "Chart.yaml").read_text(), Loader)
        version = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        if {chart["version"], chart["appVersion"]} != {version}:
            yield f"Chart.yaml is not of version {version}"
        values = yaml.load((CHART / "values.yaml").read_text(), Loader)
        yield from same_keys(values, json.loads((CHART / "values.schema.json").read_text()))
        files = sorted(VALUES.glob("*.yaml"))
        if len(files) < 10:
            yield f"only {len(files)} values files were found"
        rendered = {}
        for file in files:
            lint = run(self.helm, "lint", "--strict", CHART, "--kube-version", KUBERNETES, "--values", file)
            if lint.returncode:
                yield f"{file.name}: helm lint: {lint.stdout[-600:]}{lint.stderr[-600:]}"
            output = self.template(file)
            if output.returncode:
                yield f"{file.name}: {output.stderr.strip()[-600:]}"
                continue
            rendered[file.stem] = output.stdout
            self.count("values files rendered")
            for fault in self.of_rendering(file.stem, output.stdout):
                yield f"{file.name}: {fault}"
        yield from self.any_config()
        yield from self.notes(rendered)
        yield from self.refusals()
        yield from self.found(rendered)

    def of_rendering(self, name, text):
        try:
            rendering = Rendering(text)
            yield from rendering.faults()
            if name in TWINS:
                yield from rendering.compared(self.overlay(TWINS[name]))
        except (yaml.YAMLError, KeyError, ValueError, StopIteration) as error:
            yield f"cannot be read: {error!r}"

    def overlay(self, name):
        output = run(self.kustomize, DEPLOY / "kubernetes/overlays" / name)
        if output.returncode:
            sys.exit(f"kustomize: {output.stderr}")
        return documents(output.stdout)

    def any_config(self):
        """Every key of the config can be set: the example with all of them arrives as it is."""
        example = ROOT / "config.example.toml"
        output = self.template(VALUES / "default.yaml", CHART, "--set-file", f"config={example}")
        maps = [found for found in documents(output.stdout) if found["kind"] == "ConfigMap"]
        if [found["data"] for found in maps] != [{"config.toml": example.read_text()}]:
            yield f"config.example.toml does not arrive as it is: {output.stderr[-400:]}"

    def notes(self, rendered):
        """What `helm install` says at the end, which needs a cluster: here it is rendered as a manifest."""
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / OURS
            shutil.copytree(CHART, copy)
            text = (copy / "templates/NOTES.txt").read_text()
            (copy / "templates/notes.yaml").write_text(NOTES % text)
            for name in rendered:
                output = self.template(VALUES / f"{name}.yaml", copy, "--show-only", "templates/notes.yaml")
                if output.returncode:
                    yield f"{name}.yaml: NOTES.txt: {output.stderr.strip()[-400:]}"
                    continue
                notes = documents(output.stdout)[0]["notes"]
                rendering = Rendering(rendered[name])
                (workload,) = rendering.all("Deployment", "StatefulSet")
                service, port = rendering.all("Service")[0], rendering.all("Service")[0]["spec"]["ports"][0]["port"]
                (url,) = re.findall(r"url: (\S+)", notes)
                if f"exec {name_of(workload).lower()} " not in notes:
                    yield f"{name}.yaml: NOTES.txt does not name {name_of(workload)}"
                if f"//{service['metadata']['name']}.{NAMESPACE}.svc:{port}/" not in url:
                    yield f"{name}.yaml: NOTES.txt has {url}"
                if url.startswith("https:") != ("MAR_HTTP__TLS__" in rendered[name]):
                    yield f"{name}.yaml: NOTES.txt has {url}"
                self.count("notes read")

    def refusals(self):
        for file in sorted((VALUES / "refused").glob("*.yaml")):
            words, output = file.read_text().splitlines()[0].removeprefix("# "), self.template(file)
            self.count("values files refused")
            if output.returncode == 0 or words not in output.stderr:
                yield f"refused/{file.name}: does not say {words!r}: {output.stderr[-400:]!r}"

    def found(self, rendered):
        """A check that takes everything would be none."""
        for name, old, new, words in FAULTS:
            text = rendered.get(name, "")
            self.count("faults put in and found")
            if old not in text:
                yield f"{name}.yaml renders nothing like {old!r}"
            elif not any(words in fault for fault in self.of_rendering(name, text.replace(old, new))):
                yield f"{name}.yaml: {old!r} -> {new!r} is not found"


def main():
    chart = Chart(*sys.argv[1:])
    faults = list(chart.faults())
    for fault in faults:
        print(fault, file=sys.stderr)
    if Draft202012Validator is None:
        print("without jsonschema: no document was held against its published schema")
    print(", ".join(f"{number} {what}" for what, number in chart.counted.items()))
    return 1 if faults else 0


sys.exit(main())
