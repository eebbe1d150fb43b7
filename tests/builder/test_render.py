"""The page: one file, escaped, described, with mathematics, and the same when built again."""

import json
import re

import nbformat
import pytest
from support.projects import built_project, copy_of_built, judged_project, notebook, reports

from lib.builder.check import page_problems, sound
from lib.builder.glossary import DATA, entries, read_data, used
from lib.builder.markdown import Contents, trusted, untrusted
from lib.builder.mathml import mathml
from lib.builder.overrides import title_and_question
from lib.builder.page import PAGES
from lib.builder.render import render_body
from lib.builder.workspace import ReportFailed
from lib.core.markup import FOLDED, MARK, SYMBOLS

SCRIPT = PAGES / "report.js"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhg"
    "GAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def html():
    return (built_project() / "reports/default/01-sample.html").read_text()


def body_of(*outputs, source="x", tags=()):
    """Render one code cell with the given outputs; return the HTML and the warnings."""
    made = nbformat.from_dict(notebook([("code", source, *tags)]))
    made.cells[0].execution_count = 1
    made.cells[0].outputs = [nbformat.from_dict(output) for output in outputs]
    html, body = render_body(made, ".")
    return html, body.warnings


def display(data, metadata=None):
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}


def test_nothing_is_loaded_and_nothing_runs(html):
    assert page_problems(html) == []
    assert re.findall(r"(?s)<script>(.*?)</script>", html) == ["\n" + SCRIPT.read_text()]
    assert not re.search(r"""<[^>]*(?:src|srcset)=(?!["']?data:)""", html)
    assert not re.search(r"@import|url\(", html)
    assert "ns0:" not in html
    assert html.count("<!DOCTYPE html>") == 1


def test_the_terms_of_a_page_are_explained_at_its_end(html):
    whole, _ = read_data(DATA)
    body = html[html.index("<article>") : html.index("</article>")]
    terms = used(body, whole)
    assert 0 < len(terms) < len(whole)
    (shown,) = re.findall(r'(?s)<dl class="glossary">(.*?)</dl>', html)
    assert re.findall(r'<dt id="([^"]+)">', shown) == [name for name, _, _ in entries(terms)]
    assert html.index('<a href="#terms">') < html.index("</article>") < html.index('id="terms"')


def test_headings_leave_the_ids_of_the_page_alone():
    ids = [Contents().add(2, text) for text in ("Terms", "Term map", "Claim SG-1", "Maps")]
    assert ids == ["terms-2", "s-term-map", "s-claim-sg-1", "maps"]


def test_the_shell_is_small(html):
    shell = re.sub(r"(?s)<article>.*</article>|<dl class=.glossary.*?</dl>", "", html)
    assert len(shell.encode()) < 20_000


def test_text_from_data_is_escaped(html):
    for harmless in (
        "alert(1)&lt;/script&gt;.jpg *not bold* $x$",
        "alert(2)",
        "alert(3)",
        "&lt;b&gt;by",
    ):
        assert harmless in html
    assert "<b>by</b>" not in html


def test_header_contents_and_numbering(html):
    assert "<title>A sample report</title>" in html
    assert html.count("<h1>") == 1
    assert re.search(r'<div class="question"><p><strong>Does a wave</strong> stay', html)
    for anchor in (
        "the-formula",
        "a-second-level",
        "verdict",
        "verdict-2",
        "claim-SA-1",
        "figure-1",
    ):
        assert html.count(f'id="{anchor}"') == 1
    assert '<a href="#verdict-2">Verdict</a>' in html
    assert re.search(r"Figure 1\.</span>The wave, <math", html)
    assert [f"Table {n}." in html for n in (1, 2, 3)] == [True, True, False]
    assert html.index("claim-SA-2") < html.index("<article>")  # verdicts come first
    assert 'class="changed"' in html


def test_code_is_folded_and_solutions_hold_markdown(html):
    assert html.count('<details class="code">') == 4  # the cells that are not tagged remove-input
    assert "injected-parameters" not in html
    solution = re.search(r"(?s)<details><summary>Solution</summary>(.*?)</details>", html)[1]
    assert "<em>much</em>" in solution
    assert "<math" in solution


