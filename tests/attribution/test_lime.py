"""LIME against planted models, its authors' package, and a model that is no network."""

import numpy as np
import pytest
import torch
from lime.lime_base import LimeBase

from lib.attribution import METHODS
from lib.attribution.lime import (
    explain_lime,
    fit_linear,
    kernel,
    lime,
    presence_rows,
    superpixel_scores,
    weighted_r2,
)
from lib.copies.superpixels import quickshift, slic, superpixels, tiles
from lib.networks.blackbox import as_classifier

WEIGHTS = torch.tensor([2.0, -1.0, 0.5, 0.0, 3.0, -0.25], dtype=torch.float64)
SEGMENTS = tiles(4)(np.zeros((8, 12, 1)))  # six squares


def white(n: int = 1) -> torch.Tensor:
    """Images near 1, all different: black fill then makes a pixel's mean its presence."""
    images = torch.ones(n, 1, 8, 12, dtype=torch.float64)
    images[:, 0, 0, 0] -= torch.arange(n) / 100
    return images


@pytest.fixture
def planted(exact):
    """Logit 0 is linear in the brightness of the six squares, logit 1 its negative."""

    def function(x):
        squares = torch.nn.functional.avg_pool2d(x[:, 0], 4).flatten(1)
        score = squares @ WEIGHTS + 0.7
        return torch.stack([score, -score], 1)

    return exact(function)


OPTIONS = {"score": "logit", "fill": "black", "segments": tiles(4)}


def test_planted_linear_model_is_recovered_exactly_with_a_tiny_penalty(planted):
    found = explain_lime(planted, white(), torch.tensor([0]), samples=60, ridge=1e-10, **OPTIONS)[0]
    assert np.allclose(found.weights, WEIGHTS, atol=1e-8)
    assert found.intercept == pytest.approx(0.7, abs=1e-8)
    assert found.r2 == pytest.approx(1, abs=1e-10)
    assert np.allclose(found.fitted(), found.predictions)
    shrunk = explain_lime(planted, white(), torch.tensor([0]), samples=60, ridge=1.0, **OPTIONS)[0]
    assert np.abs(shrunk.weights).sum() < 0.99 * np.abs(found.weights).sum()


def test_the_map_shows_each_weight_on_its_superpixel_for_the_target(planted):
    maps = lime(planted, white(2), torch.tensor([0, 1]), samples=60, ridge=1e-10, **OPTIONS)
    expected = WEIGHTS.view(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert maps.shape == (2, 1, 8, 12)
    assert maps.dtype == torch.float64
    assert torch.allclose(maps[0, 0, 1:], expected[1:], atol=1e-6)
    assert torch.allclose(maps[1, 0, 1:, 4:], -expected[1:, 4:], atol=1e-6)


@pytest.mark.parametrize("rename", [lambda s: s + 1, lambda s: 7 * s - 100, lambda s: 1000 - s])
def test_names_of_the_superpixels_do_not_matter(planted, rename):
    """scikit-image's SLIC numbers from 1: a library that assumes 0 misplaces every weight."""
    options = {"samples": 60, "ridge": 1e-10, "score": "logit", "fill": "black"}
    images, targets = white(), torch.tensor([0])
    plain = lime(planted, images, targets, segments=[SEGMENTS], **options)
    renamed = lime(planted, images, targets, segments=[rename(SEGMENTS)], **options)
    assert torch.allclose(plain, renamed, atol=1e-7)


def test_first_row_shows_everything_and_others_half(planted):
    found = explain_lime(planted, white(), torch.tensor([0]), samples=2000, **OPTIONS)[0]
    assert found.presence[0].all()
    assert found.kernel[0] == 1
    assert found.predictions[0] == pytest.approx(float(planted(white())[0, 0]))
    assert abs(found.presence[1:].mean() - 0.5) < 4 * 0.5 / np.sqrt(2000 * 6)
    assert not found.presence[1:].all(1).all()


def test_kernel_is_the_papers_on_binary_vectors():
    rows = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
    distance, weight = kernel(rows)
    assert distance == pytest.approx([0, 1 - np.sqrt(0.5), 1])
    assert weight == pytest.approx([1, 0.503, np.exp(-8)], abs=1e-3)
    assert kernel(rows, width=1.0)[1][1] == pytest.approx(np.exp(-(0.2929**2) / 2), abs=1e-4)


def test_fit_equals_the_authors_package():
    random = np.random.default_rng(0)
    presence = random.random((80, 12)) < 0.5
    presence[0] = True
    scores = random.random(80)
    ours = fit_linear(torch.zeros(2, 2).long(), presence, scores)
    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)))
    intercept, weights, r2, _ = base.explain_instance_with_data(
        presence.astype(float), scores[:, None], kernel(presence)[0], 0, 12, "none"
    )
    theirs = np.array([value for _, value in sorted(weights)])
    assert np.allclose(ours.weights, theirs, atol=1e-10)
    assert ours.intercept == pytest.approx(intercept, abs=1e-10)
    assert ours.r2 == pytest.approx(r2, abs=1e-10)


