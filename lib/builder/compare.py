"""Two results files, number by number: what agrees, what changed, what only the clock decides.

What a number may differ by is what the new results say, for the notebook says it today
(`lib.core.tolerance`); what the old ones say is itself compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

from lib.core import markup
from lib.core.tolerance import near, on_the_edge, overlap

# of a part, or of a claim by its parts: follows from numbers that are compared
_FOLLOWS = {"effect", "needed_n", "note", "of", "p", "p_against", "reason", "smallest"}
_COPIED = ("estimate", "interval", "n", "unit", "rule", "threshold")  # from the part `of` names
Line = tuple[str, str, str]  # status (PASS, CHANGED, EDGE or WALL-CLOCK), what, remark
_LISTS = {"parameters", "claims", "metrics", "tolerances", "wall_clock"}
_MADE = {"provenance", "build", "sha256"}  # of the making, not of the result


def _number(name: str, old: Any, new: float, agree: bool) -> Line:
    if type(old) not in (int, float) or not math.isfinite(old):
        return "CHANGED", name, f"{old!r} is not a number, now {new:.6g}"
    return "PASS" if agree else "CHANGED", name, f"{old:.6g} -> {new:.6g}"


def _same(prefix: str, old: dict[str, Any], new: dict[str, Any], but: set[str]) -> Iterator[Line]:
    """A line for each entry that differs: of names and texts there is nothing to count."""
    for name in old | new:
        if name not in but and (name not in old or name not in new or old[name] != new[name]):
            yield "CHANGED", f"{prefix}{name}", f"{old.get(name)!r} -> {new.get(name)!r}"


def _each(old: dict[str, Any], new: dict[str, Any], lines: Callable) -> Iterator[Line]:
    """The lines of what both have by name; one line for what only one has."""
    for name in old | new:
        if name in old and name in new:
            yield from lines(name, old[name], new[name])
        else:
            yield "CHANGED", name, "is gone" if name in old else "is new"


def _verdict(name: str, old: dict[str, Any], new: dict[str, Any], edge: str) -> Line:
    """`edge`: why the verdict of a trained number may turn, empty if it may not."""
    verdicts = old["verdict"], new["verdict"]
    if new["wall_clock"]:
        both = [f"{claim['verdict']}, {markup.number(claim['estimate'])}" for claim in (old, new)]
        return "WALL-CLOCK", name, " -> ".join(both)
    if verdicts[0] == verdicts[1]:
        return "PASS", f"{name}.verdict", verdicts[0]
    remark = " -> ".join(verdicts)
    sides = {"supported", "contradicted"}  # from one to the other is no edge
    if edge and new["varies"] == "trained" and set(verdicts) != sides:
        return "EDGE", f"{name}.verdict", f"{remark}: {edge}"
    return "CHANGED", f"{name}.verdict", remark


def _claim(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    """A claim by its parts, each in the terms of the new results."""
    yield from _same(f"{name}.", old, new, {"verdict", "parts", *_FOLLOWS, *_COPIED})
    terms = {term: new[term] for term in ("n_within", "wall_clock")}
    before, after = (
        {f"{name}: {part['of']}": part | terms for part in claim["parts"]} for claim in (old, new)
    )
    lines = list(_each(before, after, _part))
    yield from lines
    shown = before.get(f"{name}: {old['of']}", {})
    if old["n"] and any(old[number] != shown.get(number) for number in _COPIED):
        yield "CHANGED", f"{name}.of", f"the numbers are not those of {old['of']!r}"
    turned = any(kind == "CHANGED" and what.endswith(".verdict") for kind, what, _ in lines)
    yield _verdict(name, old, new, "" if turned else "at the edge of a part or of its level")


def _part(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    measured = bool(old["n"] and new["n"])  # n = 0: the data cannot speak to the claim
    but = {"verdict", "n", "threshold", *_FOLLOWS}
    but |= {"estimate", "interval"} if measured else set()
    but |= {"gate"} if new["wall_clock"] else set()
    yield from _same(f"{name}.", old, new, but)
    few = new["n_within"] if measured else 0
    yield _number(f"{name}.n", old["n"], new["n"], abs(new["n"] - old["n"]) <= few)
    threshold, ends = new["threshold"], (old["interval"], new["interval"])
    same = near(old["threshold"], threshold, {"varies": "frozen"})
    yield _number(f"{name}.threshold", old["threshold"], threshold, same)
    edge = any(None not in interval and on_the_edge(interval, threshold) for interval in ends)
    remark = f"an interval ends beside the rule's {threshold:g}" if edge else ""
    yield _verdict(name, old, new, remark)
    if new["wall_clock"] or not measured:
        return
    before, after, trained = old["estimate"], new["estimate"], new["varies"] == "trained"
    if None in ends[0] + ends[1]:  # a part without spread has no interval
        rule = {"varies": "frozen"} if trained else new
        yield _number(f"{name}.estimate", before, after, near(before, after, rule))
        yield from _same(f"{name}.", {"interval": ends[0]}, {"interval": ends[1]}, set())
        return
    if trained:
        yield _number(f"{name}.estimate", before, after, overlap(before, ends[0], after, ends[1]))
        return
    yield _number(f"{name}.estimate", before, after, near(before, after, new))
    for end, before, after in zip(("low", "high"), *ends, strict=True):
        yield _number(f"{name}.interval.{end}", before, after, near(before, after, new))


def _metric(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    yield from _same(f"{name}: ", old, new, {"value", "interval"})
    before, after = old["value"], new["value"]
    if new["varies"] == "trained":
        agree = overlap(before, old["interval"], after, new["interval"])
    else:
        agree = near(before, after, new)
    yield _number(name, before, after, agree)


def _time(name: str, old: float, new: float) -> Iterator[Line]:
    yield "WALL-CLOCK", name, f"{old:.4g} -> {new:.4g}"


def _metrics(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each metric's value with its tolerance."""
    rules = results["tolerances"]
    return {n: {"value": value} | rules.get(n, {}) for n, value in results["metrics"].items()}


