"""Make reports again, aside, and compare every number with the results in reports/<profile>/.

A line for each number that CHANGED, each verdict on the EDGE (its interval ends beside the rule's
threshold), each WALL-CLOCK time (shown, not compared) and, if asked, each number that agrees
(PASS); then one per report. A report that is not compared, whatever the reason, has FAILED.

The files in reports/ are not touched. Trainings and masks are made again too: the reports share a
cache that is empty at the start, for what was kept by an earlier run could only agree with itself.
Profiles of hours have their rows kept: a seeded tenth of each call's is computed again and compared
(ROWS), the notebooks go on with the rest, and only the results need to be there, not the pages.

A report has as many threads as when it was made, since another number rounds sums otherwise, and
as many reports run side by side, each in a process, as there are cores for their threads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lib.builder.build import assemble, build_folder
from lib.builder.compare import Line, compare, shown
from lib.builder.console import cores, say, threads_of_a_kernel
from lib.builder.overrides import Run, resolve_run
from lib.builder.pair import OTHERS, damage, read_results
from lib.builder.provenance import content_hash
from lib.builder.workspace import CODE, CUSTOM, Project, ReportFailed, UsageError
from lib.core.cache import cache_folder

STATUSES = ("PASS", "CHANGED", "FAILED", "EDGE", "STALE", "ROWS", "WALL-CLOCK")
LONG = (*OTHERS, "imagenet")  # profiles of hours


class NotCompared(Exception):
    """A report that could not be held against its results; the message says why."""


def _threads(results: dict[str, Any] | None) -> int:
    made_with = results["provenance"].get("threads") if results else None
    return made_with if type(made_with) is int and made_with > 0 else threads_of_a_kernel()


def _seconds(results: dict[str, Any] | None) -> float:
    try:
        return float(results["build"]["seconds"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _end_with_the_parent() -> None:
    """The parent holds the other end of our standard input: it ends with it, kill -9 or not."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _part(run: Run, old: dict[str, Any] | None, timeout: float | None, folder: Path) -> int:
    """Make one report again; leave in the folder what it found, or why it found nothing."""
    from lib.builder.execute import execute
    from lib.builder.markdown import plain

    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        with build_folder(run.project, run.slug) as aside:
            options = {"threads": _threads(old), "timeout": timeout, "cache": folder / "cache"}
            if run.target in LONG:
                options["rows"] = cache_folder() / "rows"
            recorded = execute(run, aside, **options).results
        head = [plain(text) for text in run.head[:2]]
        facts = recorded.get("provenance", {}) | {"content_hash": content_hash(run)}
        found = {"results": assemble(run, head, recorded, facts), "rows": recorded["rows"]}
    except ReportFailed as failure:
        where = f" (cell {failure.cell})" if failure.cell else ""
        found = {"failed": f"the report fails now{where}: {failure.reason.splitlines()[0]}"}
    (folder / f"{run.slug}.json").write_text(json.dumps(found), encoding="utf-8")
    return 0


def _again(run: Run, timeout: float | None, folder: Path, running: set) -> dict[str, Any]:
    """The results of one report made again, in a process of its own, and where its rows are from.

    Raises:
        NotCompared: it did not come to its end.
    """
    command = [sys.executable, "-m", "lib.builder", "--root", str(run.project.root), "verify"]
    command += [run.slug, "--profile", run.target]
    command += ["--timeout", str(timeout)] if timeout else []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "errors": "replace"}
    with subprocess.Popen([*command, "--part-of", str(folder)], cwd=CODE, **pipes) as child:
        running.add(child)
        for line in child.stdout:  # its progress, in whole lines
            say(line.rstrip("\n"))
    running.discard(child)
    if child.returncode:
        raise NotCompared(f"making it again ended with exit code {child.returncode}")
    found = json.loads((folder / f"{run.slug}.json").read_text(encoding="utf-8"))
    if "failed" in found:
        raise NotCompared(found["failed"])
    return found


def _lines(run: Run, old: dict[str, Any] | None, *again: Any) -> Iterator[Line]:
    """Everything there is to say about one report; the rest of the arguments is `_again`'s."""
    file, page = f"{run.slug}.json", run.project.html(run.target, run.slug)
    paged = page.exists() or run.target not in LONG
    problem = damage(run.project, run.target, run.slug) if paged or old is None else ""
    if old is None:
        raise NotCompared(problem)
    if problem:
        yield "CHANGED", file, problem
    found = _again(run, *again)
    new = found["results"]
    for name, made in found["rows"].items() if run.target in LONG else ():
        yield "ROWS", name, f"{made['computed']} of {made['chunks']} chunks computed again, alike"
    try:
        yield from compare(old, new)
        if paged and not problem:
            index = run.project.folder(run.target) / "index.html"
            index = index.read_text(encoding="utf-8") if index.is_file() else ""
            yield from shown(old, page.read_text(encoding="utf-8"), index)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise NotCompared(f"{file} is not as results are written today: {reason}") from None
    if old["provenance"].get("content_hash") != new["provenance"]["content_hash"]:
        yield "STALE", file, "was made by other code, another notebook or other parameters"