def test_superpixels_equal_those_of_the_authors_package(pixels):
    from lime.wrappers.scikit_image import SegmentationAlgorithm

    image = pixels[0, :, :96, :96].permute(1, 2, 0).double().numpy()
    theirs = SegmentationAlgorithm(
        "quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=42
    )(image)
    assert np.array_equal(quickshift(image), theirs)


def test_superpixels_are_numbered_without_gaps(pixels):
    for label in superpixels(pixels[:2, :, :96, :96], slic):
        assert label.unique().tolist() == list(range(int(label.max()) + 1))
    assert superpixels(torch.rand(1, 1, 16, 16), tiles(8))[0].max() == 3


def test_default_fill_is_the_superpixels_own_mean():
    images, seen = torch.rand(2, 3, 8, 12), []

    def function(copies):
        seen.append(torch.from_numpy(copies))
        return np.ones((len(copies), 1))

    rule = as_classifier(function, categories=["any"])
    rows = [np.array([[True] * 6, [False, True, True, True, True, True]])] * 2
    labels = [torch.from_numpy(SEGMENTS)] * 2
    superpixel_scores(rule, images, torch.tensor([0, 0]), labels, rows)
    for image, (whole, without) in zip(images, torch.cat(seen).view(2, 2, 3, 8, 12), strict=True):
        mean = image[:, :4, :4].mean((1, 2), keepdim=True)
        assert torch.equal(whole, image)
        assert torch.allclose(without[:, :4, :4], mean.expand(3, 4, 4))
        assert torch.equal(without[:, 4:, :4], image[:, 4:, :4])
        assert torch.equal(without[:, :, 4:], image[:, :, 4:])


def test_draws_belong_to_the_image(planted):
    images, targets = white(5), torch.tensor([0, 1, 0, 1, 0])
    whole = explain_lime(planted, images, targets, samples=30, **OPTIONS)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = explain_lime(
        planted, images[order], targets[order], samples=30, batch_size=7, **OPTIONS
    )
    for i, j in enumerate(order.tolist()):
        assert np.array_equal(shuffled[i].presence, whole[j].presence)
        assert np.allclose(shuffled[i].weights, whole[j].weights, atol=1e-12)
    assert not np.array_equal(whole[0].presence, whole[1].presence)
    more = presence_rows(images, [6] * 5, 40)
    assert np.array_equal(more[2][:30], whole[2].presence)
    assert not np.array_equal(presence_rows(images, [6] * 5, 40, seed=1)[2], more[2])


def test_different_numbers_of_superpixels_in_one_batch(planted):
    images, targets = white(2), torch.tensor([0, 0])
    halves = (np.arange(12) // 6)[None].repeat(8, 0)
    options = {"samples": 50, "ridge": 1e-10, "score": "logit", "fill": "black"}
    both = explain_lime(planted, images, targets, segments=[SEGMENTS, halves], **options)
    alone = explain_lime(planted, images[1:], targets[1:], segments=[halves], **options)[0]
    assert [len(found.weights) for found in both] == [6, 2]
    assert np.allclose(both[1].weights, alone.weights)
    assert np.allclose(both[0].weights, WEIGHTS, atol=0.02)


def test_more_samples_agree_better(small):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = explain_lime(
        small, images, torch.tensor([0, 1, 2, 3]), samples=800, segments=tiles(8), score="logit"
    )

    def agreement(size):  # of two fits to copies that they do not share
        fits = [
            [fit_linear(e.segments, e.presence[own], e.predictions[own]).weights for e in found]
            for own in (slice(0, size), slice(size, 2 * size))
        ]
        return np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(*fits, strict=True)])

    assert agreement(400) > agreement(25)


