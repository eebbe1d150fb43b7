"""Maps by label: what a report's seed reaches."""

import inspect

import pytest
import torch

from lib.attribution import METHODS
from lib.copies.superpixels import tiles
from lib.evaluation.maps import maps_by_label

DRAWN = {
    *("smoothgrad", "expected_gradients", "rise", "lime", "kernel_shap"),
    *("meaningful_perturbation", "random"),
}
FEW = {  # options that make a map cheap, and leave a draw to chance
    "smoothgrad": {"samples": 2},
    "expected_gradients": {"samples": 2},
    "rise": {"masks": 8},
    "lime": {"samples": 8, "segments": tiles(8)},
    "kernel_shap": {"samples": 8, "segments": tiles(8)},
    "occlusion": {"window": 8, "stride": 8},
    "meaningful_perturbation": {"iterations": 3},
}
REFUSED = {  # by the small network, whose activation is a SiLU and whose features are squared
    *("x_gradient", "deeplift", "lrp_epsilon", "lrp_z_plus", "guided_backprop", "guided_grad_cam"),
    *("attention_rollout", "token_grad_cam"),
    *("excitation_backprop", "contrastive_excitation_backprop"),
}


@pytest.mark.parametrize("method", [m for m in METHODS if m not in REFUSED])
def test_another_seed_is_another_map_exactly_where_a_method_draws(small, method):
    images, targets = torch.rand(2, 3, 32, 32), torch.tensor([1, 3])
    one, other = (
        maps_by_label(small, images, targets, {method: FEW.get(method, {})}, seed=seed)[method]
        for seed in (0, 1)
    )
    assert torch.equal(one, other) == (method not in DRAWN)


def test_who_draws_takes_a_seed_by_name():
    seeded = {m for m in METHODS if "seed" in inspect.signature(METHODS[m]).parameters}
    assert seeded == DRAWN and not seeded & REFUSED


@pytest.mark.parametrize("method", sorted(REFUSED))
def test_the_others_have_no_map(small, method):
    with pytest.raises(ValueError, match=r"defined for|needs|bias"):
        METHODS[method](small, torch.rand(2, 3, 32, 32), torch.tensor([1, 3]))
