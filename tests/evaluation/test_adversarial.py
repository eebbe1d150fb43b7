"""Attacks and the detector: bounds, chance levels, keyed draws, exact shapes."""

import numpy as np
import pytest
import torch
from support.networks import relative

from lib import copies
from lib.evaluation.adversarial import ATTACKS, attack
from lib.evaluation.detection import _folds, detection_accuracy, restored, shapes_of_area

EPSILON = 8 / 255


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets(small, images):
    return small.scores(images).argmax(1)


@pytest.mark.parametrize("method", ATTACKS)
def test_attacks_stay_within_epsilon_and_raise_the_loss(small, images, targets, method):
    before = images.clone()
    found = attack(small, images, targets, method=method, epsilon=EPSILON)
    assert (found.images - images).abs().max() <= EPSILON + 1e-6
    assert found.images.min() >= 0 and found.images.max() <= 1
    loss = torch.nn.functional.cross_entropy
    assert loss(small.scores(found.images), targets) > loss(small.scores(images), targets)
    assert torch.equal(images, before) and torch.equal(found.before, targets)
    assert torch.equal(found.after, small.scores(found.images).argmax(1))
    assert torch.equal(found.success, found.after != targets)
    assert not any(p.requires_grad for p in small.parameters()) and not small.training


def test_one_step_is_the_sign_of_the_gradient(small, images, targets):
    found = attack(small, images, targets, method="fgsm", epsilon=EPSILON)

    def log_probability(batch):
        return small(batch).log_softmax(1)

    up = copies.target_gradient(log_probability, images, targets)
    expected = (images - EPSILON * up.sign()).clamp(0, 1)
    assert (found.images - expected).abs().max() < 1e-6


@pytest.mark.parametrize("method", ATTACKS)
def test_epsilon_zero_changes_nothing(small, images, targets, method):
    found = attack(small, images, targets, method=method, epsilon=0.0)
    assert torch.equal(found.images, images) and not found.success.any()
    maps = images.mean(1)
    accuracy = detection_accuracy(maps, found.images.mean(1), folds=2)
    assert (accuracy == 0.5).all()


@pytest.mark.parametrize("method", ATTACKS)
def test_attacks_do_not_depend_on_batches_or_order(small, images, targets, method):
    together = attack(small, images, targets, method=method).images
    alone = attack(small, images, targets, method=method, batch_size=1).images
    back = attack(small, images.flip(0), targets.flip(0), method=method).images.flip(0)
    # a gradient of zero but for rounding may change its sign: one step of one pixel
    assert ((alone - together).abs() > 1e-5).float().mean() < 0.01
    assert ((back - together).abs() > 1e-5).float().mean() < 0.01
    if method == "pgd":
        state = torch.get_rng_state()
        other = attack(small, images, targets, method=method, seed=1).images
        assert relative(other, together) > 1e-3 and torch.equal(state, torch.get_rng_state())


def test_a_wrong_prediction_is_no_success(small, images, targets):
    found = attack(small, images, (targets + 1) % 4, epsilon=1e-6)
    assert not found.success.any() and torch.equal(found.before, targets)


def test_photos_are_fooled(classifier, pixels, photos):
    found = attack(classifier, pixels[[0, 4]], photos.targets[[0, 4]], method="bim", steps=3)
    assert found.success.all()
    assert (found.images - pixels[[0, 4]]).abs().max() <= EPSILON + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "deepfool"}, "attack 'deepfool' is unknown"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": 8.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"steps": 0}, "steps"),
    ],
)
def test_bad_options(small, images, targets, options, message):
    with pytest.raises(ValueError, match=message):
        attack(small, images, targets, **options)


def test_images_out_of_range_and_bad_targets(small, images, targets):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        attack(small, 2 * images, targets)
    with pytest.raises(ValueError, match="targets"):
        attack(small, images, targets + 4)


def noisy_pairs(n=60, shift=0.0):
    clean = torch.rand(n, 14, 14, generator=torch.Generator().manual_seed(0))
    changed = torch.rand(n, 14, 14, generator=torch.Generator().manual_seed(1))
    changed[:, :7] += shift
    return clean, changed


@pytest.mark.slow
def test_the_detector_finds_a_difference_and_only_a_difference():
    assert detection_accuracy(*noisy_pairs(shift=1.0)).mean() > 0.95
    assert abs(detection_accuracy(*noisy_pairs()).mean() - 0.5) < 0.15
    clean, changed = noisy_pairs(shift=1.0)
    swap = torch.rand(len(clean), generator=torch.Generator().manual_seed(2)) < 0.5
    first = torch.where(swap.view(-1, 1, 1), changed, clean)
    second = torch.where(swap.view(-1, 1, 1), clean, changed)
    assert abs(detection_accuracy(first, second).mean() - 0.5) < 0.15  # labels shuffled in pairs


def test_both_maps_of_an_image_are_in_one_fold():
    # pairs that are equal but for noise: a detector that saw one map would answer the other wrongly
    base = torch.rand(40, 14, 14, generator=torch.Generator().manual_seed(0))
    twin = base + 1e-3 * torch.rand(40, 14, 14, generator=torch.Generator().manual_seed(1))
    assert abs(detection_accuracy(base, twin).mean() - 0.5) < 0.1


def test_one_image_more_leaves_the_others_in_their_folds():
    keys = list(range(100, 336))
    all_folds = _folds(keys, 5, seed=0)
    assert np.bincount(all_folds).tolist() == [48, 47, 47, 47, 47]
    without = _folds(keys[:20] + keys[21:], 5, seed=0)
    assert (np.delete(all_folds, 20) != without).sum() <= 4  # at most one beside each border
    assert (_folds(keys, 5, seed=1) != all_folds).mean() > 0.5


@pytest.mark.slow
def test_the_detector_does_not_see_the_scale():
    clean, changed = noisy_pairs()
    assert np.allclose(detection_accuracy(clean, changed), detection_accuracy(clean, 9 * changed))
    assert len(detection_accuracy(0 * clean, 0 * changed)) == 60


@pytest.mark.usefixtures("unchecked")
def test_detector_refusals():
    clean, changed = noisy_pairs(4)
    with pytest.raises(ValueError, match="4 images cannot be split into 5"):
        detection_accuracy(clean, changed)
    with pytest.raises(ValueError, match="pairs"):
        detection_accuracy(clean, changed[:3])
    with pytest.raises(ValueError, match="NaN"):
        detection_accuracy(clean / 0, changed, folds=2)


def test_restored_counts_ranks():
    logits = torch.tensor([[0.0, 3, 2, 1], [5, 1, 2, 3]])
    frame = restored(logits, torch.tensor([1, 1]), top=(1, 3, 4))
    assert frame.to_numpy().tolist() == [[1, 1, 1], [0, 0, 1]]
    logits[0, 2] = float("nan")
    with pytest.raises(ValueError, match="logits hold NaN"):
        restored(logits, torch.tensor([1, 1]))


def test_shapes_have_the_area_and_are_centered():
    shares = torch.tensor([0.0, 0.25, 1.0])
    masks = shapes_of_area(shares, 20, 40)
    for mask in masks.values():
        assert mask.shape == (3, 1, 20, 40)
        assert [int((1 - m).sum()) for m in mask] == [0, 200, 800]
    box = 1 - masks["box"][1, 0]
    assert box[5:15, 10:30].all()
    disc = 1 - masks["disc"][1, 0]
    assert disc[10, 20] == 1 and disc[0, 0] == 0 and disc[:, 20].sum() > 14
    with pytest.raises(ValueError, match="shares"):
        shapes_of_area(torch.tensor([1.5]), 4, 4)
