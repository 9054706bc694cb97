"""What is measured while the soak runs, and whether it grows."""

import csv
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from children import descendants
from workers import start

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@dataclass
class Column:
    name: str
    what: str
    # The last quarter's median may be so much above the first quarter's maximum; None: it is shown, and judged by nobody.
    floor: float | None = None


# So a leak in a straight line is found that makes more than this in five eighths of the measured time.
COLUMNS = [
    Column("private_mib", "memory, private dirty, MiB", 2),
    Column("rss_mib", "memory, resident, MiB", 4),
    # Connections to the homeserver and the store come and go.
    Column("fds", "file descriptors", 8),
    Column("threads", "threads", 4),
    Column("used_mib", "pages of the store in use, MiB", 0.5),
    Column("file_mib", "file of the store, MiB", 2),
    Column("wal_mib", "its write-ahead log, MiB", 4),
    Column("session_mib", "files of the Matrix SDK beside it, MiB", 2),
    Column("cpu_percent", "processor time of the receiver, % of a core"),
    Column("all_cpu_percent", "of all processes of the soak, % of a core"),
    Column("webhooks_per_second", "webhooks per second"),
    Column("webhook_p50_ms", "webhook until its 200, p50, ms"),
    Column("webhook_p99_ms", "webhook until its 200, p99, ms"),
    Column("delivery_p50_ms", "200 until a second user sees the card, p50, ms"),
    Column("delivery_p99_ms", "200 until a second user sees the card, p99, ms"),
    Column("outbox_oldest_s", "outbox_oldest_seconds"),
    Column("open", "open incidents"),
]
FIELDS = ["second", "process", *(column.name for column in COLUMNS), "failed_webhooks"]


def metric(text, name, label=""):
    """The sum of a metric's values, of those with `label` in their braces."""
    total = 0.0
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == f"matrix_alertmanager_receiver_{name}" and label in head:
            total += float(value)
    return total


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def status(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


def private_dirty(pid):
    """KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise KeyError("Private_Dirty")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pages_in_use(file):
    """Bytes, by the head of an SQLite file: page size, number of pages, free ones. As of the last checkpoint."""
    with file.open("rb") as opened:
        head = opened.read(40)
    size = int.from_bytes(head[16:18], "big")
    pages, free = int.from_bytes(head[28:32], "big"), int.from_bytes(head[36:40], "big")
    return (65536 if size == 1 else size) * (pages - free)


def size_of(path):
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sessions_below(store):
    """Bytes of the Matrix SDK's files, without their write-ahead logs, which fill up to 4 MiB each and stay so."""
    return sum(size_of(path) for path in (store / "matrix").rglob("*.sqlite3"))


class Sampler:
    def __init__(self, receiver, webhooks, deliveries, onlookers, file, every):
        self.receiver, self.webhooks, self.deliveries, self.onlookers = receiver, webhooks, deliveries, onlookers
        self.every, self.began = every, time.monotonic()
        self.rows = []
        self.last = {}
        self.is_on = True
        self.file = file.open("w", newline="")
        self.csv = csv.DictWriter(self.file, FIELDS)
        self.csv.writeheader()
        start("sampler", self.sample_all)

    def sample_all(self):
        turn = 1
        while self.is_on:
            time.sleep(max(0.0, self.began + turn * self.every - time.monotonic()))
            turn += 1
            try:
                row = self.sample()
            except (OSError, ProcessLookupError):
                continue  # the process is being started again
            if row:
                self.rows.append(row)
                self.csv.writerow({name: round(row[name], 3) if row[name] is not None else "" for name in FIELDS})
                self.file.flush()

    def sample(self):
        pid, process = self.receiver.pid, self.receiver.processes
        if pid is None:
            return None
        now, store = time.monotonic(), self.receiver.store / "receiver.sqlite3"
        wal = size_of(store.with_name("receiver.sqlite3-wal"))
        webhooks = self.since("webhooks", self.webhooks.latencies)
        deliveries = [1000 * took for _, took in self.since("deliveries", self.deliveries.took)]
        took = [1000 * seconds for _, seconds in webhooks]
        passed = now - self.last.get("at", self.began)
        self.last["at"] = now
        failed, self.last["failed"] = self.webhooks.failed - self.last.get("failed", 0), self.webhooks.failed
        return {
            "second": now - self.began,
            "process": process,
            "private_mib": private_dirty(pid) / 1024,
            "rss_mib": status(pid, "VmRSS") / 1024,
            "fds": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": status(pid, "Threads"),
            "used_mib": pages_in_use(store) / MIB,
            "file_mib": size_of(store) / MIB,
            "wal_mib": wal / MIB,
            "session_mib": sessions_below(store.parent) / MIB,
            "cpu_percent": self.percent({pid: cpu_seconds(pid)}, "own", passed),
            "all_cpu_percent": self.percent(self.cpu_of_all(), "all", passed),
            "webhooks_per_second": len(webhooks) / passed,
            "webhook_p50_ms": percentile(took, 0.5),
            "webhook_p99_ms": percentile(took, 0.99),
            "delivery_p50_ms": percentile(deliveries, 0.5),
            "delivery_p99_ms": percentile(deliveries, 0.99),
            "outbox_oldest_s": metric(self.onlookers.metrics, "outbox_oldest_seconds"),
            "open": metric(self.onlookers.metrics, "incidents_open"),
            "failed_webhooks": failed,
        }

    def since(self, name, values):
        """What was added since the last sample."""
        begin, end = self.last.get(name, 0), len(values)
        self.last[name] = end
        return values[begin:end]

    @staticmethod
    def cpu_of_all():
        """Process -> seconds, our own included."""
        seconds = {}
        for pid in [os.getpid(), *descendants()]:
            try:
                seconds[pid] = cpu_seconds(pid)
            except OSError:
                pass  # gone meanwhile
        return seconds

    def percent(self, seconds, name, passed):
        """Of a core since the last sample; a process that was not there then began at nothing."""
        before, self.last[name] = self.last.get(name, {}), seconds
        return 100 * sum(value - before.get(pid, 0.0) for pid, value in seconds.items()) / passed


def slope(rows, name):
    """Per hour: the median of the slopes of all pairs of samples (Theil and Sen), which single outliers do not move."""
    points = [(row["second"], row[name]) for row in rows if row[name] is not None]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(points) for b in points[i + 1 :]]
    return 3600 * statistics.median(slopes) if slopes else 0.0