@pytest.mark.slow
def test_stderr_is_a_warning_and_not_on_the_page(tmp_path):
    root = copy_of_built(tmp_path)
    done = reports(root, "build", "brief", "--set", "fault=stderr")
    assert done.returncode == 0
    assert "cell 3 wrote to stderr (not shown): a warning from below" in done.stdout
    page = (root / "reports/custom/02-brief.html").read_text()
    assert page.count("a warning from below") == 1  # in the code that writes it


@pytest.mark.slow
def test_building_again_gives_the_same_bytes_but_for_the_time(tmp_path):
    root = copy_of_built(tmp_path)
    assert reports(root, "build", "--force", "01-sample").returncode == 0
    for name in ("01-sample.html", "01-sample.json"):
        old, new = (
            (place / "reports/default" / name).read_text() for place in (built_project(), root)
        )
        if name.endswith("html"):
            old, new = (re.sub(r'(?<=class="built">)[^<]*', "", text) for text in (old, new))
        else:
            made = {"build": None, "sha256": None}  # when, and the digest of the page that says it
            old, new = (json.loads(text) | made for text in (old, new))
        assert old == new


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/svg+xml"])
def test_figures_need_alt_text_and_caption(mime):
    facts = {"alt": 'A "dot" <b>', "caption": "A <script>dot</script>."}
    html, _ = body_of(display({mime: PIXEL}, {mime: facts}))
    assert 'alt="A &quot;dot&quot; &lt;b&gt;"' in html or "alt='A \"dot\" &lt;b&gt;'" in html
    assert "<script" not in html
    for missing in ("alt", "caption"):
        with pytest.raises(ReportFailed, match="figure 1 has no " + missing):
            body_of(display({mime: PIXEL}, {mime: facts | {missing: " "}}))
    with pytest.raises(ReportFailed, match="figure 1 has no alt"):
        body_of(display({mime: PIXEL}))


def test_html_that_no_helper_built_is_shown_as_text():
    evil = {"text/html": "<script>alert(1)</script>", "text/plain": "<evil> at 0x7f0123456789"}
    html, warnings = body_of(display(evil))
    assert "&lt;evil&gt;" in html
    assert "alert" not in html
    assert any("no Report helper" in warning for warning in warnings)
    assert any("memory address" in warning for warning in warnings)
    html, _ = body_of(display({"application/javascript": "alert(1)", "text/plain": "js"}))
    assert "alert" not in html


def test_markdown_from_code_cannot_hold_html_or_bad_links():
    source = "<img src=x onerror=alert(1)> [a](javascript:alert(2)) **bold** $x$"
    html = untrusted(source, Contents())
    assert "<img" not in html
    assert "javascript:" not in html
    assert "<strong>bold</strong>" in html
    assert "<math" in html


def test_prose_with_numbers_is_text_alone_and_may_be_folded():
    folded = FOLDED.format("Sol & ution", "It is **3**, <b>not</b> 4.")
    html, _ = body_of(
        display({"text/markdown": folded}, {"text/markdown": {MARK: True}}),
        source="%%say Solution\nIt is {{ n }}.",
    )
    assert "%%say" not in html and "{{ n }}" not in html
    inside = re.search(r"(?s)<details><summary>Sol &amp; ution</summary>(.*)</details>", html)[1]
    assert "<strong>3</strong>" in inside and "<b>" not in inside
    html, _ = body_of(display({"text/markdown": folded}))  # nobody vouches for it
    assert "<details>" not in html


