"""How far a number may lie from the one of another run: said in what can vary, not in digits.

    exact     counts, sizes, closed forms: equal, to the 1e-9 that a sum's order may cost
    frozen    numbers of a network that is not trained here: |new - old| <= 1e-3 |old| + 1e-4
    count     a count or a share that thresholds decide: |new - old| <= within, in its own unit
    identity  the error of an identity: at most `within` in both runs, or above it in both
    trained   amplified by training or by hundreds of optimizer steps: the new estimate lies in the
              old interval or the old one in the new interval

Another CPU sums in another order, and training amplifies that: its numbers agree as draws do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

VARIES = ("exact", "frozen", "count", "identity", "trained")
# Float32 rounds at 6e-8; fifty layers of sums in another order make about 1e-5 of a score. A map's
# quotients and ranks multiply it by ten; ten more are margin. The absolute part is the same for
# areas, shares and correlations near 0, which lie in [0, 1] or [-1, 1].
FROZEN_RELATIVE, FROZEN_ABSOLUTE = 1e-3, 1e-4
# Deviations of three draws differ by more than 10 in 1 of 50 pairs even when all is drawn anew.
WIDER = 10
EDGE = 0.1  # of an interval's width


def tolerance(name: str, varies: str, within: float | None = None) -> dict[str, Any]:
    """What the results file records of a number beside its value.

    Raises:
        ValueError: an unknown `varies`; `within` missing, negative, or given in vain.
    """
    if varies not in VARIES:
        raise ValueError(f"{name}: varies={varies!r} is not one of {', '.join(VARIES)}")
    if varies not in ("count", "identity"):
        if within is not None:
            raise ValueError(f"{name}: varies={varies!r} takes no within=")
        return {"varies": varies}
    if within is None or not 0 <= within < math.inf:
        raise ValueError(f"{name}: varies={varies!r} needs within=, a number from 0 on")
    return {"varies": varies, "within": float(within)}


def near(old: float, new: float, rule: dict[str, Any]) -> bool:
    """Do two values agree, for every `varies` but "trained"?"""
    match rule["varies"]:
        case "exact":
            return math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-12)
        case "frozen":
            return abs(new - old) <= FROZEN_RELATIVE * abs(old) + FROZEN_ABSOLUTE
        case "count":
            return abs(new - old) <= rule["within"] * (1 + 1e-9)  # 0.3 - 0.1 is above 0.2
        case "identity":
            return (abs(old) <= rule["within"]) == (abs(new) <= rule["within"])
    raise ValueError(f"{rule['varies']!r} numbers are not compared by their distance")


def holds(interval: Sequence[float], value: float) -> bool:
    """Does a value lie in its own interval? A mean of equal values may round beside it."""
    slack = 1e-9 * abs(value)
    return interval[0] - slack <= value <= interval[1] + slack


def overlap(
    old: float, old_interval: Sequence[float], new: float, new_interval: Sequence[float]
) -> bool:
    """Do two estimates agree through their intervals?

    An interval more than ten times as wide as the other says that something else was measured, and
    one that does not hold its own estimate says nothing.
    """
    narrow, wide = sorted(high - low for low, high in (old_interval, new_interval))
    no_spread = narrow <= 1e-9 * max(abs(old), abs(new))  # all draws alike, but for rounding
    if not holds(old_interval, old) or (wide > WIDER * narrow and not no_spread):
        return False
    inside = holds(old_interval, new) or holds(new_interval, old)
    return inside or near(old, new, {"varies": "frozen"})


def on_the_edge(interval: Sequence[float], threshold: float) -> bool:
    """Does an end of the interval lie within a tenth of its width of the rule's threshold?"""
    reach = EDGE * (interval[1] - interval[0])
    return any(abs(end - threshold) <= reach for end in interval)
