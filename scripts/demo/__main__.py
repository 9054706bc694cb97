"""The demo: one alert all the way, on real servers. Prometheus fires, Alertmanager posts, the room shows a card; it resolves, and
the same card turns green. With ONCE=1 it ends there, else it stays up to be played with until Ctrl-C. Either way, and also when it
fails, it leaves nothing behind. With VERBOSE=1 it shows the bodies of messages too.

Run by `make demo`, which installs what is needed first.
"""

import signal
import sys

# As long as there is nothing to clean up, Ctrl-C just ends us.
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.dont_write_bytecode = True

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import socket
import time
import traceback
from pathlib import Path

from children import Children
from failure import Deadline, Failure, Stopped, wait_until
from gauge import POD, Gauge
from matrix import Room, register
from servers import Alertmanager, Loki, Prometheus, Receiver, Synapse
from terminal import frame, has_reader, message, rendered, say, step, style

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".demo"
VENV_PYTHON = ROOT / ".tools/synapse/bin/python"
LOKI = ROOT / ".tools/loki/loki"
BINARY = "matrix-alertmanager-receiver"
ALERT = "PodCrashLooping"
GREEN = "🟢"
SILENCE = "🔕"
BUILD_SECONDS = 3600
# How long a change may take from the gauge to the room. Measured: 2 to 4 s; a busy machine gets more.
DELIVERY_SECONDS = 90
# What the pod says before it is restarted. The password does not get into the room.
LINES = [
    "level=info msg=\"Startup complete\" version=10.8.13",
    "level=warn msg=\"Database is locked, will retry\" attempt=1",
    "level=warn msg=\"Database is locked, will retry\" attempt=2",
    "level=error msg=\"Cannot open database\" dsn=postgres://media:hunter2@db:5432/media",
    "level=error msg=\"Shutting down\" reason=\"no database\"",
]


