"""The protocol ``convergence``: equal to the method itself, exact where the sum is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.attribution import integrated_gradients
from lib.evaluation.quadrature import convergence, shared_nodes

RULES = {"right_riemann": [4], "midpoint": [6], "trapezoid": [12]}


def rows(network, images, targets, rules=RULES, reference=24):
    given = {"rules": rules, "reference": reference, "seed": 0}
    photos = SimpleNamespace(targets=torch.tensor(targets))
    return convergence(network, photos, images, given).set_index(["rule", "steps"])


def test_equals_the_method_at_those_steps(small64):
    images = torch.rand(3, 3, 8, 7, dtype=torch.float64)
    targets = torch.tensor([0, 2, 3])
    found = rows(small64, images, targets.tolist())
    fine = integrated_gradients(small64, images, targets, steps=24, rule="right_riemann")
    rise = (small64(images) - small64(torch.zeros_like(images))).gather(1, targets.view(-1, 1))
    for rule, (steps,) in RULES.items():
        part = found.loc[(rule, steps)]
        assert part["image"].tolist() == [0, 1, 2]
        nodes = steps + 1 if rule == "trapezoid" else steps
        ours = integrated_gradients(small64, images, targets, steps=nodes, rule=rule)
        expected = (ours - fine).abs().mean((1, 2, 3)) / fine.abs().mean((1, 2, 3))
        np.testing.assert_allclose(part["difference"], expected, rtol=1e-6)
        gap = (ours.sum((1, 2, 3)) - rise.flatten()).abs() / rise.flatten().abs()
        np.testing.assert_allclose(part["gap"], gap, rtol=1e-3, atol=1e-5)


def test_the_cube(exact):
    network = exact(lambda x: (x**3).flatten(1).sum(1, keepdim=True))
    image = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    rules = {"right_riemann": [25, 50, 100], "midpoint": [25], "trapezoid": [25]}
    found = rows(network, image, [0], rules, reference=100)
    gap, difference = found["gap"], found["difference"]
    assert gap["right_riemann", 25] == pytest.approx(0.0608, abs=1e-9)
    assert gap["right_riemann", 50] == pytest.approx(0.0302, abs=1e-9)
    assert gap["midpoint", 25] == pytest.approx(1 / (4 * 25**2), rel=1e-6)
    assert gap["trapezoid", 25] == pytest.approx(1 / (2 * 25**2), rel=1e-6)
    assert difference["right_riemann", 100] == 0
    assert difference["right_riemann", 25] == pytest.approx((1.0608 - 1.01505) / 1.01505)


def test_a_node_is_evaluated_once_and_weights_sum_to_one():
    nodes, weights = shared_nodes([("right_riemann", m) for m in (3, 10, 15, 300)])
    assert len(nodes) == 300 and weights.sum(0) == pytest.approx(np.ones(4))
    assert (weights > 0).sum(0).tolist() == [3, 10, 15, 300]
    nodes, weights = shared_nodes([("trapezoid", 4), ("midpoint", 2)])
    assert nodes.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert weights.T.tolist() == [[0.125, 0.25, 0.25, 0.25, 0.125], [0, 0.5, 0, 0.5, 0]]


@pytest.mark.parametrize(
    ("chosen", "message"), [(("simpson", 4), "'simpson' is unknown"), (("midpoint", 0), "not 0")]
)
def test_bad_input(chosen, message):
    with pytest.raises(ValueError, match=message):
        shared_nodes([chosen])
