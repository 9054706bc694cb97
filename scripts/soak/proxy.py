"""The way from the receiver to its homeserver, which fails on cue."""

import contextlib
import http.client
import itertools
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = ("Content-Type", "application/json")
# What belongs to one connection, and is not passed on.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class FaultProxy:
    def __init__(self, upstream, port):
        self.upstream, self.port = upstream, port
        self.url = f"http://127.0.0.1:{port}"
        # What happens to every second event that is sent; None: nothing.
        self.fault = None
        self.sends = itertools.count()
        self.failed = 0
        self.lock = threading.Lock()
        self.connections = set()
        self.server = None
        self.up()

    def up(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler_for(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def down(self):
        """Refuses connections, and ends those that there are."""
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def fault_of(self, is_send):
        with self.lock:
            if not (is_send and self.fault and next(self.sends) % 2 == 0):
                return None
            self.failed += 1
            return self.fault


def handler_for(proxy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body go out in two writes.
        disable_nagle_algorithm = True

        def setup(self):
            super().setup()
            self.above = None
            with proxy.lock:
                proxy.connections.add(self.connection)

        def finish(self):
            with proxy.lock:
                proxy.connections.discard(self.connection)
            if self.above:
                self.above.close()
            with contextlib.suppress(OSError):
                super().finish()

        def handle(self):
            with contextlib.suppress(OSError):
                super().handle()

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault_of(self.command == "PUT" and "/send/" in self.path)
            if fault == "limit":
                limit = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": 2000}
                return self.answer(429, [JSON, ("Retry-After", "2")], json.dumps(limit).encode())
            if fault == "fail":
                return self.answer(500, [JSON], b'{"errcode":"M_UNKNOWN","error":"Internal server error"}')
            try:
                status, headers, data = self.ask(body)
            except (OSError, http.client.HTTPException):
                self.close_connection = True
                return None
            if fault == "cut":
                # The event is in the room, and nobody says so.
                self.close_connection = True
                return None
            return self.answer(status, headers, data)

        do_GET = do_PUT = do_POST = do_DELETE = forward

        def ask(self, body):
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
            for is_last in (False, True):
                is_used = self.above is not None
                self.above = self.above or http.client.HTTPConnection(proxy.upstream, timeout=90)
                try:
                    self.above.request(self.command, self.path, body or None, headers)
                    response = self.above.getresponse()
                    return response.status, response.getheaders(), response.read()
                except (OSError, http.client.HTTPException):
                    self.above.close()
                    self.above = None
                    # One that was kept open may have been closed meanwhile.
                    if is_last or not is_used:
                        raise
            raise AssertionError("it returns or raises")

        def answer(self, status, headers, data):
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    return Handler
