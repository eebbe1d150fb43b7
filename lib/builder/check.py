"""What a page must be: one file, no script but its own, nothing loaded, pictures described."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from lib.builder.page import PAGES

FORBIDDEN = {"iframe", "object", "embed", "base", "form", "input"}
FORBIDDEN |= {"audio", "video", "source"}
OWN = {path.read_text(encoding="utf-8").strip() for path in PAGES.glob("*.js")}
_LOADS = ("src", "srcset", "poster", "data", "background", "action")
_CSS_LOAD = re.compile(r"@import|url\(\s*['\"]?(?!data:)", re.IGNORECASE)


def _scheme(address: str) -> str:
    """What stands before the colon, as a browser reads it: without blanks."""
    found = re.match(r"([a-z][a-z0-9+.-]*):", re.sub(r"[\0-\x20]", "", address), re.IGNORECASE)
    return found[1].lower() if found else ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.ids: Counter[str] = Counter()
        self.targets: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self._inside = tag
        # sliders, and the task lists of Markdown, which are check boxes, harmless and disabled
        harmless = tag == "input" and attributes.get("type") in ("range", "checkbox")
        if (tag in FORBIDDEN or ":" in tag) and not harmless:
            self.problems.append(f"<{tag}> is not allowed")
        if tag == "link" and not attributes.get("href", "").startswith("data:"):
            self.problems.append(f"<link> loads {attributes.get('href')!r}")
        for name, value in attributes.items():
            if name.startswith("on"):
                self.problems.append(f"<{tag}> has a script in {name}")
            if name in _LOADS and not value.startswith("data:"):
                self.problems.append(f"<{tag}> loads {value[:80]!r} from outside the page")
            if name == "style" and _CSS_LOAD.search(value):
                self.problems.append(f"<{tag}> loads something in its style")
        if tag == "img" and not attributes.get("alt", "").strip():
            self.problems.append("a picture has no alt text")
        if attributes.get("alt", "").startswith("No description has been provided"):
            self.problems.append("a picture has no alt text")
        if "id" in attributes:
            self.ids[attributes["id"]] += 1
        for name, href in attributes.items():
            if not name.endswith("href") or tag == "link":
                continue
            if href.startswith("#"):
                self.targets.append(href[1:])
            elif tag not in ("a", "area"):
                self.problems.append(f"<{tag}> has a link to {href[:40]!r}")
            elif _scheme(href) not in ("", "http", "https", "mailto"):
                self.problems.append(f"a link goes to {href[:40]!r}")

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        if self._inside == "style" and _CSS_LOAD.search(data):
            self.problems.append("the style sheet loads something")
        if self._inside == "script" and data.strip() not in OWN:
            self.problems.append("<script> is not the page's own")

    def handle_endtag(self, tag):
        self._inside = ""


def page_problems(html: str) -> list[str]:
    """Return what is wrong with a page, one line each; an empty list is a good page."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    problems = reader.problems
    problems += [f"the id {name!r} is used {n} times" for name, n in reader.ids.items() if n > 1]
    problems += [f"a link leads nowhere: #{t}" for t in reader.targets if t not in reader.ids]
    return list(dict.fromkeys(problems))


def sound(name: str, html: str) -> str:
    """The page, if it is a good one. Raises ``RuntimeError``: the builder made another."""
    if problems := page_problems(html):
        raise RuntimeError(f"{name}: {'; '.join(problems)}")
    return html
