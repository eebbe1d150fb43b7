"""Report 07's rules where the answer is known."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

SLUG = "07-pixel-removal"
MAPS = ("input_x_gradient", "integrated_gradients", "smoothgrad", "random", "edges")


def areas(morf, lerf, n=20, spread=0.01):
    """One area per photo and map, scattered around what is planted, in the order of MAPS."""
    random = np.random.default_rng(0)
    columns = {("morf", m): a for m, a in zip(MAPS, morf, strict=True)}
    columns |= {("lerf", m): a for m, a in zip(MAPS, lerf, strict=True)}
    frame = {key: value + spread * random.standard_normal(n) for key, value in columns.items()}
    frame = pd.DataFrame(frame)
    frame.columns = pd.MultiIndex.from_tuples(frame.columns, names=["order", "method"])
    return frame


GOOD = areas([0.3, 0.2, 0.3, 0.4, 0.4], [0.2, 0.2, 0.4, 0.1, 0.1])
BAD = areas([0.2, 0.3, 0.2, 0.4, 0.4], [0.3, 0.3, 0.2, 0.1, 0.1])
BLIND = areas([0.3, 0.2, 0.3, 0.1, 0.1], [0.2, 0.2, 0.4, 0.5, 0.5])


@pytest.mark.parametrize("claim", ["PR-1", "PR-2"])
def test_the_rankings(claim):
    assert (
        judge(SLUG, claim, area={"magnitude": GOOD, "own": GOOD}, **less()).verdict == "supported"
    )
    assert (
        judge(SLUG, claim, area={"magnitude": BAD, "own": BAD}, **less()).verdict == "contradicted"
    )
    assert judge(SLUG, claim, area={"magnitude": GOOD, "own": BAD}, **less()).verdict == "mixed"


def test_a_map_that_random_beats_supports_nothing():
    judgment = judge(SLUG, "PR-1", area={"magnitude": BLIND, "own": BLIND}, **less())
    assert judgment.verdict == "inconclusive"
    assert {part.verdict for part in judgment.parts} == {"invalid"}


def test_that_smoothgrad_sees_more_than_edges_is_shown_and_decides_nothing():
    edges = areas([0.3, 0.2, 0.3, 0.4, 0.4], [0.2, 0.2, 0.4, 0.1, 0.9])
    judgment = judge(SLUG, "PR-2", area={"magnitude": edges, "own": edges}, **less())
    assert judgment.verdict == "supported"
    assert [part.verdict for part in judgment.parts if not part.core] == [
        "contradicted",
        "supported",
    ]


def less():
    return {
        "IXG": MAPS[0],
        "IG": MAPS[1],
        "SG": MAPS[2],
        "ORDERS": {"morf": "MoRF", "lerf": "LeRF"},
        "METHODS": dict.fromkeys(MAPS),
    }


def test_both_find_more_than_inputgrad():
    def verdict(frame):
        return judge(SLUG, "PR-6", area={"magnitude": frame}, **less()).verdict

    assert verdict(areas([0.3, 0.2, 0.2, 0.4, 0], [0.3, 0.4, 0.4, 0.2, 0])) == "supported"
    assert verdict(areas([0.2, 0.3, 0.3, 0.5, 0], [0.4, 0.3, 0.3, 0.2, 0])) == "contradicted"
    assert verdict(areas([0.3, 0.2, 0.3, 0.5, 0], [0.3, 0.4, 0.2, 0.2, 0])) == "mixed"


def test_the_background():
    random = np.random.default_rng(0)

    def verdict(smoothgrad, n=15):
        mean = {"chance": 0.6, MAPS[0]: 0.6, MAPS[1]: 0.65, MAPS[2]: smoothgrad, "edges": 0.6}
        outside = {name: m + 0.01 * random.standard_normal(n) for name, m in mean.items()}
        return judge(SLUG, "PR-3", outside=pd.DataFrame(outside), **less()).verdict

    assert [verdict(0.8), verdict(0.5), verdict(0.625)] == ["supported", "contradicted", "mixed"]
    assert verdict(0.8, n=0) == "inconclusive" and verdict(0.8, n=9) == "inconclusive"


def test_attribution_that_is_spent_elsewhere():
    random = np.random.default_rng(0)

    def verdict(path, noisy, cam):
        mean = {MAPS[1]: path, MAPS[2]: noisy, "grad_cam": cam}
        spent = {name: m + 0.02 * random.standard_normal(12) for name, m in mean.items()}
        planted = {"spent": pd.DataFrame(spent), "blind_share": 0.5}
        return judge(SLUG, "PR-5", **planted, **less()).verdict

    assert verdict(0.45, 0.35, 0.2) == "supported"
    assert verdict(0.1, 0.3, 0.2) == "contradicted"
    assert verdict(0.45, 0.55, 0.2) == "mixed"


def test_times():
    random = np.random.default_rng(0)

    def verdict(alone):
        logs = {"alone": alone, "batched": 0.0, "path": 0.0}
        logs = {name: m + 0.02 * random.standard_normal(20) for name, m in logs.items()}
        return judge(SLUG, "PR-4", **logs).verdict

    assert [verdict(0.5), verdict(-0.5)] == ["supported", "contradicted"]
