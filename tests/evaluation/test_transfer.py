"""Masks under another perturbation: by hand, and what has no score to lose."""

import math
from types import SimpleNamespace

import pytest
import torch

from lib.copies.baselines import IMAGENET_MEAN, blurred
from lib.evaluation.transfer import carry_over, null_images, scores_under

TARGETS = torch.tensor([0, 0])


@pytest.fixture
def bright(exact):
    """Two logits: the brightness of the image, and zero."""
    return exact(lambda x: torch.stack([8 * x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], 1), channels=3)


def test_what_remains_by_hand(bright):
    images = torch.full((2, 3, 8, 8), 0.9, dtype=torch.float64)
    images[1] = 0.7
    masks = torch.ones(2, 1, 8, 8).double()
    masks[:, :, :4] = 0  # the upper half goes
    left = scores_under(bright, images, TARGETS, masks, "constant")
    mean = torch.tensor(IMAGENET_MEAN).mean().item()
    for value, level in zip(left.tolist(), (0.9, 0.7), strict=True):
        p0, pb, p = (1 / (1 + math.exp(-8 * x)) for x in (level, mean, (level + mean) / 2))
        assert value == pytest.approx((p - pb) / (p0 - pb), abs=1e-6)
    for value, expected in ((1.0, 1.0), (0.0, 0.0)):
        ends = scores_under(bright, images, TARGETS, torch.full_like(masks, value), "constant")
        assert ends.tolist() == pytest.approx([expected] * 2, abs=1e-9)


def test_what_carries_over(bright):
    """The mean color and noise darken a bright image, blur leaves a flat one as it is."""
    images = torch.full((2, 3, 16, 16), 0.9, dtype=torch.float64)
    options = {"start": "disc", "iterations": 1, "mask_size": 4, "jitter": 0}
    parameters = {"variants": {"one": options, "other": options}, "seed": 0}
    rows = carry_over(bright, SimpleNamespace(targets=TARGETS), images, parameters)
    assert len(rows) == 2 * 3 * 2
    table = rows.groupby("perturbation")[["fall", "carried", "deleted"]].mean()
    assert table["fall"]["blur"] == pytest.approx(0, abs=1e-9)  # a flat image blurs to itself
    assert 0 < table["fall"]["constant"] < 1 and 0 < table["deleted"]["constant"] <= 1
    # of the drop by the constant, blur carries nothing and noise (about as bright) nearly all
    assert 0.3 < table["carried"]["constant"] < 0.6
    first, second = (rows[rows["variant"] == v].drop(columns="variant") for v in ("one", "other"))
    assert first.reset_index(drop=True).equals(second.reset_index(drop=True))


def test_a_score_that_the_perturbation_does_not_lower_is_nan(bright):
    images = torch.full((2, 3, 8, 8), 0.1, dtype=torch.float64)  # darker than the mean color
    images[1] = 0.9
    left = scores_under(bright, images, TARGETS, torch.ones(2, 1, 8, 8).double(), "constant")
    assert left.isnan().tolist() == [True, False]


def test_null_images():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(null_images(images, "blur"), blurred(images))
    constant = null_images(images, "constant")
    assert torch.allclose(constant[1, :, 3, 5], torch.tensor(IMAGENET_MEAN))
    gray = null_images(images[:, :1], "constant")
    assert torch.allclose(gray[0], images[0, :1].mean().expand(1, 16, 16))
    noise = null_images(images, "noise")
    assert torch.equal(noise.flip(0), null_images(images.flip(0), "noise"))  # keyed by the image
    assert not torch.equal(noise, null_images(images, "noise", seed=1))
    with pytest.raises(ValueError, match="'fog' is unknown"):
        null_images(images, "fog")


@pytest.mark.usefixtures("unchecked")
def test_masks_of_another_size_are_refused(bright):
    images = torch.rand(2, 3, 8, 8).double()
    for masks in (torch.ones(1, 1, 8, 8), torch.ones(2, 1, 4, 4), torch.ones(2, 8, 8)):
        with pytest.raises(ValueError, match="do not fit the images"):
            scores_under(bright, images, TARGETS, masks.double(), "blur")
