"""From an executed notebook to one HTML file, through nbconvert.

Cell tags: `parameters` (the schema), `remove-input` (only the output is shown; so of every cell
that begins with %%say), `remove-cell`, `remove-output`. Output that reaches the page: figures with
alt text and caption, what lib.report built, Markdown and LaTeX (HTML in them shown as text), and
plain text. Anything else is shown as its plain text. What a cell wrote to stderr is a build warning
and not on the page.
"""

from __future__ import annotations

import base64
import io
import re
from html import escape
from typing import Any

from nbconvert.exporters import HTMLExporter
from PIL import Image
from traitlets.config import Config

from lib.builder import markdown, page
from lib.builder.check import page_problems
from lib.builder.execute import INJECTED
from lib.builder.glossary import DATA, entries, read_data, used
from lib.builder.mathml import mathml
from lib.builder.overrides import Run
from lib.builder.pair import elsewhere, turned
from lib.builder.workspace import ANSI, ReportFailed
from lib.core.markup import FOLDED, MARK

IMAGES = ("image/svg+xml", "image/png", "image/jpeg")
_FOLDED = re.compile(re.escape(FOLDED).replace(r"\{\}", "(.*?)"), re.DOTALL)
_ADDRESS = re.compile(r"at 0x[0-9a-fA-F]{6,}")


class _Body:
    """The filters that turn cells and outputs into HTML, with what they number and collect."""

    def __init__(self, path: str):
        self.path = path
        self.contents = markdown.Contents()
        self.figures = 0
        self.tables = 0
        self.cover = False
        self.warnings: list[str] = []

    def markdown_cell(self, cell: Any) -> str:
        return markdown.trusted(cell.source, self.contents, self.path, cell.get("attachments"))

    def text(self, text: str) -> str:
        if _ADDRESS.search(text):
            self.warnings.append("an output shows a memory address: it differs from run to run")
        text = escape(ANSI.sub("", text))
        return f'<div class="codebox output" tabindex="0"><pre>{text}</pre></div>' if text else ""

    def output(self, output: Any) -> str:
        data, metadata = output.data, output.get("metadata", {})
        for mime in IMAGES:
            if mime in data:
                return self.figure(mime, data[mime], metadata.get(mime, {}))
        if "text/html" in data and metadata.get("text/html", {}).get(MARK):
            return self.numbered(data["text/html"])
        if "text/markdown" in data:
            return self.prose(data["text/markdown"], MARK in metadata.get("text/markdown", {}))
        if "text/latex" in data:
            return f"<p>{mathml(data['text/latex'].strip(' $'), 'block')}</p>"
        if "text/html" in data:
            self.warnings.append(
                "HTML that no Report helper built is shown as text: use lesson.table"
            )
        return self.text(data.get("text/plain", ""))

    def prose(self, text: str, built_here: bool) -> str:
        if built_here and (folded := _FOLDED.fullmatch(text)):
            summary, body = (markdown.untrusted(part, self.contents) for part in folded.groups())
            return f"<details><summary>{markdown.bare(summary)}</summary>{body}</details>"
        return markdown.untrusted(text, self.contents)

    def figure(self, mime: str, content: str, facts: dict[str, Any]) -> str:
        alt, caption = (str(facts.get(name) or "").strip() for name in ("alt", "caption"))
        self.figures += 1
        for name, text in (("alt text", alt), ("caption", caption)):
            if not text:
                raise ReportFailed(
                    f"figure {self.figures} has no {name}: "
                    "every figure of lib.report.figures takes alt= and caption="
                )
        photo = mime == "image/jpeg"
        if mime == "image/svg+xml":
            content = base64.b64encode("".join(content).encode())
        else:
            mime, content = "image/webp", base64.b64encode(_smaller(content, photo))
        cover = bool(facts.get("cover")) and not self.cover
        self.cover = self.cover or cover
        return page.fill(
            "figure",
            number=self.figures,
            photo=photo,
            size={k: int(facts[k]) for k in ("width", "height") if facts.get(k)},
            cover=cover,
            alt=alt,
            mime=mime,
            content=content.decode(),
            points=facts.get("points"),
            slider=facts.get("slider"),
            caption=self.inline(caption),
        )

    def inline(self, text: str) -> str:
        """A caption: Markdown of one paragraph (formulas too); HTML in it is text."""
        return markdown.bare(markdown.untrusted(text, self.contents))

    def numbered(self, html: str) -> str:
        mark = '<span class="nr"></span>'
        if mark in html:
            self.tables += 1
            html = html.replace(mark, f'<span class="nr">Table {self.tables}.</span>', 1)
        return html


def _smaller(content: str, photo: bool) -> bytes:
    """A notebook's JPEG or PNG as a page keeps it: WebP, a quarter to a third less."""
    kept, how = io.BytesIO(), {"quality": 78} if photo else {"lossless": True}
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        picture.save(kept, "WEBP", **how)
    return kept.getvalue()


def render_body(notebook: Any, path: str) -> tuple[str, _Body]:
    """Render the cells: (HTML, what was collected on the way).

    Raises:
        ReportFailed: a figure without alt text or caption, or a formula that cannot be converted.
    """
    body = _Body(path)
    remove = {
        "enabled": True,
        "remove_cell_tags": ["remove-cell", INJECTED],
        "remove_input_tags": ["remove-input"],
        "remove_all_outputs_tags": ["remove-output"],
    }
    exporter = HTMLExporter(
        config=Config({"TagRemovePreprocessor": remove}),
        template_name="report",
        extra_template_basedirs=[str(page.TEMPLATES)],
        filters={
            "report_markdown": body.markdown_cell,
            "report_output": body.output,
            "report_text": body.text,
        },
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        preprocessors=[],
    )
    # a code cell without source would show an empty box; of prose the output is the text
    notebook.cells = [c for c in notebook.cells if c.cell_type != "code" or c.source.strip()]
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("%%say"):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "remove-input"]
    resources = {"metadata": {"name": "report", "path": path}}
    html, _ = exporter.from_notebook_node(notebook, resources=resources)
    return html, body


def render(run: Run, notebook: Any, results: dict[str, Any]) -> tuple[str, list[str]]:
    """Return (the page, warnings).

    Raises:
        ReportFailed: the page would not be complete or not stand alone; the reason says why.
    """
    _, question, rest = run.head
    first = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    first.source = rest
    html, body = render_body(notebook, str(run.project.notebooks))
    for claim in results["claims"]:
        if f'id="claim-{claim["id"]}"' not in html:
            raise ReportFailed(f"{claim['id']} is not in the verdict table: call report.verdicts()")
    whole = page.fill(
        "report",
        run=run,
        results=results,
        turned=list(turned(results["claims"], elsewhere(run.project, run.target, run.slug))),
        question=markdown.trusted_inline(question),
        contents=[entry for entry in body.contents.entries if entry[0] <= 3],
        body=html,
        glossary=entries(used(html, read_data(DATA)[0])),
        provenance=page.provenance_rows(results["provenance"]),
    )
    whole = page.shell(
        whole,
        title=results["title"],
        kind="report",
        build=results["provenance"]["content_hash"],
        description=results["question"],
    )
    if problems := page_problems(whole):
        raise ReportFailed("the page is not fit to be shown: " + "; ".join(problems))
    if not body.cover:
        body.warnings.append("no figure is the cover: the card on the index has no picture")
    return whole, list(dict.fromkeys(body.warnings))
