"""Report 11: what its own rules say where the answer is planted."""

import numpy as np
import pytest
import torch
from support.chapter import judge

SLUG = "11-influence-functions"
NOISE = np.linspace(-0.03, 0.03, 20)


@pytest.mark.parametrize(
    ("order", "size", "network", "verdict"),
    [
        (0.96, 1.0, 0.7, "supported"),
        (0.96, 1.2, 0.7, "mixed"),  # influence is off by a fifth in size
        (0.96, 1.0, 0.3, "mixed"),
        (0.5, 1.3, 0.1, "contradicted"),
        (0.9, 1.1, 0.5, "inconclusive"),  # on every threshold
    ],
)
def test_influence_approximates_retraining(order, size, network, verdict):
    convex = {"correlation": order + NOISE, "slope": size + NOISE}
    fits = {"whole": {0.01: network + NOISE}}
    judged = judge(SLUG, "LG-12", convex=convex, fits=fits, damping=0.01)
    assert judged.verdict == verdict
    assert [part.n for part in judged.parts] == [20, 20, 20]


@pytest.mark.parametrize(
    ("right", "nearest", "random", "verdict"),
    [
        (20, 0.1, 0.05, "supported"),
        (20, 0.5, 0.05, "mixed"),  # the nearest images matter more
        (0, 0.5, 0.5, "contradicted"),
        (3, 0.1, 0.05, "inconclusive"),  # a share that chance gives as well
    ],
)
def test_influential_images_explain(right, nearest, random, verdict):
    fall = {
        "most helpful": 0.3 + NOISE,
        "nearest": nearest + NOISE[::-1],
        "random": random + NOISE[::-1],
    }
    planted = {"top": torch.arange(20) < right, "chance": 0.1, "fall": fall}
    assert judge(SLUG, "LG-13", **planted).verdict == verdict
