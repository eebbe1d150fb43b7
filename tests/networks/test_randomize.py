"""Networks that have forgotten: what is shuffled, what stays, and the original untouched."""

import pytest
import torch

from lib.core import store
from lib.networks.randomize import randomized, weighted_layers


@pytest.fixture
def images():
    return torch.rand(2, 3, 16, 16)


def weights(classifier):
    return {name: value.clone() for name, value in classifier.named_parameters()}


def test_nothing_randomized_is_the_same_network(small, images):
    made = randomized(small, 0)
    assert torch.equal(made(images), small(images))


def test_the_last_layers_are_shuffled_and_the_original_is_untouched(small, images):
    before, scores = store.digest(small.state_dict()), small(images)
    made = randomized(small, 1, seed=4)
    assert store.digest(small.state_dict()) == before and torch.equal(small(images), scores)
    last = weighted_layers(small)[-1]
    old, new = weights(small), weights(made)
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    assert changed and all(name.startswith(last) for name in changed)
    for name in old:  # the same values in another order
        assert torch.equal(old[name].flatten().sort().values, new[name].flatten().sort().values)
    again, other = randomized(small, 1, seed=4), randomized(small, 1, seed=5)
    assert torch.equal(again(images), made(images))
    assert not torch.equal(other(images), made(images))


def test_a_cascade_keeps_what_was_drawn_before(small):
    one, two = randomized(small, 1, seed=3), randomized(small, 2, seed=3)
    last = weighted_layers(small)[-1]
    assert torch.equal(one.get_submodule(last).weight, two.get_submodule(last).weight)


def test_layers_by_name(small, images):
    first = weighted_layers(small)[0]
    old, new = weights(small), weights(randomized(small, [first]))
    assert {name.rpartition(".")[0] for name in old if not torch.equal(old[name], new[name])} == {
        first
    }


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (["nowhere"], "^no layer with weights is named 'nowhere'$"),
        (999, r"^the network has \d+ layers with weights, not 999$"),
        (-1, r"^the network has \d+ layers with weights, not -1$"),
    ],
)
def test_layers_that_are_not_there_are_refused(small, layers, said):
    with pytest.raises(ValueError, match=said):
        randomized(small, layers)


def test_a_normal_draw_has_the_layers_own_mean_and_spread(small):
    made, last = randomized(small, 1, seed=2, draw="normal"), weighted_layers(small)[-1]
    old, new = small.get_submodule(last).weight, made.get_submodule(last).weight
    errors = 4 / old.numel() ** 0.5  # standard errors of the mean; of the spread 1 / sqrt(2) of it
    assert abs(new.mean() - old.mean()) < errors * old.std()
    assert abs(new.std() / old.std() - 1) < errors
    assert not set(new.flatten().tolist()) & set(old.flatten().tolist())
    with pytest.raises(ValueError, match="uniform"):
        randomized(small, 1, draw="uniform")
