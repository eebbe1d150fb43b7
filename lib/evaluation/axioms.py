r"""Six axioms of attribution as checks that any method can be run through.

Sundararajan, Taly, Yan, *Axiomatic attribution for deep networks*, 2017: completeness (section 3),
sensitivity (a) (2.1), implementation invariance (2.2), sensitivity (b), linearity (4.1), symmetry
(4.2). Each check runs a method on the networks of :mod:`lib.evaluation.tiny`, from a black
baseline, and returns how far the axiom is off, with its sign: a method that draws is judged by its
expectation. One counterexample refutes; passing all cases does not prove.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import pandas as pd
import torch
from torch import Tensor, nn

from lib.evaluation import tiny
from lib.networks.classifier import Classifier

TOLERANCE = 0.01
Attribute = Callable[[nn.Module, Sequence[float]], Tensor]


@dataclass(frozen=True)
class Case:
    """One executable example: ``violations(attribute)`` are 0 where the axiom holds."""

    axiom: str
    example: str
    networks: tuple[nn.Module, ...]
    violations: Callable[[Attribute], Tensor]

    @property
    def homogeneous(self) -> bool:
        return all(tiny.homogeneous(network) for network in self.networks)


@cache
def classifier_of(network: nn.Module) -> Classifier:
    """A network of :mod:`lib.evaluation.tiny` as methods take it."""
    return Classifier(network, name="tiny", mean=(0.0,), std=(1.0,), input_size=1)


def attribution_of(method: Callable, network: nn.Module, pixels: Sequence[float]) -> Tensor:
    """The method's values ``(n,)``, float64, for the row of ``pixels`` seen by ``network``."""
    image = torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)
    return method(classifier_of(network), image, torch.tensor([0])).sum(1).flatten()


def score(network: nn.Module, pixels: Sequence[float]) -> float:
    """F at a row of pixels."""
    with torch.no_grad():
        return float(network(torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)))


def completeness(attribute: Attribute, network: nn.Module, x: Sequence[float]) -> Tensor:
    r"""$(\sum_i A_i - (F(x) - F(0))) / |F(x) - F(0)|$."""
    rise = score(network, x) - score(network, [0.0] * len(x))
    return (attribute(network, x).sum()[None] - rise) / abs(rise)


def sensitivity_a(attribute: Attribute, network: nn.Module, x: Sequence[float]) -> Tensor:
    """1 if the only pixel that differs from black gets nothing although the score moved, else 0."""
    (i,) = [k for k, value in enumerate(x) if value != 0]
    rise = abs(score(network, x) - score(network, [0.0] * len(x)))
    nothing = attribute(network, x)[i].abs() < 1e-6 * rise
    return nothing.double()[None] * (rise > 0)


def sensitivity_b(attribute: Attribute, network: nn.Module, x: Sequence[float], i: int) -> Tensor:
    r"""$A_i / \max_j |A_j|$ of a pixel on which the function does not depend."""
    values = attribute(network, x)
    return _relative(values[i : i + 1], values)


def implementation_invariance(
    attribute: Attribute, pair: tuple[nn.Module, nn.Module], x: Sequence[float]
) -> Tensor:
    r"""$(A_i(f) - A_i(g)) / \max_j |A_j|$ for one function written twice."""
    first, second = (attribute(network, x) for network in pair)
    return _relative(first - second, torch.cat([first, second]))


@cache
def _combined(first: tiny.Tiny, second: tiny.Tiny, alpha: float, beta: float) -> tiny.Sum:
    return tiny.Sum(first.scaled(alpha), second.scaled(beta))


def linearity(
    attribute: Attribute,
    first: tiny.Tiny,
    second: tiny.Tiny,
    x: Sequence[float],
    alpha: float = 2.0,
    beta: float = -3.0,
) -> Tensor:
    r"""$A_i(\alpha F + \beta G) - \alpha A_i(F) - \beta A_i(G)$ over the largest term."""
    parts = alpha * attribute(first, x), beta * attribute(second, x)
    whole = attribute(_combined(first, second, alpha, beta), x)
    return _relative(whole - parts[0] - parts[1], torch.cat([whole, *parts]))


def symmetry(attribute: Attribute, network: nn.Module, x: Sequence[float]) -> Tensor:
    r"""$(A_1 - A_2) / \max_j |A_j|$ where F is symmetric in x1 and x2 and x1 = x2."""
    values = attribute(network, x)
    return _relative(values[:1] - values[1:2], values)


