"""The masking metrics of one map of two photos: four kinds of masks at 16 shares of pixels."""

from benchmarks.setting import classifier, passes, photos
from benchmarks.timing import Row
from lib.attribution import edges
from lib.evaluation.masking import FRACTIONS, KINDS, masking_curves

PHOTOS = 2


def rows() -> list[Row]:
    pixels, targets = photos(PHOTOS)
    maps = edges(classifier(), pixels, targets)[:, 0]
    count = PHOTOS * len(KINDS) * len(FRACTIONS)
    return [
        Row(
            f"Masking metrics, {PHOTOS} photos, {count} passes",
            ours=lambda: masking_curves(classifier(), pixels, targets, maps),
            floor=lambda: passes(count, gradients=False),
        )
    ]
