"""Expected Gradients: closed forms for the very references drawn, and draws that never move."""

import math

import pytest
import torch
from captum.attr import IntegratedGradients

from lib.attribution.expected_gradients import drawn, expected_gradients, gray_images
from lib.attribution.integrated_gradients import integrated_gradients

IMAGES = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
REFERENCES = torch.rand(7, 1, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 0])
WEIGHTS = torch.randn(2, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture(scope="module")
def linear(exact):
    return exact(lambda x: x.flatten(1) @ WEIGHTS.T + 3)


@pytest.fixture(scope="module")
def cubic(exact):
    return exact(lambda x: (x.flatten(1) ** 3) @ WEIGHTS.T)


@pytest.mark.parametrize("samples", [1, 5, 7, 16])
def test_linear_model_is_exact_for_the_references_drawn(linear, samples):
    ours = expected_gradients(linear, IMAGES, TARGETS, references=REFERENCES, samples=samples)
    chosen, _ = drawn(IMAGES, 7, samples)
    mean = REFERENCES[chosen].mean(1)
    expected = WEIGHTS[TARGETS].view_as(IMAGES) * (IMAGES - mean)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    if samples == 7:  # all of them once
        torch.testing.assert_close(mean, REFERENCES.mean(0).expand_as(mean))


def test_references_come_without_replacement_and_new_orders_each_round():
    chosen, alphas = drawn(IMAGES, 7, 21)
    rounds = chosen.view(3, 3, 7)
    assert (rounds.sort(-1).values == torch.arange(7)).all()
    assert not torch.equal(rounds[:, 0], rounds[:, 1]) and not torch.equal(chosen[0], chosen[1])
    assert alphas.min() >= 0 and alphas.max() < 1 and len(alphas.unique()) == 63


def test_a_draw_is_keyed_by_image_and_number_and_seed():
    chosen, alphas = drawn(IMAGES, 7, 10, seed=4)
    fewer = drawn(IMAGES, 7, 4, seed=4)
    assert torch.equal(fewer[0], chosen[:, :4]) and torch.equal(fewer[1], alphas[:, :4])
    single = drawn(IMAGES[1:2], 7, 10, seed=4)
    assert torch.equal(single[0], chosen[1:2]) and torch.equal(single[1], alphas[1:2])
    assert not torch.equal(drawn(IMAGES, 7, 10, seed=5)[1], alphas)


def test_alphas_are_uniform():
    alphas = drawn(IMAGES, 7, 4000)[1].flatten().sort().values
    grid = (torch.arange(len(alphas)) + 0.5) / len(alphas)
    assert float((alphas - grid).abs().max()) < 1.6 / math.sqrt(len(alphas))  # Kolmogorov, 1 %


@pytest.mark.slow
def test_one_reference_converges_to_integrated_gradients(cubic):
    reference = REFERENCES[:1]
    ig = integrated_gradients(
        cubic, IMAGES, TARGETS, steps=3, rule="gauss_legendre", baseline=reference
    )
    ours = expected_gradients(cubic, IMAGES, TARGETS, references=reference, samples=4000)
    errors = {}
    for samples in (40, 4000):
        value = expected_gradients(cubic, IMAGES, TARGETS, references=reference, samples=samples)
        errors[samples] = float((value - ig).norm() / ig.norm())
    assert errors[4000] < 0.05
    assert errors[4000] < errors[40] / 3  # about 1 / sqrt(n): a tenth
    captum = IntegratedGradients(cubic).attribute(
        IMAGES, baselines=reference.expand_as(IMAGES), target=TARGETS, n_steps=50
    )
    assert float((ours - captum).norm() / captum.norm()) < 0.05


@pytest.mark.slow
def test_completeness_in_expectation(cubic):
    many = 7 * 500
    ours = expected_gradients(cubic, IMAGES, TARGETS, references=REFERENCES, samples=many)
    score = cubic(IMAGES).gather(1, TARGETS.view(-1, 1))[:, 0]
    mean = cubic(REFERENCES)[:, TARGETS].mean(0)
    terms = torch.stack(
        [
            expected_gradients(cubic, IMAGES, TARGETS, references=REFERENCES, samples=7, seed=s)
            for s in range(200)
        ]
    ).sum((2, 3, 4))
    error = terms.std(0) / math.sqrt(500)
    assert ((ours.sum((1, 2, 3)) - (score - mean)).abs() < 4 * error).all()


def test_batches_and_order_do_not_matter(cubic):
    options = {"references": REFERENCES, "samples": 9, "seed": 3}
    whole = expected_gradients(cubic, IMAGES, TARGETS, **options)
    for size in (1, 4, 27):
        again = expected_gradients(cubic, IMAGES, TARGETS, batch_size=size, **options)
        torch.testing.assert_close(again, whole, rtol=1e-12, atol=1e-14)
    order = [2, 0, 1]
    shuffled = expected_gradients(cubic, IMAGES[order], TARGETS[order], **options)
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-12, atol=1e-14)
    alone = expected_gradients(cubic, IMAGES[2:], TARGETS[2:], **options)
    torch.testing.assert_close(alone, whole[2:], rtol=1e-12, atol=1e-14)


def test_default_references_are_gray_images_from_black_to_white(linear):
    grays = gray_images(IMAGES)
    assert (
        grays.shape == (16, 1, 4, 5) and float(grays[0].max()) == 0 and float(grays[-1].min()) == 1
    )
    ours = expected_gradients(linear, IMAGES, TARGETS, samples=16)
    expected = WEIGHTS[TARGETS].view_as(IMAGES) * (IMAGES - 0.5)
    torch.testing.assert_close(ours, expected)


def test_nothing_is_touched_also_after_an_exception(small, exact):
    images, references = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 8, 8)
    copies = images.clone(), references.clone()
    state, targets = torch.get_rng_state(), torch.tensor([0, 3])
    weights = {k: v.clone() for k, v in small.state_dict().items()}
    expected_gradients(small, images, targets, references=references, samples=3)

    def broken(x):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        expected_gradients(exact(broken), IMAGES, TARGETS, references=REFERENCES)
    assert torch.equal(images, copies[0]) and torch.equal(references, copies[1])
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(weights[k], v) for k, v in small.state_dict().items())


def test_embedded_network_with_photographs(classifier, photos, pixels):
    ours = expected_gradients(
        classifier, pixels[:2], photos.targets[:2], references=pixels[10:], samples=2
    )
    assert ours.shape == (2, 3, 224, 224) and torch.isfinite(ours).all() and ours.abs().sum() > 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"references": REFERENCES[:0]}, "at least one image"),
        ({"references": REFERENCES[0]}, "at least one image"),
        ({"references": REFERENCES[..., :3]}, "do not fit"),
        ({"references": [1, 2]}, "float tensor"),
        ({"references": REFERENCES * float("nan")}, "NaN"),
    ],
)
def test_bad_input(linear, options, message):
    with pytest.raises(ValueError, match=message) as error:
        expected_gradients(linear, IMAGES, TARGETS, **options)
    assert "\n" not in str(error.value)
