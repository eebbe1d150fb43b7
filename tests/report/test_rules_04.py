"""Report 04's rules where the answer is known."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

SLUG = "04-x-gradient"
LAYERS = {"NAMED": {"ReLU": None, "PReLU": None}, "BIASED": {"Linear, with bias": None}}


def errors(named, bias):
    return {"ReLU": 0.0, "PReLU": named, "Linear, with bias": bias}


def test_layers_scale_and_a_bias_does_not():
    def verdict(named, bias):
        return judge(SLUG, "XG-4", errors=errors(named, bias), **LAYERS).verdict

    assert verdict(1e-7, 0.3) == "supported"
    assert verdict(1e-3, 1e-7) == "contradicted"
    assert verdict(1e-7, 1e-7) == "mixed"


def differences(x_dnn, biased, worst=None, n=12, kinks=1):
    """Twelve images of each of n trainings; ``kinks`` images of each X-DNN are off by ``worst``."""
    random = np.random.default_rng(0)
    apart = {("net", True, s): biased * (1 + 0.1 * random.random(12)) for s in range(n)}
    apart |= {("net", False, s): np.full(12, x_dnn) for s in range(n)}
    for s in range(n):
        apart["net", False, s][:kinks] = worst or x_dnn
    return {"apart": apart, "some": list(apart), "untied": [1e-16] * n}


@pytest.mark.parametrize(
    ("verdict", "planted"),
    [
        ("supported", differences(1e-7, 0.2)),
        ("supported", differences(1e-7, 0.2, worst=0.004)),  # a tie in a max pooling
        ("mixed", differences(0.01, 0.2)),
        ("mixed", differences(1e-7, 1e-3)),
        ("contradicted", differences(0.01, 1e-3)),
        ("inconclusive", differences(1e-7, 0.2, n=6)),
    ],
)
def test_one_gradient_is_all_gradients(verdict, planted):
    assert judge(SLUG, "XG-5", **planted).verdict == verdict


def test_kinks_in_many_images_are_shown():
    judgment = judge(SLUG, "XG-5", **differences(1e-7, 0.2, worst=0.004, kinks=3))
    assert [part.verdict for part in judgment.parts if not part.core] == [
        "contradicted",
        "supported",
    ]


def losses(*means, n=20):
    random = np.random.default_rng(1)
    return {f"net{i}": mean + 0.5 * random.standard_normal(n) for i, mean in enumerate(means)}


@pytest.mark.parametrize(
    ("verdict", "means"),
    [
        ("supported", (0.2, -0.3, 0.0)),
        ("contradicted", (3, 3, 3)),
        ("mixed", (0.0, 0.0, 3)),
        ("inconclusive", (0.0, 0.0)),  # two of three architectures
    ],
)
def test_less_than_a_point_is_lost(verdict, means):
    planted = losses(*means)
    assert judge(SLUG, "XG-6", losses=planted, networks=list(planted)).verdict == verdict


@pytest.mark.parametrize(
    ("verdict", "x_gradient", "ig"),
    [("supported", 1.02, 120), ("contradicted", 2, 20), ("mixed", 1.02, 20)],
)
def test_as_fast_as_the_gradient(verdict, x_gradient, ig):
    logs = np.log([1, x_gradient, ig * x_gradient])
    noise = 0.02 * np.random.default_rng(2).standard_normal((20, 3))
    planted = pd.DataFrame(logs + noise, columns=["g", "xg", "ig"])
    assert judge(SLUG, "XG-7", logs=planted).verdict == verdict


@pytest.mark.parametrize(
    ("verdict", "with_k", "off"),
    [("supported", 1e-6, 1e-6), ("contradicted", 0.5, 0.5), ("mixed", 1e-6, 0.5)],
)
def test_the_degree_divides(verdict, with_k, off):
    rows = [{"k": k, "with 1/k": with_k, "without": k - 1, "off": off} for k in (2, 4)]
    assert judge(SLUG, "XG-8", rows=rows).verdict == verdict
