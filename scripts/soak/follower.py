"""The rooms as a second user sees them, followed by sync, and whether they tell the truth."""

import json
import re
import time
from urllib.parse import quote, urlencode

from workers import TROUBLE, start

NAME = re.compile(r"\b[LR]\d{5}\b")
POLL_MS = 5000
# A busy homeserver may fail once or twice.
TRIES = 5


class RoomState:
    def __init__(self):
        # Event id -> text: of cards and the like, as they are now.
        self.roots = {}
        self.ops, self.faults = set(), []
        # Kind -> how many events of the bot.
        self.counts = {}
        # (name, event id) of the newest card.
        self.newest = None


class Follower:
    def __init__(self, user, bot, rooms, deliveries):
        self.user, self.bot, self.deliveries = user, bot, deliveries
        self.rooms = {room: RoomState() for room in rooms}
        self.since = None
        # When something came last.
        self.heard = time.monotonic()
        start("follower", self.follow)

    def newest(self, room):
        return self.rooms[room].newest

    def follow(self):
        failed = 0
        while True:
            try:
                self.sync()
                failed = 0
            except TROUBLE:
                failed += 1
                if failed == TRIES:
                    raise
                time.sleep(1)

    def sync(self):
        rooms = {"rooms": list(self.rooms), "timeline": {"limit": 100}, "ephemeral": {"types": []}}
        query = {"filter": json.dumps({"room": rooms, "presence": {"types": []}}), "timeout": POLL_MS if self.since else 0}
        if self.since:
            query["since"] = self.since
        answer = self.user.call("GET", "/sync?" + urlencode(query))
        for room, update in answer.get("rooms", {}).get("join", {}).items():
            timeline = update["timeline"]
            missed = self.read_back(room, timeline["prev_batch"]) if self.since and timeline.get("limited") else []
            for event in missed + timeline["events"]:
                self.take(room, event)
        self.since = answer["next_batch"]

    def read_back(self, room, start_at):
        """What came between two syncs and was too much for one, oldest first."""
        events = []
        while start_at:
            query = {"dir": "b", "from": start_at, "to": self.since, "limit": 100}
            answer = self.user.call("GET", f"/rooms/{quote(room)}/messages?" + urlencode(query))
            events += answer["chunk"]
            start_at = answer.get("end")
        return events[::-1]

    def take(self, room, event):
        state = self.rooms.get(room)
        if state is None or event["sender"] != self.bot or "state_key" in event or not event["content"]:
            return
        content, now = event["content"], time.monotonic()
        self.heard = now
        relation = content.get("m.relates_to", {})
        kind = relation.get("rel_type") or ("reply" if relation else "root")
        if event["type"] not in ("m.room.message", "m.room.encrypted"):
            kind = event["type"]
        state.counts[kind] = state.counts.get(kind, 0) + 1
        if event["type"] == "m.room.encrypted" and kind == "root":
            state.newest = ("", event["event_id"])
        if event["type"] != "m.room.message":
            return
        op = content.get("matrix_alertmanager_receiver", {}).get("op")
        if op in state.ops:
            state.faults.append(f"the event of op {op} is in the room twice: {content['body'][:100]}")
        if op:
            state.ops.add(op)
        if kind == "m.replace":
            self.show(state, relation["event_id"], content["m.new_content"]["body"], now)
        elif kind == "root":
            self.show(state, event["event_id"], content["body"], now)
            if names := NAME.findall(content["body"].partition("\n")[0]):
                state.newest = (names[0], event["event_id"])

    def show(self, state, event_id, body, now):
        state.roots[event_id] = body
        for line in own_lines(body):
            for name in NAME.findall(line):
                self.deliveries.seen(name, now)

    def lines(self, room):
        """Name -> the lines about it, each of a card or digest as it is now."""
        found = {}
        for body in self.rooms[room].roots.values():
            for line in own_lines(body):
                for name in NAME.findall(line):
                    found.setdefault(name, []).append(line)
        return found


def own_lines(body):
    """The lines of which each is about one incident: a card's first, those of a digest's list; none of a notice that many are
    over."""
    first, *rest = body.split("\n")
    if " incident" not in first:
        return [first]
    if first.startswith("🟢") and re.match(r"🟢 \d+ incidents? resolved", first):
        return []
    return [line for line in rest if line.startswith("- ")]


def judge_plain(follower, room, incidents):
    """Each incident once, as it was accepted last."""
    faults, lines = list(follower.rooms[room].faults), follower.lines(room)
    for incident in incidents:
        found = lines.get(incident.name, [])
        firing = incident.fires()
        wanted = f"· {firing} firing" if firing else "🟢"
        if not found:
            faults.append(f"lost: {incident.name}")
        elif len(found) > 1:
            faults.append(f"repeated: {incident.name}: {found}")
        elif wanted not in found[0]:
            faults.append(f"stale: {incident.name} should say {wanted!r}: {found[0]}")
    return faults


def judge_real(follower, room, names, silenced):
    """Each once, and over. What ended while it was silenced may be called gone: that is all that Alertmanager says of it."""
    faults, lines = list(follower.rooms[room].faults), follower.lines(room)
    for name in sorted(names):
        found = lines.get(name, [])
        if len(found) != 1:
            faults.append(f"{name} has {len(found)} cards: {found}")
        elif "🟢" not in found[0] and not (name in silenced and ("⚪" in found[0] or "🔕" in found[0])):
            faults.append(f"stale: {name} should be over: {found[0]}")
    return faults


def judge_sealed(follower, room, incidents):
    """What is in the events cannot be read here; their number, and that none is in the clear, can."""
    state, wanted = follower.rooms[room], len(incidents)
    faults = []
    if state.counts.get("root", 0) != wanted:
        faults.append(f"encrypted room: {state.counts.get('root', 0)} cards for {wanted} incidents")
    if state.ops or state.roots:
        faults.append("encrypted room: events in the clear")
    return faults
