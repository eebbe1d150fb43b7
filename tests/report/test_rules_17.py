"""Report 17's rules where the answer is known."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

SLUG = "17-benchmark"
FAMILIES = ("removal", "masking", "location", "foretelling", "steadiness")
METHODS = ["a", "b", "c"]
PHOTOS = [f"{k:02d}" for k in range(20)]
HALVES = {"choosing": pd.Index(PHOTOS[::2]), "judging": pd.Index(PHOTOS[1::2])}


def drawn(mean, seed=0, n=20):
    return pd.Series(mean + 0.1 * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize(
    ("correlations", "halves", "verdict"),
    [
        ([0.1] * 10, 0.8, "supported"),
        ([0.8] * 10, 0.8, "contradicted"),
        ([0.1] * 9 + [0.8], 0.8, "mixed"),
        ([0.1] * 9 + [0.5], 0.8, "inconclusive"),
    ],
)
def test_metrics_agree_or_not(correlations, halves, verdict):
    pairs = zip(combinations(FAMILIES, 2), correlations, strict=True)
    agreed = {pair: drawn(mean, k) for k, (pair, mean) in enumerate(pairs)}
    assert judge(SLUG, "BM-1", agreed=agreed, halves=drawn(halves)).verdict == verdict


@pytest.mark.parametrize("halves", [drawn(0.2), None])
def test_where_a_photo_cannot_show_agreement_its_absence_says_nothing(halves):
    agreed = {pair: drawn(0.1) for pair in combinations(FAMILIES, 2)}
    judgment = judge(SLUG, "BM-1", agreed=agreed, halves=halves)
    assert judgment.verdict == "inconclusive"
    assert {part.verdict for part in judgment.parts} == {"invalid"}


def scores(means, seed=0):
    """A frame of photos x methods for each family, scattered around the planted means."""
    random = np.random.default_rng(seed)
    frames = [row + 0.1 * random.standard_normal((20, len(row))) for row in np.array(means)]
    names = [*METHODS, "edges"][: len(means[0])]
    return {f: pd.DataFrame(v, PHOTOS, names) for f, v in zip(FAMILIES, frames, strict=True)}


def best_under_all(planted, **halves):
    given = {"scores": planted, "EXPLAINED": METHODS, **HALVES, **halves}
    quality = pd.concat(planted.values()).groupby(level=0).mean()
    given["first"] = quality.loc[given["choosing"], METHODS].mean().idxmax()
    return judge(SLUG, "BM-2", **given)


def test_the_best_on_average_is_beaten_somewhere_or_nowhere():
    everywhere, one_family = [[0.8, 0.3, 0.2]] * 5, [[0.8, 0.3, 0.2]] * 4 + [[0.2, 0.7, 0.2]]
    assert best_under_all(scores(one_family)).verdict == "supported"
    assert best_under_all(scores(everywhere)).verdict == "contradicted"


def test_methods_that_are_all_alike_are_not_told_apart():
    alike = [best_under_all(scores([[0.5] * 3] * 5, seed)).verdict for seed in range(12)]
    assert alike.count("supported") <= 2, "chosen and tested on the same photos most would be"


def test_one_mosaic_decides_nothing():
    nothing = {"choosing": pd.Index(PHOTOS), "judging": pd.Index([])}
    judgment = best_under_all(scores([[0.8, 0.3, 0.2]] * 5), **nothing)
    assert judgment.verdict == "inconclusive" and judgment.parts[0].n == 0


@pytest.mark.parametrize(
    ("means", "verdict", "beside"),
    [
        ([0.7, 0.5, 0.4, 0.3], "supported", "supported"),
        ([0.6, 0.5, 0.8, 0.3], "supported", "contradicted"),
        ([0.5, 0.4, 0.8, 0.7], "contradicted", "contradicted"),
    ],
)
def test_a_cheap_method_lies_on_the_front(means, verdict, beside):
    """Method c costs 50 passes, a and b cost one, and the edges none."""
    planted = scores([means] * 5)
    quality = pd.concat(planted.values()).groupby(level=0).mean()
    judgment = judge(
        SLUG,
        "BM-3",
        quality=quality,
        good=quality.loc[HALVES["choosing"]].mean(),
        cost={"a": 1, "b": 1, "c": 50, "edges": 0},
        METHODS=dict.fromkeys([*METHODS, "edges"]),
        EXPLAINED=METHODS,
        **HALVES,
    )
    assert (judgment.verdict, judgment.parts[1].verdict) == (verdict, beside)
    assert not judgment.parts[1].core
