"""Time alternatives in turn, so that a machine that slows down slows them all."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks.rivals import Rival

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One comparison.

    ``ours`` and every one of ``rivals`` do the same work; a rival is a function that starts its
    process (:class:`benchmarks.rivals.Rival`). ``floor`` does what no implementation can avoid:
    the same number of passes through the network, nothing else. ``targets`` are the
    least ratios rival / ours that we promise; ``floor_target`` the largest ours / floor, and
    ``seconds_target`` the longest time where that was promised.
    """

    name: str
    ours: Work
    rivals: dict[str, Callable[[], Rival]] = field(default_factory=dict)
    floor: Work | None = None
    targets: dict[str, float] = field(default_factory=dict)
    floor_target: float | None = 1.15
    seconds_target: float | None = None


def seconds(work: Work) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(row: Row, repeats: int) -> dict:
    """Median seconds of everything in the row, and the ratios of the medians."""
    timers = {"ours": lambda: seconds(row.ours)}
    if row.floor:
        timers["floor"] = lambda: seconds(row.floor)
    rivals = {name: start() for name, start in row.rivals.items()}
    timers |= {name: rival.seconds for name, rival in rivals.items()}
    for timer in timers.values():  # a warm-up: caches, sessions, thread pools
        timer()
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(repeats):
        for name, timer in timers.items():
            times[name].append(timer())
    for rival in rivals.values():
        rival.close()
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {"name": row.name, "seconds": median, "checks": []}
    for rival in row.rivals:
        ratio = median[rival] / median["ours"]
        result["checks"].append(
            _check(f"{rival} / ours", ratio, row.targets.get(rival), "at least")
        )
    if row.floor:
        ratio = median["ours"] / median["floor"]
        result["checks"].append(_check("ours / floor", ratio, row.floor_target, "at most"))
    if row.seconds_target:
        result["checks"].append(
            _check("ours, seconds", median["ours"], row.seconds_target, "at most")
        )
    return result


def _check(what: str, ratio: float, target: float | None, kind: str) -> dict:
    reached = None
    if target is not None:
        reached = ratio >= target if kind == "at least" else ratio <= target
    return {"ratio": what, "value": ratio, "target": target, "kind": kind, "reached": reached}
