"""How each server is configured and started: real ones, on loopback and free ports, with all they keep below one folder."""

import base64
import os
import random
import re
import secrets
import socket
import time
from pathlib import Path

from failure import Failure, wait_until
from http_client import call, is_up

FILES = Path(__file__).parent / "files"
START_SECONDS = 60
# Below those that the kernel hands out for outgoing connections, so that none of these takes a port of ours before its server does.
# Each is tried once.
PORTS = iter(random.sample(range(20000, 32000), 1000))


def free_port():
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass  # somebody has it; the next
    raise Failure("no free port between 20000 and 32000")


def fill(name, target, **values):
    """Writes the file `name` with each @KEY@ replaced by its value."""
    text = re.sub(r"@([A-Z_]+)@", lambda hole: str(values[hole[1]]), (FILES / name).read_text())
    target.write_text(text)
    return target


def write_secret(path, text):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path


class Server:
    """One server: its folder, its address, its process."""

    def __init__(self, name, children, state):
        self.name, self.children = name, children
        self.state = state / name
        self.state.mkdir()
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"

    def start(self, command, ready):
        self.children.start(self.name, command)
        what = f"{self.name} answers {ready}"
        wait_until(what, START_SECONDS, lambda: is_up(self.url + ready), self.children.check)


class Synapse(Server):
    def __init__(self, children, state):
        super().__init__("synapse", children, state)
        self.shared_secret = secrets.token_hex(16)

    def serve(self, python):
        key = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        write_secret(self.state / "signing.key", f"ed25519 a_demo {key}\n")
        fill("synapse-log.yaml", self.state / "log.yaml")
        config = fill(
            "homeserver.yaml",
            self.state / "homeserver.yaml",
            HOMESERVER_URL=self.url,
            PORT=self.port,
            STATE=self.state,
            SHARED_SECRET=self.shared_secret,
        )
        self.start([python, "-m", "synapse.app.homeserver", "--config-path", config], "/health")


class Alertmanager(Server):
    def __init__(self, children, state):
        super().__init__("alertmanager", children, state)

    def serve(self, receiver_url, webhook_token_file):
        config = fill(
            "alertmanager.yml",
            self.state / "alertmanager.yml",
            RECEIVER_URL=receiver_url,
            WEBHOOK_TOKEN_FILE=webhook_token_file,
        )
        command = ["prometheus-alertmanager", f"--config.file={config}", f"--storage.path={self.state}/data"]
        command += [f"--web.listen-address={self.address}", f"--web.external-url={self.url}", "--cluster.listen-address="]
        self.start(command, "/-/ready")


class Prometheus(Server):
    def __init__(self, children, state):
        super().__init__("prometheus", children, state)

    def remember(self, past):
        """Puts values from before its start into its store. Their text is OpenMetrics'."""
        text = self.state / "past.txt"
        text.write_text(past)
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", text, self.state / "data"]
        self.children.output_of(command, self.state, START_SECONDS)

    def serve(self, gauge_address, alertmanager_address):
        fill("rules.yml", self.state / "rules.yml")
        config = fill(
            "prometheus.yml",
            self.state / "prometheus.yml",
            GAUGE_ADDRESS=gauge_address,
            ALERTMANAGER_ADDRESS=alertmanager_address,
        )
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.state}/data"]
        command += [f"--web.listen-address={self.address}", f"--web.external-url={self.url}"]
        # What it sends before it knows its Alertmanager is lost. Real life: 1m.
        command += ["--rules.alert.resend-delay=5s"]
        self.start(command, "/-/ready")

    def is_at_work(self):
        """Whether it has scraped all its targets and knows its Alertmanager; both take it some 5 s."""
        targets = self.ask("targets?state=active")["activeTargets"]
        scraped = targets and all(target["health"] == "up" for target in targets)
        return scraped and self.ask("alertmanagers")["activeAlertmanagers"]

    def alerts_firing(self):
        """But for the one that always does."""
        firing = [alert for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"]
        return [alert for alert in firing if alert["labels"]["alertname"] != "Watchdog"]

    def ask(self, what):
        return call("GET", f"{self.url}/api/v1/{what}")["data"]


class Loki(Server):
    """Where `make tools` could build it; else cards have a graph beside them, and no log lines."""

    def __init__(self, children, state, program):
        super().__init__("loki", children, state)
        self.program = program
        self.is_there = os.access(program, os.X_OK)

    def serve(self):
        config = fill("loki.yml", self.state / "loki.yml", PORT=self.port, GRPC_PORT=free_port(), STATE=self.state)
        self.start([self.program, f"-config.file={config}", "-log.level=warn"], "/ready")

    def push(self, labels, lines):
        """Lines of the last minute, the last one now."""
        now = time.time_ns()
        values = [[str(now - 5_000_000_000 * before), line] for before, line in enumerate(reversed(lines))]
        call("POST", f"{self.url}/loki/api/v1/push", {"streams": [{"stream": labels, "values": values[::-1]}]})


class Receiver(Server):
    def __init__(self, children, state):
        super().__init__("receiver", children, state)
        self.webhook_token_file = write_secret(self.state / "webhook-token", secrets.token_urlsafe(32))

    def serve(self, binary, homeserver, bot, room_id, alertmanager_url, prometheus_url, loki_url):
        """`loki_url` is None without Loki."""
        token_file = write_secret(self.state / "access-token", bot.token)
        config = fill(
            "receiver.toml",
            self.state / "config.toml",
            RECEIVER_ADDRESS=self.address,
            WEBHOOK_TOKEN_FILE=self.webhook_token_file,
            HOMESERVER_URL=homeserver,
            BOT_USER=bot.user_id,
            ACCESS_TOKEN_FILE=token_file,
            STORE=self.state / "store",
            ROOM_ID=room_id,
            ALERTMANAGER_URL=alertmanager_url,
            PROMETHEUS_URL=prometheus_url,
            LOKI=f'loki = {{ url = "{loki_url}" }}' if loki_url else "# loki: not here",
        )
        self.start([binary, "serve", "--config", config], "/readyz")

    def heartbeats(self):
        """What it says of them."""
        return call("GET", f"{self.url}/healthz")["parts"]["heartbeats"]["reason"]
