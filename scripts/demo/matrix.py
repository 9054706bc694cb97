"""Matrix as a person uses it: the client-server API, and a room as its members see it."""

import hashlib
import hmac
import json
import secrets
from urllib.parse import quote, urlencode

from http_client import call, fetch

# Short enough to notice between two polls that a server has died.
LONG_POLL_MS = 1000


def register(homeserver, shared_secret, name, password, admin=False):
    """Makes a user, as Synapse's own register_new_matrix_user does, and logs in."""
    url = f"{homeserver}/_synapse/admin/v1/register"
    nonce = call("GET", url)["nonce"]
    rights = "admin" if admin else "notadmin"
    mac = hmac.new(shared_secret.encode(), "\0".join([nonce, name, password, rights]).encode(), hashlib.sha1)
    user = {"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac.hexdigest()}
    answer = call("POST", url, user)
    return User(homeserver, answer["user_id"], answer["access_token"])


class User:
    def __init__(self, homeserver, user_id, token):
        self.homeserver, self.user_id, self.token = homeserver, user_id, token

    def call(self, method, path, body=None):
        return call(method, f"{self.homeserver}/_matrix/client/v3{path}", body, self.token)

    def set_name(self, name):
        self.call("PUT", f"/profile/{quote(self.user_id)}/displayname", {"displayname": name})

    def create_room(self, name, invite):
        room = {"preset": "private_chat", "name": name, "invite": invite}
        return self.call("POST", "/createRoom", room)["room_id"]

    def download(self, mxc):
        place = mxc.removeprefix("mxc://")
        return fetch(f"{self.homeserver}/_matrix/client/v1/media/download/{place}", self.token)

    def react(self, room_id, event_id, key):
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        path = f"/rooms/{quote(room_id)}/send/m.reaction/{secrets.token_hex(8)}"
        return self.call("PUT", path, {"m.relates_to": relation})["event_id"]

    def redact(self, room_id, event_id):
        self.call("PUT", f"/rooms/{quote(room_id)}/redact/{quote(event_id)}/{secrets.token_hex(8)}", {})


class Room:
    """A room in the eyes of one member, kept up to date by `sync`."""

    def __init__(self, user, room_id):
        self.user, self.room_id = user, room_id
        self.since = None
        self.members = {}
        # Event ids in the order of their arrival -> content. Edits are applied, not listed.
        self.roots, self.edits, self.replies = {}, {}, {}

    def sync(self):
        """Waits a moment for news, takes it in and returns it: messages as (kind, content)."""
        room_filter = {"room": {"rooms": [self.room_id], "timeline": {"limit": 100}}, "presence": {"types": []}}
        query = {"timeout": LONG_POLL_MS if self.since else 0, "filter": json.dumps(room_filter)}
        if self.since:
            query["since"] = self.since
        answer = self.user.call("GET", "/sync?" + urlencode(query))
        self.since = answer["next_batch"]
        room = answer.get("rooms", {}).get("join", {}).get(self.room_id, {})
        events = room.get("state", {}).get("events", []) + room.get("timeline", {}).get("events", [])
        return [news for event in events if (news := self._take(event))]

    def _take(self, event):
        content = event["content"]
        if event["type"] == "m.room.member":
            self.members[event["state_key"]] = content.get("membership")
        if event["type"] != "m.room.message" or "body" not in content:
            return None
        relation = content.get("m.relates_to", {})
        if relation.get("rel_type") == "m.replace" and "m.new_content" in content:
            self.edits.setdefault(relation["event_id"], []).append(content["m.new_content"])
            return "edit", content["m.new_content"]
        if relation.get("rel_type") == "m.thread":
            self.replies.setdefault(relation["event_id"], []).append(content)
            return "reply", content
        self.roots[event["event_id"]] = content
        return "message", content

    def shown(self, event_id):
        """A message as clients show it: its newest edit."""
        return self.edits.get(event_id, [self.roots[event_id]])[-1]
