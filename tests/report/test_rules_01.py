"""The rules of chapter 01, on planted data: what they say where the answer is known."""

import numpy as np
import pandas as pd
import pytest
from support.chapter import judge

N = 16
NOISE = np.random.default_rng(0).normal(0, 0.02, (N, 8))
RIVALS = ["gradient", "integrated_gradients", "guided_backprop"]
LEVELS = ["0", "0.05", "0.1", "0.15", "0.2", "0.3", "0.5"]


def judged(claim, **planted):
    return judge("01-smoothgrad", claim, **planted)


def frame(means, n=N, jitter=NOISE):
    """One row per unit; column m is scattered around ``means[m]``."""
    return pd.DataFrame({m: mean + jitter[:n, k] for k, (m, mean) in enumerate(means.items())})


def verdicts(judgment):
    return [part.verdict for part in judgment.parts]


# --- SG-1 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stay", "n", "change", "verdict"),
    [
        (60, 60, 1.0, "supported"),
        (30, 60, 0.1, "contradicted"),
        (60, 60, 0.1, "mixed"),
        (20, 20, 1.0, "inconclusive"),  # even all of twenty do not show nine in ten
    ],
)
def test_sg1(stay, n, change, verdict):
    change = change + np.tile(NOISE[:, 0], 4)[:n]
    walks = pd.DataFrame({"same": np.arange(n) < stay, "gradient": change})
    assert judged("SG-1", walks=walks).verdict == verdict


def test_sg1_names_the_photos_that_would_decide():
    walks = pd.DataFrame({"same": [True] * 20, "gradient": 1 + np.resize(NOISE[:, 0], 20)})
    assert judged("SG-1", walks=walks).needed_n == 36


# --- SG-2 ----------------------------------------------------------------------------------------


def by_level(values):
    return frame(dict(zip(LEVELS, values, strict=True)))


PEAK = by_level([0.1, 0.1, 0.5, 0.5, 0.5, 0.1, 0.1])
RISE = by_level([0.1, 0.1, 0.2, 0.3, 0.4, 0.8, 0.9])
FALL = by_level([0.9, 0.8, 0.6, 0.5, 0.4, 0.3, 0.1])


@pytest.mark.parametrize(
    ("own", "lerf", "verdict"),
    [
        (PEAK, PEAK, "supported"),
        (1 - PEAK, 1 - PEAK, "contradicted"),
        (PEAK, RISE, "mixed"),
        ({}, PEAK, "inconclusive"),  # no mosaic was swept
        (PEAK.head(4), PEAK.head(4), "inconclusive"),
    ],
)
def test_sg2(own, lerf, verdict):
    found = judged("SG-2", level_own=own, level_lerf=lerf, level_variation=FALL)
    assert found.verdict == verdict
    assert [part.core for part in found.parts] == [True] * 4 + [False]
    assert found.parts[4].verdict == "supported"


# --- SG-3 ----------------------------------------------------------------------------------------

GRAIN = frame({1: 0.6, 5: 0.55, 20: 0.5, 50: 0.4, 200: 0.39})
SETTLED = frame({1: 0.2, 5: 0.4, 20: 0.6, 50: 0.85, 200: 0.86}, jitter=NOISE / 4)
STILL = frame({1: 0.2, 5: 0.4, 20: 0.5, 50: 0.52, 200: 0.8}, jitter=NOISE / 4)


@pytest.mark.parametrize(
    ("agreement", "grain", "verdict"),
    [
        (SETTLED, GRAIN, "supported"),
        (STILL, GRAIN, "mixed"),
        (STILL, 1 - GRAIN, "contradicted"),
        (SETTLED.head(1), GRAIN.head(1), "inconclusive"),
        (SETTLED[[1, 5, 20]], GRAIN[[1, 5, 20]], "inconclusive"),  # counts lack 50 and 200
    ],
)
def test_sg3(agreement, grain, verdict):
    assert judged("SG-3", agreement=agreement, grain=grain).verdict == verdict


def test_sg3_wants_less_than_a_third():
    half = frame({5: 0.3, 50: 0.6, 200: 0.71}, jitter=NOISE / 40)  # .11 after, .10 a third before
    assert verdicts(judged("SG-3", agreement=half, grain=GRAIN)) == ["supported", "contradicted"]


# --- SG-4 ----------------------------------------------------------------------------------------


def four(smoothgrad, others):
    return frame(dict.fromkeys(RIVALS, others) | {"smoothgrad": smoothgrad, "edges": 0.5})


@pytest.mark.parametrize(
    ("variation", "own", "verdict"),
    [
        (four(0.3, 0.5), four(0.8, 0.6), "supported"),
        (four(0.5, 0.3), four(0.6, 0.8), "contradicted"),
        (four(0.5, 0.3), four(0.8, 0.6), "mixed"),
    ],
)
def test_sg4(variation, own, verdict):
    assert judged("SG-4", variation=variation, own=own).verdict == verdict


def test_sg4_own_cell_counts_only_above_edges():
    found = judged("SG-4", variation=four(0.3, 0.5), own=four(0.5, 0.4))
    assert verdicts(found) == ["supported"] * 3 + ["invalid"] * 3
    assert found.verdict == "supported"  # on what is left


# --- SG-5 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("apart", "verdict"),
    [
        (four(0.8, 0.6), "supported"),
        (four(0.6, 0.8), "contradicted"),
        (frame(dict(zip([*RIVALS, "smoothgrad"], (0.5, 0.6, 0.9, 0.7), strict=True))), "mixed"),
        (four(0.8, 0.6).head(9), "inconclusive"),
    ],
)
def test_sg5(apart, verdict):
    assert judged("SG-5", apart=apart, rivals=RIVALS).verdict == verdict


def test_sg5_leaves_out_mosaics_whose_maps_are_equal():
    apart = four(0.8, 0.6)
    apart.loc[0, "guided_backprop"] = np.nan
    assert [part.n for part in judged("SG-5", apart=apart, rivals=RIVALS).parts] == [N, N, N - 1]


# --- SG-6 ----------------------------------------------------------------------------------------


def alone(better):
    ig, guided = RIVALS[1:]
    averaged = {f"averaged {m}": 0.5 + better for m in (ig, guided)}
    return frame({ig: 0.5, guided: 0.5} | averaged)


@pytest.mark.parametrize(
    ("variation", "own", "verdict"),
    [
        (alone(-0.2), alone(0.2), "supported"),
        (alone(0.2), alone(-0.2), "contradicted"),
        (alone(-0.2), alone(-0.2), "mixed"),
        (alone(-0.2), {}, "inconclusive"),  # averaged IG was left to a longer run
    ],
)
def test_sg6(variation, own, verdict):
    frames = {RIVALS[1]: variation, RIVALS[2]: variation}
    assert judged("SG-6", deep_variation=frames, deep_own=own).verdict == verdict
