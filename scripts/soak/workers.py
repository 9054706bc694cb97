"""Threads of the soak. One that fails ends the soak, with its reason."""

import http.client
import threading
import traceback

from failure import Failure
from http_client import Refused

# What a request may end with while servers come and go.
TROUBLE = (OSError, http.client.HTTPException, Refused)
BROKEN = []


def start(name, work):
    def run():
        try:
            work()
        except BaseException:
            BROKEN.append(f"{name}: {traceback.format_exc()}")

    threading.Thread(target=run, name=name, daemon=True).start()


def check():
    if BROKEN:
        raise Failure("\n".join(BROKEN))
