"""Two runs side by side: what turned comes first, and the exit code says whether anything did."""

import copy
import json
import re
import subprocess

import pytest
from support.projects import copy_of_built, judged_project, reports

from lib.builder.check import page_problems
from lib.builder.contrast import contrast, read_side
from lib.builder.workspace import Project, UsageError


@pytest.fixture(scope="module")
def judged():
    """The results of the report whose claims have parts."""
    return json.loads((judged_project() / "reports/default/04-judged.json").read_text())


def turned(results):
    """The same results with one verdict turned and one estimate moved."""
    other = copy.deepcopy(results)
    claim = next(c for c in other["claims"] if c["verdict"] == "supported")
    claim["verdict"] = claim["parts"][0]["verdict"] = "inconclusive"
    return other, claim["id"]


@pytest.mark.slow
def test_nothing_differs_from_itself(judged):
    found = contrast(judged, judged)
    assert not found["tally"]["CHANGED"] and not found["parameters"]
    elsewhere = judged | {"provenance": judged["provenance"] | {"commit": "a" * 40}}
    assert not contrast(judged, elsewhere)["tally"]["CHANGED"]  # the same numbers, made elsewhere
    assert not any(row["turned"] for row in found["claims"])


@pytest.mark.slow
def test_what_turned_comes_first(judged):
    other, name = turned(judged)
    other["parameters"] = judged["parameters"] | {"steps": 99}
    found = contrast(judged, other)
    assert found["claims"][0]["old"]["id"] == name and found["claims"][0]["turned"]
    assert found["tally"]["CHANGED"] >= 2
    assert [row[0] for row in found["parameters"]] == ["steps"]


@pytest.mark.slow
def test_both_intervals_stand_on_one_axis(judged):
    parts = [part for row in contrast(judged, judged)["claims"] for part in row["parts"]]
    drawn = [part for part in parts if part["axis"]]
    assert drawn
    for part in drawn:
        (low, high, at), same = part["axis"]["bars"]
        assert 0 <= low <= at <= high <= 100 and (low, high, at) == same


@pytest.mark.slow
def test_the_command_writes_a_page_and_says_so(tmp_path, judged):
    root = copy_of_built(tmp_path)
    for folder, results in (("reports/default", judged), ("other", turned(judged)[0])):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "04-judged.json").write_text(json.dumps(results))
    name = turned(judged)[1]
    same = reports(root, "compare", str(root / "reports/default"), str(root / "reports/default"))
    assert same.returncode == 0 and "they agree" in same.stdout
    differ = reports(root, "compare", str(root / "reports/default"), str(root / "other"))
    assert differ.returncode == 1 and "they differ: reports/custom/compare.html" in differ.stdout
    html = (root / "reports/custom/compare.html").read_text()
    assert not page_problems(html)
    assert re.search(rf"<h3>{name} .*?supported.*?→.*?inconclusive", html, re.DOTALL)
    assert "Only in" in html and "01-sample" in html


@pytest.mark.slow
def test_a_side_may_be_a_revision(tmp_path):
    root = copy_of_built(tmp_path)
    for words in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-qm", "all"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *words], cwd=root, check=True)
    project = Project(root)
    folder = read_side(project, "HEAD:reports/default")
    assert folder == read_side(project, str(root / "reports/default"))
    one = read_side(project, "HEAD:reports/default/02-brief.json")
    assert one == {"02-brief": folder["02-brief"]}
    for side in ("HAED:reports/default", "HAED:reports/default/02-brief.json"):
        with pytest.raises(UsageError, match=r"git knows of no such.*: fatal: .*HAED"):
            read_side(project, side)
    with pytest.raises(UsageError, match="there are no results in it"):
        read_side(project, "HEAD:notebooks")


@pytest.mark.parametrize(
    "side, says",
    [
        ("nowhere", "no such file or folder"),
        ("nowhere:reports", "git knows of no such"),
        ("nowhere:reports/a.json", "git knows of no such file"),
        ("--output=here x:y.json", "no such file or folder"),
        ("empty", "there are no results in it"),
        ("bad", "04.json is not a results file"),
    ],
)
def test_what_is_no_side_is_refused_in_one_line(tmp_path, side, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/04.json").write_text('{"report": 4}')
    given = str(tmp_path / side) if side in ("empty", "bad") else side
    with pytest.raises(UsageError, match=says) as caught:
        read_side(Project(tmp_path), given)
    assert "\n" not in str(caught.value)
