"""A removal curve of 28 steps for four photos, against Quantus PixelFlipping."""

import numpy as np

from benchmarks.setting import classifier, passes, photos, unfolded
from benchmarks.timing import Row
from lib.attribution import edges
from lib.evaluation.removal import removal_curves

STEPS, PHOTOS = 28, 4


def rows() -> list[Row]:
    import quantus

    pixels, targets = photos(PHOTOS)
    maps = edges(classifier(), pixels, targets)
    flipping = quantus.PixelFlipping(
        features_in_step=pixels[0].numel() // pixels.shape[1] // STEPS,
        perturb_baseline="black",
        disable_warnings=True,
        display_progressbar=False,
    )

    def theirs() -> None:
        flipping(
            model=unfolded(),
            x_batch=pixels.cpu().numpy(),
            y_batch=targets.cpu().numpy(),
            a_batch=maps.cpu().numpy(),
            device=str(classifier().device),
        )

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
            rivals={"Quantus": theirs},
            floor=lambda: passes(STEPS * PHOTOS, gradients=False),
            targets={"Quantus": 8},
        )
    ]
