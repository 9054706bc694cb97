"""What can go wrong, and waiting for what should go right."""

import time


class Failure(Exception):
    """The demo cannot go on; the text says why to the person who runs it."""


class Stopped(BaseException):
    """Ctrl-C or a signal. Not an Exception, so that no handler of errors swallows it."""

    def __init__(self, signum):
        super().__init__(signum)
        self.signum = signum


class Deadline:
    """Time left for one thing to happen."""

    def __init__(self, what, seconds):
        self.what, self.seconds = what, seconds
        self.end = time.monotonic() + seconds

    def check(self, hint=""):
        if time.monotonic() > self.end:
            raise Failure(f"{self.what}: not within {self.seconds} s{hint}")


def wait_until(what, seconds, condition, alive):
    """Waits for `condition()` to be true and returns its value; `alive()` raises if waiting has become pointless."""
    deadline = Deadline(what, seconds)
    while not (value := condition()):
        alive()
        deadline.check()
        time.sleep(0.02)
    return value
