"""Report 12's rules on planted data."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

SLUG = "12-meaningful-perturbation"
MASK = "meaningful_perturbation"
RIVALS = ["gradient", "guided_backprop", "contrastive_excitation_backprop", "grad_cam", "occlusion"]


def around(mean, n=20, seed=0):
    return pd.Series(mean + 0.02 * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize(
    ("error", "correlation", "verdict"),
    [(1e-7, 0.5, "supported"), (1e-7, 0.97, "mixed"), (0.1, 0.97, "contradicted")],
)
def test_the_gradient_is_one_and_masks_differ(error, correlation, verdict):
    planted = {"errors": np.full(20, error), "alike": around(correlation).to_numpy()}
    assert judge(SLUG, "MP-1", **planted).verdict == verdict


@pytest.mark.parametrize(
    ("blur", "constant", "noise", "verdict"),
    [
        (0.1, 0.3, 0.5, "supported"),
        (0.4, 0.2, 0.1, "mixed"),  # carries over less, but worst for blur
    ],
)
def test_artifacts(blur, constant, noise, verdict):
    means = {"blur": blur, "constant": constant, "noise": noise}
    kept = pd.DataFrame({k: around(mean, seed=i) for i, (k, mean) in enumerate(means.items())})
    assert judge(SLUG, "MP-2", lost=around(0.999), kept=kept).verdict == verdict
    without = judge(SLUG, "MP-2", lost=around(0.5), kept=-kept)
    assert without.parts[0].verdict == without.parts[1].verdict == "contradicted"


def in_the_box(claim, **means):
    shares = dict.fromkeys((*RIVALS, "random", "edges"), 0.4) | {MASK: 0.7} | means
    energy = pd.DataFrame({m: around(v, seed=i) for i, (m, v) in enumerate(shares.items())})
    return judge(SLUG, claim, energy=energy, MASK=MASK, RIVALS=RIVALS)


def test_in_the_box():
    assert in_the_box("MP-3").verdict == "supported"
    assert in_the_box("MP-3", grad_cam=0.9).verdict == "mixed"
    better = in_the_box("MP-3", **dict.fromkeys(RIVALS, 0.9))
    assert better.verdict == "contradicted"


def test_a_map_that_ties_with_edges_is_invalid():
    found = in_the_box("MP-3", edges=0.8)
    assert found.verdict == "inconclusive"
    assert {part.verdict for part in found.parts} == {"invalid"}


def test_the_gradient_outside_the_box():
    assert in_the_box("MP-10").verdict == "supported"
    assert in_the_box("MP-10", gradient=0.8).verdict == "contradicted"


def test_without_boxes_nothing_is_measured():
    energy = pd.DataFrame(columns=[MASK, *RIVALS, "random", "edges"], dtype=float)
    for claim in ("MP-3", "MP-10"):
        found = judge(SLUG, claim, energy=energy, MASK=MASK, RIVALS=RIVALS)
        assert found.verdict == "inconclusive" and all(part.n == 0 for part in found.parts)
