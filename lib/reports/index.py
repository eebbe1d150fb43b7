"""reports/<profile>/index.html: a card per report, and the ledger of all claims."""

from __future__ import annotations

import base64
import contextlib
import io
import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from lib.reports import markup, page
from lib.reports.build import html_build, locked, put_in_place, read_results
from lib.reports.check import page_problems
from lib.reports.ledger import load_ledger
from lib.reports.overrides import Run, load_notebook, resolve_run, title_and_question
from lib.reports.parameters import notebook_schema
from lib.reports.project import CUSTOM, Project, UsageError
from lib.reports.provenance import content_hash

WIDTH, QUALITY = 640, 78  # of a thumbnail: about 20 kB each
_COVER = re.compile(r"<img\b[^>]*\bdata-cover\b[^>]*>")


@dataclass
class Card:
    """What the index shows of one report."""

    slug: str
    title: str
    question: str
    state: str  # current, stale, unchecked, missing (not rendered) or orphan (its notebook is gone)
    failed: bool
    results: dict[str, Any] | None
    seconds: float = 0.0
    size: float = 0.0  # MB
    picture: str = ""
    alt: str = ""

    @property
    def rendered(self) -> bool:
        return self.results is not None


def thumbnail(html: str) -> tuple[str, str]:
    """(data URL, alt text) of the figure marked as cover; empty if there is none."""
    from PIL import Image

    found = _COVER.search(html)
    if not found:
        return "", ""
    facts = dict(re.findall(r'\b(alt|src)="([^"]*)"', found.group()))
    _, _, data = facts.get("src", "").partition(";base64,")
    with contextlib.suppress(OSError, ValueError):
        image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image).convert("RGB")
        image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        return f"data:image/jpeg;base64,{encoded}", unescape(facts.get("alt", ""))
    return "", ""


def _digest_now(project: Project, profile: str, slug: str, results: dict[str, Any]) -> str | None:
    """The content hash that a report made now would carry; None if its inputs are out of reach."""
    where = f"notebooks/{slug}.ipynb"
    try:
        if profile != CUSTOM:
            return content_hash(resolve_run(project, slug, profile))
        notebook = load_notebook(project.notebook(slug), where)
        schema = notebook_schema(notebook, where, project.root)
        if set(schema) != set(results["parameters"]):
            return ""
        values = results["parameters"]
        return content_hash(
            Run(project, slug, profile, None, None, notebook, schema, values, values)
        )
    except (UsageError, OSError):
        return None


def card(project: Project, profile: str, slug: str) -> Card:
    """Read what is known of one report; nothing is executed."""
    results = read_results(project.json(profile, slug))
    path = project.html(profile, slug)
    failed = project.failed(profile, slug).exists()
    if results is None or not path.exists():
        title, question = slug, ""
        with contextlib.suppress(Exception):  # a notebook in the making still gets its card
            from lib.reports.markdown import plain, trusted_inline

            first = title_and_question(load_notebook(project.notebook(slug), slug))
            title, question = (plain(trusted_inline(text)) for text in first[:2])
        return Card(slug, title, question, "missing", failed, None)
    carried = html_build(path)
    now = _digest_now(project, profile, slug, results)
    if not project.notebook(slug).exists():
        state = "orphan"
    elif now is None:
        state = "unchecked"
    else:
        state = "current" if now == carried == results["provenance"]["content_hash"] else "stale"
    picture, alt = thumbnail(path.read_text(encoding="utf-8"))
    return Card(
        slug,
        results["title"],
        results["question"],
        state,
        failed,
        results,
        float(results.get("build", {}).get("seconds", 0)),
        path.stat().st_size / 1e6,
        picture,
        alt,
    )


def _name(slug: str) -> str:
    """A slug in words: `08-cam-and-grad-cam` without a title yet is CAM and Grad-CAM."""
    written = {"smoothgrad": "SmoothGrad", "cam": "CAM", "lime": "LIME", "rise": "RISE"}
    text = " ".join(written.get(word, word) for word in slug.split("-")[1:])
    text = text.replace("grad CAM", "Grad-CAM").replace("x gradient", "X-Gradient")
    return text[:1].upper() + text[1:]


def ledger_groups(project: Project, cards: dict[str, Card]) -> list[dict[str, Any]]:
    """The claims of the ledger by report, each with its result or the reason why there is none."""
    groups: dict[str, dict[str, Any]] = {}
    for claim in load_ledger(project.ledger):
        found = cards.get(claim.report)
        result = None
        if found and found.results:
            result = next((c for c in found.results["claims"] if c["id"] == claim.id), None)
        written = project.notebook(claim.report).exists()
        group = groups.setdefault(
            claim.report,
            {
                "slug": claim.report,
                "name": found.title if found and found.rendered else _name(claim.report),
                "rendered": bool(found and found.rendered),
                "source": claim.source,
                "rows": [],
            },
        )
        group["rows"].append(
            {
                "claim": claim,
                "result": result,
                "estimate": markup.estimate(result) if result else "",
                "status": "not yet rendered" if written else "no report yet",
            }
        )
    return list(groups.values())


def index_page(project: Project, profile: str) -> str:
    """The index of one profile, from the files that are there."""
    pages = sorted(p.stem for p in project.folder(profile).glob("*.html") if p.stem != "index")
    built = {p.removesuffix(".FAILED") for p in pages}
    known = set() if profile == CUSTOM else set(project.slugs())
    cards = {slug: card(project, profile, slug) for slug in sorted(known | built)}
    groups = ledger_groups(project, cards)
    results = [row["result"] for group in groups for row in group["rows"] if row["result"]]
    verdicts = [result["verdict"] for result in results]
    body = page.fill(
        "index_page",
        profile=profile,
        custom=profile == CUSTOM,
        cards=[c for c in cards.values() if c.rendered or c.failed],
        waiting=[c for c in cards.values() if not c.rendered and not c.failed],
        groups=groups,
        claims=sum(len(group["rows"]) for group in groups),
        tested=len(results),
        counts={verdict: verdicts.count(verdict) for verdict in markup.SYMBOLS},
        number_of=page.number_of,
        symbols=markup.SYMBOLS,
    )
    html = page.shell(body, title="Input attribution: the reports", kind="index")
    if problems := page_problems(html):
        raise RuntimeError("index.html: " + "; ".join(problems))
    return html


def write_index(project: Project, profile: str) -> Path:
    """Write the index of one profile, unless it is as it would be, and return its path."""
    path = project.folder(profile) / "index.html"
    if not (path.exists() and path.read_bytes() == index_page(project, profile).encode()):
        with locked(project.cache / "locks" / profile / "index.lock"):
            put_in_place([(index_page(project, profile), path)])
    return path
