"""The ledger of claims, `claims.csv`: one row per claim that a source document makes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

LEDGER = Path(__file__).with_name("claims.csv")


@dataclass(frozen=True)
class Claim:
    id: str  # stable: results, index and tests refer to it
    report: str  # slug of the report that must test it
    source: str  # the document that makes it
    statement: str  # what the document says, not what the result has to be
    measure: str  # how the report tests it


def load_ledger(path: Path | str | None = None) -> list[Claim]:
    """Return the claims in the ledger's order.

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
    return claims


def claims_of(slug: str, path: Path | str | None = None) -> dict[str, Claim]:
    """Return the claims that one report must test, by id."""
    return {claim.id: claim for claim in load_ledger(path) if claim.report == slug}