def test_tags_hide_code_output_or_both():
    shown = {"output_type": "stream", "name": "stdout", "text": "printed"}
    html, _ = body_of(shown, source="code_here", tags=["remove-input"])
    assert ("code_here" in html, "printed" in html) == (False, True)
    html, _ = body_of(shown, source="code_here", tags=["remove-output"])
    assert ("code_here" in html, "printed" in html) == (True, False)
    html, _ = body_of(shown, source="code_here", tags=["remove-cell"])
    assert html.strip() == ""


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{\partial f}{\partial x_i} \odot (x - x')",
        r"\int_0^1 \nabla f(x' + \alpha (x - x'))\, d\alpha",
        r"\begin{align*} a &= b \\ c &= d \end{align*}",
        r"f(x) = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}",
        r"\underset{m}{\mathrm{arg\,min}}\; \lVert m \rVert_1",
        r"\{a < b \& c\}",
    ],
)
def test_mathematics_becomes_mathml(tex):
    html = mathml(tex, "block")
    assert html.startswith('<span class="formula"')
    assert "<math" in html
    assert "xmlns" not in html


@pytest.mark.parametrize(
    ("tex", "character"),
    [
        (r"\mathbb{1}", "𝟙"),
        (r"\mathbb{R}", "ℝ"),
        (r"\boldsymbol{\theta}", "𝜽"),
        (r"\mathbf{x}", "𝐱"),
    ],
)
def test_styled_letters_are_characters(tex, character):
    from html import unescape

    assert character in unescape(mathml(tex))
    assert 'mathvariant="bold' not in mathml(tex)


def test_bare_bars_do_not_stretch_and_those_after_left_do():
    assert mathml(r"\lVert x\rVert_1 + |y|").count('stretchy="false"') == 4
    assert mathml(r"\left\lVert x\right\rVert").count('stretchy="true"') == 2


@pytest.mark.parametrize(
    "tex", [r"\nosuchmacro x", r"\label{a} x", r"\begin{aligned} a &= b \end{aligned}", r"a & b"]
)
def test_unknown_tex_fails(tex):
    with pytest.raises(ReportFailed, match="formula cannot be converted"):
        mathml(tex)
    with pytest.raises(ReportFailed, match="formula cannot be converted"):
        trusted(f"Text with ${tex}$.", Contents(), ".")


def test_pictures_beside_the_notebook_are_embedded(tmp_path):
    (tmp_path / "dot.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    html = trusted(
        '![a dot](dot.svg)\n\n<img src="dot.svg" alt="again">', Contents(), str(tmp_path)
    )
    assert html.count("data:image/svg+xml;base64,") == 2
    assert page_problems(html) == []
    assert page_problems(trusted("![gone](gone.png)", Contents(), str(tmp_path))) != []


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ("<script>1</script>", "<script> is not the page's own"),
        ("<script src='a.js'></script>", "loads"),
        ("<input name='a'>", "<input> is not allowed"),
        ("<img alt='a' src='https://example.org/a.png'>", "loads"),
        ("<img alt='a' src='a.png'>", "loads"),
        ("<img src='data:,'>", "no alt text"),
        ("<img alt=' ' src='data:,'>", "no alt text"),
        ("<link rel='stylesheet' href='a.css'>", "<link> loads"),
        ("<style>@import 'a.css';</style>", "style sheet loads"),
        ("<style>p { background: url(a.png) }</style>", "style sheet loads"),
        ("<p style='background: url(//a/b)'>", "in its style"),
        ("<p onclick='f()'>", "has a script"),
        ("<a href=' javascript:f()'>x</a>", "a link goes to"),
        ("<a href='java&#10;script:f()'>x</a>", "a link goes to"),
        ("<a href='data:text/html,x'>x</a>", "a link goes to"),
        ("<math><mrow href='javascript:f()'></mrow></math>", "<mrow> has a link"),
        ("<svg><a xlink:href='javascript:f()'>x</a></svg>", "a link goes to"),
        ("<svg><image href='https://example.org/a.png'/></svg>", "<image> has a link"),
        ("<svg><use xlink:href='a.svg#b'/></svg>", "<use> has a link"),
        ("<iframe srcdoc='x'></iframe>", "<iframe> is not allowed"),
        ("<ns0:math></ns0:math>", "is not allowed"),
        ("<p id='a'></p><p id='a'></p>", "used 2 times"),
        ("<a href='#nowhere'>x</a>", "leads nowhere"),
    ],
)
def test_the_check_finds(html, says):
    assert says in " ".join(page_problems(html))
    with pytest.raises(RuntimeError, match=r"^x\.html: "):
        sound("x.html", html)


