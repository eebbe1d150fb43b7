"""Baselines in both senses: images without a signal, and maps that must lose."""

import pytest
import torch
from scipy.ndimage import gaussian_filter, sobel

from lib.attribution import edges, random
from lib.copies.baselines import BASELINES, blurred, gaussian_blur, resolve_baseline


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 12, 17, generator=torch.Generator().manual_seed(0))


TARGETS = torch.tensor([0, 1, 2])


def test_random_maps_are_uniform_and_know_nothing(small, small64, images):
    maps = random(small, images, TARGETS)
    assert maps.shape == (3, 1, 12, 17) and maps.min() >= -0.5 and maps.max() < 0.5
    assert torch.equal(maps, random(small, images, (TARGETS + 1) % 4))  # not the class
    assert torch.equal(maps.double(), random(small64, images.double(), TARGETS))  # nor the network
    assert not torch.equal(maps, random(small, images, TARGETS, seed=1))
    assert not torch.equal(maps[0], maps[1])
    large = random(small, torch.rand(1, 3, 200, 200), TARGETS[:1])
    assert abs(large.mean()) < 4 * (1 / 12 / 40_000) ** 0.5
    assert abs(large.var() - 1 / 12) < 0.002
    beside = (large[..., :-1] * large[..., 1:]).mean() / large.var()
    assert abs(beside) < 4 / 200  # neighbors are independent


def test_edges_are_sobels(small, small64, images):
    maps = edges(small64, images.double(), TARGETS)
    for image, ours in zip(images.double(), maps, strict=True):
        gray = image.mean(0).numpy()
        across, down = (sobel(gray, axis, mode="nearest") / 8 for axis in (1, 0))
        assert torch.allclose(ours[0], torch.from_numpy((across**2 + down**2) ** 0.5), atol=1e-12)
    assert maps.shape == (3, 1, 12, 17)
    assert edges(small, torch.full((1, 3, 6, 6), 0.3), TARGETS[:1]).max() < 1e-6
    ramp = torch.linspace(0, 1, 11).expand(1, 3, 8, 11)
    inside = edges(small, ramp, TARGETS[:1])[..., 1:-1]
    assert torch.allclose(inside, torch.tensor(0.1), atol=1e-6)  # the slope per pixel
    step = torch.cat([torch.zeros(1, 3, 6, 4), torch.ones(1, 3, 6, 4)], 3)
    row = edges(small, step, TARGETS[:1])[0, 0, 3]
    assert row.tolist() == pytest.approx([0, 0, 0, 0.5, 0.5, 0, 0, 0])


@pytest.mark.parametrize("sigma", [0.5, 2.0, 6.0])
def test_blur_is_scipys(images, sigma):
    ours = gaussian_blur(images.double(), sigma)
    theirs = gaussian_filter(
        images.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4
    )
    # SciPy rounds the radius of its kernel, we take the next larger pixel
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-4)
    assert ours.shape == images.shape


@pytest.mark.parametrize(
    ("border", "scipys"),
    [("replicate", "nearest"), ("reflect", "mirror"), ("constant", "constant")],
)
def test_blur_cut_at_a_radius_and_continued_by_a_border(images, border, scipys):
    ours = gaussian_blur(images.double(), 5.0, radius=6, border=border)
    theirs = gaussian_filter(
        images.double().numpy(), (0, 0, 5, 5), mode=scipys, radius=(0, 0, 6, 6)
    )
    torch.testing.assert_close(ours, torch.from_numpy(theirs))


def test_imagenets_mean_is_a_color_of_rgb_images_alone(images):
    made = resolve_baseline("imagenet", images)
    assert torch.allclose(made[2, :, 3, 5], torch.tensor([123.0, 117.0, 104.0]) / 255)
    gray = images[:, :1]
    assert torch.equal(resolve_baseline("imagenet", gray), resolve_baseline("mean", gray))


def test_blur_keeps_what_it_must(images):
    assert torch.equal(gaussian_blur(images, 0), images)
    assert gaussian_blur(images, 0).data_ptr() != images.data_ptr()
    flat = torch.full((1, 3, 9, 5), 0.37)
    assert torch.allclose(gaussian_blur(flat, 30.0), flat)
    assert gaussian_blur(images, 3).var() < 0.2 * images.var()
    for sigma in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="sigma must not be negative"):
            gaussian_blur(images, sigma)
    square = torch.rand(1, 3, 56, 56)
    assert torch.equal(blurred(square), gaussian_blur(square, 2.5))


def test_baselines_do_not_share_memory_with_the_images(images):
    before = images.clone()
    for name in BASELINES:
        made = resolve_baseline(name, images)
        assert made.shape == images.shape and made.dtype == images.dtype
        made[0, 0, 0, 0] = 7  # in an expanded view this would be written everywhere
        assert int((made == 7).sum()) == 1
    resolve_baseline(images, images).fill_(7)
    assert torch.equal(images, before)
    assert torch.allclose(resolve_baseline("mean", images)[1, 2], images[1, 2].mean())
    assert resolve_baseline(0.5, images).unique().tolist() == [0.5]
    assert resolve_baseline(torch.zeros(3, 1, 1).double(), images).dtype == torch.float32
    with pytest.raises(ValueError, match="baseline is on meta, the images on cpu"):
        resolve_baseline(torch.zeros(1, device="meta"), images)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("baseline", "says"),
    [
        (torch.full((3, 1, 1), float("nan")), "must be finite floats"),
        (torch.zeros(3, 1, 1, dtype=torch.uint8), "must be finite floats"),
        (torch.zeros(2, 1, 1), "baseline"),
        ("grey", "'grey' is unknown; choose one of: black"),
        (1.5, "1.5 is not a gray level"),
        (float("nan"), "nan is not a gray level"),
        ([0.5], "is not a gray level"),
    ],
)
def test_bad_baselines_are_refused_in_one_line(images, baseline, says):
    with pytest.raises(ValueError, match=says) as error:
        resolve_baseline(baseline, images)
    assert "\n" not in str(error.value)
