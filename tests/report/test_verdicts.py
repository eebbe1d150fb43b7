"""Every kind of part on planted data, and claims judged by them as the rule promises."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from lib.report.statistics import needed_share
from lib.report.verdicts import (
    Part,
    above,
    below,
    claim_verdict,
    difference,
    equal,
    identity,
    paired_share,
    share,
    unmeasured,
)

ABOUT = {"of": "a above b", "unit": "photos"}
TURNED = {"supported": "contradicted", "contradicted": "supported"}


def planted(mean: float, n: int = 40, sd: float = 1.0) -> np.ndarray:
    """n values of exactly this mean and standard deviation, without skewness."""
    scores = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return mean + sd * scores / scores.std(ddof=1)


def part(verdict: str, p: float = 0.001, **changes) -> Part:
    """A part with this verdict, whose p on the side of its verdict is ``p``."""
    p, against = {
        "supported": (p, 1 - p),
        "contradicted": (1 - p, p),
        "inconclusive": (0.3, 0.7),
    }[verdict]
    effect = 0.5 - p
    changes = {"of": verdict, "unit": "photos", "rule": "", "n": 20, "effect": effect, **changes}
    made = Part(p=p, p_against=against, **changes)
    assert made.verdict == verdict
    return made


# ---------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("make", [above, below])
def test_a_mean_against_its_margin(make):
    sign = 1 if make is above else -1
    for distance, verdict in ((0.5, "supported"), (-0.5, "contradicted"), (0.1, "inconclusive")):
        made = make(planted(0.2 + sign * distance), 0.2, **ABOUT)
        assert made.verdict == verdict
        assert made.effect == pytest.approx(distance) and made.threshold == 0.2
        assert made.estimate == pytest.approx(0.2 + sign * distance)
        assert (made.needed_n is None) == (verdict != "inconclusive")
    assert (made.of, made.unit, made.n, made.note) == ("a above b", "photos", 40, "")
    assert make(planted(0.2), 0.2, **ABOUT).needed_n is None  # never: no effect is seen


def test_the_interval_is_two_sided_at_95_percent_and_decides():
    # one-sided p of 4 % and 2 %: a one-sided 95 % interval would call both supported
    for p, verdict in ((0.04, "inconclusive"), (0.02, "supported")):
        made = above(planted(stats.t.isf(p, 39) / 40**0.5), **ABOUT)
        assert made.p == pytest.approx(p) and made.verdict == verdict
        assert (made.interval[0] > 0) == (verdict == "supported")
    assert replace(made, level=0.99).verdict == "inconclusive"
    wide = above(planted(0.4), level=0.99, **ABOUT).interval
    assert wide == pytest.approx(
        tuple(stats.ttest_1samp(planted(0.4), 0).confidence_interval(0.99))
    )


def test_skewness_is_guarded_against():
    values = np.array([-1.0] * 2 + [0.3] * 28)  # Student's t would exclude zero
    assert stats.ttest_1samp(values, 0, alternative="greater").pvalue < 0.025
    assert above(values, **ABOUT).verdict == "inconclusive"


def test_equal_needs_the_whole_interval_inside():
    for mean, verdict in ((0.0, "supported"), (0.4, "inconclusive"), (-0.9, "contradicted")):
        made = equal(planted(mean), 0.5, **ABOUT)
        assert made.verdict == verdict and made.effect == pytest.approx(0.5 - abs(mean))
    # the mean lies inside, 2.4 standard errors from one bound and 1.7 from the other: inconclusive
    narrow = planted(0.35, sd=40**0.5)
    assert equal(narrow, 2.05, **ABOUT).verdict == "inconclusive"
    assert above(narrow, -2.05, **ABOUT).verdict == "supported"


def test_two_independent_groups():
    a, b = planted(1.0, 30), planted(0.0, 50, 2.0)
    made = difference(a, b, **ABOUT)
    welch = stats.ttest_ind(a, b, equal_var=False, alternative="greater")
    assert made.p == pytest.approx(welch.pvalue) and made.verdict == "supported"
    assert difference(b, a, **ABOUT).verdict == "contradicted"
    undecided = difference(planted(0.5, 20), planted(0.0, 20), **ABOUT)
    assert undecided.verdict == "inconclusive" and undecided.effect == pytest.approx(0.5)
    assert 64 <= undecided.needed_n <= 67  # of each: 64 by the books' Welch, and the guard's cost
    assert difference(a[:9], b, **ABOUT).note.startswith("too few: 9")
    assert difference(np.ones(30), b, **ABOUT).note == "too few: no spread"


def test_an_exact_share():
    for successes, verdict in ((20, "supported"), (4, "contradicted"), (13, "inconclusive")):
        made = share(successes, 20, 0.5, **ABOUT)
        assert made.verdict == verdict and made.estimate == successes / 20
        exact = stats.binomtest(successes, 20, 0.5).proportion_ci(0.95, "exact")
        assert made.interval == pytest.approx((exact.low, exact.high))
        assert (made.interval[0] > 0.5) == (verdict == "supported")
        assert (made.interval[1] < 0.5) == (verdict == "contradicted")
    assert share(6, 6, 0.5, **ABOUT).verdict == "supported"  # no least n
    assert share(5, 5, 0.5, **ABOUT).verdict == "inconclusive"
    assert made.needed_n == needed_share(0.65, 0.5)
    assert share(10, 20, 0.5, **ABOUT).needed_n is None  # never: no effect is seen
    assert share(2, 20, 0.3, **ABOUT).needed_n == share(18, 20, 0.7, **ABOUT).needed_n


def test_a_paired_share_is_mcnemars():
    both, neither = [True] * 30, [False] * 10
    for won, lost, verdict in (
        (12, 2, "supported"),
        (2, 12, "contradicted"),
        (8, 4, "inconclusive"),
    ):
        a = both + neither + [True] * won + [False] * lost
        b = both + neither + [False] * won + [True] * lost
        made = paired_share(a, b, **ABOUT)
        assert made.verdict == verdict and made.n == 40 + won + lost
        mcnemar = stats.binomtest(won, won + lost).pvalue
        assert 2 * min(made.p, made.p_against) == pytest.approx(mcnemar)
        assert made.estimate == pytest.approx(np.mean(a) - np.mean(b))
        assert made.interval[0] < made.estimate < made.interval[1]
        assert (made.interval[0] > 0) == (verdict == "supported")
    # the same share of pairs would differ: 4.3 times as many of them, of all pairs
    assert made.needed_n == pytest.approx(share(8, 12, 0.5, **ABOUT).needed_n * 52 / 12, abs=1)
    assert paired_share(both, both, **ABOUT).note == "too few: no pair differs"


def test_an_identity_that_must_hold_and_one_that_must_fail():
    errors = [-1e-6, 5e-7, 2e-7]
    assert identity(errors, 1e-6, **ABOUT).verdict == "supported"
    assert identity(errors, 9e-7, **ABOUT).verdict == "contradicted"  # a sign excuses nothing
    assert identity(errors, 1e-7, fails=True, **ABOUT).verdict == "supported"
    assert identity(errors, 2e-7, fails=True, **ABOUT).verdict == "contradicted"  # one holds
    made = identity(errors, 1e-6, **ABOUT)
    assert (made.estimate, made.interval, made.p) == (1e-6, (2e-7, 1e-6), None)


def test_too_few_no_spread_and_unmeasured_decide_nothing():
    nine = above(planted(5.0, 9), **ABOUT)
    assert (nine.verdict, nine.note) == ("inconclusive", "too few: 9 of at least 10")
    assert nine.estimate == pytest.approx(5) and nine.interval[0] > 0 and nine.p is None
    assert nine.needed_n == 10
    assert above(planted(5.0, 10), **ABOUT).verdict == "supported"
    flat = above([0.1 + 0.2] * 10 + [0.3] * 10, **ABOUT)  # spread by rounding alone
    assert (flat.verdict, flat.note) == ("inconclusive", "too few: no spread")
    assert above([1.0], **ABOUT).note == "too few: 1 of at least 10"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for none in (difference([1.0], [2.0], **ABOUT), above([0.0, 2e-148] * 6, **ABOUT)):
            assert none.verdict == "inconclusive" and none.note.startswith("too few")
    missing = unmeasured("no photo has a box", **ABOUT)
    assert (missing.verdict, missing.n, missing.note) == ("inconclusive", 0, "no photo has a box")
    assert claim_verdict([nine, flat, missing, above([1.0], **ABOUT)]).verdict == "inconclusive"


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [np.inf] * 12, np.ones((12, 2)), 3.0])
def test_values_that_are_none_are_refused(bad):
    for make in (above, below):
        with pytest.raises(ValueError, match="at least one"):
            make(bad, **ABOUT)
    for make in (
        lambda: equal(bad, 1, **ABOUT),
        lambda: identity(bad, 1, **ABOUT),
        lambda: difference(planted(0), bad, **ABOUT),
        lambda: paired_share(bad, [True], **ABOUT),
    ):
        with pytest.raises(ValueError, match="at least one"):
            make()


def test_shares_and_pairs_that_are_none_are_refused():
    for successes, n, chance in ((1, 0, 0.5), (3, 2, 0.5), (-1, 2, 0.5), (1, 2, 0), (1, 2, 1)):
        with pytest.raises(ValueError, match="not a share"):
            share(successes, n, chance, **ABOUT)
    with pytest.raises(ValueError, match="not pairs"):
        paired_share([True, False], [True], **ABOUT)
    with pytest.raises(TypeError):
        above(planted(1), of="no unit")


def test_a_failed_gate_makes_a_part_invalid_in_words():
    better, worse, same = (
        above(planted(m), of="mask above edges", unit="photos") for m in (1, -1, 0)
    )
    good = above(planted(1), gate=better, **ABOUT)
    assert (good.verdict, good.note) == ("supported", "")
    for gates, words in (
        (worse, "measure invalid (mask above edges: contradicted)"),
        ([better, same], "measure invalid (mask above edges: inconclusive)"),
    ):
        for mean in (1, -1, 0):
            bad = above(planted(mean), gate=gates, **ABOUT)
            assert (bad.verdict, bad.note, bad.needed_n) == ("invalid", words, None)
            assert bad.estimate == pytest.approx(mean) and bad.p is not None  # shown, not counted


values = st.lists(st.floats(-100, 100), min_size=10, max_size=30).map(np.array)


@pytest.mark.slow
@given(values, st.floats(-50, 50), st.floats(0.01, 100), st.randoms())
def test_order_scale_shift_and_sign(values, margin, scale, random):
    assume(values.std() > 1e-2)
    made = above(values, margin, **ABOUT)
    assume(abs(made.p - 0.025) > 1e-6 and abs(made.p_against - 0.025) > 1e-6)
    mixed = list(values)
    random.shuffle(mixed)
    for same in (
        above(mixed, margin, **ABOUT),
        above(values * scale, margin * scale, **ABOUT),
        above(values + 7, margin + 7, **ABOUT),
        below(-values, -margin, **ABOUT),
    ):
        assert same.p == pytest.approx(made.p, rel=1e-4, abs=1e-9)
        assert same.effect == pytest.approx(made.effect, rel=1e-6, abs=1e-9)
        assert same.verdict == made.verdict
    other = above(-values, -margin, **ABOUT)
    assert other.verdict == TURNED.get(made.verdict, made.verdict)
    assert other.p == pytest.approx(made.p_against, rel=1e-4, abs=1e-9)
    assert other.interval == pytest.approx((-made.interval[1], -made.interval[0]))
    assert equal(values, 60, **ABOUT).verdict == equal(-values, 60, **ABOUT).verdict


# --------------------------------------------------------------------------------------- claims

YES, NO, OPEN = part("supported"), part("contradicted"), part("inconclusive")
WEAK = part("contradicted", 0.02)  # by itself; not as one of two
INVALID = replace(part("contradicted", 1e-9, of="invalid"), gate=OPEN)


@pytest.mark.parametrize(
    ("parts", "universal", "existential"),
    [
        ([YES], "supported", "supported"),
        ([NO], "contradicted", "contradicted"),
        ([OPEN], "inconclusive", "inconclusive"),
        ([YES, YES], "supported", "supported"),
        ([YES, OPEN], "inconclusive", "supported"),
        ([YES, NO], "mixed", "supported"),
        ([YES, NO, OPEN], "mixed", "supported"),
        ([NO, OPEN], "contradicted", "inconclusive"),
        ([NO, NO], "contradicted", "contradicted"),
        ([WEAK], "contradicted", "contradicted"),
        ([WEAK, OPEN], "inconclusive", "inconclusive"),
        ([WEAK, YES], "inconclusive", "supported"),
        ([WEAK, WEAK], "inconclusive", "contradicted"),
        ([part("supported", 0.02), OPEN], "inconclusive", "inconclusive"),
        ([part("supported", 0.02), part("supported", 0.02)], "supported", "inconclusive"),
        ([YES, INVALID], "supported", "supported"),
        ([NO, INVALID], "contradicted", "contradicted"),
        ([WEAK, INVALID], "contradicted", "contradicted"),  # m counts what counts
        ([INVALID, INVALID], "inconclusive", "inconclusive"),
        ([INVALID, OPEN], "inconclusive", "inconclusive"),
        ([], "inconclusive", "inconclusive"),
        ([YES, replace(NO, core=False)], "supported", "supported"),
        ([WEAK, replace(YES, core=False)], "contradicted", "contradicted"),
        ([YES, identity([1.0], 2.0, **ABOUT)], "supported", "supported"),
        ([YES, identity([1.0], 0.5, **ABOUT)], "mixed", "supported"),
        ([OPEN, identity([1.0], 0.5, **ABOUT)], "contradicted", "inconclusive"),
        ([identity([1.0], 2.0, **ABOUT)], "supported", "supported"),
    ],
)
def test_claims_of_several_parts(parts, universal, existential):
    for order in (parts, parts[::-1]):
        assert claim_verdict(order).verdict == universal
        assert claim_verdict(order, existential=True).verdict == existential
        for judged in (claim_verdict(order), claim_verdict(order, existential=True)):
            json.dumps(judged.record(), allow_nan=False)


@given(st.lists(st.sampled_from([YES, NO, OPEN, WEAK, INVALID]), max_size=6))
def test_an_existential_claim_is_the_contrary_of_one_about_all(parts):
    def turned(part):
        return replace(part, p=part.p_against, p_against=part.p, effect=-part.effect)

    some = claim_verdict(parts, existential=True)
    all_contrary = claim_verdict([turned(part) for part in parts])
    contrary = {"mixed": "supported"} | TURNED
    verdict = all_contrary.verdict
    assert some.verdict == contrary.get(verdict, verdict)
    assert some.p == all_contrary.p and some.needed_n == all_contrary.needed_n


def test_the_reason_says_which_part_is_what():
    mixed = claim_verdict([YES, NO, OPEN, WEAK, INVALID]).reason
    assert mixed == (
        "supported: supported. contradicted: contradicted. undecided: inconclusive. "
        "contradicted by itself, not surely enough: contradicted. invalid: invalid"
    )
    assert claim_verdict([YES, YES]).reason == "supported; supported"  # each part by its name
    assert claim_verdict([INVALID]).reason == "no part counts. invalid: invalid"
    assert claim_verdict([]).reason == "no part counts"


def test_p_of_a_claim_is_two_sided_and_below_5_percent_where_it_is_decided():
    assert claim_verdict([YES, part("supported", 0.02)]).p == pytest.approx(0.04)
    assert claim_verdict([NO, OPEN, OPEN]).p == pytest.approx(2 * 3 * 0.001)
    assert claim_verdict([YES, OPEN], existential=True).p == pytest.approx(2 * 2 * 0.001)
    assert claim_verdict([YES, INVALID, identity([1.0], 2.0, **ABOUT)]).p == pytest.approx(0.002)
    assert claim_verdict([identity([1.0], 2.0, **ABOUT)]).p is None
    assert claim_verdict([YES, above([1.0], **ABOUT)]).p == 1
    for parts in ([YES, WEAK], [WEAK], [YES, NO], [OPEN], [WEAK, OPEN, OPEN], [YES, YES]):
        judged = claim_verdict(parts)
        assert (judged.p < 0.05) == (judged.verdict != "inconclusive")


def test_the_n_that_would_decide_a_claim():
    small, large = (above(planted(mean, 20), **ABOUT) for mean in (0.1, 0.3))
    against = above(planted(-0.3, 20), **ABOUT)
    strong = above(planted(3.0, 20), **ABOUT)
    assert claim_verdict([strong]).needed_n is None  # decided
    assert claim_verdict([small, large, strong]).needed_n == small.needed_n > large.needed_n
    # one part that leans against the claim is enough, at the level of two tries
    alone, of_two = against.needed_n, claim_verdict([small, against]).needed_n
    assert of_two == against.needed(0.0125) > alone
    assert claim_verdict([small, against], existential=True).needed_n == small.needed(0.0125)
    both = [against, above(planted(-0.2, 20), **ABOUT)]
    assert claim_verdict(both, existential=True).needed_n == both[1].needed_n
    hopeless = above(planted(0.001), **ABOUT)
    assert claim_verdict([hopeless, large]).needed_n is None  # never here
    assert claim_verdict([unmeasured("no box", **ABOUT), large]).needed_n is None
    assert claim_verdict([replace(small, gate=OPEN), large]).needed_n == large.needed_n


def test_the_parts_of_a_claim_share_one_level():
    strict = above(planted(0.4), level=0.99, **ABOUT)
    assert strict.verdict == "inconclusive" and above(planted(0.4), **ABOUT).verdict == "supported"
    assert claim_verdict([strict]).verdict == "inconclusive"
    assert claim_verdict([replace(WEAK, level=0.99), strict]).verdict == "inconclusive"
    with pytest.raises(ValueError, match="one level"):
        claim_verdict([strict, YES])


def test_the_record_is_what_the_results_file_holds():
    gate = above(planted(1), of="mask above random", unit="photos")
    made = above(planted(0.1), gate=gate, core=False, **ABOUT)
    record = claim_verdict([made, gate], published={"source": "a paper", "area": 0.3}).record()
    assert record["published"] == {"source": "a paper", "area": 0.3}
    assert {"verdict", "reason", "p", "needed_n", "parts"} < set(record)
    first, second = record["parts"]
    assert first["gate"] == [{"of": "mask above random", "verdict": "supported"}]
    assert first["needed_n"] == made.needed_n > 700 and second["needed_n"] is None
    assert first["verdict"] == "inconclusive" and not first["core"] and second["core"]
    wanted = {"estimate", "interval", "n", "p", "effect", "unit", "rule", "threshold", "smallest"}
    assert wanted < set(first)


def test_an_interval_ends_where_its_quantity_does():
    values = [0.99] * 18 + [0.2, 0.1]  # correlations
    free, bound = (above(values, 0.5, **about, **ABOUT) for about in ({}, {"bounds": (-1, 1)}))
    assert free.interval[1] > 1 == bound.interval[1]
    assert (bound.interval[0], bound.p, bound.verdict) == (free.interval[0], free.p, free.verdict)
    assert unmeasured("no value", bounds=(-1, 1), **ABOUT).interval is None


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_are_as_good():
    flags, margin = np.arange(40) < 25, np.float32(0.25)
    parts = [
        above(planted(1).astype(np.float32), margin, **ABOUT),
        equal(planted(0), margin, **ABOUT),
        share(flags.sum(), np.int64(40), margin, **ABOUT),
        paired_share(flags, ~flags, **ABOUT),
        identity(np.ones(3), np.float32(0.5), **ABOUT),
    ]
    assert parts[-1].verdict == "contradicted"
    json.dumps(claim_verdict(parts).record(), allow_nan=False)
    with pytest.raises(TypeError):
        share(2.5, 20, 0.5, **ABOUT)


# ---------------------------------------------------------------------------- the rule's promises


@pytest.fixture(scope="module")
def null_parts() -> list[Part]:
    """Independent parts, n = 20, whose true mean is exactly at the margin."""
    draws = np.random.default_rng(0).normal(size=(3_600, 20))
    return [above(row, **ABOUT) for row in draws]


def limit(count: int, level: float = 0.025) -> float:
    """The level and three standard errors of a rate over ``count`` draws."""
    return level + 3 * (level * (1 - level) / count) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 4, 6])
def test_true_nulls_are_rarely_decided(null_parts, m):
    claims = [null_parts[at : at + m] for at in range(0, len(null_parts), m)]
    count = len(claims)
    verdicts = [claim_verdict(parts).verdict for parts in claims]
    rates = {name: verdicts.count(name) / count for name in set(verdicts)}
    # contradicted or mixed: some part at .025 / m, whatever the others are
    assert rates.get("contradicted", 0) + rates.get("mixed", 0) < limit(count)
    assert rates.get("supported", 0) < limit(count, 0.025**m)
    # the worst case of "supported": one part is null and the others are beyond doubt
    clear = [YES] * (m - 1)
    worst = [claim_verdict([parts[0], *clear]).verdict for parts in claims]
    assert worst.count("supported") / count < limit(count)
    assert worst.count("mixed") / count < limit(count, 0.025 / m)
    if m == 1:  # and not only because nothing is ever decided
        assert rates["supported"] > 0.015 and rates["contradicted"] > 0.015
    some = [claim_verdict(parts, existential=True).verdict for parts in claims]
    assert some.count("supported") / count < limit(count)
    assert some.count("contradicted") / count < limit(count, 0.025**m)
    decided = [claim_verdict(parts).p < 0.05 for parts in claims]
    assert np.mean(decided) < limit(count, 0.05)


SURE, WEAKER = (
    above(planted(2), of="sure", unit="photos"),
    above(planted(1), of="weak", unit="photos"),
)
AGAINST = above(planted(-1), of="against", unit="photos")
FAR = above(planted(-2), of="far", unit="photos")
EXACT = identity([0.0], 1.0, of="exact", unit="photos")
UNSURE = above(planted(0.1), of="unsure", unit="photos")


@pytest.mark.parametrize(
    ("parts", "existential", "verdict", "of"),
    [
        ([SURE, WEAKER, EXACT], False, "supported", "weak"),
        ([EXACT], False, "supported", "exact"),
        ([AGAINST, FAR, UNSURE], False, "contradicted", "far"),
        ([SURE, AGAINST, FAR], False, "mixed", "far"),
        ([SURE, WEAKER, UNSURE], False, "inconclusive", "unsure"),
        ([SURE, WEAKER, FAR], True, "supported", "sure"),
        ([AGAINST, FAR], True, "contradicted", "against"),
        ([AGAINST, UNSURE], True, "inconclusive", "unsure"),
        ([replace(SURE, gate=UNSURE), replace(FAR, core=False)], False, "inconclusive", ""),
        ([], False, "inconclusive", ""),
    ],
)
def test_the_part_that_decides_stands_for_the_claim(parts, existential, verdict, of):
    judged = claim_verdict(parts, existential)
    assert (judged.verdict, judged.deciding.of, judged.existential) == (verdict, of, existential)


def test_fewer_than_ten_could_have_shown_nothing():
    assert above(planted(1)[:9], **ABOUT).smallest is None
    assert above(planted(1)[:10], **ABOUT).smallest > 0
