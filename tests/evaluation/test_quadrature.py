"""Every rule from one fine grid: equal to the method itself, of the right order."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.attribution import integrated_gradients
from lib.evaluation.quadrature import convergence, grid_weights, on_grid, slope

SAME = {"right_riemann": lambda m: m, "midpoint": lambda m: m, "trapezoid": lambda m: m + 1}


@pytest.mark.parametrize(
    ("rule", "steps"), [("right_riemann", 4), ("midpoint", 6), ("trapezoid", 12)]
)
def test_equals_the_method_at_those_steps(small64, rule, steps):
    images = torch.rand(3, 3, 8, 7, dtype=torch.float64)
    targets = torch.tensor([0, 2, 3])
    frame = convergence(small64, images, targets, steps=[steps], intervals=24, batch_size=5)
    found = frame[frame["rule"] == rule].set_index("image")
    ours = integrated_gradients(small64, images, targets, steps=SAME[rule](steps), rule=rule)
    fine = integrated_gradients(small64, images, targets, steps=25, rule="trapezoid")
    expected = (ours - fine).abs().mean((1, 2, 3)) / fine.abs().mean((1, 2, 3))
    np.testing.assert_allclose(found["difference"], expected, rtol=1e-6)
    rise = (small64(images) - small64(torch.zeros_like(images))).gather(1, targets.view(-1, 1))
    gap = (ours.sum((1, 2, 3)) - rise.flatten()).abs() / rise.flatten().abs()
    np.testing.assert_allclose(found["gap"], gap, rtol=1e-6, atol=1e-12)


def test_the_cube(exact):
    network = exact(lambda x: (x**3).flatten(1).sum(1, keepdim=True))
    image = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    frame = convergence(network, image, torch.tensor([0]), steps=[25, 50], intervals=100)
    gaps = frame.set_index(["rule", "steps"])["gap"]
    assert gaps["right_riemann", 25] == pytest.approx(0.0608, abs=1e-9)
    assert gaps["right_riemann", 50] == pytest.approx(0.0302, abs=1e-9)
    assert gaps["midpoint", 25] == pytest.approx(
        1 / (4 * 25**2), rel=1e-6
    )  # h^2 / 24 times f''' jump


def test_orders_of_a_smooth_function(exact):
    network = exact(lambda x: torch.exp(2 * x).flatten(1).sum(1, keepdim=True))
    image = torch.tensor([0.7, 1.0], dtype=torch.float64).view(1, 1, 1, 2)
    steps = [4, 8, 16, 32, 64]
    frame = convergence(network, image, torch.tensor([0]), steps=steps, intervals=4096)
    orders = {rule: slope(part, "gap") for rule, part in frame.groupby("rule")}
    assert orders["right_riemann"] == pytest.approx(-1, abs=0.05)
    assert orders["midpoint"] == pytest.approx(-2, abs=0.02)
    assert orders["trapezoid"] == pytest.approx(-2, abs=0.02)


def test_weights_sum_to_one_and_rules_off_the_grid_are_refused():
    for weights in on_grid([1, 2, 3, 5, 10, 60], 60).values():
        assert weights.sum() == pytest.approx(1)
    assert ("midpoint", 60) not in on_grid([60], 60) and ("trapezoid", 60) in on_grid([60], 60)
    with pytest.raises(ValueError, match="does not lie on a grid of 60"):
        grid_weights("midpoint", 60, 60)
    with pytest.raises(ValueError, match="'simpson' is unknown"):
        grid_weights("simpson", 2, 60)
    for steps, intervals in ((0, 60), (-1, 60), (1, 0)):
        with pytest.raises(ValueError, match="steps and intervals must be at least 1"):
            grid_weights("midpoint", steps, intervals)
    with pytest.raises(ValueError, match="steps and intervals must be at least 1, not 0 and 60"):
        on_grid([4, 0], 60)


def test_slope():
    frame = pd.DataFrame({"steps": [1, 2, 4, 8], "gap": [1.0, 0.25, 1 / 16, 0.0]})
    assert slope(frame, "gap") == pytest.approx(-2)
    with pytest.raises(ValueError, match="two step counts"):
        slope(frame, "gap", least=4)


def test_bad_input(small64):
    images, targets = torch.rand(1, 3, 6, 6, dtype=torch.float64), torch.tensor([1])
    bad = [
        ({"steps": [0]}, "at least 1, not 0"),
        ({"reference": "simpson"}, "'simpson' is unknown"),
        ({"baseline": torch.zeros(1, device="meta")}, "baseline is on meta"),
        ({"baseline": torch.zeros(3, 5, 5)}, "does not broadcast"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message) as error:
            convergence(small64, images, targets, **{"steps": [2], "intervals": 4, **options})
        assert "\n" not in str(error.value)


def test_batches_do_not_matter(small64):
    images, targets = torch.rand(2, 3, 6, 6, dtype=torch.float64), torch.tensor([1, 1])
    frames = [
        convergence(small64, images, targets, steps=[2, 4], intervals=8, batch_size=size)
        for size in (1, 7, 64)
    ]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0], rtol=1e-9, atol=1e-13)
