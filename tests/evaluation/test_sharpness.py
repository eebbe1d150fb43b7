"""Total variation by hand, and the rows of the protocol."""

import math
from types import SimpleNamespace

import pytest
import torch

from lib.attribution import gradient
from lib.copies.baselines import gaussian_blur
from lib.evaluation.maps import magnitude, maps_by_label
from lib.evaluation.removal import areas, removal_curves
from lib.evaluation.sharpness import sharpness, total_variation


def test_hand_values():
    step = torch.zeros(1, 4, 6)
    step[0, :, 3:] = 1  # one vertical edge: 4 differences of 1; the sum is 12
    assert total_variation(step).item() == pytest.approx(4 / 24)
    dot = torch.zeros(1, 5, 5)
    dot[0, 2, 2] = -3.0
    assert total_variation(dot).item() == pytest.approx(2)
    assert total_variation(torch.full((1, 5, 7), -2.0)).item() == 0


def test_the_scale_of_a_map_does_not_matter_and_its_direction_neither():
    maps = torch.randn(3, 20, 30)
    expected = total_variation(maps)
    torch.testing.assert_close(
        total_variation(maps * torch.tensor([1e-6, 5, 1e6])[:, None, None]), expected
    )
    torch.testing.assert_close(total_variation(maps.flip(1).mT), expected)


def test_uniform_noise_is_two_thirds_and_blur_lowers_it():
    maps = torch.rand(1, 300, 300, generator=torch.Generator().manual_seed(0))
    noise = total_variation(maps).item()
    assert noise == pytest.approx(2 / 3, abs=0.01)
    assert total_variation(gaussian_blur(maps[None], 2.0)[0]).item() < noise / 4


@pytest.mark.usefixtures("unchecked")
def test_bad_input():
    with pytest.raises(ValueError, match="no value other than zero"):
        total_variation(torch.zeros(1, 4, 4))
    assert math.isnan(total_variation(torch.zeros(1, 4, 4), empty="nan").item())
    with pytest.raises(ValueError, match="NaN"):
        total_variation(torch.full((1, 4, 4), torch.nan))
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        total_variation(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="empty must be"):
        total_variation(torch.ones(1, 4, 4), empty="zero")


def test_rows_hold_what_the_functions_give(small):
    photos, images = SimpleNamespace(targets=torch.tensor([0, 3])), torch.rand(2, 3, 8, 8)
    methods = {"gradient": {}, "gradient x input": {"times_input": "gradient"}}
    given = {"methods": methods, "fractions": [0, 0.5, 1], "fill": "mean", "seed": 1}
    rows = sharpness(small, photos, images, given)
    map_ = gradient(small, images, photos.targets)
    for label, values in (("gradient", map_), ("gradient x input", images * map_)):
        found, values = rows[rows["method"] == label], magnitude(values)
        assert found["variation"].tolist() == pytest.approx(total_variation(values).tolist())
        options = {"order": "lerf", "fractions": [0, 0.5, 1], "fill": "mean", "seed": 1}
        curves = removal_curves(small, images, photos.targets, values, **options)
        expected = areas(curves, "probability", ["image"])["area"]
        assert found["lerf"].tolist() == pytest.approx(expected.tolist())
    assert "lerf" not in sharpness(small, photos, images, {"methods": methods, "seed": 1})
    with pytest.raises(KeyError, match="nothing"):
        maps_by_label(small, images, photos.targets, {"x": {"times_input": "nothing"}})
