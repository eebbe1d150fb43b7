"""The words of course.yaml, for the course's site and for the end of each page that uses them."""

from __future__ import annotations

import re
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from lib.builder.markdown import bare, trusted_inline
from lib.builder.workspace import UsageError

DATA = Path(__file__).with_name("course.yaml")
SHEET = {"questions": ["ask", "hear"], "misconceptions": ["said", "so"]}

_WHOLE = re.compile(r"(<(?:math|a|code|pre|h\d)\b.*?</(?:math|a|code|pre|h\d)>|<[^>]+>)", re.DOTALL)


def inline(text: str) -> str:
    """A line of Markdown as HTML."""
    return bare(trusted_inline(text))


def anchor(term: str) -> str:
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


def _mentions(glossary: dict[str, str]) -> tuple[dict[str, str], re.Pattern]:
    """The term of each form in small letters, and what finds a form in a text."""
    names = {form.lower(): term for term in glossary for form in term.split(", ")}
    longest = sorted(map(re.escape, names), key=len, reverse=True)
    return names, re.compile(rf"\b({'|'.join(longest)})s?\b", re.IGNORECASE)


def linked(html: str, glossary: dict[str, str], site: str = "", but: str = "") -> str:
    """The first mention of each term leads to the glossary; ``but`` is the term being explained."""
    names, mention = _mentions(glossary)
    seen = {but}

    def link(found: re.Match) -> str:
        term = names[found[1].lower()]
        if term in seen:
            return found[0]
        seen.add(term)
        return f'<a class="term" href="{site}#{anchor(term)}">{found[0]}</a>'

    pieces = _WHOLE.split(html)
    pieces[::2] = [mention.sub(link, text) for text in pieces[::2]]
    return "".join(pieces)


def used(html: str, glossary: dict[str, str]) -> dict[str, str]:
    """The part of a glossary that a page's text mentions: code, formulas and headings are none."""
    names, mention = _mentions(glossary)
    text = "\n".join(_WHOLE.split(html)[::2])
    terms = {names[found[1].lower()] for found in mention.finditer(text)}
    return {term: glossary[term] for term in glossary if term in terms}


def entries(glossary: dict[str, str]) -> list[tuple[str, str, str]]:
    """(anchor, term, its explanation as HTML with links to the others), by the alphabet."""
    return [
        (anchor(term), term.split(", ")[0], linked(inline(text), glossary, but=term))
        for term, text in sorted(glossary.items(), key=lambda item: item[0].lower())
    ]


def read_data(path: Path) -> tuple[dict[str, str], dict[str, dict[str, list[dict[str, str]]]]]:
    """(glossary, sheets) of course.yaml.

    Raises:
        UsageError: it is not such a file; one line.
    """
    name = "glossary"
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        if not all(isinstance(text, str) for text in data[name].values()):
            raise TypeError("a term and its explanation")
        for name in data["sheets"]:  # also for what is said of a failure
            for part, fields in SHEET.items():
                rows = data["sheets"][name][part]
                if not all(list(row) == fields and all(row.values()) for row in rows):
                    raise TypeError(f"{part}: expected {' and '.join(fields)} in each")
    except YAMLError as error:
        raise UsageError(f"{path.name}: {' '.join(str(error).split())}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{path.name}: {name}: {error}") from None
    return data["glossary"], data["sheets"]
