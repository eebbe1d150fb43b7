"""What a notebook writes with: its lesson, figures, prose with numbers, claims and their verdicts.

A notebook imports `open_lesson`, `figures` and the makers of parts. Imports any room but the
builder; PyTorch only with a lesson, so that a record by itself opens at once.
"""

from typing import Any

__all__ = ["open_lesson"]


def __getattr__(name: str) -> Any:
    if name != "open_lesson":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lib.report.lesson import open_lesson

    return open_lesson