@pytest.mark.slow
def test_real_network_and_photo(classifier, photos, pixels):
    found = explain_lime(classifier, pixels[:1], photos.targets[:1], samples=60, segments="slic")[0]
    assert found.predictions[0] == pytest.approx(
        float(classifier(pixels[:1]).softmax(1)[0, photos.targets[0]]), abs=1e-4
    )
    assert 0 < found.r2 < 1
    assert found.map.shape == (1, 224, 224)
    assert METHODS["lime"] is lime


def forest(outputs: np.ndarray | None = None):
    """A rule written by hand: class 1 as far as the upper left square is bright."""

    def function(images):
        bright = images[:, 0, :4, :4].mean((1, 2))
        return np.stack([1 - bright, bright], 1) if outputs is None else outputs[: len(images)]

    return as_classifier(function, categories=["dark", "bright"], name="rule")


def test_a_function_that_is_no_network():
    found = explain_lime(
        forest(),
        white().float(),
        torch.tensor([1]),
        samples=60,
        segments=tiles(4),
        fill="black",
        ridge=1e-8,
    )[0]
    assert found.weights[0] == pytest.approx(1, abs=1e-4)
    assert np.abs(found.weights[1:]).max() < 1e-4


def test_constant_scores_leave_a_flat_map(exact):
    network = exact(lambda x: x.sum((1, 2, 3))[:, None] * 0 + 3)
    found = explain_lime(network, white(), torch.tensor([0]), samples=20, **OPTIONS)[0]
    assert np.abs(found.weights).max() < 1e-12
    assert found.r2 == 0
    assert weighted_r2(np.ones(3), np.zeros(3), np.ones(3)) == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be a whole number from 1"),
        ({"samples": 2.5}, "samples must be a whole number from 1"),
        ({"width": 0}, "width must be positive"),
        ({"ridge": -1.0}, "ridge must be finite and not negative"),
        ({"score": "loss"}, "score 'loss' is unknown"),
        ({"fill": "pink"}, "fill 'pink' is unknown"),
        ({"segments": "felzenszwalb"}, "segments 'felzenszwalb' is unknown"),
        ({"segments": tiles(100)}, "image 0: the whole image is one superpixel"),
        ({"segments": [SEGMENTS, SEGMENTS]}, "2 label maps for 1 images"),
        ({"segments": [SEGMENTS[:4]]}, "image 0: superpixels must be whole numbers of shape"),
        ({"segments": [SEGMENTS / 2]}, "image 0: superpixels must be whole numbers of shape"),
    ],
)
def test_bad_input_is_one_clear_error(planted, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        explain_lime(planted, white(), torch.tensor([0]), **{**OPTIONS, "samples": 5, **options})
    assert "\n" not in str(caught.value)


def test_scores_that_are_no_numbers_are_refused(exact):
    broken = exact(lambda x: x.mean((1, 2, 3))[:, None] * float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        explain_lime(broken, white(), torch.tensor([0]), samples=5, **OPTIONS)
    with pytest.raises(ValueError, match="NaN"):
        lime(
            forest(np.full((99, 2), np.nan)),
            white().float(),
            torch.tensor([0]),
            samples=5,
            segments=tiles(4),
        )
    for target in (2, 9):  # a network without names for its classes knows them by its scores
        with pytest.raises(ValueError, match=f"target {target} does not exist: there are 2"):
            explain_lime(
                exact(lambda x: x.mean((1, 2, 3))[:, None] * torch.ones(2)),
                white(),
                torch.tensor([target]),
                samples=5,
                **OPTIONS,
            )