def _relative(difference: Tensor, values: Tensor) -> Tensor:
    size = values.abs().max()
    return difference / size if size > 0 else torch.zeros_like(difference)


def _case(axiom: str, example: str, check: Callable, *arguments) -> Case:
    networks = []
    for argument in arguments:
        parts = argument if isinstance(argument, tuple) else (argument,)
        networks += [part for part in parts if isinstance(part, nn.Module)]
    return Case(axiom, example, tuple(networks), lambda attribute: check(attribute, *arguments))


CASES: tuple[Case, ...] = (
    _case("completeness", "1 − ReLU(1 − x1) at 2", completeness, tiny.SATURATES, [2.0, 0.0]),
    _case("completeness", "f of the pair at (3, 1)", completeness, tiny.SUBTRACTS[0], [3.0, 1.0]),
    _case("completeness", "ReLU(x1) − ReLU(x2) at (3, 1)", completeness, tiny.OPPOSES, [3.0, 1.0]),
    _case("completeness", "2 x1 + 3 ReLU(x1 − x2) at (3, 1)", completeness, tiny.RISES, [3.0, 1.0]),
    _case("sensitivity (a)", "1 − ReLU(1 − x1) at 4", sensitivity_a, tiny.SATURATES, [4.0, 0.0]),
    _case("sensitivity (a)", "ReLU(2 − ReLU(x2)) at 1", sensitivity_a, tiny.FALLS, [0.0, 1.0]),
    _case("sensitivity (a)", "ReLU(x1) − ReLU(x2) at 1", sensitivity_a, tiny.OPPOSES, [0.0, 1.0]),
    _case("sensitivity (b)", "x2 not wired in", sensitivity_b, tiny.SATURATES, [0.5, 0.25], 1),
    _case("sensitivity (b)", "x2 cancels", sensitivity_b, tiny.CANCELS, [0.5, 0.25], 1),
    _case(
        "implementation invariance",
        "ReLU(ReLU(x1) − 1 − ReLU(x2)) twice",
        implementation_invariance,
        tiny.SUBTRACTS,
        [3.0, 1.0],
    ),
    _case(
        "implementation invariance",
        "ReLU(x1) − x2 twice",
        implementation_invariance,
        tiny.PASSES_BY,
        [3.0, 1.0],
    ),
    _case("linearity", "2 F − 3 G", linearity, tiny.RISES, tiny.OPPOSES, [3.0, 1.0]),
    _case("linearity", "2 F − 3 G, biased", linearity, tiny.SUBTRACTS[0], tiny.FALLS, [3.0, 1.0]),
    _case(
        "symmetry",
        "h(x1) + h(x2), h from ReLUs of x − c x3",
        symmetry,
        tiny.SYMMETRIC,
        [1, 1, 0.9, 0],
    ),
    _case("symmetry", "−x1 − x2, wired unevenly", symmetry, tiny.LOPSIDED, [1.0, 1.0, 0.5]),
)
AXIOMS = tuple(dict.fromkeys(case.axiom for case in CASES))


def check_axioms(
    method: Callable,
    *,
    x_dnn: bool = False,
    draws: int = 1,
    cases: Sequence[Case] = CASES,
    **options,
) -> pd.DataFrame:
    """Run ``method(classifier, images, targets, **options)`` through all cases.

    ``x_dnn`` keeps the networks without biases. A method that draws is run ``draws`` times, with
    the seeds 0, 1, ... One row per case x draw x value compared (``place``): ``axiom``,
    ``example``, ``violation`` (signed; of a refused network NaN) and ``note``, the message with
    which a method refused the network by a ``ValueError``.
    """
    rows = []
    for case in cases:
        if x_dnn and not case.homogeneous:
            continue
        for draw in range(draws):
            seeded = options | ({"seed": draw} if draws > 1 else {})
            try:
                found = case.violations(partial(attribution_of, partial(method, **seeded)))
                violations, note = found.tolist(), ""
            except ValueError as reason:
                violations, note = [float("nan")], str(reason)
            rows += [
                (case.axiom, case.example, draw, place, violation, note)
                for place, violation in enumerate(violations)
            ]
    return pd.DataFrame(rows, columns=["axiom", "example", "draw", "place", "violation", "note"])
