"""Infidelity and max-sensitivity: closed forms, Captum as oracle, and what a square is."""

from functools import partial

import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max

from lib.attribution import gradient, input_x_gradient
from lib.core import draws
from lib.evaluation.infidelity import (
    SIDES,
    infidelity,
    max_sensitivity,
    score_changes,
    squares,
)
from lib.evaluation.maps import signed

WEIGHTS = torch.linspace(-1, 1, 3 * 16 * 20, dtype=torch.float64).view(3, 16, 20)


@pytest.fixture
def linear(exact):
    return exact(lambda x: torch.stack([(WEIGHTS * x).sum((1, 2, 3)), x.sum((1, 2, 3))], 1), 3)


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 20, dtype=torch.float64)


TARGETS = torch.tensor([0, 1, 0])


@pytest.mark.parametrize("scaled", [True, False])
def test_the_exact_gradient_of_a_linear_model_foretells_every_change(linear, images, scaled):
    removed = squares(images, 40)
    changes = score_changes(linear, images, TARGETS, removed)
    maps = signed(input_x_gradient(linear, images, TARGETS))
    size = changes.square().mean(1)
    assert (infidelity(maps, removed, changes, scaled=scaled) < 1e-10 * size).all()
    wrong = infidelity(maps + 0.1 * torch.rand_like(maps), removed, changes, scaled=scaled)
    assert (wrong > 1e-5 * size).all()


def test_from_another_baseline_the_contribution_is_counted_from_there(linear, images):
    removed = squares(images, 40)
    changes = score_changes(linear, images, TARGETS, removed, baseline="white")
    away = gradient(linear, images, TARGETS) * (images - 1)
    assert (infidelity(signed(away), removed, changes, scaled=False) < 1e-10).all()


def test_a_map_that_knows_nothing_foretells_no_more_than_zero_does(linear, images):
    removed = squares(images, 500)
    changes = score_changes(linear, images, TARGETS, removed)
    size = changes.double().square().mean(1).float()
    nothing = infidelity(torch.zeros(3, 16, 20), removed, changes)
    torch.testing.assert_close(nothing, size)
    noise = infidelity(torch.randn(3, 16, 20), removed, changes)
    assert (noise <= nothing * (1 + 1e-6)).all(), "the best factor is at least as good as 0"


def test_the_unit_of_a_map_matters_only_unscaled(linear, images):
    removed = squares(images, 40)
    changes = score_changes(linear, images, TARGETS, removed)
    maps = torch.randn(3, 16, 20)
    expected = infidelity(maps, removed, changes)
    torch.testing.assert_close(infidelity(-1e3 * maps, removed, changes), expected)
    other = infidelity(-1e3 * maps, removed, changes, scaled=False)
    assert (other > infidelity(maps, removed, changes, scaled=False)).all()


@pytest.mark.parametrize("scaled", [True, False])
def test_captum_says_the_same_of_the_same_squares(small, scaled):
    images, targets = torch.rand(2, 3, 16, 20), torch.tensor([0, 2])
    removed = squares(images, 30, seed=3)
    map_ = gradient(small, images, targets)
    ours = infidelity(
        signed(map_ * images),
        removed,
        score_changes(small, images, targets, removed),
        scaled=scaled,
    )

    def remove(repeated):
        change = repeated * removed.flatten(0, 1)[:, None]
        return change, repeated - change

    theirs = captum_infidelity(
        small, remove, images, map_, target=targets, n_perturb_samples=30, normalize=scaled
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


def test_squares_are_squares_within_the_image_and_cover_it(images):
    masks = squares(images, 400)
    rows, columns = masks.any(3).sum(2), masks.any(2).sum(2)
    assert torch.equal(rows, columns) and torch.equal(masks.sum((2, 3)), rows * columns)
    assert rows.min() == 1 and rows.max() == round(SIDES[1] * 16)
    assert squares(images, 4000).any(1).all(), "no pixel is out of reach"
    assert torch.equal(squares(images.flip(0), 400).flip(0), masks), "drawn by the image"
    assert torch.equal(squares(images, 7), masks[:, :7])
    assert not torch.equal(squares(images, 400, seed=1), masks)


def test_a_linear_models_gradient_holds_still(linear, images):
    explain = partial(gradient, linear, targets=TARGETS)
    assert (max_sensitivity(lambda x: explain(x), images) < 1e-12).all()
    assert (max_sensitivity(lambda x: x * explain(x), images) > 1e-3).all()


def test_the_largest_of_steps_that_can_be_computed(images):
    """Of the map x itself, the change is the step."""
    keys = draws.image_keys(images)
    steps = torch.stack([
        0.1 * (2 * draws.uniform(5, [(key, k) for key in keys], images.shape[1:]) - 1)
        for k in range(4)
    ])  # fmt: skip
    assert steps.abs().max() <= 0.1
    expected = steps.flatten(2).norm(dim=2).amax(0) / images.flatten(1).norm(dim=1)
    found = max_sensitivity(lambda x: x, images, radius=0.1, steps=4, seed=5)
    torch.testing.assert_close(found, expected, check_dtype=False)
    more = max_sensitivity(lambda x: x, images, radius=0.1, steps=5, seed=5)
    assert (more >= found).all()
    assert not max_sensitivity(lambda x: x, images, radius=0.0).any()


def test_captum_finds_about_the_same_maximum(small):
    images, targets = torch.rand(2, 3, 12, 12), torch.tensor([0, 1])

    def explain(batch, target):
        pixels = batch[0] if isinstance(batch, tuple) else batch
        return (gradient(small, pixels, target).contiguous(),)

    ours = max_sensitivity(lambda x: explain(x, targets)[0], images, steps=30)
    given = {"target": targets, "n_perturb_samples": 30, "max_examples_per_batch": 2}
    theirs = sensitivity_max(explain, images, **given)
    torch.testing.assert_close(ours, theirs, rtol=0.3, atol=0)


@pytest.mark.usefixtures("unchecked")
def test_bad_input(linear, images):
    removed = squares(images, 2)
    with pytest.raises(ValueError, match="squares must be at least 1"):
        squares(images, 0)
    with pytest.raises(ValueError, match="do not fit"):
        infidelity(torch.rand(3, 16, 20), removed, torch.rand(3, 3))
    with pytest.raises(ValueError, match="image 1 holds NaN"):
        broken = torch.rand(3, 16, 20)
        broken[1, 2, 3] = torch.nan
        infidelity(broken, removed, torch.rand(3, 2))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        max_sensitivity(lambda x: x, images, steps=0)
    with pytest.raises(ValueError, match="no value other than zero"):
        max_sensitivity(torch.zeros_like, images)
    assert max_sensitivity(torch.zeros_like, images, empty="nan").isnan().all()
