"""The ledger: every claim that a source makes, and the parts by which it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

LEDGER = Path(__file__).with_name("ledger.yaml")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the ledger. What each field holds is said at the head of `ledger.yaml`."""

    id: str  # stable: results, index and tests refer to it
    report: str
    document: str
    family: str  # "documents" or "field"
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


def load_ledger(path: Path | str | None = None) -> dict[str, Claim]:
    """Return the claims by id, in the ledger's order.

    Raises:
        ValueError: not YAML, an id given twice, a field unknown or missing; one line.
    """
    path, name = Path(path or LEDGER), "not a ledger"
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        claims = {}
        for name, fields in content["claims"].items():
            code = name.split("-")[0]
            document = content["documents"][code]
            family = "field" if code in content.get("field", []) else "documents"
            claims[name] = Claim(id=name, document=document, family=family, **fields)
    except YAMLError as error:
        raise ValueError(f"{path.name}: {' '.join(str(error).split())}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: {name}: {error}") from None
    return claims


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


def claims_of(slug: str, path: Path | str | None = None) -> dict[str, Claim]:
    """Return the claims that one report must test, by id."""
    return {name: claim for name, claim in load_ledger(path).items() if claim.report == slug}
