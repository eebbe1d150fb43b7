"""Markdown to HTML with MathML, heading anchors and tables that scroll in their own box."""

from __future__ import annotations

import re
from html import escape, unescape

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from lib.builder.mathml import mathml

_TAKEN = ("claim-", "term-")  # ids of the page's own begin so


class Contents:
    """The headings of a page, in order, each with an id of its own."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, str]] = []  # level, id, plain text
        self._ids: set[str] = {"top", "contents", "provenance", "parameters", "terms"}

    def add(self, level: int, html: str) -> str:
        text = re.sub(r"<annotation.*?</annotation>|<[^>]+>", "", html)
        base = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        name, n = base, 2
        while name in self._ids or name.startswith(_TAKEN):
            name, n = f"{base}-{n}", n + 1
            if base.startswith(_TAKEN):
                base = name = f"s-{base}"
        self._ids.add(name)
        self.entries.append((level, name, text))
        return name


class Renderer(IPythonRenderer):
    """nbconvert's renderer with MathML, anchors and scrolling tables."""

    def __init__(self, contents: Contents | None = None, **options):
        super().__init__(**options)
        self.contents = contents or Contents()

    def heading(self, text: str, level: int, **_) -> str:
        level = max(2, level)  # the page has one title
        return f'<h{level} id="{self.contents.add(level, text)}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        return f'<div class="scroll" tabindex="0"><table>{text}</table></div>\n'

    def _html_embed_images(self, html: str) -> str:
        """Embed pictures of raw HTML; a parser here would close `<details>` before its content."""

        def embed(match: re.Match) -> str:
            return match[1] + (self._src_to_base64(match[2]) or match[2]) + match[3]

        return re.sub(r"""(<img[^>]*?\bsrc=["'])([^"']*)(["'])""", embed, html)

    def block_code(self, code: str, info: str | None = None) -> str:
        if info and info.startswith("mermaid"):
            info = None  # would need a script
        return f'<div class="codebox" tabindex="0">{super().block_code(code, info)}</div>\n'

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


def trusted(source: str, contents: Contents, path: str, attachments: dict | None = None) -> str:
    """Render a notebook's own Markdown: HTML is kept, pictures beside it are embedded."""
    renderer = Renderer(
        contents, escape=False, embed_images=True, path=path, attachments=attachments or {}
    )
    return MarkdownWithMath(renderer=renderer).render(source)


def trusted_inline(source: str) -> str:
    """Render a title or another line of a notebook's own Markdown."""
    return trusted(source, Contents(), ".")


def untrusted(source: str, contents: Contents) -> str:
    """Render Markdown that code produced: HTML in it is shown as text, links go to http(s) only."""
    renderer = Renderer(contents, escape=True, allow_harmful_protocols=False)
    return MarkdownWithMath(renderer=renderer).render(source)


def bare(html: str) -> str:
    """The one paragraph that was rendered, without its ``<p>``: to stand within a line."""
    return html.strip().removeprefix("<p>").removesuffix("</p>")


def plain(source: str) -> str:
    """The text of a notebook's own Markdown, for titles."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", trusted_inline(source))).split())


def code_block(source: str, language: str = "ipython3") -> str:
    """Source code as colored HTML (classes only; the colors are in the style sheet)."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return f"<pre>{escape(source)}</pre>"
    return highlight(source.strip("\n"), lexer, HtmlFormatter())
