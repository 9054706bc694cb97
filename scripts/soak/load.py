"""What happens to the receiver: webhooks that the soak posts itself, alerts that a real Alertmanager posts, and a person who acts."""

import hashlib
import heapq
import itertools
import json
import random
import secrets
import threading
import time
from datetime import datetime, timezone
from urllib.parse import quote

from http_client import call
from workers import TROUBLE, start

NEVER = "0001-01-01T00:00:00Z"
POSTERS = 6
# Seconds between the beginnings of two incidents.
PLAIN_EVERY, SEALED_EVERY, REAL_EVERY = 5, 20, 20
# An incident's webhooks: seconds after the one before (of two minutes in all), and what has become of its alerts.
STEPS = [(0, "open"), (13, "same"), (13, "more"), (13, "same"), (13, "same"), (13, "less"), (13, "same"), (13, "over")]
FLAP = [(8, "open"), (13, "over")]
STORM = [(0, "open"), (60, "over")]
LINES = ["level=info msg=\"Startup complete\"", "level=warn msg=\"Database is locked, will retry\"",
         "level=error msg=\"Cannot open database\" dsn=postgres://media:hunter2@db:5432/media"]
# Grafana Explore with a Loki query, as in the demo's rules.
LOGS_URL = (
    "https://grafana.example.org/explore?schemaVersion=1&orgId=1&panes=%7B%22log%22%3A%7B%22datasource%22%3A%22loki%22%2C"
    "%22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22expr%22%3A%22%7Bnamespace%3D%5C%22media%5C%22%2Cpod%3D%5C%22"
    "jellyfin-0%5C%22%7D%22%2C%22queryType%22%3A%22range%22%2C%22datasource%22%3A%7B%22type%22%3A%22loki%22%2C%22uid%22"
    "%3A%22loki%22%7D%7D%5D%7D%7D"
)


def now_text():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Incident:
    """One group of alerts, and how its webhooks go on."""

    def __init__(self, name, route, steps, alerts):
        self.name, self.route, self.steps = name, route, steps
        self.step = 0
        # The body of this step, once it is made.
        self.prepared = None
        self.instances = [f"node{number:02}" for number in range(alerts)]
        # Instance -> since, until.
        self.alerts = {}

    def is_over(self):
        return self.step == len(self.steps)

    def fires(self):
        """How many of its alerts do, by what was accepted last."""
        return sum(until is None for _, until in self.alerts.values())

    def advance(self):
        """Does what the next step says, once, however often it is posted."""
        what = self.steps[self.step][1]
        if what == "open":
            for instance in self.instances:
                self.alerts[instance] = (now_text(), None)
        elif what == "more":
            self.alerts["another"] = (now_text(), None)
        elif what == "less":
            self.end(["another"])
        elif what == "over":
            self.end([instance for instance, (_, until) in self.alerts.items() if until is None])

    def end(self, instances):
        for instance in instances:
            self.alerts[instance] = (self.alerts[instance][0], now_text())

    def forget(self):
        """Alertmanager lists what is over until that was accepted."""
        self.alerts = {instance: span for instance, span in self.alerts.items() if span[1] is None}

    def body(self):
        alerts = [alert(self.name, instance, *span) for instance, span in self.alerts.items()]
        payload = {
            "version": "4",
            "groupKey": f'{{}}:{{alertname="{self.name}"}}',
            "truncatedAlerts": 0,
            "status": "firing" if self.fires() else "resolved",
            "receiver": "matrix",
            "groupLabels": {"alertname": self.name},
            "commonLabels": {"alertname": self.name, "severity": "warning"},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example:9093",
            "alerts": alerts,
        }
        return json.dumps(payload).encode()


def alert(name, instance, since, until):
    labels = {"alertname": name, "instance": instance, "severity": "warning", "namespace": "soak"}
    return {
        "status": "resolved" if until else "firing",
        "labels": labels,
        "annotations": {"summary": f"Something is wrong with {instance}", "description": "It has been for a while. " * 8},
        "startsAt": since,
        "endsAt": until or NEVER,
        "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
        "fingerprint": hashlib.blake2b(json.dumps(labels).encode(), digest_size=8).hexdigest(),
    }


