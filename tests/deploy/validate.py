#!/usr/bin/env python3
"""Checks what deploy/ holds: rendered manifests as the API server would with fieldValidation=Strict, and what it would only show at run time.

    validate.py FILE            rendered manifests, "-" for standard input
    validate.py --compose FILE… a compose file for deploy/compose/, and those that are laid over it
    validate.py --values FILE   values for the chart kube-prometheus-stack; writes its Alertmanager config to standard output

One line for each fault, and exit code 1. The schemas are beside this file (scripts/schemas makes them)."""

import json
import pathlib
import re
import sys

import yaml
from jsonschema import Draft202012Validator
from strict_yaml import Loader

SCHEMAS = pathlib.Path(__file__).resolve().parent / "schemas"
DEPLOY = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy"
OURS = "matrix-alertmanager-receiver"
SECRET = f"{OURS}-secrets"
TLS_SECRET, TLS_KEYS = f"{OURS}-tls", {"tls.crt", "tls.key"}
SECRET_KEYS = {"MATRIX_HOMESERVER", "MATRIX_USER_ID", "MATRIX_ACCESS_TOKEN", "MATRIX_ROOM_ID", "WEBHOOK_TOKEN"}
# Several replicas: the database by one more variable, and a password, by which each logs in, in place of a token.
REPLICATED_KEYS = SECRET_KEYS - {"MATRIX_ACCESS_TOKEN"} | {"MATRIX_PASSWORD", "DATABASE_URL"}
DATABASE_VARIABLE, DATABASE_PORT = "MAR_STORE__DATABASE_URL_FILE", 5432
CREDENTIALS = {"MATRIX_ACCESS_TOKEN_FILE", "MATRIX_PASSWORD_FILE"}
# What a pod of several replicas may have beside that of the base.
ONLY_REPLICATED = {"affinity", "topologySpreadConstraints"}


def faults_of_schema(document, schema, where):
    for error in Draft202012Validator(schema).iter_errors(document):
        path = "/".join(str(step) for step in error.absolute_path)
        yield f"{where}: {path or 'top'}: {error.message[:300]}"


def schema_of(document):
    name = f"{document.get('apiVersion', '').replace('/', '_')}_{document.get('kind')}.json"
    path = SCHEMAS / name
    return json.loads(path.read_text()) if path.exists() else None


def name_of(document):
    return f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"


