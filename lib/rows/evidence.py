"""``evidence(protocol, network, photos, parameters)``: one tidy frame, each chunk computed once."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.attribution import METHODS
from lib.data.images import Images
from lib.evaluation import PROTOCOLS
from lib.rows import files, kept
from lib.rows.adopt import adopt, older
from lib.rows.code import code_hash
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
    ``report`` is whose rows these are: ``make clean-rows REPORT=...`` removes them.

    Returns the protocol's columns with ``image``, the position in all photos, and ``photo``, the
    name. ``.attrs["rows"]`` says where they come from: of its ``chunks`` so many were ``computed``
    now, and ``adopted`` from other code, by its hash; ``sha256`` is that of all rows.

    Raises `RowsError`: a setting that cannot be used, a photo that cannot be read, and when chunks
    failed three times; then all others are stored.
    """
    name = _name(protocol)
    given = _plain({**parameters, "seed": seed})
    if measured := os.environ.get("ROWS_ESTIMATE"):
        from lib.rows.estimate import estimate

        return estimate(Path(measured), report, _function(name), network, photos, given)
    jobs = _jobs(name, network, photos, given, chunk)
    by_path = {job.path: job for job in jobs}
    call = {"protocol": name, "network": network, "parameters": parameters, "seed": seed}
    keys = [files.key(path) for path in by_path]
    kept.claim(photos, keys, **call, chunk=chunk, report=report)
    where = os.environ.get("WORKERS", "") if workers is None else str(workers)
    on = {"workers": where.strip(), "gpu": network.device.startswith("cuda")}
    computed = []

    def write(path: Path, rows: pd.DataFrame) -> None:
        computed.append(path)
        files.write(path, rows)

    def compute(paths: Iterable[Path]) -> dict[Path, pd.DataFrame]:
        label = name.rpartition(":")[2]
        return run_jobs([by_path[path] for path in paths], files.read, write, **on, label=label)

    missing = [path for path in by_path if not path.exists()]
    if missing and (found := older(missing)):
        if os.environ.get("ADOPT"):
            adopt(found, compute, seed)
        else:
            count = sum(map(len, found.values()))
            _log.warning("%s: %d chunks have rows of other code; ADOPT=1 tries them", name, count)
    stored = compute(by_path)
    parts = [stored[job.path].assign(start=k * chunk) for k, job in enumerate(jobs)]
    rows = pd.concat(parts, ignore_index=True)
    rows["image"] += rows.pop("start")
    rows.insert(0, "image", rows.pop("image"))
    rows.insert(1, "photo", np.array(photos.names, dtype=object)[rows["image"]])
    rows = rows.sort_values("image", kind="stable", ignore_index=True)
    adopted = Counter(part.attrs.get("adopted") for part in stored.values())
    del adopted[None]
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
    return rows


def _name(protocol: str | Callable) -> str:
    """``module:function``, which every worker can import."""
    if callable(protocol):
        return f"{protocol.__module__}:{protocol.__qualname__}"
    if protocol not in PROTOCOLS and ":" not in protocol:  # a stored call has the full name
        raise RowsError(f"protocol {protocol!r} is unknown; choose one of: {', '.join(PROTOCOLS)}")
    return PROTOCOLS.get(protocol, protocol)


def _function(name: str) -> Callable:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _plain(parameters: dict) -> dict:
    """The parameters as JSON gives them back: what is hashed is what the protocol receives."""
    try:
        return json.loads(json.dumps(parameters))
    except (TypeError, ValueError) as error:
        raise RowsError(f"parameters must be plain values: {error}") from None


def _jobs(name: str, network: Network, photos: Images, parameters: dict, size: int) -> list[Job]:
    """One job per chunk of ``size`` photos, in order."""
    if size < 1 or not len(photos):
        raise RowsError(f"{len(photos)} photos in chunks of {size}: expected at least 1 of each")
    named = {METHODS[text].__module__ for text in _texts(parameters) if text in METHODS}
    code = code_hash({name.partition(":")[0], *_COMMON, *named})
    shared = [name, network.sha256, json.dumps(parameters, sort_keys=True), torch.__version__]
    photos = replace(photos, categories=[], skipped=[])  # rows do not depend on these
    chunks = [photos.subset(slice(k, k + size)) for k in range(0, len(photos), size)]
    with ThreadPoolExecutor(photos.workers) as pool:
        contents = list(pool.map(_content, chunks))
    jobs = []
    for part, content in zip(chunks, contents, strict=True):
        given = (name, network, network.sha256, part, content, parameters)
        what = " to ".join(dict.fromkeys([part.names[0], part.names[-1]]))
        path = files.path([*shared, content], code)
        jobs.append(Job(path, chunk_rows, given, len(part), what))
    return jobs


def _texts(value: object) -> set[str]:
    """Every text in plain parameters."""
    if isinstance(value, dict):
        return set(value).union(*map(_texts, value.values()))
    return set().union(*map(_texts, value)) if isinstance(value, list) else {str(value)}


def _content(photos: Images) -> str:
    digest = hashlib.sha256(repr(photos.crop).encode())
    for photo in photos.photos:
        try:
            seen = photo.path.stat()
            content = _bytes_hash(photo.path, seen.st_size, seen.st_mtime_ns)
        except OSError as error:
            raise RowsError(f"{str(photo.path)!r}: {error.strerror}") from None
        known = content, photo.target, photo.instances, photo.eye, photo.foot
        digest.update(repr(known).encode())
    return digest.hexdigest()


@lru_cache(maxsize=100_000)
def _bytes_hash(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
