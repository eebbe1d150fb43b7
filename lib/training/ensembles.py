"""Train many small networks at once: one per split of the data, side by side in batched products.

The experiment is that of Hesse et al., *Fast axiomatic attribution for neural networks*, NeurIPS
2021, section 4.3; :mod:`lib.training.ensemble_gradients` has the mathematics.

Networks are trained in chunks, each by one thread from its first step to its last: the number of
threads does not change how sums are split. Another CPU rounds otherwise, and training amplifies it.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.core import draws
from lib.core.progress import progress
from lib.training.ensemble_gradients import EnsembleSettings, forward, set_gradients

CHUNK = 8  # networks trained together by one thread; fewer are called too often, more fill memory


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble:
    """E networks: ``weights[l]`` is ``(E, in, out)``, ``biases[l]`` is ``(E, 1, out)`` or ``None``.

    ``validation_auc`` is ``(E, epochs)``; ``epoch`` says which snapshot each network is.
    """

    weights: list[Tensor]
    biases: list[Tensor | None]
    validation_auc: Float[Tensor, "e epochs"]
    epoch: Int[Tensor, " e"]

    def __len__(self) -> int:
        return len(self.epoch)

    def logits(self, inputs: Float[Tensor, "e n d"]) -> Float[Tensor, "e n"]:
        """The logit of every network on its own rows."""
        return forward(self.weights, self.biases, inputs)[1]

    def network(self, index: int) -> nn.Sequential:
        """One of the networks as an ordinary module."""
        layers: list[nn.Module] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            layer = nn.Linear(*weight.shape[1:], bias=bias is not None, dtype=weight.dtype)
            layer.weight.data = weight[index].T.contiguous()
            if bias is not None:
                layer.bias.data = bias[index, 0].clone()
            layers += [layer, nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def train_ensemble(
    inputs: Float[Tensor, "e n d"],
    labels: Float[Tensor, "e n"],
    validation: Float[Tensor, "e m d"],
    validation_labels: Float[Tensor, "e m"],
    settings: EnsembleSettings | None = None,
    *,
    keys: Sequence[int] | None = None,
    chunk: int | None = None,
    label: str = "training",
) -> Ensemble:
    """E networks, each on its own rows; the snapshot with the best validation ROC-AUC of each.

    A snapshot is the network *before* a step, as in the authors' code. Initial weights are
    U(-1/sqrt(in), 1/sqrt(in)), drawn for (seed, key): networks of the same key start equal whatever
    their prior. ``keys`` default to 0, 1, 2, ...

    Raises ``ValueError`` for shapes that do not fit, labels other than 0 and 1, labels of one
    class only and values that are not finite.
    """
    settings = settings or EnsembleSettings()
    _check(inputs, labels, validation, validation_labels)
    keys = list(range(len(inputs))) if keys is None else list(keys)
    if len(keys) != len(inputs):
        raise ValueError(f"{len(keys)} keys for {len(inputs)} networks")
    on_cpu = inputs.device.type == "cpu"
    chunk = chunk or (CHUNK if on_cpu else len(inputs))
    threads = torch.get_num_threads()
    parts = [slice(start, start + chunk) for start in range(0, len(inputs), chunk)]

    def train(part: slice) -> Ensemble:
        if on_cpu:
            torch.set_num_threads(1)  # of this worker
        data = [tensor[part] for tensor in (inputs, labels, validation, validation_labels)]
        start = initial(inputs.shape[2], settings, keys[part], inputs)
        return _train(*data, *start, settings, keys[part])

    done = []
    try:
        with (
            ThreadPoolExecutor(threads if on_cpu else 1) as pool,
            progress(label, len(inputs)) as advance,
        ):
            for trained in pool.map(train, parts):
                done.append(trained)
                advance(len(trained))
    finally:
        torch.set_num_threads(threads)
    return _joined(done)


def initial(
    d: int, settings: EnsembleSettings, keys: Sequence[int], like: Tensor
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Weights ``(E, in, out)`` and biases ``(E, 1, out)`` or ``None`` of every layer."""
    widths = [d, *settings.hidden, 1]
    weights, biases = [], []
    for layer, (n_in, n_out) in enumerate(pairwise(widths)):
        drawn = [
            draws.uniform(settings.seed, [(key, layer, part) for key in keys], shape)
            for part, shape in enumerate([(n_in, n_out), (1, n_out)])
        ]
        weight, shift = ((2 * u - 1).to(like) / math.sqrt(n_in) for u in drawn)
        weights.append(weight)
        biases.append(shift if settings.bias else None)
    return weights, biases


