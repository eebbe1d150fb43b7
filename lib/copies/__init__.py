"""Altered copies of an image, scores or gradients of them, reduced: what nearly every method is.

:mod:`lib.copies.engine` is the move itself; the other modules say what a copy is made of. Imports
core and networks.
"""

from lib.copies.engine import (
    SCORES,
    Answer,
    Answers,
    Engine,
    Make,
    batch_size_for,
    check_inputs,
    target_gradient,
)
from lib.networks.classifier import of_targets

__all__ = [
    "SCORES",
    "Answer",
    "Answers",
    "Engine",
    "Make",
    "batch_size_for",
    "check_inputs",
    "of_targets",
    "target_gradient",
]
