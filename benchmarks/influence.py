"""Influence of 5,000 digits on one test digit, softmax regression, without a Hessian."""

from functools import cache

from benchmarks.timing import Row
from lib.data.digits import load_digits
from lib.influence.functions import Influence
from lib.influence.softmax_regression import fit, softmax_regression

TRAINING = 4999  # all digits but the one whose loss is explained
TOLERANCE = 1e-3


@cache
def trained():
    digits = load_digits(test=5000 - TRAINING)
    objective = softmax_regression(digits.train_images, digits.train_labels, classes=10, l2=0.01)
    return objective, fit(objective, tolerance=1e-5), digits


def one_test_digit() -> None:
    objective, theta, digits = trained()
    influence = Influence(objective, theta, solver="cg", options={"tolerance": TOLERANCE})
    influence(digits.test_images.flatten(1), digits.test_labels)


def rows() -> list[Row]:
    trained()
    return [Row(f"Influence of {TRAINING:,} digits on one", ours=one_test_digit, seconds_target=1)]
