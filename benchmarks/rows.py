"""Rows: what chunks and files cost, what a resumed run costs, and how far two workers get."""

import itertools
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from unittest import mock

from benchmarks.timing import Row
from lib.data.images import load_images
from lib.evaluation.removal import removal
from lib.rows import Network, evidence
from lib.rows.executors import on_worker

PHOTOS, CHUNK = 16, 2
NETWORK = Network()
PARAMETERS = {
    "methods": {"IG": {"method": "integrated_gradients", "steps": 20}},
    "fractions": [0, 0.1, 0.2, 0.3, 0.5, 0.7, 1],
}
_seeds = itertools.count()  # a run with a new seed finds nothing that an earlier one stored


@cache
def folder() -> str:
    return tempfile.mkdtemp(prefix="rows-")


@cache
def cluster():
    from distributed import LocalCluster

    with mock.patch.dict(os.environ, ATTRIBUTION_CACHE=folder(), MALLOC_ARENA_MAX="1"):
        return LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        )


def run(seed: int | None = None, workers: str = "") -> None:
    """Rows of all photos, in chunks."""
    seed = next(_seeds) if seed is None else seed
    with mock.patch.dict(os.environ, ATTRIBUTION_CACHE=folder()):
        photos = load_images(limit=PHOTOS)
        evidence("removal", NETWORK, photos, PARAMETERS, seed=seed, chunk=CHUNK, workers=workers)


def protocol_alone(size: int) -> None:
    """The same work without files, keys and executors, ``size`` photos at a time."""
    for part, pixels in load_images(limit=PHOTOS).batches(size):
        removal(NETWORK.load(), part, pixels, PARAMETERS | {"seed": 0})


class OneProcess:
    """One process of one thread that does the same work, started once."""

    def __init__(self):
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def seconds(self) -> float:
        start = time.perf_counter()
        self._pool.submit(on_worker, protocol_alone, CHUNK).result()
        return time.perf_counter() - start

    def close(self) -> None:
        self._pool.shutdown()


def rows() -> list[Row]:
    return [
        Row(
            f"Rows of {PHOTOS} photos on two Dask workers",
            ours=lambda: run(workers=cluster().scheduler_address),
            rivals={"one process": OneProcess},
            targets={"one process": 1.8},
        ),
        Row(
            f"Rows of {PHOTOS} photos in {PHOTOS // CHUNK} chunks, here",
            ours=run,
            floor=lambda: protocol_alone(CHUNK),
            floor_target=1.05,
        ),
        Row(
            f"Rows of {PHOTOS} photos, resumed with nothing missing",
            ours=lambda: run(seed=-1),
            seconds_target=0.5,
        ),
    ]
