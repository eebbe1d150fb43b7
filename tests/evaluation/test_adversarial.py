"""Attacks and the detector: bounds, chance levels, keyed draws, exact shapes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from support.networks import relative
from torch import nn

from lib import copies
from lib.attribution import edges
from lib.copies.baselines import blurred
from lib.evaluation.adversarial import ATTACKS, attack
from lib.evaluation.detection import (
    _folds,
    apply_mask,
    detection,
    detection_accuracy,
    restoration,
    restored,
    shapes_of_area,
)
from lib.networks.classifier import Classifier

EPSILON = 8 / 255


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets(small, images):
    return small.scores(images).argmax(1)


@pytest.mark.parametrize("method", ATTACKS)
def test_attacks_stay_within_epsilon_and_raise_the_loss(small, images, targets, method):
    before = images.clone()
    found = attack(small, images, targets, method=method, epsilon=EPSILON)
    assert (found.images - images).abs().max() <= EPSILON + 1e-6
    assert found.images.min() >= 0 and found.images.max() <= 1
    loss = torch.nn.functional.cross_entropy
    assert loss(small.scores(found.images), targets) > loss(small.scores(images), targets)
    assert torch.equal(images, before) and torch.equal(found.before, targets)
    assert torch.equal(found.after, small.scores(found.images).argmax(1))
    assert torch.equal(found.success, found.after != targets)
    assert not any(p.requires_grad for p in small.parameters()) and not small.training


def test_one_step_is_the_sign_of_the_gradient(small, images, targets):
    found = attack(small, images, targets, method="fgsm", epsilon=EPSILON)

    def log_probability(batch):
        return small(batch).log_softmax(1)

    up = copies.target_gradient(log_probability, images, targets)
    expected = (images - EPSILON * up.sign()).clamp(0, 1)
    assert (found.images - expected).abs().max() < 1e-6


@pytest.mark.parametrize("method", ATTACKS)
def test_epsilon_zero_changes_nothing(small, images, targets, method):
    found = attack(small, images, targets, method=method, epsilon=0.0)
    assert torch.equal(found.images, images) and not found.success.any()


@pytest.mark.parametrize("method", ATTACKS)
def test_attacks_do_not_depend_on_batches_or_order(small, images, targets, method):
    together = attack(small, images, targets, method=method).images
    alone = attack(small, images, targets, method=method, batch_size=1).images
    back = attack(small, images.flip(0), targets.flip(0), method=method).images.flip(0)
    # a gradient of zero but for rounding may change its sign: one step of one pixel
    assert ((alone - together).abs() > 1e-5).float().mean() < 0.01
    assert ((back - together).abs() > 1e-5).float().mean() < 0.01
    if method == "pgd":
        state = torch.get_rng_state()
        other = attack(small, images, targets, method=method, seed=1).images
        assert relative(other, together) > 1e-3 and torch.equal(state, torch.get_rng_state())


def test_a_wrong_prediction_is_no_success(small, images, targets):
    found = attack(small, images, (targets + 1) % 4, epsilon=1e-6)
    assert not found.success.any() and torch.equal(found.before, targets)


def test_photos_are_fooled(classifier, pixels, photos):
    found = attack(classifier, pixels[[0, 4]], photos.targets[[0, 4]], method="bim", steps=3)
    assert found.success.all()
    assert (found.images - pixels[[0, 4]]).abs().max() <= EPSILON + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "deepfool"}, "attack 'deepfool' is unknown"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": 8.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"steps": 0}, "steps"),
    ],
)
def test_bad_options(small, images, targets, options, message):
    with pytest.raises(ValueError, match=message):
        attack(small, images, targets, **options)


def test_images_out_of_range_and_bad_targets(small, images, targets):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        attack(small, 2 * images, targets)
    with pytest.raises(ValueError, match="targets"):
        attack(small, images, targets + 4)


def noisy_rows(n=60, shift=0.0, seeds=(0, 1)):
    """Rows of one method: maps of 7 x 7 random cells, of which ``shift`` raises some."""
    sides = []
    for side, seed in zip(("clean", "adversarial"), seeds, strict=True):
        values = torch.rand(n, 49, generator=torch.Generator().manual_seed(seed)).numpy()
        values[:, :24] += shift * (side == "adversarial")
        frame = pd.DataFrame(values, columns=[f"cell {k}" for k in range(49)])
        sides.append(frame.assign(image=range(n), method="noise", side=side))
    return pd.concat(sides, ignore_index=True)


def found(rows, **options):
    return detection_accuracy(rows, **options)["noise"].to_numpy()


@pytest.mark.slow
def test_the_detector_finds_a_difference_and_only_a_difference():
    assert found(noisy_rows(shift=1.0)).mean() > 0.95
    assert abs(found(noisy_rows()).mean() - 0.5) < 0.15
    rows = noisy_rows(shift=1.0)
    swap = torch.rand(60, generator=torch.Generator().manual_seed(2)) < 0.5
    swapped = swap.numpy()[rows["image"]]
    other = rows["side"].map({"clean": "adversarial", "adversarial": "clean"})
    rows["side"] = rows["side"].where(~swapped, other)
    assert abs(found(rows).mean() - 0.5) < 0.15  # labels shuffled in pairs


def test_both_maps_of_an_image_are_in_one_fold():
    # pairs that are equal but for noise: a detector that saw one map would answer the other wrongly
    rows = noisy_rows(40, seeds=(0, 0))
    rows.loc[40:, "cell 0"] += 1e-3 * torch.rand(40).numpy()
    assert abs(found(rows).mean() - 0.5) < 0.1


def test_one_image_more_leaves_the_others_in_their_folds():
    keys = list(range(100, 336))
    all_folds = _folds(keys, 5, seed=0)
    assert np.bincount(all_folds).tolist() == [48, 47, 47, 47, 47]
    without = _folds(keys[:20] + keys[21:], 5, seed=0)
    assert (np.delete(all_folds, 20) != without).sum() <= 4  # at most one beside each border
    assert (_folds(keys, 5, seed=1) != all_folds).mean() > 0.5


def test_detector_refusals():
    rows = noisy_rows(4)
    with pytest.raises(ValueError, match="4 images cannot be split into 5"):
        detection_accuracy(rows)
    with pytest.raises(ValueError, match="pairs"):
        detection_accuracy(rows[:-1], folds=2)
    with pytest.raises(ValueError, match="NaN"):
        detection_accuracy(rows.replace({"cell 3": {rows["cell 3"][0]: float("nan")}}), folds=2)


class Colors(nn.Module):
    """Class k is the mean of color k, so that 0.3 of any pixel turns gray noise around."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.scale * x.mean((2, 3))


