"""LIME with 1,000 samples on one photo, against its authors' package; superpixels included."""

from benchmarks.rivals import Rival
from benchmarks.setting import classifier, passes, photos
from benchmarks.timing import Row
from lib.attribution import lime

SAMPLES = 1000


def rows() -> list[Row]:
    pixels, targets = photos(1)
    given = {
        "pixels": pixels,
        "targets": targets,
        "samples": SAMPLES,
        "device": classifier().device.type,
    }
    return [
        Row(
            f"LIME, {SAMPLES} samples, one photo",
            ours=lambda: lime(classifier(), pixels, targets, samples=SAMPLES),
            rivals={"lime": lambda: Rival("lime_package", **given)},
            floor=lambda: passes(SAMPLES, gradients=False),
            targets={"lime": 3},
        )
    ]
