"""Make reports again, aside, and compare every number with the results in reports/<profile>/.

One line per number: PASS, CHANGED (old, new, tolerance) or WALL-CLOCK (a time, not compared).
A number passes if |new - old| <= atol + rtol * |old| with the tolerances that the report recorded.
The files in reports/ are not touched. Trainings and masks are made again too: the reports share a
cache that is empty at the start, for what was kept by an earlier run could only agree with itself.
A report has as many threads as when it was made, since another number rounds sums otherwise, and
as many reports run side by side, each in a process, as there are cores for their threads.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lib.builder.build import assemble, build_folder, read_results
from lib.builder.console import cores, say, threads_of_a_kernel
from lib.builder.overrides import Run, resolve_run
from lib.builder.workspace import CODE, CUSTOM, Project, UsageError

Line = tuple[str, str, str]  # status, what, remark


def within(old: float, new: float, rtol: float, atol: float) -> bool:
    return abs(new - old) <= atol + rtol * abs(old)


def _number(name: str, old: float, new: float, tolerances: dict[str, float]) -> Line:
    rtol, atol = tolerances["rtol"], tolerances["atol"]
    remark = f"{old:.6g} -> {new:.6g}"
    if within(old, new, rtol, atol):
        return "PASS", name, remark
    return "CHANGED", name, f"{remark} (allowed: {atol + rtol * abs(old):.3g})"


def _exact(name: str, old: Any, new: Any) -> Line:
    return ("PASS", name, f"{old}") if old == new else ("CHANGED", name, f"{old} -> {new}")


def _claim(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    id = old["id"]
    if old["wall_clock"] and new["wall_clock"]:
        yield "WALL-CLOCK", id, f"{_time(old)} -> {_time(new)}"
        yield _exact(f"{id}.n", old["n"], new["n"])
        return
    yield _exact(f"{id}.verdict", old["verdict"], new["verdict"])
    yield _exact(f"{id}.n", old["n"], new["n"])
    if 0 in (old["n"], new["n"]):  # no numbers to compare
        return
    yield _number(f"{id}.estimate", old["estimate"], new["estimate"], old)
    for end, before, after in zip(("low", "high"), old["interval"], new["interval"], strict=True):
        yield _number(f"{id}.interval.{end}", before, after, old)


def _time(claim: dict[str, Any]) -> str:
    estimate = claim["estimate"]
    return f"{claim['verdict']}, {'none' if estimate is None else f'{estimate:.4g}'}"


def _pairs(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in old | new:
        yield name, old.get(name), new.get(name)


def compare(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    """Compare two results files' contents, number by number. A missing or new number is CHANGED."""
    for name, before, after in _pairs(old["parameters"], new["parameters"]):
        if before != after:
            yield "CHANGED", f"parameter {name}", f"{before!r} -> {after!r}"
    claims = [{claim["id"]: claim for claim in results["claims"]} for results in (old, new)]
    for id, before, after in _pairs(*claims):
        if before is None or after is None:
            yield "CHANGED", id, "is new" if before is None else "is gone"
        else:
            yield from _claim(before, after)
    for name, before, after in _pairs(old["metrics"], new["metrics"]):
        if before is None or after is None:
            yield "CHANGED", name, "is new" if before is None else "is gone"
        else:
            yield _number(name, before, after, old["tolerances"][name])
    for name, before, after in _pairs(old["wall_clock"], new["wall_clock"]):
        if before is None or after is None:
            yield "CHANGED", name, "is new" if before is None else "is gone"
        else:
            yield "WALL-CLOCK", name, f"{before:.4g} -> {after:.4g}"


def _again(run: Run, old: dict[str, Any], timeout: float, cache: Path) -> Iterator[Line]:
    from lib.builder.execute import ReportFailed, execute

    try:
        with build_folder(run.project, run.slug) as folder:
            executed = execute(run, folder, threads=_threads(old), timeout=timeout, cache=cache)
            new = assemble(run, "", "", executed.results, {})
    except ReportFailed as failure:
        where = f" (cell {failure.cell})" if failure.cell else ""
        yield "CHANGED", run.slug, f"the report fails now{where}: {failure.reason.splitlines()[0]}"
        return
    yield from compare(old, new)


def _threads(results: dict[str, Any]) -> int:
    return results["provenance"].get("threads") or threads_of_a_kernel()


def _in_this_process(run: Run, old: dict[str, Any], timeout: float, cache: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for status, what, remark in _again(run, old, timeout, cache):
        counts[status] += 1
        say(f"{status:10}  {run.slug}  {what}  {remark}")
    return counts


def _side_by_side(
    work: list[tuple[Run, dict[str, Any]]], timeout: float, cache: Path
) -> Counter[str]:
    """Each report in a process of its own, the longest first; their lines as they come."""
    running: set[subprocess.Popen] = set()

    def in_a_process(run: Run) -> Counter[str]:
        options = ["--profile", run.target, "--timeout", str(timeout), "--part-of", str(cache)]
        command = [sys.executable, "-m", "lib.builder", "--root", str(run.project.root)]
        command += ["verify", run.slug, *options]
        counts: Counter[str] = Counter()
        with subprocess.Popen(command, cwd=CODE, stdout=subprocess.PIPE, text=True) as child:
            running.add(child)
            for line in child.stdout:
                counts[line.partition(" ")[0]] += 1
                say(line.rstrip("\n"))
        running.discard(child)
        if child.returncode not in (0, 1):
            say(f"CHANGED     {run.slug}  ended with exit code {child.returncode}")
            counts["CHANGED"] += 1
        return counts

    at_once = max(1, cores() // max(_threads(old) for _, old in work))
    longest_first = sorted(work, key=lambda pair: -pair[1]["build"]["seconds"])
    with ThreadPoolExecutor(at_once) as pool:
        try:
            return sum(pool.map(in_a_process, [run for run, _ in longest_first]), Counter())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(running):
                child.terminate()
            raise


def verify(
    project: Project,
    profile: str,
    names: list[str],
    *,
    timeout: float = 3600,
    part_of: Path | None = None,
) -> int:
    """Print a line per number of the reports (all of the profile without names); 1 if any changed.

    ``part_of`` is the cache of the run that this process is a part of: that run prints the total.

    Raises:
        UsageError: there is nothing to compare with.
    """
    if profile == CUSTOM:
        raise UsageError("PROFILE=custom: verify compares the reports of a profile in params/")
    project.check_profile(profile)
    slugs = [project.resolve(name) for name in names]
    if not names:
        slugs = [slug for slug in project.slugs() if project.json(profile, slug).exists()]
    if not slugs:
        raise UsageError(f"reports/{profile}: there is no report to verify; run: make reports")
    work = []
    for slug in slugs:  # all input is checked before the first kernel starts
        old = read_results(project.json(profile, slug))
        if old is None:
            raise UsageError(f"reports/{profile}/{slug}.json: missing or not a results file")
        work.append((resolve_run(project, slug, profile), old))
    if part_of:
        counts = sum((_in_this_process(*pair, timeout, part_of) for pair in work), Counter())
    else:
        with TemporaryDirectory(prefix="verify-") as folder:
            counts = _side_by_side(work, timeout, Path(folder))
        passed, changed, timed = (counts[s] for s in ("PASS", "CHANGED", "WALL-CLOCK"))
        say(f"{passed} pass, {changed} changed, {timed} wall-clock")
    return 1 if counts["CHANGED"] else 0
