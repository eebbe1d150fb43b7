"""Prose with numbers: a cell that begins with ``%%say`` is Markdown with Jinja.

    %%say
    At {{ share | p }} removed at random the score has gone from {{ start | f(2) }} to
    {{ low | f(2) }}. {% if claim("PR-1").mixed %}The fills disagree.{% endif %}

It sees the notebook's variables and is shown as the cell's output, so that JupyterLab and the page
have the same text. A name that is undefined fails; a number that is not whole needs a format;
text is escaped, so that a file name cannot become markup.

    | f(2)     0.12        fixed decimals        | p(1)   12.5 %     a share, in percent
    | s(2)     +0.12       with its sign         | g(3)   1,230      significant digits
    | words    a, b and c  names of methods or words     | label   the name of a method
    between(part)          0.12 [0.03, 0.21]: estimate and interval of a part or a claim
    claim("PR-1")          .verdict, .supported, .contradicted, .mixed, .inconclusive, .parts,
                           .estimate, .interval, .n, .needed_n
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
from IPython import get_ipython

from lib.core import markup


def label(name: str) -> str:
    """:func:`lib.report.looks.label`, which brings PyTorch along: prose by itself needs none."""
    from lib.report import looks

    return looks.label(name)


class _Text(str):
    """What a filter has made: shown as it is."""


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number: it cannot be told")
    return number


def fixed(value: Any, digits: int = 2, sign: str = "") -> _Text:
    text = f"{_number(value):{sign}.{digits}f}"
    zero = not text.strip("+-0.")  # there is no -0.00
    return _Text(f"{0:.{digits}f}" if zero else text.replace("-", "−"))


def percent(value: Any, digits: int = 0) -> _Text:
    return _Text(f"{fixed(100 * _number(value), digits)} %")


def between(found: Any, digits: int = 3) -> _Text:
    """Estimate and interval of a part, a claim or a pair (estimate, (low, high))."""
    if isinstance(found, tuple):
        estimate, interval = found
    elif isinstance(found, Mapping):
        estimate, interval = found["estimate"], found["interval"]
    else:
        estimate, interval = found.estimate, found.interval
    if estimate is None:
        return _Text("not measured")
    text = markup.number(float(estimate), digits)
    if interval is None:
        return _Text(text)
    low, high = (markup.number(float(end), digits) for end in interval)
    return _Text(f"{text} [{low}, {high}]")


def listed(values: Iterable[Any], last: str = "and") -> _Text:
    words = [label(value) if isinstance(value, str) else str(value) for value in values]
    words = [markup.escape_markdown(word) for word in words]
    return _Text(f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])))


def _shown(value: Any) -> Any:
    """What stands between double braces: escaped text, a whole number, or a formatted one."""
    if isinstance(value, (_Text, jinja2.Undefined)):
        return str(value)  # of what is undefined: it raises
    if isinstance(value, str):
        text = markup.escape_markdown(value)
        before, after = value[:1].isspace(), value[-1:].isspace()  # of ", " between two names
        return " " * before + text + " " * (after and bool(text))
    if isinstance(value, int) and not isinstance(value, bool):
        return markup.number(value)
    if value is None or isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ValueError(f"{type(value).__name__} cannot be told: choose what of it to say")
    raise ValueError(f"{value!r} needs a format, such as {{{{ x | f(2) }}}}")


_LANGUAGE = jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=_shown)
_LANGUAGE.filters |= {
    "f": fixed,
    "s": lambda value, digits=2: fixed(value, digits, "+"),
    "p": percent,
    "g": lambda value, digits=3: _Text(markup.number(_number(value), digits)),
    "words": listed,
    "label": label,
}
_LANGUAGE.globals |= {"between": between, "abs": abs, "len": len, "min": min, "max": max}


def fill(template: str, **values: Any) -> str:
    """The text of a template, evaluated against ``values`` and the notebook's variables.

    Raises:
        ValueError: what is wrong with it: an undefined name, a number without a format.
    """
    shell = get_ipython()
    names = dict(shell.user_ns) if shell else {}
    if "lesson" in names:
        names.setdefault("claim", names["lesson"].told)
    try:
        return _LANGUAGE.from_string(template).render(names | values)
    except jinja2.TemplateError as error:
        where = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise ValueError(f"%%say{where}: {error.message}") from None
    except SyntaxError:  # of Python's slices and operators a template knows but a few
        raise ValueError("%%say: write x[1:, 0] and the like in a cell of code before it") from None


def plain(template: str, **values: Any) -> str:
    """The same where Markdown means nothing, as in alt text: one line."""
    text = markup.unescape_markdown(fill(template, **values))
    return " ".join(text.split())


def say(line: str, cell: str) -> None:
    """The cell magic ``%%say``; ``%%say Solution`` folds the text under that word."""
    text = fill(cell).strip()
    if summary := line.strip():
        text = markup.FOLDED.format(markup.escape_markdown(summary), text)
    markup.show("text/markdown", text)


def install() -> None:
    """Make ``%%say`` known to the running notebook."""
    if shell := get_ipython():
        shell.register_magic_function(say, "cell", "say")