def compare(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    """Compare two results files' contents, number by number. A missing or new number is CHANGED.

    Raises:
        KeyError, TypeError, ValueError: the old ones are not results as they are written today.
    """
    yield from _same("", old, new, _LISTS | _MADE)
    yield from _same("parameter ", old["parameters"], new["parameters"], set())
    facts = {name: old["provenance"].get(name) for name in new["provenance"]}
    yield from _same("provenance ", facts, new["provenance"], {"device", "content_hash", "rows"})
    ids = [claim["id"] for claim in old["claims"]]
    if len(set(ids)) < len(ids):
        yield "CHANGED", "claims", "one stands there twice"
    claims = [{claim["id"]: claim for claim in results["claims"]} for results in (old, new)]
    listed = [
        (*claims, _claim),
        (_metrics(old), _metrics(new), _metric),
        (old["wall_clock"], new["wall_clock"], _time),
    ]
    for before, after, lines in listed:
        yield from _each(before, after, lines)


def shown(results: dict[str, Any], page: str, index: str) -> Iterator[Line]:
    """A line for each claim that the page, or the index if there is one, shows otherwise."""
    parts = markup.parts()
    page, index = unescape(page), unescape(index)  # nbconvert leaves no apostrophe escaped
    for claim in results["claims"]:
        name, badge = claim["id"], parts.badge(claim["verdict"])
        row = index.partition(f'<tr id="{name}">')[2].partition("</tr>")[0]
        pieces = [
            ("page", page, f"{badge}<b>{name}</b>"),
            ("page", page, parts.verdict_row(claim)),
            ("index", index, f"{name} {claim['verdict']}</a>"),
            ("index", row or index, parts.estimate(claim)),
            ("index", row or index, f"n = {markup.number(claim['n'])}</span></td><td>{badge}"),
        ]
        wrong = [where for where, html, piece in pieces if html and unescape(piece) not in html]
        for where in dict.fromkeys(wrong):
            yield "CHANGED", name, f"the {where} shows something else"
