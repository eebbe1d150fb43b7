"""Scores of maps whose answer is known."""

import pytest
import torch
from scipy.stats import spearmanr

from lib.data.constructed import PARTS, REGIONS, constructed_scenes
from lib.evaluation.ground_truth import ground_truth, region_falls


@pytest.fixture(scope="module")
def scenes():
    return constructed_scenes(6, seed=2)


@pytest.fixture(scope="module")
def removed():
    return {r: constructed_scenes(6, seed=2, without=r).images for r in REGIONS}


def table(scenes, maps, falls):
    rows = ground_truth(scenes, maps, falls)
    return rows.pivot(index=["method", "photo"], columns="measure", values="value")


def test_a_map_of_the_part_is_perfect_and_one_of_the_distractor_is_not(scenes):
    falls = torch.tensor([[3.0, 0.2, 0.1, 0.0]]).expand(6, 4)
    maps = {r: scenes.regions[r].float() for r in ("part", "distractor")}
    found = table(scenes, maps, falls)
    assert (found.loc["part", ["part", "peak"]] == 1).all(axis=None)
    assert (found.loc["part", "distractor"] == 0).all()
    assert (found.loc["distractor", ["part", "peak"]] == 0).all(axis=None)
    assert (found.loc["part", "deletion"] > found.loc["distractor", "deletion"]).all()


def test_a_flat_map_has_the_share_of_the_area_and_a_negative_one_no_mass(scenes):
    flat = torch.ones(6, 28, 28)
    found = table(scenes, {"flat": flat, "against": -flat}, torch.rand(6, 4))
    assert found.loc["flat", "part"].to_numpy() == pytest.approx(49 / 784)
    assert found.loc["flat", "peak"].to_numpy() == pytest.approx(49 / 784)
    assert found.loc["against", ["part", "distractor"]].isna().all(axis=None)


def test_single_deletion_is_spearmans_correlation_of_sums_and_falls(scenes):
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 28, 28, generator=draw)
    falls = torch.randn(6, 4, generator=draw)
    found = table(scenes, {"m": maps}, falls).loc["m", "deletion"]
    for k in range(6):
        sums = [float(maps[k][scenes.regions[r][k]].sum()) for r in PARTS]
        assert found[k] == pytest.approx(spearmanr(sums, falls[k, :3]).statistic)


def test_falls_are_those_of_the_pictures_drawn_without(scenes, removed):
    def red(images):  # one class per shape: how much red there is, times the class
        return (images[:, 0] - images[:, 2]).relu().sum((1, 2))[:, None] * torch.arange(1.0, 5)

    falls = region_falls(red, scenes, removed)
    lost = red(scenes.images) - red(removed["part"])
    assert torch.equal(falls[:, 0], lost[torch.arange(6), scenes.targets])
    assert (falls[:, 0] > 0).all()
    assert falls[:, 1].abs().max() < falls[:, 0].min()
