"""Report 05's rule where the answer is known."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

IG, XG, EG, RANDOM = "integrated_gradients", "x_gradient", "expected_gradients", "random"
NAMES = {"IG": IG, "XG": XG, "EG": EG, "RANDOM": RANDOM}
METRICS = ("KPM", "KNM", "KAM", "RAM")
GOOD = {"KPM": 7, "KNM": 2, "KAM": 80, "RAM": 40}
POOR = {"KPM": 4, "KNM": 4, "KAM": 50, "RAM": 60}


def areas(x_gradient=GOOD, rivals=POOR, noise=1e-3, n=200, **other):
    """One area per image, metric and map, scattered around what is planted."""
    random = np.random.default_rng(0)
    planted = {IG: GOOD, XG: x_gradient, EG: rivals, "gradient": rivals, RANDOM: POOR} | other
    scale = random.standard_normal((n, len(METRICS)))
    frame = {}
    for method, means in planted.items():
        own = random.standard_normal((n, len(METRICS)))
        for i, m in enumerate(METRICS):
            frame[m, method] = means[m] * (1 + 0.1 * scale[:, i] + noise * own[:, i])
    return pd.DataFrame(frame)


def verdict(area):
    return judge("05-masking-metrics", "XG-9", area=area, **NAMES)


def test_as_good_as_ig_and_better_than_the_rest():
    assert verdict(areas()).verdict == "supported"


def test_equal_areas_without_any_spread_are_equal():
    area = areas()
    for metric in METRICS:
        area[metric, XG] = area[metric, IG]
    judgment = verdict(area)
    assert judgment.verdict == "supported"
    assert [part.holds for part in judgment.parts[:4]] == [True] * 4


def test_worse_than_ig_and_than_the_rivals():
    worse = {"KPM": 3, "KNM": 5, "KAM": 45, "RAM": 70}
    judgment = verdict(areas(worse, GOOD))
    assert {part.verdict for part in judgment.parts} <= {"contradicted", "invalid"}
    assert judgment.verdict == "contradicted"


def test_as_good_as_ig_but_no_better_than_a_rival():
    assert verdict(areas(gradient={"KPM": 9, "KNM": 1, "KAM": 95, "RAM": 30})).verdict == "mixed"


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_in_which_random_beats_ig_decides_nothing(metric):
    blind = POOR | {metric: 2 * GOOD[metric] if metric in ("KPM", "KAM") else GOOD[metric] / 2}
    found = {part.of: part.verdict for part in verdict(areas(**{RANDOM: blind})).parts}
    assert found[f"{metric}: X-Gradient equal to IG"] == "invalid"
