"""The index: a card per report, its state, and the ledger of all claims."""

import base64
import json
import os
import re
import struct
import zlib

import pytest
from support.projects import built_project, copy_of_built, forge, make_project, reports

from lib.builder.build import is_current
from lib.builder.check import page_problems
from lib.builder.index import card, thumbnail, write_index
from lib.builder.overrides import resolve_run
from lib.builder.pair import damage
from lib.builder.provenance import content_hash
from lib.builder.workspace import Project
from lib.core.ledger import load_ledger

pytestmark = pytest.mark.slow


def index_of(root, profile="default"):
    write_index(Project(root), profile)
    return (root / f"reports/{profile}/index.html").read_text()


def card_of(html, slug):
    return next(c for c in re.findall(r"(?s)<article.*?</article>", html) if f"{slug}." in c)


@pytest.fixture(scope="module")
def html():
    return (built_project() / "reports/default/index.html").read_text()


def test_it_stands_alone(html):
    assert page_problems(html) == []
    assert len(html.encode()) < 100_000


def test_cards_show_picture_question_verdicts_time_and_size(html):
    sample = card_of(html, "01-sample")
    assert 'src="data:image/jpeg;base64,' in sample
    assert 'alt="A wave of about one period."' in sample
    assert '<a href="01-sample.html">A sample report</a>' in sample
    assert "Does a wave stay below one half" in sample
    for n, verdict in enumerate(("supported", "contradicted", "inconclusive"), start=1):
        assert f'href="01-sample.html#claim-SA-{n}"' in sample
        assert f"SA-{n} {verdict}" in sample
    assert re.search(r"Built in \d+ s", sample)
    assert re.search(r"\d\.\d MB", sample)
    assert "Stale" not in sample
    assert "failed" not in sample
    assert "<img" not in card_of(html, "02-brief")


def test_links_from_cards_lead_into_the_reports(html):
    for page, anchor in re.findall(r'href="([0-9a-z-]+\.html)#([^"]+)"', html):
        assert f'id="{anchor}"' in (built_project() / "reports/default" / page).read_text()


def test_the_ledger_lists_every_claim_with_its_status(html):
    ledger = re.search(r'(?s)<table class="ledger">.*</table>', html)[0]
    assert re.findall(r'<tr id="([A-Z]+-\d)"', ledger) == ["SA-1", "SA-2", "SA-3", "NO-1", "QU-1"]
    assert "4 of 5 claims measured" in html
    assert "no report yet" in ledger
    documents, field = ledger.split("<h3>Claims of the field</h3>")
    assert "3 of 4 measured; of the 2 verdicts that chance could have made" in html
    assert "QU-1" not in documents and "SA-1" not in field
    assert "<p>1 of 1 measured.</p>" in field  # an identity has no q
    assert re.search(r"−1\.\d\d</span> <span class=\"nobr\">\[−1\.\d\d, −0\.\d+\]", ledger)
    assert "A &lt; B &amp; &lt;script&gt;" in ledger


def test_each_family_has_false_discovery_rates_of_its_own(tmp_path):
    root, p = copy_of_built(tmp_path), 0.004

    def set_p(results):
        for claim in results["claims"]:
            claim["p"] = p

    forge(root, "01-sample", set_p)
    forge(root, "02-brief", set_p)
    html = index_of(root)
    rows = [row for row in html.split('<tr id="')[1:] if "q = " in row]
    rates = {row[:4]: re.search(r"q = ([\d.]+)", row)[1] for row in rows}
    of_three = p * (1 + 1 / 2 + 1 / 3)  # Benjamini and Yekutieli, equal p
    assert float(rates["SA-1"]) == pytest.approx(of_three, rel=1e-2)
    assert float(rates["QU-1"]) == pytest.approx(p)


