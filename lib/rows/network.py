"""A network by name: what is sent to a worker in its place."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from lib.core import store
from lib.networks.classifier import EMBEDDED, Classifier, load_classifier


@dataclass(frozen=True)
class Network:
    """What :func:`lib.networks.classifier.load_classifier` takes. Each process loads it once."""

    name: str = EMBEDDED
    weights: str | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self):
        if self.weights is not None and Path(self.weights).expanduser().exists():
            absolute = Path(self.weights).expanduser().resolve()  # workers start elsewhere
            object.__setattr__(self, "weights", str(absolute))

    def load(self) -> Classifier:
        return _load(self)

    @property
    def sha256(self) -> str:
        """Hash of weights, architecture and normalization; the device does not count."""
        made = self.load()
        form = getattr(made.network, "code", ""), repr(made.network)
        return store.digest(made.sha256, form, made.mean, made.std)


@lru_cache(maxsize=2)
def _load(spec: Network) -> Classifier:
    return load_classifier(**asdict(spec))
