"""A removal curve of 28 steps for four photos, against Quantus PixelFlipping."""

import numpy as np

from benchmarks.rivals import Rival
from benchmarks.setting import classifier, passes, photos
from benchmarks.timing import Row
from lib.attribution import edges
from lib.evaluation.removal import removal_curves

STEPS, PHOTOS = 28, 4


def rows() -> list[Row]:
    pixels, targets = photos(PHOTOS)
    maps = edges(classifier(), pixels, targets)
    given = {
        "pixels": pixels,
        "targets": targets,
        "maps": maps,
        "steps": STEPS,
        "device": classifier().device.type,
    }
    return [
        Row(
            f"Removal curve, {STEPS} steps, {PHOTOS} photos",
            ours=lambda: removal_curves(
                classifier(),
                pixels,
                targets,
                maps[:, 0],
                order="morf",
                fractions=np.linspace(0, 1, STEPS),
            ),
            rivals={"Quantus": lambda: Rival("quantus_pixel_flipping", **given)},
            floor=lambda: passes(STEPS * PHOTOS, gradients=False),
            targets={"Quantus": 8},
        )
    ]
