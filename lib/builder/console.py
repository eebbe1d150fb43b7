"""One progress line per report, readable on a terminal, in a log and under `make -j`.

On a terminal that no other report shares, one line is rewritten. Otherwise whole lines are printed:
one at most every 15 seconds, and one when the report is finished.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from pathlib import Path

from lib.builder.workspace import UsageError

QUIET = 15.0  # seconds between two lines that are not rewritten


def jobs() -> int:
    """How many reports make builds at the same time (`-jN`; a bare `-j` counts as one per core)."""
    flags = os.environ.get("MAKEFLAGS", "")
    if match := re.search(r"(?:^|\s)-j\s*(\d*)", flags):
        return int(match[1]) if match[1] else cores()
    return 1


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_a_kernel() -> int:
    """`$OMP_NUM_THREADS`, or a share of the cores for each report that make builds at once.

    Raises:
        UsageError: it is not a number from 1 to 9999.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked and not re.fullmatch("[1-9][0-9]{0,3}", asked):
        raise UsageError(f"OMP_NUM_THREADS={asked}: expected one number, 1 or more")
    return int(asked or max(1, cores() // jobs()))


def problem(error: OSError) -> str:
    """An error of the file system in one line, with the file."""
    where = "standard output" if error.filename is None else os.fsdecode(error.filename)
    where = os.path.relpath(where) if os.path.isabs(where) else where
    return f"{where}: {error.strerror or error}"


def say(text: str, stream=None) -> None:
    """Print one whole line in one write, so that two processes never mix within a line."""
    stream = stream or sys.stdout
    stream.write(text + "\n")
    stream.flush()


class Progress:
    """Shows which cell runs and what the engine says about itself in `$REPORT_PROGRESS`."""

    def __init__(self, name: str, file: Path):
        self.name, self.file = name, file
        self.rewrites = sys.stdout.isatty() and jobs() == 1
        self.cell, self.cells = 0, 0
        self.began = self._printed = time.monotonic()
        self._first: tuple[str, float, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        if self.rewrites:
            with contextlib.suppress(OSError):
                sys.stdout.write("\r\x1b[K")
                sys.stdout.flush()

    def at(self, cell: int, cells: int) -> None:
        self.cell, self.cells = cell, cells

    def line(self) -> str:
        parts = [self.name, f"cell {self.cell}/{self.cells}" if self.cells else "starting"]
        try:
            label, *counts = self.file.read_text(encoding="utf-8").strip().split("\t")
            done, total = map(float, counts)
            parts.append(f"{label} {100 * done / total:.0f} %{self._pace(label, done, total)}")
        except (OSError, ValueError, ZeroDivisionError):
            pass
        return "  ".join([*parts, f"{time.monotonic() - self.began:.0f} s"])

    def _pace(self, label: str, done: float, total: float) -> str:
        """How many a second since this label was first seen, and how long the rest will take."""
        now = time.monotonic()
        if self._first is None or self._first[0] != label or done < self._first[1]:
            self._first = label, done, now
        rate = (done - self._first[1]) / max(now - self._first[2], 1e-9)
        return f" of {total:.0f}, {rate:.2g}/s, {(total - done) / rate:.0f} s left" if rate else ""

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            now = time.monotonic()
            with contextlib.suppress(OSError):  # the reader has left: the report is made anyway
                if self.rewrites:
                    width = os.get_terminal_size(sys.stdout.fileno()).columns or 80
                    sys.stdout.write("\r\x1b[K" + self.line()[: width - 1])
                    sys.stdout.flush()
                elif now - self._printed >= QUIET:
                    self._printed = now
                    say(self.line())