@pytest.fixture
def colors():
    return Classifier(Colors(), mean=[0.0] * 3, std=[1.0] * 3)


PARAMETERS = {"methods": {"edges": {}}, "attack": {"epsilon": 0.3}, "cells": 2, "seed": 0}


def test_cells_are_shares_of_a_maps_mass(colors, images):
    targets = colors.scores(images).argmax(1)
    attacked = attack(colors, images, targets, epsilon=0.3)
    won = attacked.success.nonzero()[:, 0]
    assert len(won) > 0
    photos = SimpleNamespace(targets=targets)
    rows = detection(colors, photos, images, PARAMETERS)
    assert rows["image"].tolist() == won.tolist() * 2
    cells = rows[[f"cell {k}" for k in range(4)]].to_numpy()
    assert cells.sum(1) == pytest.approx(1) and rows["side"].tolist()[0] == "clean"
    maps = edges(colors, attacked.images[won], attacked.after[won])[:, 0].double()
    by_hand = maps[:, 8:, :8].sum((1, 2)) / maps.sum((1, 2))  # the lower left quarter
    assert cells[len(won) :, 2] == pytest.approx(by_hand.numpy())
    none = detection(colors, photos, images, {**PARAMETERS, "attack": {"epsilon": 0.0}})
    assert len(none) == 0 and list(none) == list(rows)


def test_what_blurring_restores(colors, images):
    targets = colors.scores(images).argmax(1)
    photos = SimpleNamespace(targets=targets)
    mask = {"iterations": 2, "mask_size": 4, "mask_blur": 0.0}
    given = {"attack": {"epsilon": 0.3}, "mask": mask, "seed": 0}
    rows = restoration(colors, photos, images, given)
    attacked = attack(colors, images, targets, epsilon=0.3)
    kinds = ["mask", "box", "disc", "everything", "nothing"]
    assert rows["repair"].unique().tolist() == kinds
    assert (rows.groupby("repair").size() == int(attacked.success.sum())).all()
    by_kind = rows.groupby("repair")
    assert (by_kind.get_group("nothing")["top1"] == 0).all()  # the attack has worked
    assert by_kind["blurred"].mean()[["everything", "nothing"]].tolist() == [1, 0]
    own, box = (by_kind.get_group(name)["blurred"].to_numpy() for name in ("mask", "box"))
    assert abs(own - box).max() <= 0.5 / 256 + 1e-6  # half a pixel
    won = attacked.success
    soft = blurred(attacked.images[won])
    right = (colors.scores(soft).argmax(1) == targets[won]).double()
    assert by_kind.get_group("everything")["top1"].tolist() == right.tolist()
    none = restoration(colors, photos, images, {**given, "attack": {"epsilon": 0.0}})
    assert len(none) == 0 and list(none) == list(rows)


def test_a_mask_keeps_where_it_is_one(images):
    masks = torch.ones(5, 1, 16, 16)
    assert torch.equal(apply_mask(images, masks), images)
    assert relative(apply_mask(images, 0 * masks), blurred(images)) < 1e-6


def test_restored_counts_ranks():
    logits = torch.tensor([[0.0, 3, 2, 1], [5, 1, 2, 3]])
    frame = restored(logits, torch.tensor([1, 1]), top=(1, 3, 4))
    assert frame.to_numpy().tolist() == [[1, 1, 1], [0, 0, 1]]
    logits[0, 2] = float("nan")
    with pytest.raises(ValueError, match="logits hold NaN"):
        restored(logits, torch.tensor([1, 1]))


def test_shapes_have_the_area_and_are_centered():
    shares = torch.tensor([0.0, 0.25, 1.0])
    masks = shapes_of_area(shares, 20, 40)
    for mask in masks.values():
        assert mask.shape == (3, 1, 20, 40)
        assert [int((1 - m).sum()) for m in mask] == [0, 200, 800]
    box = 1 - masks["box"][1, 0]
    assert box[5:15, 10:30].all()
    disc = 1 - masks["disc"][1, 0]
    assert disc[10, 20] == 1 and disc[0, 0] == 0 and disc[:, 20].sum() > 14
    with pytest.raises(ValueError, match="shares"):
        shapes_of_area(torch.tensor([1.5]), 4, 4)
