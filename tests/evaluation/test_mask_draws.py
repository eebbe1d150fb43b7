"""Two draws of masks: what agrees, what it costs, and how many copies are enough."""

import numpy as np
import pandas as pd
import pytest
import torch
from support.networks import relative

from lib.attribution.rise import rise, rise_maps, rise_scores
from lib.copies.superpixels import tiles
from lib.evaluation.mask_draws import _pairs, _rise, copies_until, mask_draws

SHAPE = {"cells": 3, "probability": 0.5}
PIXELS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
PARAMETERS = {
    "rise": {"masks": 16, **SHAPE},
    "lime": {"samples": 8, "segments": tiles(4)},
    "sizes": [2, 4, 8, 16],
    "methods": {"gradient": {}, "random": {}},
    "magnitude": ["gradient"],
    "steps": 2,
    "seed": 0,
}


def test_rows(small):
    rows = mask_draws(small, None, PIXELS, PARAMETERS)
    assert list(rows.columns) == ["image", "at", "value", "method", "measure", "seconds"]
    timed = rows["measure"] == "seconds"
    assert rows[~timed]["value"].notna().all() and rows[~timed]["seconds"].isna().all()
    assert (rows[timed]["seconds"] > 0).all() and rows[timed]["value"].isna().all()
    counts = rows.groupby(["measure", "method"]).size()
    assert counts["agreement"].to_dict() == {"rise": 2 * 4, "lime": 2 * 3}  # up to samples
    assert counts["seconds"].to_dict() == {"rise": 2, "lime": 2}
    for curve in ("insertion", "deletion"):
        maps = dict.fromkeys(("rise", "lime", "gradient", "random"), 2 * 3)
        assert counts[curve].to_dict() == maps
    assert rows[rows["measure"] == "agreement"]["value"].between(-1, 1).all()


def test_the_curves_are_optional_and_a_photo_alone_gives_the_same_rows(small):
    given = {**PARAMETERS, "steps": 0}
    whole, alone = (mask_draws(small, None, some, given) for some in (PIXELS, PIXELS[1:]))
    assert set(whole["measure"]) == {"agreement", "seconds"}
    own = whole[(whole["image"] == 1) & (whole["measure"] == "agreement")]["value"]
    other = alone[alone["measure"] == "agreement"]["value"]
    assert np.allclose(own, other, atol=1e-4)


def test_the_map_is_that_of_the_first_masks(small):
    targets = torch.tensor([0, 1])
    for sizes in ([2, 4], [8, 16, 32]):
        found = _rise(small, PIXELS, targets, PARAMETERS["rise"], sizes, 0)["map"]
        assert relative(found, rise(small, PIXELS, targets, masks=16, seed=0, **SHAPE)[:, 0]) < 1e-5


def test_two_draws_are_compared_by_maps_that_share_no_mask(small):
    drawn = {**SHAPE, "seed": 0}
    scores = rise_scores(small, PIXELS[:1], torch.tensor([0]), masks=16, **drawn)
    found = dict(_pairs(PIXELS[0], scores[0], [2, 8], drawn))
    one, other = (
        rise_maps(PIXELS[:1], scores, which=which, **drawn)[0, 0, ::4, ::4].flatten()
        for which in (range(8), range(8, 16))
    )
    by_hand = pd.Series(one.numpy()).corr(pd.Series(other.numpy()), method="spearman")
    assert found[8] == pytest.approx(by_hand, abs=1e-6)
    assert len(found) == 2


def test_copies_until():
    agreement = pd.Series([0.2, 0.6, 0.9], index=[100, 400, 1600])
    assert copies_until(agreement, 0.6, 1600) == pytest.approx(400)
    assert copies_until(agreement, 0.75, 1600) == pytest.approx(800)  # halfway in the logarithm
    assert copies_until(agreement, 0.95, 1600) == 1600  # never: where the search ends
    assert copies_until(agreement, 0.75, 400) == 400
    assert copies_until(agreement, 0.1, 1600) == 100
