"""Progress of long work: a bar by hand, a line in the report builder, silence in tests.

``$REPORT_PROGRESS`` names a file that receives ``label<TAB>done<TAB>total`` (the report builder
reads it), or is ``off``. Without it, work longer than two seconds shows a bar on standard error.
Work inside work is silent: the outer count is the one that tells how much is left.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_inside: ContextVar[bool] = ContextVar("inside", default=False)
_SECONDS_BETWEEN_WRITES = 0.2


@contextmanager
def progress(label: str, total: int) -> Iterator:
    """``with progress("removal", n) as advance: ...; advance(k)`` after every ``k`` units done."""
    target = os.environ.get("REPORT_PROGRESS", "")
    if target == "off" or _inside.get():
        yield lambda done: None
        return
    _inside.set(True)
    try:
        if target:
            yield _file_writer(target, label, total)
        else:
            from tqdm import tqdm

            with tqdm(total=total, desc=label, delay=2, leave=False) as bar:
                yield bar.update
    finally:
        _inside.set(False)


def _file_writer(path: str, label: str, total: int):
    done, last = 0, 0.0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done >= total or now - last >= _SECONDS_BETWEEN_WRITES:
            last = now
            with open(path, "w") as file:
                file.write(f"{label}\t{done}\t{total}")

    return advance
