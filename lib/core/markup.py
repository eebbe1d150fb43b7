"""HTML and Markdown that the builder's helpers make: everything that comes from data is escaped."""

from __future__ import annotations

import math
import re
from html import escape
from typing import Any

MARK = "report"  # metadata key of output that may reach the page as HTML
SYMBOLS = {"supported": "✓", "contradicted": "✕", "mixed": "±", "inconclusive": "?", "invalid": "∅"}


def show(mime: str, content: str) -> None:
    """Display content in the notebook, marked as built here (the renderer drops unmarked HTML)."""
    from IPython.display import display

    display({mime: content, "text/plain": ""}, raw=True, metadata={mime: {MARK: True}})


def escape_markdown(text: str) -> str:
    """Text as Markdown that shows just that text: all punctuation is backslash-escaped."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def number(value: Any, digits: int = 3) -> str:
    """A number for people: `digits` significant digits, a real minus sign, thousands separated.

    Whole numbers keep all their digits; a missing value is a dash.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, int) or abs(value) >= 10**digits - 0.5:  # 999.7 is 1,000, not 1.00e+03
        text = f"{value:,.0f}"
    elif value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa} × 10^{int(exponent)}"
    else:
        text = f"{value:#.{digits}g}".rstrip(".")
    return text.replace("-", "−")


def html_number(value: Any, digits: int = 3) -> str:
    return re.sub(r"\^(−?\d+)", r"<sup>\1</sup>", number(value, digits))


def badge(verdict: str) -> str:
    """A verdict in symbol, word and color: never in color alone."""
    return (
        f'<span class="badge {verdict}"><span aria-hidden="true">{SYMBOLS[verdict]}</span> '
        f"{verdict}</span>"
    )


def estimate(claim: dict[str, Any]) -> str:
    """`0.12 [0.08, 0.16] unit` as HTML."""
    if claim["estimate"] is None:
        return "not measurable here"
    low, high = claim["interval"]
    if low is None:
        return f"{html_number(claim['estimate'])} (no interval)"
    unit = f' <span class="unit">{escape(claim["unit"])}</span>' if claim["unit"] else ""
    unit = "" if "of" in claim else unit  # there it says what n counts
    return (
        f'<span class="nobr">{html_number(claim["estimate"])}</span> '
        f'<span class="nobr">[{html_number(low)}, {html_number(high)}]</span>{unit}'
    )


