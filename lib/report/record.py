"""The record of what a notebook found; `lib.report.lesson` is what a notebook opens.

Under the builder everything recorded goes, whole after every call, to the JSON file that
`$REPORT_RESULTS` names. By hand in JupyterLab it is only shown.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from lib.core import markup
from lib.core.ledger import Claim, claims_of
from lib.core.tolerance import holds, tolerance

VERDICTS = ("supported", "contradicted", "inconclusive")  # of a finding


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


def _count(value: Any, name: str) -> int:
    if int(value) != value or value < 0:
        raise ValueError(f"{name} = {value} is not a count")
    return int(value)


def _interval(ends: Any, name: str, inside: float | None) -> list[float]:
    """Both ends, finite and in order, around the value that has to lie between them."""
    low, high = (_finite(end, f"{name}: interval") for end in ends)
    if inside is not None and not holds((low, high), inside):
        raise ValueError(f"{name}: {inside} is not in its interval [{low}, {high}]")
    if low > high:
        raise ValueError(f"{name}: the interval [{low}, {high}] is reversed")
    return [low, high]


def _numbers(name: str, found: Any, varies: str) -> dict[str, Any]:
    """The numbers of a finding, or of a part of a claim, as the results file holds them."""
    n = _count(found.n, f"{name}: n")
    estimate, interval = None, [None, None]
    if n:
        estimate = _finite(found.estimate, f"{name}: estimate")
        if found.interval is not None:
            interval = _interval(found.interval, name, estimate if varies == "trained" else None)
    elif found.verdict not in ("inconclusive", "invalid"):  # the data at hand cannot speak to it
        raise ValueError(f"{name}: {found.verdict} from n = 0")
    threshold = 0.0 if found.threshold is None else found.threshold
    return {
        "verdict": str(found.verdict),
        "estimate": estimate,
        "interval": interval,
        "n": n,
        "unit": str(found.unit),
        "rule": str(found.rule),
        "threshold": _finite(threshold, f"{name}: threshold"),
    }


def _judged(name: str, judgment: Any, claim: Claim, compared: dict[str, Any]) -> dict[str, Any]:
    """What a claim that was judged by its parts adds to the numbers of the part that decides it.

    What was declared in the ledger beforehand has to be what is recorded.
    """
    if len({part.of for part in judgment.parts}) < len(judgment.parts):
        raise ValueError(f"{name}: two parts have one name")
    core = sum(part.core for part in judgment.parts)
    if (core, judgment.existential) != (len(claim.core), claim.existential):
        kind = "existential" if claim.existential else "not existential"
        raise ValueError(
            f"{name}: {core} core parts, where the ledger has {len(claim.core)}, {kind}"
        )
    parts = []
    for part in judgment.parts:
        rule = compared
        if part.holds is not None:
            rule = tolerance(name, "identity", part.threshold)
        elif part.varies:
            rule = tolerance(f"{name}: {part.of}", part.varies, part.within)
        numbers = _numbers(f"{name}: {part.of}", part, rule["varies"])
        parts.append(part.record() | numbers | rule)
    deciding = judgment.deciding
    whole = judgment.record() | {"parts": parts, "of": deciding.of}
    whole |= {"effect": deciding.effect, "smallest": deciding.smallest}
    published = whole["published"] or claim.published
    return whole | {"sentences": claim.sentences, "published": published}


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
        if claims and not self._known:
            raise ValueError(f"no claim in the ledger belongs to a report named {slug!r}")
        self._results: dict[str, Any] = {
            "report": slug,
            "claims": [],
            "metrics": {},
            "tolerances": {},
            "wall_clock": {},
            "provenance": {},
        }
        self._write()

    def _write(self) -> None:
        if path := os.environ.get("REPORT_RESULTS"):
            write_json(Path(path), self._results)

    def claim(
        self,
        name: str,
        finding: Any,
        *,
        varies: str = "frozen",
        within: float | None = None,
        n_within: int = 0,
        wall_clock: bool = False,
    ) -> None:
        """Record the finding on one claim of this report.

        Args:
            name: its id in the ledger.
            finding: a `verdicts.Judgment`, recorded with its parts under the numbers of the one
                that decides it; or a `claims.Finding`. n = 0 means that the data cannot speak to
                the claim: its numbers become null.
            varies: what another machine can change, see `lib.core.tolerance`. The verdict must
                agree in every case, unless a "trained" interval ends beside finding.threshold.
            within: for "count" how far the estimate and the interval's ends may differ, in the
                finding's unit; for "identity" the tolerance of the identity.
            n_within: how far n may differ, for "count" and "trained".
            wall_clock: the estimate is a time or a ratio of times: shown, not compared by verify.

        Raises:
            ValueError: not a claim of this report, recorded twice, a number that is not finite, or
                a tolerance that does not go with `varies`.
        """
        if name not in self._known:
            slug, known = self._results["report"], ", ".join(self._known)
            raise ValueError(f"{name} is not a claim of {slug} (those are {known})")
        if any(claim["id"] == name for claim in self._results["claims"]):
            raise ValueError(f"{name} is already recorded")
        judged = hasattr(finding, "parts")
        if not judged and finding.verdict not in VERDICTS:
            raise ValueError(f"{name}: {finding.verdict!r} is not one of {', '.join(VERDICTS)}")
        numbers = _numbers(name, finding.deciding if judged else finding, varies)
        compared = tolerance(name, varies, within)
        if varies not in ("count", "trained") and n_within:
            raise ValueError(f"{name}: varies={varies!r} takes no n_within=")
        claim = self._known[name]
        judgment = _judged(name, finding, claim, compared) if judged else {}
        self._results["claims"].append(
            {
                "id": name,
                "source": claim.document,
                "statement": claim.meaning,
                "measure": "; ".join(claim.core),
                **numbers,
                **compared,
                "n_within": _count(n_within, f"{name}: n_within"),
                "wall_clock": bool(wall_clock),
                **judgment,
            }
        )
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
        """Show a pandas frame: escaped, captioned, floats to `digits` significant digits."""
        markup.show("text/html", markup.table(frame, caption, digits))

    def verdicts(self) -> None:
        """Show what was claimed, how it was tested and what was found, claim by claim."""
        claims = self._results["claims"]
        recorded = {claim["id"] for claim in claims}
        if missing := [name for name in self._known if name not in recorded]:
            raise ValueError(f"report.verdicts: not recorded yet: {', '.join(missing)}")
        markup.show("text/html", markup.parts().verdicts(claims))
