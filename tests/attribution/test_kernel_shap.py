"""KernelSHAP against Shapley values by enumeration, Captum's, and games with a known answer."""

from itertools import permutations

import captum.attr
import numpy as np
import pytest
import torch

from lib.attribution import METHODS, kernel_shap
from lib.attribution.kernel_shap import coalitions, explain_kernel_shap
from lib.copies.superpixels import tiles
from lib.networks.blackbox import as_classifier

OPTIONS = {"score": "logit", "fill": "black", "segments": tiles(4)}
IMAGE, TARGET = torch.ones(1, 1, 8, 12, dtype=torch.float64), torch.tensor([0])


def game(exact, value):
    """A network whose logit is ``value`` of the brightness of six squares."""

    def logits(x):
        score = value(torch.nn.functional.avg_pool2d(x[:, 0], 4).flatten(1))
        return torch.stack([score, -score], 1)

    return exact(logits)


def odd(shown):
    """Products, a threshold, one superpixel that does nothing."""
    both = 3 * shown[:, 0] * shown[:, 1] - 2 * shown[:, 1] * shown[:, 2] * shown[:, 3]
    return 0.5 + both + torch.relu(shown[:, [0, 3, 5]].sum(1) - 1.5) + shown[:, 2]


def shapley(value, s):
    """The mean of a player's contribution over every order of arrival."""
    total = np.zeros(s)
    orders = list(permutations(range(s)))
    for order in orders:
        shown = torch.zeros(s + 1, s, dtype=torch.float64)
        for place, player in enumerate(order):
            shown[place + 1 :, player] = 1
        total[list(order)] += np.diff(value(shown).numpy())
    return total / len(orders)


def test_all_subsets_give_the_shapley_values(exact):
    (found,) = explain_kernel_shap(game(exact, odd), IMAGE, TARGET, samples=64, **OPTIONS)
    assert np.allclose(found.weights, shapley(odd, 6), atol=1e-12)
    assert found.weights[4] == pytest.approx(0, abs=1e-12)
    assert len(found.presence) == 64 and found.intercept == pytest.approx(0.5)


def test_captum_agrees(exact):
    network = game(exact, odd)
    mask = torch.from_numpy(tiles(4)(np.zeros((8, 12, 1))))[None, None]
    theirs = captum.attr.KernelShap(network).attribute(
        IMAGE, target=0, feature_mask=mask, n_samples=1000
    )
    ours = kernel_shap(network, IMAGE, TARGET, samples=64, **OPTIONS)
    assert (ours - theirs).abs().max() < 0.2  # it draws 1,000 copies; the values reach 2


def test_draws_are_complete_and_approach_the_values(exact):
    network, wanted = game(exact, odd), shapley(odd, 6)

    def error(samples):
        errors = []
        for seed in range(20):
            options = {**OPTIONS, "samples": samples, "seed": seed}
            (found,) = explain_kernel_shap(network, IMAGE, TARGET, **options)
            whole, nothing = found.predictions[:2]
            assert found.weights.sum() == pytest.approx(whole - nothing, abs=1e-9)
            errors.append(np.square(found.weights - wanted).mean())
        return np.mean(errors) ** 0.5

    assert error(40) < 0.6 * error(12) < 0.6  # fewer than the 64 that are exact


def test_a_linear_game_is_recovered_from_a_few_draws(exact):
    weights = torch.tensor([2.0, -1, 0.5, 0, 3, -0.25], dtype=torch.float64)
    linear = game(exact, lambda shown: shown @ weights + 0.7)
    (found,) = explain_kernel_shap(linear, IMAGE, TARGET, samples=40, **OPTIONS)
    assert np.allclose(found.weights, weights, atol=1e-9)
    assert found.r2 == pytest.approx(1)


def test_sizes_are_drawn_by_the_kernel():
    shown, weight = coalitions(20, 40_002)
    assert shown[0].all() and not shown[1].any() and weight[:2].tolist() == [0, 0]
    assert (shown[2::2] == ~shown[3::2]).all() and set(weight[2:]) == {1}
    sizes = np.arange(1, 20)
    expected = 1 / (sizes * (20 - sizes))
    expected /= expected.sum()
    counted = np.bincount(shown[2:].sum(1), minlength=21)[1:20] / 40_000
    assert np.abs(counted - expected).max() < 5 * np.sqrt(0.25 / 20_000)
    assert np.abs(shown[2:].mean(0) - 0.5).max() < 1e-12  # pairs
    few, equal = coalitions(3, 9)  # all 8 subsets fit in: all, nothing, three of one, three of two
    assert len(np.unique(few[:8], axis=0)) == 8 and equal.tolist() == [0, 0, *[1 / 3] * 6, 0]


def test_images_with_other_numbers_of_superpixels_in_one_batch(exact):
    network, images = game(exact, odd), torch.cat([IMAGE, 0.9 * IMAGE])
    halves = (np.arange(12) // 6)[None].repeat(8, 0)
    six = tiles(4)(np.zeros((8, 12, 1)))
    options = OPTIONS | {"segments": [six, halves]}
    both = explain_kernel_shap(network, images, torch.tensor([0, 0]), samples=50, **options)
    options = OPTIONS | {"segments": [halves]}
    (alone,) = explain_kernel_shap(network, images[1:], TARGET, samples=50, batch_size=3, **options)
    assert [len(found.weights) for found in both] == [6, 2]
    assert np.allclose(both[1].weights, alone.weights)
    assert len(alone.presence) == 4


def test_a_function_that_is_no_network():
    rule = as_classifier(
        lambda x: np.stack([1 - x[:, 0, :4, :4].mean((1, 2)), x[:, 0, :4, :4].mean((1, 2))], 1),
        categories=["dark", "bright"],
        name="rule",
    )
    maps = METHODS["kernel_shap"](
        rule, IMAGE.float(), torch.tensor([1]), samples=64, segments=tiles(4), fill="black"
    )
    assert maps[0, 0, 0, 0] == pytest.approx(1, abs=1e-5)
    assert maps[0, 0, :, 4:].abs().max() < 1e-5


@pytest.mark.slow
def test_real_network_and_photo(classifier, photos, pixels):
    few = {"samples": 60, "segments": tiles(56)}
    one = classifier, pixels[:1], photos.targets[:1]
    (found,) = explain_kernel_shap(*one, **few)
    assert found.map.shape == (1, 224, 224) and 0 < found.r2 < 1
    assert found.weights.sum() == pytest.approx(found.predictions[0] - found.predictions[1])
    assert not torch.allclose(kernel_shap(*one, seed=1, **few)[0], found.map)


@pytest.mark.usefixtures("unchecked")
def test_a_whole_number_may_be_numpys(exact):
    network = game(exact, odd)
    ours = kernel_shap(network, IMAGE, TARGET, samples=np.int64(40), **OPTIONS)
    assert torch.equal(ours, kernel_shap(network, IMAGE, TARGET, samples=40, **OPTIONS))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 3}, "samples must be a whole number from 4, not 3"),
        ({"samples": 9.5}, "samples must be a whole number from 4"),
        ({"samples": True}, "samples must be a whole number from 4, not True"),
        ({"score": "loss"}, "score 'loss' is unknown"),
        ({"fill": "pink"}, "fill 'pink' is unknown"),
        (
            {"segments": tiles(100)},
            "image 0: the whole image is one superpixel; at least two are needed",
        ),
    ],
)
def test_bad_input_is_one_clear_error(exact, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        explain_kernel_shap(game(exact, odd), IMAGE, TARGET, **{**OPTIONS, "samples": 5, **options})
    assert "\n" not in str(caught.value)
