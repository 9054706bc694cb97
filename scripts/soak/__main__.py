"""The soak: the receiver with everything on, for an hour, and whether anything grows.

A real Synapse (behind a proxy that fails at times), Alertmanager, Prometheus and, where it is built, Loki; a plain and an encrypted
room that the soak posts to itself, and a third whose alerts a real Alertmanager posts; somebody who reacts and asks; faults one
after the other. What is measured goes to target/soak/, and at the end the first quarter is held against the last, and each room
against what was accepted. Ends with 1 if something grows, or a room does not tell the truth.

Run by `make soak`; MINUTES=60, BINARY=path of the receiver, SEED=1.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
# The servers, users and HTTP of the demo.
sys.path.insert(1, str(ROOT / "scripts/demo"))

import itertools
import secrets
from urllib.parse import quote

import workers
from children import Children
from failure import Deadline, Failure, Stopped, wait_until
from follower import Follower, judge_plain, judge_real, judge_sealed
from gauge import Gauge
from http_client import call
from load import STORM, Deliveries, Onlookers, Person, RealAlerts, Webhooks
from matrix import register
from proxy import FaultProxy
from samples import Quarters, Sampler, metric, pooled
from servers import Loki, Synapse, free_port, write_secret
from stack import Alertmanager, Pings, Prometheus, Receiver
from terminal import say

OUT = ROOT / "target/soak"
BINARY = ROOT / "target/release/matrix-alertmanager-receiver"
# Of the whole time: when the process is killed, when it is asked to end, and from when on the last one is measured.
KILL, RESTART, MEASURED = 0.06, 0.1, 0.25
# At the end there are so many incidents that fire on, with so many alerts.
LEFT = (5, 3)
SETTLE_SECONDS = 240


def seconds_text(seconds):
    return f"{max(1, round(seconds))}s"


class Soak:
    def __init__(self, minutes, binary, seed):
        self.total, self.binary, self.seed = 60.0 * minutes, binary, seed
        # Short runs live faster, so that incidents begin, end and are pruned in them as well.
        self.pace = min(1.0, minutes / 12)
        self.state = OUT / "state"
        (OUT / "log").mkdir()
        self.state.mkdir(mode=0o700)
        self.children = Children(OUT / "log")
        self.gauge, self.pings = Gauge(), Pings()
        self.synapse = Synapse(self.children, self.state)
        self.alertmanager = Alertmanager(self.children, self.state)
        self.prometheus = Prometheus(self.children, self.state)
        self.loki = Loki(self.children, self.state, ROOT / ".tools/loki/loki")
        self.receiver = Receiver(self.children, self.state)
        self.events = (OUT / "faults.log").open("w")
        self.faults = 0

    def begin(self):
        say(f"Starting the servers; what they say is in {OUT}/log")
        self.alertmanager.serve(self.receiver.url, self.receiver.token_file)
        self.prometheus.serve(self.gauge.address, self.receiver.address, self.alertmanager.address)
        if self.loki.is_there:
            self.loki.serve()
        else:
            say("Loki is not built: no log lines beside the cards")
        self.synapse.serve(ROOT / ".tools/synapse/bin/python")
        self.proxy = FaultProxy(self.synapse.address, free_port())
        self.make_users_and_rooms()
        self.receiver.configure(**self.config())
        self.receiver.serve(self.binary)
        self.deliveries = Deliveries()
        self.follower = Follower(self.user, self.bot.user_id, self.rooms, self.deliveries)
        self.onlookers = Onlookers(self.receiver)
        self.webhooks = Webhooks(self.receiver, self.deliveries, self.pace, self.seed)
        loki = self.loki if self.loki.is_there else None
        self.alerts = RealAlerts(self.alertmanager, self.prometheus, loki, self.gauge, self.pace)
        self.person = Person(self.user, self.follower, self.real, self.sealed)
        every = max(2.0, min(15.0, self.total / 90))
        figures = OUT / "figures.csv"
        self.sampler = Sampler(self.receiver, self.webhooks, self.deliveries, self.onlookers, figures, every)
        self.began = self.sampler.began

    def make_users_and_rooms(self):
        url, secret, self.password = self.synapse.url, self.synapse.shared_secret, secrets.token_urlsafe(24)
        admin = register(url, secret, "admin", secrets.token_urlsafe(24), admin=True)
        self.bot = register(url, secret, "alerts", self.password)
        self.user = register(url, secret, "sre", secrets.token_urlsafe(24))
        # Else nearly all would be digests; limits come as one of the faults.
        for user in (self.bot, self.user):
            limit = {"messages_per_second": 0, "burst_count": 0}
            path = f"/_synapse/admin/v1/users/{quote(user.user_id)}/override_ratelimit"
            call("POST", url + path, limit, admin.token)
        self.plain = self.user.create_room("Plain", invite=[self.bot.user_id])
        self.sealed = self.user.create_room("Encrypted", invite=[self.bot.user_id])
        encryption = {"algorithm": "m.megolm.v1.aes-sha2"}
        self.user.call("PUT", f"/rooms/{quote(self.sealed)}/state/m.room.encryption/", encryption)
        self.real = self.user.create_room("Real", invite=[self.bot.user_id])
        self.rooms = [self.plain, self.sealed, self.real]

    def config(self):
        return {
            "HOMESERVER_URL": self.proxy.url,
            "BOT_USER": self.bot.user_id,
            "PASSWORD_FILE": write_secret(self.state / "password", self.password),
            "RETENTION": seconds_text(240 * self.pace),
            "ALERTMANAGER_URL": self.alertmanager.url,
            "PROMETHEUS_URL": self.prometheus.url,
            "LOKI": f'loki = {{ url = "{self.loki.url}" }}' if self.loki.is_there else "",
            "PLAIN_ROOM": self.plain,
            "SEALED_ROOM": self.sealed,
            "REAL_ROOM": self.real,
            "REMIND_AFTER": seconds_text(30 * self.pace),
            "ESCALATE_AFTER": seconds_text(45 * self.pace),
            "USER": self.user.user_id,
            "PING_URL": self.pings.url,
        }

    def second(self):
        return time.monotonic() - self.began

    def rest(self, seconds):
        """Nothing may end by itself meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.children.check()
            workers.check()
            time.sleep(min(0.25, left))

    def rest_until(self, share):
        self.rest(max(0.0, share * self.total - self.second()))

    def for_a_while(self, seconds):
        self.rest(max(5.0, seconds * self.pace))

    def note(self, text):
        self.events.write(f"{self.second():7.1f} {text}\n")
        self.events.flush()

    def endure(self):
        say(f"Load for {self.total / 60:g} min; figures every {self.sampler.every:g} s in {OUT}/figures.csv")
        self.rest_until(KILL)
        self.note("the receiver is killed")
        self.receiver.kill()
        self.rest_until(RESTART)
        self.note("the receiver is asked to end")
        self.receiver.restart()
        # The last minute is without faults, so that the end is that of an ordinary day.
        end = self.total - 60 * self.pace
        for fault in itertools.cycle(self.troubles()):
            self.rest(45 * self.pace)
            if self.second() > end:
                break
            self.note(fault.__doc__)
            fault()
            self.faults += 1
        self.rest_until(1.0)
        self.measured_until = self.second()

    def troubles(self):
        return [
            self.homeserver_away,
            self.storm,
            self.answers_lost,
            self.alertmanager_restarted,
            self.rate_limited,
            self.reload,
            self.homeserver_fails,
            self.storm,
            self.alertmanager_away,
            self.sources_hang,
        ]

    def homeserver_away(self):
        """the homeserver refuses connections for 20 s"""
        self.proxy.down()
        self.for_a_while(20)
        self.proxy.up()

    def answers_lost(self):
        """every second event arrives, and its answer does not, for 15 s"""
        self.send_with("cut")

    def rate_limited(self):
        """every second event is answered 429 for 15 s"""
        self.send_with("limit")

    def homeserver_fails(self):
        """every second event is answered 500 for 15 s"""
        self.send_with("fail")

    def send_with(self, fault):
        self.proxy.fault = fault
        self.for_a_while(15)
        self.proxy.fault = None

    def storm(self):
        """thirty incidents at once"""
        self.webhooks.storm(30)

    def alertmanager_restarted(self):
        """Alertmanager is started again"""
        self.alertmanager.end(signal.SIGTERM)
        self.alertmanager.relaunch()

    def alertmanager_away(self):
        """Alertmanager is away for 40 s"""
        self.alertmanager.end(signal.SIGTERM)
        self.for_a_while(40)
        self.alertmanager.relaunch()

    def reload(self):
        """another config, and SIGHUP"""
        seconds = 30 * self.pace + self.faults % 2
        self.receiver.reload(REMIND_AFTER=seconds_text(seconds))

    def sources_hang(self):
        """Prometheus and Loki answer nothing for 20 s"""
        pids = [self.prometheus.pid, *([self.children.servers["loki"].pid] if self.loki.is_there else [])]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            self.for_a_while(20)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def settle(self):
        """Ends the load, and waits until nothing is left to deliver."""
        say("The load ends; waiting until the rooms are in step")
        self.webhooks.is_opening = self.alerts.is_opening = self.person.is_acting = False
        left, alerts = LEFT
        for _ in range(left):
            self.webhooks.open("default", STORM[:1], alerts)
        self.wait_for("all webhooks are accepted", self.webhooks.is_done)
        self.wait_for("all alerts are over", self.alerts.is_done)
        self.wait_for("the receiver has nothing left to deliver", self.is_delivered)
        # From now on: Alertmanager has yet to post what has just ended, which takes its group_interval.
        quiet, since = 15, time.monotonic()
        is_quiet = lambda: time.monotonic() - max(since, self.follower.heard) > quiet
        self.wait_for("the rooms are quiet", lambda: is_quiet() and self.is_delivered())
        self.sampler.is_on = False

    def wait_for(self, what, condition):
        deadline = Deadline(what, SETTLE_SECONDS)
        while not condition():
            deadline.check()
            self.rest(1)

    def is_delivered(self):
        text = self.metrics()
        states = ("waiting", "in_flight", "in_doubt", "parked")
        return sum(metric(text, "outbox_ops", f'state="{state}"') for state in states) == 0

    def metrics(self):
        def answer():
            try:
                status, text = self.receiver.get("/metrics")
                return status == 200 and text
            except workers.TROUBLE:
                return None

        return wait_until("the receiver answers /metrics", 60, answer, self.children.check)

    def judge(self):
        """What is wrong, a line each."""
        of_route = lambda route: [incident for incident in self.webhooks.incidents if incident.route == route]
        yield from judge_plain(self.follower, self.plain, of_route("default"))
        yield from judge_sealed(self.follower, self.sealed, of_route("sealed"))
        yield from judge_real(self.follower, self.real, self.alerts.said, self.person.silenced)
        text = self.metrics()
        for name in ("dead_letters_total", "lane_panics_total"):
            if count := metric(text, name):
                yield f"{name} is {count:.0f}"
        for log in sorted((OUT / "log").glob("receiver-*.log")):
            if panics := log.read_text(errors="replace").count("panicked at"):
                yield f"{panics} panics in {log.name}"
        if not (self.person.done and self.pings.count and self.proxy.failed and self.onlookers.seen):
            yield "nobody acted, pinged, failed or looked: the soak proves nothing"

    def quarters(self):
        begin = MEASURED * self.total
        last = self.receiver.processes
        return Quarters([row for row in self.sampler.rows if row["process"] == last], begin, self.measured_until)

    def report(self):
        quarters = self.quarters()
        yield f"{self.total / 60:g} minutes, of which the last {(self.measured_until - quarters.begin) / 60:.0f} are compared, by"
        yield f"{len(quarters.rows)} samples of one process; {self.receiver.processes} processes, {self.faults} faults."
        yield ""
        yield from quarters.table()
        yield ""
        for process in range(1, self.receiver.processes + 1):
            rows = [row for row in self.sampler.rows if row["process"] == process]
            most = lambda name: max((row[name] for row in rows), default=0)
            yield f"process {process}: {len(rows)} samples, at most {most('private_mib'):.1f} MiB and {most('fds')} descriptors"
        webhooks, deliveries = self.webhooks.latencies, self.deliveries.took
        for what, pairs in (("webhooks until their 200", webhooks), ("200 until seen by a second user", deliveries)):
            for name, number in (("first", 0), ("last", 3)):
                begin = self.began + quarters.begin + number * quarters.length
                count, *took = pooled(pairs, begin, begin + quarters.length)
                p50, p95, p99, most = (f"{ms:.0f}" for ms in took)
                yield f"{name} quarter, {count} {what}: p50 {p50}, p95 {p95}, p99 {p99}, most {most} ms"
        counts = [self.follower.rooms[room].counts for room in self.rooms]
        yield ""
        yield f"webhooks accepted: {self.webhooks.accepted}, tried again: {self.webhooks.failed}"
        yield f"incidents: {len(self.webhooks.incidents)} posted, {len(self.alerts.said)} by Alertmanager"
        yield f"events in the rooms (plain, encrypted, real): {counts}"
        yield f"acts: {self.person.done}, not done: {self.person.failed}; pings: {self.pings.count}"
        yield f"looked at pages: {self.onlookers.seen}, in vain: {self.onlookers.failed}"
        yield f"sends that failed on purpose: {self.proxy.failed}"
        text = self.metrics()
        for name in ("possible_duplicates_total", "rate_limited_total"):
            yield f"{name}: {metric(text, name):.0f}"
        for name in ("acts_total", "evidence_total", "escalations_total", "alertmanager_requests_total"):
            lines = [line for line in text.splitlines() if line.startswith(f"matrix_alertmanager_receiver_{name}")]
            yield from (line.removeprefix("matrix_alertmanager_receiver_") for line in lines if not line.endswith(" 0"))


