"""From numbers to verdicts: a claim is judged by its parts, each by a rule fixed beforehand.

A maker (`above`, `below`, `equal`, `difference`, `share`, `paired_share`, `identity`) turns
measured values into a `Part`; `claim_verdict` judges a claim by its core parts. Values are one
number per independent unit; times, ratios and counts come as logarithms. Every maker also takes

    of: what is compared, in a few words.
    unit: what n counts ("photos").
    gate: the part, or parts, that must be supported for this one to mean anything.
    core: ``False`` for a part that tests the explanation: it is shown and decides nothing.
    level: of the interval; 0.99 at each of several looks at a growing n, else 0.95.
    bounds: of the quantity where it has any, (-1, 1) for a correlation: a mean's interval is
        made for numbers without and is shown up to there. No verdict depends on it.
    varies, within: what another machine can change of this part, where that is not what the claim
        says of all its parts; see `lib.core.tolerance`.

and raises ``ValueError`` for no values, NaN and infinity: drop and count those before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from lib.core import markup
from lib.report import statistics
from lib.report.statistics import LEAST, LEVEL, NEVER

VERDICTS = ("supported", "contradicted", "mixed", "inconclusive")  # of a claim


@dataclass(frozen=True, kw_only=True)
class Part:
    """One measured comparison. What the data cannot give is ``None``."""

    of: str
    unit: str
    rule: str  # what supports it
    n: int
    why: str = ""  # the data cannot decide it, if so
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    threshold: float | None = None
    p: float | None = None  # one-sided, for the claim
    p_against: float | None = None
    holds: bool | None = None  # an identity: no chance in it, no p
    effect: float | None = None  # standardized distance from the threshold; > 0: as claimed
    smallest: float | None = None  # the distance from the threshold that this n shows (80 % power)
    needed: Callable[[float], int | None] = field(default=lambda alpha: None, repr=False)
    gate: "Part | Sequence[Part]" = ()
    core: bool = True
    level: float = LEVEL
    bounds: tuple[float, float] = (-np.inf, np.inf)
    varies: str = ""
    within: float | None = None

    @property
    def gates(self) -> tuple["Part", ...]:
        return (self.gate,) if isinstance(self.gate, Part) else tuple(self.gate)

    @property
    def alpha(self) -> float:
        """The one-sided level of each end of the interval."""
        return (1 - self.level) / 2

    @property
    def verdict(self) -> str:
        """supported, contradicted or inconclusive; invalid if a gate is not supported."""
        if any(gate.verdict != "supported" for gate in self.gates):
            return "invalid"
        if self.holds if self.p is None else self.p < self.alpha:
            return "supported"
        if self.holds is False or (self.p_against is not None and self.p_against < self.alpha):
            return "contradicted"
        return "inconclusive"

    @property
    def note(self) -> str:
        """Why the part decides nothing, in words; empty if it may."""
        failed = [
            f"{gate.of}: {gate.verdict}" for gate in self.gates if gate.verdict != "supported"
        ]
        return f"measure invalid ({'; '.join(failed)})" if failed else self.why

    @property
    def needed_n(self) -> int | None:
        """The n that would decide an inconclusive part at the effect seen; ``None``: never here."""
        least = self.needed(self.alpha) if self.verdict == "inconclusive" else None
        return None if least is None else max(least, self.n + 1)  # these n were not enough

    def record(self) -> dict[str, Any]:
        """The part for the results file."""
        names = """of unit rule verdict note core estimate n p p_against effect smallest needed_n
            level"""
        record = {name: getattr(self, name) for name in names.split()}
        record["interval"] = list(self.interval or (None, None))
        record["threshold"] = self.threshold or 0.0
        record["gate"] = [{"of": gate.of, "verdict": gate.verdict} for gate in self.gates]
        return record


def above(values: ArrayLike, margin: float = 0.0, **about: Any) -> Part:
    """The mean of ``values`` > ``margin``. To claim a > b, pair by pair, pass a - b."""
    rule = f"The interval of the mean lies above {_told(margin)}."
    return _mean(statistics.mean_of(_numbers(values)), margin, np.inf, rule, about)


def below(values: ArrayLike, margin: float = 0.0, **about: Any) -> Part:
    """The mean of ``values`` < ``margin``."""
    rule = f"The interval of the mean lies below {_told(margin)}."
    return _mean(statistics.mean_of(_numbers(values)), -np.inf, margin, rule, about)


def equal(values: ArrayLike, within: float, **about: Any) -> Part:
    """The mean of ``values`` is 0 within ``within``."""
    rule = f"The interval of the mean lies within ±{_told(within)}."
    return _mean(statistics.mean_of(_numbers(values)), -within, within, rule, about)


def difference(a: ArrayLike, b: ArrayLike, margin: float = 0.0, **about: Any) -> Part:
    """The mean of group ``a`` - the mean of group ``b`` > ``margin``: independent groups, Welch."""
    rule = f"Welch's interval of the difference of means lies above {_told(margin)}."
    sample = statistics.difference_of(_numbers(a), _numbers(b))
    return _mean(sample, margin, np.inf, rule, about)


def share(successes: int, n: int, above: float, **about: Any) -> Part:
    """The share of ``successes`` among ``n`` > ``above``, which lies between 0 and 1. Exact."""
    successes, n, above = index(successes), index(n), float(above)
    if not (0 <= successes <= n and n > 0 and 0 < above < 1):
        raise ValueError(f"{successes} of {n} against {above} is not a share")
    rule = f"The exact interval of the share lies above {_told(above)}."
    return _binomial(successes, n, above, rule, about, threshold=above)


def paired_share(a: ArrayLike, b: ArrayLike, **about: Any) -> Part:
    """``a`` holds more often than ``b`` on the same units: McNemar's exact test.

    Estimate and interval are differences of the two shares, given how many pairs differ.
    """
    a, b = _numbers(a).astype(bool), _numbers(b).astype(bool)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are not pairs")
    rule = "McNemar's exact interval of the difference of shares lies above 0."
    won, differ = int((a & ~b).sum()), int((a != b).sum())
    if not differ:
        return Part(rule=rule, n=len(a), why="too few: no pair differs", estimate=0.0, **about)
    return _binomial(won, differ, 0.5, rule, about, threshold=0.0, pairs=len(a))


def identity(errors: ArrayLike, tolerance: float, *, fails=False, **about: Any) -> Part:
    """Every ``|error|`` <= ``tolerance``; with ``fails`` every one is larger."""
    size = np.abs(_numbers(errors))
    low, high, tolerance = float(size.min()), float(size.max()), float(tolerance)
    return Part(
        rule=f"Every error is {'above' if fails else 'at most'} {_told(tolerance)}.",
        n=len(size),
        holds=low > tolerance if fails else high <= tolerance,
        estimate=low if fails else high,
        interval=(low, high),
        threshold=tolerance,
        **about,
    )


def unmeasured(why: str, **about: Any) -> Part:
    """A part that the data at hand cannot speak to ("no photo has a box"): inconclusive, n = 0."""
    return Part(rule="", n=0, why=why, **about)


def _told(number: float) -> str:
    small = 0 < abs(number) < 1e-3
    return markup.number(number) if small else f"{number:.3g}".replace("-", "−")


def _numbers(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("expected finite numbers, one per independent unit, and at least one")
    return values


def _mean(sample: statistics.Mean, low: float, high: float, rule: str, about: dict) -> Part:
    """The mean lies between ``low`` and ``high``, of which one may be infinite."""
    n, mean, spread = sample.n, float(sample.estimate), sample.se.all()
    about = {"rule": rule, "n": n, "estimate": mean, **about}
    about["threshold"] = float(high if np.isfinite(high) else low)
    if n < LEAST or not spread:
        about["why"] = f"too few: {n} of at least {LEAST}" if n < LEAST else "too few: no spread"
    else:
        about["p"], about["p_against"] = sample.p_between(low, high)
    if not spread:
        return Part(**about)
    inside, bounds = np.array([mean - low, high - mean]), int(np.isfinite([low, high]).sum())
    ends = np.clip(sample.interval(about.get("level", LEVEL)), *about.get("bounds", Part.bounds))
    per_unit = float(np.sqrt(np.square(sample.se).sum() * n))  # the sd, of one group
    ahead = (inside if inside.min() > 0 else -inside[[inside.argmin()]]) / per_unit
    return Part(
        interval=(float(ends[0]), float(ends[1])),
        effect=float(inside.min() / sample.sd),
        smallest=per_unit * statistics.smallest_effect(n, bounds) if n >= LEAST else None,
        needed=lambda alpha: statistics.needed_n(*ahead, alpha=alpha),
        **about,
    )


def _binomial(won: int, n: int, above: float, rule: str, about: dict, threshold, pairs=None):
    """A share of n; or, where n of ``pairs`` differ, the difference of shares that it means."""
    units, scale = (pairs, 2 * n / pairs) if pairs else (n, 1.0)
    seen, interval = won / n, binomtest(won, n).proportion_ci(about.get("level", LEVEL), "exact")
    visible = statistics.smallest_share(n, above)

    def needed(alpha: float) -> int | None:
        ahead = (seen, above) if seen > above else (1 - seen, 1 - above)
        least = statistics.needed_share(*ahead, alpha) or NEVER + 1
        return ceil(least * units / n) if least * units / n <= NEVER else None

    return Part(
        rule=rule,
        n=units,
        estimate=threshold + scale * (seen - above),
        interval=tuple(threshold + scale * (float(end) - above) for end in interval),
        threshold=threshold,
        p=float(binomtest(won, n, above, "greater").pvalue),
        p_against=float(binomtest(won, n, above, "less").pvalue),
        effect=(seen - above) / (above * (1 - above) * units / n) ** 0.5,
        smallest=None if visible is None else scale * (visible - above),
        needed=needed,
        **about,
    )


@dataclass(frozen=True)
class Judgment:
    """A claim's verdict and the parts that led to it."""

    verdict: str  # supported, contradicted, mixed, inconclusive
    reason: str  # which part is what
    p: float | None  # two-sided: below 1 - level if decided; None for identities
    needed_n: int | None  # the n that would decide it at the effects seen; None: never here
    parts: tuple[Part, ...]
    published: dict[str, Any]
    existential: bool = False

    @property
    def deciding(self) -> Part:
        """The part whose numbers stand for the claim: if all had to agree the closest to failing,
        if one was enough the surest; none that counts: an unmeasured one."""
        counted = [part for part in self.parts if part.core and part.verdict != "invalid"]
        if not counted:
            unit = self.parts[0].unit if self.parts else ""
            return unmeasured("no part counts", of="", unit=unit)
        verdict = "contradicted" if self.verdict == "mixed" else self.verdict
        against = verdict == "contradicted"
        pick = max if against == self.existential else min
        carrying = [part for part in counted if part.verdict == verdict] or counted
        return pick(carrying, key=lambda part: _p(part, against))

    def record(self) -> dict[str, Any]:
        """The claim for the results file."""
        return vars(self) | {"parts": [part.record() for part in self.parts]}


