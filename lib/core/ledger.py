"""The ledger: every claim that a source document makes, and the parts by which it is judged.

`ledger.yaml` is the second edition. `claims.csv` beside it is the first: a report stands there
until its notebook is rewritten, and its rows are deleted with the old rules.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

LEDGER = Path(__file__).with_name("claims.csv")
CLAIMS = Path(__file__).with_name("ledger.yaml")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One claim of the ledger. What each field holds is said at the head of `ledger.yaml`."""

    id: str  # stable: results, index and tests refer to it
    report: str
    document: str
    sentences: list[str]
    meaning: str
    core: list[str]
    why: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    gate: str = ""
    unit: str
    least: int = 10
    existential: bool = False
    published: dict[str, Any] = field(default_factory=dict)


def load_claims(path: Path | str = CLAIMS) -> dict[str, Entry]:
    """Return the claims by id, in the ledger's order.

    Raises:
        ValueError: not YAML, an id given twice, a field unknown or missing; one line.
    """
    path, name = Path(path), "not a ledger"
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        claims = {}
        for name, fields in content["claims"].items():
            document = content["documents"][name.split("-")[0]]
            claims[name] = Entry(id=name, document=document, **fields)
    except YAMLError as error:
        raise ValueError(f"{path.name}: {' '.join(str(error).split())}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: {name}: {error}") from None
    return claims


@dataclass(frozen=True)
class Claim:
    """What a report has to record and a page to show, from either edition."""

    id: str  # stable: results, index and tests refer to it
    report: str  # slug of the report that must test it
    source: str  # the document that makes it
    statement: str  # what the document says, not what the result has to be
    measure: str  # how the report tests it
    entry: Entry | None = None  # of the second edition


def q_values(p: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Yekutieli q of each p, whatever their dependence; ``None`` (identity) stays so."""
    known = sorted((value, k) for k, value in enumerate(p) if value is not None)
    scale = len(known) * sum(1 / rank for rank in range(1, len(known) + 1))
    q: list[float | None] = [None] * len(p)
    least = 1.0
    for rank in range(len(known), 0, -1):
        value, k = known[rank - 1]
        q[k] = least = min(least, value * scale / rank)
    return q


def load_ledger(path: Path | str | None = None) -> list[Claim]:
    """Return the claims by report: of `claims.csv`, and of `ledger.yaml` for those not in it.

    Raises:
        ValueError: two claims share an id.
    """
    path = Path(path) if path else LEDGER
    with path.open(newline="", encoding="utf-8") as file:
        claims = [
            Claim(row["id"], row["report"], row["source"], row["claim"], row["measure"])
            for row in csv.DictReader(file)
        ]
    if len({claim.id for claim in claims}) != len(claims):
        raise ValueError(f"{path.name}: two claims share an id")
    second, first = path.with_name(CLAIMS.name), {claim.report for claim in claims}
    for entry in load_claims(second).values() if second.exists() else ():
        if entry.report not in first:
            measure = "; ".join(entry.core)
            claims.append(
                Claim(entry.id, entry.report, entry.document, entry.meaning, measure, entry)
            )
    return sorted(claims, key=lambda claim: claim.report)


def claims_of(slug: str, path: Path | str | None = None) -> dict[str, Claim]:
    """Return the claims that one report must test, by id."""
    return {claim.id: claim for claim in load_ledger(path) if claim.report == slug}
