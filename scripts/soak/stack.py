"""The servers of the soak: the demo's, with other configs, and started again where the plan says so."""

import http.client
import os
import secrets
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import servers
from failure import Failure
from servers import fill, free_port, write_secret

FILES = Path(__file__).parent / "files"
# Far more than a server needs to end, on a busy machine as well.
STOP_SECONDS = 30


class Again:
    """A server that is stopped and started again: each process has its own log."""

    processes = 0

    def launch(self, command, ready):
        self.processes += 1
        self.name = f"{self.folder}-{self.processes}"
        self.command, self.ready = command, ready
        self.start(command, ready)

    def relaunch(self):
        self.launch(self.command, self.ready)

    @property
    def pid(self):
        # setpriv, which the demo starts it with, becomes the program.
        process = self.children.servers.get(self.name)
        return process.pid if process else None

    def end(self, signum):
        """Its exit status."""
        process = self.children.servers.pop(self.name)
        process.send_signal(signum)
        return process.wait(timeout=STOP_SECONDS)


class Alertmanager(Again, servers.Server):
    folder = "alertmanager"

    def __init__(self, children, state):
        super().__init__(self.folder, children, state)

    def serve(self, receiver_url, webhook_token_file):
        values = {"RECEIVER_URL": receiver_url, "WEBHOOK_TOKEN_FILE": webhook_token_file}
        config = fill(FILES / "alertmanager.yml", self.state / "alertmanager.yml", **values)
        command = ["prometheus-alertmanager", f"--config.file={config}", f"--storage.path={self.state}/data"]
        command += [f"--web.listen-address={self.address}", f"--web.external-url={self.url}", "--cluster.listen-address="]
        self.launch(command, "/-/ready")


class Prometheus(Again, servers.Server):
    folder = "prometheus"

    def __init__(self, children, state):
        super().__init__(self.folder, children, state)

    def serve(self, gauge_address, receiver_address, alertmanager_address):
        fill(FILES / "rules.yml", self.state / "rules.yml")
        values = {"GAUGE_ADDRESS": gauge_address, "RECEIVER_ADDRESS": receiver_address}
        values["ALERTMANAGER_ADDRESS"] = alertmanager_address
        config = fill(FILES / "prometheus.yml", self.state / "prometheus.yml", **values)
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.state}/data"]
        command += [f"--web.listen-address={self.address}", "--rules.alert.resend-delay=5s"]
        self.launch(command, "/-/ready")


class Receiver(Again, servers.Server):
    folder = "receiver"

    def __init__(self, children, state):
        super().__init__(self.folder, children, state)
        self.token = secrets.token_urlsafe(32)
        self.token_file = write_secret(self.state / "webhook-token", self.token)
        self.store = self.state / "store"
        self.values = {}

    def configure(self, **values):
        """Writes the config, with what has changed since the last time."""
        self.values |= values
        own = {"RECEIVER_ADDRESS": self.address, "WEBHOOK_TOKEN_FILE": self.token_file, "STORE": self.store}
        return fill(FILES / "receiver.toml", self.state / "config.toml", **own, **self.values)

    def serve(self, binary):
        self.launch([binary, "serve", "--config", self.state / "config.toml"], "/readyz")

    def reload(self, **values):
        self.configure(**values)
        os.kill(self.pid, signal.SIGHUP)

    def kill(self):
        self.end(signal.SIGKILL)
        self.relaunch()

    def restart(self):
        status = self.end(signal.SIGTERM)
        if status != 0:
            raise Failure(f"the receiver ended with {status} after SIGTERM")
        self.relaunch()

    def post(self, path, body):
        """The status of the answer to a webhook, over a connection for it alone."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()


class Pings:
    """Who watches the receiver: counts what `ping_url` asks for."""

    def __init__(self):
        pings = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                pings.count += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.count, self.port = 0, free_port()
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.port}/ping"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
