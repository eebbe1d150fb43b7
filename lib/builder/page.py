"""The shell that all pages share: one HTML file that loads nothing, and is whole without script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lib.builder.overrides import Run
from lib.core import markup

TEMPLATES = Path(__file__).parent / "templates"
PAGES = TEMPLATES / "report"


def show_value(value: Any) -> str:
    """A parameter's value as the reader would write it in YAML."""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False)


def number_of(slug: str) -> str:
    head = slug.partition("-")[0]
    return head if head.isdigit() else slug


_ENVIRONMENT = markup.environment(PAGES)
_ENVIRONMENT.filters |= {"number_of": number_of, "yaml": show_value}


def fill(template: str, **values: Any) -> str:
    """Fill a template of templates/report/; text values are escaped."""
    return _ENVIRONMENT.get_template(f"{template}.html.j2").render(values)


def shell(body: str, *, title: str, kind: str, build: str = "", description: str = "") -> str:
    """A whole page around a body. Titles are escaped here; the body must already be."""
    sheets = [PAGES / f"{name}.css" for name in dict.fromkeys(["report", kind])]
    css = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.exists())
    script = PAGES / f"{kind}.js"  # most kinds have none
    script = script.read_text(encoding="utf-8") if script.exists() else ""
    known = {"title": title, "kind": kind, "build": build, "description": description}
    return fill("page", body=body, css=css, script=script, **known)


def provenance_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Provenance as (label, text) rows; the command is shown on its own."""
    rows = []
    for name, fact in facts.items():
        if name in ("command", "dirty"):
            continue
        label = name.replace("_", " ").replace("sha256", "SHA-256")
        label = label[:1].upper() + label[1:]
        if name == "commit":
            fact = fact or "not under git"
            if facts.get("dirty"):
                fact += " with local changes"
        elif isinstance(fact, dict):
            fact = ", ".join(f"{key} {value}" for key, value in fact.items())
        elif isinstance(fact, (list, tuple)):
            fact = ", ".join(map(str, fact))
        rows.append((label, str(fact)))
    return rows


def failed_page(run: Run, failure: Any) -> str:
    """The page that says that a report could not be built, and shows where."""
    from lib.builder.markdown import code_block

    body = fill(
        "failed",
        run=run,
        failure=failure,
        source=code_block(failure.source) if failure.source else "",
        last_good=run.project.html(run.target, run.slug).exists(),
    )
    return shell(body, title=f"{run.slug} could not be built", kind="failed")
