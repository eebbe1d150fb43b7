"""Report 08's rules where the answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from support.chapter import judge

SLUG = "08-cam-and-grad-cam"


def around(value, n=20, spread=0.01):
    return value + spread * np.random.default_rng(0).standard_normal(n)


@pytest.mark.parametrize("error, verdict", [(1e-6, "supported"), (0.01, "contradicted")])
def test_lg_1_the_mean_is_the_score(error, verdict):
    sums = pd.DataFrame({"cam": [2.0, 3.0], "bias": [0.1, -0.1], "score": [2.1, 2.9 + error]})
    assert judge(SLUG, "LG-1", sums=sums).verdict == verdict


@pytest.mark.parametrize(
    "mass, hits, verdict",
    [
        (0.9, 20, "supported"),
        (0.2, 1, "contradicted"),
        (0.9, 1, "mixed"),
        (0.9, 10, "inconclusive"),
    ],
)
def test_lg_2_own_cell_and_peak(mass, hits, verdict):
    own = pd.DataFrame({"cam": around(mass)})
    peaks = pd.DataFrame({"cam": [1.0] * hits + [0.0] * (20 - hits)})
    assert judge(SLUG, "LG-2", own=own, peaks=peaks, chance=0.5).verdict == verdict


@pytest.mark.parametrize(
    "gap, more, verdict",
    [
        (1e-6, 0.2, "supported"),
        (0.1, -0.2, "contradicted"),
        (1e-6, -0.2, "mixed"),
        (1e-6, 0.0, "inconclusive"),
    ],
)
def test_lg_3_without_pooling(gap, more, verdict):
    beyond = {"grad_cam": torch.tensor([*around(more), torch.nan])}  # an empty map is left out
    judgment = judge(SLUG, "LG-3", sums=pd.DataFrame({"gap": [gap, 0.0]}), beyond=beyond)
    assert judgment.verdict == verdict and judgment.parts[1].n == 20


@pytest.mark.parametrize(
    "nearest, cells, verdict",
    [(0.2, 49, "supported"), (1e-6, 196, "contradicted"), (0.2, 196, "mixed")],
)
def test_lg_4_no_other_layer(nearest, cells, verdict):
    by_layer = pd.DataFrame({"cells": [784, cells], "error": [nearest, 0.0]}, ["early", "last"])
    assert judge(SLUG, "LG-4", by_layer=by_layer, last="last", side=7).verdict == verdict


@pytest.mark.parametrize(
    "cue, accuracy, n, verdict",
    [
        (0.3, 0.9, 12, "supported"),
        (0.05, 0.7, 12, "contradicted"),
        (0.3, 0.7, 12, "mixed"),
        (0.3, 0.9, 5, "inconclusive"),
    ],
)
def test_lg_5_the_bias_and_its_repair(cue, accuracy, n, verdict):
    columns = {("share", "biased"): around(cue, n), ("share", "rebalanced"): np.full(n, 0.1)}
    columns |= {("accuracy", "biased"): np.full(n, 0.8)}
    columns |= {("accuracy", "rebalanced"): around(accuracy, n)}
    assert judge(SLUG, "LG-5", trained=pd.DataFrame(columns), area=0.1).verdict == verdict


@pytest.mark.parametrize(
    "wrong, verdict", [(0.1, "supported"), (0.01, "contradicted"), (0.05, "inconclusive")]
)
def test_lg_6_there_are_cases(wrong, verdict):
    judgment = judge(SLUG, "LG-6", wrong=pd.Series(around(wrong)))
    assert judgment.verdict == verdict and judgment.existential


@pytest.mark.parametrize(
    "without, verdict", [(60, "supported"), (20, "contradicted"), (42, "inconclusive")]
)
def test_lg_14_a_count(without, verdict):
    assert judge(SLUG, "LG-14", without=without, models=[None] * 80).verdict == verdict


@pytest.mark.parametrize(
    "answers, verdict",
    [
        (["runs"] * 6, "supported"),
        (["refused"] * 6, "contradicted"),
        (["runs"] * 3 + ["refused"] * 3, "mixed"),
    ],
)
def test_lg_15_every_kind_of_model(answers, verdict):
    tried = {"grad_cam": {f"kind {k}": answer for k, answer in enumerate(answers)}}
    judgment = judge(SLUG, "LG-15", tried=tried)
    assert judgment.verdict == verdict and len(judgment.parts) == 6
