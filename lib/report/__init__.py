"""What a notebook writes with: its lesson, figures, prose with numbers, claims and their verdicts.

A notebook imports `open_lesson`, `figures` and the makers of parts. Imports any room but the
builder; PyTorch only with a lesson, so that a record by itself opens at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.report.lesson import Lesson


def open_lesson(slug: str, parameters: Mapping[str, Any], *, claims: bool = True) -> Lesson:
    """Open a report; load its network (if there is a ``classifier``) and its photos (``images``).

    Args:
        slug: the notebook's name, as in the ledger.
        parameters: the notebook's, by name: pass ``globals()``. Those that are used here are
            ``seed``, ``device``, those of ``load_classifier`` (``classifier``, ``weights``) and of
            ``load_images`` (``images``, ``labels``, ``boxes``, ``points``, ``limit``,
            ``unreadable``). What was loaded goes into the provenance.
        claims: whether it judges any.
    """
    from lib.report.lesson import opened

    return opened(slug, parameters, claims)
