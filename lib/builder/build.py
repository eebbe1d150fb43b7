"""Make one report: skip it if it is current, else build it aside and put it in place whole.

At any moment reports/<profile>/ holds the last good pair of .html and .json. A build happens in
.cache/build/ (same file system); what kill -9 leaves there, the next build removes. Locks are
kernel-held, so they end with their owner.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.builder.console import say, threads_of_a_kernel
from lib.builder.overrides import Run
from lib.builder.pair import damage, html_build, sealed
from lib.builder.provenance import collect, content_hash
from lib.builder.workspace import Project
from lib.core.ledger import claims_of


def is_current(run: Run, digest: str) -> bool:
    """Are both files as they were made, with this content hash?"""
    carried = html_build(run.project.html(run.target, run.slug))
    return carried == digest and not damage(run.project, run.target, run.slug)


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold an exclusive lock; say so when another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
            stack.enter_context(locked(folder / "alive"))
        yield folder


def _remove_if_dead(folder: Path) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        if (folder / "alive").exists():
            file = stack.enter_context((folder / "alive").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its builder lives
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


def put_in_place(folder: Path, files: list[tuple[str, Path]]) -> None:
    """Write each text aside and rename it to its place, in order, mode 0644."""
    ready = []
    for position, (text, path) in enumerate(files):
        aside = folder / f"{position}.part"
        aside.write_text(text, encoding="utf-8")
        aside.chmod(0o644)
        path.parent.mkdir(parents=True, exist_ok=True)
        ready.append((aside, path))
    with _signals_held():
        for aside, path in ready:
            os.replace(aside, path)


def assemble(
    run: Run, title: str, question: str, recorded: dict[str, Any], provenance: dict[str, Any]
) -> dict[str, Any]:
    """The results file's content (all but `build`), from what the notebook recorded.

    Raises:
        ReportFailed: a claim that the ledger assigns to this report was not recorded.
    """
    from lib.builder.execute import ReportFailed

    expected = claims_of(run.slug, run.project.ledger)
    found = {claim["id"] for claim in recorded.get("claims", [])}
    missing = [id for id in expected if id not in found]
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
        "title": title,
        "question": question,
        "profile": run.target,
        "parameters": run.parameters,
        "changed": run.changed,
        "claims": recorded["claims"],
        "metrics": recorded["metrics"],
        "tolerances": recorded["tolerances"],
        "wall_clock": recorded["wall_clock"],
        "provenance": provenance,
    }


def make(
    run: Run, *, force: bool = False, timeout: float = 3600, threads: int | None = None
) -> str:
    """Make the report of a run; return "current" if nothing had to be done, else "built".

    Raises:
        ReportFailed: the last good report is untouched, and NN-slug.FAILED.html shows why.
        KeyboardInterrupt: nothing was changed and nothing is left behind.
    """
    project, slug, target = run.project, run.slug, run.target
    digest = content_hash(run)
    failed = project.failed(target, slug)
    if not force and is_current(run, digest):
        failed.unlink(missing_ok=True)
        return "current"
    lock = project.cache / "locks" / target / f"{slug}.lock"
    with locked(lock, f"{slug}  waits for another build of it"):
        if not force and is_current(run, digest):
            failed.unlink(missing_ok=True)
            return "current"
        from lib.builder.execute import ReportFailed

        with build_folder(project, slug) as folder:
            try:
                _build(run, digest, folder, timeout, threads)
            except ReportFailed as failure:
                from lib.builder.page import failed_page

                put_in_place(folder, [(failed_page(run, failure), failed)])
                raise
        failed.unlink(missing_ok=True)
    return "built"


def _build(run: Run, digest: str, folder: Path, timeout: float, threads: int | None) -> None:
    from lib.builder.execute import execute
    from lib.builder.markdown import plain, trusted_inline
    from lib.builder.render import render, title_and_question

    project, slug, target = run.project, run.slug, run.target
    title, question, _ = title_and_question(run.notebook)
    began = time.monotonic()
    threads = threads or threads_of_a_kernel()
    executed = execute(run, folder, threads=threads, timeout=timeout)
    for warning in executed.warnings:
        say(f"{slug}  warning: {warning}")
    if content_hash(run) != digest:
        say(f"{slug}  warning: lib changed while the report was made: it counts as stale")
        digest = "changed-while-made"
    import nbformat

    notebook_text = nbformat.writes(executed.notebook) + "\n"
    provenance = collect(run, digest, threads, executed.results.get("provenance", {}))
    results = assemble(
        run,
        plain(trusted_inline(title)),
        plain(trusted_inline(question)),
        executed.results,
        provenance,
    )
    seconds, when = time.monotonic() - began, datetime.datetime.now(datetime.UTC)
    html, warnings = render(run, executed.notebook, results, provenance, seconds=seconds, when=when)
    for warning in warnings:
        say(f"{slug}  warning: {warning}")
    results["build"] = {"time": f"{when:%Y-%m-%dT%H:%M:%SZ}", "seconds": round(seconds, 1)}
    put_in_place(
        folder,
        [
            (notebook_text, project.executed(target, slug)),
            (sealed(results, html), project.json(target, slug)),
            (html, project.html(target, slug)),
        ],
    )