class Webhooks:
    """Posts as Alertmanager does: the same again until it is accepted."""

    def __init__(self, receiver, deliveries, pace, seed):
        self.receiver, self.deliveries, self.pace = receiver, deliveries, pace
        self.random = random.Random(seed)
        self.condition = threading.Condition()
        self.queue, self.order = [], itertools.count()
        # All that were opened.
        self.incidents, self.names = [], itertools.count()
        # (when it was answered, seconds that it took)
        self.latencies = []
        self.accepted = self.failed = 0
        self.is_opening = True
        for number in range(POSTERS):
            start(f"poster {number}", self.post_all)
        start("opener", self.open_all)

    def open_all(self):
        for number in itertools.count():
            if not self.is_opening:
                return
            steps = STEPS + FLAP * (number % 3 == 0)
            self.open("default", steps, self.random.randint(1, 4))
            if number * PLAIN_EVERY % SEALED_EVERY == 0:
                self.open("sealed", STEPS, 2)
            time.sleep(PLAIN_EVERY)

    def open(self, route, steps, alerts, delay=0.0):
        incident = Incident(f"{'S' if route == 'sealed' else 'L'}{next(self.names):05}", route, steps, alerts)
        self.incidents.append(incident)
        self.put(incident, delay)

    def storm(self, incidents):
        """All within two seconds."""
        for number in range(incidents):
            self.open("default", STORM, 2, delay=2.0 * number / incidents)

    def put(self, incident, delay):
        with self.condition:
            heapq.heappush(self.queue, (time.monotonic() + delay, next(self.order), incident))
            self.condition.notify()

    def take(self):
        """The next one whose time has come."""
        with self.condition:
            while True:
                wait = self.queue[0][0] - time.monotonic() if self.queue else 1.0
                if wait <= 0:
                    return heapq.heappop(self.queue)[2]
                self.condition.wait(min(wait, 1.0))

    def post_all(self):
        while True:
            incident = self.take()
            if incident.prepared is None:
                incident.advance()
                incident.prepared = incident.body()
            self.post(incident)

    def post(self, incident):
        began = time.monotonic()
        try:
            is_accepted = self.receiver.post(f"/alerts/{incident.route}", incident.prepared) == 200
        except TROUBLE:
            is_accepted = False
        ended = time.monotonic()
        if not is_accepted:
            self.failed += 1
            return self.put(incident, 1.0)
        self.accepted += 1
        self.latencies.append((ended, ended - began))
        if incident.step == 0:
            self.deliveries.accepted(incident.name, ended)
        incident.step += 1
        incident.prepared = None
        incident.forget()
        if not incident.is_over():
            self.put(incident, incident.steps[incident.step][0] * self.pace)
        return None

    def is_done(self):
        return all(incident.is_over() for incident in self.incidents)


class Deliveries:
    """From the answer 200 to the moment when a second user sees the incident's name in the room."""

    def __init__(self):
        self.lock = threading.Lock()
        self.begun, self.seen_at, self.took = {}, {}, []

    def accepted(self, name, at):
        with self.lock:
            self.begun[name] = at
            self.compare(name)

    def seen(self, name, at):
        with self.lock:
            if name not in self.seen_at:
                self.seen_at[name] = at
                self.compare(name)

    def compare(self, name):
        if name in self.begun and name in self.seen_at:
            # The room may have it before the answer is read.
            self.took.append((self.seen_at[name], max(0.0, self.seen_at[name] - self.begun[name])))


