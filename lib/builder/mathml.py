"""TeX to MathML Core, which browsers show without a script."""

from __future__ import annotations

import contextlib
import io
import re
import unicodedata
from html import unescape
from xml.etree.ElementTree import tostring

from latex2mathml.converter import Converter

from lib.builder.workspace import ReportFailed

# TeX sets bare bars at the size of a letter and without spaces; browsers would stretch them
_BARS = re.compile(r"<mo>(?=[‖|]</mo>)")
_NOT_MATHEMATICS = {"href", "class", "style"}
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
        ReportFailed: a command that the converter does not know (it would be printed as text), or
            one that makes a link or a style.
    """
    tex = tex.strip()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            formula = Converter(display=display).convert_to_element(tex)
    except Exception as error:  # the converter has no error class of its own
        raise ReportFailed(
            f"formula cannot be converted ({type(error).__name__}): {tex}"
        ) from error
    # the name space would make ElementTree write <ns0:math>, which browsers do not render
    del formula.attrib["xmlns"]
    for element in formula.iter():  # what is unknown becomes an identifier that starts with \\
        if made := _NOT_MATHEMATICS & set(element.attrib):
            raise ReportFailed(f"a formula cannot have {min(made)} (\\{min(made)}): {tex}")
        text = element.text or ""
        if element.tag in ("mi", "mo") and (text.startswith("\\") or text == "&"):
            raise ReportFailed(f"formula cannot be converted (unknown: {text}): {tex}")
        element.text = unescape(text) or None  # the converter writes &#x02211;
    result = tostring(formula, encoding="unicode")
    result = _STYLED.sub(_replace_style, result)
    result = _BARS.sub('<mo stretchy="false" lspace="0" rspace="0">', result)
    if display == "block":
        return f'<span class="formula" tabindex="0">{result}</span>'
    return result
