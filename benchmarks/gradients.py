"""Methods that average gradients, 25 gradients for one photo, against Captum; guided backprop."""

from benchmarks.rivals import NOISE, PASSES, Rival
from benchmarks.setting import classifier, passes, photos
from benchmarks.timing import Row
from lib.attribution import expected_gradients, guided_backprop, integrated_gradients, smoothgrad

REFERENCES = 8


def rows() -> list[Row]:
    pixels, targets = photos(1)
    eight, eight_targets = photos(REFERENCES)
    given = {"pixels": pixels, "targets": targets, "device": classifier().device.type}
    return [
        Row(
            f"Integrated Gradients, {PASSES} steps",
            ours=lambda: integrated_gradients(classifier(), pixels, targets, steps=PASSES),
            rivals={
                "Captum tuned": lambda: Rival("captum_ig_tuned", **given),
                "Captum default": lambda: Rival("captum_ig_default", **given),
            },
            floor=lambda: passes(PASSES, gradients=True),
            targets={"Captum tuned": 2, "Captum default": 6},
        ),
        Row(
            f"SmoothGrad, {PASSES} samples",
            ours=lambda: smoothgrad(classifier(), pixels, targets, samples=PASSES, noise=NOISE),
            rivals={
                "Captum tuned": lambda: Rival("captum_smoothgrad_tuned", **given),
                "Captum default": lambda: Rival("captum_smoothgrad_default", **given),
            },
            floor=lambda: passes(PASSES, gradients=True),
            targets={"Captum tuned": 2, "Captum default": 6},
        ),
        Row(
            f"Expected Gradients, {PASSES} samples",
            ours=lambda: expected_gradients(
                classifier(), pixels, targets, references=eight, samples=PASSES
            ),
            rivals={"Captum": lambda: Rival("captum_gradient_shap", references=eight, **given)},
            floor=lambda: passes(PASSES, gradients=True),
        ),
        Row(
            f"Guided backprop, {REFERENCES} photos",
            ours=lambda: guided_backprop(classifier(), eight, eight_targets),
            floor=lambda: passes(REFERENCES, gradients=True),
        ),
    ]
