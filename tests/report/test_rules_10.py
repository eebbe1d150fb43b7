"""Report 10's rules where the answer is known."""

import numpy as np
import pandas as pd
from support.chapter import judge

SLUG = "10-rise"
MAPS = ("rise", "grad_cam", "integrated_gradients", "smoothgrad", "random")


def scattered(mean, n=20, spread=0.02, seed=0):
    return mean + spread * np.random.default_rng(seed).standard_normal(n)


def areas(insertion, deletion):
    """One area per photo, around what is planted for each of MAPS."""
    planted = {("insertion", m): a for m, a in zip(MAPS, insertion, strict=True)}
    planted |= {("deletion", m): a for m, a in zip(MAPS, deletion, strict=True)}
    frame = {key: scattered(a, seed=k) for k, (key, a) in enumerate(planted.items())}
    return pd.DataFrame(frame)


def sometimes(insertion, deletion):
    white = list(MAPS[1:4])
    return judge(SLUG, "LG-10", area=areas(insertion, deletion), white=white)


def test_one_case_is_enough_for_sometimes():
    found = sometimes([0.6, 0.7, 0.5, 0.7, 0.2], [0.2, 0.1, 0.1, 0.1, 0.5])
    assert found.verdict == "supported"
    assert found.deciding.of == "insertion: RISE above Integrated Gradients"


def test_behind_everywhere_is_contradicted():
    assert sometimes([0.4, 0.7, 0.6, 0.7, 0.2], [0.3, 0.1, 0.1, 0.1, 0.5]).verdict == "contradicted"


def test_to_beat_a_rival_that_knows_nothing_proves_nothing():
    found = sometimes([0.6, 0.7, 0.2, 0.7, 0.2], [0.3, 0.1, 0.5, 0.1, 0.5])
    invalid = [part.of for part in found.parts if part.verdict == "invalid"]
    assert invalid == [
        "insertion: RISE above Integrated Gradients",
        "deletion: RISE below Integrated Gradients",
    ]
    assert found.verdict == "contradicted"
    assert not sometimes([0.6, 0.2, 0.2, 0.2, 0.2], [0.1, 0.5, 0.5, 0.5, 0.5]).deciding.n


def noise(at_n, at_4n=None):
    by_size = {2000: scattered(at_n)} | ({} if at_4n is None else {8000: scattered(at_4n, seed=1)})
    return judge(SLUG, "LG-11", by_size=pd.DataFrame(by_size), n=2000).verdict


def test_the_draw_and_the_number_matter():
    assert noise(0.7, 0.9) == "supported"
    assert noise(0.95, 0.98) == "mixed"
    assert noise(0.95, 0.9) == "contradicted"
    assert noise(0.7) == "inconclusive"  # 4 N was not drawn
    assert noise(0.95) == "contradicted"


def cost(clock, need):
    planted = {"slower": scattered(clock), "needs": scattered(need, seed=1)}
    return judge(SLUG, "LG-16", **planted).verdict


def test_cost_by_the_clock_and_by_need():
    assert cost(0.7, 0.5) == "supported"
    assert cost(0.7, -0.5) == "mixed"
    assert cost(-0.7, -0.5) == "contradicted"
