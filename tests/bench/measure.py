"""Runs programs and tells what they took."""

import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Taken:
    """What one or several executions of a program took. Memory is known only of a program that tells it."""

    secs: float
    peak_mb: float
    # Processor time, its children's included: what a busy machine changes least.
    cpu: float

    @staticmethod
    def median(all_taken):
        """The median time, and the largest memory."""
        median = statistics.median
        return Taken(median(t.secs for t in all_taken), max(t.peak_mb for t in all_taken), median(t.cpu for t in all_taken))

    def per(self, count):
        """The share of one of so many."""
        return Taken(self.secs / count, self.peak_mb, self.cpu / count)

    def __str__(self):
        return f"{secs(self.secs)} (cpu {secs(self.cpu)})"


def run(command, cwd, stdin=None):
    """Runs a program to its end; what it prints goes to a file beside its folder, and is shown when it fails."""
    log = Path(str(cwd).rstrip("/") + ".log")
    with open(log, "wb") as out:
        begun = time.perf_counter()
        source = open(stdin, "rb") if stdin else subprocess.DEVNULL
        process = subprocess.Popen([str(word) for word in command], cwd=cwd, stdin=source, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - begun
        status = process.returncode = os.waitstatus_to_exitcode(status)
    with open(log, "rb") as lines:
        lines.seek(max(0, log.stat().st_size - 4000))
        last = lines.read().decode(errors="replace")
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} in {cwd}: exit {status}\n{last}")
    # What the kernel reports of a child counts the memory of the parent that it was forked from.
    peak = re.search(r"^peak (\d+) kB$", last, re.MULTILINE)
    return Taken(elapsed, int(peak[1]) / 1024 if peak else 0, usage.ru_utime + usage.ru_stime)


def side_by_side(rounds, contenders):
    """Runs each contender once a round, one after the other, so that a slow minute of the machine hits all of them.

    `contenders`: name -> function that runs it and returns what it took. Returns name -> median.
    """
    taken = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            taken[name].append(contender())
    return {name: Taken.median(all_taken) for name, all_taken in taken.items()}


class Table:
    """Rows of a Markdown table, printed as they come."""

    COLUMNS = ["what", "ours", "ninja", "make", "snakemake", "b3sum", "our peak memory"]

    def __init__(self, out):
        self.out = out
        self.line(self.COLUMNS)
        self.line(["---"] * len(self.COLUMNS))

    def line(self, cells):
        text = "| " + " | ".join(cells) + " |"
        print(text, flush=True)
        if self.out:
            print(text, file=self.out, flush=True)

    def row(self, what, peak_mb=None, **cells):
        """A row; a contender that does not take part stays empty."""
        peak = f"{peak_mb:.0f} MB" if peak_mb else ""
        self.line([what] + [cells.get(name, "") for name in self.COLUMNS[1:-1]] + [peak])


def secs(value):
    """A time for people."""
    if value < 0.00995:
        return f"{value * 1e3:.2f} ms"
    if value < 0.0995:
        return f"{value * 1e3:.1f} ms"
    return f"{value * 1e3:.0f} ms" if value < 0.995 else f"{value:.2f} s"
