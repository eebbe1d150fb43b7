"""Any function from images to scores as a classifier: no gradients, no PyTorch needed.

Masking methods (occlusion, RISE, LIME) and removal curves only ask for scores, so a scikit-learn
forest, a remote service or a rule written by hand can be explained like a network.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

OUTPUTS = ("probabilities", "logits")


class BlackBox:
    """What the engine needs of a classifier when it asks for scores only; see `as_classifier`."""

    is_graph = False
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, function: Callable, categories: Sequence[str], name: str, outputs: str):
        self.function = function
        self.categories = list(categories)
        self.name = name
        self.outputs = outputs

    def scores(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits ``(N, K)``: the function's own, or the logarithm of its probabilities."""
        values = np.asarray(self.function(images.detach().cpu().numpy().copy()))
        if values.shape != (len(images), len(self.categories)):
            raise ValueError(
                f"{self.name} returned scores of shape {values.shape} for {len(images)} images "
                f"and {len(self.categories)} categories: expected "
                f"{(len(images), len(self.categories))}"
            )
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise ValueError(f"{self.name} returned a score that is NaN or infinite (image {row})")
        if self.outputs == "probabilities":
            totals = values.sum(1)
            if values.min() < 0 or np.abs(totals - 1).max() > 1e-3:
                raise ValueError(
                    f"{self.name} returned rows that are no probabilities (least value "
                    f"{values.min():.3g}, sums {totals.min():.3g} to {totals.max():.3g}): use "
                    "outputs='logits' for other scores"
                )
            # a probability of 0 stays finite, and softmax gives the probabilities back
            values = np.log(np.maximum(values, 1e-38))
        return torch.from_numpy(values.astype(np.float32))

    def __call__(self, images: Tensor) -> Tensor:
        raise ValueError(
            f"{self.name} is a black box without gradients: use a method that needs scores only "
            "(occlusion, rise, lime)"
        )


def as_classifier(
    function: Callable[[np.ndarray], np.ndarray],
    *,
    categories: Sequence[str],
    name: str = "function",
    outputs: str = "probabilities",
) -> BlackBox:
    """Wrap ``function(images) -> scores`` for every method that needs scores only.

    ``function`` receives a float32 NumPy array ``(N, C, H, W)`` in [0, 1], its own copy, and
    returns ``(N, K)`` numbers, one column per entry of ``categories``. ``outputs`` says what they
    are: ``probabilities`` (each row sums to 1; ``predict_proba`` of scikit-learn) or ``logits``
    (any real scores).

    Raises ``ValueError`` for an unknown ``outputs``, and, when asked for scores, for a wrong
    shape, for NaN or infinity and for rows that are no probabilities.
    """
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs {outputs!r} is unknown; choose one of: {OUTPUTS}")
    if not callable(function):
        raise ValueError(f"expected a function of images, not {type(function).__name__}")
    if isinstance(categories, str) or len(categories) == 0:
        raise ValueError("categories must be a list of names, one per column of the scores")
    return BlackBox(function, categories, name, outputs)
