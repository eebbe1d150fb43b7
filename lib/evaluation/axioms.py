r"""Six axioms of attribution as checks that any method can be run through.

Sundararajan, Taly, Yan, *Axiomatic attribution for deep networks*, 2017: completeness (section 3),
sensitivity (a) (2.1), implementation invariance (2.2), sensitivity (b), linearity (4.1), symmetry
(4.2). Each check runs a method on the networks of :mod:`lib.evaluation.tiny`, from a black
baseline, and returns how far the axiom is off. One counterexample refutes; passing all cases does
not prove, it only fails to refute.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from lib.evaluation import tiny
from lib.networks.classifier import Classifier

TOLERANCE = 0.01
Attribute = Callable[[nn.Module, Sequence[float]], Tensor]


@dataclass(frozen=True)
class Case:
    """One executable example: ``error(attribute)`` is 0 where the axiom holds."""

    axiom: str
    example: str
    networks: tuple[nn.Module, ...]
    error: Callable[[Attribute], float]

    @property
    def homogeneous(self) -> bool:
        return all(tiny.homogeneous(network) for network in self.networks)


def attribution_of(method: Callable, network: nn.Module, pixels: Sequence[float]) -> Tensor:
    """The method's values ``(n,)``, float64, for the row of ``pixels`` seen by ``network``."""
    classifier = Classifier(network, name="tiny", mean=(0.0,), std=(1.0,), input_size=1)
    image = torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)
    return method(classifier, image, torch.tensor([0])).sum(1).flatten()


def score(network: nn.Module, pixels: Sequence[float]) -> float:
    """F at a row of pixels."""
    with torch.no_grad():
        return float(network(torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)))


def completeness(attribute: Attribute, network: nn.Module, x: Sequence[float]) -> float:
    r"""$|\sum_i A_i - (F(x) - F(0))| / |F(x) - F(0)|$."""
    rise = score(network, x) - score(network, [0.0] * len(x))
    return abs(float(attribute(network, x).sum()) - rise) / abs(rise)


def sensitivity_a(attribute: Attribute, network: nn.Module, x: Sequence[float]) -> float:
    """1 if the only pixel that differs from black gets nothing although the score moved, else 0."""
    (i,) = [k for k, value in enumerate(x) if value != 0]
    rise = score(network, x) - score(network, [0.0] * len(x))
    return float(abs(rise) > 0 and abs(float(attribute(network, x)[i])) < 1e-6 * abs(rise))


def sensitivity_b(attribute: Attribute, network: nn.Module, x: Sequence[float], i: int) -> float:
    r"""$|A_i| / \max_j |A_j|$ of a pixel on which the function does not depend."""
    return _relative(attribute(network, x)[i], attribute(network, x))


def implementation_invariance(
    attribute: Attribute, pair: tuple[nn.Module, nn.Module], x: Sequence[float]
) -> float:
    r"""$\max_i |A_i(f) - A_i(g)| / \max_i |A_i(f)|$ for one function written twice."""
    first, second = (attribute(network, x) for network in pair)
    return _relative(first - second, torch.cat([first, second]))


def linearity(
    attribute: Attribute,
    first: tiny.Tiny,
    second: tiny.Tiny,
    x: Sequence[float],
    alpha: float = 2.0,
    beta: float = -3.0,
) -> float:
    r"""$\max_i |A_i(\alpha F + \beta G) - \alpha A_i(F) - \beta A_i(G)|$ over the largest term."""
    parts = alpha * attribute(first, x), beta * attribute(second, x)
    whole = attribute(tiny.Sum(first.scaled(alpha), second.scaled(beta)), x)
    return _relative(whole - parts[0] - parts[1], torch.cat([whole, *parts]))


def symmetry(attribute: Attribute, network: nn.Module, x: Sequence[float]) -> float:
    r"""$|A_1 - A_2| / \max_j |A_j|$ where F is symmetric in x1 and x2 and x1 = x2."""
    values = attribute(network, x)
    return _relative(values[0] - values[1], values)


def _relative(difference: Tensor, values: Tensor) -> float:
    size = float(values.abs().max())
    return float(difference.abs().max()) / size if size > 0 else 0.0


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
    tolerance: float = TOLERANCE,
    cases: Sequence[Case] = CASES,
    **options,
) -> pd.DataFrame:
    """Run ``method(classifier, images, targets, **options)`` through all cases.

    ``x_dnn`` keeps the networks without biases. One row per case: ``axiom``, ``example``,
    ``error``, ``holds`` (error <= tolerance) and ``note``, the message where the method refuses
    the network with a ``ValueError`` (its error is then NaN and ``holds`` false).
    """
    attribute = partial(attribution_of, partial(method, **options))
    rows = []
    for case in cases:
        if x_dnn and not case.homogeneous:
            continue
        try:
            error, note = case.error(attribute), ""
        except ValueError as reason:
            error, note = float("nan"), str(reason)
        rows.append((case.axiom, case.example, error, error <= tolerance, note))
    return pd.DataFrame(rows, columns=["axiom", "example", "error", "holds", "note"])


def axiom_table(checks: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Method x axiom from the frames of :func:`check_axioms`: the worst error of each, NaN if
    a network was refused; ``all`` is True where every case holds."""
    worst = {
        name: frame.groupby("axiom")["error"].agg(lambda e: e.max(skipna=False))
        for name, frame in checks.items()
    }
    table = pd.DataFrame(worst).T[list(AXIOMS)]
    table["all"] = [bool(frame["holds"].all()) for frame in checks.values()]
    return table
