"""Intervals keep their level, p and interval say the same, and the plans deliver their power."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lib.report.statistics import (
    LEAST,
    NEVER,
    difference_of,
    hall,
    mean_of,
    needed_n,
    needed_share,
    smallest_effect,
    smallest_share,
)

DRAWS = 20_000


def normal_scores(n: int, mean: float = 0.0, sd: float = 1.0) -> np.ndarray:
    """n values of exactly this mean and standard deviation, without skewness."""
    scores = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return mean + sd * scores / scores.std(ddof=1)


def sparse(random, size):
    return random.exponential(size=size) * (random.random(size) < 0.3)


# distribution, its mean, and the two-sided miss rates (%) of the rule at n = 10, 20, 50, as
# published with it after 4,000 draws or more
RATES = {
    "normal": (lambda r, size: r.normal(size=size), 0.0, (4.1, 4.5, 4.6)),
    "uniform": (lambda r, size: r.random(size), 0.5, (3.2, 3.2, 4.0)),
    "exponential": (lambda r, size: r.exponential(size=size), 1.0, (5.6, 4.9, 3.7)),
    "zero-inflated": (sparse, 0.3, (6.2, 3.0, 3.0)),
    "lognormal": (lambda r, size: r.lognormal(size=size), np.exp(0.5), (9.1, 6.8, 4.8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RATES)
def test_the_interval_misses_as_often_as_the_rule_says(name):
    draw, mean, published = RATES[name]
    random = np.random.default_rng(0)
    for n, percent in zip((10, 20, 50), published, strict=True):
        sample = mean_of(draw(random, (n, DRAWS)))
        low, high = sample.interval()
        rate = np.mean((sample.se[0] > 0) & ((low > mean) | (high < mean)))  # no spread: no verdict
        p = percent / 100
        three_errors = 3 * np.sqrt(p * (1 - p) * (1 / DRAWS + 1 / 4_000))  # ours and the table's
        assert rate == pytest.approx(p, abs=three_errors), f"{name}, n = {n}"


def test_the_guard_costs_12_percent_of_width_at_10_and_4_at_20():
    for n, factor in ((10, 1.12), (20, 1.04)):
        sample = mean_of(np.random.default_rng(0).normal(size=(n, DRAWS)))
        low, high = sample.interval()
        student = 2 * stats.t.isf(0.025, n - 1) * sample.se[0]
        assert np.mean((high - low) / student) == pytest.approx(factor, abs=0.005)


@pytest.mark.parametrize(
    ("a", "b", "sizes", "worst"),
    [
        ("normal", "normal", (10, 30), 0.025),
        ("exponential", "exponential", (30, 30), 0.025),
        ("exponential", "normal", (30, 30), 0.025),
        ("zero-inflated", "zero-inflated", (30, 100), 0.03),
    ],
)
def test_two_groups_keep_the_level_on_each_side(a, b, sizes, worst):
    random, draws = np.random.default_rng(0), 10_000
    groups = [
        RATES[name][0](random, (n, draws)) - RATES[name][1]
        for name, n in zip((a, b), sizes, strict=True)
    ]
    low, high = difference_of(*groups).interval()
    limit = worst + 3 * np.sqrt(worst / draws)
    assert np.mean(low > 0) < limit and np.mean(high < 0) < limit


def test_each_limit_is_the_wider_of_student_and_hall():
    for seed in range(20):
        values = np.random.default_rng(seed).exponential(size=15)
        n, mean, error = 15, values.mean(), stats.sem(values)
        k, t = stats.skew(values) / n**0.5, stats.t.isf(0.005, n - 1)
        by_hall = [3 / k * (np.cbrt(1 + k * (y - k / 6)) - 1) for y in (t, -t)]
        low, high = mean_of(values).interval(0.99)
        assert low == pytest.approx(mean - max(t, by_hall[0]) * error)
        assert high == pytest.approx(mean - min(-t, by_hall[1]) * error)


def test_each_group_reaches_to_its_own_wider_limit():
    for seed in range(20):
        random = np.random.default_rng(seed)
        a, b = random.exponential(size=15), random.lognormal(size=25)
        t = stats.t.isf(0.025, stats.ttest_ind(a, b, equal_var=False).df)
        reach = {}
        for name, x in (("a", a), ("b", b)):
            k = stats.skew(x) / len(x) ** 0.5
            down, up = (3 / k * (np.cbrt(1 + k * (y - k / 6)) - 1) for y in (t, -t))
            reach[name] = max(t, down) * stats.sem(x), max(t, -up) * stats.sem(x)
        apart = a.mean() - b.mean()
        low, high = difference_of(a, b).interval()
        assert low == pytest.approx(apart - np.hypot(reach["a"][0], reach["b"][1]))
        assert high == pytest.approx(apart + np.hypot(reach["a"][1], reach["b"][0]))


@pytest.mark.slow
@given(t=st.floats(-20, 20), k=st.floats(-1, 1))
def test_hall_inverts_his_polynomial(t, k):
    polynomial = t + k * t**2 / 3 + k**2 * t**3 / 27 + k / 6
    assert hall(polynomial, np.float64(k)) == pytest.approx(t, abs=1e-4)


def test_without_skewness_it_is_students_t_and_welchs():
    a, b = normal_scores(12, 0.4), normal_scores(20, 0.1, 2.0)
    one, two = stats.ttest_1samp(a, 0.1), stats.ttest_ind(a, b, equal_var=False)
    assert mean_of(a).interval(0.9) == pytest.approx(tuple(one.confidence_interval(0.9)))
    assert difference_of(a, b).interval() == pytest.approx(tuple(two.confidence_interval(0.95)))
    p, against = mean_of(a).p_between(0.1, np.inf)
    assert (p, against) == pytest.approx((one.pvalue / 2, 1 - one.pvalue / 2))
    assert difference_of(a, b).p_between(0, np.inf)[0] == pytest.approx(two.pvalue / 2)
    assert mean_of(a).p_between(-np.inf, 0.1) == pytest.approx((against, p))


@pytest.mark.parametrize("seed", range(10))
def test_p_is_the_level_whose_limit_reaches_the_threshold(seed):
    random = np.random.default_rng(seed)
    a, b = random.exponential(size=14), random.lognormal(size=25)
    for sample in (mean_of(a), mean_of(-b), difference_of(a, b)):
        for level in (0.8, 0.95, 0.999):
            low, high = (float(end) for end in sample.interval(level))
            alpha = (1 - level) / 2
            assert sample.p_between(low, np.inf)[0] == pytest.approx(alpha)
            assert sample.p_between(-np.inf, high)[0] == pytest.approx(alpha)
            assert sample.p_between(high, np.inf)[1] == pytest.approx(alpha)
            assert sample.p_between(low, high)[0] == pytest.approx(alpha)


def test_means_over_many_positions_are_the_means_one_by_one():
    values = np.random.default_rng(0).exponential(size=(12, 3, 2))
    low, high = mean_of(values).interval()
    both = difference_of(values, values[:10] ** 2).interval()
    for at in np.ndindex(3, 2):
        one = values[:, *at]
        assert (low[at], high[at]) == pytest.approx(mean_of(one).interval())
        pair = difference_of(one, one[:10] ** 2).interval()
        assert (both[0][at], both[1][at]) == pytest.approx(pair)


def test_no_spread_beyond_rounding_is_none():
    assert mean_of([0.1 + 0.2, 0.3, 0.3]).sd == 0 and mean_of([5.0]).sd == 0
    low, high = mean_of(np.full((12, 2), 0.3)).interval()
    assert low == pytest.approx(0.3) and high == pytest.approx(0.3)


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.9, 0.7, 0.5, 0.3])
@pytest.mark.parametrize("alpha", [0.025, 0.025 / 6])
def test_the_needed_n_has_80_percent_power_and_one_less_has_not(effect, alpha):
    n = needed_n(effect, alpha=alpha)

    def power(n: int) -> float:
        draws = np.random.default_rng(n).normal(effect, size=(n, DRAWS))
        return np.mean(mean_of(draws).interval(1 - 2 * alpha)[0] > 0)

    three_errors = 3 * np.sqrt(0.8 * 0.2 / DRAWS)
    assert power(n) > 0.8 - three_errors and power(n - 1) < 0.8 + three_errors


def test_what_is_needed_has_a_least_and_an_end():
    assert needed_n(5.0) == LEAST
    assert needed_n(0.0) is None and needed_n(0.01) is None and needed_n(-1.0) is None
    assert NEVER * 0.85 < needed_n(0.03) < NEVER
    # both bounds to exclude, at half the misses each
    assert needed_n(0.5, np.inf) == needed_n(0.5) < needed_n(0.5, 0.5)


@pytest.mark.parametrize("n", [12, 20, 100])
def test_the_smallest_visible_effect_is_seen_in_80_percent(n):
    random, three_errors = np.random.default_rng(0), 3 * np.sqrt(0.8 * 0.2 / DRAWS)
    low, _ = mean_of(random.normal(smallest_effect(n), size=(n, DRAWS))).interval()
    assert np.mean(low > 0) == pytest.approx(0.8, abs=three_errors + 0.01)  # the guard: on average
    low, high = mean_of(random.normal(size=(n, DRAWS))).interval()
    within = smallest_effect(n, bounds=2)
    inside = np.mean((low > -within) & (high < within))
    assert inside == pytest.approx(0.8, abs=three_errors + 0.02)


def exact_power(n: int, share: float, above: float) -> float:
    successes = np.arange(n + 1)
    shown = [stats.binomtest(int(x), n, above, "greater").pvalue < 0.025 for x in successes]
    return stats.binom.pmf(successes, n, share)[shown].sum()


@pytest.mark.parametrize(("share", "above"), [(0.65, 0.5), (0.98, 0.9), (1.0, 0.9), (0.4, 0.25)])
def test_a_share_needs_the_n_from_which_the_exact_test_has_power(share, above):
    n = needed_share(share, above)
    assert exact_power(n - 1, share, above) < 0.8
    assert min(exact_power(more, share, above) for more in range(n, n + 12)) >= 0.8
    assert needed_share(above, above) is None
    assert exact_power(60, smallest_share(60, above), above) == pytest.approx(0.8)
    assert smallest_share(3, above) is None or above == 0.25
