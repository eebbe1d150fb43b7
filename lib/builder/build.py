"""Make one report: skip it if it is current, else build it aside and put it in place whole.

At any moment reports/<profile>/ holds the last good pair of .html and .json. A build happens in
.cache/build/, its files are written under a hidden name beside their place and renamed; what
kill -9 leaves of both, the next build removes. Locks are kernel-held, so they end with their owner.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lib.builder.console import problem, say, threads_of_a_kernel
from lib.builder.overrides import Run
from lib.builder.pair import damage, html_build, sealed
from lib.builder.provenance import collect, content_hash
from lib.builder.workspace import Project, ReportFailed
from lib.core.ledger import claims_of

CHANGED = "changed-while-made"  # in place of a content hash
LARGE = 1.5e6  # characters of a page that is slow to open and to mail
replaced: list[Path] = []  # what this process has put in place


def is_current(run: Run, digest: str) -> bool:
    """Are both files as they were made, with this content hash?"""
    carried = html_build(run.project.html(run.target, run.slug))
    return carried == digest and not damage(run.project, run.target, run.slug)


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold an exclusive lock; say so when another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting:
            say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def build_folder(project: Project, slug: str) -> Iterator[Path]:
    """A folder of this build alone, removed in every case; those of dead builds go first."""
    parent = project.cache / "build"
    with contextlib.ExitStack() as stack:
        with locked(project.cache / "locks" / "build-folders.lock"):
            parent.mkdir(parents=True, exist_ok=True)
            for old in parent.iterdir():
                _remove_if_dead(old)
            folder = Path(tempfile.mkdtemp(prefix=f"{slug}-", dir=parent))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(FileLock(folder / "alive"))
        yield folder


def _remove_if_dead(folder: Path) -> None:
    with contextlib.suppress(OSError), FileLock(folder / "alive", timeout=0):  # else it is alive
        if (folder / "runtime").exists():
            shutil.rmtree((folder / "runtime").read_text(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C waits until the block is done."""
    held = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def put_in_place(files: list[tuple[str, Path]]) -> None:
    """Write each text beside its place and rename it, in order, mode 0644.

    Raises:
        OSError: it names the file. What was not yet renamed is as before.
    """
    ready = []
    try:
        for text, path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.part")
            ready.append((aside, path))
            try:
                aside.write_text(text, encoding="utf-8")
            except OSError as error:  # a full disk does not say where
                raise OSError(error.errno, error.strerror, str(path)) from None
            aside.chmod(0o644)
        with _signals_held():
            for aside, path in ready:
                os.replace(aside, path)
                replaced.append(path)
    finally:
        for aside, _ in ready:
            with contextlib.suppress(OSError):
                aside.unlink()


def assemble(
    run: Run, head: list[str], recorded: dict[str, Any], provenance: dict[str, Any]
) -> dict[str, Any]:
    """The results file's content (all but `build`): title and question, and what was recorded.

    Raises:
        ReportFailed: a claim that the ledger assigns to this report was not recorded.
    """
    expected = claims_of(run.slug, run.project.ledger)
    found = {claim["id"] for claim in recorded.get("claims", [])}
    missing = [name for name in expected if name not in found]
    if missing:
        raise ReportFailed(
            f"claims of the ledger were not recorded: {', '.join(missing)} (report.claim)"
        )
    if not recorded:
        raise ReportFailed("nothing was recorded: the notebook needs a Report")
    if recorded["report"] != run.slug:
        raise ReportFailed(f"the notebook records for {recorded['report']!r}, not for {run.slug!r}")
    return {
        "report": run.slug,
        "title": head[0],
        "question": head[1],
        "profile": run.target,
        "parameters": run.parameters,
        "changed": run.changed,
        **{name: recorded[name] for name in ("claims", "metrics", "tolerances", "wall_clock")},
        "provenance": provenance,
    }


def make(run: Run, *, force: bool = False, timeout: float | None = None) -> str:
    """Make the report of a run; return "current" if nothing had to be done, else "built".

    Raises:
        ReportFailed: the last good report is untouched, and NN-slug.FAILED.html shows why, if it
            could be written.
        KeyboardInterrupt: `replaced` says what was changed; nothing is left behind.
    """
    project, slug, target = run.project, run.slug, run.target
    threads, digest = threads_of_a_kernel(), content_hash(run)
    failed = project.failed(target, slug)

    def current() -> bool:
        if force or not is_current(run, digest):
            return False
        with contextlib.suppress(OSError):  # mostly there is none; a project may be read-only
            failed.unlink()
        return True

    if current():
        return "current"
    lock = project.cache / "locks" / target / f"{slug}.lock"
    with locked(lock, f"{slug}  waits for another build of it"):
        if current():
            return "current"
        for part in project.folder(target).glob(f".{slug}.*.part"):  # of a build that was killed
            part.unlink()
        try:
            with build_folder(project, slug) as folder:
                warnings = _build(run, digest, folder, timeout, threads)
        except (ReportFailed, OSError) as error:
            if isinstance(error, OSError):
                error = ReportFailed(problem(error))
            from lib.builder.page import failed_page

            with contextlib.suppress(OSError):
                put_in_place([(failed_page(run, error), failed)])
            raise error from None
        failed.unlink(missing_ok=True)
    for warning in warnings:  # last: standard output may be closed or full
        say(f"{slug}  warning: {warning}")
    return "built"


def _build(run: Run, digest: str, folder: Path, timeout: float | None, threads: int) -> list[str]:
    """Execute, render and put in place; return the warnings."""
    import nbformat

    from lib.builder.execute import execute
    from lib.builder.markdown import plain
    from lib.builder.render import render

    project, slug, target = run.project, run.slug, run.target
    head = [plain(text) for text in run.head[:2]]
    began = time.monotonic()
    executed = execute(run, folder, threads=threads, timeout=timeout)
    notebook_text = nbformat.writes(executed.notebook) + "\n"
    provenance = collect(run, digest, threads, executed.results.get("provenance", {}))
    results = assemble(run, head, executed.results, provenance)
    now, seconds = datetime.datetime.now(datetime.UTC), time.monotonic() - began
    results["build"] = {"time": f"{now:%Y-%m-%dT%H:%M:%SZ}", "seconds": round(seconds, 1)}
    html, warnings = render(run, executed.notebook, results)
    try:
        same = content_hash(run) == digest
    except OSError:  # a file of it is gone
        same = False
    if not same:
        warnings.append("what it is made of changed while it was made: it counts as stale")
        provenance["content_hash"] = CHANGED
        html = html.replace(digest, CHANGED)
    if len(html) > LARGE:
        warnings.append(f"the page has {len(html) / 1e6:.1f} MB: show fewer or smaller figures")
    put_in_place(
        [
            (notebook_text, project.executed(target, slug)),
            (sealed(results, html), project.json(target, slug)),
            (html, project.html(target, slug)),
        ]
    )
    return executed.warnings + warnings
