"""Which rows belong to which report: a manifest for each call of ``evidence``.

Rows that two reports use are in the manifests of both and survive the cleaning of one.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd

from lib.core import store
from lib.rows import files
from lib.rows.executors import RowsError

FOLDER = "rows-of-reports"


def claim(report: str, photos: int, keys: list[str], *call) -> None:
    """Say that ``report`` uses the rows ``keys`` of so many photos; a ``call`` has one claim."""
    manifest = {"report": report, "photos": photos, "keys": keys}
    store.write(FOLDER, store.digest(report, *call), json.dumps(manifest).encode())


def manifests() -> dict[Path, dict]:
    """Every manifest by its path; a damaged one claims nothing."""
    paths = [path for path in sorted(store.folder(FOLDER).iterdir()) if not path.suffix]
    found = {path: store.read(FOLDER, path.name) for path in paths}
    return {path: json.loads(content) for path, content in found.items() if content}


def table() -> str:
    """What is kept: photos, chunks and megabytes by report, and what belongs to none."""
    sizes, photos, claims = Counter(), Counter(), defaultdict(set)
    for path in store.folder("rows").glob("*.parquet"):
        sizes[files.key(path)] += path.stat().st_size  # by whatever code
    for manifest in manifests().values():
        report = manifest["report"]
        photos[report] = max(photos[report], manifest["photos"])
        claims[report].update(manifest["keys"])
    if rest := set(sizes).difference(*claims.values()):
        claims["(none)"] = rest
    lines = [
        {
            "report": report,
            "photos": photos[report] or "",
            "chunks": f"{len(keys & set(sizes))} of {len(keys)}",
            "MB": f"{sum(sizes[key] for key in keys) / 1e6:.2f}",
        }
        for report, keys in sorted(claims.items())
    ]
    return pd.DataFrame(lines).to_string(index=False) if lines else "no rows yet"


def clean(report: str) -> int:
    """Remove the rows that only ``report`` claims; returns how many bytes that frees."""
    found = manifests()
    own = [path for path in found if found[path]["report"] == report]
    if not own:
        there = ", ".join(sorted({manifest["report"] for manifest in found.values()}))
        raise RowsError(f"REPORT={report}: has no rows; there are rows of: {there}")
    keys = {key for path in own for key in found.pop(path)["keys"]}
    keys = keys.difference(*(manifest["keys"] for manifest in found.values()))
    gone = own + [path for path in store.folder("rows").iterdir() if files.key(path) in keys]
    freed = sum(path.stat().st_size for path in gone)
    for path in gone:
        path.unlink()
    return freed
