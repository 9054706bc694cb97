"""The processes of the demo: none outlives it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

from failure import Deadline, Failure, Stopped
from terminal import has_reader

PR_SET_CHILD_SUBREAPER = 36
# A server that has not ended by then is killed.
STOP_SECONDS = 10

# For the servers: nothing of the caller's own receiver, and loopback is never reached through a proxy.
FOREIGN = ("MAR_", "MATRIX_", "WEBHOOK_", "SYNAPSE_")


def server_environment():
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and name.lower() not in proxies
    }


class Children:
    def __init__(self, logs):
        self.logs = logs
        self.servers = {}
        # What our children leave behind becomes our child, so that `stop` finds all of it.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, name, command):
        """A server that stays; its output goes to a log of its own."""
        with (self.logs / f"{name}.log").open("wb") as log:
            self.servers[name] = self._spawn(command, stdout=log, stderr=log, env=server_environment())

    def output_of(self, command, cwd, seconds):
        """Runs a tool to its end and returns its standard output; what it says on the way goes to the terminal."""
        what = " ".join(map(str, command))
        process = self._spawn(command, cwd=cwd, stdout=subprocess.PIPE)
        deadline = Deadline(what, seconds)
        output = None
        while output is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(timeout=1)
            deadline.check()
            if not has_reader():
                raise Stopped(signal.SIGHUP)
        if process.returncode != 0:
            raise Failure(f"{what}: ended with {process.returncode}")
        return output

    @staticmethod
    def _spawn(command, **options):
        # A session of its own: Ctrl-C in the terminal is for us, and we stop the servers in good order. And should we be killed
        # outright, the kernel kills them (pdeathsig is bound to the thread that spawns: ours is the main one).
        guarded = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]
        return subprocess.Popen(guarded, stdin=subprocess.DEVNULL, start_new_session=True, **options)

    def check(self):
        for name, process in self.servers.items():
            if process.poll() is not None:
                raise Failure(f"{name} has ended with {process.returncode}")

    def log_tails(self, lines=20):
        """(name, last lines) of each server's log."""
        for name in self.servers:
            text = (self.logs / f"{name}.log").read_text(errors="replace")
            yield name, text.splitlines()[-lines:]

    def stop(self):
        """Asks all to end, kills what does not, and returns when none is left."""
        signal_each(descendants(), signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while left := descendants():
            if time.monotonic() > deadline:
                signal_each(left, signal.SIGKILL)
            reap()
            time.sleep(0.02)
        self.servers.clear()


def descendants():
    """Ids of all processes below this one."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(parent_of(entry), []).append(int(entry.name))
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def parent_of(entry):
    try:
        # The command's name, in parentheses, may hold anything.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # gone meanwhile


def signal_each(pids, signum):
    for pid in pids:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            pass  # gone, or not ours any more


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # none left
