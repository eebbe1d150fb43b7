"""make compare: two sets of results side by side; what turned, what moved, what stayed.

A side is a results file, a folder of them, or either at a git revision: HEAD~3:reports/default.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from lib.builder import page
from lib.builder.build import put_in_place
from lib.builder.check import sound
from lib.builder.compare import compare
from lib.builder.parameters import shorten
from lib.builder.provenance import GitFailed, ask_git
from lib.builder.workspace import CUSTOM, Project, UsageError

# what says how the numbers were made; parameters have a table of their own
OF_THE_RUN = ("profile", "changed", "parameter ", "provenance ")
ORDER = {"CHANGED": 0, "EDGE": 1, "WALL-CLOCK": 2, "PASS": 3}


def _texts(project: Project, side: str) -> dict[str, str]:
    """The results files of one side, by name."""
    path, (revision, colon, inside) = Path(side).expanduser(), side.partition(":")
    if path.is_dir() or path.is_file():
        files = path.glob("*.json") if path.is_dir() else [path]
        return {file.name: file.read_text(encoding="utf-8") for file in files}
    if not colon or side.startswith("-"):
        raise UsageError(f"{shorten(side)}: no such file or folder (or REVISION:reports/default)")
    names = [inside]
    try:
        if not inside.endswith(".json"):
            tree = f"{revision}:./{inside}"
            names = ask_git(project.root, "ls-tree", "-z", "--name-only", tree).split("\0")
            names = [f"{inside.rstrip('/')}/{name}" for name in names if name.endswith(".json")]
        shown = [ask_git(project.root, "show", f"{revision}:./{name}") for name in names]
    except GitFailed as failure:
        words = f"git knows of no such file or folder: {failure}"
        raise UsageError(f"{shorten(side)}: {words}") from None
    return {Path(name).name: text for name, text in zip(names, shown, strict=True)}


def read_side(project: Project, side: str) -> dict[str, dict[str, Any]]:
    """The results of one side by report.

    Raises:
        UsageError: nothing is there, or a file is not a results file; one line that names it.
    """
    found = {}
    try:
        texts = _texts(project, side)
    except (OSError, ValueError) as error:
        raise UsageError(f"{shorten(side)}: {error}") from None
    for name, text in texts.items():
        try:
            results = json.loads(text)
            found[results["report"]] = results
            results["claims"], results["metrics"], results["parameters"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(f"{shorten(side)}: {name} is not a results file") from None
    if not found:
        raise UsageError(f"{shorten(side)}: there are no results in it")
    return found


def _overlay(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any] | None:
    """Both intervals of a part on one axis, in percent of its width."""
    ends = [*old["interval"], *new["interval"], old["threshold"]]
    if None in ends or old["estimate"] is None or new["estimate"] is None:
        return None
    low, high = min(ends), max(ends)
    scale = 96 / (high - low) if high > low else 0

    def place(value: float) -> float:
        return round(2 + (value - low) * scale, 2)

    bars = [(*map(place, x["interval"]), place(x["estimate"])) for x in (old, new)]
    return {"bars": bars, "threshold": place(old["threshold"])}


def _claims(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Each claim of both, turned ones first, with the parts that both have."""
    rows = []
    after = {claim["id"]: claim for claim in new["claims"]}
    for claim in old["claims"]:
        if claim["id"] not in after:
            continue
        pair = claim, after[claim["id"]]
        by_name = [{p["of"]: p for p in side["parts"]} for side in pair]
        parts = [
            {"of": of, "old": part, "new": by_name[1][of], "axis": _overlay(part, by_name[1][of])}
            for of, part in by_name[0].items()
            if of in by_name[1]
        ]
        turned = pair[0]["verdict"] != pair[1]["verdict"]
        rows.append({"old": pair[0], "new": pair[1], "turned": turned, "parts": parts})
    return sorted(rows, key=lambda row: not row["turned"])


def contrast(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Everything that the page shows of one report in two runs."""
    lines = {what: kind for kind, what, _ in compare(old, new)}
    status = {what: kind for what, kind in lines.items() if not what.startswith(OF_THE_RUN)}
    names = [name for name in old["metrics"] if name in new["metrics"]]
    metrics = [(n, old["metrics"][n], new["metrics"][n], status.get(n, "PASS")) for n in names]
    values = old["parameters"], new["parameters"]
    return {
        "title": new["title"],
        "report": new["report"],
        "parameters": [
            (name, *(page.show_value(side[name]) if name in side else "–" for side in values))
            for name in sorted(values[0] | values[1])
            if values[0].get(name) != values[1].get(name)
            or (name in values[0]) != (name in values[1])
        ],
        "claims": _claims(old, new),
        "metrics": sorted(metrics, key=lambda row: ORDER.get(row[3], 0)),
        "tally": Counter(status.values()),
    }


def write_comparison(project: Project, a: str, b: str) -> tuple[Path, bool]:
    """Write reports/custom/compare.html; return it, and whether anything differs.

    Raises:
        UsageError: a side cannot be read, or the sides have no report in common.
    """
    old, new = read_side(project, a), read_side(project, b)
    both = sorted(old.keys() & new.keys())
    if not both:
        raise UsageError(f"{shorten(a)} and {shorten(b)} have no report in common")
    alone = {a: sorted(old.keys() - new.keys()), b: sorted(new.keys() - old.keys())}
    try:
        reports = [contrast(old[slug], new[slug]) for slug in both]
        body = page.fill("compare", a=a, b=b, reports=reports, alone=alone)
    except (AttributeError, KeyError, TypeError, ValueError, TemplateError) as error:
        raise UsageError(f"results of another version cannot be compared: {error}") from None
    html = sound("compare.html", page.shell(body, title=f"{a} and {b}", kind="index"))
    path = project.folder(CUSTOM) / "compare.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    put_in_place([(html, path)])
    return path, any(report["tally"]["CHANGED"] or report["parameters"] for report in reports)
