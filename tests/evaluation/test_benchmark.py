"""The rows of the benchmark are what each measure's own functions give."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from lib.attribution import METHODS
from lib.evaluation.benchmark import benchmark
from lib.evaluation.boxes import inside_boxes
from lib.evaluation.infidelity import infidelity, max_sensitivity, score_changes, squares
from lib.evaluation.insertion_deletion import insertion_deletion_curves
from lib.evaluation.localization import energy_in_box, pointing_game
from lib.evaluation.maps import magnitude, signed
from lib.evaluation.masking import METRICS, masking_curves, masking_metrics
from lib.evaluation.removal import areas, removal_curves

GIVEN = {
    "methods": {
        "gradient": {},
        "smoothgrad": {"samples": 2},
        "lime": {"samples": 12, "segments": "slic"},
        "rise": {"masks": 20, "seed": 7},
        "random": {},
        "edges": {},
    },
    "magnitude": ["gradient", "smoothgrad"],
    "drawn": ["smoothgrad", "lime", "rise", "random"],
    "fills": ["black", "road"],
    "fractions": [0, 0.2, 0.6, 1],
    "deletion_steps": 3,
    "squares": 12,
    "radius": 0.02,
    "steps": 2,
    "seed": 1,
}
REMOVAL = list(product(("morf", "lerf"), GIVEN["fills"]))
MEASURES = {*map(" ".join, REMOVAL), "deletion", "insertion", *METRICS, "pointing", "energy"}
MEASURES |= {"infidelity", "max-sensitivity", "redrawn"}
BOXED = [0, 2]


@pytest.fixture(scope="module")
def images():
    """Noise on blocks of color, which are superpixels."""
    draw = torch.Generator().manual_seed(0)
    blocks = torch.rand(3, 3, 4, 4, generator=draw).repeat_interleave(15, 2)
    noise = torch.rand(3, 3, 60, 60, generator=draw)
    return 0.8 * blocks.repeat_interleave(15, 3) + 0.2 * noise


@pytest.fixture(scope="module")
def photos():
    box = torch.tensor([[10.0, 10, 40, 40]])
    return SimpleNamespace(targets=torch.tensor([0, 3, 1]), instances=[box, torch.empty(0, 4), box])


@pytest.fixture(scope="module")
def rows(small, photos, images):
    return benchmark(small, photos, images, GIVEN)


@pytest.fixture(scope="module")
def explain(small, photos, images):
    """``explain(method, images, seed)``: one method, called directly."""

    def call(method, x=images, seed=None):
        options = dict(GIVEN["methods"][method])
        if method in GIVEN["drawn"]:
            options["seed"] = options.get("seed", GIVEN["seed"]) if seed is None else seed
        return METHODS[method](small, x, photos.targets, **options)

    return call


def value(rows, method, measure):
    some = rows[(rows["method"] == method) & (rows["measure"] == measure)]
    return some.sort_values("image")["value"].to_numpy()


def reduced(map_, method):
    return magnitude(map_) if method in GIVEN["magnitude"] else signed(map_)


def test_a_row_for_each_image_method_and_measure(rows):
    assert not rows.duplicated(["image", "method", "measure"]).any()
    assert set(rows["measure"]) == MEASURES
    assert len(rows) == 3 * len(GIVEN["methods"]) * len(MEASURES)
    boxless = rows["measure"].isin(["pointing", "energy"]) & (rows["image"] == 1)
    assert (rows["value"].isna() == boxless).all()


@pytest.mark.parametrize("method", GIVEN["methods"])
def test_each_is_what_its_own_functions_give(rows, small, photos, images, explain, method):
    map_ = explain(method)
    ranked, given = reduced(map_, method), (small, images, photos.targets)
    options = {"fractions": GIVEN["fractions"], "seed": 1}
    expected = {}
    for order, fill in REMOVAL:
        curves = removal_curves(*given, ranked, order=order, fill=fill, **options)
        expected[f"{order} {fill}"] = areas(curves, "probability", ["image"])["area"]
    curves = insertion_deletion_curves(*given, ranked, steps=3, seed=1)
    for name, curve in curves.groupby("curve"):
        expected[name] = areas(curve, "probability", ["image"])["area"]
    shown = {"fractions": GIVEN["fractions"][1:], "seed": 1}
    masked = masking_metrics(masking_curves(*given, signed(map_), **shown))
    expected |= {name: masked[name] for name in METRICS}
    inside = inside_boxes(photos.instances, 60, 60)[BOXED]
    for name, found in (
        ("pointing", pointing_game(ranked[BOXED], inside)),
        ("energy", energy_in_box(ranked[BOXED], inside, mass="positive")),
    ):
        expected[name] = pd.Series(found, BOXED).reindex(range(3))
    removed = squares(images, 12, 1)
    told = signed(map_ * images if method in GIVEN["magnitude"] else map_)
    changes = score_changes(*given, removed)
    expected["infidelity"] = infidelity(told, removed, changes)
    moved = {"radius": 0.02, "steps": 2, "seed": 1}
    expected["max-sensitivity"] = max_sensitivity(lambda x: explain(method, x), images, **moved)
    expected["redrawn"] = np.ones(3)
    if method in GIVEN["drawn"]:
        other = GIVEN["methods"][method].get("seed", 1) + 1
        again = reduced(explain(method, seed=other), method).flatten(1)
        pairs = zip(ranked.flatten(1), again, strict=True)
        expected["redrawn"] = [spearmanr(a, b).statistic for a, b in pairs]
    assert set(expected) == MEASURES
    for measure, values in expected.items():
        options = {"rtol": 1e-3, "atol": 1e-6, "err_msg": measure}
        np.testing.assert_allclose(value(rows, method, measure), values, **options)


def test_other_draws_change_what_is_drawn_and_nothing_else(rows):
    for method in GIVEN["methods"]:
        redrawn = value(rows, method, "redrawn")
        same = np.isclose(redrawn, 1, rtol=0, atol=1e-6)
        assert (same == (method not in GIVEN["drawn"])).all(), (method, redrawn)
    assert (abs(value(rows, "random", "redrawn")) < 0.1).all()


def test_a_map_that_is_zero_is_missing_where_it_cannot_be_measured(small, photos, images):
    blank = images * torch.tensor([0, 1, 1]).view(3, 1, 1, 1)
    given = GIVEN | {"methods": {"edges": {}}, "drawn": [], "magnitude": []}
    rows = benchmark(small, photos, blank, given)
    missing = rows[rows["value"].isna()].groupby("image")["measure"].agg(set)
    assert missing[0] == {"max-sensitivity", "redrawn", "pointing", "energy"}
    assert missing[1] == {"pointing", "energy"} and 2 not in missing  # the second has no box
