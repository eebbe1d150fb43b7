"""The course: what it gives away, what it shows, and whether a student's notebook works."""

import ast
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from support.browser import browser
from support.projects import environment, plain_project, reports

from lib.builder.check import page_problems
from lib.builder.course import stages, write_course
from lib.builder.execute import execute
from lib.builder.glossary import DATA, linked, read_data, used
from lib.builder.handouts import SET_UP, both, repository, without_answers
from lib.builder.overrides import load_notebook, resolve_run
from lib.builder.pair import damage
from lib.builder.workspace import Project, UsageError
from lib.core.sealed import seal, unseal

ROOT = Path(__file__).resolve().parents[2]
PROJECT = Project(ROOT)
SLUGS = PROJECT.slugs()
SEALED = re.compile(r'^check\(answer, sealed="(.*)"\)$', re.MULTILINE)
each_notebook = pytest.mark.parametrize("slug", SLUGS)


def source(slug):
    return load_notebook(PROJECT.notebook(slug), slug)


def student(slug):
    return both(source(slug), slug, SLUGS, repository(ROOT), {})["student"]


def texts(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def runs_of_words(text, length=10):
    words = text.split()
    return {" ".join(words[i : i + length]) for i in range(len(words) - length + 1)}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The course of the reports that are rendered here."""
    root = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "reports/default", root / "reports/default")
    (root / "notebooks").mkdir()
    for slug in SLUGS:
        if not damage(PROJECT, "default", slug):
            shutil.copy(PROJECT.notebook(slug), root / "notebooks")
    assert write_course(Project(root), root / "course") == len(Project(root).slugs()) > 10
    return root / "course"


@each_notebook
def test_a_students_notebook_gives_no_answer_away(slug):
    given, made = source(slug), without_answers(source(slug), slug)
    shown = "\n".join(texts(made))
    checks = [text for text in texts(given) if re.search(r"^check\(", text, re.MULTILINE)]
    words = SEALED.findall(shown)
    assert len(words) == len(checks)
    for text, word in zip(checks, words, strict=True):
        hidden = unseal(word)
        assert text.endswith("\n" + hidden) and "answer = None" in text.removesuffix(hidden)
        for line in hidden.splitlines():
            assert line not in shown.splitlines()
    for solution in (text for text in texts(given) if text.startswith("%%say Solution")):
        prose = re.sub(r"\{[{%].*?[}%]\}", "", solution)
        assert not runs_of_words(prose) & runs_of_words(shown)


@each_notebook
def test_a_chapter_says_what_it_takes(slug):
    """What the learning path is made of; a notebook without exercises is no chapter."""
    notebook = source(slug)
    if "## Exercises" in "\n".join(texts(notebook)):
        head = texts(notebook)[0]
        assert re.search(r"^\*\*\d+ minutes\.\*\* ", head, re.MULTILINE)
        assert "**You will learn**\n\n- " in head
        assert slug in read_data(DATA)[1]


@each_notebook
def test_the_students_notebooks_kept_for_colab_are_current(slug):
    kept = ROOT / "course/student" / f"{slug}.ipynb"
    assert kept.exists(), "run: make course"
    assert texts(json.loads(kept.read_text())) == texts(student(slug)), "run: make course"


def test_the_notebooks_are_valid_and_lead_to_one_another(course):
    made = sorted(course.glob("*/*.ipynb"))
    assert {path.parent.name for path in made} == {"student", "teacher"}
    for path in made:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for target in re.findall(r"\]\(([\w-]+\.ipynb)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists()
    teacher = "\n".join(texts(json.loads((course / "teacher/07-pixel-removal.ipynb").read_text())))
    assert "**Questions**" in teacher and "%%say Solution" in teacher


def test_slides_and_site_have_every_report_and_load_nothing(course):
    site = (course / "index.html").read_text(encoding="utf-8")
    assert not page_problems(site)
    for slug in (path.stem for path in (course.parent / "notebooks").glob("*.ipynb")):
        deck = (course / "slides" / f"{slug}.html").read_text(encoding="utf-8")
        assert not page_problems(deck)
        results = json.loads(PROJECT.json("default", slug).read_text())
        figures = PROJECT.html("default", slug).read_text(encoding="utf-8").count("<figure id=")
        assert deck.count("<figure>") == figures > 0
        for claim in results["claims"]:
            assert deck.count(f"<b>{claim['id']}</b>") == 2 and f"<b>{claim['id']}</b>" in site
        assert site.count(f'<article class="sheet" id="{slug}">') == 1


def test_links_lead_somewhere(course):
    ids = set(re.findall(r'\bid="([^"]+)"', (course / "index.html").read_text(encoding="utf-8")))
    glossary, _ = read_data(DATA)
    mentioned = set()
    for page in course.rglob("*.html"):
        for href in re.findall(r'href="([^"]+)"', page.read_text(encoding="utf-8")):
            address, _, place = href.partition("#")
            if address.startswith(("http", "data:")):
                continue
            target = (page.parent / address).resolve() if address else page
            assert target.exists(), f"{page.name}: {href}"
            if place.startswith("term-"):
                assert place in ids, href
                mentioned.add(place)
    assert len(mentioned) > 0.8 * len(glossary)


def test_a_term_is_linked_once_and_not_inside_code_or_formulas():
    glossary = {"map, heat map": "A picture.", "gradient": "A slope."}
    html = "<p>Maps of a <code>map</code>, heat map, a <b>gradient</b> &lt;map&gt;</p>"
    assert linked(html, glossary) == (
        '<p><a class="term" href="#term-map-heat-map">Maps</a> of a <code>map</code>, heat map, '
        'a <b><a class="term" href="#term-gradient">gradient</a></b> &lt;map&gt;</p>'
    )
    assert linked("<i>gradient</i>", glossary, but="gradient") == "<i>gradient</i>"


def test_terms_are_used_where_the_text_has_a_form_of_them():
    glossary = {"map, heat map": "A picture.", "gradient": "A slope.", "mask": "A hole."}
    html = '<h2>Mask</h2><p title="mask">Heat\nmaps, unmasked</p><pre>x = <i>mask</i></pre>'
    assert list(used(html, glossary)) == ["map, heat map"]
    assert list(used("<b>Masks</b> of gradients", glossary)) == ["gradient", "mask"]


def test_stages():
    assert stages({"a": [], "b": ["a"], "c": ["a"], "d": ["b"]}) == [["a"], ["b", "c"], ["d"]]


def test_a_sealed_answer_comes_back_whole_or_is_refused():
    code = 'x = "ä"\ncheck(answer, 1)\n'
    assert unseal(seal(code)) == code and re.fullmatch(r"[\w=-]+", seal(code))
    for word in (seal(code)[:-8], "x" + seal(code)[1:], "ä"):
        with pytest.raises(ValueError, match="take the cell anew"):
            unseal(word)


def execution(slug, notebook, folder):
    run = resolve_run(PROJECT, slug, "smoke")
    return execute(replace(run, notebook=notebook), folder, threads=1).notebook


@pytest.mark.slow
@pytest.mark.parametrize("slug", ["03-integrated-gradients", "14-animal-parts"])
def test_a_students_notebook_runs(slug, tmp_path):
    made = execution(slug, student(slug), tmp_path)
    asked = [cell for cell in made.cells if SEALED.search(cell.source)]
    assert all("Not answered yet" in str(cell.outputs) for cell in asked)


@pytest.mark.slow
def test_right_answers_to_07_pass_and_wrong_ones_are_told_why(tmp_path):
    slug = "07-pixel-removal"
    notebook = student(slug)
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        for word in SEALED.findall(cell["source"]):
            right = ast.unparse(ast.parse(unseal(word)).body[-1].value.args[1])
            for answer in (right, f"({right}) + 1", "'none'"):
                text = cell["source"].replace("answer = None", f"answer = {answer}")
                cells.append(cell | {"source": text, "id": f"try-{len(cells)}"})
    made = execution(slug, notebook | {"cells": cells}, tmp_path)
    said = [str(cell.outputs) for cell in made.cells if SEALED.search(cell.source)]
    assert len(said) == 8
    for unanswered, right, wrong, text in zip(*[iter(said)] * 4, strict=True):
        assert "Not answered yet" in unanswered
        assert "✓ Right" in right
        assert "✕ Not yet: it is too large" in wrong
        assert "a number is asked for, and this is of type `str`" in text


@pytest.mark.slow
def test_the_set_up_cell_fetches_the_project_where_it_is_missing(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a repository")
    script = """
import sys
from IPython.core.interactiveshell import InteractiveShell
here = sys.argv[1]
sys.path = [entry for entry in sys.path if entry not in ("", here)]
sys.meta_path = [f for f in sys.meta_path if "editable" not in str(f).lower()]
shell = InteractiveShell.instance()
for cell in (sys.argv[2], "import lib.report.checks", "print(lib.__file__)"):
    shell.run_cell(cell).raise_error()
"""
    words = [sys.executable, "-c", script, str(ROOT), SET_UP.format(ROOT.as_uri())]
    outside = {k: v for k, v in environment().items() if k != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "project/lib/__init__.py") in done.stdout


@pytest.mark.browser
def test_slides_turn_with_a_key_and_a_sheet_is_a_page(course):
    with browser() as tab:
        deck = course / "slides/07-pixel-removal.html"
        tab.open(deck, width=1280, height=720)
        assert tab.requests == [deck.as_uri()] and not tab.complaints
        tall = "[...document.querySelectorAll('.slide')].filter(s => s.offsetHeight > 721).length"
        assert tab.run(tall) == 0
        tab.page.keyboard.press("PageDown")
        tab.page.wait_for_function("scrollY === innerHeight")
        for width in (1280, 390):
            tab.open(course / "index.html", width=width)
            assert tab.requests == [(course / "index.html").as_uri()] and not tab.complaints
            assert tab.run("document.documentElement.scrollWidth") <= width
            tab.open(deck, width=width)
            assert tab.run("document.documentElement.scrollWidth") <= width
        tab.open(course / "index.html", width=703, height=1032)  # A4 less its margins
        tab.page.emulate_media(media="print")
        heights = "[...document.querySelectorAll('.sheet')].map(s => s.offsetHeight)"
        assert max(tab.run(heights)) <= 1032


def test_bad_input_is_told_in_one_line(tmp_path):
    root = shutil.copytree(plain_project(), tmp_path / "project")
    done = reports(root, "course")
    assert done.returncode == 2 and not (root / "course").exists()
    assert done.stderr.startswith("error: pyproject.toml: project.urls: expected Repository = ")
    shutil.copy(ROOT / "pyproject.toml", root)
    done = reports(root, "course")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "01-sample.json is missing; run: make 01-sample" in done.stderr


@pytest.mark.parametrize(
    "text, says",
    [
        ("<details><summary>Solution</summary>", "cell 1: a solution is a cell `%%say Solution`"),
        ("check(answer, 3)", "cell 1: `check` without a line `answer = None`"),
        ("check(answer, 3)\nanswer = None\n", "cell 1: `check` without a line `answer = None`"),
    ],
)
def test_a_cell_that_would_give_its_answer_away_is_refused(text, says):
    with pytest.raises(UsageError, match=re.escape(f"notebooks/x.ipynb, {says}")):
        without_answers({"cells": [{"cell_type": "code", "source": text}]}, "notebooks/x.ipynb")


def test_needs_that_cannot_be_met_are_refused():
    with pytest.raises(UsageError, match=r"notebooks/a\.ipynb: it needs b, and there is none"):
        stages({"a": ["b"]})
    with pytest.raises(UsageError, match="each needs the next: a, b, a"):
        stages({"a": ["b"], "b": ["a"]})


@pytest.mark.parametrize(
    "text, says",
    [
        ("glossary: [", "course.yaml: "),
        ("glossary: {map: [1]}", "glossary: a term and its explanation"),
        ("glossary: {}", "glossary: 'sheets'"),
        ("glossary: {}\nsheets: {01-a: {questions: []}}", "01-a: 'misconceptions'"),
        (
            "glossary: {}\nsheets: {01-a: {questions: [{ask: Why?}], misconceptions: []}}",
            "01-a: questions: expected ask and hear in each",
        ),
    ],
)
def test_a_wrong_data_file_is_refused(text, says, tmp_path):
    (tmp_path / "course.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        read_data(tmp_path / "course.yaml")
    assert "\n" not in str(error.value)


def test_the_readme_names_the_repository_by_the_same_address():
    name = repository(ROOT).removeprefix("https://github.com/")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    badges = re.findall(r"\((https://(?:mybinder|colab)[^)]+)\)", readme)
    links = [link for link in badges if "badge" not in link]
    assert len(links) == 2 and all(f"/{name}/" in link for link in links)
