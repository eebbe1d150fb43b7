"""What a chapter asserts and what its exercises ask: `agree` and `check`."""

from typing import Any

import numpy as np
import torch
from IPython import get_ipython
from torch import Tensor

from lib.core import markup
from lib.core.sealed import unseal

AGREE = 1e-3  # relative: sums in another order cost 1e-5 of a score, its maps ten times that


def agree(by_hand: Tensor, library: Tensor, within: float = AGREE) -> None:
    r"""By hand and library are the same: $\lVert a-b\rVert_2 \le$ ``within`` $\lVert b\rVert_2$.

    Raises ``AssertionError`` if not, ``ValueError`` for different shapes.
    """
    a, b = (torch.as_tensor(x).detach().cpu().double() for x in (by_hand, library))
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
    error, scale = float((a - b).norm()), float(b.norm())
    assert error <= within * scale, f"by hand and library differ by {error:.3g} of {scale:.3g}"


def check(answer: Any, expected: Any = None, within: float = 0.01, *, sealed: str = "") -> None:
    """Say whether an exercise's ``answer`` is right, and if not, in which way it is wrong.

    Numbers and arrays of them may be ``within`` off; text and lists have to be equal. ``None`` is
    not answered yet. In a student's notebook the cells' own code that computes ``expected`` and
    calls this function is ``sealed`` (:mod:`lib.core.sealed`); it sees the notebook's variables
    and leaves them as they were.
    """
    if answer is None:
        text = "Not answered yet: put your answer in place of `None` and run the cell."
    elif sealed:
        names = dict(get_ipython().user_ns) | {"answer": answer, "check": check}
        exec(compile(unseal(sealed), "the exercise", "exec"), names)
        return
    else:
        fault = _fault(answer, expected, within)
        text = f"✕ Not yet: {fault}." if fault else "✓ Right."
    markup.show("text/markdown", text)


def _numbers(value: Any) -> np.ndarray | None:
    try:
        return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, float)
    except (TypeError, ValueError):
        return None


def _fault(answer: Any, expected: Any, within: float) -> str:
    """What is wrong with an answer, without giving the right one away; nothing if it is right."""
    given, right = _numbers(answer), _numbers(expected)
    if right is None:
        same = np.array_equal(answer, expected)
        return "" if same else "look again at what the exercise asks for"
    if given is None:
        return f"a number is asked for, and this is of type `{type(answer).__name__}`"
    if given.shape != right.shape:
        return f"the shape {right.shape} is asked for, and this has {given.shape}"
    if np.allclose(given, right, 0, within):
        return ""
    if np.allclose(-given, right, 0, within):
        return "its sign is the other one"
    if given.ndim:
        return f"{int((~np.isclose(given, right, 0, within)).sum())} of {given.size} numbers differ"
    if not np.isfinite(given):
        return "this is not a finite number"
    return "it is too large" if given > right else "it is too small"
