"""Report 03: what its own rules say where the answer is planted."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

SLUG = "03-integrated-gradients"
NOISE = np.linspace(-0.1, 0.1, 20)


@pytest.mark.parametrize(("log", "verdict"), [(1.0, "supported"), (-1.0, "contradicted")])
def test_gradients_are_larger_where_the_score_rises(log, verdict):
    planted = {"probability": log + NOISE, "logit": -log + NOISE}
    judged = judge(SLUG, "XG-1", ratio=planted, reached={0.8: 0.3 + NOISE})
    assert judged.verdict == verdict
    early, logit = judged.parts[1:]
    assert early.verdict == "supported" and not early.core  # shown, they decide nothing
    assert logit.verdict != verdict and not logit.core


def test_without_boxes_nothing_is_decided():
    ratio = {"probability": np.array([]), "logit": np.array([])}
    judged = judge(SLUG, "XG-1", ratio=ratio, reached={0.8: 0.3 + NOISE})
    assert judged.verdict == "inconclusive" and judged.parts[0].n == 0


@pytest.mark.parametrize(
    ("few", "many", "least", "verdict"),
    [
        (0.03, 0.01, 150, "supported"),
        (0.2, 0.01, 150, "mixed"),  # 20 steps are too few
        (0.03, 0.01, 75, "mixed"),  # 100 are not needed
        (0.2, 0.1, 50, "contradicted"),
    ],
)
def test_steps(few, many, least, verdict):
    gaps = {20: few * (1 + NOISE), 300: many * (1 + NOISE)}
    planted = {"right": {"gap": gaps}, "least": least * np.exp(NOISE)}
    assert judge(SLUG, "XG-2", few=20, many=300, **planted).verdict == verdict


def test_other_step_counts_than_the_documents_decide_nothing():
    planted = {"right": {"gap": {10: 0.01 + NOISE, 300: NOISE}}, "least": 150 * np.exp(NOISE)}
    judged = judge(SLUG, "XG-2", few=10, many=300, **planted)
    assert judged.verdict == "inconclusive" and all(part.n == 0 for part in judged.parts)


def table(**worst):
    axioms = ["completeness", "symmetry"]
    return pd.DataFrame({name: [error, 0.0] for name, error in worst.items()}, axioms).T


@pytest.mark.parametrize(
    ("own", "rivals", "verdict"),
    [
        (0.0, {"Gradient": 1.0, "SmoothGrad": 0.9}, "supported"),
        (0.0, {"Gradient": 1.0, "Expected Gradients": 0.0}, "mixed"),  # one passes, too
        (0.5, {"Gradient": 1.0}, "mixed"),
        (0.5, {"Gradient": 0.0}, "contradicted"),
    ],
)
def test_axioms(own, rivals, verdict):
    errors = table(IG=own, **rivals)
    planted = {"errors": errors, "rivals": errors.drop(index="IG"), "IG": "IG"}
    assert judge(SLUG, "XG-3", **planted).verdict == verdict
