"""Attribution methods: ``method(classifier, images, targets, *, ...) -> maps``.

Maps are ``(N, C, H, W)`` or ``(N, 1, H, W)``, signed and raw. ``METHODS`` names every method, so
that a parameter file can choose.
"""

from collections.abc import Callable

from lib.attribution.baselines import edges, random
from lib.attribution.gradient import gradient, input_x_gradient
from lib.attribution.integrated_gradients import integrated_gradients
from lib.attribution.smoothgrad import smoothgrad

METHODS: dict[str, Callable] = {
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "random": random,
    "edges": edges,
}

__all__ = ["METHODS", *METHODS]
