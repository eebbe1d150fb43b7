"""Spearman's correlation of maps against SciPy."""

import pytest
import torch
from scipy.stats import spearmanr

from lib.evaluation.agreement import map_correlation, next_of_class


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


def test_the_next_image_of_a_class():
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    assert next_of_class(labels).tolist() == [2, 4, 5, 3, 1, 0]
