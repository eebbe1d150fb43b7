"""Remove and retrain: what a new network learns of what is left."""

import pytest
import torch

from lib.data.tasks import load_task
from lib.training import recipes
from lib.training.train import accuracy


def test_nothing_removed_is_the_training_itself_and_nothing_left_is_chance():
    task = load_task("digits", limit=400)
    images = task.train_images, task.test_images
    found = recipes.retrained("fully_connected", task, *images, [0, 1])
    known = [
        accuracy(recipes.trained("fully_connected", task, seed=s), images[1], task.test_labels)
        for s in (0, 1)
    ]
    assert found == pytest.approx(known, abs=0.02) and min(found) > 0.4
    blank = [torch.zeros_like(part) for part in images]
    (chance,) = recipes.retrained("fully_connected", task, *blank, [0])
    assert abs(chance - 0.1) < 0.02