def run(minutes, binary, seed):
    soak = None
    try:
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir(parents=True)
        soak = Soak(minutes, binary, seed)
        soak.begin()
        soak.endure()
        soak.settle()
        report = list(soak.report())
        # Growth first: what is wrong in a room may be many lines.
        faults = [*soak.quarters().growing(), *soak.judge()]
        report += ["", *(faults or ["Nothing grows, and the rooms are in step."])]
        (OUT / "report.md").write_text("\n".join(report) + "\n")
        say("\n".join(report))
        return 1 if faults else 0
    except Failure as failure:
        for name, lines in soak.children.log_tails() if soak else []:
            say(f"--- {name}: the end of its log")
            say("\n".join(lines))
        say(f"The soak failed: {failure}")
        return 1
    finally:
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        if soak:
            soak.children.stop()
        shutil.rmtree(OUT / "state", ignore_errors=True)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_signal(signum, _frame):
    raise Stopped(signum)


def main():
    if not (ROOT / ".tools/synapse/bin/python").exists():
        sys.exit("Synapse is not installed; run `make tools`.")
    binary = Path(os.environ.get("BINARY") or BINARY).resolve()
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} is not a program; `make build` makes it, and BINARY=path names another.")
    for signum in SIGNALS:
        signal.signal(signum, on_signal)
    try:
        return run(float(os.environ.get("MINUTES") or 60), binary, int(os.environ.get("SEED") or 1))
    except Stopped as stopped:
        return 128 + stopped.signum


sys.exit(main())
