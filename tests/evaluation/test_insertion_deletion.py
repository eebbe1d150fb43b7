"""Deletion and insertion: end points, linear models, the authors' blur."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from lib.evaluation.insertion_deletion import blur, insertion_deletion_curves
from lib.networks.classifier import Classifier

X = torch.rand(2, 3, 8, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
W = torch.randn(1, 3, 8, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
T = torch.tensor([0, 0])


@pytest.fixture(scope="module")
def linear(exact):
    return exact(lambda x: (x * W).sum((1, 2, 3)).view(-1, 1), channels=3)


def curve(frame, name, image=0):
    part = frame[(frame["curve"] == name) & (frame["image"] == image)].sort_values("fraction")
    return part["logit"].to_numpy()


def test_end_points(linear):
    frame = insertion_deletion_curves(linear, X, T, torch.rand(2, 8, 7), steps=4)
    assert len(frame) == 2 * 2 * 5
    whole = (W * X).sum((1, 2, 3)).numpy()
    hidden = (W * blur(X)).sum((1, 2, 3)).numpy()
    for image in (0, 1):
        deletion, insertion = curve(frame, "deletion", image), curve(frame, "insertion", image)
        assert np.allclose(deletion[[0, -1]], [whole[image], 0])  # this mean is black
        assert np.allclose(insertion[[0, -1]], [hidden[image], whole[image]])


def test_deletion_hides_under_the_color_that_normalization_maps_to_zero(small):
    gray = Classifier(small.network, mean=(0.2, 0.4, 0.6), std=(0.5, 0.5, 0.5), name="gray")
    images = torch.rand(1, 3, 6, 6)
    frame = insertion_deletion_curves(gray, images, torch.tensor([1]), torch.rand(1, 6, 6), steps=2)
    color = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 6, 6)
    assert np.isclose(curve(frame, "deletion")[-1], float(gray(color)[0, 1]), atol=1e-4)


def test_exact_maps_are_the_envelope_of_random_ones(linear):
    """Linear model: no order deletes or inserts faster than the true contributions."""
    random = torch.Generator().manual_seed(3)
    gains = (W * X).sum(1), (W * (X - blur(X))).sum(1)
    deletion = insertion_deletion_curves(linear, X, T, gains[0], steps=14)
    insertion = insertion_deletion_curves(linear, X, T, gains[1], steps=14)
    for _ in range(10):
        other = insertion_deletion_curves(
            linear, X, T, torch.rand(2, 8, 7, generator=random), steps=14
        )
        for image in (0, 1):
            best, worse = curve(deletion, "deletion", image), curve(other, "deletion", image)
            assert (best <= worse + 1e-9).all()
            best, worse = curve(insertion, "insertion", image), curve(other, "insertion", image)
            assert (best >= worse - 1e-9).all()


def test_insertion_shows_the_most_salient_pixels_and_only_them(linear):
    maps = torch.zeros(2, 8, 7)
    maps[:, 2, 3] = 1
    frame = insertion_deletion_curves(linear, X, T, maps, steps=56)  # one pixel per step
    shown = blur(X)
    shown[:, :, 2, 3] = X[:, :, 2, 3]
    assert np.isclose(curve(frame, "insertion")[1], float((W * shown)[0].sum()))
    gone = X.clone()
    gone[:, :, 2, 3] = 0
    assert np.isclose(curve(frame, "deletion")[1], float((W * gone)[0].sum()))


def test_blur_is_the_authors_kernel():
    """11 x 11, sigma 5, normalized, zeros around: their two-dimensional kernel in one piece."""
    offsets = torch.arange(-5, 6).double()
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / 50)
    kernel /= kernel.sum()
    image = torch.rand(1, 1, 20, 17).double()
    assert torch.allclose(blur(image), conv2d(image, kernel.view(1, 1, 11, 11), padding=5))
    flat = torch.full((1, 3, 9, 9), 0.3)
    assert torch.allclose(blur(flat, flat), flat, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_bad_input(linear):
    with pytest.raises(ValueError, match="steps must be a whole number from 1, not 0"):
        insertion_deletion_curves(linear, X, T, torch.rand(2, 8, 7), steps=0)
    with pytest.raises(ValueError, match="do not fit"):
        insertion_deletion_curves(linear, X, T, torch.rand(2, 7, 8))
    with pytest.raises(ValueError, match="NaN"):
        insertion_deletion_curves(linear, X, T, torch.full((2, 8, 7), torch.nan))
