"""The few lines with which a notebook records what it found.

    from lib.report import Report

    report = Report("07-pixel-removal")
    report.claim("PR-1", finding)
    report.metric("auc.morf.gradient", 0.123)
    report.say("IG reaches {auc:.3f}.", auc=auc)
    report.table(frame, "Area under the curve by method.")
    report.verdicts()

Under the builder everything recorded goes, whole after every call, to the JSON file that
`$REPORT_RESULTS` names. By hand in JupyterLab it is only shown.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import string
from pathlib import Path
from typing import Any

from lib.core import markup
from lib.core.ledger import claims_of

VERDICTS = ("supported", "contradicted", "inconclusive")


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


def _tolerances(rtol: float, atol: float, name: str) -> dict[str, float]:
    if _finite(rtol, f"{name}: rtol") < 0 or _finite(atol, f"{name}: atol") < 0:
        raise ValueError(f"{name}: a tolerance is negative")
    return {"rtol": float(rtol), "atol": float(atol)}


class _Prose(string.Formatter):
    """str.format whose text values cannot become Markdown, HTML or mathematics."""

    def format_field(self, value: Any, spec: str) -> str:
        if isinstance(value, float) or hasattr(value, "dtype"):
            _finite(value, "report.say")
        text = format(value, spec)
        numeric = isinstance(value, (int, float)) or hasattr(value, "dtype")
        return text if numeric else markup.escape_markdown(text)

    def check_unused_args(self, used: set, args: Any, kwargs: dict[str, Any]) -> None:
        if unused := set(kwargs) - used:
            raise ValueError(f"report.say: not in the text: {', '.join(sorted(unused))}")


class Report:
    """Records the claims and numbers of one report.

    Args:
        slug: the notebook's name, as in the ledger.

    Raises:
        ValueError: the ledger has no claims for this slug.
    """

    def __init__(self, slug: str):
        ledger = os.environ.get("REPORT_LEDGER")
        self._known = claims_of(slug, ledger)
        if not self._known:
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
        id: str,
        finding: Any,
        *,
        wall_clock: bool = False,
        rtol: float = 0.02,
        atol: float = 1e-3,
    ) -> None:
        """Record the finding on one claim of this report.

        Args:
            finding: has verdict, estimate, interval, n, unit and rule (`claims.Finding`);
                n = 0 means that the data cannot speak to the claim: its numbers become null.
            wall_clock: the estimate is a time or a ratio of times: shown, not compared by verify.
            rtol, atol: how far a re-run may differ, |new - old| <= atol + rtol * |old|.

        Raises:
            ValueError: not a claim of this report, recorded twice, or a number that is not finite.
        """
        if id not in self._known:
            known = ", ".join(self._known)
            raise ValueError(
                f"{id} is not a claim of {self._results['report']} (those are {known})"
            )
        if any(claim["id"] == id for claim in self._results["claims"]):
            raise ValueError(f"{id} is already recorded")
        if finding.verdict not in VERDICTS:
            raise ValueError(f"{id}: {finding.verdict!r} is not one of {', '.join(VERDICTS)}")
        if int(finding.n) != finding.n or finding.n < 0:
            raise ValueError(f"{id}: n = {finding.n} is not a count")
        if finding.n == 0:  # the data at hand cannot speak to this claim
            if finding.verdict != "inconclusive":
                raise ValueError(f"{id}: {finding.verdict} from n = 0")
            estimate, low, high = None, None, None
        else:
            estimate = _finite(finding.estimate, f"{id}: estimate")
            low, high = (_finite(end, f"{id}: interval") for end in finding.interval)
            if low > high:
                raise ValueError(f"{id}: the interval [{low}, {high}] is reversed")
        claim = self._known[id]
        self._results["claims"].append(
            {
                "id": id,
                "source": claim.source,
                "statement": claim.statement,
                "measure": claim.measure,
                "verdict": str(finding.verdict),
                "estimate": estimate,
                "interval": [low, high],
                "n": int(finding.n),
                "unit": str(finding.unit),
                "rule": str(finding.rule),
                **_tolerances(rtol, atol, id),
                "wall_clock": bool(wall_clock),
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
        rtol: float = 0.02,
        atol: float = 1e-3,
        wall_clock: bool = False,
    ) -> None:
        """Record one number under a name.

        Raises:
            ValueError: the number is not finite, or the name is taken.
        """
        if name in self._results["metrics"] or name in self._results["wall_clock"]:
            raise ValueError(f"the metric {name!r} is already recorded")
        number = _finite(value, name)
        if wall_clock:
            self._results["wall_clock"][name] = number
        else:
            self._results["metrics"][name] = number
            self._results["tolerances"][name] = _tolerances(rtol, atol, name)
        self._write()

    def provenance(self, **facts: Any) -> None:
        """Add where the numbers come from: `weights_sha256=...`, `seeds=[0]`, `device=...`."""
        for name, fact in facts.items():
            if dataclasses.is_dataclass(fact) or not isinstance(
                fact, (str, int, float, bool, list, tuple, dict, type(None))
            ):
                fact = str(fact)
            self._results["provenance"][name] = fact
        self._write()

    def say(self, text: str, **values: Any) -> None:
        """Show a paragraph of Markdown; every number and name in it comes from `values`.

        `text` is a str.format template: `{auc:.3f}`; TeX braces are doubled. Values that are text
        are escaped, so that a file name cannot become markup: put none in a code span or formula.

        Raises:
            KeyError: a value is missing.
            ValueError: a value is unused, or a number is not finite.
        """
        markup.show("text/markdown", _Prose().vformat(text, (), values))

    def table(self, frame: Any, caption: str, *, digits: int = 3) -> None:
        """Show a pandas frame: escaped, captioned, floats to `digits` significant digits."""
        markup.show("text/html", markup.table(frame, caption, digits))

    def verdicts(self) -> None:
        """Show what was claimed, how it was tested and what was found, claim by claim."""
        markup.show("text/html", markup.verdicts(self._results["claims"], list(self._known)))
