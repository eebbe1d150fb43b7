"""RISE: masks, coverage, convergence, and what is refused."""

import numpy as np
import pytest
import torch
from skimage.transform import resize
from support.networks import relative

from lib.attribution import rise
from lib.attribution.rise import random_masks, rise_maps, rise_scores
from lib.core import draws
from lib.networks.blackbox import as_classifier

IMAGES = torch.rand(2, 3, 20, 14, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1])


def score_of(function):
    return as_classifier(
        lambda x: np.repeat(np.asarray(function(x))[:, None], 2, 1),
        categories=["a", "b"],
        outputs="logits",
    )


def test_a_constant_model_gives_a_flat_map():
    constant = score_of(lambda x: np.full(len(x), 3.0))
    maps = rise(constant, IMAGES, TARGETS, masks=5, score="logit")
    assert torch.allclose(maps, torch.full((2, 1, 20, 14), 3.0), atol=1e-5)
    # the paper's normalization does not: its map is the masks' own noise
    maps = rise(constant, IMAGES, TARGETS, masks=5, score="logit", normalize="expectation")
    assert maps.std() > 0.1


def test_pixels_that_no_mask_shows_get_the_mean_score():
    bright = score_of(lambda x: x.mean((1, 2, 3)))
    maps = rise(bright, IMAGES, TARGETS, masks=2, cells=4, probability=0.02, score="logit")
    assert torch.isfinite(maps).all()


def test_masks_are_the_ones_of_the_authors():
    """Their code with our numbers: scikit-image's bilinear enlargement, shift, cut."""
    for size, cells in (((20, 14), 4), ((224, 224), 7), ((50, 33), 8)):
        mask = random_masks(5, [(7, 3)], size, cells=cells, probability=0.4)[0]
        numbers = draws.uniform(5, [(7, 3)], (cells * cells + 2,))[0].numpy()
        cell = [-(-side // cells) for side in size]
        grid = (numbers[2:] < 0.4).reshape(cells, cells).astype("float32")
        up = resize(
            grid, [(cells + 1) * c for c in cell], order=1, mode="edge", anti_aliasing=False
        )
        y, x = (int(numbers[axis] * cell[axis]) for axis in (0, 1))
        expected = up[y : y + size[0], x : x + size[1]]
        assert np.abs(mask.numpy() - expected).max() < 1e-5


@pytest.mark.slow
def test_expectation_is_the_probability_at_the_border_too():
    masks = random_masks(0, [(1, k) for k in range(6000)], (30, 22), cells=5, probability=0.3)
    assert masks.min() >= 0 and masks.max() <= 1
    mean, error = masks.mean(0), masks.std(0) / 6000**0.5
    assert ((mean - 0.3).abs() < 5 * error).all()
    border = torch.ones(30, 22, dtype=torch.bool)
    border[4:-4, 4:-4] = False
    assert abs(mean[border].mean() - mean[~border].mean()) < 0.01


def test_masks_are_keyed_by_image_and_draw_not_by_batch():
    one = random_masks(3, [(5, 0), (5, 1), (9, 0)], (12, 12))
    two = random_masks(3, [(9, 0), (5, 1)], (12, 12))
    assert torch.equal(one[2], two[0]) and torch.equal(one[1], two[1])
    assert not torch.equal(one[0], one[1]) and not torch.equal(one[0], one[2])
    assert not torch.equal(one[0], random_masks(4, [(5, 0)], (12, 12))[0])


def test_batch_size_and_order_do_not_matter(small):
    images, targets = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 2, 3, 1])
    whole, before = rise(small, images, targets, masks=40), images.clone()
    for size in (1, 7, 1000):
        assert relative(rise(small, images, targets, masks=40, batch_size=size), whole) < 1e-5
    order = torch.tensor([4, 2, 0, 3, 1])
    assert relative(rise(small, images[order], targets[order], masks=40), whole[order]) < 1e-5
    assert torch.equal(images, before)
    assert not torch.allclose(rise(small, images, targets, masks=40, seed=1), whole)


@pytest.mark.slow
def test_one_pixel_is_found_and_the_error_falls_as_one_over_root_n():
    """f reads pixel (12, 5); with these masks the map converges to E[f M] / p."""
    read = score_of(lambda x: x[:, 0, 12, 5])
    image, target = torch.ones(1, 3, 20, 14), torch.tensor([0])

    def run(count, seed):
        maps = rise(read, image, target, masks=count, cells=4, score="logit", seed=seed)
        return maps[0, 0]

    reference = run(20000, 99)
    y, x = divmod(int(reference.argmax()), 14)
    assert abs(y - 12) <= 1 and abs(x - 5) <= 1
    error = [
        np.sqrt(np.mean([float((run(n, s) - reference).square().mean()) for s in range(12)]))
        for n in (100, 400, 1600)
    ]
    slopes = np.diff(np.log(error)) / np.log(4)
    assert np.abs(slopes + 0.5).max() < 0.15


