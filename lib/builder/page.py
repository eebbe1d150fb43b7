"""The shell that reports, failure pages and the index share: one HTML file that loads nothing."""

from __future__ import annotations

import datetime
import functools
import json
from pathlib import Path
from typing import Any

import jinja2

from lib.builder.overrides import Run
from lib.core import markup

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES / "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    found.filters |= {"badge": markup.badge}
    return found


def fill(template: str, **values: Any) -> str:
    """Fill a template of templates/report/; text values are escaped."""
    return environment().get_template(f"{template}.html.j2").render(values)


def shell(body: str, *, title: str, kind: str, build: str = "", description: str = "") -> str:
    """A whole page around a body. Titles are escaped here; the body must already be."""
    folder = TEMPLATES / "report"
    css = (folder / "report.css").read_text(encoding="utf-8")
    extra = folder / f"{kind}.css"
    if kind != "report" and extra.exists():
        css += extra.read_text(encoding="utf-8")
    return fill(
        "page", body=body, title=title, css=css, kind=kind, build=build, description=description
    )


def show_value(value: Any) -> str:
    """A parameter's value as the reader would write it in YAML."""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False)


def parameter_rows(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": show_value(run.parameters[name]),
            "default": show_value(parameter.default),
            "help": parameter.help.removeprefix("path:").strip(),
            "changed": name in run.changed,
        }
        for name, parameter in run.schema.items()
    ]


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


def number_of(slug: str) -> str:
    head = slug.partition("-")[0]
    return head if head.isdigit() else slug


def built_line(seconds: float, when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC in {seconds:.0f} s"


def failed_page(run: Run, failure: Any) -> str:
    """The page that says that a report could not be built, and shows where."""
    from lib.builder.markdown import code_block

    body = fill(
        "failed",
        slug=run.slug,
        number=number_of(run.slug),
        target=run.target,
        reason=failure.reason,
        cell=failure.cell,
        source=code_block(failure.source) if failure.source else "",
        traceback=failure.traceback,
        last_good=run.project.html(run.target, run.slug).exists(),
        parameters=[(name, show_value(value)) for name, value in run.parameters.items()],
        command=run.command,
    )
    return shell(body, title=f"{run.slug} could not be built", kind="failed")
