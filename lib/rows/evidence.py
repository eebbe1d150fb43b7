"""``evidence(protocol, network, photos, parameters)``: one tidy frame, each chunk computed once."""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.attribution import METHODS
from lib.core import store
from lib.data.images import Images
from lib.evaluation import PROTOCOLS
from lib.rows import files, kept
from lib.rows.code import code_hash
from lib.rows.estimate import estimate
from lib.rows.executors import RowsError
from lib.rows.jobs import Job, run_jobs
from lib.rows.network import Network

# what makes photos pixels and names networks, beside the protocol itself
_COMMON = ("lib.data.images", "lib.networks.classifier")
_log = logging.getLogger(__name__)


def evidence(
    protocol: str | Callable,
    network: Network,
    photos: Images,
    parameters: dict,
    *,
    seed: int = 0,
    chunk: int = 8,
    workers: str | int | None = None,
    report: str = "other",
) -> pd.DataFrame:
    """The rows that ``protocol`` gives for ``photos``: read where they are stored, else computed.

    A protocol is a name in ``lib.evaluation.PROTOCOLS``, or a function that workers can import:
    ``protocol(classifier, photos, pixels, parameters) -> DataFrame`` with a column ``image``, the
    position among the photos it was given. It uses their pixels, targets and annotations, not
    their names, and keys what it draws by ``parameters["seed"]`` and the image, so that chunks do
    not matter. ``parameters`` are plain values (numbers, texts, lists, mappings).

    Photos are cut into chunks of ``chunk``; those added at the end leave all full chunks as they
    are. ``workers`` (by default ``$WORKERS``) is as in :func:`lib.rows.executors.open_executor`.
    With ``$ADOPT`` rows that other code gave are adopted if a seeded tenth of them comes out alike.
    With ``$ROWS_KEPT``, a folder, the rows have to be there, and a seeded tenth to come out alike.
    ``report`` is whose rows these are: ``make clean-rows REPORT=...`` removes them.

    Returns the protocol's columns with ``image``, the position in all photos, and ``photo``, the
    name. ``.attrs["rows"]`` says where they come from: of its ``chunks`` so many were ``computed``
    now, and ``adopted`` from other code, by its hash; ``sha256`` is that of all rows.

    Raises `RowsError`: a setting that cannot be used, a photo that cannot be read, and when chunks
    failed three times; then all others are stored.
    """
    name, given = _name(protocol), _plain({**parameters, "seed": seed})
    if log := os.environ.get("ROWS_ESTIMATE"):
        return estimate(Path(log), report, _function(name), network, photos, given)
    jobs = list(_jobs(name, network, photos, given, chunk))
    keys = [files.key(job.path) for job in jobs]
    kept.claim(report, len(photos), keys, name, asdict(network), given, chunk)
    where = os.environ.get("WORKERS", "") if workers is None else str(workers)
    on = {"workers": where.strip(), "gpu": network.device.startswith("cuda")}
    computed = []

    def write(path: Path, rows: pd.DataFrame) -> None:
        computed.append(path)
        files.write(path, rows)

    def compute(some: Iterable[Job]) -> dict[Path, pd.DataFrame]:
        return run_jobs(some, files.read, write, **on, label=name.rpartition(":")[2])

    earlier = os.environ.get("ROWS_KEPT")
    missing = [job.path for job in jobs if not job.path.exists()]
    found = files.older(missing, Path(earlier) if earlier else None)
    if earlier or os.environ.get("ADOPT"):
        alike = files.adopt(found, lambda paths: compute(j for j in jobs if j.path in paths), seed)
        if earlier and (other := [job.what for job in jobs if job.path in {*missing} - alike]):
            some = f"{other[0]}, and of {len(other) - 1} chunks more" if other[1:] else other[0]
            raise RowsError(f"{name}: the rows of {some}, are not kept or came out otherwise")
    elif count := len(set().union(*found.values())):
        _log.warning("%s: %d chunks have rows of other code; ADOPT=1 tries them", name, count)
    stored = compute(jobs)
    adopted = Counter(part.attrs["adopted"] for part in stored.values() if "adopted" in part.attrs)
    parts = [stored[job.path] for job in jobs]  # two of the same photos have one path
    parts = [part.assign(image=part["image"] + k * chunk) for k, part in enumerate(parts)]
    parts = [part for part in parts if len(part)] or parts[:1]  # an empty one has no types
    rows = pd.concat(parts).sort_values("image", kind="stable", ignore_index=True)
    rows.insert(0, "image", rows.pop("image"))
    rows.insert(1, "photo", np.array(photos.names, dtype=object)[rows["image"]])
    rows.attrs["rows"] = {
        "chunks": len(stored),
        "computed": len(computed),
        "adopted": dict(adopted),
        "sha256": files.checksum(rows),
    }
    return rows


def chunk_rows(
    protocol: str, network: Network, sha256: str, photos: Images, content: str, parameters: dict
) -> pd.DataFrame:
    """One chunk's rows: what runs on a worker, once it sees the same network and photos."""
    classifier = network.load()
    if network.sha256 != sha256:
        raise RowsError(f"{network.name} has other weights here than where the work was given out")
    if _content(photos) != content:
        raise RowsError(f"{str(photos.photos[0].path)!r} or a photo after it is another one here")
    photos = replace(photos, workers=min(photos.workers, torch.get_num_threads()))
    rows = _function(protocol)(classifier, photos, photos.pixels(), parameters)
    if "image" not in rows or not rows["image"].isin(range(len(photos))).all():
        raise RowsError(f"{protocol}: its rows need a column image, from 0 to {len(photos) - 1}")
    return rows.reset_index(drop=True)


def _name(protocol: str | Callable) -> str:
    """``module:function``, which every worker can import."""
    if callable(protocol):
        return f"{protocol.__module__}:{protocol.__qualname__}"
    if protocol not in PROTOCOLS:
        raise RowsError(f"protocol {protocol!r} is unknown; choose one of: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def _function(name: str) -> Callable:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _plain(parameters: dict) -> dict:
    """The parameters as JSON gives them back: what is hashed is what the protocol receives."""
    try:
        return json.loads(json.dumps(parameters))
    except (TypeError, ValueError) as error:
        raise RowsError(f"parameters must be plain values: {error}") from None


def _jobs(
    name: str, network: Network, photos: Images, parameters: dict, size: int
) -> Iterator[Job]:
    """One job per chunk of ``size`` photos, in order."""
    if size < 1 or not len(photos):
        raise RowsError(f"{len(photos)} photos in chunks of {size}: expected at least 1 of each")
    sha256, text = network.sha256, json.dumps(parameters)
    named = {method.__module__ for key, method in METHODS.items() if f'"{key}"' in text}
    code = code_hash({name.partition(":")[0], *_COMMON, *named})
    photos = replace(photos, categories=[], skipped=[])  # rows do not depend on these
    for start in range(0, len(photos), size):
        part = photos.subset(slice(start, start + size))
        content = _content(part)
        key = store.digest(torch.__version__, name, sha256, parameters, content)
        given = (name, network, sha256, part, content, parameters)
        what = " to ".join(dict.fromkeys([part.names[0], part.names[-1]]))
        yield Job(files.path(key, code), chunk_rows, given, len(part), what)


def _content(photos: Images) -> str:
    """The hash of all that rows may depend on: of a photo not its name."""
    try:
        return store.digest(
            repr(photos.crop),
            [(p.path, p.target, p.instances, p.eye, p.foot) for p in photos.photos],
        )
    except OSError as error:
        raise RowsError(str(error)) from None