class Manifests:
    """What belongs together in one rendering."""

    def __init__(self, documents):
        self.documents = documents

    def all(self, kind):
        return [document for document in self.documents if document.get("kind") == kind]

    def named(self, kind, name):
        return next((found for found in self.all(kind) if found["metadata"]["name"] == name), None)

    def faults(self):
        for document in self.documents:
            schema = schema_of(document)
            if schema is None:
                yield f"{name_of(document)}: there is no schema for {document.get('apiVersion')}"
            else:
                yield from faults_of_schema(document, schema, name_of(document))

    def faults_of_meaning(self):
        """Only once the schemas hold."""
        yield from self.placed()
        workloads = self.workloads()
        if len(workloads) == 1:
            yield from self.workload(workloads[0])
        elif any(document["kind"] != "Application" and document["kind"] != "ApplicationSet" for document in self.documents):
            yield f"{len(workloads)} Deployments and StatefulSets, 1 is meant"
        for config in self.all("AlertmanagerConfig"):
            yield from self.alertmanager_config(config)
        for external in self.all("ExternalSecret"):
            yield from self.defaults(external)

    def placed(self):
        seen = set()
        for document in self.documents:
            namespace = "argocd" if document["kind"].startswith("Application") else "monitoring"
            if document["metadata"].get("namespace") != namespace:
                yield f"{name_of(document)}: is not in namespace {namespace}"
            if name_of(document) in seen:
                yield f"{name_of(document)}: is there twice"
            seen.add(name_of(document))

    def workloads(self):
        return [*self.all("Deployment"), *self.all("StatefulSet")]

    def is_replicated(self):
        return bool(self.all("StatefulSet"))

    def workload(self, workload):
        spec = workload["spec"]
        template = spec["template"]
        labels, pod = template["metadata"]["labels"], template["spec"]
        containers = pod["containers"]
        container = containers[0]
        for wrong, text in [
            (len(containers) != 1, "there is more than one container"),
            (workload["metadata"]["labels"].get("app") != OURS, "has no label app"),
            (labels.get("app") != OURS, "its pods have no label app"),
            (not spec["selector"]["matchLabels"].items() <= labels.items(), "the selector does not match its own pods"),
            (not re.fullmatch(r"\S+/\S+:[\w.-]+", container["image"]), f"the image is {container['image']}"),
            ("memory" not in container["resources"].get("limits", {}), "there is no limit on memory"),
        ]:
            if wrong:
                yield f"{name_of(workload)}: {text}"
        yield from self.replicated(workload) if self.is_replicated() else self.alone(workload)
        yield from self.probes(container)
        yield from self.locked_down(pod, container)
        yield from self.volumes(pod, container, spec.get("volumeClaimTemplates", []))
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        yield from self.reached(labels, ports)

    def alone(self, deployment):
        """One receiver on a store that only one can have open."""
        spec = deployment["spec"]
        if spec.get("replicas") != 1:
            yield f"{name_of(deployment)}: replicas is not 1"
        if spec["strategy"] != {"type": "Recreate"}:
            yield f"{name_of(deployment)}: the strategy is not Recreate"

    def replicated(self, workload):
        """Several on one PostgreSQL."""
        spec, name = workload["spec"], name_of(workload)
        pod = spec["template"]["spec"]
        labels, variables = spec["template"]["metadata"]["labels"], pod["containers"][0]["env"]
        governing = self.named("Service", spec["serviceName"]) or {"spec": {}}
        budgets = [budget["spec"] for budget in self.all("PodDisruptionBudget")]
        egress = [rule for policy in self.all("NetworkPolicy") for rule in policy["spec"]["egress"]]
        allowed = [port["port"] for rule in egress for port in rule["ports"]]
        apart = pod.get("affinity", {}).get("podAntiAffinity", {})
        apart = apart.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        terms = [term["podAffinityTerm"] for term in apart] + pod.get("topologySpreadConstraints", [])
        for wrong, text in [
            (spec.get("replicas", 1) < 2, "there are fewer than two replicas"),
            (spec.get("podManagementPolicy") != "Parallel", "one that cannot start keeps the others away"),
            (spec.get("updateStrategy", {}).get("type") != "RollingUpdate", "the update is not rolling"),
            (governing["spec"].get("clusterIP") != "None", "its service is not headless"),
            (not any(variable["name"] == DATABASE_VARIABLE for variable in variables), "has no database"),
            (any(variable["name"] == "MAR_STORE__REPLICA" for variable in variables), "all replicas have one name"),
            ([budget.get("maxUnavailable") for budget in budgets] != [1], "a drain may take more than one"),
            (any(not budget["selector"]["matchLabels"].items() <= labels.items() for budget in budgets),
             "the PodDisruptionBudget selects other pods"),
            (DATABASE_PORT not in allowed, "the NetworkPolicy keeps it from the database"),
            ([term["topologyKey"] for term in terms] != ["kubernetes.io/hostname", "topology.kubernetes.io/zone"],
             "replicas may lie on one node or in one zone"),
            (any(not term["labelSelector"]["matchLabels"].items() <= labels.items() for term in terms),
             "it keeps apart from other pods"),
            (bool(self.all("PersistentVolumeClaim")), "there is a volume beside those of the replicas"),
        ]:
            if wrong:
                yield f"{name}: {text}"
        yield from self.same_pod(name, pod)

    def same_pod(self, name, pod):
        """It stands twice: here and in the base's Deployment, but for the database, the volume and the placement."""
        base = yaml.load((DEPLOY / "kubernetes/base/deployment.yaml").read_text(), Loader)["spec"]["template"]["spec"]
        # What the component `tls` adds to either.
        def plain(pod):
            (container,) = pod["containers"]
            variables = [variable for variable in container["env"]
                         if variable["name"] not in {DATABASE_VARIABLE, *CREDENTIALS} and not variable["name"].startswith("MAR_HTTP__TLS__")]
            mounts = [mount for mount in container["volumeMounts"] if mount["name"] != "tls"]
            probes = {probe: {**container[probe], "httpGet": {**container[probe]["httpGet"], "scheme": ""}}
                      for probe in ("livenessProbe", "readinessProbe")}
            container = {**container, **probes, "env": variables, "volumeMounts": mounts, "image": ""}
            volumes = [volume for volume in pod["volumes"] if volume["name"] not in ("store", "tls", "config")]
            return {**{field: value for field, value in pod.items() if field not in ONLY_REPLICATED},
                    "containers": [container], "volumes": volumes}
        ours, theirs = plain(pod), plain(base)
        for field in sorted({*ours, *theirs}):
            if ours.get(field) != theirs.get(field):
                yield f"{name}: {field} of its pod is not that of the base: {ours.get(field)}, {theirs.get(field)}"

    def probes(self, container):
        ports = [port["name"] for port in container["ports"]]
        for probe, path in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
            asked = container.get(probe, {}).get("httpGet", {})
            if asked.get("path") != path:
                yield f"{probe} does not ask for {path}"
            if (asked.get("scheme") == "HTTPS") != self.by_https():
                yield f"{probe} asks by {asked.get('scheme', 'HTTP')}, which the container does not speak"
            if asked.get("port") not in ports:
                yield f"{probe} asks a port that the container does not name"
        if "/healthz" in json.dumps(container):
            yield "something probes /healthz or /healthz/delivery: a homeserver that is down would take the receiver down"

    def by_https(self):
        """Whether the container has a certificate, which whoever calls it has to know."""
        (workload,) = self.workloads()
        variables = workload["spec"]["template"]["spec"]["containers"][0]["env"]
        return any(variable["name"].startswith("MAR_HTTP__TLS__") for variable in variables)

    def locked_down(self, pod, container):
        wanted = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
        wanted["seccompProfile"] = {"type": "RuntimeDefault"}
        for field, value in wanted.items():
            if pod.get("securityContext", {}).get(field) != value:
                yield f"the pod's securityContext: {field} is not {value}"
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        for field, value in wanted.items():
            if container.get("securityContext", {}).get(field) != value:
                yield f"the container's securityContext: {field} is not {value}"
        if pod.get("automountServiceAccountToken") is not False:
            yield "the pod gets a service account token"

    def volumes(self, pod, container, claims):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"]: {} for claim in claims}
        if mounts.keys() != volumes.keys():
            yield f"mounted are {sorted(mounts)}, volumes {sorted(volumes)}"
            return
        for name, mount in mounts.items():
            if "subPath" in mount:
                yield f"{name} is mounted by subPath, and would never change"
        for volume in volumes.values():
            yield from self.volume(volume)
        for variable in container.get("env", []):
            yield from self.variable(variable, mounts, volumes)

    def volume(self, volume):
        if claim := volume.get("persistentVolumeClaim"):
            if not self.named("PersistentVolumeClaim", claim["claimName"]):
                yield f"there is no PersistentVolumeClaim {claim['claimName']}"
        elif config := volume.get("configMap"):
            if not self.named("ConfigMap", config["name"]):
                yield f"there is no ConfigMap {config['name']}"
        elif (secret := volume.get("secret")) and secret["secretName"] == TLS_SECRET:
            if not any(found["spec"]["secretName"] == TLS_SECRET for found in self.all("Certificate")):
                yield f"there is no Certificate for {TLS_SECRET}"
        elif secret:
            if secret["secretName"] != SECRET:
                yield f"the secret is {secret['secretName']}"
            # The base alone has none: an overlay says where it comes from.
            keys = self.secret_keys(secret["secretName"])
            if keys is not None and keys != self.expected_keys():
                yield f"the secret has {sorted(keys)}"

    def defaults(self, external):
        """What the API adds by itself must be written out, or Argo CD shows a difference for good."""
        wanted = {"conversionStrategy": "Default", "decodingStrategy": "None", "metadataPolicy": "None"}
        for entry in external["spec"]["data"]:
            for field in (field for field in wanted if field not in entry["remoteRef"]):
                yield f"{entry['secretKey']} leaves the default {field}: {wanted[field]} to the API"

    def expected_keys(self):
        return REPLICATED_KEYS if self.is_replicated() else SECRET_KEYS

    def secret_keys(self, name):
        for secret in self.all("Secret"):
            if secret["metadata"]["name"] == name:
                return {*secret.get("stringData", {}), *secret.get("data", {})}
        for external in self.all("ExternalSecret"):
            if external["spec"]["target"]["name"] == name:
                return {entry["secretKey"] for entry in external["spec"]["data"]}
        return None

    def variable(self, variable, mounts, volumes):
        """Each file that a variable names is a key of what is mounted there."""
        path = pathlib.PurePosixPath(variable.get("value", ""))
        if not path.is_absolute():
            yield f"{variable['name']} names no file"
            return
        name = next((name for name, mount in mounts.items() if mount["mountPath"] == str(path.parent)), None)
        volume = volumes.get(name, {})
        if "configMap" in volume:
            found = self.named("ConfigMap", volume["configMap"]["name"])
            keys = (found or {}).get("data", {}).keys()
        else:
            secret = volume.get("secret", {}).get("secretName")
            keys = {SECRET: self.expected_keys(), TLS_SECRET: TLS_KEYS}.get(secret, ())
        if path.name not in keys:
            yield f"{variable['name']}: nothing puts a file at {path}"

    def reached(self, labels, ports):
        """The ways in: Service, ServiceMonitor, NetworkPolicy."""
        for service in self.all("Service"):
            if not service["spec"]["selector"].items() <= labels.items():
                yield f"{name_of(service)}: selects other pods"
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{name_of(service)}: the container has no port {port['targetPort']}"
        for monitor in self.all("ServiceMonitor"):
            services = [found for found in self.all("Service") if selects(monitor["spec"]["selector"], found)]
            if len(services) != 1:
                yield f"{name_of(monitor)}: scrapes each pod by {len(services)} services"
            named = {port["name"] for service in services for port in service["spec"]["ports"]}
            for endpoint in monitor["spec"]["endpoints"]:
                if (endpoint.get("scheme") == "https") != self.by_https():
                    yield f"{name_of(monitor)}: scrapes by {endpoint.get('scheme', 'http')}"
                names = [name for found in self.all("Certificate") for name in found["spec"]["dnsNames"]]
                if self.by_https() and endpoint["tlsConfig"].get("serverName") not in names:
                    yield f"{name_of(monitor)}: expects a name that the certificate does not have"
                if endpoint["port"] not in named:
                    yield f"{name_of(monitor)}: no service that it selects has a port {endpoint['port']}"
        for policy in self.all("NetworkPolicy"):
            if not policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items():
                yield f"{name_of(policy)}: selects other pods"
            allowed = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
            if not set(allowed) <= {*ports, *ports.values()}:
                yield f"{name_of(policy)}: allows {allowed}, the container has {ports}"

    def alertmanager_config(self, config):
        """Nested routes are free-form in the published schema: the operator parses them only when it runs."""
        schema = schema_of(config)["properties"]["spec"]["properties"]["route"]
        receivers = {receiver["name"] for receiver in config["spec"]["receivers"]}
        todo = [config["spec"]["route"]]
        while todo:
            route = todo.pop()
            yield from faults_of_schema(route, schema, f"{name_of(config)}: a route")
            if route.get("receiver") not in receivers:
                yield f"{name_of(config)}: there is no receiver {route.get('receiver')}"
            todo += route.get("routes", [])
        webhooks = [webhook for receiver in config["spec"]["receivers"] for webhook in receiver.get("webhookConfigs", [])]
        ours = [webhook for webhook in webhooks if f"://{OURS}." in webhook["url"]]
        credentials = {"name": SECRET, "key": "WEBHOOK_TOKEN"}
        for webhook in ours:
            if webhook["httpConfig"]["authorization"]["credentials"] != credentials or not webhook["sendResolved"]:
                yield f"{name_of(config)}: does not post as the receiver wants it"
            ca = {"ca": {"secret": {"name": TLS_SECRET, "key": "ca.crt"}}} if self.by_https() else None
            scheme = "https" if ca else "http"
            if not webhook["url"].startswith(f"{scheme}://") or webhook["httpConfig"].get("tlsConfig") != ca:
                yield f"{name_of(config)}: does not post by {scheme}"
            host = webhook["url"].split("/")[2].partition(":")[0]
            names = [name for found in self.all("Certificate") for name in found["spec"]["dnsNames"]]
            if ca and host not in names:
                yield f"{name_of(config)}: posts to a name that the certificate does not have"
        if not ours:
            yield f"{name_of(config)}: does not post to the receiver"
        yield from self.same_as_values(config)

    def same_as_values(self, config):
        """The routing stands twice, and says the same."""
        values = yaml.load((DEPLOY / "kubernetes/kube-prometheus-stack/values.yaml").read_text(), Loader)
        values = values["alertmanager"]["config"]
        own = native(config["spec"])
        for part in ("route", "inhibit_rules"):
            if own[part] != values[part]:
                yield f"{name_of(config)}: {part} is not that of the values: {own[part]}"
        if [receiver["name"] for receiver in own["receivers"]] != [receiver["name"] for receiver in values["receivers"]]:
            yield f"{name_of(config)}: has other receivers than the values"


