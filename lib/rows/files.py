"""One chunk's rows in one Parquet file, whole or not at all.

The file's metadata holds its own name and a checksum of its rows: a damaged, truncated or foreign
file is never believed.
"""

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path

import pandas as pd
import pyarrow
from pandas.util import hash_pandas_object
from pyarrow import parquet

from lib.core import store

_log = logging.getLogger(__name__)


def path(parts: list[str], code: str) -> Path:
    """Where rows belong that depend on ``parts`` and on code of that hash."""
    return (
        store.folder("rows")
        / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.{code}.parquet"
    )


def key(path: Path) -> str:
    """The hash of all that the rows at ``path`` depend on but the code."""
    return path.name.partition(".")[0]


def code(path: Path) -> str:
    """The hash of the code that computed them."""
    return path.name.split(".")[1]


def write(path: Path, rows: pd.DataFrame, **about: object) -> None:
    """Store ``rows`` and what there is to say ``about`` them. ``OSError`` if that fails."""
    table = pyarrow.Table.from_pandas(rows, preserve_index=False)
    about |= {"name": path.name, "rows": checksum(table.to_pandas())}
    metadata = {**(table.schema.metadata or {}), b"about": json.dumps(about).encode()}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        parquet.write_table(table.replace_schema_metadata(metadata), partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> pd.DataFrame | None:
    """The rows, or None where there are none; a file that cannot be believed is removed and said.

    What :func:`write` was told about them is in ``.attrs``.
    """
    try:
        table = parquet.ParquetFile(path).read()
        about = json.loads(table.schema.metadata[b"about"])
        rows = table.to_pandas()
        if about.pop("name") == path.name and about.pop("rows") == checksum(rows):
            rows.attrs = about
            return rows
    except FileNotFoundError:
        return None
    except Exception:  # pyarrow raises nearly anything for a damaged file
        pass
    _log.warning("%s is damaged or not what its name says: its rows are computed anew", path)
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def checksum(rows: pd.DataFrame) -> str:
    """SHA-256 of the values in order, the columns' names and their types."""
    values = hash_pandas_object(rows, index=False).to_numpy().tobytes()  # pyright: ignore[reportCallIssue]
    columns = repr([(name, str(kind)) for name, kind in rows.dtypes.items()])
    return hashlib.sha256(columns.encode() + values).hexdigest()
