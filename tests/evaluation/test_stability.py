"""Spearman's correlation against SciPy; small steps and many copies on quadratic functions."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr

from lib.core import draws
from lib.evaluation.agreement import copy_convergence, map_correlation, next_of_class, small_step


def test_scipy_agrees_with_ties():
    torch.manual_seed(0)
    one, other = torch.randint(0, 9, (3, 8, 7)).float(), torch.randint(0, 9, (3, 8, 7)).float()
    ours = map_correlation(one, other)
    for i in range(3):
        assert abs(ours[i] - spearmanr(one[i].flatten(), other[i].flatten()).statistic) < 1e-6


def test_only_the_order_counts():
    maps = torch.rand(2, 6, 5)
    assert torch.allclose(map_correlation(maps, maps.exp() * 3 - 1), torch.ones(2))
    assert torch.allclose(map_correlation(maps, -maps), -torch.ones(2))


@pytest.mark.usefixtures("unchecked")
def test_bad_input():
    maps = torch.rand(1, 4, 4)
    with pytest.raises(ValueError, match="constant"):
        map_correlation(maps, torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match="NaN"):
        map_correlation(maps, maps * torch.nan)
    with pytest.raises(ValueError, match="do not match"):
        map_correlation(maps, torch.rand(1, 4, 5))


PHOTOS = SimpleNamespace(targets=torch.tensor([1, 0]))
IMAGES = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def quadratic(images, curvature=1.0):
    """Logits 0 and x'Ax / 2 + x'w, A diagonal."""
    x, scale = images.flatten(1), torch.arange(1, 17).to(images)
    score = (curvature * scale * x.square() / 2 + scale * x).sum(1)
    return torch.stack([-score, score], 1)


def test_small_step_on_a_quadratic(exact):
    rows = small_step(exact(quadratic), PHOTOS, IMAGES, {"sigma": 0.1, "seed": 3})
    keys = [(key, 0) for key in draws.image_keys(IMAGES)]
    step, scale = 0.1 * draws.normal(3, keys, (16,)).double(), torch.arange(1, 17)
    before = scale * IMAGES.flatten(1) + scale
    expected = (scale * step).norm(dim=1) / before.norm(dim=1)
    assert rows["gradient"].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert rows["same"].all() and rows["probability"].max() < 1e-6  # the score is far above 0


def test_small_step_sees_another_class(exact):
    middle = exact(lambda x: quadratic(x - IMAGES, 0.0))  # both logits are 0
    rows = small_step(middle, PHOTOS, IMAGES, {"sigma": 1.0, "seed": 3})
    scores = quadratic(torch.ones(1, 1, 4, 4, dtype=torch.float64), 0.0)
    assert rows["gradient"].tolist() == [0, 0] and scores[0, 1] > 0
    assert (rows["probability"] > 0.4).all() and not rows["same"].all()


def test_convergence_on_a_quadratic(exact):
    given = {"counts": [1, 4, 64], "reference": 256, "noise": 1.0, "seed": 0}
    rows = copy_convergence(exact(quadratic), PHOTOS, IMAGES, given).set_index(["image", "copies"])
    means = rows["correlation"].unstack().mean()
    assert means[1] < means[4] < means[64] and means[64] > 0.95
    straight = exact(lambda x: quadratic(x, 0.0))
    rows = copy_convergence(straight, PHOTOS, IMAGES, given)
    assert rows["correlation"].tolist() == pytest.approx([1] * 6)  # the gradient is constant
    assert rows["variation"].nunique() == 1 or rows["variation"].std() < 1e-9
    with pytest.raises(ValueError, match="must rise"):
        copy_convergence(straight, PHOTOS, IMAGES, given | {"counts": [4, 1]})
def test_the_next_image_of_a_class():
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    assert next_of_class(labels).tolist() == [2, 4, 5, 3, 1, 0]