def selects(selector, document):
    labels = document["metadata"]["labels"]
    without = [rule["key"] for rule in selector.get("matchExpressions", []) if rule["operator"] == "DoesNotExist"]
    return selector["matchLabels"].items() <= labels.items() and not any(key in labels for key in without)


def native(part):
    """Alertmanager's own spelling of what the resource spells in camel case."""
    if isinstance(part, list):
        if part and isinstance(part[0], dict) and "matchType" in part[0]:
            return [f'{matcher["name"]} {matcher["matchType"]} "{matcher["value"]}"' for matcher in part]
        return [native(item) for item in part]
    if not isinstance(part, dict):
        return part
    renamed = {"sourceMatch": "source_matchers", "targetMatch": "target_matchers"}
    snake = {name: renamed.get(name, re.sub(r"([A-Z])", lambda letter: "_" + letter[1].lower(), name)) for name in part}
    return {snake[name]: native(value) for name, value in part.items()}


def values(text):
    """The parts of the chart's values that end in the operator's Alertmanager, against the schema of that."""
    alertmanager = yaml.load(text, Loader)["alertmanager"]
    spec = alertmanager.pop("alertmanagerSpec")
    config = alertmanager.pop("config", None)
    unknown = [f"alertmanager.{key}: is not known here" for key in alertmanager]
    schema = json.loads((SCHEMAS / "monitoring.coreos.com_v1_Alertmanager.json").read_text())
    faults = [*unknown, *faults_of_schema(spec, schema["properties"]["spec"], "alertmanagerSpec")]
    files = set(re.findall(r"credentials_file: (\S+)", text))
    mounted = {
        f"{mount['mountPath']}/{item['path']}"
        for mount in spec.get("volumeMounts", [])
        for volume in spec["volumes"]
        if volume["name"] == mount["name"] and volume["secret"]["secretName"] == SECRET
        for item in volume["secret"]["items"]
        if item["key"] in SECRET_KEYS
    }
    faults += [f"nothing puts a file at {path}" for path in sorted(files - mounted)]
    if config:
        # JSON is YAML.
        json.dump(config, sys.stdout)
    return faults


