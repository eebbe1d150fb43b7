"""How long all of a report's rows would take, from ten seconds of them.

Nothing is derived from formulas: a protocol runs on one photo after another until ten seconds are
over, and the passes through the network are counted on the way.
"""

import io
import json
import math
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
    log: Path, report: str, protocol: Callable, network: Network, photos: Images, parameters: dict
) -> pd.DataFrame:
    """The rows of as many photos as ten seconds allow; in ``log`` a line for all of them."""
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
    share = len(photos) / len(frames)
    hours = (time.perf_counter() - start) / 3600 * share
    whole, stored = pd.concat(frames, ignore_index=True), io.BytesIO()
    whole.attrs["rows"] = {"sha256": ""}  # of an estimate
    whole.to_parquet(stored)
    line = {
        "report": report,
        "protocol": protocol.__name__,
        "photos": len(photos),
        "scores": round(passes["scores"] * share),
        "gradients": round(passes["gradients"] * share),
        "hours here": hours,
        "hours of a thread": hours * torch.get_num_threads(),
        "GB of photos": sum(photo.path.stat().st_size for photo in photos.photos) / 1e9,
        "GB of rows": stored.getbuffer().nbytes * share / 1e9,
    }
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return whole


@contextmanager
def counted(classifier: Classifier) -> Iterator[Counter]:
    """Count the images that pass through the network, as ``scores`` and ``gradients``."""
    passes, forward, scores = Counter(), classifier.forward, classifier.scores

    def counting_forward(images: torch.Tensor) -> torch.Tensor:
        passes["gradients" if torch.is_grad_enabled() else "scores"] += len(images)
        return forward(images)

    def counting_scores(images: torch.Tensor) -> torch.Tensor:
        before = passes["scores"]
        result = scores(images)
        passes["scores"] = before + len(images)  # whether or not it went through forward
        return result

    classifier.forward, classifier.scores = counting_forward, counting_scores
    try:
        yield passes
    finally:
        del classifier.forward, classifier.scores


def table(profile: str, reports: list[str], workers: int) -> str:
    """What the rows of ``reports`` would cost, here and with ``workers`` threads."""
    if not (ROOT / "params" / profile).is_dir():
        raise RowsError(f"PROFILE={profile}: there is no folder params/{profile}")
    if not reports:
        return "no report has rows"
    costs = pd.DataFrame([line for slug in reports for line in _measured(slug, profile)])
    costs[f"hours, {workers} workers"] = costs.pop("hours of a thread") / workers
    return costs.to_string(index=False, na_rep="", float_format="{:,.3f}".format)


def _measured(slug: str, profile: str) -> list[dict]:
    """The lines of a report that runs in a folder of links to the project: none is touched."""
    with tempfile.TemporaryDirectory() as folder:
        for entry in ROOT.iterdir():
            if entry.name not in ("reports", ".cache", ".git"):
                Path(folder, entry.name).symlink_to(entry)
        log = Path(folder, "estimate.jsonl")
        command = [sys.executable, "-m", "lib.builder", "--root", folder, "build", slug]
        command += ["--profile", profile, "--no-index", "--timeout", "300"]
        environment = os.environ | {"ROWS_ESTIMATE": str(log)}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        lines = log.read_text().splitlines() if log.exists() else []
    failure = done.stderr.strip().partition("\n")[0]
    return [json.loads(line) for line in lines] or [
        {"report": slug, "protocol": f"({failure})", "hours of a thread": math.nan}
    ]
