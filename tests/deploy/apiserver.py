"""A Kubernetes API server with its controllers, on loopback and without a node: what is applied meets admission, and pods
are made, but none is ever started. Pod Security `restricted` is the default of every namespace."""

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

POD_SECURITY = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {mode: "restricted" for mode in ("enforce", "audit", "warn")},
            },
        }
    ],
}
START_SECONDS, COMMAND_SECONDS = 60, 120


def wait_for(what, condition, seconds=START_SECONDS):
    """What `condition` answers once that is something."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s there is still no {what}")
        time.sleep(0.1)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


class Cluster:
    """`programs` is the folder that scripts/cluster builds; keys and logs go to `folder`."""

    def __init__(self, programs, folder):
        self.programs, self.folder, self.servers = programs, folder, {}
        self.token = os.urandom(16).hex()
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "LC_ALL": "C.UTF-8",
        }

    def start(self):
        client, peer, secure = free_ports(3)
        self.url = f"https://127.0.0.1:{secure}"
        self.write_keys()
        etcd, advertised = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self.spawn(
            "etcd", "--data-dir=etcd", "--unsafe-no-fsync", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={advertised}", f"--initial-advertise-peer-urls={advertised}",
            f"--initial-cluster=default={advertised}",
        )
        self.spawn(
            "kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={secure}", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
            "--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--token-auth-file=tokens",
            "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=accounts.pub", "--service-account-signing-key-file=accounts.key",
            # So that it is Pod Security that refuses.
            "--allow-privileged=true", "--admission-control-config-file=admission.json",
        )
        wait_for("ready API server", self.ready)
        self.spawn(
            "kube-controller-manager", "--kubeconfig=kubeconfig", "--leader-elect=false", "--secure-port=0",
            "--service-account-private-key-file=accounts.key", "--root-ca-file=server.crt",
        )
        wait_for("controller that makes service accounts", lambda: self.items("/api/v1/namespaces/default/serviceaccounts"))

    def write_keys(self):
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kube-apiserver", "-addext",
                "subjectAltName=IP:127.0.0.1", "-keyout", "server.key", "-out", "server.crt")
        openssl("genrsa", "-out", "accounts.key", "2048")
        openssl("rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")
        self.write("tokens", f"{self.token},admin,admin,system:masters\n")
        self.write("admission.json", json.dumps(POD_SECURITY))
        self.write("kubeconfig", json.dumps({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": {
                "server": self.url, "certificate-authority": str(self.folder / "server.crt")}}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "admin"}}],
            "current-context": "it",
        }))

    def write(self, name, text):
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)

    def spawn(self, name, *arguments):
        # A server outlives no check, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", self.programs / name, *arguments]
        with open(self.folder / f"{name}.log", "wb") as log:
            self.servers[name] = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ended(self):
        """Which of the servers did not stay."""
        ended = {name: server.poll() for name, server in self.servers.items()}
        return ", ".join(f"{name} ended with {code}" for name, code in ended.items() if code is not None)

    def stop(self):
        for server in reversed(self.servers.values()):
            server.kill()
            server.wait()

    def ready(self):
        if ended := self.ended():
            raise RuntimeError(ended)
        try:
            return self.ask("/readyz") == b"ok"
        except (urllib.error.URLError, ConnectionError):
            return False

    def ask(self, path):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        trust = ssl.create_default_context(cafile=self.folder / "server.crt")
        # Without a proxy that the environment may name.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
        with opener.open(request, timeout=10) as answer:
            return answer.read()

    def items(self, path):
        return json.loads(self.ask(path))["items"]

    def run(self, *command, given=None, folder=None):
        """A command with kubectl in its PATH and this cluster in its kubeconfig."""
        return subprocess.run(
            [str(part) for part in command], input=given, cwd=folder, env=self.environment, capture_output=True, text=True,
            timeout=COMMAND_SECONDS,
        )

    def kubectl(self, *arguments, given=None):
        return self.run("kubectl", *arguments, given=given)
