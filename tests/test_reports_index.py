"""The index: a card per report, its state, and the ledger of all claims."""

import re

import pytest
from reports_project import built_project, copy_of_built, make_project, reports

from lib.builder.check import page_problems
from lib.builder.index import card, write_index
from lib.builder.workspace import Project


def index_of(root, profile="default"):
    return write_index(Project(root), profile).read_text()


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
    for id, verdict in (("SA-1", "supported"), ("SA-2", "contradicted"), ("SA-3", "inconclusive")):
        assert f'href="01-sample.html#claim-{id}"' in sample
        assert f"{id} {verdict}" in sample
    assert re.search(r"Built in \d+ s", sample)
    assert re.search(r"\d\.\d MB", sample)
    assert "Stale" not in sample
    assert "failed" not in sample
    assert "<img" not in card_of(html, "02-quick")


def test_links_from_cards_lead_into_the_reports(html):
    for page, anchor in re.findall(r'href="([0-9a-z-]+\.html)#([^"]+)"', html):
        assert f'id="{anchor}"' in (built_project() / "reports/default" / page).read_text()


def test_the_ledger_lists_every_claim_with_its_status(html):
    ledger = re.search(r'(?s)<table class="ledger">.*</table>', html)[0]
    assert re.findall(r'<tr id="([A-Z]+-\d)"', ledger) == ["SA-1", "SA-2", "SA-3", "QU-1", "NO-1"]
    assert "4 of 5 claims measured" in html
    assert "no report yet" in ledger
    assert "[−0.500, −1.00 × 10<sup>−5</sup>]" in ledger
    assert "A &lt; B &amp; &lt;script&gt;" in ledger


def test_all_claims_of_the_real_ledger_are_listed(tmp_path):
    (tmp_path / "notebooks").mkdir()
    html = index_of(tmp_path)
    assert html.count("no report yet") == 43
    assert "No report is rendered yet" in html


def test_states(tmp_path):
    root = copy_of_built(tmp_path)
    project = Project(root)
    assert card(project, "default", "02-quick").state == "current"
    (root / "params/default/02-quick.yaml").write_text("steps: 99\n")
    assert "<b>Stale:</b> its notebook, parameters" in card_of(index_of(root), "02-quick")
    (root / "params/default/02-quick.yaml").write_text("steps: 5\n")
    (root / "reports/default/02-quick.FAILED.html").write_text("x")
    assert "The last build failed" in card_of(index_of(root), "02-quick")
    assert "This is the report before it" in card_of(index_of(root), "02-quick")
    (root / "notebooks/02-quick.ipynb").unlink()
    assert "its notebook is gone" in card_of(index_of(root), "02-quick")


def test_a_notebook_without_a_report_is_listed(tmp_path):
    root = make_project(tmp_path / "project")
    html = index_of(root)
    assert html.count("not yet rendered") == 4
    assert "<code>make 01-sample</code>" in html
    assert "A quick report" in html


def test_a_damaged_results_file_is_not_a_report(tmp_path):
    root = copy_of_built(tmp_path)
    (root / "reports/default/02-quick.json").write_text("{")
    assert "<code>make 02-quick</code>" in index_of(root)


def test_experiments_have_an_index_of_their_own(tmp_path):
    root = copy_of_built(tmp_path)
    assert reports(root, "build", "quick", "--set", "steps=9").returncode == 0
    html = (root / "reports/custom/index.html").read_text()
    assert "01-sample.html" not in html
    assert "Stale" not in card_of(html, "02-quick")
    (root / "requirements.txt").write_text("changed\n")
    assert "Stale" in card_of(index_of(root, "custom"), "02-quick")


def test_the_index_of_an_unknown_profile_is_refused(tmp_path):
    done = reports(make_project(tmp_path / "project"), "index", "--profile", "defualt")
    assert done.returncode == 2
    assert "did you mean 'default'" in done.stderr
