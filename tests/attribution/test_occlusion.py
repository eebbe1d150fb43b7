"""Occlusion: exact on linear models, Captum's numbers, borders, and what is refused."""

import captum.attr
import pytest
import torch
from support.networks import relative

from lib.attribution import occlusion

W = torch.randn(1, 3, 11, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
X = torch.rand(2, 3, 11, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
T = torch.tensor([0, 0])


@pytest.fixture(scope="module")
def linear(exact):
    return exact(lambda x: (x * W).sum((1, 2, 3)).view(-1, 1), channels=3)


def mean_window_sum(contribution, window, stride):
    """By hand: the windowed sums of w * x, averaged over the windows that cover each pixel."""
    height, width = contribution.shape
    total, count = torch.zeros(height, width).double(), torch.zeros(height, width)
    y = 0
    while True:
        x = 0
        while True:
            covered = slice(y, y + window[0]), slice(x, x + window[1])
            total[covered] += contribution[covered].sum()
            count[covered] += 1
            if x + window[1] >= width:
                break
            x += stride[1]
        if y + window[0] >= height:
            break
        y += stride[0]
    assert count.min() >= 1
    return total / count


@pytest.mark.parametrize(
    "window, stride",
    [((3, 3), (1, 1)), ((4, 3), (3, 2)), ((5, 5), (5, 5)), ((1, 1), (1, 1)), ((20, 20), (1, 1))],
)
def test_linear_model_is_exact(linear, window, stride):
    ours = occlusion(linear, X, T, window=window, stride=stride)
    for image, found in zip(X, ours, strict=True):
        contribution = (W[0] * image).sum(0)
        assert torch.allclose(found[0], mean_window_sum(contribution, window, stride), atol=1e-10)


def test_fill_is_subtracted(linear):
    ours = occlusion(linear, X, T, window=4, stride=3, baseline=0.25)
    contribution = (W[0] * (X[0] - 0.25)).sum(0)
    assert torch.allclose(ours[0, 0], mean_window_sum(contribution, (4, 4), (3, 3)), atol=1e-10)


def test_window_as_large_as_the_image_gives_one_value(linear):
    ours = occlusion(linear, X, T, window=(11, 9), stride=(11, 9))
    assert torch.allclose(ours, (W * X).sum((1, 2, 3)).view(-1, 1, 1, 1).expand_as(ours))


@pytest.mark.slow
@pytest.mark.parametrize("window, stride", [((32, 32), (16, 16)), ((50, 40), (30, 17))])
def test_captum_agrees(classifier, pixels, photos, window, stride):
    image, target = pixels[:1, :, 60:172, 40:184].contiguous(), photos.targets[:1]
    theirs = captum.attr.Occlusion(classifier).attribute(
        image, (3, *window), (3, *stride), 0, target, perturbations_per_eval=16
    )
    ours = occlusion(classifier, image, target, window=window, stride=stride)
    assert relative(ours, theirs[:, :1]) < 1e-4


def test_score_units(small):
    images = torch.rand(1, 3, 6, 6)
    options = {"window": 6, "stride": 6, "baseline": "white"}
    whole = small(images)[0], small(torch.ones_like(images))[0]
    logit = occlusion(small, images, torch.tensor([2]), **options)
    assert torch.allclose(logit, (whole[0] - whole[1])[2].expand_as(logit), atol=1e-5)
    probability = occlusion(small, images, torch.tensor([2]), score="probability", **options)
    difference = (whole[0].softmax(0) - whole[1].softmax(0))[2]
    assert torch.allclose(probability, difference.expand_as(probability), atol=1e-6)


def test_batch_size_and_order_do_not_matter(small):
    images, targets = torch.rand(5, 3, 10, 7), torch.tensor([0, 1, 2, 3, 1])
    options = {"window": 4, "stride": 3}
    whole, before = occlusion(small, images, targets, **options), images.clone()
    for size in (1, 3, 1000):
        again = occlusion(small, images, targets, batch_size=size, **options)
        assert relative(again, whole) < 1e-5
    order = torch.tensor([4, 2, 0, 3, 1])
    assert relative(occlusion(small, images[order], targets[order], **options), whole[order]) < 1e-5
    assert torch.equal(images, before)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "options, message",
    [
        ({"window": 0}, "window must be one or two whole numbers"),
        ({"window": (3, 3, 3)}, "window must be one or two whole numbers"),
        ({"window": 2.5}, "window must be"),
        ({"stride": 0}, "stride must be"),
        ({"window": 3, "stride": 4}, "stride 4 is larger than window 3"),
        ({"score": "loss"}, "score 'loss' is unknown"),
        ({"baseline": "pink"}, "baseline 'pink' is unknown"),
    ],
)
def test_bad_options_are_refused(small, options, message):
    with pytest.raises(ValueError, match=message):
        occlusion(small, torch.rand(1, 3, 8, 8), torch.tensor([0]), **options)


def test_scores_that_are_no_numbers_and_targets_without_a_score_are_refused(exact):
    image = torch.rand(1, 1, 8, 8).double()
    broken = exact(lambda x: (x.sum((1, 2, 3)) * torch.nan).view(-1, 1))
    with pytest.raises(ValueError, match="NaN or infinite"):
        occlusion(broken, image, torch.tensor([0]), window=4, stride=4)
    one = exact(lambda x: x.sum((1, 2, 3)).view(-1, 1))
    with pytest.raises(ValueError, match="target 1 does not exist: there are 1 classes"):
        occlusion(one, image, torch.tensor([1]), window=4, stride=4)


@pytest.mark.usefixtures("unchecked")
def test_bytes_are_refused(small):
    with pytest.raises(ValueError, match="float tensor"):
        occlusion(small, torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([0]))