def test_the_check_lets_ordinary_pages_pass():
    assert page_problems(
        "<style>p { color: red }</style><p id='a'>src= url( @import onclick=</p><a href='#a'>x</a>"
        "<a href='https://example.org'>x</a><a href='02-b.html#a'>x</a><a href='mailto:a@b'>x</a>"
        "<img alt='a' src='data:image/png;base64,AA'>"
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    "tex",
    [
        r"\href{javascript:f()}{x}",
        r"\href {https://example.org}{x}",
        r"x^{\href{a}{y}}",
        r"\newcommand{\h}{\href}\h{javascript:f()}{x}",
        r"\style{background:url(a.png)}{x}",
        r"\class{report}{x}",
    ],
)
def test_a_formula_is_mathematics_alone(tex):
    for render in (untrusted, lambda text, contents: trusted(text, contents, ".")):
        with pytest.raises(ReportFailed, match="a formula cannot have"):
            render(f"a caption with ${tex}$", Contents())


def test_text_in_a_formula_stays_text():
    html = untrusted(r"$\text{<script>f()</script><b/onclick=f()> \& &lt;i&gt;}$", Contents())
    assert not re.search("<(script|b|i)", html)
    assert page_problems(html) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# A title\n\nA question?\n\nRest", ("A title", "A question?", "Rest")),
        ("# A title\nA question\nin two lines?", ("A title", "A question\nin two lines?", "")),
    ],
)
def test_title_and_question(source, expected):
    assert title_and_question(notebook([("markdown", source)])) == expected


@pytest.mark.parametrize("source", ["No title", "# Only a title", "# T\n\n## Not a question", ""])
def test_a_first_cell_without_title_and_question_is_refused(source):
    with pytest.raises(ReportFailed, match="first Markdown cell"):
        title_and_question(notebook([("markdown", source)]))


@pytest.fixture(scope="module")
def judged():
    return (judged_project() / "reports/default/04-judged.html").read_text()


@pytest.mark.slow
def test_every_verdict_is_on_the_page_in_a_look_of_its_own(judged):
    assert page_problems(judged) == []
    shown = dict(re.findall(r'href="#claim-(JU-\d)"><span class="badge (\w+)"', judged))
    assert shown == {
        "JU-1": "supported", "JU-2": "mixed", "JU-3": "contradicted", "JU-4": "inconclusive",
        "JU-5": "inconclusive", "JU-6": "supported",
    }  # fmt: skip
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    assert all(f"\n.{verdict} {{" in judged for verdict in SYMBOLS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "JU-1",
            ["2 parts: 2 supported", '<q lang="ko">IG의', "Every error is at most 1.00 × 10⁻⁶."],
        ),
        ("JU-2", ["3 parts: 1 supported, 1 contradicted, 1 inconclusive", "&lt;b&gt;mask"]),
        ("JU-2", ["A paper &amp; its notebook, 2017", "<dt>mask</dt><dd>−44.0, 50,000</dd>"]),
        (
            "JU-2",
            ["If more photos turn out like these, ", " that 20 would most likely have shown is "],
        ),
        ("JU-3", ["1 part: 1 contradicted", "n = 40 photos"]),
        ("JU-4", ["too few: no spread", "too few: 6 of at least 10", "decides nothing"]),
        ("JU-5", ["2 invalid", "<s>", "Does not count:", "“mask &gt; edge detector” is "]),
        ("JU-6", ["1 supported, 1 contradicted", "<b>Shown:</b> share of wrong signs"]),
    ],
)
def test_parts_unfold_below_their_claim(judged, name, words):
    row = judged.split(f'<tbody id="claim-{name}">')[1].split("</tbody>")[0]
    assert row.count("<details>") == 1 and "open" not in row.split("<summary>")[0][-20:]
    for text in words:
        assert text in row, text
