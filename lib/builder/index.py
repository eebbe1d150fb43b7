"""reports/<profile>/index.html: a card per report, and the ledger of all claims."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import quote

from lib.builder import page
from lib.builder.build import locked, put_in_place
from lib.builder.check import sound
from lib.builder.forest import REACH, forest
from lib.builder.overrides import Run, load_notebook, resolve_run, title_and_question
from lib.builder.pair import damage, elsewhere, read_results, turned
from lib.builder.parameters import notebook_schema
from lib.builder.provenance import content_hash
from lib.builder.workspace import CUSTOM, Project, UsageError
from lib.core import markup
from lib.core.ledger import Claim, load_ledger, q_values

FAMILIES = {"documents": "Claims of the documents", "field": "Claims of the field"}
DECIDED = ("supported", "contradicted", "mixed")
WIDTH, QUALITY = 640, 78  # of a thumbnail: about 20 kB each
LARGEST = 50_000_000  # pixels of a cover: more would fill the memory
_COVER = re.compile(r"<img\b[^>]*\bdata-cover\b[^>]*>")


@dataclass
class Card:
    """What the index shows of one report."""

    slug: str
    title: str
    question: str
    state: str  # current, stale, unchecked, orphan (its notebook is gone), missing or damaged
    failed: bool
    results: dict[str, Any] | None = None  # None unless page and results are as they were made
    damage: str = ""  # why they are not
    seconds: float = 0.0
    size: float = 0.0  # MB
    picture: str = ""
    alt: str = ""

    @property
    def rendered(self) -> bool:
        return self.results is not None

    @property
    def href(self) -> str:
        """Its page's address, whatever stands in its name."""
        return quote(os.fsencode(self.slug), safe="")


def thumbnail(html: str) -> tuple[str, str]:
    """(data URL, alt text) of the figure marked as cover; empty if there is none to show."""
    from PIL import Image

    found = _COVER.search(html)
    if not found:
        return "", ""
    facts = dict(re.findall(r'\b(alt|src)="([^"]*)"', found.group()))
    _, _, data = facts.get("src", "").partition(";base64,")
    with contextlib.suppress(Exception):  # a picture that cannot be read is none
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        if image.width * image.height > LARGEST:
            return "", ""
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image).convert("RGB")
        image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        return f"data:image/jpeg;base64,{encoded}", unescape(facts.get("alt", ""))
    return "", ""


def _state(project: Project, profile: str, slug: str, results: dict[str, Any]) -> str:
    """Would a report made now carry the same content hash?"""
    if not project.notebook(slug).exists():
        return "orphan"
    try:
        if profile == CUSTOM:
            where, values = f"notebooks/{slug}.ipynb", results["parameters"]
            notebook = load_notebook(project.notebook(slug), where)
            schema = notebook_schema(notebook, where, project.root)
            if schema.keys() != values.keys():
                return "stale"
            run = Run(project, slug, profile, None, None, notebook, schema, values, values)
        else:
            run = resolve_run(project, slug, profile)
        now = content_hash(run)
    except (UsageError, OSError):  # its inputs are out of reach
        return "unchecked"
    return "current" if now == results["provenance"]["content_hash"] else "stale"


def card(project: Project, profile: str, slug: str) -> Card:
    """Read what is known of one report; nothing is executed."""
    problem = damage(project, profile, slug)
    if not problem:
        try:
            return _rendered(project, profile, slug)
        except Exception as error:  # results of another version; the other cards are shown
            problem = f"{slug}.json cannot be read: {type(error).__name__}: {error}"
    title, question = slug.partition("-")[2].replace("-", " ").capitalize() or slug, ""
    with contextlib.suppress(Exception):  # a notebook in the making still gets its card
        from lib.builder.markdown import plain

        head = title_and_question(load_notebook(project.notebook(slug), slug))
        title, question = map(plain, head[:2])
    files = project.json(profile, slug), project.html(profile, slug)
    state = "damaged" if any(map(os.path.lexists, files)) else "missing"
    failed = project.failed(profile, slug).exists()
    return Card(slug, title, question, state, failed, damage=problem)


