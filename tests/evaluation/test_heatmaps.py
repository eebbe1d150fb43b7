"""Heat maps of several methods: signs, channels, the paper's options, names."""

import pytest
import torch

from lib.attribution import METHODS
from lib.evaluation.heatmaps import PAPER_OPTIONS, check_methods, heatmaps
from lib.evaluation.maps import heat

TARGETS = torch.tensor([0, 3])


@pytest.fixture
def images():
    return torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def test_channels_count_by_size_and_maps_by_their_positive_part():
    color = torch.tensor([[-3.0], [2.0], [1.0]]).view(1, 3, 1, 1)
    assert heat(color).tolist() == [[[3.0]]]
    assert heat(torch.tensor([-3.0, 2.0]).view(1, 1, 1, 2)).tolist() == [[[0.0, 2.0]]]


def test_each_map_is_its_method_with_the_paper_options(small, images):
    maps = heatmaps(
        small, images, TARGETS, ["gradient", "occlusion"], {"occlusion": {"stride": 13}}
    )
    gradient = METHODS["gradient"](small, images, TARGETS)
    assert torch.equal(maps["gradient"], gradient.abs().amax(1))
    options = {**PAPER_OPTIONS["occlusion"], "stride": 13}
    occlusion = METHODS["occlusion"](small, images, TARGETS, **options)
    assert torch.allclose(maps["occlusion"], occlusion.clamp(min=0)[:, 0])
    assert options["window"] == 35 and list(maps) == ["gradient", "occlusion"]


def test_an_unknown_name_is_refused_before_any_work(small, images, monkeypatch):
    monkeypatch.setitem(METHODS, "gradient", lambda *a, **k: pytest.fail("worked first"))
    for names, options in ((["gradient", "gradcam"], {}), (["gradient"], {"gradcam": {}})):
        with pytest.raises(ValueError, match="method 'gradcam' is unknown; choose from: gradient"):
            heatmaps(small, images, TARGETS, names, options)
    with pytest.raises(ValueError, match="'gradcam' is unknown"):
        check_methods(["gradcam"])
    check_methods([])
