"""HTML and Markdown that reports and their pages share: all that comes from data is escaped."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"
MARK = "report"  # metadata key of output that may reach the page as HTML
FOLDED = "<details><summary>{}</summary>\n\n{}\n\n</details>"  # Markdown under a word
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_GREEK = {"alpha": "α", "beta": "β", "lambda": "λ", "sigma": "σ"}
SYMBOLS = {"supported": "✓", "contradicted": "✕", "mixed": "±", "inconclusive": "?", "invalid": "∅"}


def show(mime: str, content: str) -> None:
    """Display content in the notebook, marked as built here (the renderer drops unmarked HTML)."""
    from IPython.display import display

    display({mime: content, "text/plain": ""}, raw=True, metadata={mime: {MARK: True}})


def escape_markdown(text: str) -> str:
    """Text as Markdown that shows just that text: all punctuation is backslash-escaped."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def unescape_markdown(text: str) -> str:
    """The text that `escape_markdown` was given, but for its blanks."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def quote(sentence: str) -> str:
    """A document's sentence as it is read: `$w$` is w, `$\\alpha$` is α."""
    return re.sub(r"\$\\?(\w+)\$", lambda found: _GREEK.get(found[1], found[1]), sentence)


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
        text = f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    else:
        text = f"{value:#.{digits}g}".rstrip(".")
    return text.replace("-", "−")


@functools.cache
def environment(*folders: Path) -> jinja2.Environment:
    """Templates of the folders and of this package: text that they are given is escaped."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    found.filters |= {"number": number, "quote": quote}
    found.globals["symbols"] = SYMBOLS
    return found


def parts() -> Any:
    """The macros of `parts.html.j2`, such as `parts().badge("supported")`."""
    return environment().get_template("parts.html.j2").module


def _cell(value: Any, digits: int) -> tuple[str, bool]:
    """(text, whether it is a number) of a table's cell."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no", False
    if value is None or isinstance(value, (int, float)):
        infinite = isinstance(value, float) and math.isinf(value)
        return str(value) if infinite else number(value, digits), True
    return "–" if str(value) in ("NaT", "<NA>") else str(value), False


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
    names = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
    rows = [
        [_cell(value, digits) for value in values]
        for values in frame.itertuples(index=False, name=None)
    ]
    numeric = [_cell(value, digits)[1] for value in frame.iloc[0]]
    columns = zip(map(str.strip, names), numeric, strict=True)
    return parts().table(caption, columns, rows, headers)
