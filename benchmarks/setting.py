"""What every row is measured on: the embedded network and photographs."""

from functools import cache

import torch

from lib import copies
from lib.data.images import load_images
from lib.networks.classifier import Classifier, load_classifier


@cache
def classifier() -> Classifier:
    return load_classifier(device="auto")


@cache
def photos(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ``count`` embedded photos and their classes, on the classifier's device."""
    chosen = load_images(limit=count, categories=classifier().categories)
    device = classifier().device
    return chosen.pixels().to(device), chosen.targets.to(device)


def passes(count: int, *, gradients: bool) -> None:
    """``count`` passes of one image through the classifier, in micro-batches: the floor."""
    network = classifier()
    route = "gradients" if gradients else "scores"
    pixels, targets = photos(1)
    size = copies.batch_size_for(network, pixels, route)
    for start in range(0, count, size):
        batch = pixels.repeat(min(size, count - start), 1, 1, 1)
        if gradients:
            copies.target_gradient(network, batch, targets.expand(len(batch)))
        else:
            network.scores(batch)
