"""The worked examples of CONTRIBUTING.md run as they stand."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lib.attribution import METHODS

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture(scope="module")
def examples() -> dict:
    names: dict = {}
    exec("import pandas as pd\nfrom collections.abc import Mapping", names)
    exec("from lib.evaluation.maps import asked_maps, signed", names)
    for block in BLOCKS:
        exec(block, names)
    return names


def test_the_method_is_short_and_its_test_passes(examples, exact):
    assert len(BLOCKS[0].splitlines()) <= 50
    examples["test_the_map_of_a_linear_function_sums_to_the_change_of_its_score"](exact)


@pytest.mark.slow
def test_the_method_explains_the_embedded_network(examples, classifier, photos):
    pixels, targets = photos.pixels()[:1], photos.targets[:1]
    method = examples["blur_integrated_gradients"]
    maps = method(classifier, pixels, targets, steps=12)
    blurred = examples["gaussian_blur"](pixels, 10.0)
    with torch.no_grad():
        change = (classifier(pixels) - classifier(blurred))[0, targets[0]]
    assert abs(maps.sum() - change) < 0.1 * abs(change)  # twelve steps of the midpoint rule
    with pytest.raises(ValueError, match="steps must be at least 1"):
        method(classifier, pixels, targets, steps=0)


def test_the_protocol_returns_tidy_rows(examples, monkeypatch):
    def corner(classifier, images, targets):
        """All mass above in the first image, below in the second."""
        maps = torch.zeros(len(images), 1, 4, 4)
        maps[0, 0, 0, 0], maps[1, 0, 3, 3] = 1, 2
        return maps

    monkeypatch.setitem(METHODS, "corner", corner)
    photos, given = SimpleNamespace(targets=torch.zeros(2).long()), {"methods": {"corner": {}}}
    rows = examples["share_in_half"](None, photos, torch.rand(2, 3, 4, 4), given | {"seed": 0})
    assert rows.to_dict("list") == {"image": [0, 1], "share": [1.0, 0.0]}
