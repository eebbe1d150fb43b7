"""Boxes and thresholded masks: exact boxes, a model that reads a patch, every outcome."""

import numpy as np
import pytest
import torch

from lib.copies.baselines import blurred
from lib.evaluation.compactness import area_of_mass
from lib.evaluation.deletion_regions import (
    box_areas,
    box_scores,
    boxes_of_area,
    smallest_boxes,
    threshold_boxes,
    thresholded_deletion,
)

TARGETS = torch.zeros(2, dtype=torch.long)


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


def test_the_smallest_box_is_the_patch(toy):
    classifier, images = toy
    maps = bright()
    maps[:, 0, 0] = 0.5  # a far point: below alpha = 1/2 the box is larger
    frame = smallest_boxes(classifier, images, TARGETS, maps, alphas=[0, 0.2, 0.4, 0.6])
    assert (frame["outcome"] == "reached").all() and (frame["area"] == 64).all()
    assert (frame["alpha"] == 0.6).all() and len(frame) == 8
    assert (frame["suppression"] > 0.99).all()


def test_every_outcome_is_told_apart(toy):
    classifier, images = toy
    elsewhere = bright(20, 20, 28, 28)
    whole = smallest_boxes(classifier, images, TARGETS, elsewhere, alphas=[0, 0.5])
    assert (whole["outcome"] == "whole").all() and (whole["area"] == 32 * 32).all()
    missed = smallest_boxes(classifier, images, TARGETS, elsewhere, alphas=[0.5])
    assert (missed["outcome"] == "missed").all() and missed["area"].isna().all()
    # for class 1 blurring raises the score: nothing can be suppressed
    excluded = smallest_boxes(classifier, images, TARGETS + 1, elsewhere, alphas=[0, 0.5])
    assert (excluded["outcome"] == "excluded").all() and excluded["area"].isna().all()