def compose(texts, folder):
    """The published schema, and that names and files exist."""
    projects = [yaml.load(text, Loader) for text in texts]
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    if faults := [fault for project in projects for fault in faults_of_schema(project, schema, "compose")]:
        return faults
    project = projects[0]
    for over in projects[1:]:
        project = merged(project, over)
    faults = []
    for name, service in project["services"].items():
        if "image" not in service:
            faults.append(f"{name} has no image")
        for other in service.get("depends_on", {}):
            if other not in project["services"]:
                faults.append(f"{name} depends on {other}, which is no service")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            made = source.startswith("./secrets")
            if not made and not (folder / source).exists() and source not in project["volumes"]:
                faults.append(f"{name} mounts {source}, which is neither a file nor a volume")
        if "healthcheck" not in service and service.get("restart"):
            faults.append(f"{name} has no health check")
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                faults.append(f"{name} is open to all: {port}")
    stores = [volume for service in project["services"].values() for volume in service.get("volumes", [])
              if volume.endswith(f":/var/lib/{OURS}")]
    if len(set(stores)) != len(stores):
        faults.append("two receivers have one store")
    return faults


def merged(below, above):
    """As docker compose lays one file over another; of two volumes at one place the upper one stays."""
    if isinstance(below, dict) and isinstance(above, dict):
        both = {name: merged(below[name], above[name]) for name in below if name in above}
        return {**below, **above, **both}
    if isinstance(below, list) and isinstance(above, list):
        places = {str(entry).split(":")[1] for entry in above if str(entry).count(":") > 1}
        return [entry for entry in below if str(entry).count(":") < 2 or str(entry).split(":")[1] not in places] + above
    return above


def main():
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    texts = [sys.stdin.read() if file == "-" else pathlib.Path(file).read_text()
             for file in sys.argv[1:] if not file.startswith("--")]
    text = texts[0]
    try:
        if options == ["--values"]:
            faults = values(text)
        elif options == ["--compose"]:
            faults = compose(texts, DEPLOY / "compose")
        else:
            manifests = Manifests([document for document in yaml.load_all(text, Loader) if document is not None])
            faults = list(manifests.faults()) or list(manifests.faults_of_meaning())
            if not manifests.documents:
                faults = ["there is nothing in it"]
    except yaml.YAMLError as error:
        faults = [f"not YAML: {error}"]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