def claim_verdict(
    parts: Sequence[Part], existential: bool = False, published: dict[str, Any] | None = None
) -> Judgment:
    """Judge a claim by its m counted parts: the core ones whose gates are passed.

    Supported: all are. Contradicted: none is supported, and at least one is contradicted at
    alpha / m. Mixed: at least one is supported, and at least one contradicted at alpha / m. Else
    inconclusive. An *existential* claim ("there are cases") is supported by one part at alpha / m
    and contradicted if all are.

    Raises:
        ValueError: the parts' intervals have several levels.
    """
    if len({part.level for part in parts}) > 1:
        raise ValueError("the parts of a claim share one level")
    every, single = ("contradicted", "supported") if existential else ("supported", "contradicted")
    counted = [part for part in parts if part.core and part.verdict != "invalid"]
    m = len(counted)

    def p(part: Part, verdict: str) -> float:
        return _p(part, verdict == "contradicted")

    groups: dict[str, list[Part]] = {every: [], single: []}
    for part in (part for part in parts if part.core):
        sure = part.holds is not None or m * p(part, single) < part.alpha
        decided = part.verdict in (every, "invalid") or (part.verdict == single and sure)
        weak = f"{single} by itself, not surely enough" if part.verdict == single else "undecided"
        groups.setdefault(part.verdict if decided else weak, []).append(part)
    verdict = "inconclusive"
    if m and len(groups[every]) == m:
        verdict = every
    elif groups[single]:
        verdict = "mixed" if groups[every] and not existential else single
    told = {name: "; ".join(part.of for part in group) for name, group in groups.items() if group}
    alone = m and list(told) == [verdict]
    reason = told[verdict] if alone else ". ".join(f"{k}: {names}" for k, names in told.items())
    tested = [part for part in counted if part.holds is None]
    ends = [(p(part, every), m * p(part, single)) for part in tested]
    return Judgment(
        verdict,
        reason if m else f"no part counts. {reason}".strip(". "),
        min(1.0, 2 * max(e for e, _ in ends), 2 * min(s for _, s in ends)) if tested else None,
        _needed_n(tested, m, existential) if verdict == "inconclusive" else None,
        tuple(parts),
        published or {},
        existential,
    )


def _p(part: Part, against: bool) -> float:
    """The one-sided p for the claim or against it; an identity that is decided is certain."""
    known = part.p_against if against else part.p
    if known is None:
        return 1.0 if part.holds in (None, against) else 0.0
    return known


def _needed_n(tested: Sequence[Part], m: int, existential: bool) -> int | None:
    """One part that leans against the claim (existential: for it) is enough, else all must do."""
    leaning = [part for part in tested if part.effect and (part.effect > 0) == existential]
    if leaning:
        return min(filter(None, (part.needed(part.alpha / m) for part in leaning)), default=None)
    pending = [part.needed_n for part in tested if part.verdict == "inconclusive"]
    return None if None in pending else max(pending, default=None)
