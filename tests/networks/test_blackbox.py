"""A function that is no network, as a classifier."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from lib.attribution import gradient, occlusion, rise
from lib.networks.blackbox import as_classifier


def probabilities(images: np.ndarray) -> np.ndarray:
    bright = images.mean((1, 2, 3)).clip(0, 1)
    return np.stack([bright, 1 - bright], 1)


IMAGES = torch.rand(3, 1, 6, 5, generator=torch.Generator().manual_seed(0))


def test_softmax_of_scores_gives_the_probabilities_back():
    box = as_classifier(probabilities, categories=["bright", "dark"])
    expected = torch.from_numpy(probabilities(IMAGES.numpy())).float()
    assert torch.allclose(box.scores(IMAGES).softmax(1), expected, atol=1e-6)


def test_a_probability_of_zero_stays_finite():
    box = as_classifier(lambda x: np.tile([1.0, 0.0], (len(x), 1)), categories=["a", "b"])
    assert torch.isfinite(box.scores(IMAGES)).all()
    assert torch.allclose(box.scores(IMAGES).softmax(1), torch.tensor([1.0, 0.0]), atol=1e-30)


def test_logits_pass_unchanged():
    box = as_classifier(
        lambda x: x.sum((1, 2, 3))[:, None] * [1, -2], categories=["a", "b"], outputs="logits"
    )
    total = IMAGES.sum((1, 2, 3))
    assert torch.allclose(box.scores(IMAGES), torch.stack([total, -2 * total], 1))


def test_the_function_gets_its_own_numpy_copy():
    def greedy(images):
        assert isinstance(images, np.ndarray) and images.dtype == np.float32
        result = probabilities(images)
        images[:] = 0
        return result

    before = IMAGES.clone()
    as_classifier(greedy, categories=["a", "b"]).scores(IMAGES)
    assert torch.equal(IMAGES, before)


def test_a_forest_is_explained_where_it_looks():
    random = np.random.default_rng(0)
    data = random.random((400, 36), dtype=np.float32)
    labels = (data[:, 14] > 0.5).astype(int)  # row 2, column 2 decides
    forest = RandomForestClassifier(30, random_state=0, n_jobs=1).fit(data, labels)
    box = as_classifier(
        lambda x: forest.predict_proba(x.reshape(len(x), -1)), categories=["0", "1"], name="forest"
    )
    bright = torch.full((1, 1, 6, 6), 0.4)
    bright[..., 2, 2] = 0.9
    target = torch.tensor([1])
    covered = occlusion(box, bright, target, window=1, stride=1, score="probability")
    assert int(covered.argmax()) == 14
    shown = rise(box, bright, target, masks=300, cells=6)
    assert int(shown.argmax()) in (8, 13, 14, 15, 20)  # masks are smooth: the pixel or a neighbor


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: np.full((len(x), 2), np.nan), "NaN or infinite"),
        (lambda x: np.full((len(x), 2), np.inf), "NaN or infinite"),
        (lambda x: np.ones((len(x), 3)) / 3, "shape"),
        (lambda x: np.ones(len(x)), "shape"),
        (lambda x: np.ones((len(x), 2)), "no probabilities"),
        (lambda x: np.tile([1.5, -0.5], (len(x), 1)), "no probabilities"),
    ],
)
def test_bad_answers_are_refused_in_one_line(function, message):
    box = as_classifier(function, categories=["a", "b"], name="rule")
    for explain in (
        lambda: rise(box, IMAGES, torch.tensor([0, 1, 0]), masks=4),
        lambda: occlusion(box, IMAGES, torch.tensor([0, 1, 0]), window=3, stride=3),
    ):
        with pytest.raises(ValueError, match=message) as info:
            explain()
        assert "rule" in str(info.value) and "\n" not in str(info.value)


def test_gradients_are_refused():
    box = as_classifier(probabilities, categories=["a", "b"], name="rule")
    with pytest.raises(ValueError, match="rule is a black box without gradients"):
        gradient(box, IMAGES, torch.tensor([0, 1, 0]))


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments():
    with pytest.raises(ValueError, match="outputs 'scores' is unknown"):
        as_classifier(probabilities, categories=["a", "b"], outputs="scores")
    with pytest.raises(ValueError, match="expected a function"):
        as_classifier(3, categories=["a", "b"])
    for categories in ([], "ab"):
        with pytest.raises(ValueError, match="categories must be a list"):
            as_classifier(probabilities, categories=categories)
