"""What a chapter opens with, on the embedded network and photos."""

import json

import pytest
import torch

from lib.report import open_lesson
from lib.report.verdicts import above

SLUG = "07-pixel-removal"
PARAMETERS = {"classifier": "efficientnet-lite0", "images": "embedded", "limit": 5, "seed": 3}


@pytest.fixture(scope="module")
def lesson():
    return open_lesson(SLUG, PARAMETERS | {"steps": 7})  # what it does not know is not its own


def test_it_holds_the_network_the_photos_and_where_they_come_from(lesson):
    photo, target = lesson.example(2)
    assert photo.shape == (1, 3, 224, 224) and target == int(lesson.photos.targets[2])
    assert torch.equal(photo, lesson.photos.pixels()[2:3])
    facts = lesson._results["provenance"]
    assert facts["photos"] == 5 and facts["seed"] == 3
    assert facts["weights_sha256"] == lesson.network.sha256


def test_a_report_without_photos_opens_too():
    lesson = open_lesson("02-training-with-noise", {"seed": 1})
    assert lesson.seed == 1 and not hasattr(lesson, "network")


def test_rows_are_those_of_its_photos_and_named_in_the_provenance(lesson, monkeypatch, tmp_path):
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path))
    rows = lesson.rows("localization", methods={"edges": {}}, chunk=5)
    assert set(rows["photo"]) <= set(lesson.photos.names)
    assert "localization 1" in lesson._results["provenance"]["rows"]


def test_mosaics_take_all_photos_or_those_that_the_network_gets_right(lesson):
    photos, grid = lesson.mosaics("1x2")
    assert grid == [1, 2] and len(photos) == 4
    right = lesson.right()
    top = lesson.network(right.pixels()).argmax(1).cpu()
    assert torch.equal(top, right.targets)
    with pytest.raises(ValueError, match="do not fill a mosaic of 9x9"):
        lesson.mosaics("9x9")


def test_a_claim_is_judged_and_told(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORT_RESULTS", str(tmp_path / "results.json"))
    lesson = open_lesson(SLUG, {})
    steps = [float(step) for step in range(20)]
    parts = [above(steps, of=of, unit="photo") for of in ("one", "two", "three")]
    lesson.claim("PR-5", parts)
    assert lesson.judged["PR-5"].verdict == "supported"
    told = lesson.told("PR-5")
    assert told["supported"] and not told["mixed"] and told["n"] == 20
    assert list(lesson.parts("PR-5")) == ["one", "two", "three"]
    (recorded,) = json.loads((tmp_path / "results.json").read_text())["claims"]
    assert recorded["verdict"] == "supported" and len(recorded["parts"]) == 3
