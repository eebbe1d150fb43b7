"""Windows at annotated points: by hand, at borders, outside, and as rows."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from lib.attribution import edges
from lib.evaluation.parts import (
    PARTS,
    animal_parts,
    centered_gaussian,
    have_both,
    paired_parts,
    part_windows,
)


def test_a_window_is_the_mean_around_the_pixel_of_the_point():
    maps = torch.arange(100.0).view(1, 10, 10)
    points = [{"eye": [(4.0, 6.0), (4.9, 6.9)], "foot": [(5.0, 6.0)]}]
    frame = part_windows(maps, points)
    assert frame["value"].tolist() == [64, 64, 65]  # the mean of a plane is its center
    assert part_windows(maps, points, window=1)["value"].tolist() == [64, 64, 65]
    corner = [{"eye": [(0.2, 0.7)], "foot": [(9.9, 9.0)]}]
    cut = part_windows(maps, corner)["value"].tolist()
    assert cut == [maps[0, :3, :3].mean().item(), maps[0, 7:, 7:].mean().item()]
    assert part_windows(maps, points)["inside"].all()


def test_points_outside_are_counted_and_left_out():
    maps = torch.ones(2, 10, 10)
    points = [
        {"eye": [(-0.1, 3), (10.0, 3), (3, 3)], "foot": [(5, 5)]},
        {"eye": [(3, 3)], "foot": [(5, 10.0)]},
    ]
    frame = part_windows(maps, points)
    assert frame["inside"].tolist() == [False, False, True, True, True, False]
    assert frame["value"].isna().sum() == 3
    pairs = paired_parts(frame)
    assert pairs.index.tolist() == [0] and pairs.loc[0].tolist() == [1, 1]


def test_parts_are_paired_by_animal():
    maps = torch.zeros(3, 20, 20)
    maps[0, 3, 3], maps[0, 15, 15], maps[1, 3, 3] = 25, 50, 100
    points = [
        {"eye": [(3.5, 3.5), (15.5, 15.5)], "foot": [(10, 3)]},
        {"eye": [(3.5, 3.5)], "foot": [(10, 10), (3.5, 3.5)]},
        {"eye": [(3.5, 3.5)], "foot": []},
    ]
    pairs = paired_parts(part_windows(maps, points))
    assert pairs.index.tolist() == [0, 1]
    assert pairs["eye"].tolist() == [1.5, 4] and pairs["foot"].tolist() == [0, 2]
    assert have_both(points).tolist() == [True, True, False]


@pytest.mark.usefixtures("unchecked")
def test_bad_input():
    maps = torch.ones(1, 10, 10)
    points = [{"eye": [(3, 3)], "foot": []}]
    with pytest.raises(ValueError, match="no image has a point for part 'foot'"):
        part_windows(maps, points)
    with pytest.raises(ValueError, match="odd"):
        part_windows(maps, points, window=4)
    with pytest.raises(ValueError, match="2 lists of points for 1 maps"):
        part_windows(maps, points * 2)
    with pytest.raises(ValueError, match=r"maps must be \(N, H, W\)"):
        part_windows(maps[None], points)


def test_a_point_that_is_no_number_counts_as_outside():
    points = [{"eye": [(float("nan"), 3)], "foot": [(3, float("inf"))]}]
    frame = part_windows(torch.ones(1, 10, 10), points)
    assert frame["inside"].tolist() == [False, False] and frame["value"].isna().all()


def test_the_embedded_animals(photos):
    both = have_both(photos.parts)
    assert both.sum() == 5
    frame = part_windows(torch.rand(20, 224, 224), photos.parts)
    assert frame["inside"].all() and len(paired_parts(frame)) == 5


def test_a_centered_gaussian_has_the_mean_asked_for():
    shares = torch.tensor([0.001, 0.1, 0.5, 0.95])
    maps = centered_gaussian(shares, 40, 60)
    assert torch.allclose(maps.mean((1, 2)), shares, rtol=1e-4)
    assert torch.equal(maps, maps.flip(1)) and torch.equal(maps, maps.flip(2))
    assert maps.max() <= 1 and (maps[1:, 20, 30] > 0.9).all()
    # the logarithm falls with the squared distance
    drop = -maps[2].double().log()
    assert drop[20, 50] / drop[20, 40] == pytest.approx((20.5**2 + 0.25) / (10.5**2 + 0.25), 1e-3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        centered_gaussian(torch.tensor([0.0]), 4, 4)


def test_the_rows_are_the_maps_at_the_points(classifier, photos, pixels):
    parameters = {"methods": {"edges": {}}, "window": 5, "seed": 0, "center": "edges"}
    chosen = have_both(photos.parts).nonzero()[:, 0]
    tiny = pixels / 10  # edges stay in [0, 1], as their Gaussian's mean has to
    rows = animal_parts(classifier, photos, tiny, parameters)
    assert rows["method"].value_counts().to_dict() == {"edges": 5, "centered Gaussian": 5}
    own, center = (rows[rows["method"] == name] for name in ("edges", "centered Gaussian"))
    assert own["image"].tolist() == chosen.tolist() == center["image"].tolist()
    maps = edges(classifier, tiny[chosen], photos.targets[chosen])[:, 0]
    means = paired_parts(part_windows(maps, [photos.parts[i] for i in chosen.tolist()]))
    assert own[["eye", "foot"]].to_numpy() == pytest.approx(means.to_numpy())
    assert own["peak"].tolist() == pytest.approx(maps.amax((1, 2)).tolist())
    assert center["mean"].tolist() == pytest.approx(own["mean"].tolist(), rel=1e-3)
    assert (center["eye"] > center["foot"]).mean() > 0.5  # photographers put faces in the middle
    no_animal = photos.subset([1])
    nothing = animal_parts(classifier, no_animal, tiny[:1], parameters)
    assert len(nothing) == 0 and list(nothing) == list(rows)


def test_the_annotated_animals_of_the_thousand():
    table = pd.read_csv(Path(__file__).parents[2] / "params/thousand/points.csv")
    parts = table.groupby("file")["part"].agg(set)
    assert len(parts) == 45 and (parts == set(PARTS)).all()
    assert (table[["x", "y"]] >= 0).all(axis=None)
