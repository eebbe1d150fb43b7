"""The ledger as a picture: how far each part of each claim lies from its threshold, in its sd.

One row a claim, one mark a core part; right of the line is what the source says. Effects beyond
+-REACH stand at the edge as arrows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REACH = 2.5  # standardized effects that the axis shows


@dataclass(frozen=True)
class Mark:
    """One core part: its effect, its interval in the same unit, clipped to the axis."""

    of: str
    verdict: str
    effect: float
    at: float
    low: float
    high: float


def _clip(effect: float) -> float:
    return max(-REACH, min(REACH, effect))


def _mark(part: dict[str, Any]) -> Mark | None:
    effect, ends = part["effect"], part["interval"]
    if effect is None or not part["core"]:
        return None
    ahead = part["estimate"] - part["threshold"]
    if not ahead or None in ends or "±" in part["rule"]:  # two bounds have no one scale
        ends = (effect, effect)
    else:
        ends = sorted((end - part["threshold"]) / ahead * effect for end in ends)
    return Mark(part["of"], part["verdict"], effect, _clip(effect), *map(_clip, ends))


def forest(claims: list[dict[str, Any]]) -> list[tuple[str, str, list[Mark]]]:
    """(id, verdict, marks) of each claim that was judged by parts with a standardized effect."""
    rows = []
    for claim in claims:
        if marks := [mark for part in claim["parts"] if (mark := _mark(part))]:
            rows.append((claim["id"], claim["verdict"], marks))
    return rows
