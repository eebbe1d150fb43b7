"""The protocol ``saturation``: scores and gradients on the path, where both are known."""

from types import SimpleNamespace

import pytest
import torch

from lib.evaluation.saturation import saturation


def test_a_known_path(exact):
    """z = (s^2, 0) with s the sum of all values: dz/dx = 2 s, dp/dx = p (1 - p) 2 s."""

    def logits(x):
        square = x.flatten(1).sum(1, keepdim=True) ** 2
        return torch.cat([square, 0 * square], 1)

    images = torch.full((2, 1, 2, 4), 0.125, dtype=torch.float64)  # s = 1 at full intensity
    boxes = [torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.empty(0, 4)]
    photos = SimpleNamespace(targets=torch.tensor([0, 0]), instances=boxes)
    rows = saturation(exact(logits), photos, images, {"alphas": [0.0, 0.5, 1.0], "seed": 0})
    assert rows["image"].tolist() == [0] * 6 + [1] * 6
    found = rows[rows["image"] == 0].set_index(["score", "alpha"])
    for alpha in (0.0, 0.5, 1.0):
        p = float(torch.sigmoid(torch.tensor(alpha**2, dtype=torch.float64)))
        assert found["value"]["logit", alpha] == pytest.approx(alpha**2, abs=1e-6)
        assert found["value"]["probability", alpha] == pytest.approx(p, abs=1e-6)
        for column in ("size", "in_box"):  # the gradient is the same everywhere
            assert found[column]["logit", alpha] == pytest.approx(2 * alpha)
            assert found[column]["probability", alpha] == pytest.approx(p * (1 - p) * 2 * alpha)
    other = rows[rows["image"] == 1]
    assert other["in_box"].isna().all() and other["size"].notna().all()


def test_only_the_box_counts(exact):
    network = exact(lambda x: (x[..., :2].flatten(1).sum(1, keepdim=True)) * torch.ones(1, 2))
    image = torch.rand(1, 1, 3, 5, dtype=torch.float64)
    for (x0, x1), expected in (((0, 2), 1.0), ((1, 3), 0.5), ((3, 5), 0.0)):
        box = torch.tensor([[x0, 0.0, x1, 3.0]])
        photos = SimpleNamespace(targets=torch.tensor([0]), instances=[box])
        rows = saturation(network, photos, image, {"alphas": [1.0], "seed": 0})
        assert rows.set_index("score")["in_box"]["logit"] == pytest.approx(expected)
