"""Notebooks to hand out: a student's without answers, a lecturer's with what to ask.

In a notebook, what follows the line `answer = None` tells whether an exercise's answer is right,
and a cell `%%say Solution` tells the answer.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from lib.builder.workspace import UsageError
from lib.core.sealed import seal

LINK = re.compile(r"\]\(([\w-]+)\.html\)")  # to another report
SET_UP = """# On Colab this fetches the project; where it is installed it does nothing.
import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("lib") is None:
    !git clone --quiet --depth 1 {} project
    %pip install --quiet -r project/requirements.txt
    sys.path.insert(0, str(Path("project").resolve()))"""
_STUDENT = (
    "**For students.** Run the cells from the top. The exercises come last: put your answer in "
    "place of `None` and run the cell, which says whether it is right, and if not, what is wrong "
    "with it. Take a copy before you write into this file: `make course` makes it anew."
)
_TEACHER = "**For the lecturer.** The solutions are folded below the exercises."
_BADGES = {
    "Colab": "https://colab.research.google.com/github/{}/blob/main/course/student/{}.ipynb",
    "Binder": "https://mybinder.org/v2/gh/{}/main?urlpath=lab/tree/course/student/{}.ipynb",
}
_GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)")
_ANSWER = re.compile(r"^answer = None\b.*\n", re.MULTILINE)
_CHECK = re.compile(r"^check\(", re.MULTILINE)


def repository(root: Path) -> str:
    """The repository's address, from pyproject.toml.

    Raises:
        UsageError: there is none, or it is not on GitHub.
    """
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
        return _GITHUB.fullmatch(tomllib.loads(text)["project"]["urls"]["Repository"])[0]
    except (OSError, ValueError, KeyError, TypeError):
        hint = 'Repository = "https://github.com/OWNER/NAME"'
        raise UsageError(f"pyproject.toml: project.urls: expected {hint}") from None


def badges(address: str, slug: str) -> dict[str, str]:
    """Where a student's notebook opens in a browser, by the name of the service."""
    name = _GITHUB.fullmatch(address)[1]
    return {service: link.format(name, slug) for service, link in _BADGES.items()}


def without_answers(notebook: dict[str, Any], where: str) -> dict[str, Any]:
    """A student's version: no solutions, and what tells whether an answer is right is sealed.

    Raises:
        UsageError: a cell would give an answer away; it names the cell.
    """
    cells = []
    for number, cell in enumerate(notebook["cells"], 1):
        source = "".join(cell["source"])
        if "<summary>Solution" in source:
            raise UsageError(f"{where}, cell {number}: a solution is a cell `%%say Solution`")
        if source.startswith("%%say Solution"):
            continue
        if cell["cell_type"] == "code" and _CHECK.search(source):
            asked = _ANSWER.search(source)
            if not asked or _CHECK.search(source[: asked.end()]):
                raise UsageError(f"{where}, cell {number}: `check` without a line `answer = None`")
            given, hidden = source[: asked.end()], source[asked.end() :]
            cell = cell | {"source": f'{given}check(answer, sealed="{seal(hidden)}")'}
        cells.append(cell)
    return notebook | {"cells": cells}


def both(
    notebook: dict[str, Any],
    slug: str,
    slugs: list[str],
    address: str,
    sheet: dict[str, list[dict[str, str]]],
) -> dict[str, dict[str, Any]]:
    """A notebook's two versions, "student" and "teacher".

    Each has an introduction and a cell that sets Colab up, and links to ``slugs`` go to notebooks.
    The lecturer's introduction is the ``sheet``: rows of something said and what to say of it.
    """
    asked = [_TEACHER]
    for title, rows in sheet.items():
        asked += [f"\n**{title.capitalize()}**\n"] if rows else []
        asked += [f"- *{said}* {answer}" for said, answer in map(dict.values, rows)]
    services = " or ".join(f"[{name}]({link})" for name, link in badges(address, slug).items())
    end = f"\n\nIt opens in {services}; words are explained in the [glossary](../index.html)."
    code = {"outputs": [], "execution_count": None, "source": SET_UP.format(address)}
    made = {}
    for kind, given, intro in (
        ("student", without_answers(notebook, f"notebooks/{slug}.ipynb"), _STUDENT),
        ("teacher", notebook, "\n".join(asked)),
    ):
        head, *rest = [cell | {"source": _relinked(cell, slugs)} for cell in given["cells"]]
        about = {"id": "course-intro", "metadata": {}, "source": intro + end}
        ready = {"id": "course-set-up", "metadata": {}, **code}
        cells = [head, {"cell_type": "markdown", **about}, {"cell_type": "code", **ready}, *rest]
        made[kind] = notebook | {"cells": cells}
    return made


def _relinked(cell: dict[str, Any], slugs: list[str]) -> str:
    """A cell's source, in which a link to a report's page goes to its notebook."""
    return LINK.sub(
        lambda found: f"]({found[1]}.ipynb)" if found[1] in slugs else found[0],
        "".join(cell["source"]),
    )
