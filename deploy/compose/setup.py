#!/usr/bin/env python3
"""Prepares what compose.yaml starts. Idempotent: what is there and good is kept.

    setup.py secrets    makes the secrets, each readable by the one who needs it
    setup.py accounts   registers the bot and an operator, makes the room, gets the bot's access token

To have the bot log in again, delete secrets/receiver/access-token. Only the standard library: it runs in Synapse's image."""

import hashlib
import hmac
import json
import os
import pathlib
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

SECRETS = pathlib.Path(os.environ.get("SECRETS", "/secrets"))
DATA = pathlib.Path(os.environ.get("DATA", "/data"))
SERVER_NAME = os.environ.get("SERVER_NAME", "localhost")
HOMESERVER = os.environ.get("HOMESERVER", "http://synapse:8008")
BOT, OPERATOR, ROOM = "alerts", "operator", "alerts"
# One device for good: the homeserver recognises events sent twice by it.
DEVICE = "ALERTMANAGER"
# The users of the images.
SYNAPSE, ALERTMANAGER, RECEIVER, POSTGRES = 991, 65534, 65532, 999
READY_WITHIN = 120


def own(path, uid, mode):
    """Without root, everything is the caller's."""
    if os.geteuid() == 0:
        os.chown(path, uid, uid)
    path.chmod(mode)


def put(name, value, uid):
    """A secret, there at once and whole, for one user's eyes."""
    path = SECRETS / name
    path.parent.mkdir(exist_ok=True)
    own(path.parent, uid, 0o500 if os.geteuid() == 0 else 0o700)
    new = path.with_name(path.name + ".new")
    new.touch(mode=0o600)
    new.write_text(value + "\n")
    own(new, uid, 0o400)
    new.replace(path)
    print(f"made secrets/{name}")


def get(name):
    path = SECRETS / name
    return path.read_text().strip() if path.exists() else ""


def make_secrets():
    SECRETS.mkdir(exist_ok=True)
    SECRETS.chmod(0o711)
    own(DATA, SYNAPSE, 0o700)
    for name, uid in [
        ("synapse/registration-shared-secret", SYNAPSE),
        ("synapse/macaroon-secret-key", SYNAPSE),
        ("setup/bot-password", 0),
        ("setup/operator-password", 0),
    ]:
        if not get(name):
            put(name, secrets.token_urlsafe(32), uid)
    # One token: the receiver asks for what Alertmanager sends.
    token = get("receiver/webhook-token") or get("alertmanager/webhook-token") or secrets.token_urlsafe(32)
    for name, uid in [("receiver/webhook-token", RECEIVER), ("alertmanager/webhook-token", ALERTMANAGER)]:
        if get(name) != token:
            put(name, token, uid)
    # For compose.replicas.yaml: replicas log in by themselves.
    if get("receiver/matrix-password") != get("setup/bot-password"):
        put("receiver/matrix-password", get("setup/bot-password"), RECEIVER)
    # Without TLS: the network is this machine's.
    password = get("postgres/password") or secrets.token_urlsafe(32)
    url = f"postgres://receiver:{password}@postgres/receiver?sslmode=disable"
    for name, value, uid in [("postgres/password", password, POSTGRES), ("receiver/database-url", url, RECEIVER)]:
        if get(name) != value:
            put(name, value, uid)


def ask(method, path, body=None, token=""):
    """The status and the answer."""
    request = urllib.request.Request(HOMESERVER + path, method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, {"error": text[:200]}


def must(what, answer):
    status, body = answer
    if status != 200:
        sys.exit(f"setup: {what}: {status} {body.get('errcode', '')} {body.get('error', '')}")
    return body


def await_homeserver():
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            if ask("GET", "/_matrix/client/versions")[0] == 200:
                return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"setup: {HOMESERVER} does not answer: {error}")
        time.sleep(0.5)


def register(user, password):
    """By the shared secret, https://element-hq.github.io/synapse/latest/admin_api/register_api.html"""
    nonce = must("a nonce", ask("GET", "/_synapse/admin/v1/register"))["nonce"]
    text = "\0".join([nonce, user, password, "notadmin"])
    mac = hmac.new(get("synapse/registration-shared-secret").encode(), text.encode(), hashlib.sha1).hexdigest()
    body = {"nonce": nonce, "username": user, "password": password, "admin": False, "mac": mac}
    status, answer = ask("POST", "/_synapse/admin/v1/register", body)
    if status == 200:
        print(f"registered @{user}:{SERVER_NAME}")
        must("logging out what registering logged in", ask("POST", "/_matrix/client/v3/logout", {}, answer["access_token"]))
    elif answer.get("errcode") != "M_USER_IN_USE":
        must(f"registering {user}", (status, answer))


def login(user, password, **device):
    identifier = {"type": "m.id.user", "user": user}
    body = {"type": "m.login.password", "identifier": identifier, "password": password, **device}
    return must(f"logging in {user}", ask("POST", "/_matrix/client/v3/login", body))["access_token"]


def bot_token():
    """The one that is there, if the homeserver takes it."""
    token = get("receiver/access-token")
    if token and ask("GET", "/_matrix/client/v3/account/whoami", token=token)[0] == 200:
        return token
    device = {"device_id": DEVICE, "initial_device_display_name": "matrix-alertmanager-receiver"}
    token = login(BOT, get("setup/bot-password"), **device)
    put("receiver/access-token", token, RECEIVER)
    return token


def make_room():
    """By the operator, who is then its admin."""
    operator = login(OPERATOR, get("setup/operator-password"), initial_device_display_name="setup")
    body = {"preset": "private_chat", "name": "Alerts", "room_alias_name": ROOM, "invite": [f"@{BOT}:{SERVER_NAME}"]}
    room = must("making the room", ask("POST", "/_matrix/client/v3/createRoom", body, operator))["room_id"]
    print(f"made the room #{ROOM}:{SERVER_NAME}")
    must("logging out", ask("POST", "/_matrix/client/v3/logout", {}, operator))
    return room


def make_accounts():
    await_homeserver()
    register(BOT, get("setup/bot-password"))
    register(OPERATOR, get("setup/operator-password"))
    bot = bot_token()
    alias = urllib.parse.quote(f"#{ROOM}:{SERVER_NAME}", safe="")
    status, answer = ask("GET", f"/_matrix/client/v3/directory/room/{alias}", token=bot)
    room = answer["room_id"] if status == 200 else make_room()
    must("joining the room", ask("POST", f"/_matrix/client/v3/join/{urllib.parse.quote(room, safe='')}", {}, bot))
    if get("receiver/room-id") != room:
        put("receiver/room-id", room, RECEIVER)
    print(f"log in as @{OPERATOR}:{SERVER_NAME}; the password is in secrets/setup/operator-password")


if __name__ == "__main__":
    steps = {"secrets": make_secrets, "accounts": make_accounts}
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        sys.exit(__doc__)
    steps[sys.argv[1]]()
