"""JSON over loopback HTTP."""

import json
import urllib.error
import urllib.request

# Never through a proxy that the caller's environment may name.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    def __init__(self, method, url, status, body):
        super().__init__(f"{method} {url}: {status} {body[:300]}")
        self.status = status


def call(method, url, body=None, token=None, timeout=30):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with OPENER.open(request, timeout=timeout) as response:
            return json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        # Without the query: a URL in an error text should be short.
        raise Refused(method, url.partition("?")[0], error.code, error.read().decode(errors="replace")) from None


def fetch(url, token):
    """The bytes of a file."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with OPENER.open(request, timeout=30) as response:
        return response.read()


def is_up(url):
    """Whether `url` answers 200; what it says is of no interest."""
    try:
        with OPENER.open(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False
