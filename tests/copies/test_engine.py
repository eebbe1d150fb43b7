"""The engine's promises: any batch, any order, bounded memory, a classifier left as it was."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import small_network
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib import copies
from lib.attribution import edges, gradient, input_x_gradient, integrated_gradients, random
from lib.attribution.smoothgrad import smoothgrad
from lib.core import draws
from lib.core.progress import progress
from lib.evaluation.removal import removal_curves
from lib.networks.classifier import Classifier

N = 5


def noise_of_noise(classifier, images, targets, **options):
    """SmoothGrad of Integrated Gradients: the engine within the engine."""
    options |= {"samples": 3, "steps": 4, "method": integrated_gradients}
    return smoothgrad(classifier, images, targets, **options)


def curves(classifier, images, targets, *, batch_size=None, fill="uniform"):
    frame = removal_curves(
        classifier,
        images,
        targets,
        images.mean(1).round(decimals=1),  # many ties
        order="morf",
        fractions=(0, 0.3, 1),
        fill=fill,
        batch_size=batch_size,
    )
    scores = frame[["probability", "logit"]].to_numpy(copy=True)
    return torch.from_numpy(scores).reshape(len(images), -1)


METHODS = {
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": lambda *a, **k: integrated_gradients(*a, steps=7, **k),
    "smoothgrad": lambda *a, **k: smoothgrad(*a, samples=7, **k),
    "squared": lambda *a, **k: smoothgrad(*a, samples=7, statistic="squared", **k),
    "variance": lambda *a, **k: smoothgrad(*a, samples=7, statistic="variance", **k),
    "smoothgrad of ig": noise_of_noise,
    "removal": curves,
    "removal, road": lambda *a, **k: curves(*a, fill="road", **k),
    "random": lambda *a, batch_size=None: random(*a),
    "edges": lambda *a, batch_size=None: edges(*a),
}


@pytest.fixture(scope="module")
def images():
    return torch.rand(N, 3, 9, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def targets():
    return torch.tensor([0, 3, 1, 2, 0])


@pytest.fixture(scope="module")
def whole(small, images, targets):
    return {name: method(small, images, targets) for name, method in METHODS.items()}


def invariant(method, small, images, targets, expected, size, order, cut) -> bool:
    parts = [
        method(small, images[part], targets[part], batch_size=size)
        for part in (order[:cut], order[cut:])
        if len(part)
    ]
    scale = expected.abs().max()
    return torch.allclose(torch.cat(parts), expected[order], atol=2e-5 * float(scale), rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_batch_size_order_and_split_do_not_matter(name, small, images, targets, whole):
    @settings(max_examples=8, deadline=None, database=None, derandomize=True)
    @given(
        size=st.sampled_from([1, 2, 3, N, 64]),
        order=st.permutations(range(N)),
        cut=st.integers(0, N),
    )
    def check(size, order, cut):
        assert invariant(METHODS[name], small, images, targets, whole[name], size, order, cut)

    check()


def test_draws_that_depend_on_the_batch_would_be_seen(small, images, targets):
    def careless(classifier, images, targets, *, batch_size=None):
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        return gradient(classifier, images + 0.1 * noise, targets)

    expected = careless(small, images, targets)
    assert invariant(careless, small, images, targets, expected, 3, list(range(N)), 0)
    assert not invariant(careless, small, images, targets, expected, 3, [1, 0, 2, 3, 4], 0)
    assert not invariant(careless, small, images, targets, expected, 3, list(range(N)), 2)


@pytest.mark.slow
def test_the_embedded_network_in_other_batches(classifier, photos, pixels):
    few, labels = pixels[:3], photos.targets[:3]
    expected = smoothgrad(classifier, few, labels, samples=2)
    shuffled = smoothgrad(classifier, few[[2, 0, 1]], labels[[2, 0, 1]], samples=2, batch_size=4)
    assert float((shuffled - expected[[2, 0, 1]]).abs().max() / expected.abs().max()) < 1e-3


@pytest.mark.parametrize("size", [1, 3, 4, 8, 100])
def test_every_copy_is_made_once_in_order(small, images, targets, size):
    seen = []

    def answer(batch, targets):
        seen.append(len(batch))
        return batch * 2 + 1000 * targets

    engine = copies.Engine(small, images, targets, size)
    answers = list(engine.run(lambda i, k: 10.0 * i + k, 3, answer))
    pairs = [(i, k) for a in answers for i, k in zip(a.row.tolist(), a.draw.tolist(), strict=True)]
    assert pairs == [(i, k) for i in range(N) for k in range(3)]
    assert sum(seen) == 3 * N and max(seen) <= size
    values = torch.cat([a.values for a in answers])
    assert values.tolist() == [1000 * int(targets[i]) + 20 * i + 2 * k for i, k in pairs]


@pytest.mark.parametrize("size", [1, 3, 64])
def test_scores_and_mean_gradients_reduce_what_copies_answer(small64, images, targets, size):
    given = images.double()
    engine = copies.Engine(small64, given, targets, size)

    def brighter(row, draw):
        return given[row] * (1 + draw.view(-1, 1, 1, 1))

    logits = torch.stack([small64(given * (1 + k)) for k in range(3)], 1)
    chosen = targets.view(-1, 1, 1).expand(-1, 3, 1)
    expected = {
        "logit": logits.gather(2, chosen)[..., 0],
        "probability": logits.softmax(2).gather(2, chosen)[..., 0],
        "accuracy": (logits.argmax(2) == targets.view(-1, 1)).double(),
    }

    def found(score):
        return engine.scores(brighter, 3, score)

    for name, values in expected.items():
        torch.testing.assert_close(found(name), values)
    torch.testing.assert_close(found(list(expected)), torch.stack([*expected.values()], 2))
    with pytest.raises(ValueError, match="score 'loss' is unknown; choose one of: logit"):
        found("loss")
    weights = torch.tensor([0.5, 0.0, -2.0])
    slopes = [copies.target_gradient(small64, given * (1 + k), targets) for k in range(3)]
    for times in (None, lambda row, draw: brighter(row, draw) - 0.5):
        total = sum(
            w * s * (1 if times is None else given * (1 + k) - 0.5)
            for k, (w, s) in enumerate(zip(weights.tolist(), slopes, strict=True))
        )
        torch.testing.assert_close(engine.mean_gradient(brighter, weights, times), total)
    alone = engine.single_pass(lambda pixels, targets: pixels.mean((1, 2, 3)) + targets)
    torch.testing.assert_close(alone, given.mean((1, 2, 3)) + targets)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
@pytest.mark.parametrize("name", METHODS)
def test_images_come_from_any_device_and_answers_go_back(name, small, images, targets, whole):
    there = Classifier(small_network(), categories=list("abcd"), device="cuda")
    found = METHODS[name](there, images, targets)
    assert found.device == images.device
    assert torch.allclose(found, whole[name], atol=1e-4 * float(whole[name].abs().max()))
    assert torch.allclose(there.scores(images).cpu(), small.scores(images), atol=1e-4)


# --- random draws --------------------------------------------------------------------------------


def test_draws_are_bit_identical_whatever_is_drawn_beside():
    keys = [(7, k) for k in range(6)]
    for draw in (draws.normal, draws.uniform):
        together = draw(3, keys, (2, 5))
        assert torch.equal(together, torch.cat([draw(3, [key], (2, 5)) for key in keys]))
        assert torch.equal(together.flip(0), draw(3, keys[::-1], (2, 5)))
        assert len({block.numpy().tobytes() for block in together}) == 6
        assert not torch.equal(together, draw(4, keys, (2, 5)))
        assert torch.equal(
            together, draw(np.int64(3), [(np.int64(7), k) for k in range(6)], (2, 5))
        )
    with pytest.raises(TypeError):
        draws.normal(0.5, keys, (2,))
    order = draws.permutation(0, (1,), 50)
    assert sorted(order.tolist()) == list(range(50))
    assert torch.equal(order, draws.permutation(0, (1,), 50))
    assert not torch.equal(order, draws.permutation(0, (2,), 50))


def test_draws_are_distributed_as_they_say():
    normal = draws.normal(0, [(k,) for k in range(20)], (5000,))
    assert abs(normal.mean()) < 4 / 100_000**0.5 and abs(normal.var() - 1) < 4 * (2 / 1e5) ** 0.5
    assert abs(torch.corrcoef(normal).fill_diagonal_(0)).max() < 5 / 5000**0.5
    uniform = draws.uniform(0, [(k,) for k in range(20)], (5000,))
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 4 * (1 / 12e5) ** 0.5


def test_an_image_is_known_by_its_pixels(images):
    keys = draws.image_keys(images)
    assert len(set(keys)) == N
    assert draws.image_keys(images.flip(0)) == keys[::-1]
    eight_bits = (images * 255).round() / 255
    assert draws.image_keys(eight_bits) == draws.image_keys(eight_bits.double() + 1e-5)
    assert draws.image_keys(images.transpose(2, 3)) != keys
    assert draws.image_keys(torch.zeros(1, 3, 4, 6)) != draws.image_keys(torch.zeros(1, 3, 6, 4))
    assert draws.image_keys(images.to(memory_format=torch.channels_last)) == keys


# --- the classifier, the input and the global generators are left alone --------------------------


def fingerprint(classifier, images):
    hooks = [
        getattr(module, kind)
        for module in classifier.modules()
        for kind in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
        )
    ]
    return (
        {key: value.clone() for key, value in classifier.state_dict().items()},
        [p.requires_grad for p in classifier.parameters()],
        [p.grad for p in classifier.parameters()],
        [module.training for module in classifier.modules()],
        [dict(hook) for hook in hooks],
        (images.clone(), images.requires_grad, images.grad),
        (torch.get_rng_state(), torch.is_grad_enabled()),
        [np.copy(part) for part in np.random.get_state()[1:3]],  # noqa: NPY002
    )


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_touched(name, images, targets):
    classifier, given = Classifier(small_network(), categories=list("abcd")), images.clone()
    before = fingerprint(classifier, given)
    result = METHODS[name](classifier, given, targets)
    assert same(fingerprint(classifier, given), before)
    assert not result.requires_grad
    assert result.data_ptr() != given.data_ptr()
    classifier.network.head.weight.requires_grad_(True)
    assert not same(fingerprint(classifier, given), before)  # it would have been seen


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("random", "edges")])
def test_nothing_is_touched_after_an_exception_inside_the_network(name, images, targets):
    classifier, given = Classifier(small_network(), categories=list("abcd")), images.clone()
    classifier._sessions = {}
    calls = []

    def fail(module, inputs):
        calls.append(1)
        if len(calls) == 2:
            raise FloatingPointError("inside the network")

    handle = classifier.network.head.register_forward_pre_hook(fail)
    scores = Classifier.scores
    classifier.scores = torch.no_grad()(classifier.forward)  # the eager route, where hooks run
    before = fingerprint(classifier, given)
    with pytest.raises(FloatingPointError):
        METHODS[name](classifier, given, targets, batch_size=2)
    assert same(fingerprint(classifier, given), before)
    handle.remove()
    del classifier.scores
    assert Classifier.scores is scores
    assert METHODS[name](classifier, given, targets, batch_size=2).isfinite().all()


def test_images_that_require_a_gradient_get_none(small, images, targets):
    given = images.clone().requires_grad_(True)
    for name, method in METHODS.items():
        if name not in ("edges", "removal", "removal, road"):
            assert not method(small, given, targets).requires_grad, name
    assert given.grad is None
    copies.target_gradient(small, images, targets)
    assert not images.requires_grad


# --- memory --------------------------------------------------------------------------------------


class LivePeak(TorchDispatchMode):
    """The most bytes that tensors made inside held at once."""

    def __init__(self):
        super().__init__()
        self.live, self.peak = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.live = {key: entry for key, entry in self.live.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_copies(small):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1])

    def peak(attribute, **options):
        with LivePeak() as measured:
            attribute(small, images, targets, batch_size=8, **options)
        return measured.peak

    def hoarding(classifier, images, targets, *, steps, batch_size):
        """The mutation: all answers are kept until the end."""
        engine = copies.Engine(classifier, images, targets, batch_size)
        list(engine.run(lambda i, k: images[i], steps, engine.gradient))

    few = peak(integrated_gradients, steps=25)
    assert few > 8 * 8 * 32 * 32 * 4  # one layer's activations at least
    assert peak(integrated_gradients, steps=300) <= 1.1 * few
    assert peak(smoothgrad, samples=300) <= 1.1 * peak(smoothgrad, samples=25)
    nested = partial(integrated_gradients, batch_size=8)
    assert peak(smoothgrad, samples=40, method=nested, steps=20) <= 2 * few
    assert peak(hoarding, steps=300) > 2 * few


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", METHODS)
def test_bad_input_is_one_clear_error(name, small, images, targets):
    method = METHODS[name]

    def refused(match, images=images, targets=targets, **options):
        with pytest.raises(ValueError, match=match) as error:
            method(small, images, targets, **options)
        assert "\n" not in str(error.value)

    if "removal" not in name:
        refused("must be a float tensor", images[0])
        refused("must be a float tensor", (images * 255).byte())
        refused("must be a float tensor", images.numpy())
        refused("images is empty", images[:0], targets[:0])
    refused("the classifier is torch.float32", images.double())
    refused("NaN or infinite", images.masked_fill(images > 0.9, float("nan")))
    refused("NaN or infinite", images.masked_fill(images > 0.9, float("inf")))
    refused("5 class indices, one per image", targets=targets[:4])
    refused("5 class indices, one per image", targets=targets.repeat(2))
    refused("5 class indices, one per image", targets=targets[:, None])
    refused("5 class indices, one per image", targets=targets.float())
    refused("5 class indices, one per image", targets=targets > 1)
    refused(r"must lie in 0\.\.3 \(0-based", targets=targets + 1)  # counted from 1
    refused(r"must lie in 0\.\.3 \(0-based", targets=targets - 1)
    if "removal" not in name:
        refused("images have 4 channels, custom takes 3", torch.cat([images, images[:, :1]], 1))
    if name not in ("random", "edges"):
        refused("batch_size must be", batch_size=0)
        refused("batch_size must be", batch_size=2.5)


@pytest.mark.usefixtures("unchecked")
def test_targets_of_any_whole_type(small, images, targets, whole):
    for these in (targets.tolist(), targets.int(), targets.byte(), targets.numpy()):
        assert torch.allclose(gradient(small, images, these), whole["gradient"])


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("random", "edges")])
def test_a_target_without_a_logit_is_refused_where_classes_have_no_names(name, images, targets):
    nameless = Classifier(small_network())
    with pytest.raises(ValueError, match=r"target 4 does not exist: there are 4 classes, 0\.\.3"):
        METHODS[name](nameless, images, torch.tensor([0, 1, 4, 2, 3]))


def test_no_copies_is_an_error(small, images, targets):
    engine = copies.Engine(small, images, targets)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        engine.scores(lambda row, draw: images[row], 0)


def test_batch_sizes_follow_the_size_of_the_images(small):
    def size(side, route, given=None):
        return copies.batch_size_for(small, torch.empty(1, 3, side, side), route, given)

    assert size(224, "gradients") > size(448, "gradients") >= 1
    assert size(224, "scores") > size(448, "scores") >= 1
    assert size(5000, "gradients") == 1 and size(8, "gradients") <= 4096
    assert size(224, "gradients", 3) == 3


def test_progress_is_written_or_silent(tmp_path, monkeypatch, capsys):
    path = tmp_path / "progress"
    monkeypatch.setenv("REPORT_PROGRESS", str(path))
    with progress("removal", 4) as advance:
        advance(1)
        advance(3)
    assert path.read_text() == "removal\t4\t4"
    monkeypatch.setenv("REPORT_PROGRESS", "off")
    with progress("quiet", 4) as advance:
        advance(4)
    assert path.read_text() == "removal\t4\t4"
    monkeypatch.delenv("REPORT_PROGRESS")
    with progress("short", 4) as advance:
        advance(4)
    assert capsys.readouterr() == ("", "")


def test_progress_inside_progress_leaves_the_outer_count_alone(tmp_path, monkeypatch):
    path = tmp_path / "progress"
    monkeypatch.setenv("REPORT_PROGRESS", str(path))
    with progress("outer", 2) as advance:
        advance(2)
        with progress("inner", 9) as deeper:
            deeper(9)
        assert path.read_text() == "outer\t2\t2"
    with progress("next", 1) as advance:
        advance(1)
    assert path.read_text() == "next\t1\t1"