class Demo:
    def __init__(self, state):
        logs = state / "log"
        logs.mkdir()
        self.children = Children(logs)
        self.gauge = Gauge()
        self.synapse = Synapse(self.children, state)
        self.alertmanager = Alertmanager(self.children, state)
        self.prometheus = Prometheus(self.children, state)
        self.loki = Loki(self.children, state, LOKI)
        self.receiver = Receiver(self.children, state)
        self.times = []

    def tell(self, once):
        """The story from its beginning to its end."""
        began = time.monotonic()
        binary = self.build()
        # First, since Prometheus takes its time to get going.
        self.start_monitoring()
        self.start_homeserver()
        self.make_users_and_room()
        self.start_receiver(binary)
        card = self.fire()
        message("The card", self.room.shown(card))
        self.look_beside(card)
        self.silence(card)
        self.resolve(card)
        message("The green card", self.room.shown(card))
        replies = self.room.replies.get(card, [])
        frame("Its thread", [line for reply in replies for line in rendered(reply)])
        self.hear_heartbeat()
        self.summarise(card, time.monotonic() - began)
        message("What the room shows now", self.room.shown(card))
        if once:
            frame("What to try next", ["make demo           # the same, and it stays up to play with"])
        else:
            self.stay(binary)

    def build(self):
        given = os.environ.get("MAR_DEMO_BIN")
        if given:
            if not os.access(given, os.X_OK):
                raise Failure(f"MAR_DEMO_BIN={given} is not a program")
            say(f"Using the receiver at {given}")
            return Path(given).resolve()
        # Not the release build: that one is for deploying and takes several times as long.
        with step("Building the receiver (debug profile; a few minutes the first time)", talks=True) as now:
            command = ["cargo", "build", "--locked", "--bin", BINARY, "--message-format=json-render-diagnostics"]
            binary = executable(self.children.output_of(command, ROOT, BUILD_SECONDS))
            now.done("The receiver is built")
            return binary

    def start_homeserver(self):
        with step("Starting Synapse, a Matrix homeserver") as now:
            self.synapse.serve(VENV_PYTHON)
            now.done(f"Synapse, a Matrix homeserver, is up at {self.synapse.url}")

    def make_users_and_room(self):
        with step("Making the users alerts and sre, and a private room") as now:
            self.password = secrets.token_urlsafe(9)
            url, shared_secret = self.synapse.url, self.synapse.shared_secret
            self.bot = register(url, shared_secret, "alerts", secrets.token_urlsafe(24))
            self.bot.set_name("Alerts")
            self.sre = register(url, shared_secret, "sre", self.password)
            self.room = Room(self.sre, self.sre.create_room("Alerts", invite=[self.bot.user_id]))
            now.done(f"Users {self.bot.user_id} and {self.sre.user_id}; sre made the room and invited the bot")

    def start_receiver(self, binary):
        with step("Starting the receiver") as now:
            loki = self.loki.url if self.loki.is_there else None
            urls = (self.alertmanager.url, self.prometheus.url, loki)
            self.receiver.serve(binary, self.synapse.url, self.bot, self.room.room_id, *urls)
            now.done(f"The receiver is ready for webhooks at {self.receiver.url}")
        with step("Waiting for the bot to join") as now:
            bot = self.bot.user_id
            self.watch_room("the bot joins the room", 60, lambda: self.room.members.get(bot) == "join")
            now.done("The receiver's bot has joined the room")

    def start_monitoring(self):
        with step("Starting Alertmanager and Prometheus") as now:
            self.alertmanager.serve(self.receiver.url, self.receiver.webhook_token_file)
            self.prometheus.remember(self.gauge.past())
            self.prometheus.serve(self.gauge.address, self.alertmanager.address)
            now.done(f"Alertmanager is up at {self.alertmanager.url}, Prometheus at {self.prometheus.url}")
        if self.loki.is_there:
            with step("Starting Loki") as now:
                self.loki.serve()
                now.done(f"Loki is up at {self.loki.url}")

    def fire(self):
        """Returns the event id of the card."""
        with step("Waiting for Prometheus' first scrape") as now:
            self.wait_until("Prometheus has scraped the demo's gauge", 30, self.prometheus.is_at_work)
            now.done("Prometheus scrapes the demo's gauge of pod restarts")
        if self.loki.is_there:
            self.loki.push({"namespace": "media", "pod": POD}, LINES)
        since = time.monotonic()
        with step("Turning the gauge up") as now:
            self.gauge.fire()
            self.wait_until("the rule fires", 30, self.prometheus.alerts_firing)
            now.done(f"Turned the gauge up, and the rule {ALERT} fires in Prometheus")
        with step("Waiting for the card") as now:
            self.watch_room("a card is in the room", DELIVERY_SECONDS, lambda: self.card() is not None)
            self.times.append(("rule fired -> card in the room", now.seconds()))
            now.done("The card is in the room")
        self.times.append(("gauge turned up -> card in the room", time.monotonic() - since))
        return self.card()

    def look_beside(self, card):
        """What comes after the card, in its thread."""
        what = "a graph and log lines" if self.loki.is_there else "a graph"
        replies = self.room.replies.setdefault(card, [])

        def is_there():
            graph = any(reply["msgtype"] == "m.image" for reply in replies)
            return graph and (not self.loki.is_there or any(reply["body"].startswith("📜") for reply in replies))

        with step(f"Waiting for {what} in its thread") as now:
            self.watch_room(f"{what} in the thread", DELIVERY_SECONDS, is_there)
            self.times.append((f"card -> {what}", now.seconds()))
            now.done(f"Its thread has {what}")
        frame("Beside it", [line for reply in replies for line in beside(reply)])
        self.keep(card, replies)

    def keep(self, card, replies):
        """Writes card, lines and graph as the room has them, where `make picture` says."""
        if folder := os.environ.get("MAR_DEMO_PICTURE"):
            for name, content in [("card", self.room.shown(card)), *(("beside", reply) for reply in replies)]:
                if content["msgtype"] == "m.image":
                    Path(folder, "graph.png").write_bytes(self.sre.download(content["url"]))
                else:
                    Path(folder, f"{name}.html").write_text(content["formatted_body"])

    def hear_heartbeat(self):
        """Watchdog always fires, and makes no card."""
        with step("Waiting for a heartbeat of Prometheus") as now:
            beats = lambda: self.receiver.heartbeats() == "all beat"
            self.wait_until("the receiver hears Watchdog", DELIVERY_SECONDS, beats)
            now.done("Prometheus' Watchdog beats and makes no card: only its silence would be one")

    def silence(self, card):
        """From the room, as a person does on a phone."""
        with step("Reacting to the card with 🔕") as now:
            reaction = self.sre.react(self.room.room_id, card, SILENCE)
            self.watch_room("the card is silenced", DELIVERY_SECONDS, lambda: is_silenced(self.room.shown(card)))
            self.times.append(("🔕 -> silence on the card", now.seconds()))
            now.done("Alertmanager has a silence, and the card says so")
        message("The silenced card", self.room.shown(card))
        with step("Taking the reaction back") as now:
            self.sre.redact(self.room.room_id, reaction)
            self.watch_room("the card fires again", DELIVERY_SECONDS, lambda: not is_silenced(self.room.shown(card)))
            self.times.append(("reaction removed -> firing again", now.seconds()))
            now.done("The silence is expired, and the card fires again")

    def resolve(self, card):
        since = time.monotonic()
        with step("Turning the gauge down") as now:
            self.gauge.resolve()
            self.wait_until("the rule stops firing", 30, lambda: not self.prometheus.alerts_firing())
            now.done("Turned the gauge down, and the rule has stopped firing")
        with step("Waiting for green") as now:
            self.watch_room("the card is green", DELIVERY_SECONDS, lambda: is_green(self.room.shown(card)))
            self.times.append(("rule resolved -> card green", now.seconds()))
            now.done("The card is green")
        self.times.append(("gauge turned down -> card green", time.monotonic() - since))
        with step("Waiting for the reply in the thread") as now:
            replies = self.room.replies.setdefault(card, [])
            self.watch_room("the thread says so", DELIVERY_SECONDS, lambda: any(map(is_green, replies)))
            now.done("The card's thread says so too")

    def card(self):
        """The event id of the bot's message about our alert."""
        return next((id for id, content in self.room.roots.items() if ALERT in content["body"]), None)

    def summarise(self, card, seconds):
        edits, replies = len(self.room.edits.get(card, [])), len(self.room.replies.get(card, []))
        lines = [f"{what:38} {took:5.1f} s" for what, took in self.times]
        lines += [f"{'all of it':38} {seconds:5.1f} s", ""]
        lines += [f"In the room: {len(self.room.roots)} message, edited {edits}x, {replies} in its thread."]
        lines += ["Of these times, up to 1 s each is for scrape, evaluation and group_wait, up to 2 s for group_interval."]
        frame("Summary", lines)

    def stay(self, binary):
        """Until Ctrl-C: what happens in the room, as it happens."""
        command, config = shlex.quote(str(binary)), shlex.quote(f"{self.receiver.state}/config.toml")
        ports = [url.rsplit(":", 1)[1] for url in (self.receiver.url, self.synapse.url)]
        tunnel = " ".join(f"-L {port}:127.0.0.1:{port}" for port in ports)
        curl = f"curl -X POST http://{self.gauge.address}"
        amtool = f"amtool --alertmanager.url={self.alertmanager.url}"
        frame(
            "Up until Ctrl-C",
            [
                f"homeserver    {self.synapse.url}   (any Matrix client; no encryption, no federation)",
                f"user          {self.sre.user_id}   password {self.password}",
                f"room          {self.room.room_id}",
                f"receiver      {self.receiver.url}/ is the status page; /healthz   /metrics   config {self.receiver.state}/config.toml",
                f"Prometheus    {self.prometheus.url}/alerts",
                f"Alertmanager  {self.alertmanager.url}",
                f"logs          {self.children.logs}/",
                "",
                f"fire again    {curl}/fire      {curl}/fire/jellyfin-1",
                f"resolve       {curl}/resolve   {curl}/resolve/jellyfin-1",
                f"silence       {amtool} silence add -a me -c demo -d 5m alertname={ALERT} pod={POD}",
                f"dead man      {amtool} silence add -a me -c demo -d 2m alertname=Watchdog   # a card after 30 s",
            ],
        )
        # Outside of a frame, so that the lines can be copied.
        say("What to try next, in another terminal:")
        say(f"{command} check --online --config {config}")
        say(f"{command} send-test default --config {config}")
        say(f"ssh {tunnel} {socket.gethostname()}   # from your desk: the status page, and the homeserver for a client")
        say()
        say("What the room hears from now on:")
        # Ctrl-C is how it is meant to end.
        with contextlib.suppress(Stopped):
            self.follow()

    def follow(self):
        while has_reader():
            self.children.check()
            for kind, content in self.room.sync():
                say(f"{time.strftime('%H:%M:%S')} {style('2', f'{kind:7}')} {rendered(content)[0]}")

    def wait_until(self, what, seconds, condition):
        return wait_until(what, seconds, condition, self.children.check)

    def watch_room(self, what, seconds, condition):
        """Follows the room as sre until `condition()` is true."""
        deadline = Deadline(what, seconds)
        while not condition():
            self.children.check()
            deadline.check(f"; the bot's membership is {self.room.members.get(self.bot.user_id)}")
            self.room.sync()


