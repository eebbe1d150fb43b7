"""Where work runs: here, in processes, or on a Dask cluster; all are ``concurrent.futures``.

An executor's ``width`` is how many jobs should be under way so that no worker waits. What is still
under way when its block ends is given up.
"""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait

import torch

SECONDS_TO_CONNECT = 10
_one_at_a_time = threading.Lock()  # networks carry hooks: threads of a worker must not share them


class RowsError(RuntimeError):
    """One line that says what is wrong: a setting, a worker, a photo."""


class Workers(Executor):
    width: int


def open_executor(workers: str = "", *, gpu: bool = False) -> Workers:
    """The executor for ``workers``: "" is here, "4" four processes, "tcp://host:8786" a cluster.

    With ``gpu`` a cluster gives each job one unit of the resource ``GPU``. Raises `RowsError`.
    """
    if "://" in workers:
        return Cluster(workers, gpu)
    if workers and not workers.isdecimal():
        raise RowsError(
            f"WORKERS: expected a number of processes or tcp://host:port, got {workers!r}"
        )
    return Processes(int(workers)) if int(workers or 0) else Here()


class Here(Workers):
    """Runs each job as it is submitted, in this process, with all of its threads."""

    width = 1

    def submit(self, function: Callable, /, *arguments) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class Processes(Workers):
    """Spawned processes of one thread each. When one dies, the next job finds new ones."""

    def __init__(self, count: int):
        self.count, self.width = count, 2 * count
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.count, mp_context=spawn, initializer=_begin)

    def submit(self, function: Callable, /, *arguments) -> Future:
        try:
            return self._pool.submit(on_worker, function, *arguments)
        except BrokenExecutor:
            self._start()
            return self._pool.submit(on_worker, function, *arguments)

    def __exit__(self, *_) -> None:
        for process in list((self._pool._processes or {}).values()):  # public from Python 3.14 on
            process.terminate()
        self._pool.shutdown(wait=False, cancel_futures=True)


class Cluster(Workers):
    """A Dask cluster. Its scheduler repeats what a worker that died was doing."""

    def __init__(self, address: str, gpu: bool):
        try:
            from distributed import Client
        except ImportError:
            raise RowsError(
                f"WORKERS={address} needs the package distributed: make env EXTRAS=cluster"
            ) from None
        try:
            self._client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise RowsError(f"WORKERS={address}: no Dask scheduler ({describe(error)})") from None
        resources = {"GPU": 1} if gpu else None
        self._executor = self._client.get_executor(pure=False, resources=resources)

    @property
    def width(self) -> int:
        return 2 * max(1, sum(self._client.nthreads().values()))  # pyright: ignore[reportAttributeAccessIssue]

    def submit(self, function: Callable, /, *arguments) -> Future:
        return self._executor.submit(on_worker, function, *arguments)

    def __exit__(self, *_) -> None:
        self._executor.shutdown(wait=False)
        self._client.close()


def on_worker(function: Callable, /, *arguments):
    """Run one job on a worker: one thread, no progress bar; what goes wrong names the worker."""
    os.environ["REPORT_PROGRESS"] = "off"
    with _one_at_a_time:
        torch.set_num_threads(1)
        try:
            return function(*arguments)
        except Exception as error:
            where = f"worker {socket.gethostname()}:{os.getpid()}"
            raise RowsError(f"{where}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """An error in one line, with its type where it is not one of this project's own."""
    text = " ".join(str(error).split())
    return text if isinstance(error, RowsError) else f"{type(error).__name__}: {text}".rstrip(": ")


def _begin() -> None:
    """In a new process: Ctrl-C is its parent's to handle, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
