"""SmoothGrad, its square and its variance: expectations, units, Captum on the same noise."""

import captum.attr
import pytest
import torch
from support.networks import Exact, relative

from lib.attribution import edges, gradient, integrated_gradients
from lib.attribution.smoothgrad import STATISTICS, noisy_moments, smoothgrad
from lib.core import draws
from lib.networks.classifier import Classifier

SIZE = 6
ZERO = torch.zeros(1, dtype=torch.long)


@pytest.fixture(scope="module")
def quadratic(exact):
    r"""$F=\frac12 x^\top A x$ on 1 x 6 pixels, and its symmetric A."""
    matrix = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    matrix = matrix + matrix.T

    def half_form(x):
        x = x.flatten(1)
        return 0.5 * ((x @ matrix) * x).sum(1, keepdim=True)

    return exact(half_form), matrix


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 1, 1, SIZE, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.slow
def test_the_three_expectations_of_a_quadratic(quadratic, image):
    network, matrix = quadratic
    samples, noise = 4000, 0.3
    sigma = noise * (image.max() - image.min())
    plain = matrix @ image.flatten()
    spread = sigma**2 * (matrix @ matrix.T).diagonal()
    mean, squared, variance = (
        moment.flatten()
        for moment in noisy_moments(network, image, ZERO, samples=samples, noise=noise)
    )
    # four standard errors; the gradient is normal around Ax with that spread
    assert ((mean - plain).abs() < 4 * (spread / samples).sqrt()).all()
    error = (2 * spread**2 + 4 * plain**2 * spread).div(samples).sqrt()
    assert ((squared - (plain**2 + spread)).abs() < 4 * error).all()
    assert ((variance - spread).abs() < 4 * spread * (2 / samples) ** 0.5).all()
    # what would be seen: noise twice as strong, and the square of the mean for the mean square
    assert not ((variance - 4 * spread).abs() < 4 * spread * (2 / samples) ** 0.5).all()
    assert not ((mean**2 - (plain**2 + spread)).abs() < 4 * error).all()
    for name, moment in zip(STATISTICS, (mean, squared, variance), strict=True):
        ours = smoothgrad(network, image, ZERO, samples=samples, noise=noise, statistic=name)
        torch.testing.assert_close(ours.flatten(), moment)


def test_without_noise_it_is_the_gradient(small64):
    images = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    targets = torch.tensor([1, 3])
    plain = gradient(small64, images, targets)
    assert torch.allclose(smoothgrad(small64, images, targets, samples=3, noise=0), plain)
    options = {"samples": 3, "noise": 0}
    assert torch.allclose(
        smoothgrad(small64, images, targets, statistic="squared", **options), plain**2
    )
    assert smoothgrad(small64, images, targets, statistic="variance", **options).max() < 1e-25
    flat = torch.full_like(images, 0.4)  # no range: no noise
    assert torch.allclose(
        smoothgrad(small64, flat, targets, samples=3), gradient(small64, flat, targets)
    )


def loop(method, classifier, images, targets, samples, noise, seed=0):
    """The definition, one copy at a time: all maps of all copies, (samples, n, ...)."""
    spans = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
    keys = draws.image_keys(images)
    maps = []
    for k in range(samples):
        epsilon = draws.normal(seed, [(key, k) for key in keys], images.shape[1:]).to(images)
        maps.append(method(classifier, images + noise * spans * epsilon, targets))
    return torch.stack(maps)


def test_it_is_the_definition_over_the_same_noise(small64):
    images = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(3)).double()
    images[1] *= 0.2  # another range, hence another sigma
    targets = torch.tensor([0, 2, 1])
    maps = loop(gradient, small64, images, targets, 7, 0.15, seed=4)
    for size in (1, 4, 50):
        mean, squared, variance = noisy_moments(
            small64, images, targets, samples=7, seed=4, batch_size=size
        )
        assert torch.allclose(mean, maps.mean(0), rtol=1e-10)
        assert torch.allclose(squared, maps.square().mean(0), rtol=1e-10)
        assert torch.allclose(variance, maps.var(0, correction=0), rtol=1e-9)
    one_range = (images.max() - images.min()) / (images[1].max() - images[1].min())
    assert one_range > 2  # one sigma for the whole batch would have been seen
    assert not torch.allclose(maps.var(0, correction=1), variance, rtol=1e-3)
    assert not torch.allclose(maps.abs().mean(0), mean, rtol=1e-3)  # |.| comes after the average
    other = smoothgrad(small64, images, targets, samples=7, seed=5)
    assert not torch.allclose(other, mean)


