"""Rendered pages in a real Chromium: nothing loaded, everything visible, usable on a phone.

By default the sample reports and an index are opened, and every committed page of reports/default/.
"""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from support.browser import browser
from support.projects import built_project, judged_project

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(p for p in ROOT.glob("reports/default/*.html") if "FAILED" not in p.name)
SAMPLES = ["01-sample.html", "04-judged.html", "index.html"]


@pytest.fixture(scope="module")
def chromium():
    with browser() as tab:
        yield tab


@pytest.fixture(params=[*SAMPLES, *COMMITTED], ids=lambda p: getattr(p, "name", p))
def path(request):
    if isinstance(request.param, Path):
        return request.param
    project = judged_project() if request.param == "04-judged.html" else built_project()
    return project / "reports/default" / request.param


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_one_request_no_complaint_every_picture(chromium, path, dark):
    chromium.open(path, dark=dark)
    assert chromium.requests == [path.resolve().as_uri()]
    assert chromium.complaints == []
    pictures = chromium.run("[...document.images].map(i => [i.alt.trim(), i.naturalWidth])")
    assert all(alt and width > 0 for alt, width in pictures)
    paper, ink = chromium.run(
        "(() => {const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]})()"
    )
    brightness = [sum(map(float, color[4:-1].split(","))) for color in (paper, ink)]
    assert (brightness[0] < brightness[1]) == dark


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("page", ["index", "01-smoothgrad", "03-integrated-gradients"])
def test_it_meets_the_guidelines(chromium, page, dark):
    chromium.open(ROOT / f"reports/default/{page}.html", width=390, dark=dark)
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}
    found = Axe().run(chromium.page, options=rules).response["violations"]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in found] == []


@pytest.mark.parametrize("unfolded", [False, True], ids=["folded", "unfolded"])
def test_a_phone_needs_no_sideways_scroll(chromium, path, unfolded):
    chromium.open(path, width=360, height=740)
    if unfolded:
        chromium.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    width, wide = chromium.run("[document.documentElement.scrollWidth, innerWidth]")
    assert wide == 360
    assert width <= 360
    outside = """[...document.querySelectorAll('main *')].filter(e => {
        const box = e.getBoundingClientRect();
        return box.right > 361 && !e.closest('.scroll, .codebox, .formula')
            && getComputedStyle(e).position !== 'absolute';
    }).map(e => e.outerHTML.slice(0, 120))"""
    assert chromium.run(outside) == []


def test_mathematics_is_visible(chromium, path):
    chromium.open(path)
    chromium.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    boxes = chromium.run(
        "[...document.querySelectorAll('math')].map(m => {const b = m.getBoundingClientRect();"
        "return [b.width, b.height]})"
    )
    assert all(width > 2 and height > 2 for width, height in boxes)
    if path.name == "01-sample.html":
        assert len(boxes) >= 5
        sub = chromium.run(  # a fraction is laid out as one: the denominator below the numerator
            "(() => {const [a, b] = document.querySelector('mfrac').children;"
            "return b.getBoundingClientRect().top >= a.getBoundingClientRect().bottom - 1})()"
        )
        assert sub


def test_code_folds_open_without_a_script(chromium, path):
    chromium.open(path)
    chromium.run("document.querySelectorAll('details').forEach(d => d.open = false)")
    sizes = chromium.run("""[...document.querySelectorAll('details.code')].map(d => {
        const box = () => d.querySelector('pre').checkVisibility();
        const before = box(); d.querySelector('summary').click();
        return [before, box(), d.querySelector('pre').innerText.trim().length > 0];
    })""")
    assert all(size == [False, True, True] for size in sizes)
    if path.name == "01-sample.html":
        assert len(sizes) == 4


def test_contents_links_scroll_to_their_headings(chromium, path):
    chromium.open(path, height=500)
    chromium.run("document.documentElement.style.scrollBehavior = 'auto'")
    links = chromium.run(
        "[...document.querySelectorAll('#contents a[href^=\"#\"]')].map(a => a.hash)"
    )
    visit = """(() => {
        scrollTo(0, 0);
        document.querySelector(`#contents a[href="LINK"]`).click();
        const end = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
        return [document.querySelector("LINK").getBoundingClientRect().top, end];
    })()"""
    for link in links:
        top, at_the_end = chromium.run(visit.replace("LINK", link))
        assert abs(top) < 60 or (at_the_end and 0 <= top < 500), link
    if path.name == "01-sample.html":
        assert len(links) == 7


def test_structure_for_screen_readers(chromium, path):
    chromium.open(path)
    facts = chromium.run("""({
        lang: document.documentElement.lang, title: document.title,
        h1: document.querySelectorAll('h1').length, main: document.querySelectorAll('main').length,
        levels: [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1]),
        heads: [...document.querySelectorAll('th')].every(t => t.scope || t.closest('article')),
    })""")
    assert (facts["lang"], facts["h1"], facts["main"]) == ("en", 1, 1)
    assert facts["title"]
    assert facts["heads"]
    steps = zip(facts["levels"], facts["levels"][1:], strict=False)
    assert all(after <= before + 1 for before, after in steps)
