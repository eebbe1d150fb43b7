"""Boxes and thresholded masks: exact boxes, a model that reads a patch, every outcome."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.attribution import METHODS
from lib.copies.baselines import blurred
from lib.evaluation.deletion_regions import (
    blurred_boxes,
    box_areas,
    box_scores,
    boxes_of_area,
    smallest_boxes,
    suppressions,
    threshold_boxes,
    thresholded,
)

TARGETS = torch.zeros(2, dtype=torch.long)
PATCH = {"method": "patch"}


def patch_contrast(x):
    """The logit is the contrast in rows 8..15, columns 4..11: blurring takes it away."""
    patch = x[:, :, 8:16, 4:12]
    value = 40 * (patch - patch.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)) - 5
    return torch.stack([value, torch.zeros_like(value)], 1)


@pytest.fixture
def toy(exact):
    board = (torch.arange(32).view(-1, 1) + torch.arange(32)) % 2
    images = board.double().expand(2, 3, 32, 32).clone()
    images[1] = 1 - images[1]
    return exact(patch_contrast, channels=3), images


def bright(x0=4, y0=8, x1=12, y1=16):
    maps = torch.zeros(2, 32, 32)
    maps[:, y0:y1, x0:x1] = 1
    return maps


def test_the_box_of_a_rectangle_is_exact_at_every_threshold():
    maps = bright()
    before = maps.clone()
    boxes = threshold_boxes(maps, [0.0, 0.01, 0.5, 0.99, 1.0])
    assert boxes[:, 0].tolist() == [[0, 0, 32, 32]] * 2
    assert (boxes[:, 1:] == torch.tensor([4, 8, 12, 16])).all()
    assert torch.equal(maps, before)
    assert box_areas(boxes)[0].tolist() == [1024, 64, 64, 64, 64]


def test_boxes_at_the_border_are_not_off_by_one():
    maps = torch.zeros(1, 5, 7)
    maps[0, 0, 0], maps[0, 4, 6] = 1, 2
    assert threshold_boxes(maps, [0.5, 0.51]).tolist() == [[[0, 0, 7, 5], [6, 4, 7, 5]]]


def test_thresholds_are_relative_to_the_range():
    maps = torch.tensor([[[-3.0, -1.0, 1.0]]])
    assert threshold_boxes(maps, [0.5, 0.6]).tolist() == [[[1, 0, 3, 1], [2, 0, 3, 1]]]
    assert threshold_boxes(torch.full((1, 4, 4), 0.1), [0.3, 1.0]).tolist() == [[[0, 0, 4, 4]] * 2]
    odd = torch.rand(1, 8, 8) * 1e6 + 0.1
    assert box_areas(threshold_boxes(odd, [1.0])).item() == 1


def test_box_scores_blur_the_box_and_nothing_else(toy):
    classifier, images = toy
    boxes = torch.tensor([[[0, 0, 0, 0], [4, 8, 12, 16], [0, 0, 32, 32]]]).expand(2, 3, 4)
    scores = box_scores(classifier, images, TARGETS, boxes, batch_size=4)
    hand = images.clone()
    hand[:, :, 8:16, 4:12] = blurred(images)[:, :, 8:16, 4:12]
    for k, altered in enumerate((images, hand, blurred(images))):
        assert torch.allclose(scores[:, k], classifier(altered).softmax(1)[:, 0].cpu())


def test_the_box_of_the_patch_suppresses_everything(toy):
    classifier, images = toy
    maps = bright()
    maps[:, 0, 0] = 0.5  # a far point: below alpha = 1/2 the box is larger
    rows = suppressions(classifier, images, TARGETS, maps, [0, 0.4, 0.6])
    assert rows["area"].tolist() == [1.0, 16 * 12 / 1024, 64 / 1024] * 2
    assert (rows["suppression"] > 0.99).all()
    assert (rows.query("alpha == 0")["suppression"] == 1).all()
    elsewhere = suppressions(classifier, images, TARGETS, bright(20, 20, 28, 28), [0, 0.5])
    assert np.allclose(elsewhere["suppression"], [1, 0] * 2, atol=1e-6)
    # for class 1 blurring raises the score: nothing can be suppressed
    assert suppressions(classifier, images, TARGETS + 1, maps, [0.5])["suppression"].isna().all()


def test_the_smallest_box_of_each_level():
    rows = pd.DataFrame(
        {
            "image": [0, 0, 0, 1, 1, 2],
            "method": "a",
            "area": [1.0, 0.4, 0.1, 0.5, 0.2, 0.3],
            "suppression": [1.0, 0.9, 0.85, 0.7, 0.6, np.nan],
        }
    )
    smallest = smallest_boxes(rows, [0.8, 0.9, 0.95])
    assert smallest.loc[(0, "a")].tolist() == [0.1, 0.4, 1.0]
    assert smallest.loc[(1, "a")].tolist() == [1.0, 1.0, 1.0]  # not reached: the whole photo
    assert len(smallest) == 2  # image 2 has nothing to suppress


@pytest.fixture
def given(toy, monkeypatch):
    """What a protocol is given, with a method that knows the patch."""
    classifier, images = toy
    monkeypatch.setitem(METHODS, "patch", lambda c, x, t: bright()[: len(x), None])
    return classifier, SimpleNamespace(targets=TARGETS), images


def test_protocol_of_boxes(given):
    asked = {"methods": {"patch": PATCH}, "alphas": [0, 0.5], "shares": [64 / 1024, 1.0], "seed": 0}
    rows = blurred_boxes(*given, asked)
    assert rows["method"].eq("patch").all()
    assert rows[rows["share"].isna()]["area"].tolist() == [1, 64 / 1024] * 2
    rows = rows[rows["alpha"].isna()]
    assert rows[["x0", "y0", "x1", "y1"]].iloc[0].tolist() == [4, 8, 12, 16]
    assert rows[["image", "share"]].to_numpy().tolist() == [
        [i, s] for i in (0, 1) for s in (0.0625, 1)
    ]
    classifier, _, images = given
    gone = classifier(blurred(images))
    assert np.allclose(rows.query("share == 1")["logit"], gone[:, 0])
    assert np.allclose(rows.query("share == 1")["probability"], gone.softmax(1)[:, 0])


def test_equal_boxes_are_scored_once(toy):
    classifier, images = toy
    counted, scores = [], classifier.scores
    classifier.scores = lambda x: counted.append(len(x)) or scores(x)
    whole = suppressions(classifier, images, TARGETS, bright(), [0.0] * 50)
    assert sum(counted) == 4 and np.allclose(whole["suppression"], 1)  # intact and blurred


def test_boxes_of_one_area():
    y, x = torch.meshgrid(torch.arange(100.0), torch.arange(120.0), indexing="ij")
    hill = -((y - 30).square() + ((x - 100) / 2).square())
    for area in (400, 2500, 6000, 12000):
        (box,) = boxes_of_area(hill[None], area)
        assert abs(int(box_areas(box)) - area) <= 0.03 * area
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= 120 and box[3] <= 100
        assert box[0] <= 100 < box[2] and box[1] <= 30 < box[3]
    flat = boxes_of_area(torch.ones(1, 50, 50), 100)  # no region: the center
    assert flat.tolist() == [[20, 20, 30, 30]]
    with pytest.raises(ValueError, match="does not fit"):
        boxes_of_area(hill[None], 20000)


def cut(given, thresholds, **options):
    """Rows of a mask, by default that of the patch, which is not blurred."""
    default = {"mask": PATCH, "most": 0.3, "blur_sigma": 0.0, "seed": 0}
    return thresholded(*given, {**default, "thresholds": thresholds, **options})


def test_thresholds_at_their_ends(given):
    frame = cut(given, [0, 0.5], most=32 / 1024)
    assert len(frame) == 2 * 3 * 2 * 3  # images, perturbations, places, thresholds and the last
    kept = frame.query("threshold == 0")
    assert (kept["share"] == 0).all() and np.allclose(kept["remaining"], 1)
    half = frame.query("threshold == 0.5")
    assert np.allclose(half["share"], 64 / 1024)  # the moved region has the same area
    own = half.query("place == 'own' and perturbation == 'blur'")
    assert np.allclose(own["remaining"], 0, atol=1e-6)  # what the mask itself does
    capped = frame[frame["threshold"].isna()]
    assert np.allclose(capped["share"], 32 / 1024)
    some = capped.query("place == 'own' and perturbation == 'constant'")["remaining"]
    assert ((some > 0.01) & (some < 1)).all()  # half of the patch
    large = cut(given, [0, 0.5], most=0.9)
    assert np.allclose(large[large["threshold"].isna()]["share"], 64 / 1024)  # at most


def test_a_moved_region_misses_the_patch_somewhere(given):
    rows = [cut(given, [0.5], blur_sigma=10.0, seed=seed) for seed in range(3)]
    moved = [frame.query("place == 'moved'")["remaining"] for frame in rows]
    assert max(values.max() for values in moved) > 0.5
    assert not np.allclose(moved[0], moved[1])


def test_a_mask_that_deletes_nothing(given, monkeypatch):
    monkeypatch.setitem(METHODS, "patch", lambda c, x, t: torch.zeros(len(x), 1, 32, 32))
    frame = cut(given, [0.5])
    assert (frame["share"] == 0).all() and frame["remaining"].isna().all()  # p_0 = p_m


def test_the_mask_may_be_learned(given):
    rows = cut(given, [0.5], mask={"method": "meaningful_perturbation", "iterations": 2})
    assert set(rows["place"]) == {"own", "moved"}
    assert (rows["share"].groupby(rows["image"]).max() > 0).all()
    assert (rows[rows["threshold"].isna()]["share"] <= 0.3 + 1e-9).all()


@pytest.mark.usefixtures("unchecked")
def test_bad_input(toy):
    classifier, images = toy
    maps = bright()
    with pytest.raises(ValueError, match="alphas"):
        threshold_boxes(maps, [1.5])
    with pytest.raises(ValueError, match="NaN"):
        threshold_boxes(maps / 0, [0.5])
    with pytest.raises(ValueError, match="do not fit"):
        suppressions(classifier, images, TARGETS, maps[:, :16])
    with pytest.raises(ValueError, match="boxes must be"):
        box_scores(classifier, images, TARGETS, torch.zeros(2, 4).long())
    rows = pd.DataFrame({"image": [0], "method": ["a"], "area": [1.0], "suppression": [1.0]})
    for nothing in (float("nan"), -0.1, 0):
        with pytest.raises(ValueError, match="levels"):
            smallest_boxes(rows, [0.5, nothing])
    for nothing in (float("nan"), -0.1):
        with pytest.raises(ValueError, match="alphas"):
            threshold_boxes(maps, [0.5, nothing])
