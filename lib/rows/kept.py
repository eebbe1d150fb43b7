"""Which rows belong to which report: a manifest for each call of ``evidence``.

A manifest holds what the call was given, so that it can be made again, and the keys of its chunks.
Rows that two reports use are in both manifests and survive the cleaning of one.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from lib.core import store
from lib.data.files import Crop
from lib.data.images import Images
from lib.data.listing import Photo
from lib.rows import files
from lib.rows.executors import RowsError
from lib.rows.network import Network

ANNOTATIONS = ("instances", "eye", "foot")


def claim(photos: Images, keys: list[str], **call) -> None:
    """Say that the report ``call["report"]`` uses the rows ``keys`` of ``photos``."""
    call["network"] = asdict(call["network"])
    name = hashlib.sha256(json.dumps(call, sort_keys=True).encode()).hexdigest()[:16]
    listed = [asdict(photo) | {"path": str(photo.path)} for photo in photos.photos]
    manifest = {"call": call, "keys": keys, "crop": asdict(photos.crop), "photos": listed}
    path = store.folder("rows") / f"{name}.json"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(manifest))
    os.replace(partial, path)


def manifests() -> dict[Path, dict]:
    """Every manifest by its path; a damaged one claims nothing."""
    found = {}
    for path in sorted(store.folder("rows").glob("*.json")):
        with suppress(ValueError):
            found[path] = json.loads(path.read_text())
    return found


def call_of(manifest: dict) -> dict:
    """The arguments with which ``evidence`` can be called again."""
    photos = [
        Photo(
            **photo
            | {"path": Path(photo["path"])}
            | {part: tuple(map(tuple, photo[part])) for part in ANNOTATIONS}
        )
        for photo in manifest["photos"]
    ]
    images = Images(tuple(photos), [], Crop(**manifest["crop"]), [], os.cpu_count() or 1)
    call = manifest["call"]
    return call | {"photos": images, "network": Network(**call["network"])}


def table() -> str:
    """What is kept: photos, chunks and megabytes by report, and what belongs to none."""
    have = {}  # key -> bytes, by whatever code
    for path in store.folder("rows").glob("*.parquet"):
        have[files.key(path)] = have.get(files.key(path), 0) + path.stat().st_size
    claims: dict[str, set[str]] = {}
    photos: dict[str, int] = {}
    for manifest in manifests().values():
        report = manifest["call"]["report"]
        claims.setdefault(report, set()).update(manifest["keys"])
        photos[report] = max(photos.get(report, 0), len(manifest["photos"]))
    if rest := set(have).difference(*claims.values()):
        claims["(none)"] = rest
    lines = [
        (report, photos.get(report, ""), f"{len(keys & have.keys())} of {len(keys)}",
         f"{sum(have.get(key, 0) for key in keys) / 1e6:.2f}")
        for report, keys in sorted(claims.items())
    ]  # fmt: skip
    columns = ["report", "photos", "chunks", "MB"]
    return pd.DataFrame(lines, columns=columns).to_string(index=False) if lines else "no rows yet"


def clean(report: str) -> int:
    """Remove the rows that only ``report`` claims; returns how many bytes that frees."""
    keys, others, calls = set(), set(), manifests()
    reports = sorted({manifest["call"]["report"] for manifest in calls.values()})
    if report not in reports:
        raise RowsError(f"REPORT={report}: has no rows; there are rows of: {', '.join(reports)}")
    for path, manifest in calls.items():
        if manifest["call"]["report"] == report:
            keys |= set(manifest["keys"])
            path.unlink()
        else:
            others |= set(manifest["keys"])
    freed = 0
    for path in store.folder("rows").iterdir():
        if files.key(path) in keys - others:
            freed += path.stat().st_size
            path.unlink()
    return freed