def _cell(value: Any, digits: int) -> tuple[str, str]:
    """(class, content) of a table cell."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, bool):
        return "", "yes" if value else "no"
    if value is None or isinstance(value, (int, float)):
        infinite = isinstance(value, float) and math.isinf(value)
        return ' class="n"', str(value) if infinite else html_number(value, digits)
    if str(value) in ("NaT", "<NA>"):
        return "", "–"
    return "", escape(str(value))


def table(frame: Any, caption: str, digits: int = 3) -> str:
    """A pandas frame (its index too, unless it only counts the rows) as an accessible HTML table.

    Raises:
        ValueError: the caption or the frame is empty.
    """
    import pandas as pd

    if not caption.strip():
        raise ValueError("report.table: the caption is empty")
    if frame.empty:
        raise ValueError("report.table: the table is empty")
    headers = 0 if isinstance(frame.index, pd.RangeIndex) else frame.index.nlevels
    frame = frame.reset_index() if headers else frame
    columns = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
    first = [_cell(value, digits)[0] for value in frame.iloc[0]]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name.strip())}</th>'
        for name, kind in zip(columns, first, strict=True)
    )
    rows = []
    for values in frame.itertuples(index=False, name=None):
        cells = []
        for position, value in enumerate(values):
            kind, text = _cell(value, digits)
            tag = 'th scope="row"' if position < headers else "td"
            cells.append(f"<{tag}{kind}>{text}</{tag[:2]}>")
        rows.append("<tr>" + "".join(cells) + "</tr>")
    return (
        f'<figure class="table"><figcaption><span class="nr"></span>{escape(caption)}</figcaption>'
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></figure>"
    )


def _outlook(found: dict[str, Any]) -> str:
    """What an inconclusive claim or part leaves open, in words."""
    if found["verdict"] != "inconclusive" or not found["n"]:
        return ""
    unit = escape(found["unit"])
    if found["effect"] is None:
        text = f"How many {unit} would decide it cannot be told from these values."
    elif found["needed_n"]:
        text = f"At the effect seen, {number(found['needed_n'])} {unit} would decide it."
    else:
        text = f"At the effect seen, not even 10,000 {unit} would decide it."
    if found["smallest"] is not None:
        seen = f"{html_number(found['smallest'])} from {html_number(found['threshold'])}"
        text += f" With n = {number(found['n'])} a distance of {seen} would have shown."
    return text


def _part(part: dict[str, Any]) -> str:
    """One part of a claim, with its own verdict; one that is invalid is crossed out in words."""
    facts = [estimate(part), f"n = {number(part['n'])} {escape(part['unit'])}"]
    for name in ("effect {}", "p = {}"):
        if (value := part[name.split()[0]]) is not None:
            facts.append(f'<span class="nobr">{name.format(html_number(value))}</span>')
    numbers = '<span class="dot"></span>'.join(facts)
    words = [escape(part["rule"])]
    if part["verdict"] == "invalid":
        numbers = f"<s>{numbers}</s>"
        failed = [gate for gate in part["gate"] if gate["verdict"] != "supported"]
        gates = " and ".join(f"“{escape(g['of'])}” is {g['verdict']}" for g in failed)
        words.append(f"<b>Does not count:</b> its control failed, {gates}.")
    elif part["note"]:
        words.append(f"Undecided: {escape(part['note'])}.")
    words.append(_outlook(part))
    if not part["core"]:
        words.append("Tests the explanation, decides nothing.")
    return (
        f"<li>{badge(part['verdict'])}<div><b>{escape(part['of'])}</b><div>{numbers}</div>"
        f"{' '.join(filter(None, words))}</div></li>"
    )


def _parts(claim: dict[str, Any]) -> str:
    """How a claim was judged: what is open, its parts to unfold, and what others published."""
    verdicts = [part["verdict"] for part in claim["parts"]]
    counts = [f"{verdicts.count(v)} {v}" for v in SYMBOLS if v in verdicts]
    plural = "" if len(verdicts) == 1 else "s"
    shown = f"<b>Shown:</b> {escape(claim['of'])}. " if claim["of"] else "No part counts. "
    levels = {part["level"] for part in claim["parts"]} - {0.95}
    shown += "".join(f"Intervals are of {level:.0%}. " for level in levels)
    items = "".join(map(_part, claim["parts"]))
    unseen = any(p["effect"] is None and p["verdict"] == "inconclusive" for p in claim["parts"])
    open_ = _outlook(claim | {"effect": None} if unseen and not claim["needed_n"] else claim)
    html = (
        f"{shown}{open_}<details><summary>{len(verdicts)} part{plural}: "
        f'{", ".join(counts)}</summary><ul class="parts">{items}</ul></details>'
    )
    values = {k: v if isinstance(v, list) else [v] for k, v in claim["published"].items()}
    source = escape(", ".join(map(str, values.pop("source", []))))
    rows = "".join(
        f"<dt>{escape(label)}</dt><dd>{escape(', '.join(map(str, numbers)))}</dd>"
        for label, numbers in values.items()
    )
    return html + (f"<b>Published:</b> {source}<dl>{rows}</dl>" if rows else "")


def verdict_row(claim: dict[str, Any]) -> str:
    """One claim in the verdict table: what was said, the rule, the estimate and the verdict."""
    clock = " <b>Wall-clock:</b> differs from run to run." if claim["wall_clock"] else ""
    how = f"<b>Measured:</b> {escape(claim['measure'])} <b>Rule:</b> {escape(claim['rule'])}{clock}"
    if "parts" in claim:
        how = clock + _parts(claim)
    said = "".join(f'<q lang="ko">{escape(s)}</q>' for s in claim.get("sentences", []))
    return (
        f'<tbody id="claim-{claim["id"]}"><tr><th scope="rowgroup">{claim["id"]}</th>'
        f"<td>{escape(claim['statement'])}{said}</td>"
        f'<td data-label="Estimate [95 % interval]">{estimate(claim)}</td>'
        f'<td class="n" data-label="n">{number(claim["n"])}</td>'
        f"<td>{badge(claim['verdict'])}</td></tr>"
        f'<tr class="how"><td></td><td colspan="4">{how}</td></tr></tbody>'
    )


def verdicts(claims: list[dict[str, Any]], expected: list[str]) -> str:
    """The verdict table: one row per claim."""
    missing = [id for id in expected if id not in {claim["id"] for claim in claims}]
    if missing:
        raise ValueError(f"report.verdicts: not recorded yet: {', '.join(missing)}")
    bodies = "".join(map(verdict_row, claims))
    return (
        '<figure class="table"><figcaption><span class="nr"></span>'
        "Claims, measurements and verdicts.</figcaption>"
        '<div class="scroll" role="region" aria-label="Verdicts" tabindex="0">'
        '<table class="verdicts"><thead><tr>'
        '<th scope="col">Claim</th><th scope="col">What the document says</th>'
        '<th scope="col">Estimate [95&nbsp;% interval]</th><th scope="col" class="n">n</th>'
        f'<th scope="col">Verdict</th></tr></thead>{bodies}</table></div></figure>'
    )
