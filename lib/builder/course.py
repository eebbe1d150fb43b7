"""make course: notebooks to hand out, slides and a site, from the notebooks and their pages.

A notebook's first cell says what it takes and gives, and each exercise what it takes:

    **30 minutes.** You need gradients ([report 01](01-smoothgrad.html)).     what it needs: links
    **You will learn**, and below it a list                                   its goals
    **1. Rank by sign** (10 minutes, easy). Which of the two ...              an exercise

What no notebook can hold, the glossary and what a lecturer asks, is in course.yaml.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from lib.builder import handouts, page
from lib.builder.build import put_in_place
from lib.builder.check import sound
from lib.builder.glossary import DATA, SHEET, entries, inline, linked, read_data
from lib.builder.overrides import load_notebook, title_and_question
from lib.builder.pair import damage, read_results
from lib.builder.workspace import Project, UsageError

_TIME = re.compile(r"^\*\*(\d+) minutes\.\*\* (.+)$", re.MULTILINE)
_GOALS = re.compile(r"^\*\*You will learn\*\*\n+((?:- .+\n?)+)", re.MULTILINE)
_EXERCISE = re.compile(r"^\*\*\d+\. (.+?)\*\* \((\d+) minutes, (\w+)\)\. (.+)", re.M | re.S)
_FIGURE = re.compile(r"<figure id=.*?(<img\b[^>]*>).*?<figcaption>(.*?)</figcaption>", re.DOTALL)
_PIECE = re.compile(  # of a page's article: a heading, a formula, a paragraph, a figure
    r'<h2 id="[^"]*">(?P<heading>.*?)</h2>|<p>(?P<formula><span class="formula".*?</span>)</p>'
    rf"|<p>(?P<text>.*?)</p>|(?P<figure>{_FIGURE.pattern})",
    re.DOTALL,
)
_SENTENCE = re.compile(  # elements in it stay whole
    r"(?:<math\b.*?</math>|<(\w+)\b[^>]*>.*?</\1>|[^<])+?[.?!:](?=\s|$)", re.DOTALL
)
_END = ("Exercises", "References")  # of what slides show


@dataclass
class Chapter:
    """What the course shows of one report; all texts are HTML."""

    slug: str
    results: dict[str, Any]
    minutes: int | None
    time: str  # what it takes, in words
    needs: list[str]
    goals: list[str]
    exercises: list[tuple[str, int, str, str]]  # title, minutes, difficulty, text
    cover: tuple[str, str] | None  # img, caption
    sections: list[dict[str, Any]]  # heading, lead, formulas, figures
    sheet: dict[str, list[dict[str, str]]]  # SHEET says what
    badges: dict[str, str]


def _figure(html: str) -> tuple[str, str]:
    """(img, caption) as a page has them, without size and number."""
    image, caption = _FIGURE.match(html).groups()
    image = re.sub(r' (data-cover(="")?|width="\d+"|height="\d+")', "", image)
    return image, re.sub(r'^<span class="nr">.*?</span>', "", caption)


def _lead(paragraph: str, enough: int = 60) -> str:
    """Its first sentence, and more where that is short."""
    lead = ""
    for sentence in _SENTENCE.finditer(paragraph):
        if len(re.sub("<[^>]+>", "", lead)) < enough:
            lead += sentence[0]
    return lead.rstrip(":")


def sections(article: str) -> list[dict[str, Any]]:
    """A page's sections up to its exercises: heading, first words, formulas and figures."""
    found: list[dict[str, Any]] = []
    article = re.sub(r'<a href="#[^"]*">(.*?)</a>', r"\1", article)  # to another place of the page
    for piece in _PIECE.finditer(article):
        if piece["heading"] in _END:
            break
        if piece["heading"]:
            found.append({"heading": piece["heading"], "lead": "", "formulas": [], "figures": []})
        elif found and piece["formula"]:
            found[-1]["formulas"].append(piece["formula"])
        elif found and piece["figure"]:
            found[-1]["figures"].append(_figure(piece["figure"]))
        elif found and not found[-1]["lead"]:
            found[-1]["lead"] = _lead(piece["text"])
    return found


