"""The rows of the benchmark are what each measure's own functions give."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.attribution import gradient, rise
from lib.evaluation.benchmark import benchmark
from lib.evaluation.boxes import inside_boxes
from lib.evaluation.infidelity import infidelity, max_sensitivity, score_changes, squares
from lib.evaluation.localization import energy_in_box, pointing_game
from lib.evaluation.maps import magnitude, signed
from lib.evaluation.masking import masking_curves, masking_metrics
from lib.evaluation.removal import areas, removal_curves

METHODS = {"gradient": {}, "rise": {"masks": 20}, "random": {}}
GIVEN = {
    "methods": METHODS,
    "magnitude": ["gradient"],
    "drawn": ["rise", "random"],
    "fills": ["black", "road"],
    "fractions": [0, 0.2, 0.6, 1],
    "deletion_steps": 3,
    "squares": 12,
    "radius": 0.02,
    "steps": 2,
    "seed": 1,
}


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 60, 60, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def photos():
    box = torch.tensor([[10.0, 10, 40, 40]])
    return SimpleNamespace(targets=torch.tensor([0, 3, 1]), instances=[box, torch.empty(0, 4), box])


@pytest.fixture(scope="module")
def rows(small, photos, images):
    return benchmark(small, photos, images, GIVEN)


def value(rows, method, measure):
    some = rows[(rows["method"] == method) & (rows["measure"] == measure)]
    return some.sort_values("image")["value"].to_numpy()


def test_a_row_for_each_image_method_and_measure(rows):
    assert not rows.duplicated(["image", "method", "measure"]).any()
    removal = {f"{order} {fill}" for order in ("morf", "lerf") for fill in ("black", "road")}
    other = {"deletion", "insertion", "KPM", "KNM", "KAM", "RAM", "pointing", "energy"}
    other |= {"infidelity", "max-sensitivity", "redrawn"}
    assert set(rows["measure"]) == removal | other
    assert len(rows) == 3 * len(METHODS) * len(removal | other)
    boxless = rows["measure"].isin(["pointing", "energy"]) & (rows["image"] == 1)
    assert (rows["value"].isna() == boxless).all()


def test_each_is_what_its_own_functions_give(rows, small, photos, images):
    raw = {
        "gradient": gradient(small, images, photos.targets),
        "rise": rise(small, images, photos.targets, masks=20, seed=1),
    }
    ranked = {"gradient": magnitude(raw["gradient"]), "rise": signed(raw["rise"])}
    told = {"gradient": signed(raw["gradient"] * images), "rise": signed(raw["rise"])}
    removed = squares(images, 12, 1)
    changes = score_changes(small, images, photos.targets, removed)
    inside, boxed = inside_boxes(photos.instances, 60, 60)[[0, 2]], [0, 2]
    given, fractions = (small, images, photos.targets), GIVEN["fractions"]
    for m, map_ in ranked.items():
        options = {"order": "lerf", "fill": "road", "fractions": fractions, "seed": 1}
        curves = removal_curves(*given, map_, **options)
        expected = areas(curves, "probability", ["image"])["area"]
        np.testing.assert_allclose(value(rows, m, "lerf road"), expected, rtol=1e-4)
        masked = masking_curves(*given, signed(raw[m]), fractions=fractions[1:], seed=1)
        expected = masking_metrics(masked)["KPM"]
        np.testing.assert_allclose(value(rows, m, "KPM"), expected, rtol=1e-4)
        expected = infidelity(told[m], removed, changes)
        np.testing.assert_allclose(value(rows, m, "infidelity"), expected, rtol=1e-3)
        for name, found in (
            ("energy", energy_in_box(map_[boxed], inside, mass="positive")),
            ("pointing", pointing_game(map_[boxed], inside)),
        ):
            np.testing.assert_allclose(value(rows, m, name)[boxed], found, rtol=1e-4)
    still = max_sensitivity(
        lambda x: gradient(small, x, photos.targets), images, radius=0.02, steps=2, seed=1
    )
    np.testing.assert_allclose(value(rows, "gradient", "max-sensitivity"), still, rtol=1e-3)


def test_other_draws_change_what_is_drawn_and_nothing_else(rows):
    assert (value(rows, "gradient", "redrawn") > 1 - 1e-12).all()
    assert (abs(value(rows, "random", "redrawn")) < 0.1).all()
    assert (value(rows, "rise", "redrawn") < 0.99).all()


def test_a_map_that_is_zero_is_missing_where_it_cannot_be_measured(small, photos, images):
    blank = torch.zeros_like(images)
    rows = benchmark(small, photos, blank, GIVEN | {"methods": {"edges": {}}, "drawn": [],
                                                    "magnitude": []})  # fmt: skip
    missing = rows[rows["value"].isna()]["measure"]
    assert set(missing) == {"max-sensitivity", "pointing", "energy"}
