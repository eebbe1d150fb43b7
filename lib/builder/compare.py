"""Two results files, number by number: what agrees, what changed, what only the clock decides.

What a number may differ by is what the new results say, for the notebook says it today
(`lib.core.tolerance`); what the old ones say is itself compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import unescape
from typing import Any

from lib.core import markup
from lib.core.tolerance import near, on_the_edge, overlap

# of a part, or of a claim by its parts: follows from numbers that are compared
_FOLLOWS = {"effect", "needed_n", "note", "of", "p", "p_against", "reason", "smallest"}
_COPIED = ("estimate", "interval", "n", "unit", "rule", "threshold")  # from the part `of` names
SIDES = {"supported", "contradicted"}  # from one to the other is no edge
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


def _verdict(old: dict[str, Any], new: dict[str, Any]) -> Line:
    name, verdicts = f"{new['id']}.verdict", (old["verdict"], new["verdict"])
    if verdicts[0] == verdicts[1]:
        return "PASS", name, verdicts[0]
    remark, threshold = f"{verdicts[0]} -> {verdicts[1]}", new["threshold"]
    measured = [claim["interval"] for claim in (old, new) if claim["interval"][0] is not None]
    if (
        new["varies"] == "trained"
        and set(verdicts) != SIDES
        and any(on_the_edge(interval, threshold) for interval in measured)
    ):
        return "EDGE", name, f"{remark}: an interval ends beside the rule's {threshold:g}"
    return "CHANGED", name, remark


def _judged(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    """A claim by its parts: each is compared like a claim, in the terms of the new results."""
    verdicts = (old["verdict"], new["verdict"])
    yield from _same(f"{name}.", old, new, {"verdict", "parts", *_FOLLOWS, *_COPIED})
    before, after = ({part["of"]: part for part in claim["parts"]} for claim in (old, new))
    terms = {key: new[key] for key in ("n_within", "wall_clock")}
    lines: list[Line] = []
    for of in before | after:
        if of in before and of in after:
            named = terms | {"id": f"{name}: {of}"}
            lines += _claim(named["id"], before[of] | named, after[of] | named)
        else:
            lines.append(("CHANGED", f"{name}: {of}", "is gone" if of in before else "is new"))
    yield from lines
    part = before.get(old["of"], {})
    if old["n"] and any(old[key] != part.get(key) for key in _COPIED):
        yield "CHANGED", f"{name}.of", f"the numbers are not those of {old['of']!r}"
    remark, status = " -> ".join(verdicts), "CHANGED"
    turned = [what for kind, what, _ in lines if kind == "CHANGED" and what.endswith(".verdict")]
    if new["wall_clock"]:
        status = "WALL-CLOCK"
    elif verdicts[0] == verdicts[1]:
        status, remark = "PASS", verdicts[0]
    elif new["varies"] == "trained" and set(verdicts) != SIDES and not turned:
        status = "EDGE"  # of a part, or of the stricter level at which one contradicts the claim
    yield status, f"{name}.verdict", remark


def _claim(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Line]:
    varies = new["varies"]
    if "parts" in old and "parts" in new:
        yield from _judged(name, old, new)
        return
    measured = bool(old["n"] and new["n"])  # n = 0: the data cannot speak to the claim
    but = {"verdict", "n", "threshold"} | (_FOLLOWS & old.keys() & new.keys())
    but |= {"estimate", "interval"} if measured else set()
    but |= {"gate"} if new["wall_clock"] else set()
    yield from _same(f"{name}.", old, new, but)
    few = new["n_within"] if measured else 0
    yield _number(f"{name}.n", old["n"], new["n"], abs(new["n"] - old["n"]) <= few)
    same = near(old["threshold"], new["threshold"], {"varies": "frozen"})
    yield _number(f"{name}.threshold", old["threshold"], new["threshold"], same)
    if new["wall_clock"]:
        both = [f"{claim['verdict']}, {markup.number(claim['estimate'])}" for claim in (old, new)]
        yield "WALL-CLOCK", name, " -> ".join(both)
        return
    yield _verdict(old, new)
    if not measured:
        return
    before, after, ends = old["estimate"], new["estimate"], (old["interval"], new["interval"])
    if None in ends[0] + ends[1]:  # a part without spread has no interval
        rule = {"varies": "frozen"} if varies == "trained" else new
        yield _number(f"{name}.estimate", before, after, near(before, after, rule))
        yield from _same(f"{name}.", {"interval": ends[0]}, {"interval": ends[1]}, set())
        return
    if varies == "trained":
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
    yield from _same("provenance ", facts, new["provenance"], {"device", "content_hash"})
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
        for name in before | after:
            if name in before and name in after:
                yield from lines(name, before[name], after[name])
            else:
                yield "CHANGED", name, "is gone" if name in before else "is new"


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
            ("index", row or index, f"n = {claim['n']}</span></td><td>{badge}"),
        ]
        wrong = [where for where, html, piece in pieces if html and unescape(piece) not in html]
        for where in dict.fromkeys(wrong):
            yield "CHANGED", name, f"the {where} shows something else"
