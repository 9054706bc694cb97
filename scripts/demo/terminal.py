"""What the demo prints: steps with their times, and messages in a frame."""

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import textwrap
import time
from html.parser import HTMLParser

from failure import Stopped

TTY = sys.stdout.isatty()
VERBOSE = os.environ.get("VERBOSE", "0") not in ("", "0")
STYLED = TTY and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
WIDTH = max(60, min(120, shutil.get_terminal_size((110, 24)).columns))


def say(text="", end="\n"):
    try:
        print(text, end=end, flush=True)
    except OSError:
        # Nobody reads any more. That ends the demo, and what it says from here on goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Stopped(signal.SIGPIPE) from None


def has_reader():
    """False once the terminal is closed or the pipe broken; not every way in which that happens sends us a signal."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return not poll.poll(0)


def style(code, text):
    return f"\033[{code}m{text}\033[0m" if STYLED else text


class Step:
    """One thing the demo does. `done` replaces the text by what came of it."""

    def __init__(self, text):
        self.text = text
        self.started = time.monotonic()

    def done(self, text):
        self.text = text

    def seconds(self):
        return time.monotonic() - self.started


@contextlib.contextmanager
def step(text, talks=False):
    """Shows what is being done, and then what was done and how long it took. `talks`: it prints lines of its own meanwhile."""
    current = Step(text)
    if talks:
        say(f"[  …   ] {text}")
    elif STYLED:
        say(f"[  …   ] {text}", end="")
    try:
        yield current
    except BaseException:
        say(f"{line_start()}[{current.seconds():6.1f}s] {style('31', 'not done:')} {text}")
        raise
    say(f"{line_start()}[{current.seconds():6.1f}s] {current.text}")


def line_start():
    return "\r\033[K" if STYLED else ""


def frame(title, lines):
    say(f"╭─ {style('1', title)} " + "─" * max(3, WIDTH - len(title) - 4))
    for line in lines:
        say(f"│ {line}")
    say("╰" + "─" * (WIDTH - 1))


def message(title, content):
    """A message as a client shows it, and with VERBOSE=1 also the two forms it is made of."""
    frame(f"{title}, as a client shows it", rendered(content))
    if not VERBOSE:
        return
    frame(f"{title}, plain body", wrapped(content["body"]))
    frame(f"{title}, HTML", wrapped(content.get("formatted_body", "(none)")))


def rendered(content):
    """Lines as a Matrix client shows the message, as far as a terminal can."""
    if "formatted_body" not in content:
        return list(wrapped(content["body"]))
    page = Page()
    page.feed(printable(content["formatted_body"]))
    return "".join(page.parts).strip("\n").split("\n")


def wrapped(text):
    """Lines that fit; links, which are long, are cut anywhere."""
    for line in printable(text).split("\n"):
        yield from textwrap.wrap(line, WIDTH - 2, break_on_hyphens=False) or [""]


def printable(text):
    """Without control characters: a message shall not steer the terminal."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", " ", text)


class Page(HTMLParser):
    """The part of Matrix' HTML that a card is made of, as terminal text."""

    STYLES = {"strong": "1", "em": "3", "del": "9", "code": "7", "a": "4;34"}

    def __init__(self):
        super().__init__()
        self.parts, self.styles = [], []
        self.is_set = False

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("br", "ul", "ol", "p", "pre"):
            self.newline()
            self.is_set |= tag == "pre"
        elif tag == "li":
            self.newline()
            self.parts.append(" • ")
        elif tag == "span" and (color := re.fullmatch(r"#(..)(..)(..)", attrs.get("data-mx-color") or "")):
            self.styles.append((tag, "38;2;%d;%d;%d" % tuple(int(part, 16) for part in color.groups())))
        elif tag in self.STYLES:
            self.styles.append((tag, self.STYLES[tag]))

    def handle_endtag(self, tag):
        if tag in ("ul", "ol", "p", "pre"):
            self.newline()
        if tag == "pre":
            self.is_set = False
        if self.styles and self.styles[-1][0] == tag:
            self.styles.pop()

    def handle_data(self, data):
        # As in HTML, line breaks of the source are blanks, and blanks at the start of a line are nothing.
        text = data if self.is_set else data.replace("\n", " ")
        text = text.lstrip(" ") if self.at_line_start() else text
        if text:
            self.parts.append(style(";".join(code for _, code in self.styles), text) if self.styles else text)

    def newline(self):
        if not self.at_line_start():
            self.parts.append("\n")

    def at_line_start(self):
        return not self.parts or self.parts[-1].endswith("\n")