def roc_auc(scores: Float[Tensor, "e n"], labels: Float[Tensor, "e n"]) -> Float[Tensor, " e"]:
    """Area under the ROC curve of every row by the ranks of the positives; ties count half."""
    ordered = scores.sort(-1).values
    below = torch.searchsorted(ordered, scores.contiguous())
    not_above = torch.searchsorted(ordered, scores.contiguous(), right=True)
    ranks = (below + not_above + 1).double() / 2
    positive = labels.double()
    n_positive = positive.sum(-1)
    n_negative = labels.shape[-1] - n_positive
    surplus = (ranks * positive).sum(-1) - n_positive * (n_positive + 1) / 2
    return surplus / (n_positive * n_negative)


def _train(x, y, xv, yv, weights, biases, settings: EnsembleSettings, keys) -> Ensemble:
    parameters = [*weights, *(bias for bias in biases if bias is not None)]
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(parameters, lr=settings.lr, fused=True)
    best = [parameter.detach().clone() for parameter in parameters]
    highest = torch.full((len(x),), -1.0, dtype=torch.float64, device=x.device)
    chosen = torch.zeros(len(x), dtype=torch.long, device=x.device)
    curve = []
    with torch.no_grad():
        for epoch in range(settings.epochs):
            layers, logits = forward(weights, biases, torch.cat([x, xv], 1))
            n = x.shape[1]
            curve.append(roc_auc(logits[:, n:], yv))
            better = curve[-1] > highest
            highest[better], chosen[better] = curve[-1][better], epoch
            for network in better.nonzero()[:, 0].tolist():
                for kept, parameter in zip(best, parameters, strict=True):
                    kept[network].copy_(parameter[network])
            layers = [layer[:, :n] for layer in layers]
            set_gradients(weights, biases, layers, logits[:, :n], y, settings, keys, epoch)
            optimizer.step()
    kept = iter(best)
    weights = [next(kept) for _ in weights]
    biases = [None if bias is None else next(kept) for bias in biases]
    return Ensemble(weights, biases, torch.stack(curve, 1), chosen)


def _joined(parts: list[Ensemble]) -> Ensemble:
    def stack(tensors):
        return None if tensors[0] is None else torch.cat(tensors)

    weights = [stack(layer) for layer in zip(*(part.weights for part in parts), strict=True)]
    biases = [stack(layer) for layer in zip(*(part.biases for part in parts), strict=True)]
    return Ensemble(
        weights,
        biases,
        torch.cat([part.validation_auc for part in parts]),
        torch.cat([part.epoch for part in parts]),
    )


def _check(inputs, labels, validation, validation_labels) -> None:
    for name, rows, classes in (
        ("training", inputs, labels),
        ("validation", validation, validation_labels),
    ):
        if rows.ndim != 3 or classes.shape != rows.shape[:2] or not rows.numel():
            raise ValueError(
                f"{name} rows must be (networks, rows, inputs) with one label per row, "
                f"not {tuple(rows.shape)} with {tuple(classes.shape)}"
            )
        if not torch.isfinite(rows).all():
            raise ValueError(f"{name} rows hold NaN or infinite values")
        if not ((classes == 0) | (classes == 1)).all():
            raise ValueError(f"{name} labels must be 0 or 1")
        if (classes.min(1).values == classes.max(1).values).any():
            raise ValueError(f"{name} labels of a network are all of one class")
    if len(inputs) != len(validation) or inputs.shape[2] != validation.shape[2]:
        raise ValueError(
            f"training rows {tuple(inputs.shape)} and validation rows {tuple(validation.shape)} "
            "are not of the same networks and inputs"
        )
