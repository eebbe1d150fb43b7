"""Rows that other code gave: adopted when a seeded tenth of them comes out alike.

Hours of evidence must not die of a renamed variable, nor survive a changed number.
"""

import logging
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.core import store
from lib.rows import files

RELATIVE, ABSOLUTE = 1e-3, 1e-4
SAMPLED = 10  # of so many chunks one is computed again, and at least one
Older = dict[
    str, dict[Path, Path]
]  # code -> where a chunk's rows belong -> where that code left some
_log = logging.getLogger(__name__)


def older(missing: Iterable[Path]) -> Older:
    """For each path without a file the newest file of other code, by that code."""
    newest: dict[str, tuple[int, Path]] = {}
    for path in store.folder("rows").glob("*.parquet"):
        key = files.key(path)
        newest[key] = max(newest.get(key, (0, path)), (path.stat().st_mtime_ns, path))
    found: Older = {}
    for path in missing:
        if held := newest.get(files.key(path)):
            found.setdefault(files.code(held[1]), {})[path] = held[1]
    return found


def adopt(
    candidates: Older, compute: Callable[[set[Path]], dict[Path, pd.DataFrame]], seed: int
) -> None:
    """Store under the paths of this code what :func:`older` found, code by code, or say why not."""
    for code, held in candidates.items():
        paths = sorted(held)
        sample = random.Random(f"{seed}/{code}").sample(paths, math.ceil(len(paths) / SAMPLED))
        now = compute(set(sample))
        if not all(agree(files.read(held[path]), now[path]) for path in sample):
            _log.warning(
                "code %s gave other rows: its %d chunks are computed anew", code, len(held)
            )
            continue
        for path in set(paths) - set(sample):
            if (rows := files.read(held[path])) is not None:
                files.write(path, rows, adopted=code)
        _log.warning(
            "%d chunks of code %s came out alike: all its %d are adopted",
            len(sample),
            code,
            len(held),
        )


def agree(old: pd.DataFrame | None, new: pd.DataFrame) -> bool:
    """Whether rows are the same: floats to 1e-3 of their size + 1e-4, all else exactly."""
    if old is None or list(old) != list(new) or len(old) != len(new):
        return False
    columns = zip(old.items(), new.items(), strict=True)
    return all(_alike(mine, other) for (_, mine), (_, other) in columns)


def _alike(old: pd.Series, new: pd.Series) -> bool:
    if pd.api.types.is_float_dtype(old) and pd.api.types.is_float_dtype(new):
        return np.allclose(old, new, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    return old.equals(new)
