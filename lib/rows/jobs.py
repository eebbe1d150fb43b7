"""Jobs whose results are files: only what is missing runs, once, and is stored as it comes.

A job is a function that workers can import, its arguments, and the path of its result, whose name
is the hash of all that the result depends on. There is no other state: what a killed run has
stored, the next one finds.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lib.core.progress import progress
from lib.rows.executors import RowsError, Workers, describe, open_executor

ATTEMPTS = 3
SECONDS_BETWEEN_LOOKS = 0.2  # at jobs that another process is computing
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    path: Path
    function: Callable
    arguments: tuple = ()
    size: int = 1  # what progress counts
    what: str = ""  # named when it fails


def run_jobs(
    jobs: Iterable[Job],
    read: Callable[[Path], Any],
    write: Callable[[Path, Any], None],
    *,
    workers: str = "",
    gpu: bool = False,
    label: str = "jobs",
) -> dict[Path, Any]:
    """Every job's result by path: read where it is stored, else computed and written.

    ``read(path)`` returns None where there is no result to be believed. ``workers`` and ``gpu``
    are those of :func:`lib.rows.executors.open_executor`. Of several processes that need the same
    result one computes it; the others wait and read. Raises `RowsError` when jobs failed three
    times, after all others are stored.
    """
    wanted = {job.path: job for job in jobs}
    results = {path: value for path in wanted if (value := read(path)) is not None}
    missing = [job for path, job in wanted.items() if path not in results]
    if missing:
        kept = f" ({len(results)} kept)" if results else ""
        total = sum(job.size for job in missing)
        with open_executor(workers, gpu=gpu) as executor, progress(label + kept, total) as advance:
            results |= _Run(missing, read, write, executor, advance).finish()
    return results


class _Run:
    def __init__(self, jobs: list[Job], read, write, executor: Workers, advance):
        self.read, self.write, self.executor, self.advance = read, write, executor, advance
        self.waiting = deque(jobs)
        self.running: dict[Future, Job] = {}
        self.locks: dict[Job, FileLock] = {}
        self.suspects: set[Job] = set()  # were under way when a process died: each runs alone
        self.failures: Counter[Job] = Counter()
        self.failed: list[str] = []
        self.results: dict[Path, Any] = {}

    def finish(self) -> dict[Path, Any]:
        try:
            while self.waiting or self.running:
                self._submit()
                if self.running:
                    for future in wait(self.running, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED).done:
                        self._take(future, self.running.pop(future))
                elif self.waiting:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            for lock in self.locks.values():
                lock.release()
        if self.failed:
            more = f" and {len(self.failed) - 3} more" if len(self.failed) > 3 else ""
            raise RowsError(
                f"failed {ATTEMPTS} times, all else is kept: {'; '.join(self.failed[:3])}{more}"
            )
        return self.results

    def _submit(self) -> None:
        """Keep the workers busy with jobs that no other process computes."""
        for _ in range(len(self.waiting)):
            if len(self.running) >= (1 if self.suspects else self.executor.width):
                return
            job = self.waiting.popleft()
            lock = FileLock(job.path.with_suffix(".lock"))
            try:
                lock.acquire(blocking=False)
            except Timeout:
                self.waiting.append(job)
                continue
            self.locks[job] = lock
            if (value := self.read(job.path)) is not None:
                self._done(job, value)
            else:
                self.running[self.executor.submit(job.function, *job.arguments)] = job

    def _take(self, future: Future, job: Job) -> None:
        self.suspects.discard(job)
        error = future.exception()
        if error is None:
            try:
                self.write(job.path, future.result())
            except OSError as reason:  # a full disk must not cost what was computed
                _log.warning("%s was not kept: %s", job.path.name, reason)
            self._done(job, future.result())
            return
        self.locks.pop(job).release()
        self.failures[job] += 1
        if self.failures[job] == ATTEMPTS:
            self.failed.append(f"{job.what or job.path.name}: {describe(error)}")
        else:
            self.waiting.appendleft(job)
            if isinstance(error, BrokenExecutor):
                self.suspects.add(job)

    def _done(self, job: Job, value: Any) -> None:
        self.results[job.path] = value
        job.path.with_suffix(".lock").unlink(missing_ok=True)  # who opened it will find the result
        self.locks.pop(job).release()
        self.advance(job.size)
