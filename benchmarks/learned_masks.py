"""Meaningful Perturbation of a few photos at once, against one photo after the other.

The rival is the loop of public re-implementations: the network as loaded, one photo, one step of
Adam per pass, no jitter. The floor is one pass forward and back of the same number of photos for
each iteration.
"""

from benchmarks.rivals import Rival
from benchmarks.setting import classifier, passes, photos
from benchmarks.timing import Row
from lib.attribution.meaningful_perturbation import MaskSettings, learn_masks

PHOTOS, ITERATIONS = 4, 20


def rows() -> list[Row]:
    pixels, targets = photos(PHOTOS)
    given = {
        "pixels": pixels,
        "targets": targets,
        "iterations": ITERATIONS,
        "device": classifier().device.type,
    }
    settings = MaskSettings(iterations=ITERATIONS, start="ones")
    return [
        Row(
            f"Learned masks, {ITERATIONS} iterations, {PHOTOS} photos",
            ours=lambda: learn_masks(classifier(), pixels, targets, settings, cache=False),
            rivals={"one by one": lambda: Rival("learned_mask_loop", **given)},
            floor=lambda: [passes(PHOTOS, gradients=True) for _ in range(ITERATIONS)],
        )
    ]
