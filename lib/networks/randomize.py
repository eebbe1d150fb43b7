"""A network whose last layers have forgotten what they learned.

Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018: a map that hardly changes when the
upper layers are drawn anew does not show what the network learned.
"""

import copy

import torch
from torch import nn

from lib.core import draws

WEIGHTED = (nn.Conv2d, nn.Linear)


def weighted_layers(classifier: nn.Module) -> list[str]:
    """The names of the layers with weights, in the order of the network, the first one first."""
    return [name for name, part in classifier.named_modules() if isinstance(part, WEIGHTED)]


def randomized(classifier, layers: int | list[str], seed: int = 0):
    """A copy in which some layers' weights, and biases, are shuffled; the classifier is untouched.

    ``layers`` are names, or the number of last layers (*cascading*: from the logits down). A
    shuffled layer keeps the distribution of its values, so that the signal keeps its size.

    Raises ``ValueError`` for a name or number that the network has not.
    """
    names = weighted_layers(classifier)
    chosen = names[len(names) - layers :] if isinstance(layers, int) else layers
    if unknown := set(chosen) - set(names):
        raise ValueError(f"no layer with weights is named {sorted(unknown)[0]!r}")
    if isinstance(layers, int) and not 0 <= layers <= len(names):
        raise ValueError(f"the network has {len(names)} layers with weights, not {layers}")
    made = copy.deepcopy(classifier)
    for name in chosen:
        for k, values in enumerate(made.get_submodule(name).parameters()):
            order = draws.permutation(seed, (names.index(name), k), values.numel())
            flat = values.detach().flatten()[order.to(values.device)]
            with torch.no_grad():
                values.copy_(flat.view_as(values))
    return made
