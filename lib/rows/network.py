"""A network by name: what is sent to a worker in its place."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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
        return _load(self)[0]

    @property
    def sha256(self) -> str:
        """Hash of weights, architecture and normalization; the device does not count."""
        return _load(self)[1]


@lru_cache(maxsize=2)
def _load(spec: Network) -> tuple[Classifier, str]:
    classifier = load_classifier(
        spec.name, weights=spec.weights, device=spec.device, seed=spec.seed
    )
    graph = getattr(classifier.network, "code", ""), repr(classifier.network)
    pixels = classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()
    parts = (classifier.sha256, *graph, *pixels)
    return classifier, hashlib.sha256(repr(parts).encode()).hexdigest()
