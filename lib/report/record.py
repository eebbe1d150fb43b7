"""The record of what a notebook found; `lib.report.lesson` is what a notebook opens.

Under the builder everything recorded goes, whole after every call, to the JSON file that
`$REPORT_RESULTS` names. By hand in JupyterLab it is only shown.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import Any

from lib.core import markup
from lib.core.ledger import Claim, claims_of
from lib.core.tolerance import holds, tolerance
from lib.report import say
from lib.report.verdicts import Judgment, Part, claim_verdict

# of its deciding part
OF_A_CLAIM = ("of", "estimate", "interval", "n", "unit", "rule", "threshold", "effect", "smallest")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole: readers see the old one or the new one, never half of it."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    aside = path.with_name(path.name + f".{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _finite(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name}: {number} is not a finite number")
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else number


def _interval(ends: Any, name: str, inside: float) -> list[float]:
    """Both ends, finite, around the value that has to lie between them."""
    low, high = (_finite(end, f"{name}: interval") for end in ends)
    if not holds((low, high), inside):
        raise ValueError(f"{name}: {inside} is not in its interval [{low}, {high}]")
    return [low, high]


def _judged(name: str, judgment: Judgment, claim: Claim, compared: dict[str, Any]) -> dict:
    """A claim as the results file holds it: its parts, and the numbers of the deciding one.

    What was declared in the ledger beforehand has to be what is recorded.
    """
    if len({part.of for part in judgment.parts}) < len(judgment.parts):
        raise ValueError(f"{name}: two parts have one name")
    core = sum(part.core for part in judgment.parts)
    if core != len(claim.core):
        raise ValueError(f"{name}: {core} core parts, where the ledger has {len(claim.core)}")
    whole = judgment.record()
    for part, record in zip(judgment.parts, whole["parts"], strict=True):
        rule = compared
        if part.holds is not None:
            rule = tolerance(name, "identity", part.threshold)
        elif part.varies:
            rule = tolerance(f"{name}: {part.of}", part.varies, part.within)
        record |= rule
    shown = judgment.deciding.record()
    about = {"id": name, "source": claim.document, "family": claim.family}
    about |= {"statement": claim.meaning, "sentences": claim.sentences}
    return about | {key: shown[key] for key in OF_A_CLAIM} | compared | whole


class Report:
    """Records the claims and numbers of one report.

    Args:
        slug: the notebook's name, as in the ledger.
        claims: whether the report has any to judge.

    Raises:
        ValueError: the ledger has no claims for this slug.
    """

    def __init__(self, slug: str, claims: bool = True):
        ledger = os.environ.get("REPORT_LEDGER")
        self._known = claims_of(slug, ledger)
        self.judged: dict[str, Judgment] = {}
        if claims and not self._known:
            raise ValueError(f"no claim in the ledger belongs to a report named {slug!r}")
        self._results: dict[str, Any] = {
            "report": slug,
            "claims": [],
            "metrics": {},
            "tolerances": {},
            "wall_clock": {},
            "provenance": {},
            "rows": {},  # how those of each call were come by, for `make verify`
        }
        self._write()

    def _write(self) -> None:
        if path := os.environ.get("REPORT_RESULTS"):
            write_json(Path(path), self._results)

    def claim(
        self,
        name: str,
        parts: Sequence[Part],
        *,
        varies: str = "frozen",
        within: float | None = None,
        n_within: int = 0,
        wall_clock: bool = False,
    ) -> None:
        """Judge a claim by its parts, and record it under the numbers of the one that decides.

        Args:
            name: its id in the ledger, which knows its rule: whether it is existential, how many
                core parts it has, and what others published.
            parts: by the makers of `lib.report.verdicts`, see `claim_verdict` there.
            varies: what another machine can change, see `lib.core.tolerance`. The verdict must
                agree in every case, unless a "trained" interval ends beside a part's threshold.
            within: for "count" how far estimates and the intervals' ends may differ, in their
                unit; for "identity" the tolerance of the identity.
            n_within: how far n may differ, for "count" and "trained".
            wall_clock: the estimate is a time or a ratio of times: shown, not compared by verify.

        Raises:
            ValueError: not a claim of this report, recorded twice, not the parts that the ledger
                declares, or a tolerance that does not go with `varies`.
            TypeError: `n_within` is no whole number.
        """
        if name not in self._known:
            slug, known = self._results["report"], ", ".join(self._known)
            raise ValueError(f"{name} is not a claim of {slug} (those are {known})")
        if name in self.judged:
            raise ValueError(f"{name} is already recorded")
        compared = tolerance(name, varies, within)
        if n_within and varies not in ("count", "trained"):
            raise ValueError(f"{name}: varies={varies!r} takes no n_within=")
        if index(n_within) < 0:
            raise ValueError(f"{name}: n_within = {n_within} is not a count")
        claim = self._known[name]
        judgment = claim_verdict(parts, claim.existential, claim.published)
        entry = _judged(name, judgment, claim, compared)
        entry |= {"n_within": n_within, "wall_clock": bool(wall_clock)}
        self.judged[name] = judgment
        self._results["claims"].append(entry)
        order = list(self._known)
        self._results["claims"].sort(key=lambda entry: order.index(entry["id"]))
        self._write()

    def metric(
        self,
        name: str,
        value: float,
        *,
        varies: str = "frozen",
        within: float | None = None,
        interval: tuple[float, float] | None = None,
        wall_clock: bool = False,
    ) -> None:
        """Record one number under a name.

        Args:
            varies: what another machine can change, see `lib.core.tolerance`.
            within: for "count" how far the value may differ, in its own unit; for "identity" the
                tolerance of the identity.
            interval: of the value, for "trained": (low, high).
            wall_clock: a time: shown, not compared by verify.

        Raises:
            ValueError: the number is not finite, the name is taken, or the tolerance does not go
                with `varies`.
        """
        if name in self._results["metrics"] or name in self._results["wall_clock"]:
            raise ValueError(f"the metric {name!r} is already recorded")
        number = _finite(value, name)
        compared = tolerance(name, varies, within)
        if (varies == "trained") != (interval is not None):
            raise ValueError(f"{name}: interval=(low, high) and varies='trained' go together")
        if interval is not None:
            compared["interval"] = _interval(interval, name, number)
        if wall_clock:
            self._results["wall_clock"][name] = number
        else:
            self._results["metrics"][name] = number
            self._results["tolerances"][name] = compared
        self._write()

    def provenance(self, **facts: Any) -> None:
        """Add where the numbers come from: `weights_sha256=...`, `seeds=[0]`, `device=...`."""
        for name, fact in facts.items():
            plain = fact is None or isinstance(fact, (str, int, float, list, tuple, dict))
            self._results["provenance"][name] = fact if plain else str(fact)
        self._write()

    def table(self, frame: Any, caption: str, *, digits: int = 3) -> None:
        """Show a pandas frame, escaped, floats to `digits` significant digits.

        `caption` is a template of `lib.report.say`.
        """
        markup.show("text/html", markup.table(frame, say.plain(caption), digits))

    def verdicts(self) -> None:
        """Show what was claimed, how it was tested and what was found, claim by claim."""
        if missing := [name for name in self._known if name not in self.judged]:
            raise ValueError(f"report.verdicts: not recorded yet: {', '.join(missing)}")
        markup.show("text/html", markup.parts().verdicts(self._results["claims"]))
