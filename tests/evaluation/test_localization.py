"""Energy in box and pointing game on maps whose answers are known."""

import math
from types import SimpleNamespace

import pytest
import torch

from lib.attribution import METHODS, edges
from lib.evaluation.boxes import inside_boxes
from lib.evaluation.localization import energy_in_box, localization, pointing_game, within
from lib.evaluation.maps import heat, signed


@pytest.fixture
def inside():
    return inside_boxes([torch.tensor([[10.0, 20, 20, 40]])], 60, 50)  # columns 10..19, rows 20..39


def peak(row, column, value=1.0):
    maps = torch.zeros(1, 60, 50)
    maps[0, row, column] = value
    return maps


def test_a_uniform_map_has_the_share_of_the_box(inside):
    assert energy_in_box(torch.ones(1, 60, 50), inside).item() == pytest.approx(200 / 3000)


def test_energy_of_the_positive_part_and_of_the_size_differ(inside):
    maps = torch.zeros(1, 60, 50)
    maps[0, 25, 12], maps[0, 0, 0], maps[0, 26, 12] = 3.0, 1.0, -4.0
    assert energy_in_box(maps, inside, mass="positive").item() == pytest.approx(3 / 4)
    assert energy_in_box(maps, inside).item() == pytest.approx(7 / 8)
    assert energy_in_box(7 * maps, inside).item() == pytest.approx(7 / 8)


def test_several_objects_count_together():
    boxes = [torch.tensor([[0.0, 0, 5, 5], [3, 3, 8, 8]])]  # they overlap in 2 x 2 pixels
    inside = inside_boxes(boxes, 10, 10)
    assert energy_in_box(torch.ones(1, 10, 10), inside).item() == pytest.approx(46 / 100)


@pytest.mark.parametrize(
    ("row", "column", "hit"),
    [
        (30, 15, 1),  # inside
        (30, 19 + 15, 1),  # at exactly the tolerance: hits
        (30, 19 + 16, 0),  # one pixel beyond
        (39 + 12, 19 + 9, 1),  # a corner, 12-9-15 triangle
        (39 + 12, 19 + 10, 0),
    ],
)
def test_the_boundary_of_the_tolerance(inside, row, column, hit):
    assert pointing_game(peak(row, column), inside).item() == hit


def test_without_tolerance_only_the_object_counts(inside):
    assert pointing_game(peak(20, 10), inside, tolerance=0).item() == 1
    assert pointing_game(peak(19, 10), inside, tolerance=0).item() == 0


def test_ties_are_averaged_and_a_constant_map_scores_chance(inside):
    maps = peak(30, 15) + peak(0, 49) + peak(59, 49)
    assert pointing_game(maps, inside).item() == pytest.approx(1 / 3)
    chance = within(inside, 15).float().mean()
    torch.testing.assert_close(pointing_game(torch.full((1, 60, 50), 2.0), inside)[0], chance)


def test_the_peak_is_the_largest_value_not_the_largest_size(inside):
    maps = peak(30, 15, -5.0) + peak(0, 49, 1.0)
    assert pointing_game(maps, inside).item() == 0
    assert pointing_game(maps.abs(), inside).item() == 1


def test_rows_are_independent_and_inputs_stay(inside):
    maps, masks = torch.cat([peak(30, 15), peak(0, 49)]), inside.repeat(2, 1, 1)
    copy = maps.clone()
    assert pointing_game(maps, masks).tolist() == [1, 0]
    assert energy_in_box(maps, masks).tolist() == [1, 0]
    assert torch.equal(maps, copy)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("measure", [energy_in_box, pointing_game])
def test_bad_input(measure, inside):
    ones = torch.ones(1, 60, 50)
    with pytest.raises(ValueError, match="image 0 has no"):
        measure(torch.zeros(1, 60, 50), inside)
    assert math.isnan(measure(torch.zeros(1, 60, 50), inside, empty="nan").item())
    with pytest.raises(ValueError, match="image 0 has no object"):
        measure(ones, torch.zeros_like(inside))
    with pytest.raises(ValueError, match="map of image 0 holds NaN"):
        measure(ones * torch.nan, inside)
    with pytest.raises(ValueError, match="one shape"):
        measure(torch.ones(1, 50, 60), inside)
    with pytest.raises(ValueError, match="Boolean"):
        measure(ones, inside.float())
    with pytest.raises(ValueError, match="empty must be"):
        measure(ones, inside, empty="zero")


def test_bad_options(inside):
    with pytest.raises(ValueError, match="mass 'negative' is unknown"):
        energy_in_box(torch.ones(1, 60, 50), inside, mass="negative")
    with pytest.raises(ValueError, match="no positive mass"):
        energy_in_box(-torch.ones(1, 60, 50), inside, mass="positive")
    with pytest.raises(ValueError, match="tolerance"):
        pointing_game(torch.ones(1, 60, 50), inside, tolerance=-1)


def test_on_the_embedded_photos(classifier, photos):
    some = photos.subset([0, 4, 14])
    maps = signed(edges(classifier, some.pixels(), some.targets))
    inside = inside_boxes(some.instances, *maps.shape[1:])
    shares = energy_in_box(maps, inside)
    assert ((shares > 0) & (shares < 1)).all()
    assert set(pointing_game(maps, inside).tolist()) <= {0.0, 1.0}


def test_the_convention_of_the_protocol(small, monkeypatch):
    """Two colors that cancel when summed count when their largest magnitude is taken."""
    colors = torch.zeros(1, 3, 60, 50)
    colors[0, 0, 25, 12], colors[0, 1, 25, 12], colors[0, 0, 0, 0] = 3.0, -3.0, 1.0
    monkeypatch.setitem(METHODS, "colors", lambda c, x, t: colors)
    boxes = [torch.tensor([[10.0, 20, 20, 40]])]
    photos = SimpleNamespace(instances=boxes, targets=torch.tensor([0]))
    given = {"methods": {"colors": {}}, "seed": 0}
    for more, energy in (({}, 0.0), ({"convention": "heat"}, 0.75)):
        rows = localization(small, photos, torch.rand(1, 3, 60, 50), given | more)
        assert rows["energy"].tolist() == pytest.approx([energy] * 2)


def test_channels_count_by_size_and_maps_by_their_positive_part():
    color = torch.tensor([[-3.0], [2.0], [1.0]]).view(1, 3, 1, 1)
    assert heat(color).tolist() == [[[3.0]]]
    assert heat(torch.tensor([-3.0, 2.0]).view(1, 1, 1, 2)).tolist() == [[[0.0, 2.0]]]