def test_by_hand(small):
    """The definition, with the masks laid out."""
    image, target = torch.rand(1, 3, 10, 12), torch.tensor([2])
    keys = [(draws.image_keys(image)[0], k) for k in range(30)]
    masks = random_masks(0, keys, (10, 12), cells=3, probability=0.6)
    scores = small(image * masks[:, None]).softmax(1)[:, 2].view(-1, 1, 1)
    options = {"masks": 30, "cells": 3, "probability": 0.6}
    expected = (scores * masks).sum(0) / masks.sum(0)
    assert torch.allclose(rise(small, image, target, **options)[0, 0], expected, atol=1e-5)
    expected = (scores * masks).sum(0) / (30 * 0.6)
    ours = rise(small, image, target, normalize="expectation", **options)
    assert torch.allclose(ours[0, 0], expected, atol=1e-5)
    copies = image * masks[:, None] + 1 - masks[:, None]
    scores = small(copies)[:, 2].view(-1, 1, 1)
    ours = rise(small, image, target, score="logit", baseline="white", **options)
    assert torch.allclose(ours[0, 0], (scores * masks).sum(0) / masks.sum(0), atol=1e-4)


def test_global_random_state_is_left_alone(small):
    state = torch.get_rng_state()
    rise(small, torch.rand(1, 3, 8, 8, generator=torch.Generator()), torch.tensor([0]), masks=3)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"masks": 0}, "masks must be a whole number from 1, not 0"),
        ({"cells": 0}, "cells must be a whole number from 1"),
        ({"probability": 0}, "probability must lie between 0 and 1, both excluded, not 0"),
        ({"probability": 1.0}, "probability must lie between 0 and 1"),
        ({"probability": float("nan")}, "probability must lie"),
        ({"normalize": "sum"}, "normalize 'sum' is unknown"),
        ({"score": "loss"}, "score 'loss' is unknown"),
    ],
)
def test_bad_options_are_refused(small, options, message):
    with pytest.raises(ValueError, match=message) as info:
        rise(small, torch.rand(1, 3, 8, 8), torch.tensor([0]), **options)
    assert "\n" not in str(info.value)


def test_a_nan_score_of_a_network_is_refused(exact):
    broken = exact(lambda x: (x.sum((1, 2, 3)) * torch.nan).view(-1, 1))
    with pytest.raises(ValueError, match="NaN or infinite"):
        rise(broken, torch.rand(1, 1, 8, 8).double(), torch.tensor([0]), masks=2)


def test_a_target_without_a_score_is_refused(exact):
    two = exact(lambda x: x.mean((1, 2, 3))[:, None] * torch.ones(2))
    with pytest.raises(ValueError, match="target 2 does not exist: there are 2 classes"):
        rise(two, torch.rand(1, 1, 8, 8).double(), torch.tensor([2]), masks=2)


def test_maps_from_scores(small):
    """All masks give the method's map; disjoint parts add up to it."""
    images, targets = torch.rand(2, 3, 9, 11), torch.tensor([3, 1])
    scores = rise_scores(small, images, targets, masks=50, cells=4, seed=2)
    assert scores.shape == (2, 50)
    options = {"cells": 4, "seed": 2}
    whole = rise(small, images, targets, masks=50, **options)
    assert relative(rise_maps(images, scores, **options), whole) < 1e-5
    few = rise(small, images, targets, masks=20, **options)
    assert relative(rise_maps(images, scores, which=range(20), **options), few) < 1e-5
    sums = rise_maps(images, scores, normalize="expectation", **options)
    parts = [
        rise_maps(images, scores, which=part, normalize="expectation", **options)
        for part in (range(20), range(20, 50))
    ]
    assert relative((20 * parts[0] + 30 * parts[1]) / 50, sums) < 1e-5
    for bad, message in (
        ({"which": range(51)}, "does not lie in the 50 masks"),
        ({"which": range(0)}, "does not lie in the 50 masks"),
        ({"cells": 0}, "cells must be a whole number from 1"),
        ({"probability": 1.0}, "probability must lie between 0 and 1"),
        ({"normalize": "sum"}, "normalize 'sum' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            rise_maps(images, scores, **bad)
    with pytest.raises(ValueError, match="masks must be a whole number from 1, not 0"):
        rise_maps(images, scores[:, :0])
