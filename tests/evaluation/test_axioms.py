"""The axiom checks: the examples are what they say, and each check can fail and can hold."""

from functools import partial

import pytest
import torch

from lib.attribution import (
    edges,
    expected_gradients,
    gradient,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    random,
    smoothgrad,
)
from lib.evaluation import axioms, tiny
from lib.evaluation.axioms import (
    AXIOMS,
    CASES,
    TOLERANCE,
    attribution_of,
    check_axioms,
    score,
)

IG = partial(integrated_gradients, steps=256)


def holds(method, **options):
    """Axiom -> does every case of it hold?"""
    frame = check_axioms(method, **options)
    fits = frame["violation"].abs() <= TOLERANCE  # not so of NaN
    return fits.groupby(frame["axiom"]).all().to_dict()


def test_each_axiom_has_cases_and_some_without_bias():
    assert len(AXIOMS) == 6
    assert {case.axiom for case in CASES if case.homogeneous} == set(AXIOMS)


def test_the_papers_values():
    assert attribution_of(IG, tiny.SATURATES, [2.0, 0.0]).tolist() == pytest.approx([1, 0])
    assert attribution_of(gradient, tiny.SATURATES, [2.0, 0.0]).tolist() == [0, 0]
    for network in tiny.SUBTRACTS:
        values = attribution_of(partial(IG, steps=600), network, [3.0, 1.0])
        assert values.tolist() == pytest.approx([1.5, -0.5], abs=5e-3)
        assert attribution_of(guided_backprop, network, [3.0, 1.0])[1] == 0


@pytest.mark.parametrize("pair", [tiny.SUBTRACTS, tiny.PASSES_BY])
def test_pairs_are_one_function(pair):
    for x in torch.rand(50, 2, dtype=torch.float64) * 8 - 4:
        x = x.tolist() if pair is tiny.PASSES_BY else x.abs().tolist()
        assert score(pair[0], x) == pytest.approx(score(pair[1], x), abs=1e-12)


def test_functions_have_the_property_that_their_axiom_needs():
    for a, b, c in (torch.rand(20, 3, dtype=torch.float64) * 3).tolist():
        assert score(tiny.SYMMETRIC, [a, b, c, 1]) == pytest.approx(
            score(tiny.SYMMETRIC, [b, a, c, 1])
        )
        assert score(tiny.LOPSIDED, [a, b, c]) == pytest.approx(score(tiny.LOPSIDED, [b, a, c]))
        for network in (tiny.CANCELS, tiny.SATURATES):
            assert score(network, [a, b]) == pytest.approx(score(network, [a, c]))
        for network in (tiny.OPPOSES, tiny.RISES, tiny.CANCELS):
            assert score(network, [7 * a, 7 * b]) == pytest.approx(7 * score(network, [a, b]))
            assert tiny.homogeneous(network)
    assert not tiny.homogeneous(tiny.FALLS)


@pytest.mark.slow
def test_integrated_gradients_pass_all_for_every_rule():
    for rule in ("midpoint", "trapezoid", "gauss_legendre", "right_riemann"):
        frame = check_axioms(integrated_gradients, steps=300, rule=rule)
        assert frame["violation"].abs().max() <= TOLERANCE, rule


def test_input_x_gradient_passes_all_without_biases_and_not_with_them():
    assert all(holds(input_x_gradient, x_dnn=True).values())
    assert not holds(input_x_gradient)["completeness"]
    assert not holds(input_x_gradient)["sensitivity (a)"]


@pytest.mark.slow
def test_who_fails_what():
    passes = {"implementation invariance", "linearity", "sensitivity (b)", "symmetry"}
    assert {axiom for axiom, ok in holds(gradient).items() if ok} == passes
    assert not any(holds(guided_backprop).values())
    assert {a for a, ok in holds(smoothgrad).items() if ok} == passes - {"symmetry"}
    assert not holds(partial(smoothgrad, statistic="squared"))["linearity"]
    for control in (random, edges):
        fails = {axiom for axiom, ok in holds(control).items() if not ok}
        assert {"completeness", "sensitivity (b)", "linearity", "symmetry"} <= fails


def test_a_method_that_draws_is_off_on_one_draw_and_not_in_expectation():
    def from_black(network, images, targets, **options):
        references = torch.zeros_like(images)
        return expected_gradients(network, images, targets, references=references, **options)

    for method, axiom in ((from_black, "completeness"), (smoothgrad, "symmetry")):
        cases = [case for case in CASES if case.axiom == axiom]
        frame = check_axioms(method, draws=40, samples=32, cases=cases)
        assert len(frame) == 40 * len(cases)
        found = frame.groupby("example")["violation"]
        assert frame["violation"].abs().max() > 2 * TOLERANCE
        assert (found.mean().abs() < 4 * found.sem() + 1e-12).all()


def test_a_refusal_is_recorded_and_is_no_number():
    def picky(classifier, images, targets):
        raise ValueError("this network has a bias")

    frame = check_axioms(picky)
    assert frame["violation"].isna().all() and len(frame) == len(CASES)
    assert set(frame["note"]) == {"this network has a bias"}


def test_violations_are_relative_to_the_attributions_and_to_the_rise():
    """A map that is wrong by a known share, at any scale of the function and the map."""
    network = tiny.RISES  # 2 x1 + 3 ReLU(x1 - x2): 12 at (3, 1), 0 at black

    def attribute(network, x):
        return torch.tensor([9.0, 6.0], dtype=torch.float64) * score(network, x) / 12

    assert score(network, [3.0, 1.0]) == 12
    assert axioms.completeness(attribute, network, [3.0, 1.0]).tolist() == pytest.approx([0.25])
    assert axioms.symmetry(attribute, network, [3.0, 1.0]).tolist() == pytest.approx([1 / 3])
    found = axioms.sensitivity_b(attribute, network, [3.0, 1.0], 1)
    assert found.tolist() == pytest.approx([2 / 3])


def test_the_examples_are_at_the_points_that_their_names_say():
    for case in CASES:
        if case.axiom == "completeness" and " at (" in case.example:
            point = [float(v) for v in case.example.split(" at (")[1].rstrip(")").split(", ")]
            seen = []
            case.violations(lambda network, x, seen=seen: seen.append(list(x)) or torch.ones(2))
            assert seen == [point]
