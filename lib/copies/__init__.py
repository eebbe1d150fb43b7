"""Altered copies of an image, scores or gradients of them, reduced: what nearly every method is.

:mod:`lib.copies.engine` is the move itself; the other modules say what a copy is made of. Imports
core and networks.
"""

from lib.copies.engine import (
    Answer,
    Answers,
    Make,
    batch_size_for,
    check_inputs,
    gradients,
    logits,
    run,
    table,
    target_gradient,
    target_scores,
    weighted_sum,
)
from lib.networks.classifier import of_targets

__all__ = [
    "Answer",
    "Answers",
    "Make",
    "batch_size_for",
    "check_inputs",
    "gradients",
    "logits",
    "of_targets",
    "run",
    "table",
    "target_gradient",
    "target_scores",
    "weighted_sum",
]
