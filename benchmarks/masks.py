"""Occlusion of one photo, against Captum; RISE, against nothing but its passes."""

from benchmarks.rivals import Rival
from benchmarks.setting import classifier, passes, photos
from benchmarks.timing import Row
from lib.attribution import occlusion, rise

WINDOW, STRIDE, MASKS = 32, 16, 500


def rows() -> list[Row]:
    pixels, targets = photos(1)
    positions = ((pixels.shape[-1] - WINDOW) // STRIDE + 1) ** 2
    given = {
        "pixels": pixels,
        "targets": targets,
        "window": WINDOW,
        "stride": STRIDE,
        "device": classifier().device.type,
    }
    return [
        Row(
            f"Occlusion, windows of {WINDOW} every {STRIDE} pixels",
            ours=lambda: occlusion(classifier(), pixels, targets, window=WINDOW, stride=STRIDE),
            rivals={
                "Captum tuned": lambda: Rival("captum_occlusion_tuned", **given),
                "Captum default": lambda: Rival("captum_occlusion_default", **given),
            },
            floor=lambda: passes(positions + 1, gradients=False),
            targets={"Captum tuned": 3, "Captum default": 3},
        ),
        Row(
            f"RISE, {MASKS} masks",
            ours=lambda: rise(classifier(), pixels, targets, masks=MASKS),
            floor=lambda: passes(MASKS, gradients=False),
        ),
    ]
