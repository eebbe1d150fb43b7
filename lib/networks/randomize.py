"""A network in which some layers have forgotten what they learned.

Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018: a map that hardly changes when the
upper layers are drawn anew does not show what the network learned. The last k layers are their
*cascading* randomization, any other stretch of layers the *independent* one.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from lib.core import draws
from lib.networks.operations import WEIGHTED

DRAWS = ("shuffle", "normal")


def weighted_layers(classifier: nn.Module) -> list[str]:
    """The names of the layers with weights, in the order of the network, the first one first."""
    return [name for name, part in classifier.named_modules() if isinstance(part, WEIGHTED)]


def randomized(classifier, layers: int | Sequence[str], seed: int = 0, draw: str = "shuffle"):
    r"""A copy in which some layers' weights and biases are drawn anew; the classifier is untouched.

    ``layers`` are names, or the number of last layers. ``draw`` is ``shuffle``, a permutation of
    a layer's own values, or ``normal``, $\mathcal N(\mu, s^2)$ with their mean and standard
    deviation. Either keeps the size of the signal; the $\mathcal N(0, 0.01^2)$ of the paper needs
    batch normalization after each layer, which :mod:`lib.networks.normal_form` has folded away.
    What a layer becomes depends on ``seed`` and its place alone: more layers contain fewer.

    Raises ``ValueError`` for a name or number that the network has not, and another ``draw``.
    """
    names = weighted_layers(classifier)
    chosen = names[len(names) - layers :] if isinstance(layers, int) else layers
    if unknown := set(chosen) - set(names):
        raise ValueError(f"no layer with weights is named {sorted(unknown)[0]!r}")
    if isinstance(layers, int) and not 0 <= layers <= len(names):
        raise ValueError(f"the network has {len(names)} layers with weights, not {layers}")
    if draw not in DRAWS:
        raise ValueError(f"draw {draw!r} is unknown; choose one of: {', '.join(DRAWS)}")
    made = copy.deepcopy(classifier)
    for name in chosen:
        for k, values in enumerate(made.get_submodule(name).parameters()):
            own, key = values.detach().flatten(), (names.index(name), k)
            if draw == "shuffle":
                new = own[draws.permutation(seed, key, len(own)).to(own.device)]
            else:
                spread = own.std(correction=0)
                new = own.mean() + spread * draws.normal(seed, [key], own.shape)[0].to(own)
            with torch.no_grad():
                values.copy_(new.view_as(values))
    return made
