"""What a chapter asserts and what its exercises ask: `agree` and `check`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.core import markup

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


def check(answer: Any, expected: Any, within: float = 0.01) -> None:
    """Say whether an exercise's ``answer`` is right; ``None`` is not answered yet.

    Numbers and arrays of them may be ``within`` off; text and lists have to be equal.
    """
    if answer is None:
        text = "Not answered yet: put your answer in place of `None` and run the cell."
    else:
        try:
            near = np.allclose(np.asarray(answer, float), np.asarray(expected, float), 0, within)
        except (TypeError, ValueError):
            near = answer == expected
        text = "✓ Right." if near else "✕ Not yet: look again at what the exercise asks for."
    markup.show("text/markdown", text)
