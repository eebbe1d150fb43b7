"""One chunk's rows in one Parquet file, whole or not at all.

The file's metadata holds its own name and a checksum of its rows: a damaged, truncated or foreign
file is never believed. Rows that other code gave are adopted when a seeded tenth of them comes out
alike: hours of evidence must not die of a renamed variable, nor survive a changed number. So are,
for `make verify`, those of an earlier run.
"""

import contextlib
import logging
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pyarrow
from pandas.util import hash_pandas_object

from lib.core import store

RELATIVE, ABSOLUTE = 1e-3, 1e-4
SAMPLED = 10  # of so many chunks one is computed again, and at least one
Older = dict[str, dict[Path, Path]]  # by code: where a chunk's rows belong, where that code left it
_log = logging.getLogger(__name__)


def path(key: str, code: str) -> Path:
    """Where rows belong that depend on what ``key`` is the hash of, and on code of that hash."""
    return store.folder("rows") / f"{key[:32]}.{code}.parquet"


def key(path: Path) -> str:
    """The hash of all that the rows at ``path`` depend on but the code."""
    return path.name.partition(".")[0]


def write(path: Path, rows: pd.DataFrame, **about: object) -> None:
    """Store ``rows`` and what there is to say ``about`` them. ``OSError`` if that fails."""
    rows = pyarrow.Table.from_pandas(rows, preserve_index=False).to_pandas()  # as they are read
    rows.attrs.clear()
    rows.attrs.update(about, file=path.name, sha256=checksum(rows))
    with store.aside(path) as partial:
        rows.to_parquet(partial)


def read(path: Path) -> pd.DataFrame | None:
    """The rows, or None where there are none; a file that cannot be believed is removed and said.

    What :func:`write` was told about them is in ``.attrs``.
    """
    if not path.exists():
        return None
    with contextlib.suppress(Exception):  # pyarrow raises nearly anything for a damaged file
        rows = pd.read_parquet(path)
        if rows.attrs["file"] == path.name and rows.attrs["sha256"] == checksum(rows):
            return rows
    return store.refuse(path, "is damaged")


def checksum(rows: pd.DataFrame) -> str:
    """SHA-256 of the values in order, the columns' names and their types."""
    values = hash_pandas_object(rows, index=False).to_numpy().tobytes()  # pyright: ignore[reportCallIssue]
    return store.digest([(name, str(kind)) for name, kind in rows.dtypes.items()], values)


def older(missing: Iterable[Path], folder: Path | None = None) -> Older:
    """The files in ``folder`` (the store's) for paths that have none, by code, their own first."""
    wanted, found = {key(path): path for path in missing}, {}
    own = {path.name for path in wanted.values()}
    there = (folder or store.folder("rows")).glob("*.parquet")
    for held in sorted(there, key=lambda held: held.name not in own):
        if path := wanted.get(key(held)):
            found.setdefault(held.name.split(".")[1], {})[path] = held
    return found


def adopt(
    candidates: Older, compute: Callable[[list[Path]], dict[Path, pd.DataFrame]], seed: int
) -> set[Path]:
    """Store under the paths of this code what :func:`older` found, code by code, or say why not.

    Returns the paths whose rows came out alike, or belong to those of which a tenth did.
    """
    alike = set()
    for code, held in candidates.items():
        paths = sorted(path for path in held if not path.exists())  # adopted from none before it
        if not paths:
            continue
        sample = random.Random(f"{seed}/{code}").sample(paths, math.ceil(len(paths) / SAMPLED))
        now = compute(sample)
        if all(agree(read(held[path]), now[path]) for path in sample):
            alike.update(sample)
            for path in set(paths).difference(sample):
                if (rows := read(held[path])) is not None:
                    write(path, rows, adopted=code)
                    alike.add(path)
            result = "came out alike: all are adopted"
        else:
            result = "gave other rows: none is adopted"
        _log.warning("%d of %d chunks of code %s %s", len(sample), len(paths), code, result)
    return alike


def agree(old: pd.DataFrame | None, new: pd.DataFrame) -> bool:
    """Whether there are old rows, and the same: floats to 1e-3 + 1e-4, all else exactly.

    Columns named ``seconds...`` hold times, which no two runs share: they are not compared.
    """
    if old is None:
        return False
    try:
        pd.testing.assert_frame_equal(*map(_timeless, (old, new)), rtol=RELATIVE, atol=ABSOLUTE)
    except AssertionError:
        return False
    return True


def _timeless(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[[name for name in rows.columns if not name.startswith("seconds")]]