# Memory still rises in the first minutes of a process, which a shorter time than this has in it.
WARM_SECONDS = 900
COLD_FACTOR = 4


class Quarters:
    """The samples of one process after it has warmed up, in four."""

    def __init__(self, rows, begin, end):
        self.rows = [row for row in rows if begin <= row["second"] <= end]
        self.begin, self.length = begin, (end - begin) / 4

    def quarter(self, number, name):
        begin = self.begin + number * self.length
        rows = [row for row in self.rows if begin <= row["second"] <= begin + self.length]
        return [row[name] for row in rows if row[name] is not None]

    def table(self):
        yield "| what | first quarter: median (most) | last quarter: median (most) | slope per hour |"
        yield "|---|---|---|---|"
        for column in COLUMNS:
            first, last = self.quarter(0, column.name), self.quarter(3, column.name)
            change = f"{slope(self.rows, column.name):+.2f}"
            yield f"| {column.what} | {figures(first)} | {figures(last)} | {change} |"

    def growing(self):
        """A line for each figure that grows."""
        for column in COLUMNS:
            first, last = self.quarter(0, column.name), self.quarter(3, column.name)
            if column.floor is None:
                continue
            is_cold = column.name in ("private_mib", "rss_mib") and self.length * 4 < WARM_SECONDS
            floor = column.floor * (COLD_FACTOR if is_cold else 1)
            if not first or not last:
                yield f"{column.what}: no samples"
            elif statistics.median(last) > max(first) + floor:
                yield (
                    f"{column.what} grows: at most {max(first):.2f} in the first quarter, "
                    f"{statistics.median(last):.2f} in the middle of the last, {slope(self.rows, column.name):+.2f} per hour"
                )


def figures(values):
    if not values:
        return "–"
    return f"{number(statistics.median(values))} ({number(max(values))})"


def number(value):
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def pooled(pairs, begin, end):
    """p50, p95, p99 and the most of all that ended within a time, in ms."""
    took = [1000 * seconds for at, seconds in pairs if begin <= at <= end]
    return len(took), *(percentile(took, share) or 0.0 for share in (0.5, 0.95, 0.99, 1.0))
