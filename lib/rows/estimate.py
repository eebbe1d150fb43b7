"""How long all of a report's rows would take, from ten seconds of them.

Nothing is derived from formulas: a protocol runs on one photo after another until ten seconds are
over, and the passes through the network are counted on the way.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch

from lib import copies
from lib.data.images import Images
from lib.networks.classifier import Classifier
from lib.rows.code import ROOT
from lib.rows.executors import RowsError
from lib.rows.network import Network

SECONDS = 10.0


def estimate(
    log: Path,
    report: str,
    protocol: Callable,
    network: Network,
    photos: Images,
    parameters: dict,
) -> pd.DataFrame:
    """The rows of as many photos as ten seconds allow, and a line of JSON in ``log``.

    Per photo: passes of scores and gradients, seconds with so many threads, bytes read and stored.
    """
    classifier = network.load()
    part, pixels = next(photos.batches(1))
    pixels, targets = copies.check_inputs(classifier, pixels, part.targets)
    classifier.scores(pixels)  # a first pass of either kind takes longer
    copies.target_gradient(classifier, pixels, targets)
    frames, start = [], time.perf_counter()
    with counted(classifier) as passes:
        for k in range(len(photos)):
            one = photos.subset(slice(k, k + 1))
            rows = protocol(classifier, one, one.pixels(), parameters)
            frames.append(rows.assign(image=k, photo=one.names[0]))
            if time.perf_counter() - start >= SECONDS:
                break
    taken, n = time.perf_counter() - start, len(frames)
    whole = pd.concat(frames, ignore_index=True)
    stored = io.BytesIO()
    whole.to_parquet(stored)
    line = {
        "report": report,
        "protocol": protocol.__name__,
        "photos": len(photos),
        "scores": passes["scores"] / n,
        "gradients": passes["gradients"] / n,
        "seconds": taken / n,
        "threads": torch.get_num_threads(),
        "read": sum(photo.path.stat().st_size for photo in photos.photos) / len(photos),
        "rows": len(stored.getvalue()) / n,
    }
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return whole


@contextmanager
def counted(classifier: Classifier) -> Iterator[Counter]:
    """Count the images that pass through the network, as ``scores`` and ``gradients``."""
    passes: Counter = Counter()
    scores = classifier.scores

    def through(network, inputs) -> None:
        passes["gradients" if torch.is_grad_enabled() else "scores"] += len(inputs[0])

    def counting(images: torch.Tensor) -> torch.Tensor:
        before = passes["scores"]
        result = scores(images)
        passes["scores"] = before + len(images)  # whether or not it went through the network
        return result

    hook = classifier.network.register_forward_pre_hook(through)
    classifier.scores = counting
    try:
        yield passes
    finally:
        hook.remove()
        del classifier.scores


def table(profile: str, workers: int, photos: int | None) -> str:
    """What each report's rows would cost under a profile, here and with ``workers`` threads.

    Notebooks run in a folder of links to the project, so that no report is touched.
    """
    if not (ROOT / "params" / profile).is_dir():
        raise RowsError(f"PROFILE={profile}: there is no folder params/{profile}")
    lines = []
    for notebook in sorted((ROOT / "notebooks").glob("[0-9a-z]*.ipynb")):
        if "evidence(" not in notebook.read_text():
            lines.append({"report": notebook.stem, "protocol": "(no rows yet)"})
            continue
        with tempfile.TemporaryDirectory() as folder:
            measured, failure = _measured(Path(folder), notebook.stem, profile)
        lines += [_cost(line, workers, photos) for line in measured]
        if not measured:
            lines.append({"report": notebook.stem, "protocol": f"({failure})"})
    return pd.DataFrame(lines).fillna("").to_string(index=False)


def _measured(folder: Path, slug: str, profile: str) -> tuple[list[dict], str]:
    for entry in ROOT.iterdir():
        if entry.name not in ("reports", ".cache", ".git"):
            (folder / entry.name).symlink_to(entry)
    log = folder / "estimate.jsonl"
    command = [sys.executable, "-m", "lib.builder", "--root", folder, "build", slug]
    command += ["--profile", profile, "--no-index", "--timeout", "300"]
    environment = os.environ | {"ROWS_ESTIMATE": str(log)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line) for line in lines], done.stderr.strip().partition("\n")[0]


def _cost(line: dict, workers: int, photos: int | None) -> dict:
    n = photos or line["photos"]
    hours = n * line["seconds"] / 3600
    return {
        "report": line["report"],
        "protocol": line["protocol"],
        "photos": f"{n:,}",
        "scores": f"{n * line['scores']:,.0f}",
        "gradients": f"{n * line['gradients']:,.0f}",
        "hours here": f"{hours:,.3f}",
        f"hours, {workers} workers": f"{hours * line['threads'] / workers:,.3f}",
        "GB of photos": f"{n * line['read'] / 1e9:.3f}",
        "GB of rows": f"{n * line['rows'] / 1e9:.3f}",
    }