def _tally(counts: Counter[str], *always: str) -> str:
    kinds = dict.fromkeys([*always, *STATUSES])
    return ", ".join(f"{counts[k]} {k.lower()}" for k in kinds if counts[k] or k in always)


def _report(every: bool, run: Run, old: dict[str, Any] | None, *again: Any) -> Counter[str]:
    """Compare one report and print its lines at once, the last with how many of each kind."""
    counts, lines = Counter(), []
    try:
        for status, what, remark in _lines(run, old, *again):
            counts[status] += 1
            if every or status != "PASS":
                lines.append(f"{status:10}  {run.slug}  {what}  {remark}")
        if not counts["PASS"]:
            raise NotCompared("no number agrees")
    except Exception as failure:  # whatever it is, this report was not compared
        counts["FAILED"] += 1
        kind = "" if isinstance(failure, NotCompared) else f"{type(failure).__name__}: "
        lines.append(f"{'FAILED':10}  {run.slug}  {kind}{failure}")
    say("\n".join([*lines, f"{run.slug}  {_tally(counts, 'PASS')}"]))
    return counts


def verify(
    project: Project,
    profile: str,
    names: list[str],
    *,
    timeout: float | None = None,
    every: bool = False,
    part_of: Path | None = None,
) -> int:
    """Compare the reports named (without names: all of the profile) with what they give now.

    Args:
        timeout: seconds that a cell may run; `None`: hours, where rows are many.
        every: print the numbers that agree too.
        part_of: folder of the verification that this process makes one report for.

    Returns:
        0 only if every report was compared and agrees.

    Raises:
        UsageError: a name or a parameter that cannot be used, or nothing to compare with.
    """
    if profile == CUSTOM:
        raise UsageError("PROFILE=custom: verify compares the reports of a profile in params/")
    project.check_profile(profile)
    slugs = list(dict.fromkeys(map(project.resolve, names))) or _all(project, profile)
    known = [slug for slug in slugs if project.notebook(slug).exists()]
    work = [
        (resolve_run(project, slug, profile), read_results(project.json(profile, slug)))
        for slug in known
    ]  # all input is checked before the first kernel starts
    if part_of:
        return _part(*work[0], timeout, part_of)
    if not any(project.json(profile, slug).exists() for slug in slugs):
        raise UsageError(f"reports/{profile}: there is no report to verify; run: make reports")
    counts = Counter(FAILED=len(slugs) - len(known))
    for slug in sorted(set(slugs) - set(known)):
        say(f"{'FAILED':10}  {slug}  its notebook is missing\n{slug}  0 pass, 1 failed")
    with build_folder(project, "verify") as folder:
        (folder / "cache").mkdir()
        counts += _side_by_side(work, every, timeout, folder)
    compared = f"{len(slugs) - counts['FAILED']} of {len(slugs)} reports compared"
    say(f"{compared}: {_tally(counts, 'PASS', 'CHANGED', 'WALL-CLOCK')}")
    return 1 if counts["CHANGED"] or counts["FAILED"] else 0


def _all(project: Project, profile: str) -> list[str]:
    """The reports that a profile has or should have, by their notebook, parameters or files."""
    files = project.params(profile, "any").parent.glob("*.yaml")
    return sorted(project.built(profile).union(project.slugs(), (file.stem for file in files)))


def _side_by_side(
    work: list[tuple[Run, dict[str, Any] | None]], every: bool, timeout: float | None, folder: Path
) -> Counter[str]:
    """Each report in a process of its own, the longest first."""
    running: set[subprocess.Popen] = set()
    at_once = max(1, cores() // max((_threads(old) for _, old in work), default=1))
    longest_first = sorted(work, key=lambda pair: -_seconds(pair[1]))
    with ThreadPoolExecutor(at_once) as pool:
        try:
            rest = (timeout, folder, running)
            parts = [pool.submit(_report, every, *pair, *rest) for pair in longest_first]
            return sum((part.result() for part in parts), Counter())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(running):
                child.terminate()
            raise