def test_of_any_method(small64):
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(5)).double()
    targets = torch.tensor([3, 0])

    def ig(*args):
        return integrated_gradients(*args, steps=3, baseline="white")

    maps = loop(ig, small64, images, targets, 4, 0.1)
    ours = smoothgrad(
        small64,
        images,
        targets,
        samples=4,
        noise=0.1,
        method=integrated_gradients,
        steps=3,
        baseline="white",
    )
    assert torch.allclose(ours, maps.mean(0), rtol=1e-9)
    one_channel = smoothgrad(small64, images, targets, samples=3, method=edges)
    assert one_channel.shape == (2, 1, 6, 6)
    explicit = smoothgrad(small64, images, targets, samples=3, method=gradient)
    torch.testing.assert_close(explicit, smoothgrad(small64, images, targets, samples=3))


def test_captum_agrees_on_the_same_noise(small, classifier, photos, pixels):
    """Captum averages over the noisy copies that we feed it."""
    small_images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    for network, images, targets, samples in (
        (small, small_images, torch.tensor([1, 2]), 6),
        (classifier, pixels[:1], photos.targets[:1], 3),
    ):
        saliency = captum.attr.Saliency(network)
        maps = loop(
            lambda _, x, t, saliency=saliency: saliency.attribute(x, target=t, abs=False),
            network,
            images,
            targets,
            samples,
            0.15,
        )
        mean, squared, variance = noisy_moments(network, images, targets, samples=samples)
        assert relative(mean, maps.mean(0)) < 1e-4
        assert relative(squared, maps.square().mean(0)) < 1e-4
        assert relative(variance, maps.var(0, correction=0)) < 1e-4


def test_the_variance_cannot_turn_negative(exact):
    """Gradients of 10^4 that vary by 10^-3: E[g^2] - E[g]^2 in float32 cancels below zero."""

    def steep(x):
        return (1e4 * x + 1e-3 * x.sin()).flatten(1).sum(1, keepdim=True)

    network = Classifier(Exact(steep).float(), mean=[0.0], std=[1.0])
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    variance = smoothgrad(network, image, ZERO, samples=25, statistic="variance")
    assert variance.min() >= 0
    maps = loop(gradient, network, image, ZERO, 25, 0.15)
    assert (maps.square().mean(0) - maps.mean(0).square()).min() < 0


@pytest.mark.slow
def test_the_error_falls_with_the_square_root_of_the_samples(small64):
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(7)).double()
    target, options = torch.tensor([1]), {"noise": 0.3}
    reference = smoothgrad(small64, image, target, samples=6000, seed=99, **options)

    def error(samples):
        runs = [
            smoothgrad(small64, image, target, samples=samples, seed=s, **options)
            for s in range(12)
        ]
        return torch.stack([(run - reference).square().mean() for run in runs]).mean().sqrt()

    ratio = error(10) / error(160)
    assert 3 < ratio < 5.3  # 4 expected


def test_units_are_those_of_the_pixels(small64):
    """Pixels in [0, 255] before a division by 255: the same map, divided by 255."""

    class Bytes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small64

        def forward(self, x):
            return self.inner(x / 255)

    images = (
        torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(8)) * 255
    ).round() / 255
    images, targets = images.double(), torch.tensor([2])
    ours = smoothgrad(small64, images, targets, samples=5)
    scaled = Classifier(Bytes(), categories=list("abcd"))
    maps = loop_scaled(scaled, images, targets)
    assert relative(ours, maps * 255) < 1e-9


def loop_scaled(network, images, targets):
    keys = draws.image_keys(images)
    span = 255 * (images.max() - images.min())
    maps = [
        gradient(
            network,
            255 * images + 0.15 * span * draws.normal(0, [(keys[0], k)], images.shape[1:]).double(),
            targets,
        )
        for k in range(5)
    ]
    return torch.stack(maps).mean(0)


def test_bad_options_are_one_clear_error_at_once(small64):
    images, targets = torch.rand(1, 3, 4, 4).double(), torch.tensor([0])
    bad = [
        ({"samples": 0}, "samples must be at least 1"),
        ({"noise": -0.1}, "noise must be a finite fraction"),
        ({"noise": float("nan")}, "noise must be a finite fraction"),
        ({"noise": float("inf")}, "noise must be a finite fraction"),
        ({"statistic": "median"}, "statistic 'median' is unknown; choose one of"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            smoothgrad(small64, images, targets, **options)
    with pytest.raises(ValueError, match="statistic"):  # before a million passes
        smoothgrad(small64, images, targets, samples=10**6, statistic="median")
    with pytest.raises(TypeError, match="sigma"):  # a misspelled option is not swallowed
        smoothgrad(small64, images, targets, sigma=0.3)
    with pytest.raises(TypeError, match="sigma"):
        smoothgrad(small64, images, targets, sigma=0.3, method=integrated_gradients)