def test_other_profiles_stand_beside_and_who_disagrees_is_said_first(tmp_path):
    root = copy_of_built(tmp_path)
    assert "thousand" not in index_of(root)
    results = json.loads((root / "reports/default/01-sample.json").read_text())
    (root / "reports/thousand").mkdir()
    results["claims"][1] |= {"verdict": "mixed", "n": 1200}
    results["claims"][2] |= {"verdict": "supported", "n": 0}  # its data cannot speak to it
    (root / "reports/thousand/01-sample.json").write_text(json.dumps(results))
    (root / "reports/thousand/02-brief.json").write_text("not a results file")
    html = index_of(root)
    assert page_problems(html) == []
    assert '<th scope="col">thousand</th>' in html
    first = html.partition('id="reports"')[0]
    assert ">SA-2</a> contradicted here, mixed under thousand." in first
    assert "SA-1" not in first and "SA-3" not in first
    row = re.search(r'(?s)<tr id="SA-2">.*?</tr>', html)[0]
    assert row.index("contradicted</span>") < row.index("mixed</span>") < row.index("n = 1,200")
    assert card(Project(root), "default", "01-sample").state == "stale"  # its page does not say it
    assert card(Project(root), "default", "02-brief").state == "current"
    assert reports(root, "build", "01-sample").returncode == 0
    page = (root / "reports/default/01-sample.html").read_text()
    assert "SA-2 is mixed in the profile thousand (n = 1,200), contradicted here." in page
    assert page.index("SA-2 is mixed") < page.index('href="#claim-SA-1"')
    assert card(Project(root), "default", "01-sample").state == "current"
    assert "Another verdict" not in index_of(root, "thousand")


def test_all_claims_of_the_real_ledger_are_listed(tmp_path):
    (tmp_path / "notebooks").mkdir()
    html = index_of(tmp_path)
    assert html.count("no report yet") == len(load_ledger())
    assert "No report is rendered yet" in html


def test_states(tmp_path):
    root = copy_of_built(tmp_path)
    project = Project(root)
    assert card(project, "default", "02-brief").state == "current"
    (root / "params/default/02-brief.yaml").write_text("steps: 99\n")
    assert "<b>Stale:</b> its notebook, parameters" in card_of(index_of(root), "02-brief")
    (root / "params/default/02-brief.yaml").write_text("steps: 5\n")
    (root / "reports/default/02-brief.FAILED.html").write_text("x")
    assert "The last build failed" in card_of(index_of(root), "02-brief")
    assert "This is the report before it" in card_of(index_of(root), "02-brief")
    (root / "notebooks/02-brief.ipynb").unlink()
    assert "its notebook is gone" in card_of(index_of(root), "02-brief")


def test_a_notebook_without_a_report_is_listed(tmp_path):
    root = make_project(tmp_path / "project")
    html = index_of(root)
    assert html.count("not yet rendered") == 4
    assert "<code>make 01-sample</code>" in html
    assert "A quick report" in html


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("02-brief.json", '"supported"', '"contradicted"', "02-brief.json was edited"),
        ("02-brief.json", '"threshold": 0.5', '"threshold": 0.50', "02-brief.json was edited"),
        ("02-brief.json", '"n": 1,', '"n": 900,\n   "n": 1,', "02-brief.json was edited"),
        ("02-brief.html", "supported", "contradicted", "02-brief.html was edited or damaged"),
        ("02-brief.html", "</html>", "", "02-brief.html was edited or damaged"),
    ],
)
def test_an_edited_file_is_neither_current_nor_believed(tmp_path, file, old, new, says):
    root = copy_of_built(tmp_path)
    project = Project(root)
    run = resolve_run(project, "02-brief", "default")
    assert is_current(run, content_hash(run))
    edit(root / "reports/default" / file, old, new)
    assert not is_current(run, content_hash(run))
    html = index_of(root)
    quick = card_of(html, "02-brief")
    assert f"<b>Damaged or edited:</b> {says}" in quick
    assert "QU-1" not in quick and 'href="02-brief.html' not in html
    assert "3 of 5 claims measured" in html
    row = re.search(r'(?s)<tr id="QU-1">.*?</tr>', html)[0]
    assert "damaged" in row and "badge" not in row
    assert "is current" not in reports(root, "build", "brief").stdout
    assert damage(project, "default", "02-brief") == ""
    assert "4 of 5 claims measured" in index_of(root)


