"""Report 16's rules where the answer is known."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

SLUG = "16-sanity-checks"
NOISE = np.linspace(-0.03, 0.03, 20)
METHODS = (
    *("gradient", "smoothgrad", "grad_cam", "guided_backprop", "guided_grad_cam"),
    *("input_x_gradient", "integrated_gradients"),
)


def after(upper=0.2, chance=0.0, n=20, **other):
    """Similarities of all methods: those of ``upper``, but what ``other`` says of one of them.

    ``other`` maps ``place__method__measure`` (two underscores) to its mean.
    """
    means = {(place, m, how): 0.2 for place in ("last", "upper") for m in METHODS for how in HOW}
    means |= {("upper", m, how): upper for m in METHODS for how in HOW}
    means |= {("chance", m, how): chance for m in METHODS for how in HOW}
    means["step", "gradient", "absolute"] = 0.6
    means |= {tuple(name.split("__")): value for name, value in other.items()}
    return pd.DataFrame({key: mean + NOISE[:n] for key, mean in means.items()})


HOW = ("absolute", "signed")


@pytest.mark.parametrize(
    ("planted", "verdict"),
    [
        ({"upper": 0.8}, "supported"),
        ({"upper": 0.3}, "contradicted"),
        ({"upper": 0.8, "upper__guided_grad_cam__signed": 0.1}, "mixed"),
        ({"upper": 0.8, "upper__guided_grad_cam__signed": 0.5}, "inconclusive"),
        ({"upper": 0.8, "chance": 0.7}, "inconclusive"),  # such a measure cannot tell
        ({"upper": 0.8, "n": 9}, "inconclusive"),
    ],
)
def test_guided_maps_hardly_depend_on_the_upper_layers(planted, verdict):
    assert judge(SLUG, "SC-1", after=after(**planted)).verdict == verdict


@pytest.mark.parametrize(
    ("planted", "verdict"),
    [
        ({"upper": 0.1}, "supported"),
        ({"upper": 0.9, "last__grad_cam__absolute": 0.9}, "contradicted"),
        ({"upper": 0.1, "last__grad_cam__absolute": 0.9}, "mixed"),
        ({"upper": 0.1, "upper__smoothgrad__absolute": 0.9}, "supported"),  # it decides nothing
    ],
)
def test_gradient_and_grad_cam_notice(planted, verdict):
    judgment = judge(SLUG, "SC-2", after=after(**planted))
    assert judgment.verdict == verdict
    assert [part.core for part in judgment.parts] == [True, True, True, False, False]


def test_a_gradient_that_noise_changes_as_much_is_told():
    noisy = judge(SLUG, "SC-2", after=after(step__gradient__absolute=0.1))
    calm = judge(SLUG, "SC-2", after=after(step__gradient__absolute=0.9))
    # planted without spread between the two: their difference is exact and decides nothing
    assert noisy.parts[4].estimate == pytest.approx(0.1)
    assert calm.parts[4].estimate == pytest.approx(-0.7)


def products(absolute, signed, chance=0.0):
    maps = ("input_x_gradient", "integrated_gradients")
    planted = {f"upper__{m}__absolute": absolute for m in maps}
    return after(chance=chance, **planted, **{f"upper__{m}__signed": signed for m in maps})


@pytest.mark.parametrize(
    ("absolute", "signed", "verdict"),
    [
        (0.8, 0.0, "supported"),
        (0.2, 0.6, "contradicted"),
        (0.8, 0.6, "mixed"),  # it kept its sign, too
        (0.8, 0.1, "inconclusive"),
    ],
)
def test_products_keep_their_size_and_lose_their_sign(absolute, signed, verdict):
    assert judge(SLUG, "SC-3", after=products(absolute, signed)).verdict == verdict


@pytest.mark.parametrize(
    ("true", "random", "verdict"),
    [
        (0.6, 0.3, "supported"),
        (0.3, 0.6, "contradicted"),
        (0.4, 0.4, "inconclusive"),
        (-0.2, -0.5, "inconclusive"),  # trainings that agree on nothing have nothing to lose
    ],
)
def test_random_labels(true, random, verdict):
    means = {"true labels": true, "random labels": random}
    sign = {"true labels": 1, "random labels": -1}
    planted = pd.DataFrame(
        {(k, m): v + sign[k] * NOISE[4:16] for k, v in means.items() for m in METHODS}
    )
    assert judge(SLUG, "SC-4", found=planted).verdict == verdict
