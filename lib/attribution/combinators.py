r"""Methods made of methods: the same call, with one thing added.

``times_input(gradient)`` is input x gradient; ``smoothed(guided_backprop)`` averages guided
backpropagation over noisy copies. The order matters: ``times_input(smoothed(gradient))`` multiplies
the averaged gradient by the clean image, as the SmoothGrad paper does, whereas
``smoothed(times_input(gradient))`` averages products with noisy images.
"""

from collections.abc import Callable
from functools import partial, update_wrapper

from jaxtyping import Float, Int
from torch import Tensor

from lib.attribution.smoothgrad import smoothgrad


def times_input(method: Callable) -> Callable:
    r"""The method that returns $x \odot M(x)$, x in pixels: black pixels get nothing."""

    def product(
        classifier, images: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], **options
    ) -> Float[Tensor, "n c h w"]:
        return images.detach() * method(classifier, images, targets, **options)

    return _named(product, method, "{} x input")


def smoothed(method: Callable, **options) -> Callable:
    r"""The method that returns $\frac1n\sum_k M(x+\sigma\varepsilon_k)$ (see ``smoothgrad``).

    ``options`` are those of :func:`lib.attribution.smoothgrad.smoothgrad` and of ``method``;
    the ones given when it is called come on top.
    """
    return _named(partial(smoothgrad, method=method, **options), method, "smoothed {}")


def _named(combined: Callable, method: Callable, pattern: str) -> Callable:
    name = getattr(method, "__name__", type(method).__name__)
    update_wrapper(combined, method, assigned=(), updated=())
    combined.__name__ = combined.__qualname__ = pattern.format(name)
    return combined
