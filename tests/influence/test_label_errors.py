"""The search for planted wrong labels, and the correlations that judge a report's numbers."""

import numpy as np
import pytest
import torch
from scipy.stats import linregress, pearsonr, spearmanr

from lib.evaluation.correlation import correlation, rank_correlation, slope
from lib.influence.label_errors import find_label_errors, plant_label_errors
from lib.report.claims import goes_together


def clusters(n: int = 120):
    """Three well separated clusters: a wrong label is plain to see."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    points = torch.eye(3)[labels] * 4 + torch.randn(n, 3, generator=random) * 0.4
    return points, labels


def test_planted_labels_are_all_wrong_and_as_many_as_asked():
    labels = torch.arange(200) % 5
    noisy, wrong = plant_label_errors(labels, 0.1, classes=5, seed=0)
    assert sorted(torch.nonzero(noisy != labels).flatten().tolist()) == sorted(wrong.tolist())
    assert len(wrong) == 20
    assert noisy.min() >= 0
    assert noisy.max() < 5
    again, other = (plant_label_errors(labels, 0.1, classes=5, seed=seed)[0] for seed in (0, 1))
    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, other)
    with pytest.raises(ValueError, match="none or all"):
        plant_label_errors(labels, 0.001, classes=5, seed=0)


def test_plain_errors_are_found_first():
    points, labels = clusters()
    found = find_label_errors(points, labels, classes=3, share=0.1, checked=[0.1, 1.0])
    found = found.set_index(["order", "checked"])["found"]
    for order in ("self_influence", "loss"):
        assert found[order, 0.1] > 0.9
    assert found["random", 0.1] < 0.5
    assert (found.xs(1.0, level="checked") == 1).all()


def test_correlations_equal_scipys():
    random = np.random.default_rng(0)
    x = random.normal(size=30).round(1)
    y = (x + random.normal(size=30)).round(1)
    rows = np.column_stack([x, y])
    assert correlation(rows) == pytest.approx(pearsonr(x, y).statistic)
    assert rank_correlation(rows) == pytest.approx(spearmanr(x, y).statistic)
    assert slope(rows) == pytest.approx(linregress(x, y).slope)
    many = np.stack([rows, rows[::-1]], 1)  # the shape that the bootstrap passes
    assert correlation(many) == pytest.approx([correlation(rows)] * 2)
    assert correlation(np.column_stack([x, np.ones(30)])) == 0


def test_findings_follow_the_sign_of_the_claim():
    x = np.arange(20.0)
    noise = np.random.default_rng(1).normal(size=20)
    assert goes_together(x, x**3, "rises").verdict == "supported"
    assert goes_together(x, x**3, "falls", sign=-1).verdict == "contradicted"
    assert goes_together(x, -x, "falls", sign=-1).verdict == "supported"
    assert goes_together(x, -x, "falls", sign=-1).estimate == pytest.approx(-1)
    assert goes_together(x, noise, "rises").verdict == "inconclusive"
    assert goes_together(x[:5], x[:5], "too few").verdict == "inconclusive"
