"""Verdicts follow the rule that was fixed before the number."""

import numpy as np
import pytest
from scipy import stats

from lib.report.claims import Finding, all_of, bootstrap, identity, ordering, student, undecided

RULE = "Supported if the interval lies above zero."


def finding(verdict: str, estimate: float = 0.5, interval=(0.2, 0.8)) -> Finding:
    return Finding(verdict, estimate, interval, 20, "unit", "part")


def normal(mean: float, n: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, n)


def test_the_three_verdicts_of_an_ordering():
    supported = ordering(normal(1), RULE, unit="area")
    assert supported.verdict == "supported" and supported.interval[0] > 0
    contradicted = ordering(normal(-1), RULE)
    assert contradicted.verdict == "contradicted" and contradicted.interval[1] < 0
    inconclusive = ordering(normal(0), RULE)
    low, high = inconclusive.interval
    assert inconclusive.verdict == "inconclusive" and low < 0 < high
    assert (supported.n, supported.unit, supported.rule) == (40, "area", RULE)
    assert (supported.threshold, ordering(normal(1), RULE, above=0.3).threshold) == (0, 0.3)
    assert identity([0.1], RULE, tolerance=0.2).threshold == 0.2
    assert supported.estimate == pytest.approx(normal(1).mean())


def test_the_interval_itself_decides_at_its_edges():
    assert ordering([1.0, 1.0, 1.0], RULE).verdict == "supported"
    assert ordering([0.0, 0.0, 0.0], RULE).verdict == "inconclusive"  # touches, does not exclude
    assert ordering([-1e-9] * 3, RULE).verdict == "contradicted"
    assert ordering([5.0], RULE).verdict == "inconclusive"  # one image decides nothing
    differences = normal(1)
    low, high = ordering(differences, RULE).interval
    assert ordering(differences, RULE, above=low - 1e-6).verdict == "supported"
    assert ordering(differences, RULE, above=(low + high) / 2).verdict == "inconclusive"
    assert ordering(differences, RULE, above=high + 1e-6).verdict == "contradicted"


def test_turning_the_difference_turns_the_verdict():
    for mean in (-1, 0, 1):
        a, b = ordering(normal(mean), RULE), ordering(-normal(mean), RULE)
        turned = {"supported": "contradicted", "contradicted": "supported"}
        assert b.verdict == turned.get(a.verdict, a.verdict)
        assert b.interval == pytest.approx((-a.interval[1], -a.interval[0]), abs=1e-2)


def test_the_bootstrap_interval_is_the_means():
    values = normal(3, n=400)
    estimate, (low, high) = bootstrap(values)
    half = 1.96 * values.std() / 20
    assert estimate == pytest.approx(values.mean())
    assert low == pytest.approx(estimate - half, abs=0.1 * half)
    assert high == pytest.approx(estimate + half, abs=0.1 * half)
    assert bootstrap(values) == bootstrap(values) != bootstrap(values, seed=1)
    assert bootstrap([2.0]) == (2.0, (2.0, 2.0))


def test_the_interval_covers_at_its_level():
    random = np.random.default_rng(0)
    samples = random.normal(0, 1, (400, 40))
    hits = [low <= 0 <= high for _, (low, high) in (bootstrap(s, draws=600) for s in samples)]
    assert 0.90 < np.mean(hits) < 0.98  # 50 % or 99.9 % intervals would be seen


def test_rows_are_resampled_whole_and_other_statistics_work():
    x = normal(0, 200)
    pairs = np.stack([x + 10, x], 1)  # the difference of the columns is 10 in every row

    def difference(rows, axis):
        return rows[..., 0].mean(axis) - rows[..., 1].mean(axis)

    estimate, (low, high) = bootstrap(pairs, difference)
    assert low == pytest.approx(10) and high == pytest.approx(10) and estimate == pytest.approx(10)
    _, (low, high) = bootstrap(x, np.median)
    assert low < np.median(x) < high


@pytest.mark.slow
def test_large_samples_are_resampled_in_chunks():
    values = normal(1, 30_000)
    estimate, (low, high) = bootstrap(values, draws=2_000)  # three chunks
    half = 1.96 * values.std() / 30_000**0.5
    assert low == pytest.approx(estimate - half, abs=0.15 * half)
    assert high == pytest.approx(estimate + half, abs=0.15 * half)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0, float("inf")]])
def test_values_that_are_none_are_refused(values):
    with pytest.raises(ValueError):
        bootstrap(values)
    with pytest.raises(ValueError):
        ordering(values, RULE)


def test_identities_hold_within_their_tolerance():
    errors = [[-1e-6, 5e-7], [0.0, 2e-7]]
    held = identity(errors, "Supported if every error is at most 1e-6.", tolerance=1e-6)
    assert held.verdict == "supported" and held.estimate == 1e-6 and held.n == 4
    assert held.interval == (0.0, 1e-6)
    broken = identity(errors, "rule", tolerance=9e-7)
    assert broken.verdict == "contradicted"  # the sign of an error does not excuse it
    for bad in ([], [float("nan")]):
        with pytest.raises(ValueError, match="errors that are numbers"):
            identity(bad, "rule", tolerance=1)


def test_an_identity_of_a_share_leaves_the_kinks_out():
    errors = [*np.full(9, 1e-7), 4e-3]
    held = identity(errors, "rule", tolerance=1e-4, share=0.9)
    assert held.verdict == "supported" and held.estimate == 1e-7 and held.n == 10
    assert held.interval == (1e-7, 1e-7) and held.threshold == 1e-4
    assert identity(errors, "rule", tolerance=1e-4).verdict == "contradicted"
    assert identity([*errors, 4e-3], "rule", tolerance=1e-4, share=0.9).verdict == "contradicted"
    with pytest.raises(ValueError, match="share must lie in"):
        identity(errors, "rule", tolerance=1, share=0)


def test_students_interval_covers_a_few_values_and_knows_missing_ones():
    random = np.random.default_rng(0)
    hits = [low <= 0 <= high for low, high in map(student, random.normal(0, 1, (2000, 4)))]
    assert 0.93 < np.mean(hits) < 0.97  # the bootstrap's covers 0.8
    values = normal(3, n=8)
    assert student(values) == pytest.approx(
        stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    )
    assert student([*values, np.nan]) == student(values)
    assert student([2.0]) == (2.0, 2.0)


def test_a_claim_of_several_parts():
    yes, no, open_ = (finding(v) for v in ("supported", "contradicted", "inconclusive"))
    for parts, verdict in (
        ([yes, yes], "supported"),
        ([yes, open_], "inconclusive"),
        ([open_, no, yes], "contradicted"),
        ([yes, no], "contradicted"),
        ([no, no], "contradicted"),
    ):
        for order in (parts, parts[::-1]):
            whole = all_of(order, "All parts.")
            assert whole.verdict == verdict and whole.rule == "All parts."
    close = finding("supported", 0.1, (0.01, 0.2))
    assert all_of([yes, close], "r").interval == (0.01, 0.2)  # the part nearest to failing
    with pytest.raises(ValueError, match="at least one part"):
        all_of([], "rule")


def test_what_the_data_cannot_speak_to():
    missing = undecided("Needs boxes.", unit="share")
    assert (missing.verdict, missing.n, missing.unit) == ("inconclusive", 0, "share")
    assert np.isnan(missing.estimate) and np.isnan(missing.interval).all()
    assert all_of([finding("supported"), missing], "r").verdict == "inconclusive"