def test_levels_and_batches(classifier, pixels, photos):
    few, targets = pixels[[0, 13]], photos.targets[[0, 13]]
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    maps = -((y - 110).square() + (x - 110).square()).expand(2, 224, 224)
    frame = smallest_boxes(classifier, few, targets, maps, alphas=np.arange(0, 1, 0.1))
    area = frame.pivot(index="image", columns="level", values="area")
    assert (area.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    alone = smallest_boxes(classifier, few[1:], targets[1:], maps[1:], alphas=np.arange(0, 1, 0.1))
    assert np.allclose(alone["area"], frame.query("image == 1")["area"])


def test_boxes_of_one_area():
    y, x = torch.meshgrid(torch.arange(100.0), torch.arange(120.0), indexing="ij")
    hill = -((y - 30).square() + ((x - 100) / 2).square())
    for area in (400, 2500, 6000, 12000):
        (box,) = boxes_of_area(hill[None], [area])
        assert abs(int(box_areas(box)) - area) <= 0.03 * area
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= 120 and box[3] <= 100
        assert box[0] <= 100 < box[2] and box[1] <= 30 < box[3]
    flat = boxes_of_area(torch.ones(1, 50, 50), [100])  # no region: the center
    assert flat.tolist() == [[20, 20, 30, 30]]
    with pytest.raises(ValueError, match="does not fit"):
        boxes_of_area(hill[None], [20000])


def test_thresholded_deletion_at_its_ends(toy):
    classifier, images = toy
    masks = 1 - bright().double()
    frame = thresholded_deletion(
        classifier, images, TARGETS, masks, thresholds=[0, 0.5, 1], blur_sigma=0.0
    )
    assert len(frame) == 2 * 3 * 3
    intact = classifier(images).softmax(1)[:, 0].numpy()
    kept = frame.query("threshold == 0")
    assert (kept["share"] == 0).all() and np.allclose(kept["suppressed"], 0)
    assert np.allclose(kept["probability"], np.repeat(intact, 3)) and np.allclose(
        kept["remaining"], 1
    )
    half = frame.query("threshold == 0.5 and perturbation == 'blur'")
    assert np.allclose(half["share"], 64 / 1024)
    assert np.allclose(half["remaining"], 0, atol=1e-6)  # what the mask itself does
    hand = images.clone()
    hand[:, :, 8:16, 4:12] = blurred(images)[:, :, 8:16, 4:12]
    assert np.allclose(half["probability"], classifier(hand).softmax(1)[:, 0])
    constant = frame.query("threshold == 0.5 and perturbation == 'constant'")
    assert (constant["suppressed"] > 0.99).all()


def test_thresholded_deletion_without_anything_to_delete(toy):
    classifier, images = toy
    ones = torch.ones(2, 32, 32).double()
    frame = thresholded_deletion(classifier, images, TARGETS, ones, thresholds=[0.5])
    assert (frame["share"] == 0).all() and frame["remaining"].isna().all()  # p_0 = p_m
    frame = thresholded_deletion(classifier, images, TARGETS + 1, 1 - bright().double())
    assert frame.query("perturbation == 'blur'")["suppressed"].isna().all()  # p_b > p_0
    again = thresholded_deletion(classifier, images.flip(0), TARGETS + 1, 1 - bright().double())
    first, last = (f.query(f"image == {i}") for f, i in ((frame, 0), (again, 1)))
    assert np.allclose(first["probability"], last["probability"])  # noise is keyed by image


def test_area_of_mass():
    one = torch.zeros(1, 10, 10)
    one[0, 3, 4] = -2
    assert area_of_mass(one).item() == pytest.approx(0.01)
    assert area_of_mass(torch.full((1, 10, 10), 0.1)).item() == pytest.approx(0.5)
    assert area_of_mass(torch.full((1, 10, 10), 0.1), 1.0).item() == pytest.approx(1.0)
    two = torch.zeros(1, 10, 10)
    two[0, 0] = 1
    two[0, 1] = 3
    assert area_of_mass(two, 0.5).item() == pytest.approx(0.07)  # 20 of 40: seven pixels of 3
    assert torch.isnan(area_of_mass(0 * two, empty="nan"))
    for maps, share, message in (
        (0 * two, 0.5, "no mass"),
        (two / 0 * 0, 0.5, "NaN"),
        (two, 0.0, "share"),
    ):
        with pytest.raises(ValueError, match=message):
            area_of_mass(maps, share)


@pytest.mark.usefixtures("unchecked")
def test_bad_input(toy):
    classifier, images = toy
    maps = bright()
    with pytest.raises(ValueError, match="alphas"):
        threshold_boxes(maps, [1.5])
    with pytest.raises(ValueError, match="NaN"):
        threshold_boxes(maps / 0, [0.5])
    with pytest.raises(ValueError, match="levels"):
        smallest_boxes(classifier, images, TARGETS, maps, levels=[0])
    with pytest.raises(ValueError, match="do not fit"):
        smallest_boxes(classifier, images, TARGETS, maps[:, :16])
    with pytest.raises(ValueError, match="boxes must be"):
        box_scores(classifier, images, TARGETS, torch.zeros(2, 4).long())
    with pytest.raises(ValueError, match="'fog' is unknown"):
        thresholded_deletion(classifier, images, TARGETS, maps, perturbations=["fog"])
    with pytest.raises(ValueError, match="do not fit"):
        thresholded_deletion(classifier, images, TARGETS, maps[:1])
    with pytest.raises(ValueError, match="perturbations must be some of"):
        thresholded_deletion(classifier, images, TARGETS, maps, perturbations=[])
    for nothing in (float("nan"), -0.1):
        with pytest.raises(ValueError, match="alphas"):
            threshold_boxes(maps, [0.5, nothing])
        with pytest.raises(ValueError, match="levels"):
            smallest_boxes(classifier, images, TARGETS, maps, levels=[0.5, nothing])
    with pytest.raises(ValueError, match="empty must be"):
        area_of_mass(maps, empty="zero")
