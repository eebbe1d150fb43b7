"""TeX to MathML Core, which browsers show without a script."""

from __future__ import annotations

import contextlib
import io
import re
import unicodedata
from html import unescape

from latex2mathml.converter import convert

from lib.builder.execute import ReportFailed

# latex2mathml prints what it cannot convert as an identifier that starts with a backslash or an &
_UNCONVERTED = re.compile(r"<m[io][^>]*>(\\[^<]*|&(?:amp;)?(?=<))")
# TeX sets bare bars at the size of a letter and without spaces; browsers would stretch them
_BARS = re.compile(r"<mo>(?=&#x0(?:2016|007C);</mo>)")
_STYLED = re.compile(r'<(m[ino]|mtext)([^>]*?) mathvariant="([a-z-]+)"([^>]*)>([^<]*)</\1>')


def _styled(character: str, style: str) -> str:
    """The Unicode character for a letter or digit in a style, or the character itself."""
    name = unicodedata.name(character, "")
    kind, _, letter = name.removeprefix("LATIN ").removeprefix("GREEK ").partition(" LETTER ")
    if name.startswith("DIGIT"):
        kind, letter = "", name
    words = style.upper().replace("DOUBLE-STRUCK", "DOUBLE_STRUCK").replace("-", " ")
    words = words.replace("DOUBLE_STRUCK", "DOUBLE-STRUCK").replace("SANS SERIF", "SANS-SERIF")
    old = {"FRAKTUR": "BLACK-LETTER"}.get(words, words)  # letters that Unicode had before
    for candidate in (f"MATHEMATICAL {words} {kind} {letter}", f"{old} {kind} {letter}"):
        with contextlib.suppress(KeyError):
            return unicodedata.lookup(" ".join(candidate.split()))
    return character


def _replace_style(match: re.Match) -> str:
    """Browsers know `mathvariant` only as "normal": use the styled characters themselves."""
    tag, before, style, after, text = match.groups()
    if style == "normal":
        return match.group()
    text = "".join(_styled(character, style) for character in unescape(text))
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<{tag}{before}{after}>{text}</{tag}>"


def mathml(tex: str, display: str = "inline") -> str:
    """Convert TeX to MathML; display formulas come in a box of their own that can scroll.

    Raises:
        ReportFailed: a command that the converter does not know (it would be printed as text).
    """
    tex = tex.strip()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = convert(tex, display=display)
    except Exception as error:  # the converter has no error class of its own
        raise ReportFailed(
            f"formula cannot be converted ({type(error).__name__}): {tex}"
        ) from error
    if unknown := _UNCONVERTED.search(result):
        raise ReportFailed(f"formula cannot be converted (unknown: {unknown[1]}): {tex}")
    # the name space would make ElementTree write <ns0:math>, which browsers do not render
    result = result.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    result = _STYLED.sub(_replace_style, result)
    result = _BARS.sub('<mo stretchy="false" lspace="0" rspace="0">', result)
    if display == "block":
        return f'<span class="formula" tabindex="0">{result}</span>'
    return result
