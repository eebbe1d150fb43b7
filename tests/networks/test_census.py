"""How torchvision's networks end, where the ending is known."""

import pandas as pd
import pytest
import torch

from lib.core import runtime
from lib.networks.census import FAMILIES, POOLED, census, last_operations


@pytest.mark.parametrize(
    "name, ending",
    [
        ("resnet18", POOLED),
        ("mobilenet_v2", POOLED),  # pools in its forward, not in a module
        ("alexnet", "relu, linear"),
        ("vgg11", "relu, linear"),
        ("squeezenet1_1", "relu, pooling"),
        ("mobilenet_v3_small", "hardswish, linear"),
        ("convnext_tiny", "normalization, linear"),
        ("vit_b_32", "normalization, linear"),
    ],
)
def test_known_endings(name, ending):
    assert ", ".join(last_operations(name)) == ending


def test_building_without_memory_leaves_no_trace():
    last_operations("regnet_y_128gf")  # 645 million weights
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"


def test_every_network_has_a_family_and_a_year(monkeypatch):
    monkeypatch.setattr("lib.networks.census.last_operations", lambda name: ["a", "b"])
    models = runtime.torchvision().models
    whole = census()
    assert whole["network"].tolist() == models.list_models(module=models)
    by_name = whole.set_index("network")
    assert by_name.loc["swin_v2_t", "family"] == "swin_v2"
    assert by_name.loc["swin_t", "family"] == "swin"
    assert by_name.loc["wide_resnet50_2", "year"] == 2016
    families = pd.read_csv(FAMILIES)
    assert (
        set(whole["family"]) == set(families["family"]) and families["year"].is_monotonic_increasing
    )
    assert len(census(every_size=False)) == len(families)