def chapter(project: Project, slug: str, notebook: dict, sheet: dict, address: str) -> Chapter:
    """Read a report for the course: its notebook, its page and its sheet of course.yaml.

    Raises:
        UsageError: the page is missing or damaged.
    """
    if fault := damage(project, "default", slug):
        raise UsageError(f"reports/default/{fault}; run: make {slug}")
    html = project.html("default", slug).read_text(encoding="utf-8")
    covers = [match[0] for match in _FIGURE.finditer(html) if "data-cover" in match[1]]
    head = title_and_question(notebook)[2]
    prose = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    tasks = [match.groups() for text in prose for match in _EXERCISE.finditer(text)]
    time, goals = _TIME.search(head), _GOALS.search(head)
    return Chapter(
        slug=slug,
        results=read_results(project.json("default", slug)),
        minutes=int(time[1]) if time else None,
        time=inline(time[2]) if time else "",
        needs=handouts.LINK.findall(time[2]) if time else [],
        goals=[inline(goal[2:]) for goal in goals[1].splitlines()] if goals else [],
        exercises=[(inline(t), int(m), level, inline(text)) for t, m, level, text in tasks],
        cover=_figure(covers[0]) if covers else None,
        sections=sections(html.partition("<article>")[2]),
        sheet={
            part: [{field: inline(text) for field, text in row.items()} for row in rows]
            for part, rows in sheet.items()
        },
        badges=handouts.badges(address, slug),
    )


def stages(needs: dict[str, list[str]]) -> list[list[str]]:
    """Which chapters can be read first, which after these, and so on.

    Raises:
        UsageError: one needs a report that is not there, or two need each other.
    """
    for slug, names in needs.items():
        for name in set(names) - needs.keys():
            raise UsageError(f"notebooks/{slug}.ipynb: it needs {name}, and there is none")
    sorter, found = TopologicalSorter(needs), []
    try:
        sorter.prepare()
    except CycleError as error:
        raise UsageError(f"notebooks: each needs the next: {', '.join(error.args[1])}") from None
    while sorter.is_active():
        found.append(sorted(sorter.get_ready()))
        sorter.done(*found[-1])
    return found


def write_course(project: Project, folder: Path, data: Path = DATA) -> int:
    """Write the course into a folder; return how many reports are in it.

    Raises:
        UsageError: one line that names the file.
    """
    address, (glossary, sheets) = handouts.repository(project.root), read_data(data)
    slugs, chapters, files = project.slugs(), {}, []
    for slug in slugs:
        notebook = load_notebook(project.notebook(slug), f"notebooks/{slug}.ipynb")
        sheet = sheets.get(slug) or {part: [] for part in SHEET}
        chapters[slug] = shown = chapter(project, slug, notebook, sheet, address)
        for kind, made in handouts.both(notebook, slug, slugs, address, sheet).items():
            text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
            files.append((text, folder / kind / f"{slug}.ipynb"))
        body = linked(page.fill("course_slides", chapter=shown), glossary, site="../index.html")
        title = f"{page.number_of(slug)} {shown.results['title']}"
        html = page.shell(body, title=title, kind="slides")
        files.append((html, folder / "slides" / f"{slug}.html"))
    body = page.fill(
        "course",
        path=stages({slug: shown.needs for slug, shown in chapters.items()}),
        chapters=chapters,
        sheets=[linked(page.fill("course_sheet", chapter=c), glossary) for c in chapters.values()],
        glossary=entries(glossary),
    )
    body = re.sub(r'href="([\w-]+)\.html"', r'href="#\1"', body)  # of a report: its sheet
    files.append((page.shell(body, title="The course", kind="course"), folder / "index.html"))
    for text, file in files:
        if file.suffix == ".html":
            sound(file.name, text)
    put_in_place(files)
    return len(slugs)