def half_a_pair(folder):
    (folder / "02-brief.json").unlink()


def old_format(folder):
    results = json.loads((folder / "02-brief.json").read_text())
    for name in ("sha256", "build", "metrics"):
        results.pop(name)
    (folder / "02-brief.json").write_text(json.dumps(results))


def sealed_without_titles(folder):
    forge(folder.parents[1], "02-brief", lambda results: results.pop("title"))


def sealed_without_an_interval(folder):
    forge(folder.parents[1], "02-brief", lambda results: results["claims"][0].pop("interval"))


def another_report(folder):
    for kind in ("html", "json"):
        (folder / f"02-brief.{kind}").write_bytes((folder / f"01-sample.{kind}").read_bytes())


def damaged_byte(folder):
    page = (folder / "02-brief.html").read_bytes()
    (folder / "02-brief.html").write_bytes(page[:3000] + b"\xff" + page[3001:])


def deep_brackets(folder):
    (folder / "02-brief.json").write_text("[" * 200_000)


def a_folder(folder):
    (folder / "02-brief.html").unlink()
    (folder / "02-brief.html").mkdir()


def a_link_loop(folder):
    (folder / "02-brief.html").unlink()
    (folder / "02-brief.html").symlink_to("02-brief.html")


def a_pipe(folder):
    (folder / "02-brief.json").unlink()
    os.mkfifo(folder / "02-brief.json")


@pytest.mark.parametrize(
    "spoil",
    [
        half_a_pair,
        old_format,
        sealed_without_titles,
        sealed_without_an_interval,
        another_report,
        damaged_byte,
        deep_brackets,
        a_folder,
        a_link_loop,
        a_pipe,
    ],
)
def test_one_bad_file_spoils_one_card(tmp_path, spoil):
    root = copy_of_built(tmp_path)
    spoil(root / "reports/default")
    html = index_of(root)
    assert "Damaged or edited" in card_of(html, "02-brief")
    assert "SA-1 supported" in card_of(html, "01-sample")
    assert "3 of 5 claims measured" in html


@pytest.mark.parametrize("name", ["javascript:alert(1)", 'a"b<c>#d?e%41', "\udcff", "é 1", ".x"])
def test_an_odd_name_spoils_no_index(tmp_path, name):
    root = copy_of_built(tmp_path)
    for kind in ("html", "json"):
        text = (root / f"reports/default/02-brief.{kind}").read_bytes()
        (root / f"reports/default/{name}.{kind}").write_bytes(text)
    html = index_of(root)
    assert page_problems(html) == []
    assert "4 of 5 claims measured" in html
    assert html.count("<article") == 3


def cover(width, height):
    """A PNG of one color whose size stands in its head; its data are cut off."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk).decode()


@pytest.mark.parametrize("size", [(10**9, 10**9), (20_000, 20_000), (10_000, 10_000), (8, 8)])
def test_a_cover_that_cannot_be_read_is_left_out(size):
    tag = f'<img data-cover alt="x" src="data:image/png;base64,{cover(*size)}">'
    assert thumbnail(tag) == ("", "")


def test_experiments_have_an_index_of_their_own(tmp_path):
    root = copy_of_built(tmp_path)
    assert reports(root, "build", "brief", "--set", "steps=9").returncode == 0
    html = (root / "reports/custom/index.html").read_text()
    assert "01-sample.html" not in html
    assert "Stale" not in card_of(html, "02-brief")
    (root / "requirements.txt").write_text("changed\n")
    assert "Stale" in card_of(index_of(root, "custom"), "02-brief")


def test_the_index_of_an_unknown_profile_is_refused(tmp_path):
    done = reports(make_project(tmp_path / "project"), "index", "--profile", "defualt")
    assert done.returncode == 2
    assert "did you mean 'default'" in done.stderr
