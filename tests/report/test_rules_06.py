"""Report 06's rules on planted splits and trainings: XG-10 and XG-11."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

from lib.training.prior_experiment import METHODS, OTHERS

PRIORS = list(METHODS)[:4]
NAMES = {"PRIORS": PRIORS, "XG": PRIORS[0], "METHODS": [*METHODS, *OTHERS]}


def splits(n: int = 100, **lead: float) -> pd.DataFrame:
    """ROC-AUC by split: X-Gradient is 0.7, every other method ``lead`` below it (0.02)."""
    noise = 0.01 * np.sin(np.arange(n))
    columns = {m: 0.7 - lead.get(m, 0.02) + noise * k for k, m in enumerate(NAMES["METHODS"])}
    return pd.DataFrame(columns | {PRIORS[0]: 0.7 + 0 * noise})


@pytest.mark.parametrize(
    ("lead", "verdict"),
    [
        ({}, "supported"),
        ({"logistic_regression": -0.1, "unregularized_without_bias": -0.1}, "supported"),
        (dict.fromkeys(NAMES["METHODS"], -0.02), "contradicted"),
        ({"gradient": -0.02}, "mixed"),
        ({"unregularized": 0.0}, "inconclusive"),
    ],
)
def test_a_prior_has_to_beat_four_rivals(lead, verdict):
    judged = judge("06-attribution-priors", "XG-10", test=splits(**lead), **NAMES)
    assert judged.verdict == verdict
    assert [part.core for part in judged.parts] == [True] * 4 + [False] * 3


def test_nine_splits_are_too_few():
    judged = judge("06-attribution-priors", "XG-10", test=splits(n=9), **NAMES)
    assert judged.verdict == "inconclusive"


def trainings(gain: float, drop: float, n: int = 12) -> dict[str, pd.DataFrame]:
    wave = 0.01 * np.sin(np.arange(n))
    right = {
        "no prior": 0.85 + wave,
        "X-Gradient prior": 0.85 + gain + 0 * wave,
        "RRR": 0.85 - wave,
    }
    share = {"no prior": 0.30 + wave, "X-Gradient prior": 0.30 - drop - wave, "RRR": 0.1 + 0 * wave}
    return {"right": pd.DataFrame(right), "share": pd.DataFrame(share)}


@pytest.mark.parametrize(
    ("gain", "drop", "verdict"),
    [
        (0.05, 0.2, "supported"),
        (-0.05, 0.2, "mixed"),
        (-0.05, -0.1, "contradicted"),
        (0.0, 0.2, "inconclusive"),
    ],
)
def test_less_bias_is_more_than_another_map(gain, drop, verdict):
    judged = judge("06-attribution-priors", "XG-11", **trainings(gain, drop))
    assert judged.verdict == verdict
    assert [part.core for part in judged.parts] == [True, True, False, False]
