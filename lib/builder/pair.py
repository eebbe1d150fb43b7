"""A rendered report is a pair of files, page and results, that tells whether it is as it was made.

The results file holds the SHA-256 of the page and its own (without that entry); the page's head
carries the content hash that stands in the results.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.builder.workspace import Project

OTHERS = ("thousand",)  # profiles whose verdicts stand beside the default's
_META = re.compile(r'<meta name="build" content="([^"]*)"')


def results_text(results: dict[str, Any]) -> str:
    return json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _digests(results: dict[str, Any], page: bytes) -> dict[str, str]:
    unsealed = {name: value for name, value in results.items() if name != "sha256"}
    texts = {"page": page, "results": results_text(unsealed).encode()}
    return {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}


def sealed(results: dict[str, Any], html: str) -> str:
    """The results file's text: the results, with the digests of the pair."""
    return results_text(results | {"sha256": _digests(results, html.encode())})


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        results = json.loads(text)
        return results if isinstance(results["provenance"], dict) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read_results(path: Path) -> dict[str, Any] | None:
    """A report's results, or None if the file is missing or not one."""
    try:
        return _parsed(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError):
        return None


def html_build(path: Path) -> str | None:
    """The content hash that a page carries, from its head."""
    try:
        with path.open(encoding="utf-8") as file:
            match = _META.search(file.read(2000))
    except (OSError, UnicodeDecodeError):
        return None
    return match[1] if match else None


def damage(project: Project, profile: str, slug: str) -> str:
    """What is wrong with a report's pair of files; empty if both are as they were made."""
    where, page = project.json(profile, slug), project.html(profile, slug)
    try:
        for path in (where, page):
            if not path.is_file():
                return f"{path.name} is missing"
        text = where.read_text(encoding="utf-8")
        results = _parsed(text)
        if results is None:
            return f"{where.name} is not a results file"
        given, made = results.get("sha256"), _digests(results, page.read_bytes())
        # the text too: a name that stands twice in an object leaves no trace in what was read
        whole = isinstance(given, dict) and results_text(results) == text
    except (OSError, ValueError, RecursionError) as error:
        return f"{where.name} or {page.name} cannot be read: {error}"
    if not whole or given.get("results") != made["results"]:
        return f"{where.name} was edited, damaged or made by an earlier version"
    if given.get("page") != made["page"]:
        return f"{page.name} was edited or damaged"
    if (results.get("report"), results.get("profile")) != (slug, profile):
        return f"{where.name} is that of another report or profile"
    if html_build(page) != results["provenance"].get("content_hash"):
        return f"{page.name} and {where.name} are not of one build"
    return ""


def elsewhere(project: Project, profile: str, slug: str = "*") -> dict[str, dict[str, Any]]:
    """Verdict and n of each claim by other profile: what the default profile's pages say beside."""
    found: dict[str, dict[str, Any]] = {}
    for other in OTHERS if profile == "default" else ():
        for path in sorted(project.folder(other).glob(f"{slug}.json")):
            with contextlib.suppress(KeyError, TypeError):  # its own index says what is wrong
                for claim in (read_results(path) or {})["claims"]:
                    verdict = {"verdict": claim["verdict"], "n": claim["n"]}
                    found.setdefault(other, {})[claim["id"]] = verdict
    return found


def turned(claims: list[dict[str, Any]], others: dict[str, dict[str, Any]]) -> Iterator[tuple]:
    """(claim, profile, its finding) wherever another profile has another verdict, from its data."""
    for claim in claims:
        for other, known in others.items():
            found = known.get(claim["id"])
            if found and found["n"] and found["verdict"] != claim["verdict"]:
                yield claim, other, found
