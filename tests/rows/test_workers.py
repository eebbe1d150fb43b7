"""Rows when something dies: workers, the main process, a machine of a cluster."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import rows_work
from support.photos import save, small
from support.processes import gone
from support.rows_work import NETWORK, scores

from lib.rows import RowsError, evidence, files, kept
from lib.rows.files import agree

pytestmark = pytest.mark.slow

PHOTOS, CHUNK = 48, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos")
    for row in range(PHOTOS):
        save(path / "1" / f"photo{row:02d}.png", row)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


def direct(photos, parameters: dict):
    """The rows without chunks, files or executors."""
    part = photos.subset(slice(0, len(photos)))
    return scores(NETWORK.load(), part, part.pixels(), {"seed": 0, **parameters})


def start(folder: Path, log: Path, ready: Path, others: int) -> subprocess.Popen:
    ready.mkdir(exist_ok=True)
    script = Path(rows_work.__file__)
    command = [sys.executable, script, folder, log, str(CHUNK), ready, str(others)]
    paths = [Path(__file__).parents[2], Path(__file__).parents[1]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "WORKERS": ""}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def lines(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def stored(cache: Path) -> set[str]:
    """The first photo of each chunk that is stored, as the log names it."""
    return {files.read(path)["file"][0] for path in cache.glob("*.parquet")}


def test_a_run_killed_five_times_computes_no_stored_chunk_again(folder, tmp_path, cache):
    log, chance = tmp_path / "log", random.Random(0)
    for kill in range(5):
        before, known = len(lines(log)), stored(cache)
        process = start(folder, log, tmp_path / f"ready{kill}", 1)
        goal = before + chance.randint(1, 4)
        while len(lines(log)) < goal:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert not known & set(lines(log)[before:])
        assert len(lines(log)) - before <= len(stored(cache)) - len(known) + 1  # one in flight
    known, before = stored(cache), len(lines(log))
    assert 5 <= len(known) < PHOTOS // CHUNK
    last = start(folder, log, tmp_path / "ready", 1)
    summary = json.loads(last.communicate()[0])
    assert summary["computed"] == PHOTOS // CHUNK - len(known)
    assert not known & set(lines(log)[before:])
    photos = small(folder)
    rows = evidence(scores, NETWORK, photos, {"log": str(log)}, chunk=CHUNK)
    assert rows.attrs["rows"]["computed"] == 0
    whole = direct(photos, {})
    assert agree(rows[whole.columns], whole)


def test_two_processes_at_once_compute_each_chunk_once(folder, tmp_path):
    log = tmp_path / "log"
    both = [start(folder, log, tmp_path / "ready", 2) for _ in range(2)]
    one, two = (json.loads(process.communicate()[0]) for process in both)
    assert len(lines(log)) == len(set(lines(log))) == PHOTOS // CHUNK
    assert one["computed"] + two["computed"] == PHOTOS // CHUNK
    assert one["sha256"] == two["sha256"]


def test_a_worker_that_dies_costs_its_own_chunk_only(folder):
    """One chunk kills every worker that takes it: those under way beside it are not blamed."""
    photos = small(folder).subset(slice(0, 8))
    parameters = {"dies": "photo04.png"}
    with pytest.raises(
        RowsError, match=r"all else is kept: 1/photo04.png to 1/photo05.png: Broken"
    ):
        evidence(scores, NETWORK, photos, parameters, chunk=2, workers=2)
    assert "3 of 4" in kept.table()


def test_processes_give_the_same_rows(folder, tmp_path):
    photos = small(folder)
    parameters = {"dies": "photo04.png", "marker": str(tmp_path / "died")}
    rows = evidence(scores, NETWORK, photos, parameters, chunk=3, workers=2)
    assert (tmp_path / "died").exists()
    whole = direct(photos, {})
    assert agree(rows[whole.columns], whole)


def test_workers_end_with_a_main_process_that_is_killed(folder, tmp_path):
    script = (
        "import os, sys, time\n"
        "from lib.rows.executors import open_executor\n"
        "if __name__ == '__main__':\n"
        "    with open_executor('1') as executor:\n"
        "        print(executor.submit(os.getpid).result(), flush=True)\n"
        "        executor.submit(time.sleep, 600).result()\n"
    )
    path = tmp_path / "main.py"
    path.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, path], env=environment, stdout=subprocess.PIPE, text=True
    )
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert gone(worker)


def test_a_cluster_one_worker_of_which_is_killed_gives_the_same_rows(folder, tmp_path):
    distributed = pytest.importorskip("distributed")
    photos = small(folder)
    parameters = {"dies": "photo12.png", "marker": str(tmp_path / "died")}
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        host="127.0.0.1",
        silence_logs="CRITICAL",
    ) as cluster:
        address = cluster.scheduler_address
        rows = evidence(scores, NETWORK, photos, parameters, chunk=3, workers=address)
        assert (tmp_path / "died").exists()
        parameters = {"raises": "photo00.png"}
        named = r"1/photo00.png to 1/photo02.png: worker \S+:\d+: ValueError: this chunk"
        with pytest.raises(RowsError, match=named):
            evidence(scores, NETWORK, photos, parameters, chunk=3, workers=address)
    assert rows.attrs["rows"]["computed"] == PHOTOS // 3
    whole = direct(photos, {})
    assert agree(rows[whole.columns], whole)