class RealAlerts:
    """A rule evaluator: tells Alertmanager again and again what fires, and for a while what is over."""

    SEND_EVERY, LIFE, OVER = 5, 120, 180

    def __init__(self, alertmanager, prometheus, loki, gauge, pace):
        self.alertmanager, self.loki, self.gauge, self.pace = alertmanager, loki, gauge, pace
        self.source = f"{prometheus.url}/graph?g0.expr=demo_pod_restarts+%3E+3&g0.tab=1"
        # Name -> (since as text, begun, ended or None)
        self.alerts, self.names = {}, itertools.count()
        # What was said at least once while it fired.
        self.said = set()
        self.failed = 0
        self.is_opening = True
        start("rules", self.evaluate)

    def evaluate(self):
        opened = 0.0
        for turn in itertools.count():
            now = time.monotonic()
            if self.is_opening and now - opened >= REAL_EVERY:
                self.alerts[f"R{next(self.names):05}"] = (now_text(), now, None)
                opened = now
            for name, (since, begun, ended) in list(self.alerts.items()):
                if ended is None and now - begun >= self.LIFE * self.pace:
                    self.alerts[name] = (since, begun, now)
                elif ended is not None and now - ended >= self.OVER:
                    del self.alerts[name]
            self.send()
            if turn % 6 == 0:
                self.gauge.fire()
                if self.loki:
                    self.try_to(lambda: self.loki.push({"namespace": "media", "pod": "jellyfin-0"}, LINES))
            time.sleep(self.SEND_EVERY)

    def send(self):
        alerts = [self.alert(name, *span) for name, span in self.alerts.items()]
        if alerts and self.try_to(lambda: call("POST", f"{self.alertmanager.url}/api/v2/alerts", alerts, timeout=5)):
            self.said |= {name for name, (_, _, ended) in self.alerts.items() if ended is None}

    def alert(self, name, since, _begun, ended):
        # As Prometheus does: what fires ends by itself if nothing more is heard.
        until = time.time() + 60 if ended is None else time.time() - (time.monotonic() - ended)
        return {
            "labels": {"alertname": name, "namespace": "media", "pod": "jellyfin-0", "severity": "critical"},
            "annotations": {"summary": "A pod is crash looping", "logs_url": LOGS_URL},
            "generatorURL": self.source,
            "startsAt": since,
            "endsAt": datetime.fromtimestamp(until, timezone.utc).isoformat(timespec="milliseconds"),
        }

    def try_to(self, do):
        try:
            do()
            return True
        except TROUBLE:
            self.failed += 1
            return False

    def is_done(self):
        return all(ended is not None for _, _, ended in list(self.alerts.values()))


class Person:
    """Reacts to the newest cards, asks, and takes back what silences."""

    EVERY, UNDO = 15, 8

    def __init__(self, user, follower, real_room, sealed_room):
        self.user, self.follower, self.real, self.sealed = user, follower, real_room, sealed_room
        self.done = self.failed = 0
        # Names of incidents that were silenced for a while.
        self.silenced = set()
        self.is_acting = True
        start("person", self.act_all)

    def act_all(self):
        acts = itertools.cycle([self.take, self.react_silence, self.ask, self.say_silence, self.ask_for_all, self.look])
        while True:
            time.sleep(self.EVERY)
            newest = self.follower.newest(self.real)
            if not self.is_acting or not newest:
                continue
            try:
                next(acts)(*newest)
                self.done += 1
            except TROUBLE:
                self.failed += 1

    # Each is called with the name of the newest card's incident, and the card.

    def take(self, _name, card):
        self.user.react(self.real, card, "✅")
        if sealed := self.follower.newest(self.sealed):
            self.user.react(self.sealed, sealed[1], "👀")

    def react_silence(self, name, card):
        self.silenced.add(name)
        reaction = self.user.react(self.real, card, "🔕")
        time.sleep(self.UNDO)
        self.user.redact(self.real, reaction)

    def ask(self, _name, card):
        self.say("!why", card)

    def say_silence(self, name, card):
        self.silenced.add(name)
        self.say("!silence 1m soak", card)
        time.sleep(self.UNDO)
        self.say("!unsilence", card)

    def ask_for_all(self, _name, _card):
        self.say("!alerts")

    def look(self, _name, card):
        self.say("!logs 3", card)
        self.say("!graph", card)

    def say(self, text, card=None):
        content = {"msgtype": "m.text", "body": text}
        if card:
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": card}
        path = f"/rooms/{quote(self.real)}/send/m.room.message/{secrets.token_hex(8)}"
        self.user.call("PUT", path, content)


class Onlookers:
    """Look at the status page, the health and the metrics, each over a new connection."""

    EVERY = 5

    def __init__(self, receiver):
        self.receiver = receiver
        self.seen = self.failed = 0
        self.metrics = ""
        start("onlookers", self.look)

    def look(self):
        while True:
            for path in ("/", "/healthz", "/metrics"):
                try:
                    status, text = self.receiver.get(path)
                except TROUBLE:
                    # It may just be down, on purpose; how often is counted.
                    status, text = 0, ""
                # /healthz may say 503 while the homeserver is away.
                if status == 200 or path == "/healthz" and status == 503:
                    self.seen += 1
                else:
                    self.failed += 1
                if path == "/metrics":
                    self.metrics = text
            time.sleep(self.EVERY)