def beside(content):
    if content["msgtype"] != "m.image":
        return rendered(content)
    info = content["info"]
    return [f"[picture, {info['w']} x {info['h']}, {info['size'] // 1024} KiB]", *rendered(content)]


def is_green(content):
    return content["body"].startswith(GREEN) and ALERT in content["body"]


def is_silenced(content):
    return content["body"].startswith(SILENCE)


def executable(cargo_messages):
    """Where cargo put the program; it knows about CARGO_TARGET_DIR and the like."""
    for line in cargo_messages.splitlines():
        built = json.loads(line)
        if built.get("executable") and built["target"]["name"] == BINARY:
            return Path(built["executable"])
    raise Failure(f"cargo built no {BINARY}")


def explain(demo, failure):
    say()
    for name, lines in demo.children.log_tails() if demo else []:
        frame(f"{name}: the end of its log", lines or ["(empty)"])
    if not isinstance(failure, Failure):
        say("".join(traceback.format_exception(failure)).rstrip())
    say(style("1;31", f"The demo failed: {failure}"))


def reason(demo, failure):
    """A server that died is the reason for what else looks like a fault of the demo."""
    try:
        if demo:
            demo.children.check()
    except Failure as death:
        return death
    return failure


def play(once):
    """Runs the demo in a fresh folder; whatever happens, nothing is left of it."""
    demo = None
    try:
        shutil.rmtree(STATE, ignore_errors=True)
        STATE.mkdir(mode=0o700)
        demo = Demo(STATE)
        demo.tell(once)
        return 0
    except Exception as failure:
        explain(demo, reason(demo, failure))
        return 1
    finally:
        try:
            clean_up(demo)
        except Stopped:
            # A signal came just as it began; there is no second one.
            clean_up(demo)


def clean_up(demo):
    hush()
    if demo:
        demo.children.stop()
    shutil.rmtree(STATE, ignore_errors=True)
    say("\nAll servers are stopped and their state is removed.")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hush():
    """Only the first signal interrupts: a second one could only interrupt the cleaning up."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def on_signal(signum, _frame):
    hush()
    raise Stopped(signum)


def only_one():
    """The state folder is for one demo at a time. The lock goes with the process."""
    lock = (ROOT / ".tools/demo.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("Another demo is running in this folder.")
    return lock


def main():
    if not VENV_PYTHON.exists():
        sys.exit("Synapse is not installed; run `make demo` or `make tools`.")
    lock = only_one()
    for signum in SIGNALS:
        signal.signal(signum, on_signal)
    with lock:
        try:
            return play(once=os.environ.get("ONCE", "0") not in ("", "0"))
        except Stopped as stopped:
            return 128 + stopped.signum


sys.exit(main())