def _rendered(project: Project, profile: str, slug: str) -> Card:
    """The card of a report whose files are as they were made."""
    results, path = read_results(project.json(profile, slug)), project.html(profile, slug)
    for claim in results["claims"]:
        markup.parts().verdict_row(claim)  # whatever the index shows of it is there
    picture, alt = thumbnail(path.read_text(encoding="utf-8"))
    return Card(
        slug=slug,
        title=results["title"],
        question=results["question"],
        state=_state(project, profile, slug, results),
        failed=project.failed(profile, slug).exists(),
        results=results,
        seconds=float(results["build"]["seconds"]),
        size=path.stat().st_size / 1e6,
        picture=picture,
        alt=alt,
    )


def _groups(
    project: Project, profile: str, cards: dict[str, Card], claims: list[Claim]
) -> list[dict[str, Any]]:
    """Claims by report, each with its result or the reason why there is none."""
    reports: dict[str, list[Claim]] = {}
    for claim in claims:
        reports.setdefault(claim.report, []).append(claim)
    groups = []
    for slug, own in reports.items():
        found = cards.get(slug) or card(project, profile, slug)
        results = {r["id"]: r for r in found.results["claims"]} if found.results else {}
        written = "not yet rendered" if project.notebook(slug).exists() else "no report yet"
        groups.append(
            {
                "card": found,
                "source": own[0].document,
                "without": "damaged" if found.state == "damaged" else written,
                "rows": [(claim, results.get(claim.id)) for claim in own],
            }
        )
    return groups


def _family(title: str, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """A family of claims with the false discovery rates of those that were judged."""
    results = [result for group in groups for _, result in group["rows"]]
    judged = [result for result in results if result]
    q = q_values([result["p"] for result in judged])
    sure = [v for v, r in zip(q, judged, strict=True) if v is not None and r["verdict"] in DECIDED]
    return {
        "title": title,
        "groups": groups,
        "claims": len(results),
        "judged": judged,
        "q": dict(zip((result["id"] for result in judged), q, strict=True)),
        "sure": len(sure),
        "false": max(sure, default=0) * len(sure),
    }


def index_page(project: Project, profile: str) -> tuple[str, dict[str, Card]]:
    """The index of one profile, from the files that are there, and the cards on it."""
    ledger = list(load_ledger(project.ledger).values())
    slugs = project.built(profile).union([] if profile == CUSTOM else project.slugs())
    cards = {slug: card(project, profile, slug) for slug in sorted(slugs)}
    families = []
    for name, title in FAMILIES.items():
        if claims := [claim for claim in ledger if claim.family == name]:
            families.append(_family(title, _groups(project, profile, cards, claims)))
    judged = [result for family in families for result in family["judged"]]
    others = elsewhere(project, profile)
    body = page.fill(
        "index_page",
        profile=profile,
        custom=profile == CUSTOM,
        cards=[c for c in cards.values() if c.failed or c.state != "missing"],
        waiting=[c for c in cards.values() if not c.failed and c.state == "missing"],
        families=families,
        claims=len(ledger),
        forest=forest(judged),
        reach=REACH,
        others=others,
        turned=list(turned(judged, others)),
        verdicts=[result["verdict"] for result in judged],
    )
    html = page.shell(body, title="Input attribution: the reports", kind="index")
    html = html.encode(errors="replace").decode()  # a file's name may be no text
    return sound("index.html", html), cards


def write_index(project: Project, profile: str) -> dict[str, Card]:
    """Write the index of one profile, unless it is as it would be, and return its cards."""
    path = project.folder(profile) / "index.html"
    html, cards = index_page(project, profile)
    if not (path.exists() and path.read_bytes() == html.encode()):
        with locked(project.cache / "locks" / profile / "index.lock"):
            html, cards = index_page(project, profile)  # of what the one before us has left
            put_in_place([(html, path)])
    return cards
