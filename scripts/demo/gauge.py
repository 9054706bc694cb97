"""The page that Prometheus scrapes: how often each pod of a pretended cluster was restarted."""

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POD = "jellyfin-0"
CALM, LOOPING = 0, 5

USAGE = "GET /metrics, POST /fire[/POD], POST /resolve[/POD]\n"


class Gauge:
    def __init__(self):
        self.restarts = {POD: CALM}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        self.server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fire(self, pod=POD):
        self.restarts[pod] = LOOPING

    def resolve(self, pod=POD):
        self.restarts[pod] = CALM

    def metrics(self):
        lines = ["# HELP demo_pod_restarts Restarts in the last 15 minutes.", "# TYPE demo_pod_restarts gauge"]
        for pod, restarts in sorted(self.restarts.copy().items()):
            lines.append(f"{series(pod)} {restarts}")
        return "\n".join(lines) + "\n"

    def past(self):
        """The hour before the demo, in OpenMetrics' text, so that a graph has something to show."""
        lines, now = ["# TYPE demo_pod_restarts gauge"], int(time.time())
        for ago in range(3600, 0, -15):
            restarts = 2 if ago < 240 else 1 if 1500 < ago < 2400 else 0
            lines.append(f"{series(POD)} {restarts} {now - ago}")
        return "\n".join([*lines, "# EOF"]) + "\n"

    def change(self, path):
        """Does what a POST asks for; None if it is nothing we know."""
        match = re.fullmatch(r"/(fire|resolve)(?:/([a-z0-9-]{1,63}))?", path)
        if not match:
            return None
        verb, pod = match[1], match[2] or POD
        (self.fire if verb == "fire" else self.resolve)(pod)
        return f"{pod}: {self.restarts[pod]} restarts\n"


def series(pod):
    return f'demo_pod_restarts{{namespace="media",pod="{pod}",container="jellyfin"}}'


def handler_for(gauge):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(gauge.metrics() if self.path == "/metrics" else None)

        def do_POST(self):
            self.answer(gauge.change(self.path))

        def answer(self, text):
            body = (text or USAGE).encode()
            self.send_response(404 if text is None else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass  # a line per scrape helps nobody

    return Handler
